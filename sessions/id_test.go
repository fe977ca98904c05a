package sessions

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

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
		ID  ID
		Ptr *ID
		Map map[string]ID
	}{id, &id, map[string]ID{"id": id}}
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%T"} {
		fmt.Fprintf(&out, verb+" "+verb+"\n", id, holder)
	}
	fmt.Fprintln(&out, fmt.Errorf("failing: %v", id))
	for _, handler := range []slog.Handler{slog.NewJSONHandler(&out, nil), slog.NewTextHandler(&out, nil)} {
		slog.New(handler).Info("made", "id", id, "holder", holder, slog.Group("group", "id", id))
	}
	if err := json.NewEncoder(&out).Encode(holder); err != nil {
		t.Fatal(err)
	}
	hex := fmt.Sprintf("%x", testID)
	for _, secret := range []string{testID, hex, strings.ToUpper(hex)} {
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
