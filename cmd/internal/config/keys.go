package config

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/coatcheck/coatcheck/cmd/internal/usersource"
	"github.com/coatcheck/coatcheck/extauthz"
	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/nearcache"
)

// A key is one setting: the only definition, from which its place in the file, its
// variable, its flag, its default, its completion and its documentation are made.
type key struct {
	name    string
	usage   string
	value   value
	example string // where there is no default, and one is required
	secret  bool   // has no flag, which every process could read, and is never printed
	common  bool   // stands in the help of commands, too
}

// keys lists the settings of c, in the order in which people think of them.
func (c *Config) keys() []key {
	return slices.Concat(
		c.listenKeys(),
		c.checkKeys(),
		c.cookieKeys(),
		c.sessionKeys(),
		c.formatKeys(),
		c.redisKeys(),
		c.nearCacheKeys(),
		c.loginKeys(),
		c.userKeys(),
		c.pageKeys(),
		c.apiKeys(),
		c.operatorKeys(),
		c.tracingKeys(),
	)
}

// listenKeys are about the gRPC listener and its limits.
func (c *Config) listenKeys() []key {
	return []key{
		{name: "listen", value: text(&c.Listen, ":9001"), common: true,
			usage: "address for Envoy's checks (gRPC): host:port or unix:///path; empty: no checks here, for login " +
				"or the session API alone"},
		{name: "listen_mode", value: text(&c.ListenMode, "0660"), usage: "mode of a Unix socket's file, in octal"},
		{name: "tls.cert_file", value: file(&c.TLS.CertFile), common: true,
			usage: "certificate chain (PEM) of the gRPC listener; read again when it changes; empty: plaintext"},
		{name: "tls.key_file", value: file(&c.TLS.KeyFile), usage: "private key (PEM) of tls.cert_file"},
		{name: "tls.client_ca_file", value: file(&c.TLS.CAFile), common: true,
			usage: "authorities (PEM) that sign clients' certificates (mTLS); read again when it changes; empty: no " +
				"client certificates"},
		{name: "tls.client_names", value: list(&c.TLSClientNames),
			usage: "DNS names or URIs (SPIFFE IDs); a client's certificate must bear one of them; required with " +
				"tls.client_ca_file"},
		{name: "grpc.max_message_bytes", value: integer(&c.MaxMessageBytes, 256<<10),
			usage: "largest CheckRequest in bytes; well above what Envoy sends (60 KiB of headers by default), because " +
				"to Envoy a larger one is an error and not a verdict"},
		{name: "grpc.max_header_bytes", value: integer(&c.MaxHeaderBytes, 64<<10),
			usage: "largest list of gRPC headers of one call, in bytes"},
		{name: "grpc.max_streams", value: integer(&c.MaxStreams, 1024),
			usage: "concurrent calls on one connection; an Envoy with more of them opens another connection"},
		{name: "grpc.max_connections", value: integer(&c.MaxConnections, 1024),
			usage: "concurrent connections; further ones are closed at once"},
		{name: "grpc.handshake_timeout", value: duration(&c.HandshakeTimeout, 5*time.Second),
			usage: "time for the TLS and HTTP/2 handshakes of a new connection"},
		{name: "grpc.max_connection_age", value: duration(&c.MaxConnectionAge, 5*time.Minute),
			usage: "age, give or take a tenth, after which Envoys connect anew and so find new replicas"},
	}
}

// checkKeys are about how a check is decided.
func (c *Config) checkKeys() []key {
	return []key{
		{name: "timeout", value: duration(&c.Timeout, extauthz.DefaultTimeout), common: true,
			usage: "time for a check; less than Envoy's own timeout"},
		{name: "max_in_flight", value: integer(&c.MaxInFlight, extauthz.DefaultMaxInFlight),
			usage: "checks that may wait for Redis at the same time; further ones get 503 at once"},
		{name: "login_url", value: text(&c.LoginURL, ""), common: true,
			usage: "where to send a browser without a session: a path or an http(s) URL; empty: 401"},
		{name: "policy_file", value: file(&c.PolicyFile), common: true,
			usage: "YAML file of policies and rules; read again when it changes; empty: no policies"},
		{name: "paths", value: choice(&c.Paths, string(extauthz.PathsSafe),
			string(extauthz.PathsSafe), string(extauthz.PathsParameters), string(extauthz.PathsStrict)), common: true,
			usage: "paths that are accepted, where a route does not say otherwise"},
		{name: "route.ignore_keys", value: list(&c.IgnoreKeys),
			usage: "keys of context_extensions that other filters or servers read; any other unknown key refuses the " +
				"request"},
	}
}

// cookieKeys are about what requests bear and upstreams get.
func (c *Config) cookieKeys() []key {
	return []key{
		{name: "cookie.name", value: text(&c.CookieName, sessions.DefaultCookieName), common: true,
			usage: "name of the session cookie" + adopted(func(f *format) string { return f.cookieName })},
		{name: "cookie.domain", value: text(&c.CookieDomain, ""),
			usage: "domain whose hosts all get the cookie; not with a __Host- name; empty: only the host that sets it"},
		{name: "cookie.insecure", value: boolean(&c.CookieInsecure, false),
			usage: "let the cookie travel over plain HTTP, where an attacker on the way can take it; not with a " +
				"__Host- or __Secure- name"},
		{name: "cookie.keep", value: boolean(&c.CookieKeep, false),
			usage: "pass the session cookie on to upstreams" + adopted(func(f *format) string { return strconv.FormatBool(f.cookieKeep) }) +
				", since the application needs the cookie"},
		{name: "bearer", value: boolean(&c.Bearer, false),
			usage: "accept the session ID as Authorization: Bearer, too, and return it from a JSON login that asks for " +
				"it"},
		{name: "headers.prefix", value: text(&c.HeaderPrefix, extauthz.DefaultHeaderPrefix),
			usage: "prefix of every header that Coatcheck sets, and removes if a client sends it"},
		{name: "headers.fields", value: list(&c.HeaderFields), common: true,
			usage: "session fields that upstreams get as headers: field, or field=header"},
	}
}

// sessionKeys are about how long sessions live.
func (c *Config) sessionKeys() []key {
	return []key{
		{name: "session.idle_timeout", value: duration(&c.IdleTimeout, 30*time.Minute), common: true,
			usage: "time without a request after which a session ends"},
		{name: "session.absolute_timeout", value: duration(&c.AbsoluteTimeout, 12*time.Hour), common: true,
			usage: "time after which a session ends, however much it is used"},
		{name: "session.idle_step", value: duration(&c.IdleStep, 0),
			usage: "how much longer than the idle timeout a session may live; 0: a tenth of it, at most 1m"},
		{name: "session.max_per_user", value: integer(&c.MaxPerUser, 50),
			usage: "live sessions that a user may have: a login beyond that ends the oldest; 0: any number"},
		{name: "session.count_every", value: duration(&c.CountEvery, 0),
			usage: "time between two scans of Redis that count the live sessions for a gauge; they need a Redis user " +
				"with the right to SCAN, which neither checks nor login should have; 0: no scan"},
	}
}

// redisKeys are about the way to Redis.
func (c *Config) redisKeys() []key {
	return []key{
		{name: "redis.addresses", value: list(&c.RedisAddresses), example: "127.0.0.1:6379", common: true,
			usage: "host:port or unix:///path of Redis; several are the nodes of a Cluster, or Sentinels with " +
				"redis.master_name; required"},
		{name: "redis.cluster", value: boolean(&c.RedisCluster, false),
			usage: "redis.addresses names a Cluster, even with one address"},
		{name: "redis.master_name", value: text(&c.RedisMasterName, ""),
			usage: "name of the master that the Sentinels watch"},
		{name: "redis.username", value: text(&c.RedisUsername, ""), usage: "ACL user"},
		{name: "redis.password", value: text(&c.RedisPassword, ""), secret: true,
			usage: "password; a file is better"},
		{name: "redis.password_file", value: file(&c.RedisPasswordFile), common: true,
			usage: "file with the password; read again for each new connection"},
		{name: "redis.sentinel_username", value: text(&c.RedisSentinelUsername, ""),
			usage: "ACL user of the Sentinels"},
		{name: "redis.sentinel_password_file", value: file(&c.RedisSentinelPasswordFile),
			usage: "file with the Sentinels' password; read at start only"},
		{name: "redis.database", value: integer(&c.RedisDatabase, 0), usage: "database number"},
		{name: "redis.pool_size", value: integer(&c.RedisPoolSize, 0),
			usage: "connections to each Redis, and to one Sentinel; 0: ten for each CPU"},
		{name: "redis.tls.enabled", value: boolean(&c.RedisTLS, false), common: true,
			usage: "use TLS to Redis and to Sentinels"},
		{name: "redis.tls.ca_file", value: file(&c.RedisTLSFiles.CAFile),
			usage: "authorities (PEM) that sign Redis's certificate; read again when it changes; empty: the system's"},
		{name: "redis.tls.cert_file", value: file(&c.RedisTLSFiles.CertFile),
			usage: "certificate (PEM) to present to Redis (mTLS); read again when it changes"},
		{name: "redis.tls.key_file", value: file(&c.RedisTLSFiles.KeyFile),
			usage: "private key (PEM) of redis.tls.cert_file"},
		{name: "redis.tls.server_name", value: text(&c.RedisTLSServerName, ""),
			usage: "name that Redis's certificate must bear; empty: the host of its address"},
		{name: "redis.wait_replicas", value: integer(&c.RedisWaitReplicas, 0),
			usage: "replicas that must acknowledge a revocation"},
		{name: "redis.wait_timeout", value: duration(&c.RedisWaitTimeout, 50*time.Millisecond),
			usage: "how long a revocation waits for them"},
		{name: "redis.breaker_failures", value: integer(&c.RedisBreakerFailures, 10),
			usage: "calls to a Redis node that fail in a row before its breaker opens, which lets one probe through " +
				"each 100ms; 0: no breaker"},
		{name: "redis.emptied_hold", value: duration(&c.RedisEmptiedHold, 0),
			usage: "for how long checks answer 503, and send no user to log in, where a session is missing after Redis has " +
				"lost its data; 0: not at all"},
	}
}

// nearCacheKeys are about sessions that checks keep in memory.
func (c *Config) nearCacheKeys() []key {
	return []key{
		{name: "near_cache.enabled", value: boolean(&c.NearCache, false), common: true,
			usage: "keep sessions in the memory of checks, for as long as Redis tells of every change; a session that " +
				"was revoked may be admitted for near_cache.lease where the connection to Redis fails"},
		{name: "near_cache.lease", value: duration(&c.NearCacheLease, nearcache.DefaultLease),
			usage: "how long checks may use what they keep after the last sign of life of Redis: the longest for which " +
				"a revocation may go unseen"},
		{name: "near_cache.max_entries", value: integer(&c.NearCacheMaxEntries, nearcache.DefaultMaxEntries),
			usage: "sessions to keep"},
		{name: "near_cache.max_bytes", value: integer(&c.NearCacheMaxBytes, nearcache.DefaultMaxBytes),
			usage: "memory for them, in bytes"},
	}
}

// loginKeys are about the login listener.
func (c *Config) loginKeys() []key {
	return []key{
		{name: "login.listen", value: text(&c.LoginListen, ":8080"), common: true,
			usage: "address of the login pages (HTTP), which are served if there are users: host:port; empty: no login " +
				"here"},
		{name: "login.tls.cert_file", value: file(&c.LoginTLS.CertFile), common: true,
			usage: "certificate chain (PEM) of the login listener; read again when it changes; empty: plain HTTP, for " +
				"a proxy on this machine or in a mesh"},
		{name: "login.tls.key_file", value: file(&c.LoginTLS.KeyFile),
			usage: "private key (PEM) of login.tls.cert_file"},
		{name: "login.tls.client_ca_file", value: file(&c.LoginTLS.CAFile),
			usage: "authorities (PEM) that sign the certificates of proxies (mTLS); read again when it changes; empty: " +
				"no client certificates"},
		{name: "login.tls.client_names", value: list(&c.LoginTLSClientNames),
			usage: "DNS names or URIs (SPIFFE IDs); a proxy's certificate must bear one of them; required with " +
				"login.tls.client_ca_file"},
		{name: "login.hsts_max_age", value: duration(&c.LoginHSTS, 2*365*24*time.Hour),
			usage: "how long browsers use only https for the host after a login page over https; not with " +
				"cookie.insecure; 0s: no such header"},
	}
}

// userKeys are about where users come from, and how they sign in.
func (c *Config) userKeys() []key {
	return append(c.sourceKeys(), []key{
		{name: "login.base_path", value: text(&c.LoginBasePath, "/.auth/"),
			usage: "path below which the login pages are"},
		{name: "login.return_origins", value: list(&c.LoginReturnOrigins),
			usage: "other origins to which a login may lead back, such as https://app.example.com"},
		{name: "login.trusted_hops", value: integer(&c.LoginTrustedHops, 0), common: true,
			usage: "number of your proxies in front that append to X-Forwarded-For: 1 for one Envoy; 0: the client is " +
				"the peer; needs login.trusted_proxies"},
		{name: "login.trusted_proxies", value: list(&c.LoginTrustedProxies), common: true,
			usage: "addresses or networks of these proxies, such as 10.1.0.0/16; X-Forwarded-For from other peers is " +
				"ignored"},
		{name: "login.max_hashes", value: integer(&c.LoginMaxHashes, 0),
			usage: "passwords that are checked at the same time; 0: half of the CPUs"},
		{name: "login.hash_memory", value: integer(&c.LoginHashMemory, 0),
			usage: "MiB of memory for all hashes in progress; an account whose hash takes more cannot sign in; 0: half " +
				"of the container's, at least 38"},
		{name: "login.dummy_hash", value: text(&c.LoginDummyHash, ""),
			usage: "kinds of hashes in the user database, with blanks between them, such as $2b$12$ or " +
				"$argon2id$v=19$m=65536,t=4,p=1; a refusal takes as long as all of them; empty: learned from the " +
				"accounts found"},
	}...)
}

// sourceKeys are the keys of the sources of users.
func (c *Config) sourceKeys() (keys []key) {
	if c.Users == nil {
		c.Users = usersource.Values{}
	}
	for _, source := range usersource.Sources {
		for _, k := range source.Keys {
			keys = append(keys, key{name: k.Name, value: ofSource(c.Users, k), usage: k.Usage, secret: k.Secret, common: k.Common})
		}
	}
	return keys
}

// pageKeys are about how the pages of login look. Name, accent and language are those
// of refusals, too, which the checks answer with.
func (c *Config) pageKeys() []key {
	return []key{
		{name: "login.name", value: text(&c.LoginName, "Coatcheck"), usage: "name on every page, also of refusals"},
		{name: "login.logo_file", value: file(&c.LoginLogoFile),
			usage: "SVG, PNG, JPEG or WebP of at most 64 KiB above the name"},
		{name: "login.accent", value: text(&c.LoginAccent, "#1f5c4d"), usage: "colour of buttons, as #rrggbb"},
		{name: "login.language", value: text(&c.LoginLanguage, "en"),
			usage: "language of browsers that ask for none of login.languages"},
		{name: "login.languages", value: list(&c.LoginLanguages),
			usage: "languages of the pages beside it, of which a browser gets the one that it prefers: of en, de, pt, es " +
				"and fr; empty: all five, or, where login.language is another one, no other"},
		{name: "login.texts", value: list(&c.LoginTexts),
			usage: "texts that replace those of the pages: name=text in login.language, de.name=text in another one"},
		{name: "login.help_url", value: text(&c.LoginHelpURL, ""),
			usage: "page for people who cannot sign in, to which the pages link: a path or an http(s) URL; empty: no link"},
		{name: "login.password_url", value: text(&c.LoginPasswordURL, ""),
			usage: "page where people change their password, to which the pages link and /.well-known/change-password " +
				"leads: a path or an http(s) URL; empty: no link"},
		{name: "login.templates", value: text(&c.LoginTemplates, ""),
			usage: "folder with templates that replace those of the pages"},
	}
}

// operatorKeys are about what operators watch.
func (c *Config) operatorKeys() []key {
	return []key{
		{name: "admin.listen", value: text(&c.AdminListen, "127.0.0.1:9102"), common: true,
			usage: "address of /metrics, /healthz and /readyz (HTTP): host:port; empty: not served"},
		{name: "admin.pprof_listen", value: text(&c.PprofListen, ""),
			usage: "loopback address of /debug/pprof/; empty: not served"},
		{name: "log.level", value: choice(&c.LogLevel, "info", "debug", "info", "warn", "error"), common: true,
			usage: "lowest level that is logged"},
		{name: "log.format", value: choice(&c.LogFormat, "json", "json", "text"), usage: "form of the log"},
		{name: "log.decisions", value: choice(&c.LogDecisions, string(extauthz.LogDenied),
			string(extauthz.LogAll), string(extauthz.LogDenied), string(extauthz.LogFaults)), common: true,
			usage: "decisions to log; faults are always among them"},
		{name: "log.decision_level", value: choice(&c.LogDecisionLevel, "info", "debug", "info"),
			usage: "level of a decision that is not a fault"},
		{name: "log.sample", value: integer(&c.LogSample, 1),
			usage: "log one in this many decisions that are not faults"},
		{name: "log.faults_per_second", value: integer(&c.LogFaultsPerSecond, 10),
			usage: "lines a second for each reason that is a fault; the rest are counted"},
		{name: "shutdown.drain", value: duration(&c.Drain, 5*time.Second), common: true,
			usage: "after SIGTERM, how long to serve on while not ready"},
		{name: "shutdown.grace", value: duration(&c.ShutdownGrace, 10*time.Second),
			usage: "then, how long calls in flight may take"},
	}
}

// inFile is the key's name in the file.
func (k key) inFile() string { return k.name }

// variable is the key's environment variable.
func (k key) variable() string {
	return variablePrefix + strings.ToUpper(strings.ReplaceAll(k.name, ".", "_"))
}

// flag is the key's flag, without the dashes in front.
func (k key) flag() string {
	return strings.ReplaceAll(strings.ReplaceAll(k.name, ".", "-"), "_", "-")
}
