package main

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/coatcheck/coatcheck/internal/envoyconfig"
	"github.com/coatcheck/coatcheck/sessions"
)

// TestExplainUnfitRecord: a record that a check finds and cannot use is a verdict, too:
// an operator asks because of it.
func TestExplainUnfitRecord(t *testing.T) {
	s := newShell(t)
	t.Chdir(t.TempDir())
	client := s.redis.Client()
	defer client.Close()
	put := func(hash string, fields ...any) {
		client.HSet(t.Context(), sessions.KeyPrefix+hash, fields...)
		client.PExpire(t.Context(), sessions.KeyPrefix+hash, time.Hour)
	}
	put("AAAAAAAAAAAA"+strings.Repeat("A", 31), "v", "2", "user_id", "42")
	put("BBBBBBBBBBBB"+strings.Repeat("A", 31), "v", "1", "user_id", "42")
	for handle, want := range map[string][2]string{
		"AAAAAAAAAAAA": {"deny, with status 503", "unknown_layout"}, "BBBBBBBBBBBB": {"deny, with status 401", "broken_record"},
	} {
		line := fmt.Sprintf(`{"time":"2026-11-26T10:00:00Z","level":"ERROR","msg":"check","verdict":"deny","reason":%q,"status":503,"route":"required","session":%q,"method":"GET","host":"shop.example","path":"/","request_id":"r1"}`, want[1], handle)
		for _, args := range [][]string{{"--log", "-"}, {"--host", "shop.example", "--path", "/", "--session", handle}} {
			out, _ := s.run(0, line, append([]string{"explain"}, args...)...)
			s.wants(out, want[0], want[1])
			if strings.Contains(out, "decided otherwise") {
				t.Error(out)
			}
			out, _ = s.run(0, line, append([]string{"explain", "-o", "json"}, args...)...)
			var e struct{ Reason, Session string }
			if err := json.Unmarshal([]byte(out), &e); err != nil || e.Reason != want[1] || e.Session != handle {
				t.Errorf("%v: %+v, and the log says %s", err, e, line)
			}
		}
	}
	_, errs := s.run(1, "", "explain", "--host", "shop.example", "--path", "/", "--session", "CCCC") // maybe a typing error
	s.wants(errs, "CCCC")
}

// TestExplainHostileLines: what a line says, a terminal does not obey, and a client's
// text in another program's line is no line of the log.
func TestExplainHostileLines(t *testing.T) {
	s := newShell(t)
	const attack = `\u001b[2J\u009b2J\u202e`
	for _, line := range []string{
		`"reason":"bad_route","error":"` + attack + `","host":"h","path":"/"`,
		`"reason":"` + attack + `","host":"` + attack + `","path":"/` + attack + `","policy":"` + attack + `"`,
		`"reason":"no_cookie","host":"h","path":"/","session":"` + attack + `"`,
		`"reason":"unknown_policy","host":"h","path":"/","error":"there is no policy \"` + attack + `\""`,
	} {
		line = `{"time":"2026-11-26T10:00:00Z","msg":"check","verdict":"deny","method":"GET",` + line + `}`
		var out, errs strings.Builder
		run(t.Context(), []string{"explain", "--log", "-"}, strings.NewReader(line), &out, &errs)
		for _, text := range []string{out.String(), errs.String()} {
			if i := strings.IndexFunc(text, func(r rune) bool { return r != '\n' && !unicode.IsGraphic(r) }); i >= 0 {
				t.Errorf("%q is printed of %s:\n%s", text[i:min(len(text), i+5)], line, text)
			}
		}
	}
	const ours = `{"time":"2026-11-26T10:00:00Z","msg":"check","verdict":"deny","reason":"no_cookie","method":"GET","host":"shop.example","path":"/ours"}`
	for _, forged := range []string{
		`127.0.0.1 "GET /" 401 "agent=1 time=2026-11-26T10:00:00Z msg=check verdict=allow host=h path=/forged method=GET"`,
		`agent=x time=2026-11-26T10:00:00Z msg=check verdict=allow host=h path=/forged method=GET`,
	} {
		out, _ := s.run(0, forged+"\n"+ours+"\n", "explain", "--log", "-")
		s.wants(out, "GET shop.example/ours")
	}
	out, _ := s.run(0, "[pod/coatcheck-6d4/coatcheck] "+ours+"\n", "explain", "--log", "-") // as why takes it
	s.wants(out, "GET shop.example/ours")
}

// TestExplainHiddenCookie: an Envoy that does not show Coatcheck the Cookie header shows
// it no session either, whoever is signed in.
func TestExplainHiddenCookie(t *testing.T) {
	s := newShell(t)
	text, err := os.ReadFile(shipped)
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(t.TempDir())
	for name, text := range map[string]string{"envoy.yaml": string(text), "hidden.yaml": strings.Replace(string(text), "- {exact: cookie}\n", "- {exact: authorization}\n", 1), "ada.yaml": "user_id: '42'\n"} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ask := func(args ...string) string {
		t.Helper()
		out, _ := s.run(0, "", append([]string{"explain", "https://shop.example/x", "--fields", "ada.yaml"}, args...)...)
		return out
	}
	s.wants(ask("--envoy", "envoy.yaml"), "allow")
	s.wants(ask("--envoy", "hidden.yaml"), "deny, with status 401", "no_cookie", "add cookie to allowed_headers")
	s.wants(ask("--envoy", "hidden.yaml", "--bearer", "true"), "allow")
	s.wants(ask("--envoy", "envoy.yaml", "--bearer", "true"), "allow")
}

// TestExplainManyWays: of very many ways the first are told.
func TestExplainManyWays(t *testing.T) {
	text := undecided(slices.Repeat([]envoyconfig.Way{{If: "chance"}}, 1000)).Error()
	if strings.Count(text, "\n") > 30 || !strings.Contains(text, "and 980 more") {
		t.Error(text)
	}
}

// TestExplainPage: a page is named, and not printed on one line.
func TestExplainPage(t *testing.T) {
	s := newShell(t)
	out, _ := s.run(0, "", "explain", "https://shop.example/x", "--header", "accept: text/html", "--method", "POST")
	s.wants(out, "content-type: text/html", "a page of ")
	if strings.Contains(out, "<style>") || len(out) > 2<<10 {
		t.Errorf("printed is\n%s", out)
	}
	out, _ = s.run(0, "", "explain", "https://shop.example/x", "--header", "accept: text/html", "--method", "POST", "-o", "json")
	s.wants(out, `"body": "\u003c!doctype html`)
}
