// Package config gathers the configuration of the coatcheck command from its
// defaults, a YAML file, COATCHECK_* variables and flags, in rising order of
// precedence:
//
//	c, err := config.Load(cmd.Flags())
//
// It is the only importer of viper; other packages get a [Config].
//
// A key is written with dots: redis.addresses stands under redis: in the file,
// in the variable COATCHECK_REDIS_ADDRESSES and in the flag --redis-addresses.
// Unknown keys, unknown variables and bad values stop the start, all of them named
// in one error. Variables that Kubernetes makes for a Service named coatcheck are
// ignored.
package config

import (
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/coatcheck/coatcheck/cmd/internal/tlsfiles"
	"github.com/coatcheck/coatcheck/cmd/internal/usersource"
	"github.com/coatcheck/coatcheck/extauthz"
	"github.com/coatcheck/coatcheck/sessions"
)

// A Config is a valid configuration, as [Load] returns it.
type Config struct {
	Listen     string
	ListenMode string

	TLS            tlsfiles.Files
	TLSClientNames []string

	MaxMessageBytes  int
	MaxHeaderBytes   int
	MaxStreams       int
	MaxConnections   int
	HandshakeTimeout time.Duration
	MaxConnectionAge time.Duration

	Timeout     time.Duration
	MaxInFlight int
	LoginURL    string
	PolicyFile  string
	Paths       string
	IgnoreKeys  []string

	CookieName     string
	CookieDomain   string
	CookieInsecure bool
	CookieKeep     bool
	Bearer         bool

	HeaderPrefix string
	HeaderFields []string

	IdleTimeout     time.Duration
	AbsoluteTimeout time.Duration
	IdleStep        time.Duration
	MaxPerUser      int
	CountEvery      time.Duration

	SessionFormat string
	formats       map[string]formatSettings // by their names, also those that are not in use

	RedisAddresses            []string
	RedisCluster              bool
	RedisMasterName           string
	RedisUsername             string
	RedisPassword             string
	RedisPasswordFile         string
	RedisSentinelUsername     string
	RedisSentinelPasswordFile string
	RedisDatabase             int
	RedisPoolSize             int
	RedisTLS                  bool
	RedisTLSFiles             tlsfiles.Files
	RedisTLSServerName        string
	RedisWaitReplicas         int
	RedisWaitTimeout          time.Duration
	RedisBreakerFailures      int
	RedisEmptiedHold          time.Duration

	NearCache           bool
	NearCacheLease      time.Duration
	NearCacheMaxEntries int
	NearCacheMaxBytes   int

	LoginListen         string
	LoginTLS            tlsfiles.Files
	LoginTLSClientNames []string
	LoginHSTS           time.Duration
	Users               usersource.Values
	LoginBasePath       string
	LoginReturnOrigins  []string
	LoginTrustedHops    int
	LoginTrustedProxies []string
	LoginMaxHashes      int
	LoginHashMemory     int
	LoginDummyHash      string
	LoginName           string
	LoginLogoFile       string
	LoginAccent         string
	LoginLanguage       string
	LoginLanguages      []string
	LoginHelpURL        string
	LoginPasswordURL    string
	LoginTexts          []string
	LoginTemplates      string

	APIListen          string
	APIPlaintext       bool
	APITLS             tlsfiles.Files
	APIClientNames     []string
	APICallersFile     string
	APITimeout         time.Duration
	APIMaxInFlight     int
	APIMaxMessageBytes int
	APIMaxHeaderBytes  int
	APIMaxStreams      int
	APIMaxConnections  int
	APIMaxWatched      int

	AdminListen string
	PprofListen string

	TracingEndpoint      string
	TracingSample        int
	TracingHeadersFile   string
	TracingTLS           bool
	TracingTLSFiles      tlsfiles.Files
	TracingTLSServerName string

	LogLevel           string
	LogFormat          string
	LogDecisions       string
	LogDecisionLevel   string
	LogSample          int
	LogFaultsPerSecond int

	Drain         time.Duration
	ShutdownGrace time.Duration
}

// Sessions is the part about the lifetimes of sessions.
func (c *Config) Sessions() sessions.Config {
	limit := c.MaxPerUser
	if limit == 0 {
		limit = -1 // any number, as sessions.Config says it
	}
	return sessions.Config{IdleTimeout: c.IdleTimeout, AbsoluteTimeout: c.AbsoluteTimeout, IdleStep: c.IdleStep, MaxPerUser: limit}
}

// Cookie is the session cookie, on which login and checks agree.
func (c *Config) Cookie() sessions.Cookie {
	return sessions.Cookie{Name: c.CookieName, Domain: c.CookieDomain, Insecure: c.CookieInsecure}
}

// ExtAuthz is the part about checks, without a logger, metrics, a tracer and a clock. Its
// Format, if there is one, has no secrets: no cookie's signature holds.
func (c *Config) ExtAuthz() extauthz.Config {
	return extauthz.Config{
		Format:       c.unsigned(),
		Cookie:       c.Cookie(),
		Bearer:       c.Bearer,
		KeepCookie:   c.CookieKeep,
		HeaderPrefix: c.HeaderPrefix,
		Fields:       c.fields(),
		LoginURL:     c.LoginURL,
		Page:         extauthz.PageConfig{Name: c.LoginName, Accent: c.LoginAccent, Lang: c.LoginLanguage, Languages: c.LoginLanguages},
		Timeout:      c.Timeout,
		MaxInFlight:  c.MaxInFlight,
		Paths:        extauthz.Paths(c.Paths),
		IgnoreKeys:   c.IgnoreKeys,
		Log: extauthz.LogConfig{
			Decisions:       extauthz.LogDecisions(c.LogDecisions),
			Level:           level(c.LogDecisionLevel),
			Sample:          c.LogSample,
			FaultsPerSecond: c.LogFaultsPerSecond,
		},
	}
}

// fields reads headers.fields: "field=header", or "field" for the header that
// is the prefix and the field's name in the form of headers.
func (c *Config) fields() []extauthz.FieldHeader {
	var fields []extauthz.FieldHeader
	for _, entry := range c.HeaderFields {
		field, header, ok := strings.Cut(entry, "=")
		if !ok {
			header = c.HeaderPrefix + strings.Map(headerRune, field)
		}
		fields = append(fields, extauthz.FieldHeader{Field: field, Header: header})
	}
	return fields
}

func headerRune(r rune) rune {
	switch {
	case 'a' <= r && r <= 'z', '0' <= r && r <= '9':
		return r
	case 'A' <= r && r <= 'Z':
		return r - 'A' + 'a'
	}
	return '-'
}

// Logger writes to w as configured.
func (c *Config) Logger(w io.Writer) *slog.Logger {
	options := &slog.HandlerOptions{Level: level(c.LogLevel)}
	if c.LogFormat == "text" {
		return slog.New(slog.NewTextHandler(w, options))
	}
	return slog.New(slog.NewJSONHandler(w, options))
}

// level parses a level that validate has accepted.
func level(name string) slog.Level {
	var l slog.Level
	_ = l.UnmarshalText([]byte(name))
	return l
}
