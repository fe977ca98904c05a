package sessions

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

const end = "2030-01-02T03:04:05Z"

func TestDecode(t *testing.T) {
	good := Record{FieldVersion: "1", FieldUserID: "42", FieldExpiresAt: end}
	for _, test := range []struct {
		name, field, value string
		want               error
	}{
		{"least", FieldUserID, "42", nil},
		{"no version", FieldVersion, "", ErrBroken},
		{"another version", FieldVersion, "2", ErrLayout},
		{"version no UTF-8", FieldVersion, "\xff", ErrLayout},
		{"no user", FieldUserID, "", ErrBroken},
		{"long user", FieldUserID, strings.Repeat("u", 256), nil},
		{"too long user", FieldUserID, strings.Repeat("u", 257), ErrBroken},
		{"user no UTF-8", FieldUserID, "\xff", ErrBroken},
		{"user with control bytes", FieldUserID, "a\r\nb", nil},
		{"long username", FieldUsername, strings.Repeat("u", 256), nil},
		{"too long username", FieldUsername, strings.Repeat("u", 257), ErrBroken},
		{"no end", FieldExpiresAt, "", ErrBroken},
		{"end without zone", FieldExpiresAt, "2030-01-02T03:04:05", ErrBroken},
		{"end in another zone", FieldExpiresAt, "2030-01-02T03:04:05.678+02:00", nil},
		{"end with text behind", FieldExpiresAt, end + " ", ErrBroken},
		{"bad created_at", FieldCreatedAt, "yesterday", nil},
		{"created_at no UTF-8", FieldCreatedAt, "\xff", nil},
		{"address no UTF-8", FieldAddress, "\xff", nil},
		{"user agent no UTF-8", FieldUserAgent, "\xff", nil},
		{"username no UTF-8", FieldUsername, "\xff", ErrBroken},
		{"roles no UTF-8", FieldRoles, "[\"\xff\"]", ErrBroken},
		{"empty username", FieldUsername, "", nil},
		{"no roles", FieldRoles, "[]", nil},
		{"roles", FieldRoles, ` [ "a" , "\u00e4" ] `, nil},
		{"roles of nothing", FieldRoles, "", ErrBroken},
		{"roles null", FieldRoles, "null", ErrBroken},
		{"roles with null", FieldRoles, `["a",null]`, ErrBroken},
		{"roles with a number", FieldRoles, `[1]`, ErrBroken},
		{"roles nested", FieldRoles, `[["a"]]`, ErrBroken},
		{"roles an object", FieldRoles, `{"a":"b"}`, ErrBroken},
		{"roles with a truth", FieldRoles, `["a",true]`, ErrBroken},
		{"roles with an object", FieldRoles, `[{}]`, ErrBroken},
		{"roles of one text", FieldRoles, `"secret"`, ErrBroken},
		{"roles without quotes", FieldRoles, `[secret]`, ErrBroken},
		{"roles without end", FieldRoles, `["secret"`, ErrBroken},
		{"roles with a comma behind", FieldRoles, `["secret",]`, ErrBroken},
		{"roles joined by commas", FieldRoles, `secret,other`, ErrBroken},
		{"half a character escaped", FieldRoles, `["\ud800"]`, nil},
		{"long by escapes alone", FieldRoles, `["` + strings.Repeat(`\u0061`, 128) + `"]`, nil},
		{"long behind escapes", FieldRoles, `["` + strings.Repeat(`\u00e4`, 65) + `"]`, ErrBroken},
		{"roles twice", FieldRoles, `["a"]["b"]`, ErrBroken},
		{"many roles", FieldRoles, `["r"` + strings.Repeat(`,"r"`, 255) + `]`, nil},
		{"too many roles", FieldRoles, `["r"` + strings.Repeat(`,"r"`, 256) + `]`, ErrBroken},
		{"long role", FieldRoles, `["` + strings.Repeat("r", 128) + `"]`, nil},
		{"too long role", FieldRoles, `["` + strings.Repeat("r", 129) + `"]`, ErrBroken},
		{"application field", "anything", "\x00\xff", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := maps.Clone(good)
			r[test.field] = test.value
			s, err := r.Decode("session:x")
			if !errors.Is(err, test.want) || (err == nil) != (s != nil) {
				t.Errorf("%v, %v; want %v", s, err, test.want)
			}
			if err != nil && len(test.value) > 1 && strings.Contains(err.Error(), test.value) {
				t.Errorf("the error tells the value: %v", err)
			}
		})
	}
}

// TestDecodeLayoutFirst: a newer program's record is not called broken, also if
// it looks broken to us.
func TestDecodeLayoutFirst(t *testing.T) {
	if _, err := (Record{FieldVersion: "2", FieldUserID: "\xff", FieldRoles: "7"}).Decode("session:x"); !errors.Is(err, ErrLayout) {
		t.Error(err)
	}
}

// TestDecodeWhatACheckReads: what a check takes for a session, a listing does,
// too. Otherwise one would live unseen.
func TestDecodeWhatACheckReads(t *testing.T) {
	whole := Record{
		FieldVersion: "1", FieldUserID: "42", FieldExpiresAt: end, FieldUsername: "Ada", FieldRoles: `["a"]`,
		FieldCreatedAt: end, FieldAddress: "192.0.2.1", FieldUserAgent: "x", "tenant": "acme",
	}
	for name := range whole {
		for _, value := range []string{"", "\xff", strings.Repeat("x", 2000), "null"} {
			r, checked := maps.Clone(whole), make(Record)
			r[name] = value
			for _, field := range checkFields {
				checked[field] = r[field]
			}
			_, want := checked.Decode("session:x")
			s, err := r.Decode("session:x")
			if (err == nil) != (want == nil) {
				t.Errorf("%s = %.10q: a check says %v, a listing %v", name, value, want, err)
			}
			if err == nil && (!utf8.ValidString(s.Address) || !utf8.ValidString(s.UserAgent)) {
				t.Errorf("%s = %.10q: %q, %q", name, value, s.Address, s.UserAgent)
			}
		}
	}
}

func TestValidateFieldName(t *testing.T) {
	for name, good := range map[string]bool{
		"tenant": true, "a b": true, "ключ": true, "\ufffd": true, strings.Repeat("n", 128): true,
		"": false, strings.Repeat("n", 129): false, "\xff": false, "a\x00": false, "a\tb": false, "\x7f": false,
		"a\u0085": false, "\u009b31m": false, // a terminal takes them for commands
	} {
		if err := ValidateFieldName(name); (err == nil) != good || errors.Is(err, ErrReserved) {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, name := range reserved {
		if err := ValidateFieldName(name); !errors.Is(err, ErrReserved) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestEncodeDecode(t *testing.T) {
	n := NewSession{
		UserID: "42", Username: "Ada", Roles: []string{"a", "ö", `"`}, Address: "192.0.2.1", UserAgent: "x",
		Fields: map[string]string{"tenant": "acme", "empty": ""},
	}
	created := time.Date(2030, 1, 2, 3, 4, 5, 678_000_000, time.FixedZone("", 7200))
	r, err := n.encode(created, created.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	if r[FieldExpiresAt] != "2030-01-02T02:04:05.678Z" {
		t.Errorf("written is the end %s, not in UTC", r[FieldExpiresAt])
	}
	s, err := r.Decode("session:x")
	if err != nil {
		t.Fatal(err)
	}
	if s.UserID != n.UserID || s.Username != n.Username || strings.Join(s.Roles, " ") != `a ö "` || s.Address != n.Address ||
		s.UserAgent != n.UserAgent || !maps.Equal(s.Fields, n.Fields) || !s.CreatedAt.Equal(created) || !s.ExpiresAt.Equal(created.Add(time.Hour)) {
		t.Errorf("came back as %+v", s)
	}
}

// TestEncodeNamesEveryFault, and none by its value.
func TestEncodeNamesEveryFault(t *testing.T) {
	_, err := NewSession{
		Username: strings.Repeat("secret", 100), Roles: []string{"", "secret\xff"},
		Fields: map[string]string{"user_id": "secret", "a\nb": "secret"},
	}.encode(time.Now(), time.Now())
	for _, want := range []string{"user_id is empty", "username is longer", "a role is empty", "a role is not UTF-8", `"user_id"`, `"a\nb"`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not say that %s: %v", want, err)
		}
	}
	if strings.Contains(err.Error(), "secret") {
		t.Errorf("the error tells a value: %v", err)
	}
}

// FuzzRecord: any record is a session within the limits, or
// broken, or of another layout.
func FuzzRecord(f *testing.F) {
	f.Add("1", "42", "Ada", `["a","b"]`, end, "2020-01-01T00:00:00Z", "tenant", "acme")
	f.Add("2", "", "", "", "", "", "", "")
	f.Add("1", "42", "\xff", "null", "1795429967", "", "roles", "[null]")
	f.Fuzz(func(t *testing.T, v, userID, username, roles, expires, created, name, value string) {
		r := Record{
			FieldVersion: v, FieldUserID: userID, FieldUsername: username, FieldRoles: roles,
			FieldExpiresAt: expires, FieldCreatedAt: created, FieldUserAgent: value,
		}
		r[name] = value // which may be any of them
		s, err := r.Decode("session:x")
		if err != nil {
			layout := r[FieldVersion] != "" && r[FieldVersion] != "1"
			if s != nil || errors.Is(err, ErrLayout) != layout || errors.Is(err, ErrBroken) == layout {
				t.Fatalf("%v, %v", s, err)
			}
			return
		}
		if s.UserID == "" || len(s.UserID) > MaxUserID || len(s.Username) > MaxUserID || len(s.Roles) > MaxRoles || s.ExpiresAt.IsZero() && r[FieldExpiresAt][:4] != "0001" {
			t.Fatalf("%+v", s)
		}
		for _, text := range append([]string{s.UserID, s.Username, s.Address, s.UserAgent}, s.Roles...) {
			if !utf8.ValidString(text) {
				t.Fatalf("%q is not UTF-8", text)
			}
		}
		for _, role := range s.Roles {
			if len(role) > MaxRole {
				t.Fatalf("role of %d bytes", len(role))
			}
		}
	})
}

// FuzzVerify: session verify calls a record refused if, and only if, a check refuses it, and
// says what of it and how to mend it.
func FuzzVerify(f *testing.F) {
	now := time.Date(2026, 11, 27, 10, 0, 0, 0, time.UTC)
	f.Add("1", "42", "Ada", `["a","b"]`, "2026-11-27T20:00:00Z", "2026-11-27T08:00:00Z", "tenant", "acme", int64(60))
	f.Add("1", "42", "Ada", `["a,b",""]`, "2026-11-27T10:00:00Z", "2027-11-27T08:00:00Z", "userId", "acme", int64(7200))
	f.Add("1", "42", "\xff", "null", "2026-11-29T10:00:00Z", "x", "roles", "[null]", int64(-1))
	f.Add("", "", strings.Repeat("a", 257), "[1]", "now", "", "a\x00", "\xff", int64(0))
	f.Add("2", "", "", "", "", "", "user_agent", strings.Repeat("a", 513), int64(1))
	m, err := NewManager(nil, Config{})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, v, userID, username, roles, expires, created, name, value string, seconds int64) {
		r := Record{FieldVersion: v, FieldUserID: userID, FieldUsername: username, FieldRoles: roles, FieldExpiresAt: expires, FieldCreatedAt: created}
		r[name] = value
		ttl := time.Duration(seconds%(1<<20)) * time.Second
		_, refused := m.live("session:x", r, ttl, now)
		for _, listing := range []*Listing{nil, {}, {Listed: true, Score: float64(seconds), TTL: ttl}, {Err: ErrBroken}} {
			found := verification{Session: Session{Key: "session:x"}, record: r, ttl: ttl, now: now, config: m.config, over: true}
			found.all(nil, listing)
			if says := slices.ContainsFunc(found.findings, func(f Finding) bool { return f.Refused }); says != (refused != nil) {
				t.Fatalf("%q: a check says %v, and the findings are %+v", r, refused, found.findings)
			}
			for _, f := range found.findings {
				if f.Field == "" || f.Problem == "" || f.Cure == "" || !printable(f.Field+f.Problem+f.Cure) {
					t.Fatalf("%q: %+v", r, f)
				}
			}
		}
	})
}

// FuzzNew: what a login may create comes back as it was; what it may not is
// refused, and not written and then broken.
func FuzzNew(f *testing.F) {
	f.Add("42", "Ada", "staff", "<\u2028\"\\>", "192.0.2.1", "tenant", "acme")
	f.Add("42", "", "a", "a", "", "empty", "")
	f.Add("\xff", "", "", "", "", "user_id", "")
	f.Fuzz(func(t *testing.T, userID, username, role, other, address, name, value string) {
		n := NewSession{UserID: userID, Username: username, Roles: []string{role, other}, Address: address, Fields: map[string]string{name: value}}
		created := time.Date(2030, 1, 2, 3, 4, 5, 678_000_000, time.UTC)
		r, err := n.encode(created, created.Add(time.Hour))
		if err != nil {
			if r != nil {
				t.Fatalf("refused and made: %v", r)
			}
			return
		}
		s, err := r.Decode("session:x")
		if err != nil {
			t.Fatalf("made and broken: %v", err)
		}
		if s.UserID != userID || s.Username != username || !slices.Equal(s.Roles, n.Roles) || s.Address != address ||
			!maps.Equal(s.Fields, n.Fields) || !s.CreatedAt.Equal(created) || !s.ExpiresAt.Equal(created.Add(time.Hour)) {
			t.Fatalf("%+v came back as %+v", n, s)
		}
	})
}

// TestDecodeForeign: what has nothing of the layout is no record, and no defect.
func TestDecodeForeign(t *testing.T) {
	for _, test := range []struct {
		record Record
		want   error
	}{
		{nil, ErrNotFound},
		{Record{"cart": "3"}, ErrNotFound},
		{Record{FieldUserID: ""}, ErrBroken},
		{Record{FieldRoles: "[]", "cart": "3"}, ErrBroken},
		{Record{FieldVersion: "2"}, ErrLayout},
	} {
		if s, err := test.record.Decode("session:x"); s != nil || !errors.Is(err, test.want) {
			t.Errorf("%v: %v, %v; want %v", test.record, s, err, test.want)
		}
	}
}

// TestTimes: package time takes for RFC 3339 what is not, and other programs would
// read such a record in another way.
func TestTimes(t *testing.T) {
	for text, want := range map[string]bool{
		"2030-01-01T10:00:00Z": true, "2030-01-01T10:00:00.5Z": true, "2030-01-01T10:00:00+02:00": true, "2030-01-01T10:00:00.123456789-23:59": true,
		"2030-01-01T1:00:00Z": false, "2030-01-01T10:00:00,5Z": false, "2030-01-01T10:00:00+24:00": false, "2030-01-01T10:00:00+02:60": false,
		"2030-01-01 10:00:00Z": false, "2030-01-01T10:00:00": false, "2030-13-01T10:00:00Z": false, "2030-01-01": false, "": false, "now": false,
	} {
		record := Record{"v": "1", "user_id": "u", "expires_at": text}
		if _, err := record.Decode(NewID().Key()); (err == nil) != want || err != nil && !errors.Is(err, ErrBroken) {
			t.Errorf("%q: %v", text, err)
		}
	}
}
