package passwords_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/coatcheck/coatcheck/sessions/login"
	"github.com/coatcheck/coatcheck/sessions/login/passwords"
)

// A table is a Source of your own, which can also store hashes.
type table map[string]passwords.Account

func (t table) Find(_ context.Context, username string) (passwords.Account, error) {
	if a, ok := t[username]; ok {
		return a, nil
	}
	return passwords.Account{}, passwords.ErrNoUser
}

func (t table) Renew(_ context.Context, a passwords.Account, hash string) error {
	if t[a.Username].Hash == a.Hash {
		a.Hash = hash
		t[a.Username] = a
	}
	return nil
}

var (
	_ passwords.Source  = table{}
	_ passwords.Renewer = table{}
)

// Users of your own, for login.Config.
func Example() {
	hash, err := passwords.HashPassword("correct horse")
	if err != nil {
		log.Fatal(err)
	}
	users := table{"ada": {User: login.User{ID: "42", Username: "ada"}, Hash: hash}}
	var checked *passwords.Passwords
	checked, err = passwords.New(users, passwords.Config{Params: passwords.HashParams{Passes: 3}})
	if err != nil {
		log.Fatal(err)
	}
	user, err := checked.Authenticate(context.Background(), "ada", "correct horse")
	fmt.Println(user.ID, err)
	_, err = checked.Authenticate(context.Background(), "ada", "wrong")
	fmt.Println(errors.Is(err, login.ErrBadCredentials), users["ada"].Hash != hash) // renewed for the third pass

	// Output:
	// 42 <nil>
	// true true
}

// What a hash costs, and which beginnings Config.Dummy takes.
func ExampleKindOf() {
	const hash = "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4"
	var kind passwords.Kind
	kind, err := passwords.KindOf(hash)
	fmt.Println(kind, kind.Bytes(), err, len(hash) <= passwords.MaxHash)
	fmt.Println(passwords.CheckDummy("$2b$12$ $argon2id$v=19$m=65536,t=4,p=1"))
	// Output:
	// $argon2id$m=256,t=2,p=1 262144 <nil> true
	// <nil>
}

// A fixed table knows the kinds of its hashes.
type fixed struct{ table }

func (f fixed) Kinds() (kinds []passwords.Kind) {
	for _, a := range f.table {
		if kind, err := passwords.KindOf(a.Hash); err == nil {
			kinds = append(kinds, kind)
		}
	}
	return kinds
}

func (f fixed) BoundHashes(bytes int64) error {
	for _, kind := range f.Kinds() {
		if kind.Bytes() > bytes {
			return fmt.Errorf("%v takes more than %d bytes", kind, bytes)
		}
	}
	return nil
}

// A source that knows its kinds refuses hashes that take too much memory at the start.
func ExampleKindSource() {
	var source passwords.KindSource = fixed{table{"ada": {Hash: "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc"}}}
	fmt.Println(source.BoundHashes(32 << 20))
	// Output: $argon2id$m=65536,t=2,p=1 takes more than 33554432 bytes
}
