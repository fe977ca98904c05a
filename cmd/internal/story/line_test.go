package story_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/coatcheck/coatcheck/cmd/internal/story"
)

const jsonLine = `{"time":"2026-11-26T10:00:00.5Z","level":"INFO","msg":"check","path":"/a\"b","status":403,"duration":1500,"roles":["a","b"]}`

const textLine = `time=2026-11-26T10:00:00.500Z level=INFO msg=check path="/a\"b" status=403 duration=1.5µs roles="a, b"`

// TestParse: both forms say the same, also behind what other programs put in front.
func TestParse(t *testing.T) {
	inDocker, _ := json.Marshal(map[string]string{"log": jsonLine + "\n", "stream": "stderr", "time": "2026-11-26T10:00:01Z"})
	for _, text := range []string{
		jsonLine, textLine, " " + jsonLine + "\r", string(inDocker),
		"[pod/coatcheck-6d4/coatcheck] " + jsonLine, "[pod/coatcheck-6d4/coatcheck] 2026-11-26T10:00:00.123456789Z " + textLine,
		"2026-11-26T10:00:00.123456789Z " + jsonLine, "2026-11-26T10:00:00.123456789+01:00 stderr F " + textLine,
		"coatcheck-1  | " + jsonLine, "Nov 26 10:00:00 host.example coatcheck[12]: " + textLine,
	} {
		line, err := story.Parse([]byte(text))
		if err != nil {
			t.Errorf("%v: %s", err, text)
			continue
		}
		if !line.Time.Equal(time.Date(2026, 11, 26, 10, 0, 0, 5e8, time.UTC)) || line.Message != "check" {
			t.Errorf("%v, %q: %s", line.Time, line.Message, text)
		}
		for name, want := range map[string]string{"path": `/a"b`, "status": "403", "duration": "1.5µs", "roles": "a, b", "none": ""} {
			if got := line.Get(name); got != want {
				t.Errorf("%s is %q, want %q: %s", name, got, want, text)
			}
		}
	}
}

// TestParseRefuses: a line of another program, in which a client's text stands, is never
// read as one of Coatcheck's; a line that is cut is told apart.
func TestParseRefuses(t *testing.T) {
	repeated, _ := json.Marshal(map[string]string{"agent": jsonLine})
	for text, want := range map[string]error{
		"":                             story.ErrForeign,
		"an access":                    story.ErrForeign,
		`{"a": "b"}`:                   story.ErrForeign,
		`{"msg": "check", "time": 17}`: story.ErrForeign,
		`{"msg": "check"}`:             story.ErrForeign,
		`{"time": "2026-11-26T10:00:00Z", "message": "check"}`:     story.ErrForeign,
		`127.0.0.1 - "Mozilla" ` + jsonLine:                        story.ErrForeign,
		`[2026-11-26T10:00:00Z] "GET / HTTP/1.1" 200 "` + jsonLine: story.ErrForeign,
		`127.0.0.1 - {` + jsonLine:                                 story.ErrForeign,
		`2026-11-26T10:00:00Z GET /| ` + jsonLine:                  story.ErrForeign,
		string(repeated):                         story.ErrForeign,
		`{"log": "no line", "stream": "stdout"}`: story.ErrForeign,
		jsonLine[:40]:                            story.ErrUnreadable,
		jsonLine + jsonLine:                      story.ErrUnreadable,
		jsonLine + " x":                          story.ErrUnreadable,
		textLine[:60]:                            story.ErrUnreadable,
		"coatcheck-1 | " + jsonLine[:40]:         story.ErrUnreadable,
		`time=2026-11-26T10:00:00Z msg="a`:       story.ErrUnreadable,
		`time=2026-11-26T10:00:00Z msg="a"b c=d`: story.ErrUnreadable,
		`time=yesterday msg=check`:               story.ErrForeign,
	} {
		if line, err := story.Parse([]byte(text)); !errors.Is(err, want) {
			t.Errorf("%v, %v, want %v: %s", err, line, want, text)
		}
	}
}

// FuzzParseWritten: what slog writes is read back, in both forms, and one line stays one
// line. The oracle is the text that was logged.
func FuzzParseWritten(f *testing.F) {
	f.Add("check", "path", "/admin", "roles")
	f.Add("session ended", "why", "a\n{\"time\":\"x\"}\x1b[31m\u2028\xff", "a b")
	f.Add(`a"b\`, "a=b", "=", "c d")
	f.Fuzz(func(t *testing.T, message, name, value, other string) {
		taken := []string{"time", "level", "msg", ""}
		for _, known := range taken {
			if name == known || other == known {
				return
			}
		}
		if name == other || message == "" || strings.HasSuffix(name, "duration") || strings.HasSuffix(other, "duration") {
			return
		}
		for form, handler := range map[string]func(*bytes.Buffer) slog.Handler{
			"JSON": func(b *bytes.Buffer) slog.Handler { return slog.NewJSONHandler(b, nil) },
			"text": func(b *bytes.Buffer) slog.Handler { return slog.NewTextHandler(b, nil) },
		} {
			var out bytes.Buffer
			slog.New(handler(&out)).Info(message, name, value, other, 17, "names", []string{"a", "b"})
			text := bytes.TrimSuffix(out.Bytes(), []byte("\n"))
			line, err := story.Parse(text)
			if err != nil {
				t.Fatalf("%s: %v: %s", form, err, text)
			}
			wants := func(s string) string {
				if form == "JSON" && !utf8.ValidString(s) {
					return strings.ToValidUTF8(string([]rune(s)), "\uFFFD")
				}
				return s
			}
			if name := wants(name); name != wants(other) && (line.Message != wants(message) || line.Get(name) != wants(value) || line.Get(wants(other)) != "17") {
				t.Fatalf("%s: %q, %q: %s", form, line.Message, line.Attributes, text)
			}
		}
	})
}

// FuzzParseAny: a line is read as encoding/json reads it, and no text makes the reader
// fail in another way than by its two errors.
func FuzzParseAny(f *testing.F) {
	for _, seed := range []string{jsonLine, textLine, `{"time":"2026-11-26T10:00:00Z","msg":"m","a":{"b":[1,{"c":"}"}]},"d":-1.5e3 , "e" : null}`, "time=", `time="\x"`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		line, err := story.Parse(text)
		if err != nil {
			if !errors.Is(err, story.ErrForeign) && !errors.Is(err, story.ErrUnreadable) {
				t.Fatal(err)
			}
			return
		}
		var object map[string]any
		if json.Unmarshal(text, &object) != nil || object["msg"] == nil {
			return // the text form, or something in front
		}
		if line.Message != object["msg"] {
			t.Fatalf("%q, want %q", line.Message, object["msg"])
		}
		for name, value := range object {
			want, ok := value.(string)
			if ok && name != "time" && name != "msg" && !strings.HasSuffix(name, "duration") && line.Get(name) != want {
				t.Fatalf("%s is %q, want %q", name, line.Get(name), want)
			}
		}
		if len(line.Attributes) > len(object) {
			t.Fatalf("%d attributes of %d", len(line.Attributes), len(object))
		}
	})
}
