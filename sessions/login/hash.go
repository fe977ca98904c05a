package login

import (
	"errors"
	"fmt"
	"strings"
)

// MaxPassword is the longest password that is looked at, in bytes: a longer one
// is refused before any work. NIST SP 800-63B, section 3.1.1.2, wants at least
// 64 characters to be possible.
const MaxPassword = 1024

// maxHashText is longer than any hash within the other limits.
const maxHashText = 256

// A passwordHash is the stored hash of one password.
type passwordHash interface {
	// matches does the hash's whole work and compares in constant time.
	matches(password string) bool
	// kind is the algorithm with the costs.
	kind() hashKind
	// weakerThan tells whether a hash with these costs would resist better.
	weakerThan(HashParams) bool
}

// parseHash reads a stored hash: a PHC string of argon2id or a crypt string of
// bcrypt, in the one spelling that each has. What it would cost is bounded, so
// that no source can make a login take gigabytes or minutes. The error does not
// quote the hash.
func parseHash(text string) (passwordHash, error) {
	switch {
	case len(text) > maxHashText:
		return nil, errors.New("it is too long for a hash")
	case strings.HasPrefix(text, argon2idPrefix):
		return parseArgon2id(text)
	case strings.HasPrefix(text, "$2a$"), strings.HasPrefix(text, "$2b$"), strings.HasPrefix(text, "$2y$"):
		return parseBcrypt(text)
	}
	return nil, errors.New("it is neither an argon2id nor a bcrypt hash")
}

// HashPassword makes the PHC string of a password, an argon2id hash of the
// default [HashParams] with a salt of its own. It refuses the empty password,
// and one longer than [MaxPassword].
//
// A password is its bytes: it is not normalised, for hashes that other programs
// made would then stop to match.
func HashPassword(password string) (string, error) {
	switch {
	case password == "":
		return "", errors.New("the password is empty")
	case len(password) > MaxPassword:
		return "", fmt.Errorf("the password is longer than %d bytes", MaxPassword)
	}
	return newArgon2id(password, HashParams{}.orDefault()).String(), nil
}
