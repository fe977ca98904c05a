package login

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"sync"
)

// A hashKind is an algorithm with its costs: hashes of one kind take the same
// work. An argon2id kind has its costs, a bcrypt kind its cost alone.
type hashKind struct {
	argon2id HashParams
	bcrypt   int // 0: argon2id
}

// bcryptBytes is what bcrypt works in, rounded up.
const bcryptBytes = 8 << 10

// bytes is the memory that one hash of the kind takes while it is computed.
func (k hashKind) bytes() int64 {
	if k.bcrypt > 0 {
		return bcryptBytes
	}
	return int64(k.argon2id.Memory) << 10
}

// dummy is a hash of the kind that no password matches.
func (k hashKind) dummy() passwordHash {
	if k.bcrypt > 0 {
		return bcryptHash(fmt.Sprintf("$2b$%02d$", k.bcrypt) + bcryptFill)
	}
	return argon2idHash{HashParams: k.argon2id, salt: randomBytes(hashSaltSize), sum: randomBytes(hashSumSize)}
}

func (k hashKind) String() string {
	if k.bcrypt > 0 {
		return fmt.Sprintf("$2b$%02d$", k.bcrypt)
	}
	return fmt.Sprintf("$argon2id$m=%d,t=%d,p=%d", k.argon2id.Memory, k.argon2id.Passes, k.argon2id.Lanes)
}

// work is very roughly the time of one hash, in microseconds.
func (k hashKind) work() uint64 {
	if k.bcrypt > 0 {
		return 72 << k.bcrypt
	}
	return uint64(k.argon2id.Memory) * uint64(k.argon2id.Passes)
}

// CheckDummy returns what is wrong with [PasswordsConfig].Dummy.
func CheckDummy(text string) error {
	_, err := parseHashKinds(text)
	return err
}

// parseHashKinds reads hashes, or what stands in front of the salt of some, with
// blanks in between.
func parseHashKinds(text string) ([]hashKind, error) {
	var kinds []hashKind
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

// maxHashKinds bounds the kinds that are remembered, and so what a refusal can
// cost. Sources have one, or some while they move from one to another.
const maxHashKinds = 16

// hashKinds are the kinds that a source is known to hold. It is safe for
// concurrent use.
type hashKinds struct {
	mu    sync.RWMutex
	known []hashKind // is replaced, never changed
}

func (k *hashKinds) all() []hashKind {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.known
}

// learn adds the kind of a hash that was found. Where there are too many, the one
// with the least work goes.
func (k *hashKinds) learn(kind hashKind) {
	if slices.Contains(k.all(), kind) {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if slices.Contains(k.known, kind) {
		return
	}
	k.known = mostWork(append(slices.Clone(k.known), kind))
}

// mostWork sorts kinds, of which each is there once, and cuts the list to its
// bound. It changes the list that it is given.
func mostWork(kinds []hashKind) []hashKind {
	slices.SortFunc(kinds, func(a, b hashKind) int {
		return cmp.Or(cmp.Compare(b.work(), a.work()), strings.Compare(a.String(), b.String()))
	})
	kinds = slices.Compact(kinds)
	return kinds[:min(maxHashKinds, len(kinds))]
}
