package main

import (
	"strings"

	"github.com/coatcheck/coatcheck/cmd/internal/doctor"
)

// The mistakes that docs/mistakes.md lists. Each row differs in one thing from a command
// that works: with Redis on 127.0.0.1:6379, its password in COATCHECK_REDIS_PASSWORD,
// and free ports 9001 and 9102.

// A mistake is a command that ends with an error.
type mistake struct {
	what  string
	env   string // variables, NAME=value
	file  string // what coatcheck.yaml holds
	rules string // what policies.yaml holds
	args  string // the command line
	stdin string

	without string       // a variable that is not set
	before  func(r *rig) // what the surroundings need
	hidden  []string     // what the message must not repeat
}

var mistakes = []struct {
	title string
	rows  []mistake
}{
	{"The command line", []mistake{
		{what: "an unknown command", args: "sesion list 42"},
		{what: "an unknown subcommand", args: "session lst 42"},
		{what: "an unknown flag", args: "serve --lissten :9001"},
		{what: "a flag without its value", args: "serve --listen"},
		{what: "a secret as a flag", args: "serve --redis-password hunter2", hidden: []string{"hunter2"}},
		{what: "an extra argument", args: "serve now"},
		{what: "no file to check", args: "config check"},
		{what: "a request without a path", args: "explain --host shop.example"},
		{what: "a session ID in a header", args: "explain --host shop.example --path / --header cookie:__Host-session=hunter2", hidden: []string{"hunter2"}},
		{what: "an unknown form of output", args: "session list 42 --output xml"},
		{what: "a session without a user", args: "session create"},
		{what: "no session named", args: "session show"},
		{what: "a handle that begins with a dash", args: "session show -xQ"},
		{what: "a field without a value", args: "session add 3fK9 tenant"},
		{what: "all sessions without a user", args: "session revoke --all"},
		{what: "a role without --all", args: "session list 42 --role admin"},
		{what: "a time that no session is idle for", args: "session list --all --idle 1h"},
		{what: "a duration without a unit", args: "health --within 2"},
		{what: "an unknown shell", args: "completion tcsh"},
	}},
	{"The configuration file", []mistake{
		{what: "no such file", args: "serve --config nowhere.yaml"},
		{what: "the same, by variable", env: "COATCHECK_CONFIG=nowhere.yaml", args: "serve"},
		{what: "a directory", args: "serve --config conf.d", before: func(r *rig) { r.mkdir("conf.d") }},
		{what: "not YAML", file: "listen: :9001: x", args: "serve --config coatcheck.yaml"},
		{what: "a tab", file: "log:\n\tlevel: info", args: "serve --config coatcheck.yaml"},
		{what: "a key indented too far", file: "redis:\n  addresses: [127.0.0.1:6379]\nsession:\n  idle_timeout: 30m\n    absolute_timeout: 12h", args: "config check coatcheck.yaml"},
		{what: "a key indented too little", file: "redis:\n    addresses: [127.0.0.1:6379]\n  database: 1", args: "config check coatcheck.yaml"},
		{what: "keys one level too deep", file: "redis:\n  addresses: [127.0.0.1:6379]\n  timeout: 150ms\n  session:\n    idle_timeout: 30m", args: "config check coatcheck.yaml"},
		{what: "a key outside of its section", file: "redis: {addresses: [127.0.0.1:6379]}\nidle_timeout: 30m", args: "config check coatcheck.yaml"},
		{what: "a policy file", rules: "default_policy: a\npolicies:\n- name: a", args: "serve --config policies.yaml"},
		{what: "a users file", args: "serve --config users.yaml", before: (*rig).users},
		{what: "Envoy's configuration", file: "static_resources: {listeners: []}", args: "serve --config coatcheck.yaml"},
		{what: "YAML that has no keys", file: "127.0.0.1:6379", args: "serve --config coatcheck.yaml"},
		{what: "a key twice", file: "listen: ':9001'\nlisten: ':9002'", args: "serve --config coatcheck.yaml"},
		{what: "two documents", file: "listen: ':9001'\n---\nlisten: ':9002'", args: "serve --config coatcheck.yaml"},
		{what: "an unknown key", file: "redis: {databse: 1}", args: "serve --config coatcheck.yaml"},
		{what: "a section without keys", file: "redis:", args: "serve --config coatcheck.yaml"},
		{what: "text that is a number to YAML", file: "redis: {username: 42}", args: "serve --config coatcheck.yaml"},
		{what: "several at once", file: "redis: {adresses: [127.0.0.1:6379]}\ntimeout: 5\nlog: {level: loud}", args: "config check coatcheck.yaml"},
	}},
	{"Values", []mistake{
		{what: "an unknown variable", env: "COATCHECK_TIMOUT=1s", args: "serve"},
		{what: "a duration without a unit", args: "serve --timeout 5"},
		{what: "several at once", env: "COATCHECK_SHUTDOWN_DRAIN=5", args: "serve --log-level loud --log-sample 0"},
		{what: "an unknown word", args: "serve --log-level verbose"},
		{what: "neither true nor false", args: "serve --cookie-keep maybe"},
		{what: "a bad cookie name", args: "serve --cookie-name my;session"},
		{what: "a bad header prefix", args: "serve --headers-prefix user-"},
		{what: "a field that cannot be a header", args: "serve --headers-fields tenant,roles"},
		{what: "a bad login URL", args: "serve --login-url login.example"},
		{what: "an idle timeout of 0", args: "serve --session-idle-timeout 0s"},
		{what: "a step longer than the idle timeout", args: "serve --session-idle-step 1h"},
	}},
	{"Policies", []mistake{
		{what: "no such policy file", args: "serve --policy-file nowhere.yaml"},
		{what: "a file of another kind", args: "serve --policy-file ca.crt"},
		{what: "an unknown key", rules: "polices: []", args: "serve --policy-file policies.yaml"},
		{what: "an unknown policy", rules: "default_policy: signd-in\npolicies:\n- name: signed-in", args: "serve --policy-file policies.yaml"},
		{what: "a condition that is neither true nor false", rules: "policies:\n- {name: staff, condition: session.roles}", args: "serve --policy-file policies.yaml"},
		{what: "a condition on an unknown field", rules: "policies:\n- {name: staff, condition: session.role == 'staff'}", args: "serve --policy-file policies.yaml"},
		{what: "a field whose name is computed", rules: "policies:\n- {name: own, condition: \"session.fields[request.method] == 'yes'\"}", args: "serve --policy-file policies.yaml"},
		{what: "a header that is not mapped", rules: "policies:\n- {name: own, headers: [id, tenant]}", args: "serve --policy-file policies.yaml"},
		{what: "a path with a query", rules: "default_policy: a\npolicies:\n- name: a\nrules:\n- {path: '/x?y', policy: a}", args: "serve --policy-file policies.yaml"},
		{what: "a host in capitals", rules: "default_policy: a\npolicies:\n- name: a\nrules:\n- {hosts: [Shop.example], policy: a}", args: "serve --policy-file policies.yaml"},
		{what: "a rule that is never asked", rules: "default_policy: a\npolicies:\n- name: a\n- name: b\nrules:\n- {path_prefix: /x, policy: a}\n- {path: /x/y, policy: b}",
			args: "serve --policy-file policies.yaml"},
		{what: "rules without a default", rules: "policies:\n- name: a\nrules:\n- {path: /x, policy: a}", args: "serve --policy-file policies.yaml"},
		{what: "a duration without duration()", rules: "policies:\n- {name: fresh, condition: session.age < 5m}", args: "serve --policy-file policies.yaml"},
		{what: "equality with one sign", rules: "policies:\n- {name: ada, condition: 'session.username = \"ada\"'}", args: "serve --policy-file policies.yaml"},
		{what: "words for signs", rules: "policies:\n- {name: own, condition: 'session.age < duration(\"5m\") and true'}", args: "serve --policy-file policies.yaml"},
		{what: "a configuration", file: "redis: {addresses: [127.0.0.1:6379]}", args: "config check --policies coatcheck.yaml"},
		{what: "a users file", args: "config check --policies users.yaml", before: (*rig).users},
		{what: "a test whose request is no browser's", file: "redis: {addresses: [127.0.0.1:6379]}\nlogin_url: /.auth/login\npolicy_file: policies.yaml",
			rules: "default_policy: a\npolicies:\n- name: a\ntests:\n- {name: nobody, request: {host: shop.example, path: /}, expect: {verdict: deny, status: 302}}", args: "config check coatcheck.yaml"},
		{what: "a test that fails", args: "config check --policies policies.yaml",
			rules: "default_policy: a\npolicies:\n- name: a\ntests:\n- {name: open, request: {host: shop.example, path: /}, expect: {verdict: allow}}"},
		{what: "several at once", rules: "policies:\n- {name: a, any_role: admin}\n- {name: b, shadow: 1}", file: "redis: {addresses: 127.0.0.1:6379}\npolicy_file: policies.yaml",
			args: "config check coatcheck.yaml"},
	}},
	{"Listeners", []mistake{
		{what: "two starts on one port", args: "serve --admin-listen 127.0.0.1:9103", before: func(r *rig) { r.serving() }},
		{what: "two starts on one admin port", args: "serve --listen 127.0.0.1:9003", before: func(r *rig) { r.serving() }},
		{what: "one port for both", args: "serve --listen 127.0.0.1:9001 --admin-listen 127.0.0.1:9001"},
		{what: "an address of another machine", args: "serve --listen 192.0.2.1:9001"},
		{what: "the same, for the admin port", args: "serve --admin-listen 192.0.2.1:9102"},
		{what: "no port", args: "serve --listen localhost"},
		{what: "a port out of range", args: "serve --listen :65536"},
		{what: "a Unix socket that is in use", args: "serve --listen unix:///run/coatcheck/checks.sock --admin-listen 127.0.0.1:9103",
			before: func(r *rig) { r.serving("--listen", "unix:///run/coatcheck/checks.sock") }},
		{what: "a file where the Unix socket belongs", args: "serve --listen unix:///run/coatcheck/checks.sock",
			before: func(r *rig) { r.write("checks.sock", "") }},
		{what: "a Unix socket in a missing directory", args: "serve --listen unix:///run/coatcheck/none/checks.sock"},
		{what: "a bad mode of the Unix socket", args: "serve --listen-mode rw-rw----"},
		{what: "profiles on all addresses", args: "serve --admin-pprof-listen :6060"},
	}},
	{"TLS", []mistake{
		{what: "a certificate without a key", args: "serve --tls-cert-file server.crt"},
		{what: "no such certificate", args: "serve --tls-cert-file none.crt --tls-key-file server.key"},
		{what: "another certificate's key", args: "serve --tls-cert-file server.crt --tls-key-file client.key"},
		{what: "no certificate in the file", args: "serve --tls-cert-file server.key --tls-key-file server.key"},
		{what: "an expired certificate", args: "serve --tls-cert-file expired.crt --tls-key-file expired.key"},
		{what: "authorities without certificates",
			args: "serve --tls-cert-file server.crt --tls-key-file server.key --tls-client-ca-file client.key --tls-client-names envoy"},
		{what: "authorities, but no names", args: "serve --tls-cert-file server.crt --tls-key-file server.key --tls-client-ca-file ca.crt"},
		{what: "authorities, but no TLS", args: "serve --tls-client-ca-file ca.crt --tls-client-names envoy"},
		{what: "TLS to Redis that is off", args: "serve --redis-tls-ca-file ca.crt"},
		{what: "no such authorities for Redis", args: "serve --redis-tls-enabled true --redis-tls-ca-file none.crt"},
	}},
	{"Redis", []mistake{
		{what: "no address", without: "COATCHECK_REDIS_ADDRESSES", args: "serve"},
		{what: "a URL with a password", args: "serve --redis-addresses redis://me:hunter2@127.0.0.1:6379", hidden: []string{"hunter2"}},
		{what: "a database out of range", args: "serve --redis-database 70000"},
		{what: "a database on a Cluster", args: "serve --redis-cluster true --redis-database 1"},
		{what: "a Cluster behind Sentinels", args: "serve --redis-cluster true --redis-master-name main"},
		{what: "TLS over a Unix socket", args: "serve --redis-addresses unix:///run/redis.sock --redis-tls-enabled true"},
		{what: "the password twice", args: "serve --redis-password-file redis.password"},
		{what: "no such password file", without: "COATCHECK_REDIS_PASSWORD", args: "serve --redis-password-file none.password"},
		{what: "an empty password file", without: "COATCHECK_REDIS_PASSWORD", args: "serve --redis-password-file blank.password"},
		{what: "a wrong password", env: "COATCHECK_REDIS_PASSWORD=hunter2", args: "serve", hidden: []string{"hunter2"}},
		{what: "a wrong password in a file", without: "COATCHECK_REDIS_PASSWORD", args: "serve --redis-password-file redis.password", hidden: []string{"hunter2"}},
		{what: "an unknown ACL user", args: "serve --redis-username nobody"},
		{what: "no password", without: "COATCHECK_REDIS_PASSWORD", args: "serve"},
	}},
	{"Login", []mistake{
		{what: "neither checks nor login", args: "serve --listen="},
		{what: "no such users file", args: "serve --login-users-file none.yaml"},
		{what: "mistakes in the users file", args: "serve --login-users-file users.yaml",
			before: func(r *rig) {
				r.write("users.yaml", "- {id: 42, username: ada, pasword_hash: x}\n- {username: ada}\n")
			}},
		{what: "a role that is no list", args: "serve --login-users-file users.yaml", before: func(r *rig) {
			r.users()
			r.write("users.yaml", strings.Replace(r.read("users.yaml"), "}", ", roles: staff}", 1))
		}},
		{what: "a policy file in place of users", rules: "policies:\n- name: a", args: "serve --login-users-file policies.yaml"},
		{what: "two sources of users", env: "COATCHECK_LOGIN_POSTGRES_DSN=postgres://db/users", args: "serve --login-users-file users.yaml --login-postgres-query select"},
		{what: "a database without a query", env: "COATCHECK_LOGIN_POSTGRES_DSN=postgres://db/users", args: "serve"},
		{what: "hops, but no proxies", args: "serve --login-users-file users.yaml --login-trusted-hops 1", before: (*rig).users},
		{what: "proxies, but no hops", args: "serve --login-users-file users.yaml --login-trusted-proxies 127.0.0.1", before: (*rig).users},
		{what: "a proxy by its name", args: "serve --login-users-file users.yaml --login-trusted-hops 1 --login-trusted-proxies envoy,10.1.2.3/16", before: (*rig).users},
		{what: "a certificate without a key", args: "serve --login-users-file users.yaml --login-tls-cert-file server.crt", before: (*rig).users},
		{what: "an unknown text", args: "serve --login-users-file users.yaml --login-texts usrname=Name", before: (*rig).users},
		{what: "a text twice", args: "serve --login-users-file users.yaml --login-texts username=Name --login-texts username=Nick", before: (*rig).users},
		{what: "a text in a language that the pages do not come in", args: "serve --login-users-file users.yaml --login-texts it.username=Nome", before: (*rig).users},
		{what: "a language without texts", args: "serve --login-users-file users.yaml --login-languages en,it", before: (*rig).users},
		{what: "a language that is no tag", args: "serve --login-users-file users.yaml --login-language de_DE", before: (*rig).users},
		{what: "a help page without its scheme", args: "serve --login-users-file users.yaml --login-help-url help.example.com", before: (*rig).users},
		{what: "a base path without slashes", args: "serve --login-users-file users.yaml --login-base-path auth", before: (*rig).users},
		{what: "no such templates", args: "serve --login-users-file users.yaml --login-templates none", before: (*rig).users},
		{what: "an origin without a scheme", args: "serve --login-users-file users.yaml --login-return-origins app.example.com", before: (*rig).users},
		{what: "a domain for a __Host- cookie", args: "serve --cookie-domain example.com"},
		{what: "an insecure __Host- cookie", args: "serve --cookie-insecure true"},
	}},
	{"Other commands", []mistake{
		{what: "Redis does not answer", args: "session list 42 --redis-addresses 127.0.0.1:6380"},
		{what: "a web server in place of Redis", args: "session list 42 --redis-addresses 127.0.0.1:8080", before: (*rig).webServer},
		{what: "a wrong password", env: "COATCHECK_REDIS_PASSWORD=hunter2", args: "session list 42", hidden: []string{"hunter2"}},
		{what: "an unknown session", args: "session show zzzzzzzz"},
		{what: "an ID in a handle's place", args: "session show hunter2-hunter2-hunter2-hunter2-hunter2-hun", hidden: []string{"hunter2-hunter2"}},
		{what: "a handle with a wrong character", args: "session show 3f*"},
		{what: "a name in place of a user ID", args: "session list ada"},
		{what: "the same, to end sessions", args: "session revoke --all --user ada"},
		{what: "a name that no session has", args: "session revoke --username ada"},
		{what: "no session ID on standard input", args: "session show --stdin", stdin: "hunter2\n", hidden: []string{"hunter2"}},
		{what: "health without a server", args: "health"},
		{what: "health without an admin address", file: "admin: {listen: ''}", without: "COATCHECK_ADMIN_LISTEN", args: "health --config coatcheck.yaml"},
	}},
}

// laterMistakes are those that no start shows: a check, a login or a reload meets them,
// and says so. Each names the test that makes it.
var laterMistakes = []struct{ what, seen, test string }{
	{"a policy file that is broken at a reload", "ERROR `the policy file cannot be used; the policies as they were before stay in use`, with the line; `coatcheck_reload_failing{source=\"policies\"}` is 1", "TestReloads"},
	{"a full Redis that evicts", "WARN `Redis: maxmemory_policy is allkeys-lru: ...`", "TestDiagnose"},
}

// unseenMistakes are those that only the doctor sees: they are in Envoy's configuration,
// in front of it, or in a Redis that is not asked.
var unseenMistakes = []struct {
	what, happens string
	found         doctor.ID
}{
	{"`failure_mode_allow: true`", "while no Coatcheck answers, every request reaches the upstream without a check", doctor.EnvoyFailOpen},
	{"the early removal of identity headers is left out, and `allowed_headers` is set", "`X.User.Roles: admin` reaches the upstream beside the true `x-user-roles`", doctor.EnvoyAliasesHidden},
	{"`allowed_headers` without `cookie`", "401 `no_cookie` for every user; on a public route the session cookie reaches the upstream", doctor.EnvoyCookieHidden},
	{"`status_on_error` is left out", "a fault between Envoy and Coatcheck is 403, and looks like a missing role", doctor.EnvoyStatusOnError},
	{"Envoy's `timeout` is not longer than Coatcheck's", "in an outage of Redis Envoy's own error in place of a 503 with `Retry-After`", doctor.EnvoyTimeoutShort},
	{"the cluster has no health check", "requests fail during each deploy", doctor.EnvoyHealthChecks},
	{"the cluster's circuit breakers are left at their default", "503 `ext_authz_error` in a burst", doctor.EnvoyCircuitBreakers},
	{"no catch-all route", "paths without a route are 404, unchecked", doctor.EnvoyNoCatchAll},
	{"`ext_authz` is not the last filter before the router", "a request that was admitted can end up at a route that requires more", doctor.EnvoyLaterReroutes},
	{"`request_headers_to_remove` names identity headers", "200, and the upstream sees no `x-user-id`", doctor.EnvoyIdentityRemoved},
	{"`decoder_header_mutation_rules` without `cookie`", "500 `ext_authz_invalid` in Envoy's access log", doctor.EnvoyMutationRules},
	{"the cluster's port is wrong", "503 `ext_authz_error` in Envoy's access log, and no line in Coatcheck's", doctor.EnvoyClusterPort},
	{"the cluster's protocol is HTTP/1", "503 `ext_authz_error` in Envoy's access log, and no line in Coatcheck's; Envoy may not start", doctor.EnvoyClusterHTTP1},
	{"a route names an unknown policy, or another key that Coatcheck does not know", "403 `unknown_policy` or `bad_route` on that route", doctor.EnvoyRoutePolicy},
	{"Istio's provider without `timeout`", "while no Coatcheck answers, each request hangs for 600 s", doctor.IstioTimeoutMissing},
	{"a CUSTOM policy of Istio without `ports`", "connections to other ports are refused", doctor.IstioTCPPorts},
	{"Envoy Gateway's policy without `timeout`", "while no Coatcheck answers, each request hangs for 10 s", doctor.GatewayTimeoutMissing},
	{"a SecurityPolicy of a route without `mergeType`", "the route is not checked at all", doctor.GatewayOverridden},
	{"login and checks use another Redis or another database", "sign-in succeeds, then 401 `not_found` for ever", doctor.ConfigRedisDiffers},
}
