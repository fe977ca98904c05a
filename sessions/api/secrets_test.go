package api

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/coatcheck/coatcheck/sessions"
	pb "github.com/coatcheck/coatcheck/sessions/api/sessionsv1"
	"github.com/coatcheck/coatcheck/sessions/api/sessionsv1/sessionsv1connect"
)

// TestGET: no method answers to GET, in which an ID would be in the URL, and so in the logs of
// every proxy.
func TestGET(t *testing.T) {
	s := newStand(t, nil)
	for path := range methods {
		query := url.Values{"connect": {"v1"}, "encoding": {"json"}, "message": {`{"session":{"id":"` + s.id.Reveal() + `"}}`}}
		for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPut, http.MethodOptions} {
			q, err := http.NewRequestWithContext(t.Context(), method, s.http.URL+path+"?"+query.Encode(), nil)
			if err != nil {
				t.Fatal(err)
			}
			q.Header.Set("Authorization", "Bearer "+token("all"))
			a, err := s.http.Client().Do(q)
			if err != nil {
				t.Fatal(err)
			}
			text, _ := io.ReadAll(a.Body)
			_ = a.Body.Close()
			if a.StatusCode != http.StatusMethodNotAllowed || a.Header.Get("Allow") != "POST" || strings.Contains(string(text), s.id.Reveal()) {
				t.Errorf("%s %s: %d %s", method, path, a.StatusCode, text)
			}
		}
	}
	all := pb.File_coatcheck_sessions_v1_sessions_proto.Services().Get(0).Methods()
	for i := range all.Len() {
		if options := all.Get(i).Options().(*descriptorpb.MethodOptions); options.GetIdempotencyLevel() != descriptorpb.MethodOptions_IDEMPOTENCY_UNKNOWN {
			t.Errorf("%s has an idempotency_level, so that connect-go takes it by GET", all.Get(i).Name())
		}
	}
	if len(methods) != all.Len() {
		t.Errorf("%d methods have a right, of %d", len(methods), all.Len())
	}
}

// TestErrorsRepeatNothing: whatever makes a request unreadable, its answer and the log repeat
// no part of it; connect-go and protojson would.
func TestErrorsRepeatNothing(t *testing.T) {
	s := newStand(t, nil)
	const marker = "SECRETMARKER"
	send := func(headers map[string]string, body string) (int, string) {
		q, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.http.URL+sessionsv1connect.SessionServiceGetProcedure, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		q.Header.Set("Authorization", "Bearer "+token("all"))
		q.Header.Set("Content-Type", "application/json")
		for name, value := range headers {
			q.Header.Set(name, value)
		}
		a, err := s.http.Client().Do(q)
		if err != nil {
			t.Fatal(err)
		}
		defer a.Body.Close()
		text, _ := io.ReadAll(a.Body)
		var all bytes.Buffer
		_ = a.Header.Write(&all)
		_ = a.Trailer.Write(&all)
		return a.StatusCode, all.String() + string(text)
	}
	framed := "\x00\x00\x00\x00\x0c" + marker
	for name, test := range map[string]struct {
		headers map[string]string
		body    string
	}{
		"JSON":            {nil, `{"session": {"id": ` + marker + `}}`},
		"a string":        {nil, `"` + marker + `"`},
		"a field":         {nil, `{"` + marker + `": 1}`},
		"a number":        {nil, `{"session": {"id": "` + marker + `", "key": 7}}`},
		"two names":       {nil, `{"session": {"id": "` + marker + `", "key": "` + marker + `"}}`},
		"not UTF-8":       {nil, "{\"fields\": [\"" + marker + "\xff\"]}"},
		"charset":         {map[string]string{"Content-Type": "application/json; charset=utf-8"}, `{"` + marker + `": 1}`},
		"protobuf":        {map[string]string{"Content-Type": "application/proto"}, "\x0a\x7f" + marker},
		"gRPC":            {map[string]string{"Content-Type": "application/grpc"}, framed},
		"gRPC-Web":        {map[string]string{"Content-Type": "application/grpc-web+proto"}, framed},
		"gRPC JSON":       {map[string]string{"Content-Type": "application/grpc+json"}, framed},
		"encoding":        {map[string]string{"Content-Encoding": marker}, "{}"},
		"gRPC encoding":   {map[string]string{"Content-Type": "application/grpc", "Grpc-Encoding": marker}, framed},
		"gzip":            {map[string]string{"Content-Encoding": "gzip"}, marker},
		"timeout":         {map[string]string{"Connect-Timeout-Ms": marker}, "{}"},
		"negative":        {map[string]string{"Connect-Timeout-Ms": "-7"}, "{}"},
		"gRPC timeout":    {map[string]string{"Content-Type": "application/grpc", "Grpc-Timeout": marker}, framed},
		"both timeouts":   {map[string]string{"Content-Type": "application/grpc", "Grpc-Timeout": marker, "Connect-Timeout-Ms": "5"}, framed},
		"version":         {map[string]string{"Connect-Protocol-Version": marker}, "{}"},
		"media type":      {map[string]string{"Content-Type": "text/" + marker}, "{}"},
		"credential":      {map[string]string{"Authorization": "Bearer " + marker + strings.Repeat("x", 40)}, "{}"},
		"Basic":           {map[string]string{"Authorization": "Basic " + marker}, "{}"},
		"an unknown type": {map[string]string{"Content-Type": "application/connect+json"}, framed},
	} {
		status, text := send(test.headers, test.body)
		if strings.Contains(text, marker) || status == 200 && (!strings.Contains(strings.ToLower(text), "grpc-status") || strings.Contains(text, "Status: 0")) {
			t.Errorf("%s: %d %s", name, status, text)
		}
	}
	// Of a client that is no caller, too.
	for _, mediaType := range []string{"application/grpc+", "application/grpc-web+", "application/connect+", "application/grpc+proto; x="} {
		if status, text := send(map[string]string{"Authorization": "", "Content-Type": mediaType + marker}, "{}"); strings.Contains(strings.ToUpper(text), marker) {
			t.Errorf("%s: %d %s", mediaType, status, text)
		}
	}
	if strings.Contains(s.log.String(), marker) {
		t.Errorf("the log repeats it: %s", s.log)
	}
}

// TestNothingSecretIsLogged: after every kind of call, the log has no ID, no token, no field,
// no user and no role, and a line for each call with its caller, method, handle and outcome.
func TestNothingSecretIsLogged(t *testing.T) {
	s := newStand(t, func(c *Config) { c.Level = slog.LevelInfo })
	c := s.as("all")
	must(t, c.Get, &pb.GetRequest{Session: byID(s.id), Fields: []string{"cart"}})
	must(t, c.Check, &pb.CheckRequest{Session: byKey(s.key), Question: anyOf(role), Touch: true})
	must(t, c.AddFields, &pb.AddFieldsRequest{Session: byKey(s.key), Fields: map[string]string{"theme": secretValue}})
	must(t, c.ListUserSessions, &pb.ListUserSessionsRequest{UserId: userID})
	must(t, c.Revoke, &pb.RevokeRequest{Session: byID(s.id)})
	must(t, c.RevokeUser, &pb.RevokeUserRequest{UserId: userID})
	_, _ = ask(t, c.Get, &pb.GetRequest{Session: byKey(s.key), Fields: []string{secretField}})
	_, _ = ask(t, clientOf(s.http.URL, "unknown-"+token("all")).Get, &pb.GetRequest{Session: byID(s.id)})
	want := []string{"Get ok", "Check ok", "AddFields ok", "ListUserSessions ok", "Revoke ok", "RevokeUser ok", "Get permission_denied", "Get unauthenticated"}
	for deadline := time.Now().Add(30 * time.Second); len(s.logged(t)) < len(want) && time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
	}
	for i, line := range s.logged(t) {
		if i >= len(want) {
			t.Errorf("a line too many: %v", line)
			continue
		}
		call := line["call"].(string) + " " + line["outcome"].(string)
		handle, _ := line["session"].(string)
		wantHandle := ""
		if i != 3 && i != 5 && i != 7 {
			wantHandle = s.key.Handle()
		}
		caller, _ := line["caller"].(string)
		if call != want[i] || handle != wantHandle || (caller == "all") == (i == 7) {
			t.Errorf("line %d: %v", i, line)
		}
	}
	for _, secret := range []string{s.id.Reveal(), s.key.Hash(), token("all"), secretField, secretValue, userID, username, role, "three apples", "theme", "cart"} {
		if strings.Contains(s.log.String(), secret) {
			t.Errorf("the log has %q: %s", secret, s.log)
		}
	}
}

// TestLimits: a message that is too large, one that is compressed, headers without end and a
// body that never ends are refused, and cost no memory of their size.
func TestLimits(t *testing.T) {
	s := newStand(t, func(c *Config) { c.MaxMessageBytes = 16 << 10; c.MaxInFlight = 2 })
	code, text := s.post(t, "Get", token("all"), "application/json", `{"fields": ["`+strings.Repeat("x", 64<<10)+`"]}`)
	if code != http.StatusTooManyRequests || !strings.Contains(text, "resource_exhausted") {
		t.Errorf("a large message: %d %s", code, text)
	}
	var bomb bytes.Buffer
	w := gzip.NewWriter(&bomb)
	_, _ = w.Write(make([]byte, 8<<20))
	_ = w.Close()
	_, err := s.as("all", connect.WithSendGzip()).Get(t.Context(), connect.NewRequest(&pb.GetRequest{Session: byKey(s.key), Fields: []string{"cart"}}))
	wantCode(t, "a compressed message", err, connect.CodeInvalidArgument)
	q, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, s.http.URL+sessionsv1connect.SessionServiceGetProcedure, bytes.NewReader(bomb.Bytes()))
	q.Header.Set("Authorization", "Bearer "+token("all"))
	q.Header.Set("Content-Type", "application/proto")
	q.Header.Set("Content-Encoding", "gzip")
	a, err := s.http.Client().Do(q)
	if err != nil {
		t.Fatal(err)
	}
	_ = a.Body.Close()
	if a.StatusCode != http.StatusBadRequest {
		t.Errorf("a bomb: %d", a.StatusCode)
	}
}

// TestInFlight: calls above the limit are refused at once, and those below go on.
func TestInFlight(t *testing.T) {
	inside, release := make(chan struct{}), make(chan struct{})
	s := newStand(t, func(c *Config) {
		c.MaxInFlight = 1
		c.Decide = func(context.Context, Question, Lookup) Verdict {
			close(inside)
			<-release
			return Verdict{Allowed: true, Reason: "ok"}
		}
	})
	waiting := make(chan error)
	question := &pb.CheckRequest{Session: byKey(s.key), Question: &pb.CheckRequest_Policy{Policy: &pb.Policy{Name: "a"}}}
	go func() { waiting <- second(s.as("all").Check(t.Context(), connect.NewRequest(question))) }()
	<-inside
	_, err := ask(t, s.as("all").Get, &pb.GetRequest{Session: byKey(s.key)})
	wantCode(t, "a second call", err, connect.CodeResourceExhausted)
	_, err = ask(t, clientOf(s.http.URL, "").Get, &pb.GetRequest{Session: byKey(s.key)})
	wantCode(t, "a stranger hears nothing of it", err, connect.CodeUnauthenticated)
	close(release)
	if err := <-waiting; err != nil {
		t.Error(err)
	}
	must(t, s.as("all").Get, &pb.GetRequest{Session: byKey(s.key)})
}

// TestPanic: a bug ends one call with INTERNAL, and its value is in no log.
func TestPanic(t *testing.T) {
	s := newStand(t, func(c *Config) {
		c.Decide = func(context.Context, Question, Lookup) Verdict { panic(secretValue) }
	})
	_, err := ask(t, s.as("all").Check, &pb.CheckRequest{Session: byKey(s.key), Question: &pb.CheckRequest_Policy{Policy: &pb.Policy{Name: "a"}}})
	wantCode(t, "a panic", err, connect.CodeInternal)
	if log := s.log.String(); strings.Contains(log, secretValue) || !strings.Contains(log, "met a bug") {
		t.Errorf("the log: %s", log)
	}
	must(t, s.as("all").Get, &pb.GetRequest{Session: byKey(s.key)})
}

// TestUnavailable: a store that is away is UNAVAILABLE, also where a caller has little time,
// and a call whose caller leaves is no fault.
func TestUnavailable(t *testing.T) {
	s := newStand(t, nil)
	if err := s.redis.Pause(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 400*time.Millisecond)
	defer cancel()
	began := time.Now()
	_, err := s.as("all", connect.WithGRPC()).Get(ctx, connect.NewRequest(&pb.GetRequest{Session: byKey(s.key)}))
	wantCode(t, "a paused Redis", err, connect.CodeUnavailable)
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("after %v", took)
	}
	if err := s.redis.Resume(); err != nil {
		t.Fatal(err)
	}
	if p := problemOf(t.Context(), errors.New("anything")); p != unavailable {
		t.Errorf("an unknown error is %v", p)
	}
	if p := problemOf(t.Context(), sessions.ErrLayout); p.code != connect.CodeUnavailable {
		t.Errorf("an unknown layout is %v", p)
	}
}

// TestSlowBody: a caller that does not send its message holds no call for ever.
func TestSlowBody(t *testing.T) {
	s := newStand(t, nil)
	mux := http.NewServeMux()
	mux.Handle(s.server.Handler())
	slow := httptest.NewUnstartedServer(mux)
	slow.Config.ReadTimeout = 500 * time.Millisecond
	slow.Start()
	defer slow.Close()
	conn, err := net.Dial("tcp", strings.TrimPrefix(slow.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, _ = io.WriteString(conn, "POST "+sessionsv1connect.SessionServiceGetProcedure+" HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nAuthorization: Bearer "+token("all")+"\r\nContent-Length: 1000\r\n\r\n{")
	_ = conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	began := time.Now()
	if _, err := io.ReadAll(conn); err != nil {
		t.Errorf("the call goes on: %v", err)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("it ended after %v", took)
	}
}

// TestUnread: the log and the metrics tell why a message was not read, in each protocol, and one
// that is too large is not read to its end.
func TestUnread(t *testing.T) {
	s := newStand(t, func(c *Config) { c.MaxMessageBytes = 16 << 10 })
	last := func(what, outcome string) {
		t.Helper()
		eventually(t, "a line about "+what+" with "+outcome, func() bool {
			lines := strings.Split(strings.TrimSpace(s.log.String()), "\n")
			return strings.Contains(lines[len(lines)-1], `"outcome":"`+outcome+`"`)
		})
	}
	get := func(name string, size int) *pb.GetRequest {
		q := &pb.GetRequest{Session: byKey(s.key), Fields: []string{""}}
		for proto.Size(q) < size {
			q.Fields[0] += strings.Repeat("x", max(1, size-proto.Size(q)-3))
		}
		if proto.Size(q) != size {
			t.Fatalf("%s: a message of %d bytes", name, proto.Size(q))
		}
		return q
	}
	for name, options := range map[string][]connect.ClientOption{"connect": nil, "grpc": {connect.WithGRPC()}, "grpc-web": {connect.WithGRPCWeb()}} {
		c := s.as("all", options...)
		for _, size := range []int{16<<10 + 1, 16<<10 + 6, 64 << 10, 1 << 20} {
			_, err := ask(t, c.Get, get(name, size))
			wantCode(t, fmt.Sprintf("%s: a message of %d bytes", name, size), err, connect.CodeResourceExhausted)
			last(fmt.Sprintf("%s: a message of %d bytes", name, size), "resource_exhausted")
		}
		_, err := ask(t, c.Get, get(name, 16<<10))
		wantCode(t, name+": the largest", err, connect.CodePermissionDenied)
		last(name+": the largest", "permission_denied")
	}
	_, _ = s.post(t, "Get", token("all"), "application/json", `{`)
	last("no message", "invalid_argument")
	_ = s.slow(t, sessionsv1connect.SessionServiceGetProcedure, "all", 1).Close()
	last("a caller that is gone", "canceled")
	conn := s.slow(t, sessionsv1connect.SessionServiceGetProcedure, "all", 32<<10)
	last("a message that is too large so far", "resource_exhausted")
	_ = conn.Close()
}

// slow begins a call whose message does not end, with so many bytes of it.
func (s *stand) slow(t *testing.T, procedure, caller string, bytes int) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.http.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_, _ = io.WriteString(conn, "POST "+procedure+" HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nAuthorization: Bearer "+token(caller)+
		"\r\nContent-Length: 1000000\r\n\r\n"+strings.Repeat(" ", bytes))
	return conn
}

// TestShare: a caller that is slow to send its messages has half of the calls at most, and the
// others the rest, which are theirs again when the slow ones are gone.
func TestShare(t *testing.T) {
	s := newStand(t, func(c *Config) { c.MaxInFlight = 5 })
	var slow []net.Conn
	for range 10 {
		slow = append(slow, s.slow(t, sessionsv1connect.SessionServiceGetProcedure, "all", 1))
	}
	eventually(t, "calls at once", func() bool { return s.server.room.inFlight() == 3 }) // half of 5
	eventually(t, "lines about those that are refused", func() bool { return strings.Count(s.log.String(), `"outcome":"resource_exhausted"`) == 7 })
	for name, options := range map[string][]connect.ClientOption{"connect": nil, "grpc": {connect.WithGRPC()}, "grpc-web": {connect.WithGRPCWeb()}} {
		_, err := ask(t, s.as("all", options...).Get, &pb.GetRequest{Session: byKey(s.key)})
		wantCode(t, name+": a call more of the slow caller", err, connect.CodeResourceExhausted)
		must(t, s.as("without-list", options...).Get, &pb.GetRequest{Session: byKey(s.key)})
	}
	for range 2 {
		s.slow(t, sessionsv1connect.SessionServiceGetProcedure, "without-list", 1)
	}
	eventually(t, "full server", func() bool { return s.server.room.inFlight() == 5 })
	_, err := ask(t, s.as("without-add").Get, &pb.GetRequest{Session: byKey(s.key)})
	wantCode(t, "a third caller, of a full server", err, connect.CodeResourceExhausted)
	for _, conn := range slow {
		_ = conn.Close()
	}
	eventually(t, "room", func() bool { return s.server.room.inFlight() == 2 })
	must(t, s.as("all").Get, &pb.GetRequest{Session: byKey(s.key)})
}

// TestLargeMessages: callers that are slow to send large messages leave room for small ones, one
// of them alone for large ones of the others, and their room is given back when they are gone.
func TestLargeMessages(t *testing.T) {
	s := newStand(t, func(c *Config) { c.Timeout = time.Second })
	large := &pb.AddFieldsRequest{Session: byKey(s.key), Fields: map[string]string{"theme": strings.Repeat("x", 200<<10)}}
	refused := func(caller string) {
		t.Helper()
		var waiting sync.WaitGroup
		for name, options := range map[string][]connect.ClientOption{"connect": nil, "grpc": {connect.WithGRPC()}} {
			waiting.Go(func() {
				_, err := ask(t, s.as(caller, options...).AddFields, large)
				wantCode(t, name+": a large message more of "+caller, err, connect.CodeResourceExhausted)
			})
		}
		waiting.Wait()
		must(t, s.as(caller).Get, &pb.GetRequest{Session: byKey(s.key)})
	}
	var slow []net.Conn
	for i, caller := range []string{"all", "without-list"} {
		for range maxLarge / 2 {
			slow = append(slow, s.slow(t, sessionsv1connect.SessionServiceAddFieldsProcedure, caller, 200<<10))
		}
		eventually(t, "large messages", func() bool { return len(s.server.room.large) == (i+1)*maxLarge/2 })
		if i == 0 {
			refused(caller)
			must(t, s.as("without-list").AddFields, large)
		}
	}
	refused("without-revoke")
	for _, conn := range slow {
		_ = conn.Close()
	}
	large.Fields = map[string]string{"cart": large.GetFields()["theme"]}
	_, err := ask(t, s.as("all").AddFields, large)
	wantCode(t, "a field that is there", err, connect.CodeAlreadyExists)
	eventually(t, "room", func() bool { return len(s.server.room.large) == 0 && s.server.room.inFlight() == 0 })
	if len(s.server.room.shares) != 0 {
		t.Errorf("%d callers have a share when all calls have ended", len(s.server.room.shares))
	}
}

// requestsOf are messages to begin with.
func requestsOf(key, id string) []string {
	return []string{
		`{"session":{"key":"` + key + `"},"fields":["cart"]}`, `{"session":{"id":"` + id + `"}}`, `{"session":{"handle":"abc"}}`,
		`{"session":{"key":"` + key + `"},"roles":{"any_of":["staff"]},"touch":true}`, `{"session":{"key":"` + key + `"},"policy":{"name":"ok","request":{"path":"/ok"}}}`,
		`{"session":{"key":"` + key + `"},"request":{"host":"a","path":"/ok","headers":{"origin":"b"}},"fields":["` + secretField + `"]}`,
		`{"session":{"key":"` + key + `"},"fields":{"theme":"1","` + secretField + `":"2"}}`, `{"user_id":"` + userID + `","except":{"key":"` + key + `"}}`,
		`{"userId":"` + userID + `"}`, `{"sessions":[{"key":"` + key + `"}]}`, `{}`, ``, `[`,
		base64.StdEncoding.EncodeToString([]byte("\x0a\x33\x0a\x33" + key)),
	}
}
