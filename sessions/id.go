package sessions

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"strings"
)

const (
	idBytes  = 32 // 256 bits; OWASP ASVS 5.0, 7.2.3 asks for 128
	idLength = 43 // base64url of idBytes without padding

	// KeyPrefix begins the name of every record in the store.
	KeyPrefix = "session:"

	handleLength = 12
	redacted     = "[session ID]"
)

// ErrMalformed says that a value does not have the one form that a session ID or a
// key has. It never holds the value.
var ErrMalformed = errors.New("malformed session ID")

// An ID is the bearer secret of one session. It prints as a redaction with the
// verbs of fmt, in slog, in JSON and in text; [ID.Reveal] gives the secret out.
// The zero ID is no session's.
//
// Package fmt asks no method in three cases, and prints the secret: an ID in an
// unexported field of a struct that is printed whole, and the verbs %p and %w,
// which are not for values. So keep an ID out of such structs.
type ID struct{ value string }

// NewID makes an ID from crypto/rand, which never fails (it ends the process
// where the system has no randomness).
func NewID() ID {
	var b [idBytes]byte
	_, _ = rand.Read(b[:])
	return ID{base64.RawURLEncoding.EncodeToString(b[:])}
}

// ParseID takes an ID as [ID.Reveal] gives it: exactly 43 characters of the
// base64url alphabet (RFC 4648, section 5), canonical, that is with the two
// spare bits of the last character zero. It returns [ErrMalformed] otherwise,
// and allocates nothing.
func ParseID(s string) (ID, error) {
	if !isHash(s) {
		return ID{}, ErrMalformed
	}
	return ID{s}, nil
}

// isHash reports whether s is the canonical base64url of 32 bytes. It is
// written out because encoding/base64 skips CR and LF wherever they stand.
func isHash(s string) bool {
	if len(s) != idLength {
		return false
	}
	for i := range len(s) {
		if sextet(s[i]) < 0 {
			return false
		}
	}
	return sextet(s[idLength-1])&3 == 0
}

// sextet is the value of a base64url character, or -1.
func sextet(c byte) int {
	switch {
	case 'A' <= c && c <= 'Z':
		return int(c - 'A')
	case 'a' <= c && c <= 'z':
		return int(c-'a') + 26
	case '0' <= c && c <= '9':
		return int(c-'0') + 52
	case c == '-':
		return 62
	case c == '_':
		return 63
	}
	return -1
}

// Reveal returns the secret itself, for a Set-Cookie header or for the one who
// has just created the session. It must not reach a log.
func (id ID) Reveal() string { return id.value }

// Key returns the name of the session's record: [KeyPrefix] and the base64url
// of the SHA-256 of the ID's 43 ASCII characters.
func (id ID) Key() Key {
	sum := sha256.Sum256([]byte(id.value))
	var b [len(KeyPrefix) + idLength]byte
	copy(b[:], KeyPrefix)
	base64.RawURLEncoding.Encode(b[len(KeyPrefix):], sum[:])
	return Key(b[:])
}

// String redacts the ID.
func (ID) String() string { return redacted }

// Format redacts the ID for every verb that asks it, %+v, %#v and %x among them.
func (ID) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }

// LogValue redacts the ID in slog.
func (ID) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText redacts the ID in JSON, YAML and text.
func (ID) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// A Key names a session's record in the store. It is no secret: it cannot be
// turned back into an ID, and the cookie does not accept it.
type Key string

// ParseKey takes a key as a store or an upstream's header shows it.
func ParseKey(s string) (Key, error) {
	hash, ok := strings.CutPrefix(s, KeyPrefix)
	if !ok || !isHash(hash) {
		return "", errors.New("malformed session key")
	}
	return Key(s), nil
}

// Hash is the key without [KeyPrefix]: 43 characters.
func (k Key) Hash() string { return strings.TrimPrefix(string(k), KeyPrefix) }

// Handle is the first twelve characters of the key's hash, the name of a
// session for logs and people: 72 bits, so two live sessions do not share one.
func (k Key) Handle() string {
	hash := k.Hash()
	return hash[:min(handleLength, len(hash))]
}
