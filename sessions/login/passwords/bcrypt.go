package passwords

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/bcrypt"
)

const (
	// bcrypt looks at no more of a password, in bytes.
	maxBcryptPassword = 72
	// Twice the work for each step: 16 is about four seconds.
	maxBcryptCost = 16
	// What a salt and a hash are written in.
	bcryptAlphabet = "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
)

// A bcryptHash is the stored text.
type bcryptHash string

// parseBcrypt reads $2b$12$ and 53 characters. $2a$ and $2y$ mean the same; $2x$
// was made by a defect and is not taken.
func parseBcrypt(text string) (bcryptHash, error) {
	if len(text) != 60 || text[6] != '$' || strings.Trim(text[7:], bcryptAlphabet) != "" {
		return "", errors.New("it is not $2b$, a cost of two digits, $ and 53 characters")
	}
	cost, err := bcrypt.Cost([]byte(text))
	if err != nil || cost > maxBcryptCost || fmt.Sprintf("%02d", cost) != text[4:6] {
		return "", fmt.Errorf("its cost is not %02d to %d", bcrypt.MinCost, maxBcryptCost)
	}
	return bcryptHash(text), nil
}

func (h bcryptHash) String() string { return string(h) }

// matches refuses a password that bcrypt would cut short, after the work for
// another one: else its time would tell that there is a bcrypt hash.
func (h bcryptHash) matches(password string) bool {
	fits := len(password) <= maxBcryptPassword
	if !fits {
		password = "a password in place of one that is too long"
	}
	return bcrypt.CompareHashAndPassword([]byte(h), []byte(password)) == nil && fits
}

// kind reads the cost, which parseBcrypt has looked at.
func (h bcryptHash) kind() Kind {
	cost, _ := bcrypt.Cost([]byte(h))
	return Kind{bcrypt: cost}
}

// weakerThan is always true: a processor for graphics has enough memory for as
// many bcrypt hashes as it likes, but not for argon2id.
func (bcryptHash) weakerThan(HashParams) bool { return true }
