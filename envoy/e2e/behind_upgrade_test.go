package e2e_test

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"

	"github.com/coatcheck/coatcheck/envoy/e2e/rig"
	"github.com/coatcheck/coatcheck/extauthz"
)

// TestNothingBehindAnUpgrade: what a client sends behind a request for a WebSocket is no
// HTTP to Envoy, which does not check it. To an upstream that refuses the WebSocket it would
// be the next request, with any identity.
func TestNothingBehindAnUpgrade(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var served []string
	upstream := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		served = append(served, r.RequestURI)
	}))
	t.Cleanup(upstream.Close)
	address := upstream.Listener.Addr().String()
	d := startDeciding(t, extauthz.PolicySet{}, closingAtOnce, func(b *bootstrapv3.Bootstrap) { rig.ClusterAt(b, "upstream", address) })
	// send returns what the upstream has served of one connection.
	send := func(to, text string) []string {
		conn, err := net.Dial("tcp", to)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(time.Minute))
		_, _ = io.WriteString(conn, text)
		_, _ = io.Copy(io.Discard, conn)
		mu.Lock()
		defer mu.Unlock()
		all := served
		served = nil
		return all
	}
	const begin, behind = "GET /public/x HTTP/1.1\r\nHost: shop.example\r\n", "GET /secret HTTP/1.1\r\nHost: shop.example\r\nX-User-Id: admin\r\nConnection: close\r\n\r\n"
	reached := 0
	for _, head := range []string{
		begin + "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
		begin + "Connection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
		begin + "Connection: Upgrade\r\nUpgrade: websocket\r\nUpgrade: websocket\r\n\r\n",
		begin + "Connection: Upgrade\r\nUpgrade: websocket, h2c\r\n\r\n",
	} {
		if all := send(address, head+behind); !slices.Equal(all, []string{"/public/x", "/secret"}) {
			t.Errorf("%q: without Envoy the upstream serves %q: the test would see no way in", head, all)
		}
		all := send(strings.TrimPrefix(d.URL, "http://"), head+behind)
		if len(all) > 0 {
			reached++
		}
		if slices.Contains(all, "/secret") {
			t.Errorf("%q: the upstream served %q", head, all)
		}
	}
	if reached < 2 {
		t.Errorf("only %d requests reached the upstream", reached)
	}
}
