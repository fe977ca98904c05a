package serve

import (
	"crypto/tls"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/coatcheck/coatcheck/internal/notice"
	"github.com/coatcheck/coatcheck/internal/testtools/testca"
	"github.com/coatcheck/coatcheck/internal/testtools/testcollector"
	"github.com/coatcheck/coatcheck/sessions/redisstore/redistest"
)

// recorded sends a check of a trace that is recorded, and returns how long it took.
func (r *running) recorded(t *testing.T, cookie string) time.Duration {
	t.Helper()
	start := time.Now()
	response, err := r.Check(t.Context(), &authv3.CheckRequest{Attributes: &authv3.AttributeContext{
		Request: &authv3.AttributeContext_Request{Http: &authv3.AttributeContext_HttpRequest{
			Method: "GET", Path: "/x", Headers: map[string]string{"cookie": cookie, "traceparent": sampled},
		}},
	}})
	if err != nil || response.GetOkResponse() == nil {
		t.Errorf("a check: %v, %v", response, err)
	}
	return time.Since(start)
}

// TestCollectorAway: a collector that is away, or takes connections and never answers,
// delays neither a check nor the end. One line says that spans are lost, and one that
// they arrive again.
func TestCollectorAway(t *testing.T) {
	t.Parallel() // it waits
	server := redistest.Start(t)
	_, cookie := signIn(t, server)
	stuck, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer stuck.Close()
	address := free(t)
	for name, endpoint := range map[string]string{"away": address, "stuck": stuck.Addr().String()} {
		c := configure(t, server.Addr, "listen: "+free(t), "admin: {listen: "+free(t)+"}", "tracing: {endpoint: '"+endpoint+"'}")
		c.LogDecisions = "faults"
		r := start(t, c)
		var slowest time.Duration
		for range 4 { // on a busy machine one check of many may be slow by itself
			slowest = 0
			for range 3 * spanQueue / 2 { // two spans each: more than the queue takes
				slowest = max(slowest, r.recorded(t, cookie))
			}
			if slowest <= 2*time.Second {
				break
			}
		}
		if slowest > 2*time.Second {
			t.Errorf("%s: a check took %v", name, slowest)
		}
		if name == "away" {
			r.logs(t, `"notice":"traces_lost"`)
			time.Sleep(2 * exportEvery)
			collector := testcollector.StartAt(t, address)
			for deadline := time.Now().Add(time.Minute); len(collector.Spans()) == 0 && time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
				r.recorded(t, cookie)
			}
			r.logs(t, "no longer so: spans do not reach the collector")
			if n := r.said(notice.TracesLost); n != 1 || stands(t, c, notice.TracesLost) {
				t.Errorf("said %d times: %s", n, r.log)
			}
		}
		began := time.Now()
		r.stop()
		if err := <-r.ended; err != nil || time.Since(began) > 20*time.Second {
			t.Errorf("%s: the end took %v: %v", name, time.Since(began), err)
		}
	}
}

// TestCollectorTLS: spans travel over mTLS with a token, which may be replaced while the
// server runs, and which is in no line of the log.
func TestCollectorTLS(t *testing.T) {
	t.Parallel() // it waits
	i := newIdentities(t)
	i.issue("coatcheck", testca.Leaf{Client: true, DNSNames: []string{"coatcheck.test"}})
	pair, err := tls.LoadX509KeyPair(i.path("server.pem"), i.path("server.key"))
	i.must(err)
	config := i.client("")
	collector := testcollector.Start(t, grpc.Creds(credentials.NewTLS(&tls.Config{
		MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: config.RootCAs,
	})))
	i.must(os.WriteFile(i.path("headers"), []byte("# of the collector\nAuthorization: Bearer first-token\n"), 0o600))
	server := redistest.Start(t)
	_, cookie := signIn(t, server)
	c := configure(t, server.Addr, "listen: "+free(t), "admin: {listen: "+free(t)+"}", "tracing: {endpoint: '"+collector.Addr+"', headers_file: "+i.path("headers")+
		", tls: {enabled: true, ca_file: "+i.path("ca.pem")+", cert_file: "+i.path("coatcheck.pem")+", key_file: "+i.path("coatcheck.key")+"}}")
	r := start(t, c)
	tokens := func(want string) {
		t.Helper()
		for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
			r.recorded(t, cookie)
			if strings.Join(collector.Header("authorization"), ", ") == want {
				return
			}
		}
		t.Fatalf("the collector got %q, want %q\n%s", collector.Header("authorization"), want, r.log)
	}
	tokens("Bearer first-token")
	i.must(os.WriteFile(i.path("headers"), []byte("authorization: Bearer second-token\n"), 0o600))
	tokens("Bearer second-token")
	i.must(os.WriteFile(i.path("headers"), []byte("authorization: Bearer bad-\x01token\n"), 0o600))
	for deadline := time.Now().Add(time.Minute); !stands(t, c, notice.TracesLost) && time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		r.recorded(t, cookie)
	}
	r.logs(t, `"notice":"traces_lost"`)
	if strings.Contains(r.log.String(), "token") {
		t.Errorf("the log has a token: %s", r.log)
	}
	awaits(t, c.AdminListen, `coatcheck_reload_failing{source="tracing_tls"} 0`)
}
