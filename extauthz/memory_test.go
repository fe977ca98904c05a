package extauthz

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/sessions"
)

// FuzzCut: the texts of a check cut cookies as [sessions.Cookie.Cut] does.
func FuzzCut(f *testing.F) {
	ours := "__Host-session=" + fuzzID.Reveal()
	for _, line := range []string{ours, "a=1; " + ours + "; b=2", "a=1," + ours + ",b=2; c", "__Host-session", "__Host-session =x;" + ours, " \t; a ;" + ours + "; b \t", "a=\xff; " + ours, "a=\x01; " + ours, ",", ""} {
		f.Add(line, "", false, "")
		f.Add(strings.Repeat("x", 3000)+"; "+line, "", false, "")
		f.Add(line+"; "+strings.Repeat("x", 3000), "", false, "")
		f.Add(line, ours+"; x", true, "")
		f.Add(line, "sid=1;;sid=2", false, "sid")
	}
	f.Fuzz(func(t *testing.T, a, b string, joined bool, name string) {
		c := sessions.Cookie{Name: name}
		if c.Validate() != nil {
			return
		}
		h := sessions.CookieHeader{Lines: []string{a, b}, Joined: joined}
		got, found := (&texts{again: true}).cut(c, h)
		want, there := c.Cut(h)
		if found != there || found && got != want {
			t.Fatalf("%q: cut to %q, %v; Cut says %q, %v", h.Lines, got, found, want, there)
		}
	})
}

// TestSimple: eight bytes at a time, every byte at every place is judged as alone.
func TestSimple(t *testing.T) {
	for place := range 19 {
		for c := range 256 {
			line := []byte("_ga=1; \ttheme=da~k")
			line = append(line[:place], append([]byte{byte(c)}, line[place:]...)...)
			for _, joined := range []bool{false, true} {
				want := c == '\t' || ' ' <= c && c <= '~' && (c != ',' || !joined)
				if simple(string(line), joined) != want {
					t.Errorf("%q, joined %v: want %v", line, joined, want)
				}
			}
		}
	}
	if !simple("", true) {
		t.Error("an empty line is not simple")
	}
}

// keeper keeps all that it is given.
type keeper struct {
	mu   sync.Mutex
	ids  []sessions.ID
	ends []context.Context
}

func (k *keeper) Touch(ctx context.Context, id sessions.ID, _ ...string) (*sessions.Session, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.ids, k.ends = append(k.ids, id), append(k.ends, ctx)
	return &sessions.Session{Key: id.Key(), UserID: "u" + id.Reveal()[:8], Roles: []string{"a b", "c"}, ExpiresAt: time.Now().Add(time.Hour)}, nil
}

// TestMemoryIsNotShared: checks at the same time use memory again, and a store that
// keeps IDs and contexts keeps those of its own check.
func TestMemoryIsNotShared(t *testing.T) {
	k := new(keeper)
	server, err := New(k, Config{})
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	var mu sync.Mutex
	asked := make(map[sessions.ID]bool)
	for worker := range 4 {
		all.Go(func() {
			for i := range 300 {
				id := sessions.NewID()
				mu.Lock()
				asked[id] = true
				mu.Unlock()
				line := fmt.Sprintf("w=%d.%d; __Host-session=%s; x=%s", worker, i, id.Reveal(), strings.Repeat("y", i*11))
				m := onWire(1, onWire(4, onWire(2, onWire(2, []byte("GET")), onWire(4, fmt.Appendf(nil, "/%d", i)), onWire(5, []byte("a")), onWire(13, headerOnWire("cookie", line), headerOnWire("x-user-name", "x")))),
					onWire(10, onWire(1, []byte("coatcheck.roles")), onWire(2, []byte("c,d"))))
				data := server.checkWire(t.Context(), m)
				answer := string(data.Materialize())
				data.Free()
				for _, want := range []string{"u" + id.Reveal()[:8], string(id.Key()), fmt.Sprintf("w=%d.%d; x=", worker, i), "a%20b,c", "x-user-name"} {
					if !strings.Contains(answer, want) {
						t.Errorf("%q lacks %q", answer, want)
					}
				}
			}
		})
	}
	all.Wait()
	for i, id := range k.ids {
		if !asked[id] || len(id.Reveal()) != 43 {
			t.Fatalf("an ID that was kept has become %q", id.Reveal())
		}
		select {
		case <-k.ends[i].Done():
		default:
			t.Fatal("a context goes on behind its check")
		}
		if err := k.ends[i].Err(); err == nil {
			t.Fatal("a context that is done has no error")
		}
	}
}

// TestReaderIsNotPrinted: what keeps the message that gRPC has received, to print it later,
// as its traces do, neither finds a session ID in it nor what another check has put there.
func TestReaderIsNotPrinted(t *testing.T) {
	r := newReader(new(wanted))
	r.fromWire(onWire(1, onWire(4, onWire(2, onWire(13, headerOnWire("cookie", "__Host-session="+fuzzID.Reveal()))))))
	for _, verb := range []string{"%v", "%+v", "%s"} {
		if text := fmt.Sprintf(verb, r); strings.Contains(text, fuzzID.Reveal()) {
			t.Errorf("%s prints %s", verb, text)
		}
	}
}

// TestBound: a bound is the context that the standard library would make.
func TestBound(t *testing.T) {
	type key struct{}
	call, hangUp := context.WithCancel(context.WithValue(t.Context(), key{}, "value"))
	hangUp()
	all := bounds{again: true}
	for range 3 * boundsAtOnce {
		b := all.new(call, time.Now().Add(20*time.Millisecond))
		busy := func() bool { return time.Now().After(b.end) } // the machine, which has let the time pass
		if end, ok := b.Deadline(); !ok || end != b.end || b.Err() != nil && !busy() || b.Value(key{}) != "value" || b.made != nil {
			t.Fatalf("%v, %v, %v", end, b.Err(), b.Value(key{}))
		}
		derived, cancel := context.WithCancel(b)
		if (b.made == nil || b.Err() != nil) && !busy() || b.Value(key{}) != "value" {
			t.Fatalf("%v, %v", b.Err(), b.Value(key{}))
		}
		<-derived.Done()
		if derived.Err() != context.DeadlineExceeded || b.Err() != context.DeadlineExceeded || context.Cause(b) != context.DeadlineExceeded { //nolint:errorlint // as they are
			t.Fatalf("%v, %v, %v", derived.Err(), b.Err(), context.Cause(b))
		}
		cancel()
		late := all.new(call, time.Now().Add(-time.Second))
		if late.Err() != context.DeadlineExceeded { //nolint:errorlint // as it is
			t.Fatalf("past its end: %v", late.Err())
		}
		<-late.Done()
		cancelled := all.new(call, time.Now().Add(time.Hour))
		cancelled.cancel()
		<-cancelled.Done()
		if cancelled.Err() != context.Canceled { //nolint:errorlint // as it is
			t.Fatalf("cancelled: %v", cancelled.Err())
		}
		waiting := all.new(call, time.Now().Add(time.Hour))
		done := waiting.Done()
		waiting.cancel()
		<-done
	}
}

// prebuilt is a store whose answer costs nothing.
type prebuilt struct {
	session *sessions.Session
	err     error
}

func (p prebuilt) Touch(context.Context, sessions.ID, ...string) (*sessions.Session, error) {
	return p.session, p.err
}

// TestAllocations: from the bytes that gRPC has received to those that it sends, a check
// allocates nothing of its own; what is left on average is a part of a block. Refusals
// that no person reads make no exception, but a key that Touch does not return, which the
// log and the trace name, is made.
func TestAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector drops what pools keep")
	}
	live := prebuilt{session: &sessions.Session{
		Key: fuzzID.Key(), UserID: "42", Username: "Ada Löwe", Roles: []string{"staff", "admin"}, ExpiresAt: time.Now().Add(time.Hour),
		Fields: map[string]string{"tenant": "a b"},
	}}
	ours := "__Host-session=" + fuzzID.Reveal()
	http := func(parts ...[]byte) []byte {
		return onWire(4, onWire(2, append([][]byte{onWire(2, []byte("GET")), onWire(4, []byte("/api/items?page=2")), onWire(5, []byte("shop.example"))}, parts...)...))
	}
	raw := func(cookie string) []byte {
		return onWire(13, headerOnWire("accept", "*/*"), headerOnWire("x-request-id", "1"), headerOnWire("sec-fetch-mode", "cors"), headerOnWire("cookie", cookie))
	}
	joined := func(cookie string) []byte {
		return append(mapHeaderOnWire("accept", "*/*"), mapHeaderOnWire("cookie", cookie)...)
	}
	extension := func(key, value string) []byte { return onWire(10, onWire(1, []byte(key)), onWire(2, []byte(value))) }
	for name, test := range map[string]struct {
		store   prebuilt
		message []byte
		reason  Reason
		most    float64
	}{
		"live":             {live, onWire(1, http(raw(ours))), OK, 0},
		"other cookies":    {live, onWire(1, http(raw("_ga=GA1.1.1; theme=dark; "+ours+"; a=b"))), OK, 0},
		"8 KB of cookies":  {live, onWire(1, http(raw("filler="+strings.Repeat("x", 8000)+"; "+ours))), OK, 1}, // the line
		"joined":           {live, onWire(1, http(joined("_ga=GA1.1.1; theme=dark; "+ours))), OK, 0},
		"role":             {live, onWire(1, http(raw(ours)), extension("coatcheck.roles", "admin,staff")), OK, 0},
		"public":           {live, onWire(1, http(raw(ours)), extension("coatcheck.session", "none")), Public, 0},
		"optional":         {live, onWire(1, http(raw("a=b")), extension("coatcheck.session", "optional")), NoCookie, 0},
		"no cookie":        {live, onWire(1, http(raw("a=b"))), NoCookie, 0},
		"malformed cookie": {live, onWire(1, http(raw("__Host-session=x"))), MalformedCookie, 0},
		"missing role":     {live, onWire(1, http(raw(ours)), extension("coatcheck.roles", "root")), MissingRole, 0},
		"unknown":          {prebuilt{err: sessions.ErrNotFound}, onWire(1, http(raw(ours))), NotFound, 2},
	} {
		t.Run(name, func(t *testing.T) {
			server, err := New(test.store, Config{LoginURL: "/login", Fields: []FieldHeader{{"tenant", "x-user-tenant"}}})
			if err != nil {
				t.Fatal(err)
			}
			run := checker(t.Context(), server, test.message)
			data := run()
			if answer := data.Materialize(); !strings.Contains(string(answer), string(test.reason)) {
				t.Fatalf("the answer is %q, want %s", answer, test.reason)
			}
			data.Free()
			if n := testing.AllocsPerRun(2000, func() { run().Free() }); n > test.most {
				t.Errorf("%v allocations", n)
			}
		})
	}
}
