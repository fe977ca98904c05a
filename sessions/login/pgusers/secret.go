package pgusers

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
)

// readPassword reads a file that holds a password, without the line feeds at its
// end.
func readPassword(path string) (string, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	password := strings.TrimRight(string(content), "\r\n")
	if password == "" {
		return "", fmt.Errorf("%s is empty", path)
	}
	return password, nil
}

// secrets are the passwords that were used. They are safe for concurrent use.
type secrets struct {
	mu    sync.RWMutex
	known []string
}

func (s *secrets) add(secret string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if secret != "" && !slices.Contains(s.known, secret) {
		s.known = append(s.known, secret)
	}
}

func (s *secrets) hide(text string) string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, secret := range s.known {
		text = strings.ReplaceAll(text, secret, "[password]")
	}
	return text
}
