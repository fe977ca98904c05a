package browser_test

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/coatcheck/coatcheck/envoy/e2e/rig"
	"github.com/coatcheck/coatcheck/internal/testtools/testca"
)

// refusals are the titles of the pages, by language and status.
var refusals = map[string]map[int64]string{
	"en": {400: "Bad request", 401: "Sign-in required", 403: "Access denied", 503: "Not available right now"},
	"de": {400: "Ungültige Anfrage", 401: "Anmeldung erforderlich", 403: "Zugriff verweigert", 503: "Vorübergehend nicht verfügbar"},
	"pt": {400: "Requisição inválida", 401: "É preciso entrar", 403: "Acesso negado", 503: "Temporariamente indisponível"},
}

// TestRefused: over https, on a name that is not this machine's, a person who is refused
// sees a page in the language of the browser, without a policy file, and gets on from it.
func TestRefused(t *testing.T) {
	k := newAuthority(t)
	s := startBehind(t, func(b *bootstrapv3.Bootstrap) {
		k.encrypt(b)
		// Without the route that refuses odd paths before Coatcheck does, with plain text.
		rig.ChangeFront(b, func(m *hcmv3.HttpConnectionManager) {
			host := m.GetRouteConfig().GetVirtualHosts()[0]
			host.Routes = host.Routes[1:]
		})
	})
	for lang, accept := range map[string]string{"en": "en-GB,en", "de": "de-AT,de,en", "pt": "pt-BR,pt,en"} {
		b := open(t, s, k.trusted, chromedp.Flag("lang", accept[:5]), chromedp.Flag("accept-lang", accept))
		b.front = strings.Replace(s.URL, "http://127.0.0.1", "https://shop.test", 1)
		b.visit("/orders")
		b.shows(b.signIn("max", password), 200, "X-User-Id")
		b.refused(lang, 400, b.visit("/orders;v=1"))
		b.refused(lang, 403, b.visit("/admin"))
		if lang == "en" {
			b.leadsOn()
		}
		s.Redis.Kill()
		b.refused(lang, 503, b.visit("/orders?page=2"))
		if err := s.Redis.Restart(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the page does not lead back", func() bool { return b.press(".button") != 503 })
	}
}

// refused fails the test unless the page is that of this status, in this language.
func (b *browser) refused(lang string, want, status int64) {
	b.Helper()
	b.shows(status, want, refusals[lang][want])
	title := value[string](b, "document.title")
	got := value[string](b, "document.documentElement.lang + ' ' + performance.getEntriesByType('resource').length + ' ' + document.querySelector('.number code').textContent.length")
	if title != refusals[lang][want]+" · Coatcheck" || got != lang+" 0 36" {
		b.Errorf("%s %d: the title is %q, and language, loaded and length of the request's number are %s", lang, want, title, got)
	}
	name := fmt.Sprintf("refused-%s-%d", lang, want)
	b.look(name)
	switch {
	case lang == "en":
		b.kept(name, "light", 1280)
	case want == 403:
		b.kept(name, "dark", 390)
	case want == 503:
		b.kept(name, "light", 390)
	}
}

// leadsOn tries the links of the page of a 403.
func (b *browser) leadsOn() {
	b.Helper()
	b.announces("RootWebArea: Access denied · Coatcheck", "main", "heading: Access denied", "link: Back to the start page", "link: Use another account")
	b.shows(b.press(".foot a"), 200, "Sign out")
	b.at("/.auth/login?rd=%2Fadmin")
	b.refused("en", 403, b.visit("/admin?x=%22%3E%3Cscript%3E"))
	b.shows(b.press(".button"), 200, "X-User-Id")
	b.at("/")
}

// TestRefusedWithoutLogin: where there is no login URL, a 401 is a page, too.
func TestRefusedWithoutLogin(t *testing.T) {
	k := newAuthority(t)
	s := startBehind(t, k.encrypt, "--login-url=", "--login-name", "Shop & Söhne", "--login-accent", "#ffcc00")
	for lang, accept := range map[string]string{"en": "en-GB,en", "de": "de", "pt": "pt-PT,pt"} {
		b := open(t, s, k.trusted, chromedp.Flag("accept-lang", accept))
		b.front = strings.Replace(s.URL, "http://127.0.0.1", "https://shop.test", 1)
		b.shows(b.visit("/orders"), 401, refusals[lang][401])
		b.shows(401, 401, "Shop & Söhne")
		b.look("refused-own-" + lang + "-401")
		if lang == "de" {
			b.kept("refused-own-de-401", "light", 390)
		}
	}
}

// An authority signs the front's certificate, and the browser trusts it, as it would one
// of the machine's: by its key, since a profile in which it is listed needs a program of
// NSS.
type authority struct {
	dir     string
	trusted chromedp.ExecAllocatorOption
	*testing.T
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	k := &authority{dir: t.TempDir(), T: t}
	ca, err := testca.New()
	if err == nil {
		err = ca.Issue(k.path("front.pem"), k.path("front.key"), testca.Leaf{DNSNames: []string{"shop.test"}, Server: true})
	}
	if err != nil {
		t.Fatal(err)
	}
	chain, err := os.ReadFile(k.path("front.pem"))
	if err == nil {
		err = os.WriteFile(k.path("front.pem"), append(chain, ca.PEM()...), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(ca.PEM())
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	k.trusted = chromedp.Flag("ignore-certificate-errors-spki-list", base64.StdEncoding.EncodeToString(sum[:]))
	return k
}

func (k *authority) path(name string) string { return filepath.Join(k.dir, name) }

// encrypt has the front speak TLS.
func (k *authority) encrypt(b *bootstrapv3.Bootstrap) {
	k.Helper()
	file := func(name string) *corev3.DataSource {
		return &corev3.DataSource{Specifier: &corev3.DataSource_Filename{Filename: k.path(name)}}
	}
	config, err := anypb.New(&tlsv3.DownstreamTlsContext{CommonTlsContext: &tlsv3.CommonTlsContext{
		TlsCertificates: []*tlsv3.TlsCertificate{{CertificateChain: file("front.pem"), PrivateKey: file("front.key")}},
	}})
	if err != nil {
		k.Fatal(err)
	}
	b.GetStaticResources().GetListeners()[0].GetFilterChains()[0].TransportSocket = &corev3.TransportSocket{
		Name: "envoy.transport_sockets.tls", ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: config},
	}
}
