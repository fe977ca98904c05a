package login

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
)

// maxUserFile bounds a users file, in bytes: some ten thousands of users, which
// belong into a database.
const maxUserFile = 16 << 20

// A UserFile is a [Source] over a YAML file, the operator's list of users:
//
//	# coatcheck hash-password prints a password_hash
//	- id: "42"                    # unlike a name, it never changes
//	  username: ada               # upper and lower case are the same
//	  password_hash: '$argon2id$...'
//	  roles: [staff, admin]       # may be missing
//	  attributes: {tenant: acme}  # application fields of the session; may be missing
//
// It is no [Renewer]: the file is often one that this process may not write,
// such as a Secret of Kubernetes or a template of a provisioning tool, and what
// is written to it here would be gone with the next roll-out.
//
// It is safe for concurrent use.
type UserFile struct {
	path    string
	bytes   atomic.Int64 // that a hash may take; 0: as many as it likes
	current atomic.Pointer[userFileState]
}

// userFileState is what one reading of the file gave.
type userFileState struct {
	text     string
	accounts map[string]Account // by the username in lower case
	digests  map[string]uint64  // of each account, by the user ID
	digest   uint64             // of all of them
	kinds    []hashKind         // of their hashes
}

// OpenUserFile reads a users file. Its error names all mistakes with their
// lines, and quotes no hash.
func OpenUserFile(path string) (*UserFile, error) {
	f := &UserFile{path: path}
	if err := f.use(f.look()); err != nil {
		return nil, err
	}
	return f, nil
}

// Len is the number of users.
func (f *UserFile) Len() int { return len(f.current.Load().accounts) }

// Find implements [Source]. Letter case does not count.
func (f *UserFile) Find(_ context.Context, username string) (Account, error) {
	a, ok := f.current.Load().accounts[strings.ToLower(username)]
	if !ok {
		return Account{}, ErrNoUser
	}
	a.Roles, a.Attributes = slices.Clone(a.Roles), maps.Clone(a.Attributes)
	return a, nil
}

// Watch reads the file each interval until ctx is done, and calls report when
// its users have changed (nil) and when it can no longer be used; until it can
// be again, the users are those of before. It compares contents: a write, a
// rename and, in Kubernetes, a symbolic link that moves all look alike so. What
// it finds counts when it is there at two looks in a row: of a file that is
// being written, the first half may be a list of fewer users.
func (f *UserFile) Watch(ctx context.Context, interval time.Duration, report func(error)) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	told := userFileSight{text: f.current.Load().text}
	seen := told
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		now := f.look()
		if now == seen && now != told {
			told = now
			report(f.use(now))
		}
		seen = now
	}
}

// A userFileSight is what a look at the file showed.
type userFileSight struct{ text, mistake string }

func (f *UserFile) look() userFileSight {
	file, err := os.Open(f.path)
	if err != nil {
		return userFileSight{mistake: err.Error()}
	}
	defer func() { _ = file.Close() }()
	text, err := io.ReadAll(io.LimitReader(file, maxUserFile+1))
	switch {
	case err != nil:
		return userFileSight{mistake: err.Error()}
	case len(text) > maxUserFile:
		return userFileSight{mistake: fmt.Sprintf("%s: it is larger than %d MiB", f.path, maxUserFile>>20)}
	}
	return userFileSight{text: string(text)}
}

// use makes what was seen the users, if it can be.
func (f *UserFile) use(s userFileSight) error {
	if s.mistake != "" {
		return errors.New("users file: " + s.mistake)
	}
	accounts, err := parseUserFile(s.text, f.bytes.Load())
	if err != nil {
		return fmt.Errorf("users file %s: %w", f.path, err)
	}
	state := &userFileState{text: s.text, accounts: accounts, digests: make(map[string]uint64, len(accounts))}
	for _, a := range accounts {
		state.digests[a.ID] = a.digest()
		if hash, err := parseHash(a.Hash); err == nil {
			state.kinds = mostWork(append(state.kinds, hash.kind()))
		}
	}
	state.digest = digestOfAll(state.digests)
	f.current.Store(state)
	return nil
}

// hashKinds are the kinds of the hashes in the file.
func (f *UserFile) hashKinds() []hashKind { return f.current.Load().kinds }

// boundHashes refuses the file, now and later, if one of its hashes takes more
// memory.
func (f *UserFile) boundHashes(bytes int64) error {
	f.bytes.Store(bytes)
	return f.use(userFileSight{text: f.current.Load().text})
}
