package sessions_test

import (
	"crypto/sha256"
	"encoding/base64"
	"regexp"
	"strings"
	"testing"

	"github.com/coatcheck/coatcheck/sessions"
)

// FuzzParseID: an ID is 43 characters of which the last has no spare bits, as a regular
// expression has it; it comes out as it came in, is 32 bytes to encoding/base64, and
// leaves nothing of itself in its key.
func FuzzParseID(f *testing.F) {
	for _, seed := range []string{
		"", sessions.NewID().Reveal(), strings.Repeat("A", 43), strings.Repeat("A", 42) + "B", strings.Repeat("A", 42) + "=", strings.Repeat("A", 44),
		strings.Repeat("A", 41) + "\r\n", "session:" + strings.Repeat("A", 35), strings.Repeat("+", 43), strings.Repeat("*", 43), strings.Repeat("{", 43),
	} {
		f.Add(seed)
	}
	form := regexp.MustCompile(`^[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]$`)
	handle := regexp.MustCompile(`\A[A-Za-z0-9_-]{1,43}\z`)
	f.Fuzz(func(t *testing.T, text string) {
		if err := sessions.ValidateHandle(text); (err == nil) != handle.MatchString(text) {
			t.Fatalf("%q as a handle: %v", text, err)
		}
		id, err := sessions.ParseID(text)
		if want := form.MatchString(text) && !strings.HasSuffix(text, "\n"); want != (err == nil) {
			t.Fatalf("%q: %v", text, err)
		}
		if err != nil {
			if id != (sessions.ID{}) || text != "" && strings.Contains(err.Error(), text) && len(text) > 20 {
				t.Fatalf("%q: %v", text, err)
			}
			return
		}
		raw, err := base64.RawURLEncoding.Strict().DecodeString(text)
		if err != nil || len(raw) != 32 || id.Reveal() != text {
			t.Fatalf("%q: %v", text, err)
		}
		sum := sha256.Sum256([]byte(text))
		if want := "session:" + base64.RawURLEncoding.EncodeToString(sum[:]); string(id.Key()) != want {
			t.Fatalf("%q: the key is %q, want %q", text, id.Key(), want)
		}
	})
}
