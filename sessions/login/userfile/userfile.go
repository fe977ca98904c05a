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
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/coatcheck/coatcheck/internal/filewatch"
	"github.com/coatcheck/coatcheck/internal/strictyaml"
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
	text     []byte
	accounts map[string]passwords.Account // by the username in lower case
	digests  map[string]uint64            // of each account, by the user ID
	digest   uint64                       // of all of them
	kinds    []passwords.Kind             // of their hashes
}

// Open reads a users file. Its error names all mistakes with their lines, and
// quotes no hash.
func Open(path string) (*File, error) {
	f := &File{path: path}
	text, err := f.read()
	if err == nil {
		err = f.use(text)
	}
	if err != nil {
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

// Watch looks at the file each interval, and at once after a signal from now, until
// ctx is done. It calls report with nil when it has taken up new users, and with an
// error when the file can no longer be used: until it can be again, the former users
// stay. What it finds counts at the second look that finds it, because the first half
// of a file that is being written may be a list of fewer users.
func (f *File) Watch(ctx context.Context, interval time.Duration, now <-chan os.Signal, report func(error)) {
	filewatch.Watch(ctx, filewatch.Config{Interval: interval, Now: now, InUse: f.current.Load().text, Read: f.read, Use: f.use, Report: report})
}

func (f *File) read() ([]byte, error) {
	text, err := strictyaml.ReadFile(f.path, maxSize)
	if err != nil {
		return nil, fmt.Errorf("users file %s: %w", f.path, err)
	}
	return text, nil
}

// use takes the text into use, if it has no mistake.
func (f *File) use(text []byte) error {
	accounts, err := parse(text, f.bytes.Load())
	if err != nil {
		return strictyaml.Mistakes("users file "+f.path, err)
	}
	c := &contents{text: text, accounts: accounts, digests: make(map[string]uint64, len(accounts))}
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
	return f.use(f.current.Load().text)
}
