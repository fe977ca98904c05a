// Package foreigntest holds a [sessions.Format] to every clause of its contract, and to what
// package foreign promises of it on a real Redis:
//
//	foreigntest.Run(t, foreigntest.Subject{
//		Format:    func() sessions.Format { return format },
//		SignedIn:  []foreigntest.Sample{{Cookie: "connect.sid=s%3A...", Key: "sess:...", Value: `{"cookie":...}`, Session: want}},
//		Anonymous: []foreigntest.Sample{...},
//		Broken:    []string{"", "null"},
//	})
//
// The samples are recorded from the framework itself, so that a format that is wrong about
// it fails. A new format needs its folder, these samples and this call.
package foreigntest

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/sessions"
)

// A Subject is a format with what its framework writes.
type Subject struct {
	// Format returns the format that reads the samples. It is called for each test.
	Format func() sessions.Format
	// SignedIn are sessions of users, at least two, and Anonymous those of no user.
	SignedIn, Anonymous []Sample
	// Broken are values that the framework does not write.
	Broken []string
	// Unsigned says that any well-formed value of the cookie names a session, since the
	// framework signs none.
	Unsigned bool
}

// A Sample is one session as its framework made it.
type Sample struct {
	// Cookie is what the browser sends: name=value.
	Cookie string
	// Key is the name of the record in Redis.
	Key string
	// Value is the record, of a string, and Hash of a hash.
	Value string
	Hash  map[string]string
	// TTL is how long the framework had the record last. Zero: an hour.
	TTL time.Duration
	// Session is what is to be read, with the fields asked for, of which the names are
	// those here.
	Session sessions.Session
	// Lifetime is how long the framework has the record last after a use. Zero: a use moves
	// no end.
	Lifetime time.Duration
}

func (s Sample) ttl() time.Duration {
	if s.TTL == 0 {
		return time.Hour
	}
	return s.TTL
}

func (s Sample) record() sessions.ForeignRecord {
	return sessions.ForeignRecord{Value: []byte(s.Value), Hash: s.Hash, TTL: s.ttl()}
}

// names are the fields of the sample.
func (s Sample) names() (names []string) {
	for name := range s.Session.Fields {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Run runs the suite. It starts a Redis.
func Run(t *testing.T, s Subject) {
	t.Helper()
	RunAlone(t, s)
	runOnRedis(t, s)
}

// RunAlone runs the part of the suite that needs no Redis: for further samples, once Run has
// passed for some.
func RunAlone(t *testing.T, s Subject) {
	t.Helper()
	for name, test := range map[string]func(*testing.T, Subject){
		"Cookie": testCookie, "Ambiguous": testAmbiguous, "Malformed": testMalformed, "Cut": testCut, "Secret": testSecret,
		"Decode": testDecode, "Anonymous": testAnonymous, "Broken": testBroken, "Damaged": testDamaged,
	} {
		t.Run(name, func(t *testing.T) { test(t, s) })
	}
}

func lines(lines ...string) sessions.CookieHeader { return sessions.CookieHeader{Lines: lines} }

func (s Subject) samples() []Sample { return slices.Concat(s.SignedIn, s.Anonymous) }

// testCookie: the cookie names the record, among others and with blanks around it.
func testCookie(t *testing.T, s Subject) {
	f := s.Format()
	for _, sample := range s.samples() {
		for _, line := range []string{sample.Cookie, "a=b; " + sample.Cookie + ";c=d", ";;\t" + sample.Cookie + "  ;"} {
			id, err := f.Read(lines("x=y", line))
			if err != nil || f.Place().Prefix+id.Reveal() != sample.Key {
				t.Errorf("%s: %v", sample.Key, err)
			}
		}
		_, value, _ := strings.Cut(sample.Cookie, "=")
		if id, err := f.Parse(value); err != nil || f.Place().Prefix+id.Reveal() != sample.Key {
			t.Errorf("parsing the value of %s: %v", sample.Key, err)
		}
	}
	for _, h := range []sessions.CookieHeader{{}, lines(""), lines("a=b"), lines(name(s.SignedIn[0])), lines("\xfa" + s.SignedIn[0].Cookie), lines("x" + s.SignedIn[0].Cookie)} {
		if _, err := f.Read(h); !errors.Is(err, sessions.ErrNoCookie) {
			t.Errorf("%q: %v", h.Lines, err)
		}
	}
}

func name(s Sample) string {
	name, _, _ := strings.Cut(s.Cookie, "=")
	return name
}

// spaced is the cookie with blanks around its name.
func spaced(s Sample) string {
	_, value, _ := strings.Cut(s.Cookie, "=")
	return " " + name(s) + " \t= " + value
}

// testAmbiguous: two cookies are refused, in any spelling that a parser takes for ours.
func testAmbiguous(t *testing.T, s Subject) {
	f := s.Format()
	one, two := s.SignedIn[0], s.SignedIn[1]
	for _, h := range []sessions.CookieHeader{
		lines(one.Cookie + "; " + one.Cookie), lines(one.Cookie, two.Cookie), lines(one.Cookie + "; " + name(one) + "="),
		lines(one.Cookie, spaced(two)), lines("\xa0"+two.Cookie, one.Cookie), lines("\xa0" + one.Cookie), lines(name(one) + "\xa0=x"), lines(name(one) + "=x; " + one.Cookie),
		{Lines: []string{"!" + two.Cookie + "; " + one.Cookie}, Joined: true}, {Lines: []string{one.Cookie + "; " + name(two) + " !=x"}, Joined: true}, {Lines: []string{"a=b,!" + one.Cookie}, Joined: true},
		{Lines: []string{"a=b," + one.Cookie}, Joined: true}, {Lines: []string{one.Cookie + "," + two.Cookie}, Joined: true},
	} {
		if _, err := f.Read(h); !errors.Is(err, sessions.ErrAmbiguousCookie) {
			t.Errorf("%q: %v", h.Lines, err)
		}
	}
}

// testMalformed: no other value than the framework's names a session of another user.
func testMalformed(t *testing.T, s Subject) {
	f := s.Format()
	for _, sample := range s.SignedIn {
		for i := len(name(sample)) + 1; i < len(sample.Cookie); i++ {
			for _, with := range []string{"", "A", "a", "%", "%00", "=", ".", "\x00", "\xff", "é", "\""} {
				changed := sample.Cookie[:i] + with + sample.Cookie[i+1:]
				id, err := f.Read(lines(changed))
				switch {
				case errors.Is(err, sessions.ErrMalformed):
				case err != nil:
					t.Errorf("%q: %v", changed, err)
				case !s.Unsigned && f.Place().Prefix+id.Reveal() != sample.Key:
					t.Errorf("%q names another session", changed)
				}
			}
		}
		for _, value := range []string{"", ".", "s:", "s:.", strings.Repeat("x", 8<<10), sample.Cookie[len(name(sample))+1:] + "="} {
			if _, err := f.Read(lines(name(sample) + "=" + value)); !errors.Is(err, sessions.ErrMalformed) && !s.Unsigned {
				t.Errorf("%.20q: %v", value, err)
			}
		}
	}
}

// testCut: after a cut no parser finds the cookie, and the others are there.
func testCut(t *testing.T, s Subject) {
	f := s.Format()
	for _, sample := range s.SignedIn {
		for _, h := range []sessions.CookieHeader{
			lines("a=b; " + sample.Cookie + "; c=d"), lines("a=b", spaced(sample), "c=d"), lines(sample.Cookie + "; a=b; " + sample.Cookie + "; c=d"),
			{Lines: []string{"a=b," + sample.Cookie + "; c=d"}, Joined: true}, {Lines: []string{"a=b; !" + sample.Cookie + "; c=d"}, Joined: true},
		} {
			rest, found := f.Cut(h)
			if _, err := f.Read(lines(rest)); !found || rest != "a=b; c=d" || !errors.Is(err, sessions.ErrNoCookie) {
				t.Errorf("%q: %q, %v", h.Lines, rest, err)
			}
		}
	}
	if rest, found := f.Cut(lines("a=b")); found || rest != "a=b" {
		t.Errorf("a cookie that is not there: %q, %v", rest, found)
	}
}

// testSecret: no form in which Go prints an ID has the ID, and its handle has no part of it.
func testSecret(t *testing.T, s Subject) {
	f := s.Format()
	for _, sample := range s.SignedIn {
		id, err := f.Read(lines(sample.Cookie))
		if err != nil {
			t.Fatal(err)
		}
		var log strings.Builder
		slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "id", id)
		for _, text := range []string{fmt.Sprint(id), fmt.Sprintf("%+v %#v %q %x", id, id, id, id), log.String(), id.Key().Handle(), string(id.Key())} {
			if strings.Contains(text, id.Reveal()) || len(id.Key().Handle()) != 12 {
				t.Errorf("it is shown: %s", text)
			}
		}
	}
}

// testDecode: a record becomes the session, with the fields that are asked for.
func testDecode(t *testing.T, s Subject) {
	f := s.Format()
	for _, sample := range s.SignedIn {
		record := sample.record()
		found, err := f.Decode(record, append(sample.names(), "no.such.field", ""))
		if err != nil {
			t.Errorf("%s: %v", sample.Key, err)
			continue
		}
		differ(t, sample, found.Session)
		if found.Lifetime != sample.Lifetime {
			t.Errorf("%s: a use has it last %v, want %v", sample.Key, found.Lifetime, sample.Lifetime)
		}
		if string(record.Value) != sample.Value {
			t.Errorf("%s: the record was changed", sample.Key)
		}
		all := f.Fields(record)
		for name, value := range sample.Session.Fields {
			if all[name] != value {
				t.Errorf("%s: of all fields %s is %q, want %q", sample.Key, name, all[name], value)
			}
		}
		for name := range all {
			if err := f.ValidateField(name); err != nil {
				t.Errorf("%s: a field that is there is refused: %v", sample.Key, err)
			}
		}
	}
}

// differ reports where a session is another one than the sample's.
func differ(t *testing.T, sample Sample, got *sessions.Session) {
	t.Helper()
	want := sample.Session
	if got.UserID != want.UserID || got.Username != want.Username || !slices.Equal(got.Roles, want.Roles) {
		t.Errorf("%s: user %q, %q, roles %q", sample.Key, got.UserID, got.Username, got.Roles)
	}
	if len(got.Fields) != len(want.Fields) {
		t.Errorf("%s: fields %q, want %q", sample.Key, got.Fields, want.Fields)
	}
	for name, value := range want.Fields {
		if got.Fields[name] != value {
			t.Errorf("%s: field %s is %q, want %q", sample.Key, name, got.Fields[name], value)
		}
	}
}

// testAnonymous: a key that exists is not a login.
func testAnonymous(t *testing.T, s Subject) {
	f := s.Format()
	for _, sample := range s.Anonymous {
		if _, err := f.Decode(sample.record(), nil); !errors.Is(err, sessions.ErrNotFound) {
			t.Errorf("%s: %v", sample.Key, err)
		}
	}
}

// testBroken: what the framework does not write is broken, and no error repeats it.
func testBroken(t *testing.T, s Subject) {
	f := s.Format()
	for _, value := range s.Broken {
		_, err := f.Decode(sessions.ForeignRecord{Value: []byte(value), TTL: time.Hour}, nil)
		if !errors.Is(err, sessions.ErrBroken) {
			t.Errorf("%.60q: %v", value, err)
		}
		if err != nil && len(value) > 8 && strings.Contains(err.Error(), value[2:len(value)-2]) {
			t.Errorf("%.60q: the error repeats it: %v", value, err)
		}
	}
}

// testDamaged: of a record that is cut off, or in which one byte is another one, no error
// is an outage, and no panic comes.
func testDamaged(t *testing.T, s Subject) {
	f := s.Format()
	for _, sample := range s.SignedIn {
		for i := range sample.Value {
			for _, value := range []string{sample.Value[:i], sample.Value[:i] + "\x00" + sample.Value[i+1:], sample.Value[:i] + "\"" + sample.Value[i+1:], sample.Value[:i] + "\\" + sample.Value[i:]} {
				_, err := f.Decode(sessions.ForeignRecord{Value: []byte(value)}, sample.names())
				if err != nil && !sessions.Absent(err) {
					t.Fatalf("%q: %v", value, err)
				}
			}
		}
	}
}
