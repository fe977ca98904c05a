package pgusers

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
)

// FuzzRow: a row is refused with an error that says nothing of its values, or it is an
// account with what stands in the columns, as encoding/json and a plain reading of arrays
// have it.
func FuzzRow(f *testing.F) {
	for _, roles := range []string{`{staff,admin}`, `{}`, `{NULL}`, `{"NULL",null}`, `{"a \"b\" {c}, \\d"}`, `{{a,b},{c,d}}`, `[0:1]={a,b}`, `["staff",null]`, `[]`, `null`, `[1]`, `{"a":1}`, `{`, ``, `{a,}`, `{ a , b }`, `{"a"b}`} {
		f.Add("42", "Ada", "$2a$05$x  ", roles, `{"tenant":"acme"}`, true)
		f.Add("42", "Ada", "", roles, `{"floor":3,"none":null,"list":[1, 2],"a":"\ud800"}`, false)
	}
	f.Add("", "x", "y", "{}", "[]", false)
	f.Fuzz(func(t *testing.T, id, username, hash, roles, attributes string, isJSON bool) {
		types := map[bool]uint32{false: pgtype.TextArrayOID, true: pgtype.JSONBOID}
		fields := []pgconn.FieldDescription{
			{Name: "attributes", DataTypeOID: pgtype.JSONBOID}, {Name: "roles", DataTypeOID: types[isJSON]}, {Name: "hash"}, {Name: "id"}, {Name: "username"},
		}
		a, err := decode(fields, [][]byte{[]byte(attributes), []byte(roles), []byte(hash), []byte(id), []byte(username)})
		wantRoles, sure := rolesPlainly(roles, isJSON)
		var members map[string]any
		sound := sure
		for _, text := range []string{id, username, hash, roles, attributes} {
			sound = sound && utf8.ValidString(text)
		}
		isObject := json.Unmarshal([]byte(attributes), &members) == nil
		if err != nil {
			known := []string{"the id or the username of a row is NULL or empty", errRoles.Error(), "the column attributes is not a JSON object"}
			if !slices.Contains(known, err.Error()) && !strings.HasSuffix(err.Error(), " of a row is not UTF-8") || a.ID != "" || a.Roles != nil || id != "" && username != "" && sound && isObject {
				t.Fatalf("%q %q %q %q: %+v, %v", id, username, roles, attributes, a, err)
			}
			return
		}
		if id == "" || username == "" || a.ID != id || a.Username != username || strings.TrimRight(hash, " ") != a.Hash {
			t.Fatalf("%q %q %q: %+v", id, username, hash, a)
		}
		if sure && (!sound || !slices.Equal(a.Roles, wantRoles)) {
			t.Fatalf("%q: %q, want %q", roles, a.Roles, wantRoles)
		}
		if !isObject {
			t.Fatalf("%q is a JSON object", attributes)
		}
		for name, member := range members {
			got, there := a.Attributes[name]
			switch want := member.(type) {
			case nil:
				if there {
					t.Fatalf("%q: %s is %q", attributes, name, got)
				}
			case string:
				if got != want {
					t.Fatalf("%q: %s is %q", attributes, name, got)
				}
			default:
				if !json.Valid([]byte(got)) || !strings.Contains(attributes, got) {
					t.Fatalf("%q: %s is %q", attributes, name, got)
				}
			}
		}
		if len(a.Attributes) > len(members) {
			t.Fatalf("%q: %q", attributes, a.Attributes)
		}
	})
}

// rolesPlainly are the roles of a column in one of the forms that PostgreSQL writes; sure is
// false for any other text.
func rolesPlainly(text string, isJSON bool) (roles []string, sure bool) {
	if isJSON {
		var list []any
		if json.Unmarshal([]byte(text), &list) != nil {
			return nil, false
		}
		for _, role := range list {
			switch role := role.(type) {
			case nil:
			case string:
				roles = append(roles, role)
			default:
				return nil, false
			}
		}
		return roles, true
	}
	inside, isArray := strings.CutPrefix(text, "{")
	if inside, sure = strings.CutSuffix(inside, "}"); !isArray || !sure || inside == "" {
		return nil, text == "{}"
	}
	for inside != "" {
		role, rest, ok := elementPlainly(inside)
		if !ok {
			return nil, false
		}
		if role != nil {
			roles = append(roles, *role)
		}
		if inside, ok = strings.CutPrefix(rest, ","); ok == (inside == "") {
			return nil, false
		}
	}
	return roles, true
}

// elementPlainly is the first element of an array's inside; nil: NULL.
func elementPlainly(text string) (element *string, rest string, ok bool) {
	quoted, isQuoted := strings.CutPrefix(text, `"`)
	if !isQuoted {
		end := strings.IndexByte(text+",", ',')
		name := text[:end]
		if name == "" || strings.ContainsAny(name, "\"\\{} \t\n\v\f\r") {
			return nil, "", false
		}
		if strings.EqualFold(name, "NULL") {
			return nil, text[end:], name == "NULL"
		}
		return &name, text[end:], true
	}
	name := ""
	for i := 0; i < len(quoted); i++ {
		switch quoted[i] {
		case '"':
			return &name, quoted[i+1:], true
		case '\\':
			if i++; i == len(quoted) {
				return nil, "", false
			}
		}
		name += quoted[i : i+1]
	}
	return nil, "", false
}

// FuzzTyped: what was typed for a username, which may be a password, is in no error of
// PostgreSQL's that is logged, but for those about the server.
func FuzzTyped(f *testing.F) {
	f.Add("22P02", `invalid input syntax for type bigint: "hunter2"`, "hunter2")
	f.Add("42P01", `relation "hunter2" does not exist`, "hunter2")
	f.Add("42704", `type "HUNTER2" does not exist`, "hunter2")
	f.Add("P0001", "no", "hunter2")
	f.Add("53300", "sorry, too many clients already", "clients")
	f.Add("4", "hunter2", "hunter2")
	f.Fuzz(func(t *testing.T, code, message, typed string) {
		refused := &pgconn.PgError{Severity: "ERROR", Code: code, Message: message}
		err := untyped(refused, typed)
		if !errors.Is(err, refused) {
			t.Fatalf("%v is no longer the error", err)
		}
		if isAboutServer(refused) || !strings.Contains(message, typed) || strings.Contains(untypedError{&pgconn.PgError{Severity: "ERROR", Code: code}}.Error(), typed) {
			return
		}
		if strings.Contains(err.Error(), typed) {
			t.Fatalf("%q is in %q", typed, err)
		}
	})
}

// FuzzDSN: no error about a DSN repeats a password that stands in it, in any form.
func FuzzDSN(f *testing.F) {
	for _, seed := range [][2]string{
		{"postgres://coatcheck:", "@db/users?sslmode=verify-full&sslrootcert=/nowhere"}, {"postgres://coatcheck:", "@db:port/users"}, {"host=db password=", " sslcert=/nowhere"}, {"host=db password='", "' port=x"},
		{"password = ", " target_session_attrs=none"}, {"postgres://db/?password=", "&connect_timeout=-1"}, {"PASSWORD=", " sslmode=x"}, {"password='\\'", "' sslkey=a"}, {"postgresql://a,b:1:", "@"}, {"sslpassword=", " sslkey=/nowhere sslcert=/nowhere"},
	} {
		f.Add(seed[0], seed[1])
	}
	const secret = "canary7f3a9"
	f.Fuzz(func(t *testing.T, before, after string) {
		if strings.Contains(before+after, "service") { // which reads files of the user
			return
		}
		source, err := New(Config{DSN: before + secret + after, Query: "SELECT"})
		if err == nil {
			source.Close()
			return
		}
		isPassword := strings.HasSuffix(before, "password=") || strings.HasSuffix(before, ":") && strings.Contains(before, "://") && strings.HasPrefix(after, "@")
		if isPassword && strings.Contains(err.Error(), secret) {
			t.Fatalf("%q and %q: %v", before, after, err)
		}
	})
}
