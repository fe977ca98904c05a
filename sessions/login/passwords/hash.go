package passwords

import (
	"errors"
	"fmt"
	"strings"

	"github.com/coatcheck/coatcheck/sessions/login"
)

// MaxHash bounds the text of a hash, in bytes. It is longer than any hash within
// the other limits.
const MaxHash = 256

// A passwordHash is the stored hash of one password.
type passwordHash interface {
	// matches does the hash's whole work and compares in constant time.
	matches(password string) bool
	// kind is the algorithm with the costs.
	kind() Kind
	// weakerThan reports whether a hash with these costs would resist better.
	weakerThan(HashParams) bool
}

// parseHash reads a stored hash: a PHC string of argon2id or a crypt string of
// bcrypt, in the one spelling that each has. What it would cost is bounded, so
// that no source can make a login take gigabytes or minutes. The error does not
// quote the hash.
func parseHash(text string) (h passwordHash, err error) {
	switch {
	case len(text) > MaxHash:
		err = errors.New("it is too long for a hash")
	case strings.HasPrefix(text, argon2idPrefix):
		h, err = parseArgon2id(text)
	case strings.HasPrefix(text, "$2a$"), strings.HasPrefix(text, "$2b$"), strings.HasPrefix(text, "$2y$"):
		h, err = parseBcrypt(text)
	default:
		err = errors.New("it is neither an argon2id nor a bcrypt hash")
	}
	if err != nil {
		return nil, err
	}
	return h, nil
}

// KindOf returns the kind of a stored hash, or what is wrong with the hash. The
// error does not quote it.
func KindOf(hash string) (Kind, error) {
	h, err := parseHash(hash)
	if err != nil {
		return Kind{}, err
	}
	return h.kind(), nil
}

// HashPassword makes the PHC string of a password, an argon2id hash of the
// default [HashParams] with a salt of its own. It refuses the empty password,
// and one longer than [login.MaxPassword].
//
// A password is its bytes. It is not normalised, because hashes that other programs
// made would no longer match.
func HashPassword(password string) (string, error) {
	switch {
	case password == "":
		return "", errors.New("the password is empty")
	case len(password) > login.MaxPassword:
		return "", fmt.Errorf("the password is longer than %d bytes", login.MaxPassword)
	}
	return newArgon2id(password, HashParams{}.orDefault()).String(), nil
}
