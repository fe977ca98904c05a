package notice

import (
	"log/slog"
	"slices"
)

// A Name names a notice in the log, in the metric and in the pages.
type Name string

// The notices. [All] describes each.
const (
	EnvoyDeadline     Name = "envoy_deadline"
	NoCookieHeader    Name = "no_cookie_header"
	OtherCookieName   Name = "other_cookie_name"
	SettingsDiffer    Name = "settings_differ"
	SettingsUnread    Name = "settings_unread"
	LoginRights       Name = "login_rights"
	ClocksApart       Name = "clocks_apart"
	EndlessRecord     Name = "endless_record"
	UnlistedRecord    Name = "unlisted_record"
	TrustedHops       Name = "trusted_hops"
	UntrustedProxy    Name = "untrusted_proxy"
	PlainHTTP         Name = "plain_http"
	SecureCookie      Name = "secure_cookie"
	IdleBeyondMaximum Name = "idle_beyond_absolute"
	LongTimeout       Name = "long_timeout"
	TracesLost        Name = "traces_lost"
	NearCacheOff      Name = "near_cache_off"
	RedisEmptied      Name = "redis_emptied"
	EpochUnread       Name = "epoch_unread"
	APIRights         Name = "api_rights"
)

// An Info describes a notice.
type Info struct {
	Name  Name
	Level slog.Level
	// Text is the line of the log, Cure what the operator does about it; it stands in
	// the line, too. Cause says, in Markdown, how Coatcheck knows, and what else it may
	// be.
	Text, Cause, Cure string
	// Page is true where the operator should be woken: an alert in docs/operations.md
	// names it.
	Page bool
}

// All describes every notice, in the order of the pages.
func All() []Info { return slices.Clone(list) }

// Names are the names of every notice.
func Names() (names []Name) {
	for _, i := range list {
		names = append(names, i.Name)
	}
	return names
}

// info is the row of a notice. A name without a row, which a test rules out, is its own
// text.
func (n Name) info() Info {
	if i := slices.IndexFunc(list, func(i Info) bool { return i.Name == n }); i >= 0 {
		return list[i]
	}
	return Info{Name: n, Level: slog.LevelWarn, Text: string(n)}
}

// list is the one list of notices.
var list = []Info{
	{
		Name: EnvoyDeadline, Level: slog.LevelWarn, Page: true,
		Text:  "Envoy gives a check no more time than timeout",
		Cause: "each call says how long Envoy waits for it. Coatcheck answers a little before that, so a slow Redis is still our 503; but such a check has less time than `timeout`, and an answer that is late all the same is an error to Envoy, which `failure_mode_allow` would make an allow",
		Cure:  "raise the timeout of ext_authz's grpc_service in Envoy above timeout (200ms and 150ms by default), or lower timeout",
	},
	{
		Name: NoCookieHeader, Level: slog.LevelWarn, Page: true,
		Text:  "of the first 1000 checks none had a Cookie header",
		Cause: "`allowed_headers` hides the header: then no user gets in, and on public routes upstreams receive the session cookie, which Coatcheck cannot cut out of what it does not see. Or there were only bots and monitors so far: the first Cookie header ends the notice for good",
		Cure:  "add cookie to allowed_headers of ext_authz in Envoy; if no browser has come yet, wait for one",
	},
	{
		Name: OtherCookieName, Level: slog.LevelWarn,
		Text:  "cookies of another name than cookie.name have the form of a session ID, and no session was seen under cookie.name",
		Cause: "login and checks have different `cookie.name`s. Or the cookies are another program's, or made up: names are what clients say. The first live session ends the notice for good",
		Cure:  "give login and checks the same cookie.name; the names here are what clients sent, and prove nothing",
	},
	{
		Name: SettingsDiffer, Level: slog.LevelWarn, Page: true,
		Text:  "settings differ from those of login",
		Cause: "login leaves its session and cookie settings in the Redis hash `coatcheck:state` at its start; this process has others. With two idle timeouts a session lives by the one of the replica that saw it last; with two cookie names no user gets in. While a change is rolled out it is so for a while",
		Cure:  "give every replica of checks and login the same values; the one that started last counts, so restart login if it is the one that is right",
	},
	{
		Name: SettingsUnread, Level: slog.LevelInfo,
		Text:  "coatcheck:state in Redis cannot be used, so settings that differ between replicas go unnoticed",
		Cause: "the ACL user lacks a right that former versions did not need; checks and logins work",
		Cure:  "add %R~coatcheck:state* to the Redis user of checks and ~coatcheck:state* to those of login and the operators, as docs/sessions.md has them",
	},
	{
		Name: LoginRights, Level: slog.LevelError, Page: true,
		Text:  "Redis answers, but login lacks rights there, so that no user can sign in",
		Cause: "login runs with another Redis user than its own, such as the one of checks, or its rights are those of an older version. Each right was tried at start, and writes nothing",
		Cure:  "give redis.username the missing rights, or the user coatcheck-login of docs/sessions.md; no restart is needed",
	},
	{
		Name: APIRights, Level: slog.LevelError, Page: true,
		Text:  "Redis answers, but the session API lacks rights there that its callers have, so that such calls fail",
		Cause: "Redis did not answer when the callers were taken into use, its user has lost rights since, or callers only read: else they would not be in use. Each right was tried, and writes nothing",
		Cure:  "give redis.username the rights that missing names (docs/api.md); no restart is needed",
	},
	{
		Name: ClocksApart, Level: slog.LevelWarn, Page: true,
		Text:  "the clocks of Redis and of this machine are more than 5s apart",
		Cause: "Coatcheck goes by the time of Redis, so sessions are right. Other programs that write sessions go by their own clocks, and so do log lines and certificates",
		Cure:  "set the clocks of both machines (NTP)",
	},
	{
		Name: EndlessRecord, Level: slog.LevelWarn, Page: true,
		Text:  "a session record has no expiry in Redis",
		Cause: "another program wrote it without `PEXPIREAT`. Checks refuse it (`broken_record`), and it stays in Redis for ever. Login and the session commands say it when they read such a record",
		Cure:  "mend the program that writes it (docs/sessions.md), and revoke the session",
	},
	{
		Name: UnlistedRecord, Level: slog.LevelWarn, Page: true,
		Text:  "a session record was not in its user's list",
		Cause: "another program wrote it without `ZADD user-sessions:USER`. Checks admit it, but `coatcheck session revoke --all` does not find it. Login and the session commands say it when they end such a session, or meet it beside the list",
		Cure:  "mend the program that writes it (docs/sessions.md); until then end such sessions with coatcheck session revoke --all --user ID --scan",
	},
	{
		Name: TrustedHops, Level: slog.LevelWarn,
		Text:  "a proxy sends X-Forwarded-For and trusted hops are 0: its clients share one throttle",
		Cause: "a request came from a private address with `X-Forwarded-For`, which login does not read without `login.trusted_hops`. So one client that guesses passwords locks out the others, and the sessions page shows the proxy's address",
		Cure:  "set login.trusted_hops to the number of your proxies, such as 1 for one Envoy, and login.trusted_proxies to their addresses",
	},
	{
		Name: UntrustedProxy, Level: slog.LevelWarn,
		Text:  "X-Forwarded-For from an address that is not a trusted proxy is not believed",
		Cause: "a proxy is not named in `login.trusted_proxies`, or a client came by fewer proxies than `login.trusted_hops`",
		Cure:  "if the address is a proxy of yours, add it to login.trusted_proxies; if not, let only proxies reach login",
	},
	{
		Name: PlainHTTP, Level: slog.LevelWarn,
		Text:  "the login page may have come by plain http, over which browsers drop the cookie",
		Cause: "a trusted proxy said so (`X-Forwarded-Proto: http`), and the browser sent no `Sec-Fetch-` header, as over https it would. The form says it, too. A sign-in is refused for it (`plain_http`) only where the browser's own `Origin` says http",
		Cure:  "serve the page by https; where a load balancer ends TLS in front of Envoy, let Envoy believe its X-Forwarded-Proto (xff_num_trusted_hops)",
	},
	{
		Name: SecureCookie, Level: slog.LevelInfo,
		Text:  "the __Host- cookie needs https; on plain http browsers accept it for localhost and 127.0.0.1 only",
		Cause: "said at start, since Coatcheck cannot see whether browsers come by https: a load balancer may end TLS",
		Cure:  "serve browsers by https; to try on plain http, use localhost, or cookie.insecure with a cookie.name without __Host-",
	},
	{
		Name: IdleBeyondMaximum, Level: slog.LevelWarn,
		Text:  "session.idle_timeout is longer than session.absolute_timeout, so that no session ever ends by idling",
		Cause: "at start, and in `coatcheck config check`",
		Cure:  "make session.idle_timeout the shorter one, or session.absolute_timeout longer",
	},
	{
		Name: LongTimeout, Level: slog.LevelInfo,
		Text:  "timeout is not below the 200ms that Envoy gives a check by default",
		Cause: "at start, and in `coatcheck config check`; if Envoy's is shorter indeed, the first checks tell (`envoy_deadline`)",
		Cure:  "set the timeout of ext_authz's grpc_service in Envoy above timeout",
	},
	{
		Name: TracesLost, Level: slog.LevelWarn,
		Text:  "spans do not reach the collector and are lost; checks and logins go on",
		Cause: "an export failed, after some retries: the collector is away, refuses the headers of `tracing.headers_file`, or its certificate bears another name. The next export that goes well ends the notice",
		Cure:  "look at the collector, and at tracing.endpoint and the other tracing keys",
	},
	{
		Name: NearCacheOff, Level: slog.LevelWarn,
		Text:  "Redis does not tell of changes: the near cache has no hits, every check asks Redis, and Watch of the session API is late",
		Cause: "Redis answers, but refuses `CLIENT TRACKING` or what goes with it: the ACL user lacks rights, which are named, or something between speaks no RESP3. Checks work as without the near cache, and streams of Watch of the session API learn of an end within 5s. It is tried again each ten seconds",
		Cure:  "give redis.username the missing rights, as docs/near-cache.md has them, or set near_cache.enabled to false and give no caller the right watch; no restart is needed for rights",
	},
	{
		Name: RedisEmptied, Level: slog.LevelError,
		Text:  "Redis has lost its sessions: users who were signed in must sign in again",
		Cause: "the epoch in `coatcheck:state` is gone or another one: Redis was started without its data, `FLUSHALL` or `DEL coatcheck:state` was sent, a replica without the data became master, or `redis.addresses` leads to another Redis. On a Cluster it is so for the master of `key`. A further loss within the hour has a line without a notice, with its `key`. A failover that keeps the data changes no epoch. The former epoch ends the notice; else it stands for an hour. Its alert is `CoatcheckRedisEmptied`",
		Cure:  "look why Redis is empty (its log, INFO persistence, INFO replication): with a backup, restore it; without, users sign in again. Set redis.emptied_hold to have checks answer 503 meanwhile",
	},
	{
		Name: EpochUnread, Level: slog.LevelInfo,
		Text:  "the epoch in coatcheck:state cannot be used, so a Redis that loses its sessions goes unnoticed",
		Cause: "the ACL user lacks a right that former versions did not need, on a Cluster the one to `coatcheck:state:{N}`; checks and logins work",
		Cure:  "add %R~coatcheck:state* to the Redis user of checks and ~coatcheck:state* to those of login and the operators, as docs/sessions.md has them",
	},
}
