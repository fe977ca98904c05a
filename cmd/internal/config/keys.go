package config

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/coatcheck/coatcheck/extauthz"
	"github.com/coatcheck/coatcheck/sessions"
)

// A key is one setting: the only definition from which its place in the file,
// its variable, its flag, its default and its documentation are made.
type key struct {
	name   string
	usage  string
	value  value
	secret bool // has no flag, which every process could read, and is never printed
}

// keys lists the settings of c, in the order in which people think of them.
func (c *Config) keys() []key {
	return []key{
		{name: "listen", value: text(&c.Listen, ":9001"), usage: "where Envoy's checks arrive (gRPC): host:port, or unix:///path"},
		{name: "timeout", value: duration(&c.Timeout, extauthz.DefaultTimeout), usage: "how long a check may take; less than Envoy's own timeout"},
		{name: "login_url", value: text(&c.LoginURL, ""), usage: "where a browser without a session is sent: a path or an http(s) URL; empty: 401"},
		{name: "cookie.name", value: text(&c.CookieName, sessions.DefaultCookieName), usage: "name of the session cookie"},
		{name: "cookie.keep", value: boolean(&c.CookieKeep, false), usage: "let upstreams see the session cookie"},
		{name: "headers.prefix", value: text(&c.HeaderPrefix, extauthz.DefaultHeaderPrefix), usage: "prefix of every header that Coatcheck sets, and removes if it comes from a client"},
		{name: "headers.fields", value: list(&c.HeaderFields), usage: "session fields that upstreams get as headers: field, or field=header"},
		{name: "session.idle_timeout", value: duration(&c.IdleTimeout, 30*time.Minute), usage: "ends a session that nobody uses"},
		{name: "session.absolute_timeout", value: duration(&c.AbsoluteTimeout, 12*time.Hour), usage: "ends a session however much it is used"},
		{name: "session.idle_step", value: duration(&c.IdleStep, 0), usage: "how much longer than the idle timeout a session may live; 0: a tenth of it, at most 1m"},
		{name: "redis.addresses", value: list(&c.RedisAddresses), usage: "host:port or unix:///path of Redis; several are a Cluster's nodes, or Sentinels with redis.master_name; required"},
		{name: "redis.master_name", value: text(&c.RedisMasterName, ""), usage: "name of the master that the Sentinels watch"},
		{name: "redis.username", value: text(&c.RedisUsername, ""), usage: "ACL user"},
		{name: "redis.password", value: text(&c.RedisPassword, ""), usage: "password; better in a file", secret: true},
		{name: "redis.password_file", value: text(&c.RedisPasswordFile, ""), usage: "file that holds the password"},
		{name: "redis.database", value: integer(&c.RedisDatabase, 0), usage: "database number"},
		{name: "redis.wait_replicas", value: integer(&c.RedisWaitReplicas, 0), usage: "how many replicas must acknowledge a revocation"},
		{name: "redis.wait_timeout", value: duration(&c.RedisWaitTimeout, 50*time.Millisecond), usage: "how long a revocation waits for them"},
		{name: "log.level", value: text(&c.LogLevel, "info"), usage: "debug, info, warn or error"},
		{name: "log.format", value: text(&c.LogFormat, "json"), usage: "json or text"},
		{name: "log.decisions", value: text(&c.LogDecisions, string(extauthz.LogDenied)), usage: "decisions to log: all, denied, or faults alone"},
		{name: "shutdown.drain", value: duration(&c.Drain, 5*time.Second), usage: "after SIGTERM, how long to serve on while not ready"},
		{name: "shutdown.grace", value: duration(&c.ShutdownGrace, 10*time.Second), usage: "then, how long calls in flight may take"},
	}
}

// variable is the key's environment variable.
func (k key) variable() string {
	return variablePrefix + strings.ToUpper(strings.ReplaceAll(k.name, ".", "_"))
}

// flag is the key's flag, without the dashes in front.
func (k key) flag() string {
	return strings.NewReplacer(".", "-", "_", "-").Replace(k.name)
}

// A value parses what one source says and keeps it where it belongs; what
// cannot be parsed changes nothing.
type value struct {
	fallback any
	set      func(any) error
	get      func() any
}

func text(p *string, fallback string) value {
	return value{fallback, func(raw any) error {
		s, ok := raw.(string)
		if !ok {
			return fmt.Errorf("%v is not text; put it in quotes", raw)
		}
		*p = s
		return nil
	}, func() any { return *p }}
}

func boolean(p *bool, fallback bool) value {
	return parsed(p, fallback, strconv.ParseBool, "neither true nor false")
}

func integer(p *int, fallback int) value {
	return parsed(p, fallback, strconv.Atoi, "not a whole number")
}

// duration takes Go's notation and no bare number, whose unit is anybody's guess.
func duration(p *time.Duration, fallback time.Duration) value {
	return parsed(p, fallback, time.ParseDuration, "not a duration like 150ms, 30m or 12h")
}

// parsed is a value with a text form.
func parsed[T any](p *T, fallback T, parse func(string) (T, error), wrong string) value {
	return value{fmt.Sprint(fallback), func(raw any) error {
		parsed, err := parse(fmt.Sprint(raw))
		if err != nil {
			return fmt.Errorf("%v is %s", raw, wrong)
		}
		*p = parsed
		return nil
	}, func() any { return fmt.Sprint(*p) }}
}

// list takes a list of the file, or text with commas from elsewhere.
func list(p *[]string) value {
	return value{[]string{}, func(raw any) error {
		var items []string
		switch raw := raw.(type) {
		case []string:
			items = raw
		case string:
			items = strings.Split(raw, ",")
		case []any:
			for _, item := range raw {
				s, ok := item.(string)
				if !ok {
					return fmt.Errorf("%v is not text; put it in quotes", item)
				}
				items = append(items, s)
			}
		default:
			return fmt.Errorf("%v is not a list", raw)
		}
		*p = nil
		for _, item := range items {
			if item = strings.TrimSpace(item); item != "" {
				*p = append(*p, item)
			}
		}
		return nil
	}, func() any { return append([]string{}, *p...) }}
}
