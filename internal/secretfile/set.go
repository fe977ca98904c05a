package secretfile

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// A Set holds the passwords that a program has used. The zero Set is empty. It is
// safe for concurrent use.
type Set struct {
	mu    sync.RWMutex
	known []string // the longest first, because it may contain another
}

// Add remembers a password. It ignores the empty one.
func (s *Set) Add(password string) {
	if password == "" || s.has(password) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.known = append(s.known, password)
	slices.SortStableFunc(s.known, func(a, b string) int { return cmp.Compare(len(b), len(a)) })
}

func (s *Set) has(password string) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return slices.Contains(s.known, password)
}

// In reports whether a text repeats a password: as it is, as Go quotes it, or cut
// off after 16 bytes, as servers do.
func (s *Set) In(text string) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return slices.ContainsFunc(s.known, func(password string) bool {
		quoted := strings.Trim(strconv.Quote(password), `"`)
		return strings.Contains(text, head(password)) || strings.Contains(text, head(quoted))
	})
}

// head is the part by which a password is known.
func head(password string) string { return password[:min(len(password), 16)] }

// Redact replaces the passwords in a text.
func (s *Set) Redact(text string) string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var pairs []string
	for _, password := range s.known {
		pairs = append(pairs, password, "[password]")
	}
	return strings.NewReplacer(pairs...).Replace(text) // all at once, so that the longest match wins
}
