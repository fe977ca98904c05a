package userfile_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"time"

	"github.com/coatcheck/coatcheck/sessions/login/passwords"
	"github.com/coatcheck/coatcheck/sessions/login/userfile"
)

const users42 = `
- id: "42"
  username: ada
  password_hash: $argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4
  roles: [staff]
`

// writeUsers writes a users file; in your program the operator has written it.
func writeUsers(text string) string {
	dir, err := os.MkdirTemp("", "users")
	if err != nil {
		log.Fatal(err)
	}
	path := filepath.Join(dir, "users.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		log.Fatal(err)
	}
	return path
}

// Users of a file, for login.Config, which follow its changes.
func Example() {
	path := writeUsers(users42)
	defer os.RemoveAll(filepath.Dir(path))
	file, err := userfile.Open(path)
	if err != nil {
		log.Fatal(err)
	}
	users, err := passwords.New(file, passwords.Config{}) // uses Kinds and BoundHashes
	if err != nil {
		log.Fatal(err)
	}
	user, err := users.Authenticate(context.Background(), "Ada", "password")
	fmt.Println(user.ID, user.Roles, err, file.Len())

	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	file.Watch(ctx, 10*time.Millisecond, nil, func(err error) { fmt.Println("changed", err) }) // in a goroutine
	account, err := file.Find(ctx, "ada")
	fmt.Println(account.Username, len(file.Kinds()), file.BoundHashes(1<<20), err)

	// Output:
	// 42 [staff] <nil> 1
	// ada 1 <nil> <nil>
}

// A memory is an AccountStore of one process; redisstore.Accounts is the real one.
type memory struct {
	file    uint64
	digests map[string]uint64
}

func (m *memory) Claim(_ context.Context, file uint64) error        { m.file = file; return nil }
func (m *memory) Live(context.Context, uint64, time.Duration) error { return nil }
func (m *memory) InForce(context.Context) (uint64, bool, error)     { return m.file, true, nil }
func (m *memory) All(context.Context) (map[string]uint64, error)    { return m.digests, nil }
func (m *memory) One(_ context.Context, id string) (uint64, bool, error) {
	d, ok := m.digests[id]
	return d, ok, nil
}
func (m *memory) Write(_ context.Context, _ uint64, digests map[string]uint64, forget []string) (bool, error) {
	for id, digest := range digests {
		m.digests[id] = digest
	}
	for _, id := range forget {
		delete(m.digests, id)
	}
	return true, nil
}

// noSessions stands for a sessions.Manager.
type noSessions struct{}

func (noSessions) RevokeUser(context.Context, string) (int, error) { return 1, nil }

// Closing an account in the file ends its sessions.
func ExampleAccounts() {
	path := writeUsers(users42)
	defer os.RemoveAll(filepath.Dir(path))
	file, err := userfile.Open(path)
	if err != nil {
		log.Fatal(err)
	}
	var store userfile.AccountStore = &memory{digests: map[string]uint64{"7": 1, "8": 1}} // as last seen
	var accounts *userfile.Accounts
	accounts, err = userfile.NewAccounts(userfile.AccountsConfig{File: file, Store: store, Sessions: noSessions{}})
	if err != nil {
		log.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	accounts.Run(ctx, nil) // in a goroutine; the channel reports a reload
	err = accounts.Settle(context.Background())
	fmt.Println(errors.Is(err, userfile.ErrManyClosed), errors.Is(err, userfile.ErrOtherFile))
	ended, err := accounts.Force(context.Background()) // the operator means it
	fmt.Println(ended, err)

	// passwords.Config.Confirm: accounts.Confirm
	ada, _ := file.Find(context.Background(), "ada")
	fmt.Println(accounts.Confirm(context.Background(), ada))

	// Output:
	// true false
	// 2 <nil>
	// <nil>
}

var _ passwords.KindSource = (*userfile.File)(nil)
