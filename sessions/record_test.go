package sessions

import (
	"errors"
	"maps"
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
		{"created_at no UTF-8", FieldCreatedAt, "\xff", ErrBroken},
		{"no roles", FieldRoles, "[]", nil},
		{"roles", FieldRoles, ` [ "a" , "\u00e4" ] `, nil},
		{"roles of nothing", FieldRoles, "", ErrBroken},
		{"roles null", FieldRoles, "null", ErrBroken},
		{"roles with null", FieldRoles, `["a",null]`, ErrBroken},
		{"roles with a number", FieldRoles, `[1]`, ErrBroken},
		{"roles nested", FieldRoles, `[["a"]]`, ErrBroken},
		{"roles an object", FieldRoles, `{"a":"b"}`, ErrBroken},
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
		})
	}
}

// TestDecodeLayoutFirst: a newer program's record is not called broken, whatever
// it looks like to us.
func TestDecodeLayoutFirst(t *testing.T) {
	if _, err := (Record{FieldVersion: "2", FieldUserID: "\xff", FieldRoles: "7"}).Decode("session:x"); !errors.Is(err, ErrLayout) {
		t.Error(err)
	}
}

func TestEncodeDecode(t *testing.T) {
	n := New{
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
	_, err := New{
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

// FuzzRecord: whatever stands in a record, it is a session within the limits, or
// broken, or of another layout.
func FuzzRecord(f *testing.F) {
	f.Add("1", "42", "Ada", `["a","b"]`, end, "2020-01-01T00:00:00Z", "tenant", "acme")
	f.Add("2", "", "", "", "", "", "", "")
	f.Add("1", "42", "\xff", "null", "1795429967", "", "roles", "[null]")
	f.Fuzz(func(t *testing.T, v, userID, username, roles, expires, created, name, value string) {
		r := Record{
			FieldVersion: v, FieldUserID: userID, FieldUsername: username, FieldRoles: roles,
			FieldExpiresAt: expires, FieldCreatedAt: created, name: value,
		}
		s, err := r.Decode("session:x")
		if err != nil {
			if s != nil || !errors.Is(err, ErrBroken) && !errors.Is(err, ErrLayout) {
				t.Fatalf("%v, %v", s, err)
			}
			return
		}
		if s.UserID == "" || len(s.UserID) > MaxUserID || len(s.Username) > MaxUserID || len(s.Roles) > MaxRoles || s.ExpiresAt.IsZero() && r[FieldExpiresAt][:4] != "0001" {
			t.Fatalf("%+v", s)
		}
		for _, text := range append([]string{s.UserID, s.Username}, s.Roles...) {
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
