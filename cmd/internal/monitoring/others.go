package monitoring

import (
	"fmt"
	"strings"
	"time"
)

// others are the alerts about what cannot be seen in an answer.
func others() []Alert {
	return []Alert{
		{Name: "CoatcheckAbsent", Expr: `absent(coatcheck_ready == 1)`, For: time.Minute, Severity: Critical,
			Summary: "No Coatcheck is ready, or Prometheus reaches none",
			Means:   "Without an answer Envoy refuses every checked request (503, by `status_on_error`). Or only Prometheus cannot reach `admin.listen`.",
			Do:      "Look at the pods or processes, and at the end of their log: a start that fails says why ([mistakes](mistakes.md)). If they run, look at the way from Prometheus to port 9102: the network policy opens it to the namespace `monitoring`."},
		{Name: "CoatcheckRedisAway", Expr: `min by (namespace) (coatcheck_redis_up) == 0`, Severity: Critical,
			Summary: "Redis does not answer a Coatcheck",
			Means:   "No user gets in through that replica, and no user is logged out; on optional routes, too, clients get 503.",
			Do:      "The log line `operations on Redis fail` says the cause and what to look at ([causes](troubleshooting.md#by-cause)). Look at Redis: `redis-cli ping`, its memory, its log. If it answers there, look at the network between, its TLS, and the password. Nothing is to be restarted: checks go on as soon as Redis answers ([more](operations.md#when-redis-is-away-or-slow))."},
		{Name: "CoatcheckRedisEmptied", Expr: `sum by (namespace) (increase(coatcheck_redis_emptied_total[5m])) > 0`, Severity: Critical,
			Summary: "Redis has lost its sessions: all users, or those of one master, are signed out",
			Means:   "Users who were signed in are sent to log in again, all at once; with `redis.emptied_hold` they get 503 for so long. Sessions that were revoked stay revoked, unless an older backup is restored.",
			Do:      "The log line `redis_emptied` names the key, and so on a Cluster the master. Look why it is empty: its log (a restart without persistence, `FLUSHALL`), `INFO persistence`, `INFO replication` (a replica without the data was promoted), and whether `redis.addresses` leads to the Redis that was meant. With a backup: set `redis.emptied_hold` before the next time, restore it, and end again what was revoked since ([more](operations.md#when-redis-loses-its-sessions)). Without: watch login, whose passwords cost processor time (`CoatcheckLoginsRefused`). The alert ends after five minutes, the notice after an hour."},
		{Name: "CoatcheckAPIFaults", Expr: `sum by (namespace, outcome) (rate(coatcheck_api_calls_total{outcome=~"unavailable|internal"}[5m])) > 0`, Severity: Critical,
			Summary: "Calls of the session API get no answer",
			Means:   "Services that ask for sessions get UNAVAILABLE, and must answer 503 themselves. No user is logged out.",
			Do:      "By the label `outcome`. `unavailable`: the log's lines `api call` have the `cause` ([causes](troubleshooting.md#by-cause)); look at Redis, as for `CoatcheckRedisAway`, and at the notice `api_rights`. `internal`: a bug; the log has its place."},
		{Name: "CoatcheckSlow", Expr: `histogram_quantile(0.99, sum by (namespace, le) (rate(coatcheck_check_duration_seconds_bucket[5m]))) > 0.05`, For: 5 * time.Minute, Severity: Warning,
			Summary: "One check in a hundred takes over 50 ms",
			Means:   "Every page is as much slower, and at `timeout` (150 ms) checks become 503.",
			Do:      "Compare with `coatcheck_redis_duration_seconds`: if it is as slow, look at Redis (slow commands, `SLOWLOG GET`, its host's processor) and the network; if not, the replicas have too little processor. With [traces](operations.md#traces) a slow one shows where its time went."},
		{Name: "CoatcheckCertificateEnds", Expr: `coatcheck_tls_certificate_expiry_timestamp_seconds - time() < 7 * 86400`, Severity: Critical,
			Summary: "A certificate in use ends within a week",
			Means:   "After that day Envoy, browsers or Redis refuse the connection, and no request passes.",
			Do:      "Renew the files of the label `source`; no restart ([how](operations.md#encryption)). If they are renewed already, see `coatcheck_reload_failing`: they cannot be used."},
		{Name: "CoatcheckReloadFails", Expr: `coatcheck_reload_failing == 1`, For: time.Minute, Severity: Warning,
			Summary: "Files have changed and cannot be used; the former contents stay in use",
			Means:   "Requests are decided as before the change: an account that was closed in it is still open, a route that was closed in it is not.",
			Do:      "The log says what is wrong with the files of the label `source`. Mend them; no restart."},
		{Name: "CoatcheckClocksDiffer", Expr: `abs(coatcheck_clock_offset_seconds) > 5`, For: time.Minute, Severity: Warning,
			Summary: "The clocks of Redis and of a Coatcheck differ by over 5 s",
			Means:   "Coatcheck follows Redis, so sessions are right; logs, certificates and programs that write sessions themselves are not.",
			Do:      "Set the clocks (NTP) of both machines. Each node of a Redis Cluster has a clock of its own."},
		{Name: "CoatcheckAccountsUnsettled", Expr: `coatcheck_login_accounts_unsettled == 1 unless coatcheck_redis_up == 0`, For: 5 * time.Minute, Severity: Critical,
			Summary: "Accounts that were closed or changed may still be signed in",
			Means:   "A user who was shut out in the users file still gets in with a session of before.",
			Do:      "Redis refuses what login asks of it, or over half of the accounts are gone from the users file: the log says which. For the latter: if you mean it, `coatcheck session revoke --closed` ([more](operations.md#closing-an-account-changing-a-password))."},
		{Name: "CoatcheckNotices", Expr: fmt.Sprintf(`max by (namespace, notice) (coatcheck_notices{notice=~"%s"}) == 1`, strings.Join(paging(), "|")), For: 10 * time.Minute, Severity: Warning,
			Summary: "Coatcheck notices a mistake around it",
			Means:   "Protection works, but what stands around it is not as it should be; the label `notice` says what.",
			Do:      "The log line with this `notice` has the values and the cure ([the list](troubleshooting.md#what-coatcheck-notices))."},
		{Name: "CoatcheckSettingsDiffer", Expr: `count by (namespace) (count by (namespace, settings) (coatcheck_build_info)) > 1`, For: 10 * time.Minute, Severity: Warning,
			Summary: "Replicas run with different session or cookie settings",
			Means:   "A session lives by the timeout of the replica that saw it last; with two cookie names no user gets in. While a change is rolled out it is so for a while.",
			Do:      "Give checks and login the same `cookie.name`, `bearer`, `session.idle_timeout`, `session.absolute_timeout` and `session.idle_step`, of which the label `settings` is a fingerprint."},
		{Name: "CoatcheckShadowForLong", Expr: `max by (namespace) (coatcheck_policies_in_shadow) > 0`, For: 7 * 24 * time.Hour, Severity: Warning,
			Summary: "A policy has been in shadow mode for a week: it refuses no request",
			Means:   "What the policy should protect is as open as without it.",
			Do:      "Look at `coatcheck_shadow_denials_total`: whom it would refuse. Then end its [shadow mode](permissions.md#shadow-mode), or silence this alert and say why."},
		{Name: "CoatcheckLoginsRefused", Expr: `sum by (namespace) (rate(coatcheck_login_hash_queue_full_total[5m])) > 0`, For: 5 * time.Minute, Severity: Warning,
			Summary: "Logins are refused because too many passwords are being checked",
			Means:   "Users who sign in get 503 and must try again. Sessions and checks are not touched.",
			Do:      "If it is an attack, `coatcheck_logins_total` counts throttled and refused ones: let Envoy limit the rate of `/.auth/login`. If it is the morning, add replicas of login or processors, or raise `login.max_hashes`."},
		{Name: "CoatcheckLogDropped", Expr: `sum by (namespace) (rate(coatcheck_log_dropped_total[5m])) > 0`, Severity: Warning,
			Summary: "Lines of the log are lost because their reader is too slow",
			Means:   "Checks go on; an audit has gaps.",
			Do:      "Look at what reads standard error: a full disk, a collector that hangs. Fewer lines: `log.decisions: denied`, `log.sample`."},
	}
}
