package passwords

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"sync"
)

// A Kind is an algorithm with its costs: hashes of one Kind take the same work.
// Kinds are compared with ==.
type Kind struct {
	argon2id HashParams
	bcrypt   int // 0: argon2id
}

// bcryptBytes is what bcrypt works in, rounded up.
const bcryptBytes = 8 << 10

// Bytes is the memory that one hash of the kind takes while it is computed.
func (k Kind) Bytes() int64 {
	if k.bcrypt > 0 {
		return bcryptBytes
	}
	return int64(k.argon2id.Memory) << 10
}

// String is what stands in front of the salt, without the version.
func (k Kind) String() string {
	if k.bcrypt > 0 {
		return fmt.Sprintf("$2b$%02d$", k.bcrypt)
	}
	return fmt.Sprintf("$argon2id$m=%d,t=%d,p=%d", k.argon2id.Memory, k.argon2id.Passes, k.argon2id.Lanes)
}

// work is very roughly the time of one hash, in microseconds.
func (k Kind) work() uint64 {
	if k.bcrypt > 0 {
		return 72 << k.bcrypt
	}
	return uint64(k.argon2id.Memory) * uint64(k.argon2id.Passes)
}

// maxKinds bounds the kinds that are remembered, and so what a refusal can cost.
// Sources have one, or some while they move from one to another.
const maxKinds = 16

// knownKinds are the kinds that a source is known to hold. They are safe for
// concurrent use.
type knownKinds struct {
	mu    sync.RWMutex
	known []Kind // is replaced, never changed
}

func (k *knownKinds) all() []Kind {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.known
}

// learn adds the kind of a hash that was found. Where there are too many, the one
// with the least work goes.
func (k *knownKinds) learn(kind Kind) {
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
func mostWork(kinds []Kind) []Kind {
	slices.SortFunc(kinds, func(a, b Kind) int {
		return cmp.Or(cmp.Compare(b.work(), a.work()), strings.Compare(a.String(), b.String()))
	})
	kinds = slices.Compact(kinds)
	return kinds[:min(maxKinds, len(kinds))]
}
