package stage

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"time"

	"github.com/coatcheck/coatcheck/internal/testtools/testca"
)

// looking is how long Coatcheck may take to find files of TLS changed: two looks, half a second
// apart.
const looking = time.Second

// handshakes are what happens to certificates. Each ends the connections that Coatcheck
// has, or what it presents and believes would not matter for an hour.
func handshakes() []Fault {
	return each(tlsFaults, func(f *Fault) {
		f.TLS = true
		if f.On == nil {
			f.On = everywhere
		}
	})
}

var tlsFaults = []Fault{
	{
		Name: "tls-rotated", Rows: []string{"F17"},
		What: "Redis and Coatcheck get new certificates of the same authority; connections are ended meanwhile.",
		For:  time.Second, Bound: time.Second, Inject: certified(bothRenewed),
	},
	{
		Name: "tls-expired", Rows: []string{"F17"},
		What: "Redis shows a certificate that has expired.",
		For:  1500 * time.Millisecond, Bound: time.Second, Inject: certified(serverExpired),
	},
	{
		Name: "tls-foreign", Rows: []string{"F17"},
		What: "Redis shows a certificate of another authority, as a server does that has taken its place.",
		For:  1500 * time.Millisecond, Bound: time.Second, Inject: certified(serverForeign),
	},
	{
		Name: "tls-name", Rows: []string{"F17"},
		What: "Redis shows a certificate for another name.",
		For:  1500 * time.Millisecond, Bound: time.Second, Inject: certified(serverMisnamed),
	},
	{
		Name: "tls-client-expired", Rows: []string{"F17", "F24"},
		What: "Coatcheck's own certificate is replaced by one that has expired, which it must not take; connections are ended.",
		For:  3 * time.Second, Bound: time.Second, Inject: certified(clientExpired),
	},
	{
		Name: "tls-client-refused", Rows: []string{"F17"},
		What: "Redis believes another authority alone, and refuses Coatcheck's certificate.",
		For:  1500 * time.Millisecond, Bound: time.Second, Inject: certified(clientRefused),
	},
	{
		Name: "tls-garbage", Rows: []string{"F17", "F24"},
		What: "Coatcheck's files of TLS are broken while connections are ended: it must keep to those that it has read.",
		For:  3 * time.Second, Bound: time.Second, Inject: certified(clientGarbage),
	},
	{
		Name: "tls-moved", Rows: []string{"F17"}, On: []Kind{Single, Cluster}, // Sentinels read their files at the start alone
		What: "Redis moves to another authority at once; Coatcheck's file of authorities follows 1.5 s later.",
		For:  1500 * time.Millisecond, Bound: looking + time.Second, Inject: moved,
		Why: "a file counts at the second look that finds it so, within a second",
	},
}

// certified changes files until the healing. After each change the servers read theirs
// again, and Coatcheck's connections are ended.
func certified(change func(c *certificates) error) injection {
	return func(ctx context.Context, s *Stage, _ *rand.Rand) (func() error, error) {
		c := s.certificates
		back, err := remember(c.server.cert, c.server.key, c.server.ca, c.client.cert, c.client.key, c.client.ca)
		if err != nil {
			return nil, err
		}
		heal := func() error { return errors.Join(back(), s.handshakeAgain(context.Background())) }
		if err := change(c); err != nil {
			return nil, errors.Join(err, heal())
		}
		if err := s.handshakeAgain(ctx); err != nil {
			return nil, errors.Join(err, heal())
		}
		return heal, nil
	}
}

// handshakeAgain has each server use its files as they are now.
func (s *Stage) handshakeAgain(ctx context.Context) error {
	at := s.certificates.server
	for _, n := range s.nodes {
		if !n.alive {
			continue
		}
		err := n.configure(ctx, "tls-cert-file", at.cert, "tls-key-file", at.key, "tls-ca-cert-file", at.ca)
		if err != nil {
			return err
		}
	}
	s.endConnections(ctx)
	return nil
}

func bothRenewed(c *certificates) error {
	return errors.Join(c.ca.Issue(c.server.cert, c.server.key, testca.Leaf{}), c.ca.Issue(c.client.cert, c.client.key, testca.Leaf{}))
}

// expired is a certificate's time that is over.
func expired() testca.Leaf {
	return testca.Leaf{NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(-time.Minute)}
}

func serverExpired(c *certificates) error { return c.ca.Issue(c.server.cert, c.server.key, expired()) }

func serverForeign(c *certificates) error {
	return c.foreign.Issue(c.server.cert, c.server.key, testca.Leaf{})
}

func serverMisnamed(c *certificates) error {
	return c.ca.Issue(c.server.cert, c.server.key, testca.Leaf{DNSNames: []string{"redis.example.com"}})
}

func clientExpired(c *certificates) error { return c.ca.Issue(c.client.cert, c.client.key, expired()) }

func clientRefused(c *certificates) error { return c.foreign.Write(c.server.ca) }

func clientGarbage(c *certificates) error {
	return errors.Join(replace(c.client.cert, "-----BEGIN CERT"), replace(c.client.ca, "no authority"))
}

// moved leaves all at an authority of its own, which Redis believes beside those before.
func moved(ctx context.Context, s *Stage, _ *rand.Rand) (func() error, error) {
	c := s.certificates
	next, err := testca.New()
	if err != nil {
		return nil, err
	}
	back, err := remember(c.server.cert, c.server.key, c.server.ca)
	if err != nil {
		return nil, err
	}
	err = errors.Join(next.Issue(c.server.cert, c.server.key, testca.Leaf{}), believe(c.server.ca, next))
	if err == nil {
		err = s.handshakeAgain(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, back(), s.handshakeAgain(ctx))
	}
	return func() error {
		c.ca = next
		return believe(c.client.ca, next)
	}, nil
}

// believe adds an authority to a file of them.
func believe(path string, ca *testca.CA) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return replace(path, string(text)+string(ca.PEM()))
}
