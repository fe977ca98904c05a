package manifests

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

// builds are the folders that people apply, and the secrets that they bring.
var builds = []struct {
	dir     string
	secrets map[string][]string
}{
	{"base", map[string][]string{
		"coatcheck-redis":       {"password"},
		"coatcheck-login-redis": {"password"},
		"coatcheck-users":       {"users.yaml"},
	}},
	{"overlays/dev", nil},
	{"overlays/example", map[string][]string{
		"coatcheck-redis":       {"password"},
		"coatcheck-login-redis": {"password"},
		"coatcheck-redis-ca":    {"ca.crt"},
		"coatcheck-postgres":    {"password", "ca.crt"},
		"coatcheck-tls":         {"tls.crt", "tls.key", "ca.crt"},
		"coatcheck-login-tls":   {"tls.crt", "tls.key", "ca.crt"},
	}},
	{"overlays/istio", baseSecrets},
	{"overlays/istio-ambient", baseSecrets},
	{"overlays/envoy-gateway", baseSecrets},
}

var baseSecrets = map[string][]string{
	"coatcheck-redis":       {"password"},
	"coatcheck-login-redis": {"password"},
	"coatcheck-users":       {"users.yaml"},
}

func TestManifests(t *testing.T) {
	for _, b := range builds {
		t.Run(b.dir, func(t *testing.T) {
			for _, p := range manifestProblems(build(t, b.dir), b.secrets) {
				t.Error(p)
			}
		})
	}
	for change, copied := range map[string][3]string{ // as READMEs say
		"istio namespace":       {"istio", "\n- gateway\n", "\n- namespace\n"},
		"istio whole-mesh":      {"istio", "\n- gateway\n", "\n- whole-mesh\n"},
		"envoy-gateway sidecar": {"envoy-gateway", "\nimages:\n", "\ncomponents: [../../components/envoy-gateway-sidecar]\nimages:\n"},
	} {
		t.Run(change, func(t *testing.T) {
			built := build(t, changedCopy(t, copied[0], copied[1], copied[2]))
			// The sidecar's configuration, where Envoy Gateway runs its Envoys.
			built = strings.Replace(built, "namespace: envoy-gateway-system", "namespace: gateway", 1)
			for _, p := range manifestProblems(built, baseSecrets) {
				t.Error(p)
			}
		})
	}
}

// Each check can fail, and says what is wrong.
func TestManifestsSpoiled(t *testing.T) {
	base, dev, example := build(t, "base"), build(t, "overlays/dev"), build(t, "overlays/example")
	for _, m := range []mutation{
		{"unknown field", "minReadySeconds: 5", "minReadySecond: 5", `unknown field "spec.minReadySecond"`},
		{"field twice", "minReadySeconds: 5", "minReadySeconds: 5\n  minReadySeconds: 6", "already set"},
		{"number in quotes", "minReadySeconds: 5", `minReadySeconds: "5"`, "minReadySeconds"},
		{"unknown kind", "kind: PodDisruptionBudget", "kind: PodDisruptionBudge", "no kind"},
		{"another namespace", "namespace: coatcheck\nspec", "namespace: default\nspec", "namespace default"},
		{"profile of the namespace", "enforce: restricted", "enforce: baseline", "pod-security"},

		{"root", "runAsUser: 65532", "runAsUser: 0", "user"},
		{"root allowed", "runAsNonRoot: true", "runAsNonRoot: false", "runAsNonRoot != true"},
		{"no seccomp", "type: RuntimeDefault", "type: Unconfined", "seccomp"},
		{"privileged", "readOnlyRootFilesystem: true", "readOnlyRootFilesystem: true\n          privileged: true", "privileged"},
		{"escalation", "allowPrivilegeEscalation: false", "allowPrivilegeEscalation: true", "allowPrivilegeEscalation"},
		{"capabilities", "            - ALL\n", "            - CHOWN\n", "capabilities"},
		{"port of the host", "containerPort: 9001", "containerPort: 9001\n          hostPort: 9001", "hostPort"},
		{"sysctl", "runAsNonRoot: true", "runAsNonRoot: true\n        sysctls: [{name: kernel.msgmax, value: '1'}]", "sysctl"},
		{"capability added", "          capabilities:\n", "          capabilities:\n            add: [NET_RAW]\n", "capabilities"},
		{"writable root", "readOnlyRootFilesystem: true", "readOnlyRootFilesystem: false", "readOnlyRootFilesystem"},
		{"host network", "enableServiceLinks: false", "enableServiceLinks: false\n      hostNetwork: true", "host namespaces"},
		{"host path", "      - configMap:\n", "      - name: host\n        hostPath: {path: /}\n      - configMap:\n", "hostPath"},
		{"service links", "enableServiceLinks: false", "enableServiceLinks: true", "enableServiceLinks"},
		{"token in the pod", "      automountServiceAccountToken: false\n", "", "token"},
		{"token of the account", "automountServiceAccountToken: false\nkind: ServiceAccount", "automountServiceAccountToken: true\nkind: ServiceAccount", "token"},
		{"no such account", "serviceAccountName: coatcheck", "serviceAccountName: other", "ServiceAccount other"},
		{"no memory limit", "          limits:\n            memory: 256Mi\n", "", "memory limit"},
		{"CPU limit", "          limits:\n", "          limits:\n            cpu: 1\n", "CPU limit"},
		{"no CPU request", "            cpu: 200m\n", "", "CPU request"},
		{"image without a tag", "image: coatcheck:dev", "image: coatcheck", "image"},
		{"latest image", "image: coatcheck:dev", "image: coatcheck:latest", "image"},
		{"secret in a variable", "        image:", "        env: [{name: COATCHECK_REDIS_PASSWORD, value: x}]\n        image:", "secret"},
		{"secret referred to by a variable", "        image:", "        env: [{name: A, valueFrom: {secretKeyRef: {name: coatcheck-redis, key: password}}}]\n        image:", "secret"},
		{"all of a secret as variables", "        image:", "        envFrom: [{secretRef: {name: coatcheck-redis}}]\n        image:", "secret"},

		{"HTTP probe of no port", "            path: /readyz\n            port: admin", "            path: /readyz\n            port: adm", "port adm"},
		{"HTTP probe of the wrong port", "            path: /readyz\n            port: admin", "            path: /readyz\n            port: grpc", "admin.listen"},
		{"readiness for life", "livenessProbe:\n          failureThreshold: 3\n          httpGet:\n            path: /healthz", "livenessProbe:\n          failureThreshold: 3\n          httpGet:\n            path: /readyz", "/readyz"},
		{"probe of a port that clients fill", "          httpGet:\n            path: /healthz\n            port: admin\n          periodSeconds: 10", "          grpc: {port: 9001, service: liveness}\n          periodSeconds: 10", "the admin port"},
		{"TCP probe of a port that clients fill", "          httpGet:\n            path: /readyz\n            port: admin", "          tcpSocket: {port: grpc}", "the admin port"},
		{"probe of what is not there", "            path: /healthz\n", "            path: /health\n", "not /healthz"},
		{"no readiness probe", "        readinessProbe:\n          failureThreshold: 2\n          httpGet:\n            path: /readyz\n            port: admin\n          periodSeconds: 2\n          timeoutSeconds: 2\n", "", "readinessProbe"},
		{"grace period", "terminationGracePeriodSeconds: 30", "terminationGracePeriodSeconds: 20", "terminationGracePeriodSeconds"},
		{"longer drain", "drain: 5s", "drain: 1m", "terminationGracePeriodSeconds"},
		{"no preStop", "          preStop:\n            sleep:\n              seconds: 5\n", "          preStop: {exec: {command: [sleep, '5']}}\n", "preStop"},
		{"rollout", "maxUnavailable: 0", "maxUnavailable: 1", "rollout"},
		{"replicas and an autoscaler", "  minReadySeconds: 5", "  minReadySeconds: 5\n  replicas: 3", "replicas"},

		{"no such ConfigMap", "name: coatcheck-" + hashOf(base), "name: coatcheck", "ConfigMap"},
		{"no such Secret", "secretName: coatcheck-redis", "secretName: coatcheck-redi", "Secret coatcheck-redi"},
		{"mount of nothing", "- mountPath: /etc/coatcheck/config\n          name: config", "- mountPath: /etc/coatcheck/config\n          name: conf", "no volume conf"},
		{"subPath", "- mountPath: /etc/coatcheck/redis\n", "- mountPath: /etc/coatcheck/redis\n          subPath: a\n", "subPath"},
		{"configuration elsewhere", "/etc/coatcheck/config/coatcheck.yaml\n        image", "/etc/coatcheck/coatcheck.yaml\n        image", "/etc/coatcheck/coatcheck.yaml"},
		{"password elsewhere", "password_file: /etc/coatcheck/redis/password", "password_file: /etc/coatcheck/redis/pass", "/etc/coatcheck/redis/pass"},

		{"unknown key", "drain: 5s", "drian: 5s", "shutdown.drian"},
		{"bad value", "drain: 5s", "drain: 5", "shutdown.drain"},
		{"unknown variable", "        image:", "        env: [{name: COATCHECK_LISTN, value: x}]\n        image:", "COATCHECK_LISTN"},
		{"foreign variable", "        image:", "        env: [{name: LISTEN, value: x}]\n        image:", "COATCHECK_"},
		{"bad argument", "- serve\n", "- server\n", "serve"},
		{"another port", `listen: ":9001"`, `listen: ":9002"`, "9002"},
		{"admin on loopback", `listen: ":9102"`, `listen: "127.0.0.1:9102"`, "admin.listen"},
		{"scraped port", `prometheus.io/port: "9102"`, `prometheus.io/port: "9103"`, "9103"},

		{"selector and labels", "        app.kubernetes.io/component: check\n        app.kubernetes.io/name: coatcheck\n    spec", "        app.kubernetes.io/component: login\n        app.kubernetes.io/name: coatcheck\n    spec", "selects"},
		{"service of a cluster IP", "  clusterIP: None\n", "", "headless"},
		{"service without pods", "  selector:\n    app.kubernetes.io/component: check", "  selector:\n    app.kubernetes.io/component: none", "Service coatcheck selects"},
		{"service of no port", "targetPort: grpc", "targetPort: http", "port http"},
		{"service without HTTP/2", "appProtocol: kubernetes.io/h2c\n    ", "", "appProtocol"},
		{"budget without pods", "  maxUnavailable: 1\n  selector:\n    matchLabels:\n      app.kubernetes.io/component: check", "  maxUnavailable: 1\n  selector:\n    matchLabels:\n      app.kubernetes.io/component: none", "PodDisruptionBudget coatcheck selects"},
		{"budget for the unhealthy", "unhealthyPodEvictionPolicy: AlwaysAllow", "unhealthyPodEvictionPolicy: IfHealthyBudget", "unhealthyPodEvictionPolicy"},
		{"autoscaler of nothing", "    kind: Deployment\n    name: coatcheck", "    kind: Deployment\n    name: coatchek", "HorizontalPodAutoscaler"},
		{"autoscaler to one", "minReplicas: 3", "minReplicas: 1", "minReplicas"},
		{"spread of other pods", "          matchLabels:\n            app.kubernetes.io/component: check", "          matchLabels:\n            app.kubernetes.io/component: login", "topologySpreadConstraints selects"},
		{"spread of all versions", "        matchLabelKeys:\n        - pod-template-hash\n", "", "matchLabelKeys"},

		{"no default policy", "  podSelector: {}\n", "  podSelector: {matchLabels: {a: b}}\n", "default"},
		{"egress not closed", "  podSelector: {}\n  policyTypes:\n  - Ingress\n  - Egress\n", "  podSelector: {}\n  policyTypes:\n  - Ingress\n", "default"},
		{"policy of other pods", "  podSelector:\n    matchLabels:\n      app.kubernetes.io/component: check", "  podSelector:\n    matchLabels:\n      app.kubernetes.io/component: none", "NetworkPolicy coatcheck selects"},
		{"policy of no port", "    - port: grpc\n", "    - port: http\n", "port http"},
		{"policy for every client", "  - from:\n    - namespaceSelector:\n        matchLabels:\n          coatcheck-checks: \"true\"\n    ports:", "  - ports:", "every client"},
		{"policy for every namespace", "    - namespaceSelector:\n        matchLabels:\n          coatcheck-checks: \"true\"\n", "    - namespaceSelector: {}\n", "every client"},
		{"policy for every port", "    - namespaceSelector:\n        matchLabels:\n          coatcheck-checks: \"true\"\n    ports:\n    - port: grpc\n      protocol: TCP\n", "    - namespaceSelector:\n        matchLabels:\n          coatcheck-checks: \"true\"\n", "every port"},
		{"one label for checks and login", "          coatcheck-login: \"true\"\n", "          coatcheck-checks: \"true\"\n", "a namespace that may check gets in to login"},
		{"login's label for checks", "          coatcheck-checks: \"true\"\n", "          coatcheck-login: \"true\"\n", "may not check"},
		{"checks for no label", "          coatcheck-checks: \"true\"\n", "          coatcheck-check: \"true\"\n", "may not check"},
		{"login for the cluster", "          coatcheck-login: \"true\"\n    ports:\n    - port: http\n", "          coatcheck-login: \"true\"\n    - ipBlock: {cidr: 10.0.0.0/8}\n    ports:\n    - port: http\n", "an address"},
		{"policy without Redis", "    - port: 6379\n", "    - port: 6380\n", "6379"},
		{"policy without names", "    - port: 53\n      protocol: UDP\n", "", "UDP 53"},

		{"login beside checks", `listen: "" # no checks here`, `listen: ":9001"`, "one process"},
		{"checks beside login", "login:\n      listen: \"\"\n", "login: {users_file: /etc/coatcheck/users/users.yaml}\n", "one process"},
		{"users for checks", "login:\n      listen: \"\"\n", "login: {listen: \"\", users_file: /etc/coatcheck/users/users.yaml}\n", "the check side needs no users"},
		{"login on another port", `listen: ":8080"`, `listen: ":8081"`, `login.listen is ":8081"`},
		{"no users", "      users_file: /etc/coatcheck/users/users.yaml\n", "", "neither checks nor login"},
		{"users elsewhere", "users_file: /etc/coatcheck/users/users.yaml", "users_file: /etc/coatcheck/users.yaml", "/etc/coatcheck/users.yaml"},
		{"no such users", "secretName: coatcheck-users", "secretName: coatcheck-user", "Secret coatcheck-user"},
		{"no trusted Envoy", "trusted_hops: 1", "trusted_hops: 0", "trusted_hops"},
		{"any proxy", "trusted_proxies: [10.244.0.0/16]", "trusted_proxies: [0.0.0.0/0]", "more than the pods"},
		{"every private network", "trusted_proxies: [10.244.0.0/16]", "trusted_proxies: [10.0.0.0/8]", "more than the pods"},
		{"no proxy", "      trusted_proxies: [10.244.0.0/16]\n", "", "trusted_proxies"},
		{"hashes for all CPUs", "      max_hashes: 2\n", "", "max_hashes"},
		{"hashes for more memory", "max_hashes: 2", "max_hashes: 6", "max_hashes"},
		{"login that may not create", "username: coatcheck-login", "username: coatcheck-check", "the login side is"},
		{"login that may look for keys", "username: coatcheck-login", "username: coatcheck-manage", "the login side is"},
		{"checks that may create", "username: coatcheck-check", "username: coatcheck-login", "the check side is"},
		{"one password for both", "secretName: coatcheck-login-redis", "secretName: coatcheck-redis", "the same Secret"},
		{"login URL of another path", "login_url: /.auth/login", "login_url: /login", "login_url"},
		{"two cookies", `listen: "" # no checks here`, "listen: \"\"\n    cookie: {name: __Host-other}", "cookie is"},
		{"two idle timeouts", `listen: "" # no checks here`, "listen: \"\"\n    session: {idle_timeout: 1h}", "session is"},
		{"two Redises", "addresses: [redis:6379]\n      username: coatcheck-login", "addresses: [other:6379]\n      username: coatcheck-login", "redis.addresses is"},
		{"gRPC probe of login", "          httpGet:\n            path: /readyz\n            port: admin", "          grpc: {port: 9001}", "the admin port"},
		{"login is alive while it drains only", "livenessProbe:\n          failureThreshold: 3\n          httpGet:\n            path: /healthz", "livenessProbe:\n          failureThreshold: 3\n          httpGet:\n            path: /readyz", "/readyz"},
		{"login without replicas", "  replicas: 2\n", "", "coatcheck-login: replicas"},
		{"login without a budget", "  maxUnavailable: 1\n  selector:\n    matchLabels:\n      app.kubernetes.io/component: login", "  maxUnavailable: 1\n  selector:\n    matchLabels:\n      app.kubernetes.io/component: check", "coatcheck-login: no PodDisruptionBudget"},
		{"login for the world", "    targetPort: http\n", "    targetPort: http\n  type: LoadBalancer\n", "LoadBalancer"},
		{"login without a cluster IP", "spec:\n  ports:\n  - appProtocol: http\n", "spec:\n  clusterIP: None\n  ports:\n  - appProtocol: http\n", "Service coatcheck-login: headless"},
		{"login as HTTP/2", "appProtocol: http\n", "appProtocol: kubernetes.io/h2c\n", "Service coatcheck-login: appProtocol"},
		{"login without a service", "kind: Service\nmetadata:\n  labels:\n    app.kubernetes.io/component: login\n    app.kubernetes.io/name: coatcheck\n  name: coatcheck-login", "kind: Service\nmetadata:\n  labels:\n    app.kubernetes.io/component: login\n    app.kubernetes.io/name: coatcheck\n  name: login", "no Service coatcheck-login"},
		{"login for every client", "  - from:\n    - namespaceSelector:\n        matchLabels:\n          coatcheck-login: \"true\"\n    ports:\n    - port: http\n", "  - ports:\n    - port: http\n", "NetworkPolicy coatcheck-login: ingress is open to every client"},
		{"login's policy of other pods", "  podSelector:\n    matchLabels:\n      app.kubernetes.io/component: login", "  podSelector:\n    matchLabels:\n      app.kubernetes.io/component: none", "about Deployment coatcheck-login"},
		{"login spread by other pods", "          matchLabels:\n            app.kubernetes.io/component: login", "          matchLabels:\n            app.kubernetes.io/component: check", "coatcheck-login: topologySpreadConstraints"},
		{"login as another account", "serviceAccountName: coatcheck-login", "serviceAccountName: login", "ServiceAccount login"},
	} {
		caught(t, base, m, func(y string) []string { return manifestProblems(y, builds[0].secrets) })
	}
	for _, m := range []mutation{
		{"no way to the dev Redis", "  - from:\n    - podSelector:\n        matchLabels:\n          app.kubernetes.io/name: coatcheck\n", "  - from:\n    - podSelector:\n        matchLabels:\n          app.kubernetes.io/name: coat\n", "lets coatcheck in"},
		{"Redis under another name", "kind: Service\nmetadata:\n  labels:\n    app.kubernetes.io/name: redis\n  name: redis", "kind: Service\nmetadata:\n  labels:\n    app.kubernetes.io/name: redis\n  name: valkey", "Service redis"},
		{"secret without the key", "data:\n  password: ", "data:\n  passwd: ", "/etc/coatcheck/redis/password"},
		{"secret without users", "  users.yaml: ", "  user.yaml: ", "/etc/coatcheck/users/users.yaml"},
	} {
		caught(t, dev, m, func(y string) []string { return manifestProblems(y, builds[1].secrets) })
	}
	for _, m := range []mutation{
		{"login's certificate elsewhere", "value: /etc/coatcheck/login-tls/tls.crt", "value: /etc/coatcheck/login-tls.crt", "/etc/coatcheck/login-tls.crt"},
		{"a certificate of login without its key", "        - name: COATCHECK_LOGIN_TLS_KEY_FILE\n          value: /etc/coatcheck/login-tls/tls.key\n", "", "login.tls"},
		{"login's Service in plain text", "appProtocol: https\n", "appProtocol: http\n", "Service coatcheck-login: appProtocol"},
		{"clients of login without names", "        - name: COATCHECK_LOGIN_TLS_CLIENT_NAMES\n          value: spiffe://cluster.local/ns/edge/sa/envoy\n", "", "login.tls.client_names"},
		{"certificate elsewhere", "value: /etc/coatcheck/tls/tls.crt", "value: /etc/coatcheck/tls.crt", "/etc/coatcheck/tls.crt"},
		{"clients without names", "value: spiffe://cluster.local/ns/edge/sa/envoy", `value: ""`, "tls.client_names"},
		{"password in the DSN", "postgres://coatcheck@", "postgres://coatcheck:x@", "holds a password"},
		{"no password of PostgreSQL", "        password_file: /etc/coatcheck/postgres/password\n", "", "no password_file"},
		{"password of PostgreSQL elsewhere", "/etc/coatcheck/postgres/password", "/etc/coatcheck/postgres/pass", "/etc/coatcheck/postgres/pass"},
		{"any PostgreSQL", "sslmode=verify-full", "sslmode=require", "does not verify"},
		{"authority elsewhere", "sslrootcert=/etc/coatcheck/postgres/", "sslrootcert=/etc/coatcheck/", "does not verify"},
		{"no way to PostgreSQL", "port: 5432", "port: 5433", "PostgreSQL"},
		{"two sources of users", "      postgres:\n", "      users_file: /etc/coatcheck/users/users.yaml\n      postgres:\n", "only one of them"},
		{"a database without a query", "        query: |\n", "        renew_query: |\n", "login.postgres.query"},
		{"one side without TLS to Redis", "        - name: COATCHECK_REDIS_TLS_ENABLED\n          value: \"true\"\n        - name: COATCHECK_REDIS_TLS_CA_FILE\n          value: /etc/coatcheck/redis-ca/ca.crt\n", "", "redis.tls is"},
	} {
		caught(t, example, m, func(y string) []string { return manifestProblems(y, builds[2].secrets) })
	}
}

// What a Deployment gets from components does not depend on what else it gets.
func TestComponentsAlone(t *testing.T) {
	base := builds[0].secrets
	for component, secrets := range map[string]map[string][]string{
		"mtls":          with(base, "coatcheck-tls", "tls.crt", "tls.key", "ca.crt"),
		"login-mtls":    with(base, "coatcheck-login-tls", "tls.crt", "tls.key", "ca.crt"),
		"redis-tls":     with(base, "coatcheck-redis-ca", "ca.crt"),
		"postgres":      with(with(base, "coatcheck-postgres", "password", "ca.crt"), "coatcheck-users"),
		"without-login": {"coatcheck-redis": {"password"}},
		"api":           with(with(base, "coatcheck-api-redis", "password"), "coatcheck-api-tls", "tls.crt", "tls.key", "ca.crt"),
		"istio":         base,
	} {
		t.Run(component, func(t *testing.T) {
			check, login := read(t, "k8s/base/coatcheck.yaml"), read(t, "k8s/base/login/coatcheck.yaml")
			switch component {
			case "without-login":
				check, login = strings.Replace(check, "login_url: /.auth/login", "login_url: https://login.example.com/", 1), ""
			case "postgres":
				login = strings.Replace(read(t, "k8s/overlays/example/login.yaml"), "redis.example.com:6380", "redis:6379", 1)
			}
			for _, p := range manifestProblems(build(t, overlay(t, component, check, login)), secrets) {
				t.Error(p)
			}
		})
	}
}

// Each check of the session API can fail, too.
func TestAPISpoiled(t *testing.T) {
	secrets := with(with(builds[0].secrets, "coatcheck-api-redis", "password"), "coatcheck-api-tls", "tls.crt", "tls.key", "ca.crt")
	built := build(t, overlay(t, "api", read(t, "k8s/base/coatcheck.yaml"), read(t, "k8s/base/login/coatcheck.yaml")))
	for _, m := range []mutation{
		{"the user of checks", "username: coatcheck-api", "username: coatcheck-check", "the api side is the Redis user coatcheck-check"},
		{"the password of login", "secretName: coatcheck-api-redis", "secretName: coatcheck-login-redis", "the same user"},
		{"in the process of checks", "listen: \"\" # no checks here\n\n    admin:\n      listen: \":9102\"\n\n    login:\n      listen: \"\"\n\n    api", "listen: \":9001\"\n\n    admin:\n      listen: \":9102\"\n\n    login:\n      listen: \"\"\n\n    api", "one process serves 2 of them"},
		{"no certificates of callers", "      client_ca_file: /etc/coatcheck/tls/ca.crt\n", "", "by no certificate"},
		{"callers elsewhere", "callers_file: /etc/coatcheck/config/callers.yaml", "callers_file: /etc/coatcheck/callers.yaml", "/etc/coatcheck/callers.yaml"},
		{"another port", "listen: \":9003\"", "listen: \":9004\"", "9004"},
		{"open to checks", "coatcheck-api: \"true\"", "coatcheck-checks: \"true\"", "may not call the session API"},
		{"sessions of another length", "    api:\n      listen", "    session: {idle_timeout: 5m}\n    api:\n      listen", "for the session API"},
	} {
		caught(t, built, m, func(y string) []string { return manifestProblems(y, secrets) })
	}
}

// Without the login side no part of it is left, and another service must be named
// who signs people in.
func TestWithoutLogin(t *testing.T) {
	built := build(t, overlay(t, "without-login", read(t, "k8s/base/coatcheck.yaml"), ""))
	if strings.Contains(built, "component: login") {
		t.Errorf("there is something left\n%s", built)
	}
	problems := manifestProblems(built, map[string][]string{"coatcheck-redis": {"password"}})
	if len(problems) != 1 || !strings.Contains(problems[0], "login_url is /.auth/login, and no part serves it") {
		t.Errorf("the problems are %q", problems)
	}
}

// with are the secrets with one more, or with one that has no keys instead.
func with(secrets map[string][]string, name string, keys ...string) map[string][]string {
	more := maps.Clone(secrets)
	if more[name] = keys; len(keys) == 0 {
		delete(more, name)
	}
	return more
}

// overlay makes one of base with a component and configurations of both sides.
func overlay(t *testing.T, component, check, login string) string {
	t.Helper()
	dir := filepath.Join("overlays", strings.ReplaceAll(t.Name(), "/", "-"))
	if err := os.MkdirAll(filepath.Join(tree, dir), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"check.yaml": check, "login.yaml": login,
		"kustomization.yaml": `apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
namespace: coatcheck
resources: [../../base]
components: [../../components/` + component + `]
configMapGenerator:
- {name: coatcheck, behavior: replace, files: [coatcheck.yaml=check.yaml]}
- {name: coatcheck-login, behavior: replace, files: [coatcheck.yaml=login.yaml]}
`,
	} {
		if err := os.WriteFile(filepath.Join(tree, dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// A new configuration is a new ConfigMap, so that pods roll and can go back.
func TestConfigurationRolls(t *testing.T) {
	base, example := build(t, "base"), build(t, "overlays/example")
	if a, b := hashOf(base), hashOf(example); a == b || a == "" || b == "" {
		t.Errorf("two configurations are ConfigMaps coatcheck-%s and coatcheck-%s", a, b)
	}
}

// hashOf is the hash of the authorization side's configuration.
func hashOf(built string) string {
	_, rest, _ := strings.Cut(built, "kind: ConfigMap\nmetadata:\n  name: coatcheck-")
	hash, _, _ := strings.Cut(rest, "\n")
	return hash
}

func build(t *testing.T, dir string) string {
	t.Helper()
	resources, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), filepath.Join(tree, dir))
	if err != nil {
		t.Fatal(err)
	}
	text, err := resources.AsYaml()
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
