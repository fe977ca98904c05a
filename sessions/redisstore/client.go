package redisstore

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/coatcheck/coatcheck/internal/secretfile"
)

// A ClientConfig says which Redis a client speaks to, and how. Addrs alone is
// enough, as [At] fills it in. One address is a server's (host:port, or the path of a Unix socket);
// with MasterName they are Sentinels'; several, or one with IsClusterMode, are
// nodes of a Cluster, any of which names the others.
type ClientConfig struct {
	redis.UniversalOptions

	// PasswordFile names a file with the password, in place of Password. It is
	// read for every new connection, so that a password that was changed is used
	// without a restart.
	PasswordFile string
	// BreakerFailures is after how many calls in a row that a node did not answer
	// the others are refused with [ErrBreakerOpen], but for one try each 100 ms.
	// Zero: never.
	BreakerFailures int
}

// At is the configuration for the Redis at one address; for the nodes of a Cluster, name
// several. The fields that most programs set besides are Username, PasswordFile and
// TLSConfig:
//
//	config := redisstore.At("127.0.0.1:6379")
//	config.PasswordFile = "/run/secrets/redis"
//	client, err := redisstore.NewClient(config)
func At(addresses ...string) ClientConfig {
	return ClientConfig{UniversalOptions: redis.UniversalOptions{Addrs: addresses}}
}

// A Client is a go-redis client with what is kept about its nodes.
type Client struct {
	redis.UniversalClient
	nodes *nodes
}

// Redact blanks the passwords that the client has used out of a text. Its errors
// need no such care, but what go-redis logs about Sentinels does.
func (c *Client) Redact(text string) string { return c.nodes.known.Redact(text) }

// AddHook has a hook see every command. What a client sends for touches beside go-redis
// (see the package) no hook sees; so from now on they go by go-redis.
func (c *Client) AddHook(hook redis.Hook) {
	c.nodes.roads.off.Store(true)
	c.UniversalClient.AddHook(hook)
}

// Close closes all connections.
func (c *Client) Close() error {
	c.nodes.roads.close()
	err := c.UniversalClient.Close()
	if c.nodes.latest != nil {
		c.nodes.latest.close()
	}
	return err
}

// NewClient returns a client with timeouts fit for a request path; it sends
// nothing. It fills in what c leaves zero, but MinIdleConns: a connection that go-redis has
// made ahead has not been greeted, and is taken before one that has, so that one that Redis
// then refuses would fail a call for which there was a connection.
//
//   - a deadline in the caller's context also ends a read (by default it does
//     not), and one try takes 125 ms at most: all of a check of 150 ms but what a
//     second one needs, so that a Redis that is slow is not taken for a connection
//     that is broken;
//   - dialling goes on for eight short tries, because go-redis answers every
//     call with the last dial error once it has given up, until a probe a second
//     later succeeds: fewer tries turn a bounce of Redis into an outage;
//   - behind Sentinels, after a failure, all of Addrs are asked for the master, and the one
//     with the highest epoch is believed if more than half answer: go-redis believes the
//     one that it listens to, which may be cut off from Redis;
//   - connections live about an hour, so that names, certificates and rights
//     that changed are noticed.
//
// A Dialer must end by its context, which bears DialTimeout.
//
// It is an error if the password file cannot be read. No error of the client's
// repeats a password.
func NewClient(c ClientConfig) (*Client, error) {
	if c.ReadOnly || c.RouteByLatency || c.RouteRandomly {
		return nil, errors.New("redis: replicas cannot be asked: they may not know of a revocation yet")
	}
	if c.MasterName != "" && c.IsClusterMode {
		return nil, errors.New("redis: Sentinels watch no Cluster")
	}
	known := new(secretfile.Set)
	known.Add(c.Password)
	known.Add(c.SentinelPassword)
	if c.PasswordFile != "" {
		file := passwordFile{username: c.Username, path: c.PasswordFile, known: known}
		if _, _, err := file.credentials(context.Background()); err != nil {
			return nil, fmt.Errorf("redis: %w", err)
		}
		c.CredentialsProviderContext = file.credentials
	}
	fillIn(&c.UniversalOptions)
	return connect(c, &nodes{failures: c.BreakerFailures, known: known}), nil
}

// connect makes the kind of client that c asks for.
func connect(c ClientConfig, n *nodes) *Client {
	switch {
	case c.MasterName != "":
		client := redis.NewFailoverClient(c.Failover())
		n.add(client)
		n.latest = newLatest(&c.UniversalOptions)
		client.AddHook(n.latest)
		n.roads = &roads{only: newRoad(watched(*c.Failover()), n.latest)}
		n.sentinels = func() *sentinels { return newSentinels(&c.UniversalOptions) }
		return &Client{client, n}
	case clustered(&c.UniversalOptions):
		options := c.Cluster()
		options.ClusterStateReloadInterval = stateInterval
		// They rest on COMMAND, which is asked for also after the caller's deadline. The
		// store sends nothing that they are about.
		options.DisableRoutingPolicies = true
		client := redis.NewClusterClient(options)
		mapper := &mapper{cluster: client, nodes: n}
		client.OnNewNode(func(node *redis.Client) {
			node.AddHook(mapperNode{mapper})
			n.add(node)
		})
		client.AddHook(hideSecrets{n.known})
		client.AddHook(mapper)
		n.roads = &roads{cluster: client}
		return &Client{client, n}
	}
	client := redis.NewClient(c.Simple())
	n.add(client)
	n.roads = &roads{only: newRoad(simple(client))}
	return &Client{client, n}
}

// fillIn sets what o leaves zero.
func fillIn(o *redis.UniversalOptions) {
	o.ContextTimeoutEnabled = true
	fill(&o.DialTimeout, 250*time.Millisecond)
	fill(&o.DialerRetries, 8)
	fill(&o.DialerRetryTimeout, 50*time.Millisecond)
	fill(&o.ReadTimeout, 125*time.Millisecond)
	fill(&o.WriteTimeout, 125*time.Millisecond)
	fill(&o.PoolTimeout, 50*time.Millisecond)
	fill(&o.MaxRetries, 1)
	if clustered(o) {
		// go-redis asks a Cluster four times, also where it has refused (CLUSTERDOWN,
		// NOREPLICAS): a refusal is to be known down within 20 ms.
		fill(&o.MinRetryBackoff, time.Millisecond)
		fill(&o.MaxRetryBackoff, 4*time.Millisecond)
	}
	fill(&o.MinRetryBackoff, 5*time.Millisecond)
	fill(&o.MaxRetryBackoff, 20*time.Millisecond)
	fill(&o.PoolSize, 10*runtime.GOMAXPROCS(0))
	fill(&o.PipelinePoolSize, -1) // a check is a pipeline: one pool
	fill(&o.ConnMaxLifetime, time.Hour)
	fill(&o.ConnMaxLifetimeJitter, 6*time.Minute)
	// A server may otherwise push the timeouts up to ten seconds.
	o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
}

// clustered reports whether o is of a Cluster, as go-redis tells it.
func clustered(o *redis.UniversalOptions) bool {
	return o.MasterName == "" && (o.IsClusterMode || len(o.Addrs) > 1)
}

func fill[T int | time.Duration](value *T, fallback T) {
	if *value == 0 {
		*value = fallback
	}
}
