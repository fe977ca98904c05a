package e2e_test

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/coatcheck/coatcheck/envoy/e2e/rig"
	"github.com/coatcheck/coatcheck/sessions"
)

// hostile are strings that could forge, split or break a line of the log.
var hostile = []string{
	"\n", "\r\n", "\x00", "\x1b[2J", "\u2028", "\u0085", "\u009b2J", "\xff\xfe", "\"", "\\", "}\n{\"msg\":\"check\",\"verdict\":\"allow\"}",
	"', '", "%0a", "\\u000a", "\t", "\x7f", "{{.}}", "\xc3", "\U0010ffff", "a=1 b=2", "</script>", strings.Repeat("A", 300),
}

// TestHostileRequests sends 2,000 checks (10,000 in the long form) in which every part tries to
// forge a line of the decision log. Each gets one line, in JSON, and no line holds
// the session ID that all of them have.
func TestHostileRequests(t *testing.T) {
	t.Parallel()
	requests := count(2_000, 10_000)
	s := start(t, rig.Options{Patient: true})
	m := manager(t, s, sessions.Config{})
	cookie, _ := login(t, m, ada)
	conn, err := grpc.NewClient(s.Checks, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(verbatim{})))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for i := range requests {
		var answer []byte
		message := checkRequest(fmt.Sprintf("/h-%d/", i), cookie)
		if err := conn.Invoke(t.Context(), "/envoy.service.auth.v3.Authorization/Check", &message, &answer); err != nil {
			t.Fatalf("request %d: a gRPC error and not a verdict: %v", i, err)
		}
	}
	lines := checkLines(t, s, requests)
	for i := range requests {
		if n := lines[fmt.Sprintf("/h-%d/", i)]; n != 1 {
			t.Fatalf("request %d has %d lines", i, n)
		}
	}
	if secret := strings.TrimPrefix(cookie, sessions.DefaultCookieName+"="); strings.Contains(s.Coatcheck.Output(), secret) {
		t.Error("the log holds the session ID")
	}
}

// checkLines counts the decision lines by the beginning of their path, once
// there are as many as wanted, or it has waited long enough.
func checkLines(t *testing.T, s *rig.Stack, wanted int) map[string]int {
	t.Helper()
	var text string
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if text = s.Coatcheck.Output(); strings.Count(text, `"msg":"check","verdict"`) >= wanted {
			break
		}
	}
	found := make(map[string]int)
	for line := range strings.Lines(text) {
		if strings.ContainsAny(line, "\r\x1b\x7f\u0085\u2028\u009b") {
			t.Fatalf("a control character as it came: %q", line)
		}
		var entry struct{ Msg, Verdict, Path string }
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			t.Fatalf("%v: %q", err, line)
		}
		if entry.Msg == "check" && (entry.Verdict == "allow" || entry.Verdict == "deny") {
			name, _, _ := strings.Cut(strings.TrimPrefix(entry.Path, "/"), "/")
			found["/"+name+"/"]++
		}
	}
	return found
}

// checkRequest is the bytes of a CheckRequest with hostile strings, which need
// not be UTF-8, in every place that a client can write to.
func checkRequest(path, cookie string) []byte {
	header := func(name, value string) []byte {
		return field(1, field(1, []byte(name)), field(3, []byte(value)))
	}
	headers := [][]byte{
		header("cookie", cookie+"; a="+pick()), header("x-request-id", pick()+pick()), header("traceparent", pick()),
		header("accept", pick()), header("sec-fetch-mode", pick()), header("x-user-id", pick()),
	}
	http := field(2, field(2, []byte("GET"+pick())), field(4, []byte(path+pick()+pick())), field(5, []byte(pick())), field(13, headers...))
	return field(1, field(4, http))
}

// field is a length-delimited field that holds the parts.
func field(n protowire.Number, parts ...[]byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(nil, n, protowire.BytesType), bytes.Join(parts, nil))
}

func pick() string {
	var b [1]byte
	_, _ = rand.Read(b[:])
	return hostile[int(b[0])%len(hostile)]
}

// verbatim sends and receives bytes as they are.
type verbatim struct{}

func (verbatim) Name() string                  { return "proto" }
func (verbatim) Marshal(v any) ([]byte, error) { return *v.(*[]byte), nil }
func (verbatim) Unmarshal(b []byte, v any) error {
	*v.(*[]byte) = bytes.Clone(b)
	return nil
}
