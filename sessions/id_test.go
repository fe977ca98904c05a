package sessions

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

// TestIDAlphabet tries every byte in the first, a middle and the last place
// against encoding/base64, which alone would skip CR and LF.
func TestIDAlphabet(t *testing.T) {
	good := 0
	for _, place := range []int{0, 20, idLength - 1} {
		for c := range 256 {
			b := []byte(testID)
			b[place] = byte(c)
			_, want := base64.RawURLEncoding.Strict().DecodeString(string(b))
			if c == '\r' || c == '\n' {
				want = ErrMalformed
			}
			_, err := ParseID(string(b))
			if (err == nil) != (want == nil) {
				t.Errorf("byte %#x in place %d: %v, want %v", c, place, err, want)
			}
			if err == nil {
				good++
			}
		}
	}
	if good != 64+64+16 {
		t.Errorf("%d were taken, want 64, 64 and the 16 without spare bits", good)
	}
}

func TestNewID(t *testing.T) {
	seen := make(map[ID]bool)
	for range 100_000 {
		id := NewID()
		if again, err := ParseID(id.Reveal()); err != nil || again != id || seen[id] {
			t.Fatalf("%q: %v, seen: %v", id.Reveal(), err, seen[id])
		}
		seen[id] = true
	}
}

func TestParseID(t *testing.T) {
	for name, s := range map[string]string{
		"empty":              "",
		"too short":          testID[1:],
		"too long":           testID + "A",
		"padded":             testID + "=",
		"line feed inside":   testID[:20] + "\n" + testID[21:],
		"line feed behind":   testID[:42] + "\n",
		"other alphabet":     strings.Repeat("+", 42) + "A",
		"spare bits set":     testID[:42] + "9",
		"blank":              " " + testID[1:],
		"no ASCII":           strings.Repeat("ö", 21) + "A",
		"glob":               strings.Repeat("*", 43),
		"key":                string(ID{testID}.Key()),
		"percent":            "%41" + testID[3:],
		"NUL":                testID[:42] + "\x00",
		"last bits set by 1": testID[:42] + "B",
	} {
		if _, err := ParseID(s); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		} else if s != "" && strings.Contains(err.Error(), s) {
			t.Errorf("%s: the error repeats it", name)
		}
	}
}

// TestIDRedacts tries the ways in which a value is printed by mistake.
func TestIDRedacts(t *testing.T) {
	id, err := ParseID(testID)
	if err != nil {
		t.Fatal(err)
	}
	holder := struct {
		ID   ID
		Ptr  *ID
		Map  map[string]ID
		List []any
	}{id, &id, map[string]ID{"id": id}, []any{id, &id}}
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%b", "%c", "%t", "%e", "%40s", "%#q", "% x", "%T"} {
		fmt.Fprintf(&out, verb+" "+verb+" "+verb+"\n", id, &id, holder)
	}
	fmt.Fprintln(&out, id, &id, holder, id.LogValue())
	fmt.Fprintln(&out, fmt.Errorf("failing: %v", id))
	for _, handler := range []slog.Handler{slog.NewJSONHandler(&out, nil), slog.NewTextHandler(&out, nil)} {
		slog.New(handler).Info("made", "id", id, "holder", holder, slog.Group("group", "id", id))
	}
	if err := json.NewEncoder(&out).Encode(holder); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(out.String(), redacted); n < 100 {
		t.Errorf("only %d redactions were printed", n)
	}
	hex := fmt.Sprintf("%x", testID)
	for _, secret := range []string{testID, testID[:12], hex, strings.ToUpper(hex)} {
		if strings.Contains(out.String(), secret) {
			t.Errorf("printed is %s in\n%s", secret, out.String())
		}
	}
}

func TestKey(t *testing.T) {
	// By sha256sum and base64.
	const want = "session:6oZqdX5MOLq_qBJ8vppAnT4fk6AP8UiP9zX8-Rev_9A"
	key := ID{testID}.Key()
	if key != want || key.Handle() != "6oZqdX5MOLq_" {
		t.Errorf("%s, %s", key, key.Handle())
	}
	if again, err := ParseKey(want); err != nil || again != key {
		t.Errorf("%s, %v", again, err)
	}
	for _, bad := range []string{"", "session:", testID, want + "A", "Session:" + key.Hash(), "session:" + strings.Repeat("*", 43)} {
		if _, err := ParseKey(bad); err == nil {
			t.Errorf("%q was taken for a key", bad)
		}
	}
}
