package sessions

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
)

// TestRolesAreShared: the same text gives the same names, as often as it is read, also
// where many texts compete for the places, and a caller that appends changes no other's.
func TestRolesAreShared(t *testing.T) {
	texts := []string{
		`[]`, `[""]`, `["a"]`, `[ "a" ]`, `["a","b"]`, `["a\u0062"]`, `null`, `[null]`, `["a"`, ``, `["a"] `, `["a"]x`, `{"a":1}`,
		`["` + strings.Repeat("r", MaxRole) + `"]`, `["` + strings.Repeat("r", MaxRole+1) + `"]`,
		`["` + strings.Repeat(`x","`, MaxRoles) + `"]`, `["` + strings.Repeat(`x","`, MaxRoles-1) + `"]`,
	}
	for i := range 2 * rolesKept {
		texts = append(texts, fmt.Sprintf(`["role %d","b"]`, i))
	}
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for n := range 5000 {
				text := texts[(n*n+w*31)%len(texts)]
				want, wrong := decodeRoles(text)
				got, what := rolesOf(text)
				if what != wrong || !slices.Equal(got, want) || (got == nil) != (want == nil) {
					t.Errorf("%.40s: %q %q, want %q %q", text, got, what, want, wrong)
					return
				}
				_ = append(got, "admin")
			}
		})
	}
	wg.Wait()
	for i := range roleSets {
		if set := roleSets[i].Load(); set != nil && len(set.text) > maxRolesKept {
			t.Errorf("%d bytes are kept", len(set.text))
		}
	}
}

func BenchmarkDecode(b *testing.B) {
	r := Record{FieldVersion: "1", FieldUserID: "42", FieldUsername: "anna", FieldRoles: `["staff","admin"]`, FieldExpiresAt: "2026-11-24T22:00:00.000Z"}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.Decode("session:x"); err != nil {
			b.Fatal(err)
		}
	}
}
