// Package userfile takes users from a YAML file, the operator's list of users:
//
//	# coatcheck hash-password prints a password_hash
//	- id: "42"                    # unlike a name, it never changes
//	  username: ada               # upper and lower case are the same
//	  password_hash: '$argon2id$...'
//	  roles: [staff, admin]       # may be missing
//	  attributes: {tenant: acme}  # application fields of the session; may be missing
//
// [Open] reads it, and package passwords checks the passwords:
//
//	file, err := userfile.Open("users.yaml")
//	users, err := passwords.New(file, passwords.Config{})
//	handler, err := login.New(login.Config{Users: users, Sessions: manager, Counters: counters})
//
// [File.Watch] takes up changes of the file, and [Accounts] then ends the sessions
// of accounts that are closed or changed.
package userfile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/coatcheck/coatcheck/sessions/login/passwords"
)

// maxSize bounds a users file, in bytes: it has room for some ten thousand users;
// more belong in a database.
const maxSize = 16 << 20

// A File is a [passwords.Source] over a users file. It is safe for concurrent use.
//
// It is no [passwords.Renewer], because this process often may not write the file,
// such as a Secret of Kubernetes or the output of a provisioning tool, and the next
// roll-out would undo what was written.
type File struct {
	path    string
	bytes   atomic.Int64 // of memory that a hash may take; 0: any number
	current atomic.Pointer[contents]
}

// contents are what one reading of the file gave.
type contents struct {
	text     string
	accounts map[string]passwords.Account // by the username in lower case
	digests  map[string]uint64            // of each account, by the user ID
	digest   uint64                       // of all of them
	kinds    []passwords.Kind             // of their hashes
}

// Open reads a users file. Its error names all mistakes with their lines, and
// quotes no hash.
func Open(path string) (*File, error) {
	f := &File{path: path}
	if err := f.use(f.look()); err != nil {
		return nil, err
	}
	return f, nil
}

// Len is the number of users.
func (f *File) Len() int { return len(f.current.Load().accounts) }

// Find implements [passwords.Source]. It ignores letter case.
func (f *File) Find(_ context.Context, username string) (passwords.Account, error) {
	a, ok := f.current.Load().accounts[strings.ToLower(username)]
	if !ok {
		return passwords.Account{}, passwords.ErrNoUser
	}
	a.Roles, a.Attributes = slices.Clone(a.Roles), maps.Clone(a.Attributes)
	return a, nil
}

// Watch reads the file each interval until ctx is done. It calls report with nil
// when it has taken up new users, and with an error when the file can no longer be
// used: until it can be again, the former users stay. It compares contents, because
// a write, a rename and a symbolic link that moves (Kubernetes) look alike so. A
// change counts when two looks in a row find it, because the first half of a file
// that is being written may be a list of fewer users.
func (f *File) Watch(ctx context.Context, interval time.Duration, report func(error)) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	reported := sight{text: f.current.Load().text}
	seen := reported
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		now := f.look()
		if now == seen && now != reported {
			reported = now
			report(f.use(now))
		}
		seen = now
	}
}

// A sight is what a look at the file showed.
type sight struct{ text, mistake string }

func (f *File) look() sight {
	file, err := os.Open(f.path)
	if err != nil {
		return sight{mistake: err.Error()}
	}
	defer func() { _ = file.Close() }()
	text, err := io.ReadAll(io.LimitReader(file, maxSize+1))
	switch {
	case err != nil:
		return sight{mistake: err.Error()}
	case len(text) > maxSize:
		return sight{mistake: fmt.Sprintf("%s: it is larger than %d MiB", f.path, maxSize>>20)}
	}
	return sight{text: string(text)}
}

// use makes what was seen the users, if it can be.
func (f *File) use(s sight) error {
	if s.mistake != "" {
		return errors.New("users file: " + s.mistake)
	}
	accounts, err := parse(s.text, f.bytes.Load())
	if err != nil {
		return fmt.Errorf("users file %s: %w", f.path, err)
	}
	c := &contents{text: s.text, accounts: accounts, digests: make(map[string]uint64, len(accounts))}
	for _, a := range accounts {
		c.digests[a.ID] = digest(a)
		if kind, err := passwords.KindOf(a.Hash); err == nil && !slices.Contains(c.kinds, kind) {
			c.kinds = append(c.kinds, kind)
		}
	}
	c.digest = digestOfAll(c.digests)
	f.current.Store(c)
	return nil
}

// Kinds implements [passwords.KindSource].
func (f *File) Kinds() []passwords.Kind { return f.current.Load().kinds }

// BoundHashes implements [passwords.KindSource]: the file is refused, now and later,
// if one of its hashes takes more memory.
func (f *File) BoundHashes(bytes int64) error {
	f.bytes.Store(bytes)
	return f.use(sight{text: f.current.Load().text})
}
