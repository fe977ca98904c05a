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
	known []string
}

// Add remembers a password. It ignores the empty one.
func (s *Set) Add(password string) {
	if password == "" || s.has(password) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.known = append(s.known, password)
}

func (s *Set) has(password string) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return slices.Contains(s.known, password)
}

// In reports whether a text repeats a password: as it is, as Go quotes it, or cut
// off after 16 bytes, as servers do.
func (s *Set) In(text string) bool {
	return slices.ContainsFunc(s.forms(), func(form string) bool { return strings.Contains(text, head(form)) })
}

// forms are the passwords as they are and as Go quotes them, the longest first.
func (s *Set) forms() []string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	forms := slices.Clone(s.known)
	for _, password := range s.known {
		quoted := strconv.Quote(password)
		if quoted = quoted[1 : len(quoted)-1]; quoted != password {
			forms = append(forms, quoted)
		}
	}
	slices.SortStableFunc(forms, longestFirst)
	return forms
}

// longestFirst sorts passwords, because the longer may contain the other.
func longestFirst(a, b string) int { return cmp.Compare(len(b), len(a)) }

// head is the part by which a password is known.
func head(password string) string { return password[:min(len(password), 16)] }

const redacted = "[password]"

// Redact replaces the passwords in a text, in each form that In knows.
func (s *Set) Redact(text string) string {
	forms := s.forms()
	var pairs []string
	for _, form := range forms {
		pairs = append(pairs, form, redacted)
	}
	text = strings.NewReplacer(pairs...).Replace(text) // all at once, so that the longest match wins
	for _, form := range forms {
		if len(form) > len(head(form)) {
			text = withoutCut(text, form)
		}
	}
	return text
}

// withoutCut replaces beginnings of a password, as far as the text repeats it.
func withoutCut(text, password string) string {
	for {
		before, rest, found := strings.Cut(text, head(password))
		if !found {
			return text
		}
		for i := len(head(password)); rest != "" && i < len(password) && rest[0] == password[i]; i++ {
			rest = rest[1:]
		}
		text = before + redacted + rest
	}
}
