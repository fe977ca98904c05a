package redistest

import (
	"context"
	"crypto/tls"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/coatcheck/coatcheck/internal/testtools/testca"
)

// A Kind is how many servers there are, and what decides which of them is a master.
type Kind string

// The kinds.
const (
	Single        Kind = "single"   // one server
	WithSentinels Kind = "Sentinel" // three Sentinels, a master and two replicas
	InCluster     Kind = "Cluster"  // three masters, each with a replica
)

// A Topology is how Redis stands in production.
type Topology struct {
	Kind Kind
	TLS  bool // on every way, with certificates of clients and servers
}

// String is the topology's name, such as "Sentinel, TLS".
func (t Topology) String() string {
	if t.TLS {
		return string(t.Kind) + ", TLS"
	}
	return string(t.Kind)
}

// Topologies are all of them, the smallest first.
func Topologies() []Topology {
	var all []Topology
	for _, kind := range []Kind{Single, WithSentinels, InCluster} {
		all = append(all, Topology{Kind: kind}, Topology{Kind: kind, TLS: true})
	}
	return all
}

// DeploymentOptions say what a Deployment has beyond the usual.
type DeploymentOptions struct {
	// Replicas are those of each master. Zero: two behind Sentinels, one in a Cluster,
	// none of a single server.
	Replicas int
	// Args are those of every redis-server that holds data.
	Args []string
	// Patience is how long a master must be silent before a replica takes its place. Zero:
	// [DownAfter] and [NodeTimeout], which a busy machine may exceed.
	Patience time.Duration
}

// A Deployment is a Topology that runs. Its methods are not safe for concurrent use.
type Deployment struct {
	Topology
	Servers   []*Server  // those that hold data, the first masters first
	Sentinels *Sentinels // nil: another kind
	Cluster   *Cluster   // nil: another kind

	dir    string // with the certificates
	client *tls.Config
}

// StartDeployment runs a topology until the test ends.
func StartDeployment(t testing.TB, topology Topology, o DeploymentOptions) *Deployment {
	t.Helper()
	d, err := NewDeployment(topology, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	return d
}

// NewDeployment runs a topology until Close. It returns when all of it is in step.
func NewDeployment(topology Topology, o DeploymentOptions) (*Deployment, error) {
	d := &Deployment{Topology: topology}
	if err := d.start(o); err != nil {
		d.Close()
		return nil, err
	}
	return d, nil
}

func (d *Deployment) start(o DeploymentOptions) error {
	files, err := d.certify()
	if err != nil {
		return err
	}
	replicas := o.Replicas
	switch d.Kind {
	case WithSentinels:
		if replicas == 0 {
			replicas = 2
		}
		if d.Sentinels, err = NewSentinels(SentinelsOptions{Replicas: replicas, TLS: files, Args: o.Args}); err == nil {
			d.Servers = d.Sentinels.Servers()
		}
	case InCluster:
		if replicas == 0 {
			replicas = 1
		}
		if d.Cluster, err = NewCluster(ClusterOptions{Replicas: replicas, TLS: files, Args: o.Args}); err == nil {
			d.Servers = d.Cluster.Servers()
		}
	default:
		err = d.startSingle(replicas, files, o.Args)
	}
	if err != nil || o.Patience == 0 {
		return err
	}
	return d.wait(o.Patience)
}

// wait sets how long a master must be silent.
func (d *Deployment) wait(patience time.Duration) error {
	switch d.Kind {
	case WithSentinels:
		for _, sentinel := range d.Sentinels.Processes {
			client := d.Sentinels.ask(sentinel)
			err := client.Set(context.Background(), MasterName, "down-after-milliseconds", strconv.FormatInt(patience.Milliseconds(), 10)).Err()
			if err := errors.Join(err, client.Close()); err != nil {
				return err
			}
		}
	case InCluster:
		return d.Do("config", "set", "cluster-node-timeout", patience.Milliseconds())
	}
	return nil
}

// startSingle runs a server, and replicas of it that no Sentinel promotes.
func (d *Deployment) startSingle(replicas int, files *TLS, args []string) error {
	args = append([]string{"--repl-diskless-sync-delay", "0"}, args...)
	if files != nil {
		args = append(args, "--tls-replication", "yes")
	}
	for i := range 1 + replicas {
		own := args
		if i > 0 {
			own = append([]string{"--replicaof", "127.0.0.1", portOf(d.addr(d.Servers[0]))}, args...)
		}
		s, err := NewWith(Options{TLS: files, Args: own})
		if err != nil {
			return err
		}
		d.Servers = append(d.Servers, s)
	}
	for _, s := range d.Servers[1:] {
		if err := wait(s.inStep); err != nil {
			return err
		}
	}
	return nil
}

// certify makes an authority, a certificate for the servers, and one for clients, which
// the servers ask for.
func (d *Deployment) certify() (*TLS, error) {
	if !d.TLS {
		return nil, nil
	}
	ca, err := testca.New()
	if err != nil {
		return nil, err
	}
	if d.dir, err = os.MkdirTemp("", "redistest-"); err != nil {
		return nil, err
	}
	in := func(name string) string { return filepath.Join(d.dir, name) }
	files := &TLS{CertFile: in("cert.pem"), KeyFile: in("key.pem"), CAFile: in("ca.pem"), ClientCerts: true}
	cert, key, err := ca.Pair(testca.Leaf{Client: true})
	if err := errors.Join(err, ca.Write(files.CAFile), ca.Issue(files.CertFile, files.KeyFile, testca.Leaf{})); err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(cert, key)
	d.client = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: ca.Pool(), Certificates: []tls.Certificate{pair}, ServerName: "localhost"}
	return files, err
}

// Configure tells a client where to find the Redis, how to speak to it, and the passwords.
// It leaves the timeouts alone.
func (d *Deployment) Configure(o *redis.UniversalOptions) {
	o.Addrs, o.Password, o.TLSConfig = nil, Password, d.client
	switch d.Kind {
	case WithSentinels:
		o.Addrs, o.MasterName, o.SentinelPassword = d.Sentinels.Addrs, MasterName, Password
	case InCluster:
		o.IsClusterMode = true
		for _, s := range d.Cluster.Masters {
			o.Addrs = append(o.Addrs, d.addr(s))
		}
	default:
		o.Addrs = []string{d.addr(d.Servers[0])}
	}
}

// addr is where clients reach a server.
func (d *Deployment) addr(s *Server) string {
	if d.TLS {
		return s.TLSAddr
	}
	return s.Addr
}

// Replicas is how many replicas each master has.
func (d *Deployment) Replicas() int {
	if d.Kind == InCluster {
		return len(d.Cluster.Replicas) / len(d.Cluster.Masters)
	}
	return len(d.Servers) - 1
}

// SetUser makes an ACL user anew on every server, as [Server.SetUser] does: Redis
// replicates no ACL.
func (d *Deployment) SetUser(name string, rules ...string) error {
	for _, s := range d.Servers {
		if err := s.SetUser(name, rules...); err != nil {
			return err
		}
	}
	return nil
}

// Do sends a command to every server, as an operator does, and ignores what it answers.
func (d *Deployment) Do(args ...any) error {
	var errs []error
	for _, s := range d.Servers {
		client := s.Client()
		errs = append(errs, client.Do(context.Background(), args...).Err(), client.Close())
	}
	return errors.Join(errs...)
}

// Close ends all processes.
func (d *Deployment) Close() {
	for _, s := range d.Servers {
		s.Close()
	}
	if d.Sentinels != nil {
		d.Sentinels.Close()
	}
	if d.Cluster != nil {
		d.Cluster.Close()
	}
	if d.dir != "" {
		_ = os.RemoveAll(d.dir)
	}
}
