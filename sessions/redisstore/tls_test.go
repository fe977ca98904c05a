package redisstore_test

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/internal/testtools/testca"
	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/redisstore"
	"github.com/coatcheck/coatcheck/sessions/redisstore/redistest"
)

// A pki is an authority with a server's files and a client's certificate.
type pki struct {
	ca     *testca.CA
	server redistest.TLS
	client tls.Certificate
}

func newPKI(t *testing.T) *pki {
	t.Helper()
	ca, err := testca.New()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	p := &pki{ca: ca, server: redistest.TLS{
		CertFile: filepath.Join(dir, "cert.pem"), KeyFile: filepath.Join(dir, "key.pem"), CAFile: filepath.Join(dir, "ca.pem"),
	}}
	cert, key, err := ca.Pair(testca.Leaf{Client: true})
	if err != nil {
		t.Fatal(err)
	}
	p.client, err = tls.X509KeyPair(cert, key)
	if err := errors.Join(err, ca.Write(p.server.CAFile), ca.Issue(p.server.CertFile, p.server.KeyFile, testca.Leaf{})); err != nil {
		t.Fatal(err)
	}
	return p
}

// dialer connects with TLS, as the command does it.
func (p *pki) dialer(certs ...tls.Certificate) func(context.Context, string, string) (net.Conn, error) {
	return (&tls.Dialer{Config: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: p.ca.Pool(), Certificates: certs}}).DialContext
}

// serves logs a user in and looks at the session.
func serves(t *testing.T, client *redisstore.Client) {
	t.Helper()
	m := newManager(t, client, sessions.Config{})
	id, _, err := m.Create(t.Context(), sessions.NewSession{UserID: "42"})
	if err != nil {
		t.Error(err)
		return
	}
	if _, err := m.Touch(t.Context(), id); err != nil {
		t.Error(err)
	}
}

// refuses looks for a session and gets an error that tells nothing about it.
func refuses(t *testing.T, client *redisstore.Client) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	_, err := newManager(t, client, sessions.Config{}).Touch(ctx, sessions.NewID())
	if err == nil || errors.Is(err, sessions.ErrNotFound) || redisstore.Refused(err) {
		t.Errorf("error is %v, want one that says that Redis was not reached", err)
	}
	t.Logf("refused with: %v", err)
}

func TestTLS(t *testing.T) {
	p, other := newPKI(t), newPKI(t)
	server := redistest.StartWith(t, redistest.Options{TLS: &p.server})
	to := func(dial func(context.Context, string, string) (net.Conn, error)) *redisstore.Client {
		config := checking(server.TLSAddr)
		config.Dialer = dial
		return connect(t, config)
	}
	serves(t, to(p.dialer()))
	refuses(t, to(other.dialer()))              // an authority that did not sign the server's
	refuses(t, to((&net.Dialer{}).DialContext)) // plaintext

	p.server.ClientCerts = true
	server = redistest.StartWith(t, redistest.Options{TLS: &p.server})
	serves(t, to(p.dialer(p.client)))
	refuses(t, to(p.dialer()))             // no certificate
	refuses(t, to(p.dialer(other.client))) // one that another authority signed
}

// TestTLSSentinel and TestTLSCluster: every connection speaks TLS, to the
// Sentinels and to nodes that others told of, too.
func TestTLSSentinel(t *testing.T) {
	t.Parallel()
	p := newPKI(t)
	p.server.ClientCerts = true
	set := redistest.StartSentinels(t, 0, &p.server)
	config := checking(set.Addrs...)
	config.MasterName, config.SentinelPassword, config.Dialer = redistest.MasterName, redistest.Password, p.dialer(p.client)
	serves(t, connect(t, config))
	config.Dialer = p.dialer()
	refuses(t, connect(t, config))
}

func TestTLSCluster(t *testing.T) {
	t.Parallel()
	p := newPKI(t)
	p.server.ClientCerts = true
	cluster := redistest.StartCluster(t, 0, &p.server)
	config := checking(cluster.TLSAddrs()[0])
	config.IsClusterMode, config.Dialer = true, p.dialer(p.client)
	client := connect(t, config)
	for range 16 {
		serves(t, client)
	}
	config.Dialer = p.dialer()
	refuses(t, connect(t, config))
}

// TestTLSDeadConnections: no revocation is spent on the connections that Redis has ended, of
// which each would be found dead by a command. One that was killed says goodbye in bytes.
func TestTLSDeadConnections(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*redistest.Server) error{
		"restart": (*redistest.Server).Restart,
		"killed":  killOthers,
	} {
		t.Run(name, func(t *testing.T) {
			p := newPKI(t)
			server := redistest.StartWith(t, redistest.Options{TLS: &p.server})
			config := checking(server.TLSAddr)
			config.Dialer = p.dialer()
			client := connect(t, config)
			m := newManager(t, client, sessions.Config{})
			fillPool(t, client)
			if err := end(server); err != nil {
				t.Fatal(err)
			}
			for range 8 {
				if err := m.Revoke(t.Context(), sessions.NewID().Key()); err != nil && !errors.Is(err, sessions.ErrNotFound) {
					t.Error(err)
				}
			}
		})
	}
}

// killOthers has Redis end all connections, and waits until it has.
func killOthers(s *redistest.Server) error {
	ctx, admin := context.Background(), s.Client()
	if err := admin.ClientKillByFilter(ctx, "type", "normal", "skipme", "yes").Err(); err != nil {
		return err
	}
	for end := time.Now().Add(time.Minute); time.Now().Before(end); {
		if list, err := admin.ClientList(ctx).Result(); err != nil || strings.Count(list, "\n") <= 1 {
			return err
		}
		time.Sleep(10 * time.Millisecond)
	}
	return errors.New("Redis ends no connection")
}

// fillPool opens connections: each call holds one of its own for a while. On a busy machine
// some may be over before others begin; then there are more.
func fillPool(t *testing.T, client *redisstore.Client) {
	t.Helper()
	for range 20 {
		var calls sync.WaitGroup
		for range 8 {
			calls.Go(func() { client.BLPop(t.Context(), 300*time.Millisecond, "no such list") })
		}
		calls.Wait()
		if client.PoolStats().IdleConns >= 4 {
			return
		}
	}
	t.Fatalf("%d idle connections", client.PoolStats().IdleConns)
}

// TestTLSSilence: a server that accepts and says nothing holds no call up.
func TestTLSSilence(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	config := hasty(listener.Addr().String())
	config.Dialer = newPKI(t).dialer()
	m := newManager(t, connect(t, config), sessions.Config{})
	for range 12 {
		if took, err := check(m, sessions.NewID(), checkTimeout); err == nil || took > heldUp {
			t.Errorf("%v after %v", err, took)
		}
	}
}

func TestUnixSocket(t *testing.T) {
	t.Parallel()
	server := redistest.StartWith(t, redistest.Options{Socket: true})
	client := connect(t, checking(server.Socket))
	serves(t, client)
	m := newManager(t, client, sessions.Config{})
	server.Kill()
	for range 12 {
		if took, err := check(m, sessions.NewID(), checkTimeout); err == nil || errors.Is(err, sessions.ErrNotFound) || took > heldUp {
			t.Errorf("without a server: %v after %v", err, took)
		}
	}
	if err := server.Restart(); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	for {
		if _, err := check(m, sessions.NewID(), enough); errors.Is(err, sessions.ErrNotFound) {
			break
		}
		if time.Since(start) > time.Minute {
			t.Fatal("not back after a minute")
		}
	}
}
