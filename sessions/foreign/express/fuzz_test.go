package express_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"math/big"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/foreign/express"
)

// parserOfExpress is package cookie of Node.js in version 0.7, written anew as it is
// described: the first cookie of each name, by indexes into the whole header.
func parserOfExpress(header string) map[string]string {
	found := make(map[string]string)
	isBlank := func(c byte) bool { return c == ' ' || c == '\t' }
	for from := 0; from < len(header); {
		equals := strings.IndexByte(header[from:], '=')
		if equals < 0 {
			break
		}
		equals += from
		end := len(header)
		if semicolon := strings.IndexByte(header[from:], ';'); semicolon >= 0 {
			end = from + semicolon
		}
		if equals > end {
			from = strings.LastIndexByte(header[:equals], ';') + 1
			continue
		}
		low, high := from, equals
		for low < high && isBlank(header[low]) {
			low++
		}
		for high > low && isBlank(header[high-1]) {
			high--
		}
		name := header[low:high]
		for low, high = equals+1, end; low < high && isBlank(header[low]); {
			low++
		}
		for high > low && isBlank(header[high-1]) {
			high--
		}
		value := header[low:high]
		if len(value) > 1 && value[0] == '"' && value[len(value)-1] == '"' {
			value = value[1 : len(value)-1]
		}
		if _, there := found[name]; !there {
			found[name] = component(value)
		}
		from = end + 1
	}
	return found
}

// component is decodeURIComponent, as ECMAScript describes it: by sequences of UTF-8.
func component(s string) string {
	var out strings.Builder
	for i := 0; i < len(s); {
		if s[i] != '%' {
			out.WriteByte(s[i])
			i++
			continue
		}
		first, ok := escapedByte(s[i:])
		if !ok {
			return s
		}
		n := 1
		switch {
		case first >= 0xf0 && first < 0xf8:
			n = 4
		case first >= 0xe0:
			n = 3
		case first >= 0xc0:
			n = 2
		case first >= 0x80:
			return s
		}
		var sequence []byte
		for range n {
			b, ok := escapedByte(s[min(i, len(s)):])
			if !ok {
				return s
			}
			sequence = append(sequence, b)
			i += 3
		}
		if r, size := utf8.DecodeRune(sequence); size != n || r == utf8.RuneError && n == 1 {
			return s
		}
		out.Write(sequence)
	}
	return out.String()
}

func escapedByte(s string) (byte, bool) {
	if len(s) < 3 || s[0] != '%' {
		return 0, false
	}
	n, ok := new(big.Int).SetString(s[1:3], 16)
	if !ok || strings.ContainsAny(s[1:3], "+-_") {
		return 0, false
	}
	return byte(n.Int64()), true
}

// FuzzCookie: the session is the one that Express finds, or there is none. Express's own
// verdict stands in an oracle that shares no code with the reader.
func FuzzCookie(f *testing.F) {
	signed := express.Signed("abc", "s")
	for _, seed := range []string{
		"", "connect.sid=" + signed, "a=b; connect.sid=" + signed + "; c", " connect.sid = \"" + signed + "\" ", "connect.sid=" + signed + ";connect.sid=x",
		"x;connect.sid=" + signed, "connect.sid=%73%3A" + signed[2:], "connect.sid=" + express.Signed("é%", "s"), "=;connect.sid=s:.x", "\xa0connect.sid=x;connect.sid=" + signed,
		"connect.sid=" + express.Signed("a\x00", "s"), "connect.sid=" + signed + "%", "a=1,connect.sid=" + signed,
	} {
		f.Add(seed, false)
		f.Add(seed, true)
	}
	reader := format(f, express.Config{Secrets: []string{"s"}, UserID: "id"})
	f.Fuzz(func(t *testing.T, header string, joined bool) {
		id, err := reader.Read(sessions.CookieHeader{Lines: []string{header}, Joined: joined})
		value, there := parserOfExpress(header)["connect.sid"]
		sid, valid := "", false
		if dot := strings.LastIndexByte(value, '.'); strings.HasPrefix(value, "s:") && dot >= 2 {
			sid = value[2:dot]
			valid = value[2:] == sid+"."+express.Sign(sid, "s")
		}
		switch {
		case err == nil && (!valid || id.Reveal() != sid):
			t.Fatalf("%q is a session of %q, and of %q, %v, in Express", header, id.Reveal(), sid, valid)
		case errors.Is(err, sessions.ErrNoCookie) && there:
			t.Fatalf("%q has a cookie in Express", header)
		case errors.Is(err, sessions.ErrMalformed) && valid && acceptable(header, sid):
			t.Fatalf("%q is a session of %q in Express", header, sid)
		case err != nil && !sessions.Absent(err):
			t.Fatalf("%q: %v", header, err)
		}
		rest, found := reader.Cut(sessions.CookieHeader{Lines: []string{header}, Joined: joined})
		if _, left := parserOfExpress(rest)["connect.sid"]; found && left || found != !errors.Is(err, sessions.ErrNoCookie) {
			t.Fatalf("%q: %q is left, found: %v, %v", header, rest, found, err)
		}
	})
}

// acceptable reports whether an ID is of those that are read at all.
func acceptable(header, sid string) bool {
	_, err := sessions.ForeignID(sid)
	return err == nil && !strings.ContainsFunc(header, func(r rune) bool { return r >= utf8.RuneSelf }) && len(header) < 900
}

// FuzzRecord: a record is read as encoding/json reads the whole of it, of which the last
// value of a key counts, as in JavaScript; what is no JSON, or says nothing of a user, is no
// session.
func FuzzRecord(f *testing.F) {
	for _, r := range recordings(f) {
		f.Add([]byte(r.Value))
	}
	for _, seed := range []string{
		"", "null", "{}", `{"cookie":{},"user":{"userId":42,"username":"\ud800","roles":["a",1]}}`, `{"cookie":{"originalMaxAge":1e999},"user":{"userId":0}}`,
		`{"cookie":{},"user":{"userId":1},"user":{"userId":"2","roles":[]}}`, `{"cookie":{},"__proto__":{"user":{"userId":1}}}`, "{\"cookie\":{},\"user\":{\"userId\":\"\xff\"}}",
		`{"cookie":{},"user":{"userId":-0}}`, `{"cookie":{},"user":{"userId":"","roles":"x"}}`, `{"cookie":{},"user":{"userId":"\ud83d\ude00","tenant":1.50}}`,
	} {
		f.Add([]byte(seed))
	}
	reader := format(f, express.Config{Secrets: []string{"s"}, UserID: "user.userId", Username: "user.username", Roles: "user.roles"})
	f.Fuzz(func(t *testing.T, value []byte) {
		before := bytes.Clone(value)
		found, err := reader.Decode(sessions.ForeignRecord{Value: value}, []string{"user.tenant", "flag"})
		reader.Fields(sessions.ForeignRecord{Value: value})
		if !bytes.Equal(before, value) {
			t.Fatal("the record was changed")
		}
		if err != nil {
			if !sessions.Absent(err) {
				t.Fatalf("%q: %v", value, err)
			}
			if plain(value) {
				t.Fatalf("%q: %v, and it is a plain session", value, err)
			}
			return
		}
		user, ok := whole(value)["user"].(map[string]any)
		if !ok || !utf8.Valid(value) {
			t.Fatalf("%q: a session without a user", value)
		}
		s := found.Session
		if s.UserID == "" || s.UserID != text(user["userId"]) || s.Username != text(user["username"]) || !slices.Equal(s.Roles, texts(user["roles"])) {
			t.Fatalf("%q: %q, %q, %q", value, s.UserID, s.Username, s.Roles)
		}
		if tenant, ok := s.Fields["user.tenant"]; ok && tenant != text(user["tenant"]) {
			t.Fatalf("%q: %q", value, tenant)
		}
		if flag, ok := s.Fields["flag"]; ok && flag != text(whole(value)["flag"]) {
			t.Fatalf("%q: %q", value, flag)
		}
		if found.Lifetime < 0 {
			t.Fatalf("%q: %v", value, found.Lifetime)
		}
	})
}

// FuzzFields: what show prints of a record under a name, a header gets that names it.
func FuzzFields(f *testing.F) {
	for _, r := range recordings(f) {
		f.Add([]byte(r.Value))
	}
	for _, seed := range []string{
		`{"cookie":{},"user":{"userId":1},"a.b":{"c\\\\":"d"},"a":{"b":{"c":true}}}`, `{"cookie":{},"":"x","\ufffd":1,"` + strings.Repeat("a", 300) + `":2}`, `{"cookie":{},"a":{"a":1},"a":{"b":2},"a.a":3}`, `{"cookie":{},"\ud800":1,"x\\.":-0}`,
		strings.Repeat(`{"a":`, 20) + "1" + strings.Repeat("}", 20),
	} {
		f.Add([]byte(seed))
	}
	reader := format(f, express.Config{Secrets: []string{"s"}, UserID: "user.userId"})
	f.Fuzz(func(t *testing.T, value []byte) {
		record := sessions.ForeignRecord{Value: value}
		fields := reader.Fields(record)
		names := slices.Sorted(maps.Keys(fields))
		for _, name := range names {
			if err := reader.ValidateField(name); err != nil {
				t.Fatalf("%q: a field is called %q: %v", value, name, err)
			}
		}
		found, err := reader.Decode(record, names)
		if err == nil && len(names) > 0 && !maps.Equal(found.Session.Fields, fields) {
			t.Fatalf("%q: %q, and by their names %q", value, fields, found.Session.Fields)
		}
	})
}

// FuzzPath: a path is names with dots between them, as a regular expression has it, and is
// written as it is read.
func FuzzPath(f *testing.F) {
	for _, seed := range []string{"", "user.userId", "a..b", ".", `a\.b.c`, `a\\.b`, `\`, `a\`, `\a`, "\xff", "\ufffd", strings.Repeat("a.", 15) + "a", strings.Repeat("a.", 16) + "a", strings.Repeat("a", 257), "é.\x00"} {
		f.Add(seed)
	}
	form := regexp.MustCompile(`\A(?s:[^\\.]|\\[\\.])+(?:\.(?s:[^\\.]|\\[\\.])+){0,15}\z`)
	f.Fuzz(func(t *testing.T, text string) {
		names, again, err := express.ParsePath(text)
		want := form.MatchString(text) && len(text) <= 256 && utf8.ValidString(text) && !strings.Contains(text, "\ufffd")
		if want != (err == nil) || err == nil && again != text {
			t.Fatalf("%q: %q, %q, %v", text, names, again, err)
		}
		if err == nil && strings.Join(names, "") != strings.NewReplacer(`\\`, `\`, `\.`, ".", ".", "").Replace(text) {
			t.Fatalf("%q: %q", text, names)
		}
	})
}

// FuzzSecrets: secrets are the lines of a file that are not empty, without their ends, and no
// error repeats one.
func FuzzSecrets(f *testing.F) {
	for _, seed := range []string{"", "\n", "keyboard cat\n", "new\r\nold\r\n", " a \n\n\tb", "\xef\xbb\xbfa", "\xff\xfea\x00", "a\rb", "a\r\r\n", strings.Repeat("a\n", 17), strings.Repeat("a", 4097), "\x00\xff"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		secrets, err := express.ReadSecrets(text)
		var want []string
		for part := range strings.SplitSeq(string(text), "\n") {
			if part = strings.TrimRight(part, "\r"); part != "" {
				want = append(want, part)
			}
		}
		marked := bytes.HasPrefix(text, []byte("\xef\xbb\xbf")) || bytes.HasPrefix(text, []byte("\xff\xfe")) || bytes.HasPrefix(text, []byte("\xfe\xff"))
		sound := !marked && len(want) > 0 && len(want) <= 16 && !slices.ContainsFunc(want, func(secret string) bool { return len(secret) > 4<<10 })
		if sound != (err == nil) || err == nil && !slices.Equal(secrets, want) {
			t.Fatalf("%q: %q, %v", text, secrets, err)
		}
		if err == nil {
			return
		}
		for _, secret := range want {
			if len(secret) > 20 && strings.Contains(err.Error(), secret) {
				t.Fatalf("%q: %v", text, err)
			}
		}
	})
}

// whole is the object that a text is, or nil.
func whole(value []byte) map[string]any {
	decoder := json.NewDecoder(bytes.NewReader(value))
	decoder.UseNumber()
	var record map[string]any
	if decoder.Decode(&record) != nil {
		return nil
	}
	return record
}

// text is a scalar as text.
func text(value any) string {
	switch value := value.(type) {
	case string:
		return value
	case json.Number:
		return value.String()
	case bool:
		if value {
			return "true"
		}
		return "false"
	}
	return ""
}

func texts(value any) (all []string) {
	list, _ := value.([]any)
	for _, v := range list {
		all = append(all, v.(string))
	}
	return all
}

// plain reports whether a record is so simple that it must be a session.
func plain(value []byte) bool {
	record := whole(value)
	if !json.Valid(value) || !utf8.Valid(value) || bytes.ContainsRune(value, '\\') || bytes.Count(value, []byte("{"))+bytes.Count(value, []byte("[")) > 60 {
		return false
	}
	cookie, ok := record["cookie"].(map[string]any)
	user, signedIn := record["user"].(map[string]any)
	id, isText := user["userId"].(string)
	return ok && cookie["originalMaxAge"] == nil && signedIn && isText && id != "" && user["username"] == nil && user["roles"] == nil
}
