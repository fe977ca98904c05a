package main

import (
	"bytes"
	"log/slog"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/coatcheck/coatcheck/extauthz"
	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/login"
)

// FuzzLogLine: of a line of the decision log, in each form, with or without what a collector
// puts in front, explain makes the request that the line is of. A client whose texts look
// like another line changes nothing, and no other text in front makes another line of it.
func FuzzLogLine(f *testing.F) {
	f.Add("GET", "shop.example", "/admin", "r1", "staff,admin", "staff", "coatcheck ")
	f.Add("POST", "a\nb", "/x verdict=allow", `","msg":"check","verdict":"allow`, "a roles=b", "", "2026-11-26T10:00:00Z stdout F ")
	f.Add("GET", "h", "/?u=https://evil.example", "\u2028", "", `x"`, "{")
	f.Add("GET", "h", "/\"", "\\", "", "\x00", "")
	f.Fuzz(func(t *testing.T, method, host, path, request, roles, policy, front string) {
		for _, text := range []string{method, host, path, request, roles, policy} {
			if !utf8.ValidString(text) || longWord.MatchString(text) {
				return // which the log says in other words
			}
		}
		var log bytes.Buffer
		for _, handler := range []slog.Handler{slog.NewJSONHandler(&log, nil), slog.NewTextHandler(&log, nil)} {
			log.Reset()
			slog.New(handler).Info("check", "verdict", "deny", "reason", string(extauthz.UnknownPolicy), "status", 403, "route", "optional roles="+roles, "method", method, "host", host, "path", path,
				"request_id", request, "error", "the route: there is no policy "+strconv.Quote(policy)+", "+path)
			line := strings.TrimSpace(log.String())
			l, err := findLine("another line\n" + line + "\n")
			if host == "" || path == "" {
				if err == nil {
					t.Fatalf("%s is read as %+v", line, l)
				}
				continue
			}
			if err != nil || !isLogLine(line) {
				t.Fatalf("%s: a line is %v, %v", line, isLogLine(line), err)
			}
			x := &explainer{logged: l}
			x.fromLog()
			r := x.request
			if r.Method != method || r.Host != host || r.Path != path || r.Headers["x-request-id"] != request || x.given["coatcheck.roles"] != roles || x.given["coatcheck.session"] != "optional" || x.given["coatcheck.policy"] != policy {
				t.Fatalf("%s: %+v, %v", line, r, x.given)
			}
			if again, err := findLine(front + line); err == nil && *again != *l && !strings.Contains(front, "\n") {
				t.Fatalf("%s%s: %+v", front, line, again)
			}
			for _, collector := range []string{"coatcheck-1  | ", "2026-11-26T10:00:00.5Z stdout F ", "Nov 26 10:00:00 host coatcheck[1]: ", "[pod/coatcheck-0/serve] "} {
				if again, err := findLine(collector + line); err != nil || *again != *l || !isLogLine(collector+line) {
					t.Fatalf("%s%s: %+v, %v", collector, line, again, err)
				}
			}
		}
	})
}

// FuzzRequest: a URL goes into a request as it is written, and net/url reads the same host in
// it; and no header with a session ID comes from the command line, nor does an error repeat
// one.
func FuzzRequest(f *testing.F) {
	for _, seed := range []string{
		"https://shop.example/admin", "HTTP://a", "http://a?b=c", "https://a/b#c/d", "https://u:p@a/", "https://a/@b", "ftp://a", "/admin", "https://", "https://[::1]:8443/x", "https://a\\b/", "https://a/%2e%2E/;?#", "http://a#?/b",
	} {
		f.Add(seed, "accept: text/html\naccept:x")
	}
	for _, seed := range []string{"Cookie: a", " cookie : a", "authorization:Bearer x", "Authorization : x", "coo\u212aie: x", ": x", "x", "x:", "a:b:c", "\x00: \xff", ":path: /"} {
		f.Add("https://a", seed)
	}
	f.Fuzz(func(t *testing.T, text, headers string) {
		x := &explainer{headers: strings.Split(headers, "\n")}
		if err := x.url(text); err == nil {
			r := x.request
			before, _, _ := strings.Cut(text, "#")
			if again := before[:len(r.Scheme)] + "://" + r.Host + r.Path; again != before && again != strings.Replace(before, "?", "/?", 1) && again != before+"/" || r.Scheme != "http" && r.Scheme != "https" || strings.ContainsAny(r.Host, "/?#@") || r.Path[0] != '/' {
				t.Fatalf("%q: %+v", text, r)
			}
			if u, err := url.Parse(text); err == nil && (u.Host != r.Host || u.Scheme != r.Scheme) {
				t.Fatalf("%q: %+v, and by net/url %+v", text, r, u)
			}
		}
		err := x.readHeaders()
		for _, line := range x.headers {
			name, value, _ := strings.Cut(line, ":")
			secret := strings.EqualFold(strings.TrimSpace(name), "cookie") || strings.EqualFold(strings.TrimSpace(name), "authorization")
			if err == nil && secret || err != nil && len(value) > 20 && strings.Contains(err.Error(), value) {
				t.Fatalf("%q: %v", line, err)
			}
		}
		for name, value := range x.request.Headers {
			if name == "" || strings.ToLower(strings.TrimSpace(name)) != name || strings.TrimSpace(value) != value || strings.Contains(name, ":") {
				t.Fatalf("%q: %q is %q", headers, name, value)
			}
		}
	})
}

// FuzzArguments: an argument is refused, or read for what it is; and of a session ID that
// stands in one, no error and no output has more than a handle.
func FuzzArguments(f *testing.F) {
	id := sessions.NewID().Reveal()
	for _, seed := range []string{"", "tenant=acme", "a=b=c", "=", "90m", "-5m", "2026-11-26T09:00:00+01:00", "292y", "9999999h", "3fK9", "session:3fK9aBcDeFgH", id, "-" + id, "--user=" + id, "x" + id + "y", "session:" + id, "\x1b[2J\u202e", "\xff"} {
		f.Add(seed, "tenant=x")
	}
	now := time.Date(2026, 11, 26, 10, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, text, other string) {
		if fields, err := parseFields([]string{text, other}); err == nil {
			for _, argument := range []string{text, other} {
				name, value, ok := strings.Cut(argument, "=")
				if got, there := fields[name]; !ok || !there || got != value || len(fields) != 2 {
					t.Fatalf("%q and %q: %q", text, other, fields)
				}
			}
		}
		if at, err := since(text, now); err == nil && text != "" {
			ago, err := time.ParseDuration(text)
			absolute, err2 := time.Parse(time.RFC3339, text)
			if err == nil && (ago < 0 || !at.Equal(now.Add(-ago))) || err != nil && (err2 != nil || !at.Equal(absolute)) {
				t.Fatalf("%q: %v", text, at)
			}
		}
		handle, err := shortHandle(text)
		if err == nil && (len(handle) > 12 || !strings.HasPrefix(strings.TrimPrefix(text, sessions.KeyPrefix), handle) || strings.Trim(handle, "-") != "" && !regexp.MustCompile(`\A[A-Za-z0-9_-]+\z`).MatchString(handle)) {
			t.Fatalf("%q: %q", text, handle)
		}
		if err != nil {
			checkHides(t, text, err.Error())
		}
		checkHides(t, text, hideIDs("unknown command "+strconv.Quote(text)+" for coatcheck"))
		if shown := visible(text); strings.ContainsFunc(shown, func(r rune) bool { return unicode.IsControl(r) || unicode.Is(unicode.Cf, r) }) || utf8.RuneCountInString(shown) != utf8.RuneCountInString(text) {
			t.Fatalf("%q is shown as %q", text, shown)
		}
	})
}

// checkHides fails if a text has a session ID as a word, with or without dashes before it.
func checkHides(t *testing.T, given, said string) {
	t.Helper()
	for word := range strings.FieldsFuncSeq(said, func(r rune) bool {
		return r != '-' && r != '_' && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
	}) {
		for range 3 { // an ID may begin with a dash itself
			if _, err := sessions.ParseID(word); err == nil {
				t.Fatalf("%q: said is %q", given, said)
			}
			word = strings.TrimPrefix(word, "-")
		}
	}
}

// FuzzStdin: standard input has an ID, or a password, on its only line, with any line end;
// and no error repeats it.
func FuzzStdin(f *testing.F) {
	id := sessions.NewID().Reveal()
	for _, seed := range []string{"", "\n", id, id + "\n", id + "\r\n", " " + id, id + "\n" + id, "hunter2", "hunter2\r\n", "hunter2\n\n", "a\rb\r\n", "\x00\xff", strings.Repeat("a", login.MaxPassword+1)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		line, rest, _ := strings.Cut(text, "\n")
		_, wrong := sessions.ParseID(strings.TrimRight(line, "\r"))
		got, err := readID(strings.NewReader(text))
		if len(line) < 1<<10 && (wrong == nil) != (err == nil) || err == nil && !strings.HasPrefix(line, got.Reveal()) || err != nil && len(line) > 20 && strings.Contains(err.Error(), line) {
			t.Fatalf("%q: %v", text, err)
		}
		password, err := readLine(strings.NewReader(text))
		switch {
		case err != nil && (rest == "" || len(line) > 20 && strings.Contains(err.Error(), line)):
			t.Fatalf("%q: %v", text, err)
		case err == nil && len(text) <= login.MaxPassword && (rest != "" || password != strings.TrimSuffix(line, "\r")):
			t.Fatalf("%q is the password %q", text, password)
		case err == nil && len(line) > login.MaxPassword+1 && len(password) <= login.MaxPassword:
			t.Fatalf("a password of %d bytes is cut to %d", len(line), len(password))
		}
	})
}
