package tlsfiles_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/coatcheck/coatcheck/cmd/internal/tlsfiles"
	"github.com/coatcheck/coatcheck/internal/testtools/testca"
	"github.com/coatcheck/coatcheck/internal/testtools/testleaks"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(testleaks.Patient(m)) }

// A house is a directory with an authority, a server's files and a client's.
type house struct {
	*testing.T
	ca             *testca.CA
	dir            string
	server, client tlsfiles.Files
}

func newHouse(t *testing.T) *house {
	h := &house{T: t, dir: t.TempDir()}
	h.server = tlsfiles.Files{CertFile: h.path("server.pem"), KeyFile: h.path("server.key"), CAFile: h.path("ca.pem")}
	h.client = tlsfiles.Files{CertFile: h.path("client.pem"), KeyFile: h.path("client.key"), CAFile: h.path("ca.pem")}
	h.newCA()
	h.issue(h.server, testca.Leaf{Server: true})
	h.issue(h.client, testca.Leaf{Client: true, DNSNames: []string{"envoy.test"}, URIs: []string{"spiffe://test/envoy"}})
	return h
}

func (h *house) path(name string) string { return filepath.Join(h.dir, name) }

func (h *house) must(err error) {
	h.Helper()
	if err != nil {
		h.Fatal(err)
	}
}

func (h *house) newCA() {
	var err error
	h.ca, err = testca.New()
	h.must(err)
	h.must(h.ca.Write(h.path("ca.pem")))
}

func (h *house) issue(f tlsfiles.Files, leaf testca.Leaf) {
	h.Helper()
	h.must(h.ca.Issue(f.CertFile, f.KeyFile, leaf))
}

func (h *house) open(f tlsfiles.Files) *tlsfiles.Source {
	h.Helper()
	s, err := tlsfiles.Open(f)
	h.must(err)
	return s
}

// shake connects a client to a server and returns what each has to say, and
// the server's certificate's serial number.
func (h *house) shake(server, client *tlsfiles.Source, names ...string) (serial string, serverErr, clientErr error) {
	h.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	h.must(err)
	defer listener.Close()
	done := make(chan error, 1)
	go func() {
		conn, err := listener.Accept()
		if err == nil {
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(time.Minute))
			_, err = io.WriteString(tls.Server(conn, server.Server("h2", names)), "hello")
		}
		done <- err
	}()
	conn, err := client.Dialer(time.Minute, "")(h.Context(), "tcp", listener.Addr().String())
	if err == nil {
		_ = conn.SetDeadline(time.Now().Add(time.Minute))
		_, err = io.ReadFull(conn, make([]byte, 5)) // with TLS 1.3 a client learns only now that it is refused
		serial = conn.(*tls.Conn).ConnectionState().PeerCertificates[0].SerialNumber.String()
		_ = conn.Close()
	}
	return serial, <-done, err
}

func TestHandshakes(t *testing.T) {
	h := newHouse(t)
	server := h.open(h.server)
	noClientCA := h.server
	noClientCA.CAFile = ""
	plain := h.open(noClientCA)
	nameless := tlsfiles.Files{CAFile: h.server.CAFile}
	for _, test := range []struct {
		name   string
		server *tlsfiles.Source
		client *tlsfiles.Source
		names  []string
		good   bool
	}{
		{"TLS", plain, h.open(nameless), nil, true},
		{"TLS, the client presents one unasked", plain, h.open(h.client), nil, true},
		{"mTLS by DNS name", server, h.open(h.client), []string{"other.test", "ENVOY.test"}, true},
		{"mTLS by URI", server, h.open(h.client), []string{"spiffe://test/envoy"}, true},
		{"mTLS, another name", server, h.open(h.client), []string{"other.test", "spiffe://test/envoy/x", "envoy"}, false},
		{"mTLS, no name at all", server, h.open(h.client), nil, false},
		{"mTLS, no certificate", server, h.open(nameless), []string{"envoy.test"}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			h.T = t
			_, serverErr, clientErr := h.shake(test.server, test.client, test.names...)
			if good := serverErr == nil && clientErr == nil; good != test.good {
				t.Errorf("server: %v, client: %v", serverErr, clientErr)
			}
		})
	}
	h.T = t

	// One with the right name, by a foreign authority.
	mine := h.ca
	h.newCA()
	h.issue(h.client, testca.Leaf{Client: true, DNSNames: []string{"envoy.test"}})
	h.must(mine.Write(h.path("ca.pem")))
	if _, serverErr, _ := h.shake(server, h.open(h.client), "envoy.test"); serverErr == nil {
		t.Error("a certificate of a foreign authority got in")
	}
}

// TestServerExpiry: it is known when the certificates of servers end, the earliest of all, also
// where one has ended already; a renewed one counts at the next handshake, and what a server
// shows that is not believed counts for nothing.
func TestServerExpiry(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	client := h.open(h.client)
	dial := client.Dialer(time.Second, "")
	serve := func(f tlsfiles.Files) (connect func()) {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		h.must(err)
		var serving sync.WaitGroup
		t.Cleanup(func() { _ = listener.Close(); serving.Wait() })
		serving.Go(func() {
			for {
				conn, err := listener.Accept()
				if err != nil {
					return
				}
				if pair, err := tls.LoadX509KeyPair(f.CertFile, f.KeyFile); err == nil {
					_ = tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{pair}}).Handshake()
				}
				_ = conn.Close()
			}
		})
		return func() {
			if conn, err := dial(t.Context(), "tcp", listener.Addr().String()); err == nil {
				_ = conn.Close()
			}
		}
	}
	wants := func(what string, want time.Time) {
		t.Helper()
		if got := client.ServerExpiry(); got.Unix() != want.Unix() {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	wants("no server", time.Time{})
	now := time.Now()
	other := tlsfiles.Files{CertFile: h.path("other.pem"), KeyFile: h.path("other.key")}
	first, second := serve(h.server), serve(other)
	h.issue(h.server, testca.Leaf{Server: true, NotAfter: now.Add(2 * time.Hour)})
	h.issue(other, testca.Leaf{Server: true, NotAfter: now.Add(time.Hour)})
	first()
	wants("one server", now.Add(2*time.Hour))
	second()
	wants("two", now.Add(time.Hour))
	h.issue(other, testca.Leaf{Server: true, NotAfter: now.Add(9 * time.Hour)})
	second()
	wants("renewed", now.Add(2*time.Hour))
	h.issue(h.server, testca.Leaf{Server: true, NotBefore: now.Add(-2 * time.Hour), NotAfter: now.Add(-time.Hour)})
	first()
	wants("expired", now.Add(-time.Hour))
	h.issue(h.server, testca.Leaf{Server: true, NotAfter: now.Add(3 * time.Hour)})
	first()
	wants("renewed again", now.Add(3*time.Hour))
	stranger, err := testca.New()
	h.must(err)
	h.must(stranger.Issue(other.CertFile, other.KeyFile, testca.Leaf{Server: true, NotAfter: now.Add(time.Hour)}))
	second()
	wants("a stranger's", now.Add(3*time.Hour))
}

// TestExpiredClient: validity is checked at each handshake.
func TestExpiredClient(t *testing.T) {
	h := newHouse(t)
	ends := time.Now().Add(5 * time.Second)
	h.issue(h.client, testca.Leaf{Client: true, DNSNames: []string{"envoy.test"}, NotAfter: ends})
	client := h.open(h.client)
	time.Sleep(time.Until(ends) + time.Second)
	if _, serverErr, _ := h.shake(h.open(h.server), client, "envoy.test"); serverErr == nil {
		t.Error("an expired certificate got in")
	}
}

// TestReload: new files are for the next handshake; bad ones change nothing, and
// are told of once.
func TestReload(t *testing.T) {
	h := newHouse(t)
	server, client := h.open(h.server), h.open(h.client)
	first, _, _ := h.shake(server, client, "envoy.test")
	reports, stop := h.watch(server, 20*time.Millisecond, nil)
	report := func() error { t.Helper(); return h.report(reports) }
	time.Sleep(100 * time.Millisecond)
	if len(reports) > 0 {
		t.Errorf("the same files: %v", <-reports)
	}

	h.issue(h.server, testca.Leaf{Server: true})
	h.good(reports)
	if second, _, err := h.shake(server, client, "envoy.test"); err != nil || second == first {
		t.Errorf("%v, the certificate is %s as before", err, second)
	}

	h.must(os.WriteFile(h.server.CertFile, []byte("rubbish"), 0o600))
	if err := report(); err == nil || !strings.Contains(err.Error(), h.server.CertFile) {
		t.Errorf("rubbish: %v", err)
	}
	time.Sleep(200 * time.Millisecond)
	if len(reports) > 0 {
		t.Errorf("told again: %v", <-reports)
	}
	if _, _, err := h.shake(server, client, "envoy.test"); err != nil {
		t.Errorf("with rubbish on disk: %v", err)
	}
	h.must(os.Remove(h.server.KeyFile))
	if err := report(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file that is gone: %v", err)
	}
	h.issue(h.server, testca.Leaf{Server: true})
	h.good(reports)

	// Another authority: who was let in before is not any more.
	h.newCA()
	h.good(reports)
	_, serverErr, _ := h.shake(server, client, "envoy.test")
	for since := time.Now(); serverErr == nil && time.Since(since) < time.Minute; { // it is written after the certificate
		_, serverErr, _ = h.shake(server, client, "envoy.test")
	}
	if serverErr == nil {
		t.Error("a certificate of the former authority got in")
	}
	stop()
}

// TestSignal: after a signal files are in use at once, and what is wrong with them is
// reported again.
func TestSignal(t *testing.T) {
	h := newHouse(t)
	server, client := h.open(h.server), h.open(h.client)
	first, _, _ := h.shake(server, client, "envoy.test")
	now := make(chan os.Signal)
	reports, _ := h.watch(server, time.Hour, now)
	h.issue(h.server, testca.Leaf{Server: true})
	now <- syscall.SIGHUP
	if err := h.report(reports); err != nil {
		t.Error(err)
	}
	if second, _, err := h.shake(server, client, "envoy.test"); err != nil || second == first {
		t.Errorf("%v, the certificate is %s as before", err, second)
	}
	h.must(os.WriteFile(h.server.CertFile, []byte("rubbish"), 0o600))
	for range 2 {
		now <- syscall.SIGHUP
		if err := h.report(reports); err == nil {
			t.Error("rubbish is in use")
		}
	}
}

// watch watches the files until stop is called, or the test ends.
func (h *house) watch(s *tlsfiles.Source, interval time.Duration, now chan os.Signal) (reports chan error, stop func()) {
	reports = make(chan error, 100)
	ctx, cancel := context.WithCancel(h.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.Watch(ctx, interval, now, func(err error) { reports <- err })
	}()
	stop = func() { cancel(); <-ended }
	h.Cleanup(stop)
	return reports, stop
}

// good waits for the report that files are in use. On a busy machine one of a pair may be
// seen before the other is there.
func (h *house) good(reports chan error) {
	h.Helper()
	for h.report(reports) != nil {
	}
}

// report waits for one report.
func (h *house) report(reports chan error) error {
	h.Helper()
	select {
	case err := <-reports:
		return err
	case <-time.After(time.Minute):
		h.Fatal("nothing was reported")
		return nil
	}
}

// TestKubernetes: a mounted Secret changes by a symbolic link that moves.
func TestKubernetes(t *testing.T) {
	h := newHouse(t)
	mount := t.TempDir()
	version := func(name string) {
		dir := filepath.Join(mount, name)
		h.must(os.Mkdir(dir, 0o700))
		h.must(h.ca.Issue(filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key"), testca.Leaf{}))
		next := filepath.Join(mount, "..data_tmp")
		h.must(os.Symlink(name, next))
		h.must(os.Rename(next, filepath.Join(mount, "..data")))
	}
	version("..v1")
	f := tlsfiles.Files{CertFile: filepath.Join(mount, "tls.crt"), KeyFile: filepath.Join(mount, "tls.key")}
	h.must(os.Symlink("..data/tls.crt", f.CertFile))
	h.must(os.Symlink("..data/tls.key", f.KeyFile))
	s := h.open(f)
	reports, _ := h.watch(s, 20*time.Millisecond, nil)
	version("..v2")
	if err := h.report(reports); err != nil {
		t.Error(err)
	}
}

func TestMistakes(t *testing.T) {
	h := newHouse(t)
	old := tlsfiles.Files{CertFile: h.path("old.pem"), KeyFile: h.path("old.key")}
	h.issue(old, testca.Leaf{NotAfter: time.Now().Add(-time.Hour)})
	h.must(os.WriteFile(h.path("empty.pem"), nil, 0o600))
	young := tlsfiles.Files{CertFile: h.path("young.pem"), KeyFile: h.path("young.key")}
	h.issue(young, testca.Leaf{NotBefore: time.Now().Add(time.Hour)})
	two := append(h.ca.PEM(), h.ca.PEM()...)
	h.must(os.WriteFile(h.path("half.pem"), two[:len(two)-100], 0o600))
	h.must(os.WriteFile(h.path("mixed.pem"), append(h.ca.PEM(), "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"...), 0o600))
	for name, test := range map[string]struct {
		files tlsfiles.Files
		want  string
	}{
		"no such file":        {tlsfiles.Files{CAFile: h.path("none.pem")}, "none.pem"},
		"another key":         {tlsfiles.Files{CertFile: h.server.CertFile, KeyFile: h.client.KeyFile}, "client.key"},
		"the key as the cert": {tlsfiles.Files{CertFile: h.server.KeyFile, KeyFile: h.server.KeyFile}, "server.key"},
		"expired":             {old, "expired"},
		"not yet":             {young, "not valid before"},
		"half a bundle":       {tlsfiles.Files{CAFile: h.path("half.pem")}, "breaks off in block 2"},
		"no certificate":      {tlsfiles.Files{CAFile: h.path("mixed.pem")}, "block 2 is not a certificate"},
		"no authority in it":  {tlsfiles.Files{CAFile: h.path("empty.pem")}, "holds no certificate"},
	} {
		if _, err := tlsfiles.Open(test.files); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
