package story_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/cmd/internal/story"
	"github.com/coatcheck/coatcheck/sessions"
)

// Lines of two sessions of user 42, and one of user 43; the checks come first, as where
// kubectl logs prints one pod after the other.
const checks = `{"time":"2026-11-26T10:00:02Z","level":"INFO","msg":"check","verdict":"allow","reason":"ok","status":0,"route":"required","session":"AAAAAAAAAAAA","method":"GET","host":"shop.example","path":"/","request_id":"r2","duration":1,"lookup_duration":1}
{"time":"2026-11-26T10:00:03Z","level":"INFO","msg":"check","verdict":"deny","reason":"missing_role","status":403,"route":"required roles=admin","policy":"admins","session":"AAAAAAAAAAAA","method":"GET","host":"shop.example","path":"/admin","request_id":"r3","duration":1,"lookup_duration":1}
{"time":"2026-11-26T10:00:05Z","level":"INFO","msg":"check","verdict":"deny","reason":"missing_role","status":403,"route":"required roles=admin","policy":"admins","session":"AAAAAAAAAAAA","method":"GET","host":"shop.example","path":"/admin","request_id":"r5","duration":1,"lookup_duration":1,"new":"value"}
{"time":"2026-11-26T10:00:04Z","level":"INFO","msg":"check","verdict":"deny","reason":"missing_role","status":403,"route":"required roles=admin","policy":"admins","session":"AAAAAAAAAAAA","method":"GET","host":"shop.example","path":"/admin","request_id":"r4","duration":1,"lookup_duration":1}
time=2026-11-26T10:00:08Z level=INFO msg=check verdict=deny reason=not_found status=401 route=required session=AAAAAAAAAAAA method=GET host=shop.example path=/ request_id=r8 duration=1ns lookup_duration=1ns
{"time":"2026-11-26T10:00:09Z","level":"INFO","msg":"check","verdict":"deny","reason":"not_found","status":401,"session":"AABBBBBBBBBB","method":"GET","host":"shop.example","path":"/","request_id":"r9","duration":1,"lookup_duration":1}
{"time":"2026-11-26T10:00:10Z","level":"INFO","msg":"check","verdict":"deny","reason":"not_found","status":401,"session":"CCCCCCCCCCCC","method":"GET","host":"shop.example","path":"/","request_id":"r10","duration":1,"lookup_duration":1}
[2026-11-26T10:00:10Z] "GET / HTTP/1.1" 401
{"time":"2026-11-26T10:00:10Z","level":"INFO","msg":"upstream","request_id":"r10","took":5}
{"time":"2026-11-26T10:00:11Z","lev
`

const logins = `{"time":"2026-11-26T09:00:00Z","level":"INFO","msg":"session ended","session":"","user_id":"42","sessions":1,"why":"account closed"}
{"time":"2026-11-26T10:00:00Z","level":"INFO","msg":"login","outcome":"success","address":"192.0.2.1","user_id":"42","session":"AAAAAAAAAAAA"}
{"time":"2026-11-26T10:00:00Z","level":"INFO","msg":"login","outcome":"refused","address":"192.0.2.1","account":"AAAAAAAAAAAA"}
{"time":"2026-11-26T10:00:01Z","level":"INFO","msg":"login","outcome":"success","address":"192.0.2.2","user_id":"42","session":"AABBBBBBBBBB"}
{"time":"2026-11-26T10:00:01Z","level":"INFO","msg":"login","outcome":"success","address":"192.0.2.3","user_id":"43","session":"CCCCCCCCCCCC"}
{"time":"2026-11-26T10:00:06Z","level":"INFO","msg":"session ended","by":"root","session":"AABBBBBBBBBB","user_id":"42","sessions":1,"why":"revoke_others"}
{"time":"2026-11-26T10:00:08.5Z","level":"INFO","msg":"session ended","by":"root","session":"","user_id":"42","sessions":1,"why":"revoke_all"}
`

func tell(t *testing.T, q story.Query, paths []string, stdin io.Reader) *story.Story {
	t.Helper()
	log, err := story.Open(paths, stdin)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	s, err := story.Tell(t.Context(), log, q)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// text is a story in a line for each event.
func text(s *story.Story) string {
	var b strings.Builder
	for _, e := range s.Events {
		fmt.Fprintf(&b, "%s %s user=%s session=%s %s%s%s x%d", e.Time.Format("15:04:05"), e.Kind, e.UserID, e.Session, e.Reason, e.Why, e.Message, e.Count)
		if e.Because != nil {
			b.WriteString(" because " + e.Because.Why)
		}
		b.WriteString("\n")
	}
	return b.String()
}

// TestTell: who is asked about decides what is told; all of it, in order of time.
func TestTell(t *testing.T) {
	const (
		inA     = "10:00:00 signed_in user=42 session=AAAAAAAAAAAA  x1\n"
		inB     = "10:00:01 signed_in user=42 session=AABBBBBBBBBB  x1\n"
		allowed = "10:00:02 decided user= session=AAAAAAAAAAAA ok x1\n"
		refused = "10:00:03 decided user= session=AAAAAAAAAAAA missing_role x3\n"
		others  = "10:00:06 ended user=42 session=AABBBBBBBBBB revoke_others x1\n"
		goneA   = "10:00:08 decided user= session=AAAAAAAAAAAA not_found x1 because revoke_others\n"
		all     = "10:00:08 ended user=42 session= revoke_all x1\n"
		goneB   = "10:00:09 decided user= session=AABBBBBBBBBB not_found x1 because revoke_all\n"
		inC     = "10:00:01 signed_in user=43 session=CCCCCCCCCCCC  x1\n"
		goneC   = "10:00:10 decided user= session=CCCCCCCCCCCC not_found x1\n"
	)
	for _, test := range []struct {
		name  string
		query story.Query
		want  string
	}{
		{"a user", story.Query{UserIDs: []string{"42"}}, "09:00:00 ended user=42 session= account closed x1\n" + inA + inB + allowed + refused + others + goneA + all + goneB},
		{"two users of a name", story.Query{UserIDs: []string{"41", "43"}}, inC + goneC},
		{"a session", story.Query{Handle: "AAA"}, inA + allowed + refused + others + goneA + all},
		{"a request", story.Query{RequestID: "r9"}, inB + others + all + goneB},
		{"a request in two programs", story.Query{RequestID: "r10"}, inC + goneC + "10:00:10 other user= session= upstream x1\n"},
		{"since", story.Query{Handle: "AAAAAAAAAAAA", Since: time.Date(2026, 11, 26, 10, 0, 5, 0, time.UTC)}, "10:00:05 decided user= session=AAAAAAAAAAAA missing_role x1\n" + others + goneA + all},
		{"since an end", story.Query{Handle: "AAAAAAAAAAAA", Since: time.Date(2026, 11, 26, 10, 0, 8, 0, time.UTC)}, goneA + all},
		{"an unknown user", story.Query{UserIDs: []string{"4"}}, ""},
		{"an unknown session", story.Query{Handle: "AAAAAAAAAAAB"}, ""},
		{"an unknown request", story.Query{RequestID: "r1"}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := tell(t, test.query, nil, strings.NewReader(checks+logins))
			if got := text(s); got != test.want {
				t.Errorf("told:\n%s\nwant:\n%s", got, test.want)
			}
			if s.Lines != 17 || s.Coatcheck != 14 || s.Unreadable != 1 || s.FirstUnreadable != 10 || !s.Allowed {
				t.Errorf("%+v", s)
			}
		})
	}
}

// TestValues: a folded event has the values of its last line, also those that this
// version does not know, and cause and cure where it is refused.
func TestValues(t *testing.T) {
	s := tell(t, story.Query{RequestID: "r5"}, nil, strings.NewReader(checks))
	if len(s.Events) != 1 || s.Events[0].Cause == "" || s.Events[0].Cure == "" || s.Events[0].Status != 403 || s.Events[0].Policy != "admins" {
		t.Fatalf("%+v", s.Events)
	}
	s = tell(t, story.Query{Handle: "AAAA"}, nil, strings.NewReader(checks))
	folded := s.Events[1]
	want := story.Attributes{{"route", "required roles=admin"}, {"request_id", "r5"}, {"duration", "1ns"}, {"lookup_duration", "1ns"}, {"new", "value"}}
	if !reflect.DeepEqual(folded.Values, want) || folded.Count != 3 || folded.Last.Second() != 5 || folded.Time.Second() != 3 {
		t.Errorf("%+v", folded)
	}
	if allowed := s.Events[0]; allowed.Cause != "" {
		t.Errorf("an allowed request has the cause %q", allowed.Cause)
	}
	object, err := folded.Values.MarshalJSON()
	if err != nil || string(object) != `{"route":"required roles=admin","request_id":"r5","duration":"1ns","lookup_duration":"1ns","new":"value"}` {
		t.Errorf("%v: %s", err, object)
	}
}

// TestLongValues: of a line that is too long, all attributes are told, and the values
// that have no room are cut, which neither shows an ID nor a part of one.
func TestLongValues(t *testing.T) {
	id := sessions.NewID().Reveal()
	for _, before := range []int{16 << 10, 32<<10 - 100} { // where the one and the other cut is, less a part of an ID
		stack := strings.Repeat("- ", before/2-10) + id
		line := fmt.Sprintf(`{"time":"2026-11-26T10:00:00Z","msg":"m","request_id":"r","stack":"%s","next":"value"}`, stack+strings.Repeat(" -", 100))
		s := tell(t, story.Query{RequestID: "r"}, nil, strings.NewReader(line))
		values := s.Events[0].Values
		if len(values) != 3 || values[2] != (story.Attribute{"next", "… (cut)"}) {
			t.Fatalf("%+v", values)
		}
		if got := values[1].Value; len(got) < 16_000 || !strings.HasSuffix(got, "… (cut)") || strings.Contains(got, id[:2]) {
			t.Errorf("the stack ends in %q", got[len(got)-100:])
		}
	}
}

// TestAmbiguous: a handle that begins two is no handle.
func TestAmbiguous(t *testing.T) {
	log, err := story.Open(nil, strings.NewReader(checks))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	if _, err := story.Tell(t.Context(), log, story.Query{Handle: "AA"}); !errors.Is(err, story.ErrAmbiguous) || !strings.Contains(err.Error(), "AAAAAAAAAAAA, AABBBBBBBBBB") {
		t.Error(err)
	}
}

// A pipe cannot be read twice.
type pipe struct{ io.Reader }

// TestOpen: files, packed files, standard input and pipes tell the same, and nothing is
// left of a pipe.
func TestOpen(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	var packed bytes.Buffer
	for _, half := range []string{checks[:300], checks[300:]} { // two members, as after gzip -c >>
		w := gzip.NewWriter(&packed)
		io.WriteString(w, half)
		w.Close()
	}
	first, second, gz := write("checks.log", checks), write("logins.log", logins), write("checks.log.gz", packed.String())
	q := story.Query{UserIDs: []string{"42"}}
	want := text(tell(t, q, []string{first, second}, nil))
	for name, s := range map[string]*story.Story{
		"in another order": tell(t, q, []string{second, first}, nil),
		"packed":           tell(t, q, []string{gz, second}, nil),
		"standard input":   tell(t, q, nil, strings.NewReader(checks+logins)),
		"a pipe":           tell(t, q, nil, pipe{strings.NewReader(checks + logins)}),
		"a pipe and files": tell(t, q, []string{first, "-"}, pipe{strings.NewReader(logins)}),
		"without an end":   tell(t, q, []string{first, "-"}, pipe{strings.NewReader(strings.TrimSuffix(logins, "\n"))}),
	} {
		if got := text(s); got != want {
			t.Errorf("%s told:\n%s\nwant:\n%s", name, got, want)
		}
	}
	if files, err := os.ReadDir(dir); err != nil || len(files) != 3 {
		t.Errorf("%v: %v", err, files)
	}
	if _, err := story.Open([]string{first, filepath.Join(dir, "none")}, nil); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	log, err := story.Open([]string{write("plain.gz", checks)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	if _, err := story.Tell(t.Context(), log, q); !errors.Is(err, gzip.ErrHeader) || !strings.Contains(err.Error(), "plain.gz") {
		t.Error(err)
	}
}

// TestLongLines: a line that is too long is counted and costs nothing else.
func TestLongLines(t *testing.T) {
	long := `{"time":"2026-11-26T10:00:00Z","msg":"check","session":"AAAAAAAAAAAA","x":"` + strings.Repeat("x", 2<<20) + `"}`
	for _, log := range []string{long + "\n" + checks, checks + long, checks + long + "\n"} {
		s := tell(t, story.Query{Handle: "AAA"}, nil, pipe{strings.NewReader(log)})
		if len(s.Events) != 3 || s.Unreadable != 2 || s.Lines != 11 {
			t.Errorf("%d events, %d of %d lines unreadable", len(s.Events), s.Unreadable, s.Lines)
		}
	}
}

// TestNoIDs: a session ID that another program has logged is not told.
func TestNoIDs(t *testing.T) {
	id := sessions.NewID().Reveal()
	line := fmt.Sprintf(`{"time":"2026-11-26T10:00:00Z","msg":"m %[1]s","request_id":"r","user_id":"u%[1]s","x":"a=%[1]s;","session":"%[1]s","%[1]s":"y"}`+"\n", id)
	check := fmt.Sprintf(`{"time":"2026-11-26T10:00:00Z","msg":"check","verdict":"deny","reason":"not_found","request_id":"r","path":"/%[1]s","host":"%[1]s"}`+"\n", id)
	s := tell(t, story.Query{RequestID: "r"}, nil, strings.NewReader(line+check))
	if all := fmt.Sprintf("%+v %+v", s.Events[0], s.Events[1]); len(s.Events) != 2 || strings.Contains(all, id[:20]) {
		t.Error(all)
	}
}

// endless makes a log of n decisions, each of another path, a hundred of which are
// refused, with an end in between.
func endless(n int) io.Reader {
	reader, writer := io.Pipe()
	go func() {
		for i := range n {
			verdict, reason := "allow", "ok"
			if i%100 == 0 {
				verdict, reason = "deny", "missing_role"
			}
			_, err := fmt.Fprintf(writer, `{"time":"2026-11-26T10:00:02Z","level":"INFO","msg":"check","verdict":"%s","reason":"%s","status":0,"route":"required","session":"AAAAAAAAAAAA","method":"GET","host":"shop.example","path":"/%d","request_id":"r%d","duration":1,"lookup_duration":1}`+"\n", verdict, reason, i, i)
			if err != nil {
				break
			}
		}
		io.WriteString(writer, logins)
		writer.Close()
	}()
	return reader
}

// TestLongLog: the memory does not grow with the log, and no event pushes another kind
// out.
func TestLongLog(t *testing.T) {
	n := 25_000
	if os.Getenv("COATCHECK_FULL") != "" {
		n = 10_000_000
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	s := tell(t, story.Query{UserIDs: []string{"42"}}, nil, endless(n))
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 8<<20 {
		t.Errorf("%d KiB more in use after %d lines", grown>>10, n)
	}
	counts := make(map[string]int)
	for _, e := range s.Events {
		counts[string(e.Kind)+e.Verdict]++
	}
	if want := map[string]int{"signed_in": 2, "ended": 3, "decidedallow": 1000, "decideddeny": min(1000, n/100)}; !reflect.DeepEqual(counts, want) {
		t.Errorf("%v, want %v", counts, want)
	}
	left := 0
	for _, l := range s.LeftOut {
		left += l.Count
	}
	if left+1000+min(1000, n/100) != n {
		t.Errorf("%d left out: %v", left, s.LeftOut)
	}
	runtime.KeepAlive(s)
}

// TestHostileLog: a program that writes into the same stream can choose every value of a
// line, and can neither make the story long nor what is held of it large.
func TestHostileLog(t *testing.T) {
	long := strings.Repeat("x.", 10<<10) // more than an event keeps; one word would be hidden as a session ID
	n := 250
	if os.Getenv("COATCHECK_FULL") != "" {
		n = 2000
	}
	hostile := func(form string) io.Reader {
		reader, writer := io.Pipe()
		go func() {
			defer writer.Close()
			for i := range n {
				for _, message := range []string{"check", "login", "session ended"} {
					if _, err := fmt.Fprintf(writer, form, message, i, long); err != nil {
						return
					}
				}
			}
		}()
		return reader
	}
	for name, form := range map[string]string{
		"JSON": `{"time":"2026-11-26T10:00:02Z","msg":"%[1]s","outcome":"success","user_id":"42","session":"AAAA%[2]d%[3]s","verdict":"v%[2]d","reason":"r%[2]d","path":"/%[2]d/%[3]s"}` + "\n",
		"text": `time=2026-11-26T10:00:02Z msg="%[1]s" outcome=success user_id=42 session=AAAA%[2]d verdict=v%[2]d reason=r%[2]d path=/%[2]d other=%[3]s` + "\n",
	} {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		s := tell(t, story.Query{UserIDs: []string{"42"}}, nil, hostile(form))
		runtime.GC()
		runtime.ReadMemStats(&after)
		if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 8<<20 {
			t.Errorf("%s: %d KiB more in use", name, grown>>10)
		}
		if len(s.Events) > 4000 || len(s.LeftOut) > 10 {
			t.Errorf("%s: %d events, and %d kinds left out", name, len(s.Events), len(s.LeftOut))
		}
		runtime.KeepAlive(s)
	}
	escape := `{"time":"2026-11-26T10:00:02Z","msg":"m","session":"AAAA\u001b[2J"}` + "\n" + `{"time":"2026-11-26T10:00:02Z","msg":"m","session":"AAAA1"}` + "\n" + `{"time":"2026-11-26T10:00:02Z","msg":"m","session":"AAAA2"}` + "\n"
	log, err := story.Open(nil, strings.NewReader(escape))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	if _, err := story.Tell(t.Context(), log, story.Query{Handle: "AAAA"}); !errors.Is(err, story.ErrAmbiguous) || strings.Contains(err.Error(), "\x1b") {
		t.Errorf("%q", err)
	}
}
