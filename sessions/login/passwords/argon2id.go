package passwords

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/argon2"
)

const (
	argon2idPrefix = "$argon2id$"
	argon2idFormat = argon2idPrefix + "v=%d$m=%d,t=%d,p=%d$%s$%s"

	// Below this OWASP lists no choice, however many the passes.
	leastHashMemory = 7 << 10 // KiB

	hashSaltSize = 16 // bytes; RFC 9106, section 3.1
	hashSumSize  = 32 // bytes
)

// An argon2idHash is one that was stored or made.
type argon2idHash struct {
	HashParams
	salt, sum []byte
}

func newArgon2id(password string, p HashParams) argon2idHash {
	h := argon2idHash{HashParams: p, salt: randomBytes(hashSaltSize)}
	h.sum = h.compute(password, hashSumSize)
	return h
}

// randomBytes never fails: crypto/rand would end the program first.
func randomBytes(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	return b
}

// parseArgon2id reads version 19 of the format, with the parameters in their
// order, no leading zeros, and base64 without padding or spare bits, as the PHC
// string format has it: what does not print as it was read is refused.
func parseArgon2id(text string) (h argon2idHash, err error) {
	var version int
	fields := strings.Split(text, "$")
	if len(fields) != 6 {
		return h, errors.New("it is not $argon2id$v=19$m=...,t=...,p=...$salt$hash")
	}
	if _, err := fmt.Sscanf(fields[2]+"$"+fields[3], "v=%d$m=%d,t=%d,p=%d", &version, &h.Memory, &h.Passes, &h.Lanes); err != nil {
		return h, errors.New("its parameters are not v=, m=, t= and p=, in this order")
	}
	if version != argon2.Version {
		return h, fmt.Errorf("its version is not %d", argon2.Version)
	}
	if err := h.check(); err != nil {
		return h, err
	}
	var saltErr, sumErr error
	h.salt, saltErr = base64.RawStdEncoding.DecodeString(fields[4])
	h.sum, sumErr = base64.RawStdEncoding.DecodeString(fields[5])
	switch {
	case saltErr != nil || sumErr != nil || h.String() != text:
		return h, errors.New("it is not in the form of the PHC string format")
	case len(h.salt) < 8 || len(h.salt) > 64:
		return h, errors.New("its salt has not 8 to 64 bytes")
	case len(h.sum) < 16 || len(h.sum) > 64:
		return h, errors.New("its hash has not 16 to 64 bytes")
	}
	return h, nil
}

// String is the PHC string.
func (h argon2idHash) String() string {
	return fmt.Sprintf(argon2idFormat, argon2.Version, h.Memory, h.Passes, h.Lanes,
		base64.RawStdEncoding.EncodeToString(h.salt), base64.RawStdEncoding.EncodeToString(h.sum))
}

func (h argon2idHash) compute(password string, size int) []byte {
	return argon2.IDKey([]byte(password), h.salt, h.Passes, h.Memory, h.Lanes, uint32(size))
}

func (h argon2idHash) matches(password string) bool {
	return subtle.ConstantTimeCompare(h.compute(password, len(h.sum)), h.sum) == 1
}

func (h argon2idHash) kind() Kind { return Kind{argon2id: h.HashParams} }

// weakerThan compares memory times passes, which OWASP's equal choices have
// about the same of, so that a larger memory with fewer passes is left alone.
func (h argon2idHash) weakerThan(p HashParams) bool {
	return uint64(h.Memory)*uint64(h.Passes) < uint64(p.Memory)*uint64(p.Passes) ||
		h.Memory < min(leastHashMemory, p.Memory)
}
