package redact

import (
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/coatcheck/coatcheck/sessions"
)

func TestIDs(t *testing.T) {
	id := sessions.NewID()
	if len(id.Reveal()) != idLength {
		t.Fatalf("a session ID has %d characters", len(id.Reveal()))
	}
	long := strings.Repeat("a", idLength) // a word that is replaced, and part of a longer word
	for text, want := range map[string]string{
		"": "", "no ID here": "no ID here", id.Reveal(): id.String(),
		"/x?a=" + id.Reveal() + "&b=1": "/x?a=" + id.String() + "&b=1", "x" + id.Reveal(): id.String(),
		id.Reveal()[:42]:                id.Reveal()[:42],
		long + " " + long + id.Reveal(): id.String() + " " + id.String(), "ö" + long + "é" + id.Reveal(): "ö" + id.String() + "é" + id.String(),
	} {
		if got := IDs(text); got != want {
			t.Errorf("%q became %q, want %q", text, got, want)
		}
	}
}

// TestPanic: the value of a panic is not in its description, other than the text of a
// runtime error.
func TestPanic(t *testing.T) {
	for _, value := range []any{"secret", errors.New("secret"), struct{ s string }{"secret"}} {
		if text := Panic(value).Error(); strings.Contains(text, "secret") || !strings.Contains(text, "panic of type") {
			t.Error(text)
		}
	}
	defer func() {
		if text := Panic(recover()).Error(); !strings.Contains(text, "nil pointer") || !strings.Contains(text, "TestPanic") {
			t.Error(text)
		}
	}()
	var id *sessions.Session
	_ = id.UserID
}

// FuzzClientText: wherever a session ID stands in a text, at most a short part of it
// comes out; the result is short, UTF-8, and holds no C1 control character.
func FuzzClientText(f *testing.F) {
	for _, seed := range []string{"", "/", "/a b\x9b2J", strings.Repeat("a", 300), strings.Repeat("x/", 1010), "\xff\xc3", strings.Repeat("é", 1030)} {
		f.Add(seed, "")
		f.Add(seed, "/x")
	}
	const id = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"
	f.Fuzz(func(t *testing.T, before, after string) {
		got := ClientText(before + id + after)
		if len(got) > maxText || !utf8.ValidString(got) || strings.ContainsFunc(got, func(r rune) bool { return r >= 0x7f && r < 0xa0 }) {
			t.Fatalf("%q became %q", before+id+after, got)
		}
		if strings.Contains(got, id[:20]) && !strings.Contains(before+after, id[:20]) {
			t.Fatalf("%q became %q", before+id+after, got)
		}
	})
}
