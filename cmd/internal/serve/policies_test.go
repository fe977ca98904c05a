package serve

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/coatcheck/coatcheck/extauthz"
	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/redisstore/redistest"
)

// edition is a good policy file of which everything bears the edition's letter: the
// policies' names, the text of a refusal, and the header that goes upstream.
func edition(letter, header string) string {
	return strings.NewReplacer("EDITION", letter, "HEADER", header).Replace(`
default_policy: deny-EDITION
policies:
- name: deny-EDITION
  condition: request.path == "/of-EDITION"
  refusal: {forbidden: of EDITION}
- name: allow-EDITION
  condition: session.age < duration("1h")
  headers: [HEADER]
refusal: {unauthenticated: of EDITION}
rules:
- {path_prefix: /allowed, policy: allow-EDITION}
tests:
- name: still closed
  request: {host: shop.example, path: /denied}
  session: {user_id: "42"}
  expect: {verdict: deny, policy: deny-EDITION}
`)
}

// opened is an edition that admits every request, apart from its mistake.
func opened(letter, mistake string) string {
	return "default_policy: allow-X\npolicies:\n- {name: allow-X, session: none}\n" + strings.ReplaceAll(mistake, "EDITION", letter)
}

var badFiles = []string{
	opened("X", "rules: ["),
	opened("X", "rules:\n- {path: '/a?b', policy: allow-X}\n"),
	opened("X", "tests:\n- {name: still closed, request: {host: a.example, path: /denied}, expect: {verdict: deny}}\n"),
	opened("X", "- {name: other, condition: session.age}\n"),
	"",
}

// asked is what a check of a path comes to: the edition of each part of the answer.
func asked(ctx context.Context, t testing.TB, client authv3.AuthorizationClient, path, cookie string) (status int, policy string, parts []string) {
	response, err := client.Check(ctx, &authv3.CheckRequest{Attributes: &authv3.AttributeContext{
		Request: &authv3.AttributeContext_Request{Http: &authv3.AttributeContext_HttpRequest{
			Method: "GET", Host: "shop.example", Path: path, Headers: map[string]string{"cookie": cookie},
		}},
	}})
	if err != nil {
		t.Error(err)
		return 0, "", nil
	}
	policy = response.GetDynamicMetadata().GetFields()["policy"].GetStringValue()
	if denied := response.GetDeniedResponse(); denied != nil {
		return int(denied.GetStatus().GetCode()), policy, []string{denied.GetBody()}
	}
	for _, h := range response.GetOkResponse().GetHeaders() {
		parts = append(parts, h.GetHeader().GetKey())
	}
	return 200, policy, parts
}

// headerOf is the header that each edition sends upstream.
var headerOf = map[string]string{"A": "id", "B": "session"}

// rightFor reports what is wrong with an answer: it must be the verdict of both
// editions, and in all its parts of one of them.
func rightFor(path string, status int, policy string, parts []string) error {
	kind, letter, _ := strings.Cut(policy, "-")
	all := strings.Join(parts, " ")
	switch {
	case headerOf[letter] == "":
		return fmt.Errorf("%s: of no edition that was ever in use: %d %s %s", path, status, policy, all)
	case path == "/denied" && (status != 403 || kind != "deny" || !strings.Contains(all, "of "+letter)):
		return fmt.Errorf("%s: %d by %s: %s", path, status, policy, all)
	case path == "/allowed" && (status != 200 || kind != "allow" || all != "x-user-"+headerOf[letter]):
		return fmt.Errorf("%s: %d by %s: %s", path, status, policy, all)
	case path == "/of-A" && (status == 200) != (letter == "A"):
		return fmt.Errorf("%s: %d by %s: %s", path, status, policy, all)
	}
	return nil
}

// TestReloads reloads a hundred times, or a thousand in the long form, good files
// and bad ones mixed, while clients ask: no answer is wrong, no answer mixes two
// editions, and nothing is left behind.
func TestReloads(t *testing.T) {
	reloads := 100
	if os.Getenv("COATCHECK_FULL") != "" {
		reloads = 1000
	}
	path := filepath.Join(t.TempDir(), "policies.yaml")
	write := func(text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(edition("A", headerOf["A"]))
	authorization, err := extauthz.New(onlyAda{}, extauthz.Config{})
	if err != nil {
		t.Fatal(err)
	}
	p, err := openPolicies(path, extauthz.Config{})
	if err != nil {
		t.Fatal(err)
	}
	p.set = authorization.SetPolicies
	if err := p.set(p.inUse.Policies); err != nil {
		t.Fatal(err)
	}
	clients := checking(t, authorization)
	var checks, seenB atomic.Int64
	stop := make(chan struct{})
	var asking sync.WaitGroup
	for i, client := range clients {
		asking.Go(func() {
			cookie := sessions.DefaultCookieName + "=" + sessions.NewID().Reveal()
			for n := i; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				path := []string{"/denied", "/allowed", "/of-A"}[n%3]
				status, policy, parts := asked(t.Context(), t, client, path, cookie)
				if err := rightFor(path, status, policy, parts); err != nil {
					t.Error(err)
					return
				}
				if checks.Add(1); strings.HasSuffix(policy, "-B") {
					seenB.Add(1)
				}
			}
		})
	}
	goroutines, heap := 0, uint64(0)
	good, bad := 0, 0
	for n := range reloads {
		if n == reloads/10 { // what is there once for all is there by now
			goroutines, heap = runtime.NumGoroutine(), inHeap()
		}
		letter := string("AB"[n/2%2])
		wrong := n%2 == 1
		contents := edition(letter, headerOf[letter])
		if wrong {
			contents = badFiles[n/2%len(badFiles)]
		}
		write(contents + fmt.Sprintf("# %d\n", n))
		before := p.inUse
		text, err := p.read()
		if err == nil {
			err = p.use(text)
		}
		if changed := p.inUse != before; (err != nil) != wrong || changed == wrong {
			t.Fatalf("reload %d: %v, %v", n, changed, err)
		}
		if wrong {
			bad++
		} else {
			good++
		}
		for before := checks.Load(); checks.Load() < before+2 && !t.Failed(); { // some by each file
			time.Sleep(50 * time.Microsecond)
		}
	}
	for since := time.Now(); runtime.NumGoroutine() > goroutines+2; time.Sleep(time.Millisecond) { // of calls, too
		if time.Since(since) > 20*time.Second {
			t.Fatalf("%d goroutines, and %d after the first reloads", runtime.NumGoroutine(), goroutines)
		}
	}
	for since := time.Now(); inHeap() > heap+4<<20; time.Sleep(10 * time.Millisecond) {
		if time.Since(since) > 20*time.Second {
			t.Fatalf("%d KiB in use, and %d after the first reloads", inHeap()>>10, heap>>10)
		}
	}
	close(stop)
	asking.Wait()
	t.Logf("%d good and %d bad reloads during %d checks, %d of them by the second edition", good, bad, checks.Load(), seenB.Load())
	if checks.Load() < int64(reloads) || seenB.Load() == 0 || seenB.Load() == checks.Load() {
		t.Errorf("%d checks, %d by the second edition", checks.Load(), seenB.Load())
	}
}

// inHeap is what is in use when garbage is away.
func inHeap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse
}

// checking serves an authorization and connects clients to it.
func checking(t *testing.T, authorization *extauthz.Server) []authv3.AuthorizationClient {
	t.Helper()
	listener, err := listen("127.0.0.1:0", 0)
	if err != nil {
		t.Fatal(err)
	}
	server := newGRPCServer(configure(t, "127.0.0.1:1"), transport(nil, slog.New(slog.DiscardHandler), func() {}), func(time.Duration) {})
	extauthz.Register(server, authorization)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	var clients []authv3.AuthorizationClient
	for range 4 {
		conn, err := grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		clients = append(clients, authv3.NewAuthorizationClient(conn))
	}
	t.Cleanup(func() { server.Stop(); <-served })
	return clients
}

// onlyAda finds Ada's session for every ID.
type onlyAda struct{}

func (onlyAda) Touch(_ context.Context, id sessions.ID, _ ...string) (*sessions.Session, error) {
	return &sessions.Session{Key: id.Key(), UserID: "42", CreatedAt: time.Now(), ExpiresAt: time.Now().Add(time.Hour)}, nil
}

// TestPolicyFile: a server takes up a file's changes however they are made, keeps
// what it has where there is nothing better, and says each once.
func TestPolicyFile(t *testing.T) {
	redis := redistest.Start(t)
	_, cookie := signIn(t, redis)
	dir := t.TempDir()
	path := filepath.Join(dir, "policies.yaml")
	write := func(path, text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(filepath.Join(dir, "a.yaml"), edition("A", "id"))
	write(filepath.Join(dir, "b.yaml"), edition("B", "session"))
	link := func(target string) { // as Kubernetes does it
		t.Helper()
		if err := os.Symlink(target, path+".tmp"); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".tmp", path); err != nil {
			t.Fatal(err)
		}
	}
	link("a.yaml")
	address := free(t)
	r := start(t, configure(t, redis.Addr, "listen: "+free(t), "policy_file: "+path, "admin: {listen: '"+address+"'}"))
	by := func(letter string) {
		t.Helper()
		got := ""
		for end := time.Now().Add(time.Minute); got != "allow-"+letter && time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
			status, policy, parts := asked(t.Context(), t, r, "/allowed", cookie)
			if err := rightFor("/allowed", status, policy, parts); err != nil {
				t.Fatal(err)
			}
			got = policy
		}
		if got != "allow-"+letter {
			t.Fatalf("by %s, want edition %s\n%s", got, letter, r.log)
		}
	}
	says := func(text string, times int) {
		t.Helper()
		for end := time.Now().Add(time.Minute); strings.Count(r.log.String(), text) < times && time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		}
		if n := strings.Count(r.log.String(), text); n != times {
			t.Errorf("the log says %q %d times, and not %d:\n%s", text, n, times, r.log)
		}
	}
	by("A")
	link("b.yaml")
	by("B")
	write(filepath.Join(dir, "next.yaml"), edition("A", "id"))
	if err := os.Rename(filepath.Join(dir, "next.yaml"), path); err != nil {
		t.Fatal(err)
	}
	by("A")
	write(path, badFiles[2])
	says("test still closed fails", 1)
	awaits(t, address, `coatcheck_reload_failing{source="policies"} 1`)
	by("A")
	time.Sleep(3 * reloadEvery) // it is looked at again, and nothing is said
	says("test still closed fails", 1)
	write(path, edition("B", "session"))
	by("B")
	awaits(t, address, `coatcheck_reload_failing{source="policies"} 0`)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	says("no such file or directory", 1)
	by("B")
	write(path, edition("A", "id"))
	if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	by("A")
	awaits(t, address, `coatcheck_reloads_total{result="error",source="policies"} 2`)
	awaits(t, address, `coatcheck_reloads_total{result="ok",source="policies"} 4`)
}
