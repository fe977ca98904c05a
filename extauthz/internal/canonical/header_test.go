package canonical

import (
	"regexp"
	"strings"
	"testing"
)

var normalForm = regexp.MustCompile(`[^a-z0-9]`)

// FuzzHeaderName compares with the rule written as a regular expression.
func FuzzHeaderName(f *testing.F) {
	for _, name := range []string{"x-user-id", "X_User_Id", "x.user.", "x-use", "y-user-id", "x\xffuser\x00id", ""} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		lower := make([]byte, len(name)) // ASCII only: strings.ToLower would fold a Kelvin sign to k
		for i := range len(name) {
			lower[i] = name[i]
			if 'A' <= name[i] && name[i] <= 'Z' {
				lower[i] += 'a' - 'A'
			}
		}
		normal := make([]byte, 0, len(name))
		for _, c := range lower {
			normal = append(normal, normalForm.ReplaceAll([]byte{c}, []byte("-"))...)
		}
		want := strings.HasPrefix(string(normal), "x-user-")
		if got := HasPrefix([]byte(name), "x-user-"); got != want {
			t.Fatalf("%q: %v, want %v", name, got, want)
		}
	})
}
