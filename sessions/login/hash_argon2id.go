package login

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/argon2"
)

// HashParams are the costs of an argon2id hash (RFC 9106). A zero field stands
// for its default: together 19 MiB, two passes and one lane, the second of the
// equal choices of the OWASP Password Storage Cheat Sheet.
type HashParams struct {
	Memory uint32 // KiB, 8 for each lane to 131072 (128 MiB); default 19456
	Passes uint32 // over that memory, 1 to 16; default 2
	Lanes  uint8  // computed at the same time, 1 to 16; default 1
}

const (
	argon2idPrefix = "$argon2id$"
	argon2idFormat = argon2idPrefix + "v=%d$m=%d,t=%d,p=%d$%s$%s"

	// What is read of a source. The memory has room for what frameworks make by
	// default: PHP 64 MiB, Django 100 MiB.
	maxHashMemory = 128 << 10 // KiB
	maxHashPasses = 16
	maxHashLanes  = 16

	// Below this OWASP lists no choice, however many the passes.
	leastHashMemory = 7 << 10 // KiB

	hashSaltSize = 16 // bytes; RFC 9106, section 3.1
	hashSumSize  = 32 // bytes
)

func (p HashParams) orDefault() HashParams {
	if p.Memory == 0 {
		p.Memory = 19 << 10
	}
	if p.Passes == 0 {
		p.Passes = 2
	}
	if p.Lanes == 0 {
		p.Lanes = 1
	}
	return p
}

// check bounds the work of a hash. RFC 9106, section 3.1, wants 8 KiB for each
// lane; with less, x/crypto would quietly take more than is asked for.
func (p HashParams) check() error {
	switch {
	case p.Lanes < 1 || p.Lanes > maxHashLanes:
		return fmt.Errorf("its lanes are not 1 to %d", maxHashLanes)
	case p.Passes < 1 || p.Passes > maxHashPasses:
		return fmt.Errorf("its passes are not 1 to %d", maxHashPasses)
	case p.Memory < 8*uint32(p.Lanes) || p.Memory > maxHashMemory:
		return fmt.Errorf("its memory is not 8 KiB for each lane to %d KiB", maxHashMemory)
	}
	return nil
}

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
func parseArgon2id(text string) (passwordHash, error) {
	var h argon2idHash
	var version int
	fields := strings.Split(text, "$")
	if len(fields) != 6 {
		return nil, errors.New("it is not $argon2id$v=19$m=...,t=...,p=...$salt$hash")
	}
	if _, err := fmt.Sscanf(fields[2]+"$"+fields[3], "v=%d$m=%d,t=%d,p=%d", &version, &h.Memory, &h.Passes, &h.Lanes); err != nil {
		return nil, errors.New("its parameters are not v=, m=, t= and p=, in this order")
	}
	if version != argon2.Version {
		return nil, fmt.Errorf("its version is not %d", argon2.Version)
	}
	if err := h.check(); err != nil {
		return nil, err
	}
	var saltErr, sumErr error
	h.salt, saltErr = base64.RawStdEncoding.DecodeString(fields[4])
	h.sum, sumErr = base64.RawStdEncoding.DecodeString(fields[5])
	switch {
	case saltErr != nil || sumErr != nil || h.String() != text:
		return nil, errors.New("it is not in the form of the PHC string format")
	case len(h.salt) < 8 || len(h.salt) > 64:
		return nil, errors.New("its salt has not 8 to 64 bytes")
	case len(h.sum) < 16 || len(h.sum) > 64:
		return nil, errors.New("its hash has not 16 to 64 bytes")
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

func (h argon2idHash) kind() hashKind { return hashKind{argon2id: h.HashParams} }

// weakerThan compares memory times passes, which OWASP's equal choices have
// about the same of, so that a larger memory with fewer passes is left alone.
func (h argon2idHash) weakerThan(p HashParams) bool {
	return uint64(h.Memory)*uint64(h.Passes) < uint64(p.Memory)*uint64(p.Passes) ||
		h.Memory < min(leastHashMemory, p.Memory)
}
