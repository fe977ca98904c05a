package passwords

import (
	"fmt"
	"strings"
)

// dummy is a hash of the kind that no password matches.
func dummy(k Kind) passwordHash {
	if k.bcrypt > 0 {
		return bcryptHash(fmt.Sprintf("$2b$%02d$", k.bcrypt) + bcryptFill)
	}
	return argon2idHash{HashParams: k.argon2id, salt: randomBytes(hashSaltSize), sum: randomBytes(hashSumSize)}
}

// CheckDummy returns what is wrong with [Config].Dummy.
func CheckDummy(text string) error {
	_, err := parseKinds(text)
	return err
}

// parseKinds reads hashes, or what stands in front of the salt of some, with
// blanks in between.
func parseKinds(text string) ([]Kind, error) {
	var kinds []Kind
	for _, field := range strings.Fields(text) {
		h, err := parseHash(field)
		if err != nil {
			if h, err = parseHash(filledUp(field)); err != nil {
				return nil, err
			}
		}
		kinds = append(kinds, h.kind())
	}
	return kinds, nil
}

const (
	bcryptFill   = "....................................................."
	argon2idFill = "AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
)

// filledUp makes a hash of its beginning.
func filledUp(beginning string) string {
	if strings.HasPrefix(beginning, argon2idPrefix) {
		return strings.TrimSuffix(beginning, "$") + "$" + argon2idFill
	}
	return beginning + bcryptFill
}
