package monitoring

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// A Panel is one picture of the dashboard.
type Panel struct {
	Title, About string
	Unit         string // Grafana's name of it
	Exemplars    bool   // its histogram has them
	Queries      []Query
}

// A Query is one line, or one for each label, of a panel. Grafana puts values in for
// $namespace and $__rate_interval.
type Query struct{ Expr, Legend string }

// rateOf is the sum of a counter's rate by labels.
func rateOf(metric, matchers, by string) string {
	return fmt.Sprintf(`sum by (%s) (rate(%s{%s}[$__rate_interval]))`, by, metric, selected(matchers))
}

func selected(matchers string) string {
	return strings.TrimSuffix(`namespace=~"$namespace",`+matchers, ",")
}

func quantile(q, metric, by string) string {
	return fmt.Sprintf(`histogram_quantile(%s, %s)`, q, rateOf(metric+"_bucket", "", strings.TrimPrefix(by+", le", ", ")))
}

func gauge(aggregation, metric string) string {
	return fmt.Sprintf(`%s (%s{%s})`, aggregation, metric, selected(""))
}

// Panels returns the panels in their order.
func Panels() []Panel {
	return slices.Concat(requestPanels(), redisPanels(), nearCachePanels(), sessionPanels(), apiPanels(), processPanels())
}

func requestPanels() []Panel {
	var faults []string
	for _, status := range slices.Sorted(maps.Keys(Faults())) {
		faults = append(faults, Faults()[status]...)
	}
	return []Panel{
		{Title: "Checks", About: "Verdicts a second.", Unit: "reqps", Queries: []Query{{rateOf("coatcheck_checks_total", "", "verdict"), "{{verdict}}"}}},
		{Title: "Refusals", About: "By reason; docs/troubleshooting.md says what each means.", Unit: "reqps",
			Queries: []Query{{rateOf("coatcheck_checks_total", `verdict="deny"`, "reason"), "{{reason}}"}}},
		{Title: "Faults", About: "Reasons for which an operator must look: docs/runbook.md.", Unit: "reqps",
			Queries: []Query{{rateOf("coatcheck_checks_total", `reason=~"`+strings.Join(faults, "|")+`"`, "reason"), "{{reason}}"}}},
		{Title: "Time of a check", About: "An exemplar leads to its trace.", Unit: "s", Exemplars: true, Queries: []Query{
			{quantile("0.5", "coatcheck_check_duration_seconds", ""), "median"}, {quantile("0.99", "coatcheck_check_duration_seconds", ""), "99 %"},
		}},
		{Title: "Checks in flight, and connections", Unit: "short", Queries: []Query{
			{gauge("sum", "coatcheck_checks_in_flight"), "checks waiting for Redis"}, {gauge("sum", "coatcheck_grpc_connections"), "Envoys' connections"},
		}},
		{Title: "Connections refused", About: "Over grpc.max_connections, or without a certificate that may connect.", Unit: "cps", Queries: []Query{
			{rateOf("coatcheck_grpc_connections_rejected_total", "", "namespace"), "too many"},
			{rateOf("coatcheck_grpc_handshakes_failed_total", "", "namespace"), "handshakes of checks failed"},
			{rateOf("coatcheck_login_handshakes_failed_total", "", "namespace"), "handshakes of login failed"},
		}},
		{Title: "Shadow mode", About: "What policies in shadow mode would have refused.", Unit: "short", Queries: []Query{
			{gauge("max", "coatcheck_policies_in_shadow"), "policies"}, {rateOf("coatcheck_shadow_denials_total", "", "reason"), "{{reason}} a second"},
		}},
	}
}

func redisPanels() []Panel {
	return []Panel{
		{Title: "Redis", About: "1: every replica reaches it.", Unit: "short", Queries: []Query{
			{gauge("min", "coatcheck_redis_up"), "up"}, {gauge("sum", "coatcheck_redis_breaker_open"), "breakers open"},
			{gauge("max", "coatcheck_redis_sentinels_away"), "Sentinels away"},
			{rateOf("coatcheck_redis_breaker_opened_total", "", "namespace"), "breakers opened a second"},
		}},
		{Title: "Time of Redis, 99 %", About: "By operation; one without a call has no time.", Unit: "s", Exemplars: true,
			Queries: []Query{{quantile("0.99", "coatcheck_redis_duration_seconds", "operation"), "{{operation}}"}}},
		{Title: "Errors of Redis", Unit: "ops", Queries: []Query{
			{rateOf("coatcheck_redis_errors_total", "", "operation"), "{{operation}}"}, {rateOf("coatcheck_redis_pool_timeouts_total", "", "namespace"), "no free connection"},
		}},
		{Title: "Why Redis fails", About: "By cause: docs/troubleshooting.md has what to look at. Emptied: a master has lost its sessions.", Unit: "ops", Queries: []Query{
			{rateOf("coatcheck_redis_failures_total", "", "cause"), "{{cause}}"}, {rateOf("coatcheck_redis_emptied_total", "", "namespace"), "emptied"},
		}},
		{Title: "Connections to Redis", Unit: "short", Queries: []Query{{gauge("sum by (state)", "coatcheck_redis_connections"), "{{state}}"}}},
	}
}

// nearCachePanels are empty where near_cache.enabled is false.
func nearCachePanels() []Panel {
	return []Panel{
		{Title: "Near cache: looks", About: "By what was found; all but hit and unknown ask Redis.", Unit: "reqps",
			Queries: []Query{{rateOf("coatcheck_near_cache_lookups_total", "", "result"), "{{result}}"}}},
		{Title: "Near cache: what it hears", About: "leased, 1: every replica believes its tracking.", Unit: "short", Queries: []Query{
			{gauge("min", "coatcheck_near_cache_leased"), "leased"}, {rateOf("coatcheck_near_cache_flushes_total", "", "reason"), "flushes a second: {{reason}}"},
			{rateOf("coatcheck_near_cache_invalidations_total", "", "namespace"), "invalidations a second"},
			{rateOf("coatcheck_near_cache_background_total", "", "task, outcome"), "{{task}} {{outcome}} a second"},
		}},
		{Title: "Near cache: sessions", Unit: "short", Queries: []Query{
			{gauge("max", "coatcheck_near_cache_entries"), "most sessions"}, {rateOf("coatcheck_near_cache_evictions_total", "", "namespace"), "pushed out a second"},
		}},
		{Title: "Near cache: memory", Unit: "bytes", Queries: []Query{{gauge("max", "coatcheck_near_cache_bytes"), "most"}}},
	}
}

func sessionPanels() []Panel {
	return []Panel{
		{Title: "Sessions", About: "Live ones need session.count_every; keys are Redis's own count.", Unit: "short", Queries: []Query{
			{gauge("max", "coatcheck_sessions_live"), "live"}, {gauge("max", "coatcheck_redis_keys"), "keys in Redis"},
		}},
		{Title: "Sessions made and ended", Unit: "ops", Queries: []Query{
			{rateOf("coatcheck_sessions_created_total", "", "namespace"), "made"}, {rateOf("coatcheck_sessions_revoked_total", "", "namespace"), "revoked"},
		}},
		{Title: "Logins", About: "By outcome.", Unit: "reqps", Queries: []Query{{rateOf("coatcheck_logins_total", "", "outcome"), "{{outcome}}"}}},
		{Title: "Time of a login", Unit: "s", Exemplars: true, Queries: []Query{
			{quantile("0.5", "coatcheck_login_duration_seconds", ""), "median"}, {quantile("0.99", "coatcheck_login_duration_seconds", ""), "99 %"},
		}},
		{Title: "Passwords being checked", Unit: "short", Queries: []Query{
			{gauge("sum", "coatcheck_login_hashes_in_flight"), "now"}, {rateOf("coatcheck_login_hash_queue_full_total", "", "namespace"), "refused a second"},
			{gauge("max", "coatcheck_login_accounts_unsettled"), "closed accounts unsettled"},
		}},
	}
}

// apiPanels are empty where the session API is not served.
func apiPanels() []Panel {
	return []Panel{
		{Title: "Session API: calls", About: "By outcome: ok, or the code of the error.", Unit: "reqps",
			Queries: []Query{{rateOf("coatcheck_api_calls_total", "", "outcome"), "{{outcome}}"}}},
		{Title: "Session API: time, 99 %", About: "By method; of Watch, how long it lasted.", Unit: "s",
			Queries: []Query{{quantile("0.99", "coatcheck_api_call_duration_seconds", "method"), "{{method}}"}}},
		{Title: "Session API: in flight, and connections", Unit: "short", Queries: []Query{
			{gauge("sum", "coatcheck_api_calls_in_flight"), "calls"}, {gauge("sum", "coatcheck_api_connections"), "connections"},
			{rateOf("coatcheck_api_connections_rejected_total", "", "namespace"), "refused a second: too many"},
			{rateOf("coatcheck_api_handshakes_failed_total", "", "namespace"), "handshakes failed a second"},
		}},
		{Title: "Session API: Watch", About: "Replicas that Redis tells of changes; fewer than have streams: ends are told of late.", Unit: "short", Queries: []Query{
			{gauge("sum", "coatcheck_api_watch_streams"), "streams"}, {gauge("sum", "coatcheck_api_watch_sessions"), "sessions"},
			{gauge("sum", "coatcheck_api_watch_tracked"), "replicas told of changes"},
		}},
		{Title: "Session API: ends and losses of Watch", About: "Ends by the reason that a check has for them.", Unit: "ops", Queries: []Query{
			{rateOf("coatcheck_api_watch_ends_total", "", "reason"), "{{reason}}"},
			{rateOf("coatcheck_api_watch_changes_total", "", "namespace"), "changes told"}, {rateOf("coatcheck_api_watch_reads_total", "", "namespace"), "reads"},
			{rateOf("coatcheck_api_watch_read_failures_total", "", "namespace"), "reads that failed"},
			{rateOf("coatcheck_api_watch_losses_total", "", "namespace"), "tracking lost"},
			{rateOf("coatcheck_api_watch_unavailable_total", "", "namespace"), "streams ended: unavailable"},
			{rateOf("coatcheck_api_watch_full_total", "", "namespace"), "streams refused: full"},
		}},
	}
}

func processPanels() []Panel {
	return []Panel{
		{Title: "Replicas", About: "Ready ones, by version and by settings, which all must share.", Unit: "short", Queries: []Query{
			{gauge("sum", "coatcheck_ready"), "ready"}, {gauge("count by (version, settings)", "coatcheck_build_info"), "{{version}} {{settings}}"},
		}},
		{Title: "Notices", About: "1 while one stands: docs/troubleshooting.md has the cure.", Unit: "short",
			Queries: []Query{{gauge("max by (notice)", "coatcheck_notices"), "{{notice}}"}}},
		{Title: "Certificates", About: "Time until they end.", Unit: "s",
			Queries: []Query{{gauge("min by (source)", "coatcheck_tls_certificate_expiry_timestamp_seconds") + " - time()", "{{source}}"}}},
		{Title: "Reloads", About: "1 while changed files cannot be used.", Unit: "short", Queries: []Query{
			{gauge("max by (source)", "coatcheck_reload_failing"), "{{source}}"}, {rateOf("coatcheck_reloads_total", "", "source, result"), "{{source}} {{result}} a second"},
		}},
		{Title: "Lines of the log left out", Unit: "ops", Queries: []Query{
			{rateOf("coatcheck_log_dropped_total", "", "namespace"), "their reader was too slow"}, {rateOf("coatcheck_log_suppressed_total", "", "reason"), "too many of {{reason}}"},
		}},
		{Title: "Clocks", About: "Redis's minus ours.", Unit: "s", Queries: []Query{{gauge("max", "coatcheck_clock_offset_seconds"), "furthest ahead"}, {gauge("min", "coatcheck_clock_offset_seconds"), "furthest behind"}}},
		{Title: "Memory", Unit: "bytes", Queries: []Query{{`process_resident_memory_bytes{` + selected("") + `} and on (job, instance) coatcheck_ready`, "{{instance}}"}}},
		{Title: "Processor", About: "Processors in use.", Unit: "short", Queries: []Query{{`rate(process_cpu_seconds_total{` + selected("") + `}[$__rate_interval]) and on (job, instance) coatcheck_ready`, "{{instance}}"}}},
	}
}
