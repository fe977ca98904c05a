package userfile

import (
	"crypto/sha256"
	"encoding/binary"
	"io"
	"maps"
	"slices"
	"strconv"

	"github.com/coatcheck/coatcheck/sessions/login/passwords"
)

// digest changes with all that a session got from the account or rests on: the hash
// of the password, the roles in any order, and the attributes, because conditions
// decide by attributes as well. It leaves out the username. It gives nothing of the
// hash away, because a reader of the digest does not know the salt.
func digest(a passwords.Account) uint64 {
	h := sha256.New()
	roles := slices.Compact(slices.Sorted(slices.Values(a.Roles)))
	digestTexts(h, a.Hash, strconv.Itoa(len(roles)))
	digestTexts(h, roles...)
	for _, name := range slices.Sorted(maps.Keys(a.Attributes)) {
		digestTexts(h, name, a.Attributes[name])
	}
	return digestOf(h.Sum(nil))
}

// digestOfAll differs for different sets of accounts.
func digestOfAll(digests map[string]uint64) uint64 {
	h := sha256.New()
	for _, id := range slices.Sorted(maps.Keys(digests)) {
		digestTexts(h, id, strconv.FormatUint(digests[id], 10))
	}
	return digestOf(h.Sum(nil))
}

// digestTexts writes each text behind its length, so that no two lists look the
// same.
func digestTexts(h io.Writer, texts ...string) {
	for _, text := range texts {
		_, _ = h.Write(binary.AppendUvarint(nil, uint64(len(text))))
		_, _ = io.WriteString(h, text)
	}
}

// digestOf is 53 bits, which a double holds, and never 0.
func digestOf(sum []byte) uint64 {
	return max(1, binary.BigEndian.Uint64(sum)>>11)
}
