package manifests

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"
	"sigs.k8s.io/yaml"
)

func TestCompose(t *testing.T) {
	good, front := read(t, "docker-compose.yml"), read(t, "envoy/envoy.yaml")
	for _, p := range composeProblems(good, front) {
		t.Error(p)
	}
	for _, m := range []mutation{
		{"unknown key", "restart: unless-stopped", "restarts: unless-stopped", "restarts"},
		{"bad value", "pids_limit: 128", "pids_limit: many", "pids_limit"},
		{"capabilities", "cap_drop: [ALL]", "cap_drop: [NET_RAW]", "capabilities"},
		{"capability added", "cap_drop: [ALL]", "cap_drop: [ALL]\n  cap_add: [NET_RAW]", "capabilities"},
		{"privileged", "cap_drop: [ALL]", "cap_drop: [ALL]\n  privileged: true", "privileged"},
		{"new privileges", "no-new-privileges:true", "no-new-privileges:false", "no-new-privileges"},
		{"writable", "read_only: true\n  pids", "read_only: false\n  pids", "read_only"},
		{"many processes", "  pids_limit: 128\n", "", "pids_limit"},
		{"no restart", "restart: unless-stopped", `restart: "no"`, "restart"},
		{"root", `user: "999:999"`, `user: "0:0"`, "root"},
		{"the image's user", "    user: \"101:101\"\n", "", "root"},
		{"no memory limit", "    mem_limit: 512m\n", "", "mem_limit"},
		{"open port", "127.0.0.1:8000:8000", "8000:8000", "127.0.0.1"},
		{"port of nothing", "127.0.0.1:8000:8000", "127.0.0.1:8000:8001", "8001"},
		{"the host's network", "network_mode: service:envoy\n    environment", "network_mode: host\n    environment", "network"},
		{"an open Redis", "    internal: true", "    internal: false", "internal"},
		{"Redis beside the browser", "networks: [redis]\n    tmpfs", "networks: [redis, front]\n    tmpfs", "networks"},
		{"an evicting Redis", "noeviction", "allkeys-lru", "noeviction"},
		{"a Redis without users", "--aclfile /run/secrets/users.acl", "--protected-mode no", "aclfile"},
		{"latest", "redis:7.4", "redis", "version"},
		{"another image", "pull_policy: build # no registry has it", "pull_policy: always", "pull_policy"},
		{"no such stage", "target: upstream", "target: up", "stage"},
		{"no health check", "    healthcheck:\n      test: [\"CMD-SHELL\"", "    healthcheck:\n      disable: true\n      test: [\"CMD-SHELL\"", "health check"},
		{"password in a variable", "COATCHECK_LISTEN: 127.0.0.1:9001", "COATCHECK_REDIS_PASSWORD: x", "secret"},
		{"unknown variable", "COATCHECK_LISTEN:", "COATCHECK_LISTN:", "COATCHECK_LISTN"},
		{"bad variable", "COATCHECK_LOG_DECISIONS: all", "COATCHECK_LOG_DECISIONS: some", "log.decisions"},
		{"another port", "COATCHECK_LISTEN: 127.0.0.1:9001", "COATCHECK_LISTEN: 127.0.0.1:9002", "envoy.yaml"},
		{"listens for all", "COATCHECK_LISTEN: 127.0.0.1:9001", "COATCHECK_LISTEN: :9001", "envoy.yaml"},
		{"no such secret file", "file: .build/passwords/check", "file: .build/check", ".build/check"},
		{"secret not given", "    secrets: [check]\n", "", "/run/secrets/check"},
		{"another side's secret", "COATCHECK_REDIS_USERNAME: coatcheck-check", "COATCHECK_REDIS_USERNAME: coatcheck-login", "coatcheck-login"},
		{"no such Redis", "COATCHECK_REDIS_ADDRESSES: redis:6379\n      COATCHECK_REDIS_USERNAME: coatcheck-check", "COATCHECK_REDIS_ADDRESSES: valkey:6379\n      COATCHECK_REDIS_USERNAME: coatcheck-check", "valkey"},
		{"killed too soon", "stop_grace_period: 20s", "stop_grace_period: 15s", "stop_grace_period"},
		{"before Redis", "      redis: {condition: service_healthy}\n\n  upstream", "      redis: {condition: service_started}\n\n  upstream", "service_healthy"},
		{"login beside checks", "command: [serve, --listen=]", "command: [serve]", "one process"},
		{"login beside checks by an empty variable", "command: [serve, --listen=]\n    user: \"65532:65532\"\n    network_mode: service:envoy\n    environment:\n", "user: \"65532:65532\"\n    network_mode: service:envoy\n    environment:\n      COATCHECK_LISTEN: \"\"\n", "one process"},
		{"another command", "command: [serve, --listen=]", "command: [demo, --listen=]", "demo"},
		{"login elsewhere", "COATCHECK_LOGIN_LISTEN: 127.0.0.1:8080", "COATCHECK_LOGIN_LISTEN: 127.0.0.1:8088", "envoy.yaml"},
		{"login for all", "COATCHECK_LOGIN_LISTEN: 127.0.0.1:8080", "COATCHECK_LOGIN_LISTEN: :8080", "envoy.yaml"},
		{"admin port taken", "COATCHECK_ADMIN_LISTEN: 127.0.0.1:9103", "COATCHECK_ADMIN_LISTEN: 127.0.0.1:9102", "both have admin.listen"},
		{"admin for all", "COATCHECK_ADMIN_LISTEN: 127.0.0.1:9103", "COATCHECK_ADMIN_LISTEN: :9103", "Envoy's networks"},
		{"health of another port", "command: [serve, --listen=]", "command: [serve, --listen=, --admin-listen=127.0.0.1:9104]", "health check asks"},
		{"a trusted client", `COATCHECK_LOGIN_TRUSTED_HOPS: "1"`, `COATCHECK_LOGIN_TRUSTED_HOPS: "2"`, "trusted_hops"},
		{"no trusted Envoy", `      COATCHECK_LOGIN_TRUSTED_HOPS: "1"` + "\n", "", "trusted_hops"},
		{"a trusted network", "COATCHECK_LOGIN_TRUSTED_PROXIES: 127.0.0.1", "COATCHECK_LOGIN_TRUSTED_PROXIES: 0.0.0.0/0", "trusted_proxies"},
		{"no trusted address", "      COATCHECK_LOGIN_TRUSTED_PROXIES: 127.0.0.1\n", "", "trusted_proxies"},
		{"another namespace's address", "COATCHECK_LOGIN_TRUSTED_PROXIES: 127.0.0.1", "COATCHECK_LOGIN_TRUSTED_PROXIES: 172.16.0.2", "Envoy reaches login"},
		{"hashes for all CPUs", `      COATCHECK_LOGIN_MAX_HASHES: "2"` + "\n", "", "max_hashes"},
		{"hashes for more memory", `COATCHECK_LOGIN_MAX_HASHES: "2"`, `COATCHECK_LOGIN_MAX_HASHES: "6"`, "max_hashes"},
		{"no users", "      COATCHECK_LOGIN_USERS_FILE: /run/secrets/users.yaml\n", "", "neither checks nor login"},
		{"users elsewhere", "COATCHECK_LOGIN_USERS_FILE: /run/secrets/users.yaml", "COATCHECK_LOGIN_USERS_FILE: /users.yaml", "it has no /users.yaml"},
		{"users for checks", "    secrets: [check]\n", "    secrets: [check, users.yaml]\n", "coatcheck: it has"},
		{"login URL of another path", "COATCHECK_LOGIN_URL: /.auth/login", "COATCHECK_LOGIN_URL: /login", "login_url"},
		{"two cookies", "COATCHECK_LOGIN_URL: /.auth/login", "COATCHECK_LOGIN_URL: /.auth/login\n      COATCHECK_COOKIE_NAME: __Host-other", "cookie is"},
		{"two databases", "COATCHECK_LOGIN_URL: /.auth/login", "COATCHECK_LOGIN_URL: /.auth/login\n      COATCHECK_REDIS_DATABASE: 1", "redis.database"},
		{"login as the check user", "COATCHECK_REDIS_USERNAME: coatcheck-login", "COATCHECK_REDIS_USERNAME: coatcheck-check", "coatcheck-check"},
		{"login as the manager", "COATCHECK_REDIS_USERNAME: coatcheck-login\n      COATCHECK_REDIS_PASSWORD_FILE: /run/secrets/login\n", "COATCHECK_REDIS_USERNAME: coatcheck-manage\n      COATCHECK_REDIS_PASSWORD_FILE: /run/secrets/manage\n", "coatcheck-manage"},
		{"the manager's password for login", "secrets: [login, users.yaml]", "secrets: [login, manage, users.yaml]", "login: it has"},
		{"login as root", "    user: \"65532:65532\"\n    network_mode", "    network_mode", "login: it runs as root"},
		{"login's image from elsewhere", "pull_policy: never\n    # No", "pull_policy: always\n    # No", "another service builds"},
		{"another network namespace", "network_mode: service:envoy\n    mem_limit: 64m", "networks: [front]\n    mem_limit: 64m", "upstream"},
		{"made folder", "create_host_path: false", "create_host_path: true", "create_host_path"},
		{"writable mount", "target: /etc/envoy/envoy.yaml, read_only: true", "target: /etc/envoy/envoy.yaml", "mounts"},
		{"the engine's socket", "source: envoy/envoy.yaml", "source: /var/run/docker.sock", "mounts"},
		{"no mount", "create_host_path: false}}\n", "create_host_path: false}}\n    devices: [/dev/kvm]\n", "devices"},
		{"health of another port of Envoy", "/dev/tcp/127.0.0.1/9901", "/dev/tcp/127.0.0.1/9902", "admin"},
	} {
		caught(t, good, m, func(y string) []string { return composeProblems(y, front) })
	}
	for _, m := range []mutation{
		{"checks elsewhere", "port_value: 9001", "port_value: 9191", "coatcheck"},
		{"login elsewhere", "port_value: 8080", "port_value: 8088", "login"},
		{"upstream elsewhere", "port_value: 8081", "port_value: 8082", "upstream"},
		{"admin elsewhere", "port_value: 9901", "port_value: 9902", "admin"},
	} {
		caught(t, front, m, func(y string) []string { return composeProblems(good, y) })
	}
}

type address struct {
	SocketAddress struct {
		Address string
		Port    int `json:"port_value"`
	} `json:"socket_address"`
}

func (a address) String() string {
	return a.SocketAddress.Address + ":" + strconv.Itoa(a.SocketAddress.Port)
}

// bootstrap is what the compose file relies on in envoy.yaml.
type bootstrap struct {
	Admin  struct{ Address address }
	Static struct {
		Listeners []struct{ Address address }
		Clusters  []struct {
			Name string
			Load struct {
				Endpoints []struct {
					LB []struct{ Endpoint struct{ Address address } } `json:"lb_endpoints"`
				}
			} `json:"load_assignment"`
		}
	} `json:"static_resources"`
}

func (b bootstrap) cluster(name string) string {
	for _, c := range b.Static.Clusters {
		if c.Name == name && len(c.Load.Endpoints) == 1 && len(c.Load.Endpoints[0].LB) == 1 {
			return c.Load.Endpoints[0].LB[0].Endpoint.Address.String()
		}
	}
	return ""
}

type composition struct {
	*types.Project
	envoy    bootstrap
	problems []string
}

func (c *composition) problem(format string, arguments ...any) {
	c.problems = append(c.problems, fmt.Sprintf(format, arguments...))
}

// composeProblems says what is wrong with a compose file beside an envoy.yaml.
func composeProblems(text, front string) []string {
	c := new(composition)
	if err := yaml.Unmarshal([]byte(front), &c.envoy); err != nil {
		return []string{err.Error()}
	}
	directory, err := filepath.Abs(root)
	if err != nil {
		return []string{err.Error()}
	}
	// Unknown keys are refused by the specification's schema.
	c.Project, err = loader.LoadWithContext(context.Background(), types.ConfigDetails{
		WorkingDir:  directory,
		ConfigFiles: []types.ConfigFile{{Filename: filepath.Join(directory, "docker-compose.yml"), Content: []byte(text)}},
	}, loader.WithProfiles([]string{"*"}), func(o *loader.Options) { o.SetProjectName("coatcheck", false) })
	if err != nil {
		return []string{err.Error()}
	}
	for name, want := range map[string][]string{
		"redis": {"redis"}, "envoy": {"front", "redis"}, "coatcheck": nil, "login": nil, "upstream": nil, "session": {"redis"},
	} {
		s, ok := c.Services[name]
		if !ok {
			c.problem("there is no service %s", name)
			continue
		}
		var networks []string
		for n := range s.Networks {
			networks = append(networks, n)
		}
		if slices.Sort(networks); !slices.Equal(networks, want) {
			c.problem("%s: its networks are %q", name, networks)
		}
		if want == nil && s.NetworkMode != "service:envoy" {
			c.problem("%s: it does not share the network namespace of Envoy, so that envoy.yaml does not find it", name)
		}
	}
	for name, s := range c.Services {
		c.checkLeast(name, s)
		c.checkRuns(name, s)
	}
	if len(c.problems) > 0 {
		return c.problems
	}
	c.checkSecrets()
	check, login := c.checkCoatcheck("coatcheck", "check"), c.checkCoatcheck("login", "login")
	c.checkCoatcheck("session", "manage")
	if len(c.problems) == 0 {
		c.checkSides(check, login)
		c.checkWiring()
	}
	return c.problems
}

// checkLeast holds a service to least privilege.
func (c *composition) checkLeast(name string, s types.ServiceConfig) {
	if s.Privileged {
		c.problem("%s: it is privileged", name)
	}
	if !slices.Equal(s.CapDrop, []string{"ALL"}) || len(s.CapAdd) > 0 {
		c.problem("%s: it keeps capabilities", name)
	}
	if !slices.Equal(s.SecurityOpt, []string{"no-new-privileges:true"}) {
		c.problem("%s: security_opt is not no-new-privileges:true alone", name)
	}
	if !s.ReadOnly {
		c.problem("%s: it is not read_only", name)
	}
	if s.MemLimit == 0 {
		c.problem("%s: it has no mem_limit", name)
	}
	if s.PidsLimit == 0 {
		c.problem("%s: it has no pids_limit", name)
	}
	// Images that are built here have a user, which TestDockerfile sees to.
	if user, _, _ := strings.Cut(s.User, ":"); s.Build == nil && (user == "" || user == "0" || user == "root") {
		c.problem("%s: it runs as root, or as whom the image says", name)
	}
	if s.NetworkMode == "host" || s.Pid != "" || s.Ipc != "" || s.Uts != "" || s.UserNSMode != "" || s.Cgroup != "" || s.CgroupParent != "" {
		c.problem("%s: it shares a namespace with the host", name)
	}
	if len(s.Devices)+len(s.DeviceCgroupRules)+len(s.VolumesFrom)+len(s.GroupAdd) > 0 {
		c.problem("%s: it has devices, groups or others' volumes", name)
	}
	for _, v := range s.Volumes {
		if v.Type != types.VolumeTypeBind || !v.ReadOnly || name != "envoy" || v.Source != filepath.Join(c.WorkingDir, "envoy/envoy.yaml") {
			c.problem("%s: it mounts %s", name, v.Source)
		}
		if v.Bind == nil || bool(v.Bind.CreateHostPath) {
			c.problem("%s: without the file, create_host_path would make a folder", name)
		}
	}
	for _, p := range s.Ports {
		if p.HostIP != "127.0.0.1" {
			c.problem("%s: the port %s is published beyond 127.0.0.1", name, p.Published)
		}
	}
	for variable := range s.Environment {
		if secretName(variable) || !strings.HasPrefix(variable, "COATCHECK_") {
			c.problem("%s: the variable %s is a secret or not Coatcheck's", name, variable)
		}
	}
}

// checkRuns looks at what a service is and how it is kept running.
func (c *composition) checkRuns(name string, s types.ServiceConfig) {
	if !pinned(s.Image) {
		c.problem("%s: the image %s has no version", name, s.Image)
	}
	if s.Build != nil {
		if s.PullPolicy != types.PullPolicyBuild {
			c.problem("%s: pull_policy is %s, and no registry has the image", name, s.PullPolicy)
		}
		if s.Build.Target != name {
			c.problem("%s: it is made by the stage %s", name, s.Build.Target)
		}
	}
	if s.Build == nil && c.built(s.Image) && s.PullPolicy != types.PullPolicyNever {
		c.problem("%s: pull_policy is %s, and another service builds the image", name, s.PullPolicy)
	}
	if len(s.Profiles) > 0 { // not a service
		return
	}
	if s.Restart != types.RestartPolicyUnlessStopped {
		c.problem("%s: restart is %q", name, s.Restart)
	}
	// Images that are built here bring one.
	if h := s.HealthCheck; h != nil && h.Disable || h == nil && !c.built(s.Image) {
		c.problem("%s: it has no health check", name)
	}
}

// built says if a service of the file builds the image.
func (c *composition) built(image string) bool {
	for _, s := range c.Services {
		if s.Build != nil && s.Image == image {
			return true
		}
	}
	return false
}

// checkSecrets compares the secrets with what make image makes.
func (c *composition) checkSecrets() {
	made := map[string]string{"users.acl": "users.acl", "check": "check", "login": "login", "manage": "manage", "users.yaml": "users.yaml"}
	for name, s := range c.Secrets {
		if s.File != filepath.Join(c.WorkingDir, ".build/passwords", made[name]) || made[name] == "" {
			c.problem("the secret %s is the file %s, which no script makes", name, strings.TrimPrefix(s.File, c.WorkingDir+"/"))
		}
	}
	for name, s := range c.Services {
		for _, secret := range s.Secrets {
			if secret.Mode != nil || secret.UID != "" || secret.GID != "" {
				c.problem("%s: a file keeps its mode and owner", name)
			}
		}
	}
}

// checkCoatcheck hands a service's variables and flags to the real program.
func (c *composition) checkCoatcheck(name, side string) settings {
	service := c.Services[name]
	var variables []string
	for variable, value := range service.Environment {
		if value != nil {
			variables = append(variables, variable+"="+*value)
		}
	}
	var flags []string
	if len(service.Command) > 0 {
		if service.Command[0] != "serve" {
			c.problem("%s: its command is %q", name, service.Command)
		}
		flags = service.Command[1:]
	}
	s, err := effective("", variables, flags...)
	if err != nil {
		c.problem("%s: %v", name, err)
		return s
	}
	if s.Redis.Username != "coatcheck-"+side || !slices.Equal(s.Redis.Addresses, []string{"redis:6379"}) {
		c.problem("%s: it is the Redis user %s at %q", name, s.Redis.Username, s.Redis.Addresses)
	}
	var given []string
	for _, secret := range service.Secrets {
		given = append(given, "/run/secrets/"+secret.Source)
	}
	for _, f := range s.files() {
		if !slices.Contains(given, f) {
			c.problem("%s: it has no %s", name, f)
		}
	}
	if s.Redis.Password != "/run/secrets/"+side || len(given) != len(s.files()) {
		c.problem("%s: it has %q, and of its user's password %q", name, given, s.Redis.Password)
	}
	if d := service.DependsOn["redis"]; d.Condition != types.ServiceConditionHealthy {
		c.problem("%s: it does not wait for redis to be service_healthy", name)
	}
	if len(service.Profiles) > 0 { // not a service
		return s
	}
	if host, _, _ := strings.Cut(s.Admin.Listen, ":"); host != "127.0.0.1" {
		c.problem("%s: admin.listen is %s, and Envoy's networks reach it", name, s.Admin.Listen)
	}
	if g := service.StopGracePeriod; g == nil || time.Duration(*g) <= s.Shutdown.Drain.Duration+s.Shutdown.Grace.Duration {
		c.problem("%s: stop_grace_period is not more than shutdown.drain and shutdown.grace", name)
	}
	// The image's health check knows no flags.
	if asked, err := effective("", variables); err != nil || asked.Admin.Listen != s.Admin.Listen {
		c.problem("%s: its health check asks %s, and it answers on %s (%v)", name, asked.Admin.Listen, s.Admin.Listen, err)
	}
	for _, p := range sideProblems(s, int64(service.MemLimit)) {
		c.problem("%s: %s", name, p)
	}
	return s
}

// checkSides compares the two with envoy.yaml and with each other.
func (c *composition) checkSides(check, login settings) {
	if check.Listen != c.envoy.cluster("coatcheck") {
		c.problem("coatcheck listens on %s, and envoy.yaml expects it on %s", check.Listen, c.envoy.cluster("coatcheck"))
	}
	if login.Login.Listen != c.envoy.cluster("login") {
		c.problem("login listens on %s, and envoy.yaml expects it on %s", login.Login.Listen, c.envoy.cluster("login"))
	}
	// One network namespace: Envoy's address is the one that it connects to.
	if host, _, _ := strings.Cut(login.Login.Listen, ":"); !slices.Equal(login.Login.Proxies, []string{host}) {
		c.problem("login.trusted_proxies is %q, and Envoy reaches login from %s", login.Login.Proxies, host)
	}
	if check.Admin.Listen == login.Admin.Listen {
		c.problem("coatcheck and login have one network, and both have admin.listen %s", login.Admin.Listen)
	}
	for _, p := range sharedProblems(check, login) {
		c.problem("%s", p)
	}
}

// checkWiring compares the services with envoy.yaml and with one another.
func (c *composition) checkWiring() {
	if !c.Networks["redis"].Internal {
		c.problem("the network redis is not internal")
	}
	command := strings.Join(c.Services["redis"].Command, " ")
	for _, want := range []string{"--aclfile /run/secrets/users.acl", "--maxmemory-policy noeviction"} {
		if !strings.Contains(command, want) {
			c.problem("redis runs without %s", want)
		}
	}
	if upstream := c.envoy.cluster("upstream"); upstream != "127.0.0.1:8081" { // envoy/upstream
		c.problem("the upstream listens on 127.0.0.1:8081, and envoy.yaml expects it on %s", upstream)
	}
	envoy := c.Services["envoy"]
	if len(c.envoy.Static.Listeners) != 1 || len(envoy.Ports) != 1 || int(envoy.Ports[0].Target) != c.envoy.Static.Listeners[0].Address.SocketAddress.Port {
		c.problem("envoy's port %v is not one of %v", envoy.Ports, c.envoy.Static.Listeners)
	}
	admin := strings.ReplaceAll(c.envoy.Admin.Address.String(), ":", "/")
	if test := strings.Join(envoy.HealthCheck.Test, " "); !strings.Contains(test, "/dev/tcp/"+admin+"\n") {
		c.problem("envoy's health check does not ask the admin address %s", admin)
	}
	for _, name := range []string{"coatcheck", "login", "upstream"} {
		if d := c.Services[name].DependsOn["envoy"]; !d.Restart {
			c.problem("%s: it is not restarted with envoy, whose network it has", name)
		}
	}
}
