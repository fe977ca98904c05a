package extauthz_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/proto"

	"github.com/coatcheck/coatcheck/extauthz"
	"github.com/coatcheck/coatcheck/sessions"
)

// TestCanary pushes a session ID, cookies and field values through every outcome
// and looks for them wherever they could come out.
func TestCanary(t *testing.T) {
	id := liveID.Reveal()
	const value = "canary-field-value"
	session := sessions.Session{UserID: "42", Fields: map[string]string{"tenant": value, "big": value + strings.Repeat("x", 5000)}}
	cookie := "cookie: foreign=canary-cookie; " + ours(liveID)
	faults := map[string]fake{
		"ok":            {session: session},
		"not found":     {err: fmt.Errorf("%w: %s", sessions.ErrNotFound, id)},
		"broken":        {err: fmt.Errorf("%w: %s", sessions.ErrBroken, id)},
		"layout":        {err: fmt.Errorf("%w: %s", sessions.ErrLayout, id)},
		"outage":        {err: errors.New("ERR unknown command with args beginning with: '" + id + "'")},
		"panic text":    {panics: value + id},
		"panic error":   {panics: errors.New(value + id)},
		"panic session": {panics: session},
	}
	requests := map[string]check{
		"plain":       {request: "GET /x", lines: []string{cookie}},
		"in the path": {request: "GET /" + id + "/x?ticket=" + id, lines: []string{cookie}},
		"everywhere":  {request: "GET" + id + " /y/" + id, lines: []string{cookie, "x-request-id: r-" + id, "x-user-id: " + id, "accept: " + id}},
		"malformed":   {request: "GET /x", lines: []string{"cookie: " + ours(liveID) + "x"}},
		"twice":       {request: "GET /x", lines: []string{cookie, cookie}},
		"mistyped":    {request: "GET /x", lines: []string{cookie}, extensions: map[string]string{"coatcheck.session": id}},
		"mistyped 2":  {request: "GET /x", lines: []string{cookie}, extensions: map[string]string{"coatcheck.roles": "a b" + id}},
		"mistyped 3":  {request: "GET /x", lines: []string{cookie}, extensions: map[string]string{"coatcheck." + id: ""}},
		"no sense":    {request: "GET " + id, lines: []string{cookie}},
		"role":        {request: "GET /x", lines: []string{cookie}, extensions: map[string]string{"coatcheck.roles": "x"}},
		"optional":    {request: "GET /x", lines: []string{cookie}, extensions: optional},
		"navigation":  {request: "GET /x", lines: []string{cookie, "sec-fetch-mode: navigate"}},
	}
	for fault := range faults {
		for request, c := range requests {
			t.Run(fault+", "+request, func(t *testing.T) {
				var log bytes.Buffer
				for _, handler := range []slog.Handler{slog.NewJSONHandler(&log, nil), slog.NewTextHandler(&log, nil)} {
					f := faults[fault]
					server, err := extauthz.New(&f, extauthz.Config{
						Logger: slog.New(handler), Log: extauthz.LogConfig{Decisions: extauthz.LogAll}, LoginURL: "/login",
						Fields: []extauthz.FieldHeader{{Field: "tenant", Header: "x-user-tenant"}, {Field: "big", Header: "x-user-big"}},
					})
					if err != nil {
						t.Fatal(err)
					}
					response, err := server.Check(t.Context(), c.message())
					if err != nil {
						t.Fatal(err)
					}
					if response.GetOkResponse() != nil {
						continue // whose headers may carry the fields
					}
					text, err := proto.Marshal(response)
					if err != nil {
						t.Fatal(err)
					}
					find(t, "the answer", string(text), id, value, "canary-cookie")
				}
				find(t, "the log", log.String(), id, value, "canary-cookie")
			})
		}
	}
}

func find(t *testing.T, where, text string, secrets ...string) {
	t.Helper()
	for _, secret := range secrets {
		if strings.Contains(text, secret) {
			t.Errorf("%s holds %s:\n%s", where, secret, text)
		}
	}
}

func TestLogChoice(t *testing.T) {
	for _, test := range []struct {
		choice extauthz.LogDecisions
		cookie string
		err    error
		want   string // the level, "" for no line
	}{
		{extauthz.LogAll, ours(liveID), nil, "INFO"},
		{extauthz.LogAll, "", nil, "INFO"},
		{extauthz.LogDenied, ours(liveID), nil, ""},
		{extauthz.LogDenied, "", nil, "INFO"},
		{"", "", nil, "INFO"},
		{extauthz.LogFaults, "", nil, ""},
		{extauthz.LogFaults, ours(liveID), errors.New("refused"), "ERROR"},
		{extauthz.LogFaults, ours(liveID), sessions.ErrBroken, "ERROR"},
	} {
		var out bytes.Buffer
		server, err := extauthz.New(&fake{session: ada, err: test.err}, extauthz.Config{Log: extauthz.LogConfig{Decisions: test.choice}, Logger: slog.New(slog.NewJSONHandler(&out, nil))})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := server.Check(t.Context(), check{request: "GET /x?a=b", lines: []string{"cookie: " + test.cookie}}.message()); err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(out.String(), "\n"); n > 1 || (n == 1) != (test.want != "") || !strings.Contains(out.String(), test.want) {
			t.Errorf("%q, %v: %q, want %s", test.choice, test.err, out.String(), test.want)
		}
	}
}

// TestLogLinesCannotBeForged: one line a check, for any text of a client, and no
// longer than it must be.
func TestLogLinesCannotBeForged(t *testing.T) {
	var out bytes.Buffer
	server, err := extauthz.New(&fake{}, extauthz.Config{Log: extauthz.LogConfig{Decisions: extauthz.LogAll}, Logger: slog.New(slog.NewJSONHandler(&out, nil))})
	if err != nil {
		t.Fatal(err)
	}
	const forged = "\n{\"verdict\":\"allow\"}\r\n\u2028\x1b[31m\x00\xff"
	for _, text := range []string{forged, strings.Repeat(forged, 100), strings.Repeat("ö", 1000)} {
		m := check{request: text + " /" + text, lines: []string{"x-request-id: " + text}}.message()
		m.Attributes.Request.Http.Host = text
		if _, err := server.Check(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	lines := 0
	for scanner := bufio.NewScanner(&out); scanner.Scan(); lines++ {
		var line map[string]any
		if err := json.Unmarshal(scanner.Bytes(), &line); err != nil || line["verdict"] != "deny" {
			t.Errorf("%v: %s", err, scanner.Text())
		}
		for name, value := range line {
			if text, ok := value.(string); ok && len(text) > 260 {
				t.Errorf("%s has %d bytes", name, len(text))
			}
		}
	}
	if lines != 3 {
		t.Errorf("%d lines for 3 checks", lines)
	}
}

// TestLogLine: what stands in a line, and that the session is named by its
// handle whether it was found or not.
func TestLogLine(t *testing.T) {
	const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	for _, test := range []struct {
		name   string
		check  check
		err    error
		want   map[string]any
		absent []string
	}{
		{"allowed", check{request: "GET /x?a=b", lines: []string{"cookie: " + ours(liveID), "x-request-id: r1", "traceparent: " + parent},
			extensions: map[string]string{"coatcheck.roles": "a,b , staff"}}, nil,
			map[string]any{"verdict": "allow", "reason": "ok", "status": 0.0, "method": "GET", "path": "/x", "host": "shop.example",
				"request_id": "r1", "trace_id": parent[3:35], "span_id": parent[36:52], "route": "required roles=a,b,staff", "session": liveID.Key().Handle()},
			[]string{"error"}},
		{"unknown", check{request: "GET /x", lines: []string{"cookie: " + ours(otherID)}, extensions: optional}, nil,
			map[string]any{"verdict": "allow", "reason": "not_found", "route": "optional", "session": otherID.Key().Handle()},
			[]string{"trace_id", "error"}},
		{"not signed in", check{request: "GET /x", lines: []string{"traceparent: " + strings.ToUpper(parent)}}, nil,
			map[string]any{"verdict": "deny", "reason": "no_cookie", "status": 401.0, "lookup_duration": 0.0}, []string{"session", "trace_id"}},
		{"bad route", check{request: "GET /x", extensions: map[string]string{"coatcheck.x": ""}}, nil,
			map[string]any{"reason": "bad_route", "status": 403.0}, []string{"route"}},
	} {
		var out bytes.Buffer
		server, err := extauthz.New(&fake{session: sessions.Session{UserID: "42", Roles: []string{"staff"}}, err: test.err},
			extauthz.Config{Log: extauthz.LogConfig{Decisions: extauthz.LogAll}, Logger: slog.New(slog.NewJSONHandler(&out, nil))})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := server.Check(t.Context(), test.check.message()); err != nil {
			t.Fatal(err)
		}
		var line map[string]any
		if err := json.Unmarshal(out.Bytes(), &line); err != nil {
			t.Fatalf("%s: %v: %s", test.name, err, out.String())
		}
		for name, want := range test.want {
			if line[name] != want {
				t.Errorf("%s: %s is %v, want %v", test.name, name, line[name], want)
			}
		}
		for _, name := range test.absent {
			if value, ok := line[name]; ok {
				t.Errorf("%s: %s is %v", test.name, name, value)
			}
		}
		if took, ok := line["duration"].(float64); !ok || took <= 0 {
			t.Errorf("%s: duration %v", test.name, line["duration"])
		}
	}
}

// TestLogRateLimit: an outage does not fill the disk, the lines left out are counted, and
// a sample of N holds one of N decisions.
func TestLogRateLimit(t *testing.T) {
	var out bytes.Buffer
	f := &fake{session: sessions.Session{UserID: "42"}, err: errors.New("refused")}
	registry := prometheus.NewRegistry()
	server, err := extauthz.New(f, extauthz.Config{
		Log: extauthz.LogConfig{Decisions: extauthz.LogAll, Sample: 10, FaultsPerSecond: 5}, Logger: slog.New(slog.NewJSONHandler(&out, nil)), Metrics: registry,
	})
	if err != nil {
		t.Fatal(err)
	}
	ask := func(n int) (lines int) {
		out.Reset()
		for range n {
			if _, err := server.Check(t.Context(), check{request: "GET /x", lines: []string{"cookie: " + ours(liveID)}}.message()); err != nil {
				t.Fatal(err)
			}
		}
		return strings.Count(out.String(), "\n")
	}
	begin := time.Now()
	lines := ask(1000)
	if most := 5 + int(5*time.Since(begin).Seconds()) + 1; lines < 5 || lines > most {
		t.Errorf("%d lines for 1000 faults, want 5 to %d", lines, most)
	}
	if got := series(t, registry)["coatcheck_log_suppressed_total,reason=unavailable"]; got != float64(1000-lines) {
		t.Errorf("%v counted as left out, %d lines", got, lines)
	}
	before := suppressed(t, out.String()) // by lines of a second round, where the machine is slow
	time.Sleep(time.Second)
	if ask(1); suppressed(t, out.String()) == 0 || before+suppressed(t, out.String()) != 1000-lines {
		t.Errorf("the next line does not say how many of %d, %d of which were counted: %s", 1000-lines, before, out.String())
	}
	f.err = nil
	if lines := ask(100); lines != 10 {
		t.Errorf("%d lines of 100 decisions, want 10", lines)
	}
}

// suppressed is how many lines the lines of a log say that they stand for.
func suppressed(t *testing.T, log string) (n int) {
	t.Helper()
	for _, match := range regexp.MustCompile(`"suppressed":(\d+)`).FindAllStringSubmatch(log, -1) {
		more, err := strconv.Atoi(match[1])
		if err != nil {
			t.Fatal(err)
		}
		n += more
	}
	return n
}
