package canonical

import (
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/net/idna"
)

func TestHost(t *testing.T) {
	for host, want := range map[string]string{
		"shop.example": "shop.example", "SHOP.Example": "shop.example", "shop.example:443": "shop.example",
		"shop.example:80": "shop.example", "shop.example:00080": "shop.example", "localhost": "localhost", "my_service": "my_service",
		"127.0.0.1": "127.0.0.1", "127.0.0.1:8000": "127.0.0.1", "[::1]": "[::1]", "[::1]:80": "[::1]", "[FE80::A]": "[fe80::a]",
		"xn--bcher-kva.example": "xn--bcher-kva.example", "XN--BCHER-KVA.example": "xn--bcher-kva.example", "1.2.3.example": "1.2.3.example", "a--b.example": "a--b.example",
	} {
		if got, ok := Host(host); !ok || got != want {
			t.Errorf("%q: %q, %v, want %q", host, got, ok, want)
		}
	}
	for _, host := range []string{
		"", ".", ":80", "..", "shop.example:", "[::1]:", "[0:0::1]", "[0::1]", "[::01]", "[::ffff:1.2.3.4]", "[::ffff:102:304]", "shop.example.", "shop.example.:80", "a..b", ".a", "a..", "a:b", "a:80:80", "a:123456", "a:-1", "a@b", "u:p@b", "a,b", "a b", "a/b", `a\b`, "a?b", "a#b", "a%2eb", "a\x00",
		"bücher.example", "-a.example", "a-.example", "::1", "[::1", "[::1]x", "[::1]:x", "[fe80::1%25eth0]", "[127.0.0.1]", "[]", "127.1", "0x7f000001", "2130706433",
		"0177.0.0.1", "1.2.3.4.5", "1.2.3", "a.0x1", "256.1.1.1", "xn--a.example", "xn--.example", strings.Repeat("a", 64), strings.Repeat("a.", 127) + "a", "a;b", "a~b", "*", "*.example",
	} {
		if got, ok := Host(host); ok {
			t.Errorf("%q is canonical: %q", host, got)
		}
	}
}

// asEnvoy is what Envoy compares with the domains of its virtual hosts, with
// strip_any_host_port: it takes the port away if that is a number.
func asEnvoy(host string) string {
	if colon := strings.LastIndexByte(host, ':'); colon > strings.LastIndexByte(host, ']') {
		if _, err := strconv.ParseUint(host[colon+1:], 10, 32); err == nil {
			host = host[:colon]
		}
	}
	return strings.ToLower(host)
}

// FuzzHost: what has a normal form keeps it, is the same host to Envoy and to net/url, and
// to golang.org/x/net/idna where that knows the name at all.
func FuzzHost(f *testing.F) {
	for _, seed := range []string{"shop.example", "A.B:80", "[::1]:8", "127.1", "xn--bcher-kva.example", "bücher", "a@b", "a,b", "a..", "0x7f.1", "my_service.", "[::ffff:1.2.3.4]"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, host string) {
		got, ok := Host(host)
		if !ok {
			return
		}
		if again, ok := Host(got); !ok || again != got {
			t.Fatalf("%q became %q and that %q, %v", host, got, again, ok)
		}
		if got != strings.ToLower(got) || strings.ContainsAny(got, "@,/\\?#% ") || strings.HasSuffix(got, ".") {
			t.Fatalf("%q became %q", host, got)
		}
		if envoys := asEnvoy(host); envoys != got {
			t.Fatalf("%q: Envoy looks for the virtual host of %q, we take it for %q", host, envoys, got)
		}
		u, err := url.Parse("http://" + host + "/")
		if err != nil || u.User != nil || u.Path != "/" {
			t.Fatalf("%q: net/url reads %+v, %v", host, u, err)
		}
		theirs := strings.TrimSuffix(strings.ToLower(u.Hostname()), ".")
		if address, err := netip.ParseAddr(theirs); err == nil && address.Is6() {
			theirs = "[" + address.String() + "]"
		}
		if theirs != got {
			t.Fatalf("%q: net/url reads %q, we %q", host, theirs, got)
		}
		if ascii, err := idna.Lookup.ToASCII(got); err == nil && ascii != got {
			t.Fatalf("%q: idna makes %q of %q", host, ascii, got)
		}
	})
}
