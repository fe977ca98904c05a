package sessions

import (
	"hash/maphash"
	"strings"
	"sync/atomic"
)

const (
	// rolesKept is how many texts of roles are remembered, and maxRolesKept how long one
	// of them may be: 300 KiB in all with the names. Users share a few sets of roles.
	rolesKept    = 256
	maxRolesKept = 512
)

// A roleSet is what a text of roles says.
type roleSet struct {
	text  string
	names []string
}

var (
	roleSets [rolesKept]atomic.Pointer[roleSet]
	roleSeed = maphash.MakeSeed()
)

// rolesOf is decodeRoles, which it asks once for each text, as long as no other takes its
// place. What is wrong is not remembered. The names have no room behind them, so that
// append copies them.
func rolesOf(text string) (names []string, wrong string) {
	if len(text) > maxRolesKept {
		return decodeRoles(text)
	}
	place := &roleSets[maphash.String(roleSeed, text)%rolesKept]
	if set := place.Load(); set != nil && set.text == text {
		return set.names, ""
	}
	if names, wrong = decodeRoles(text); wrong == "" {
		names = names[:len(names):len(names)]
		place.Store(&roleSet{strings.Clone(text), names}) // text is a part of a whole record
	}
	return names, wrong
}
