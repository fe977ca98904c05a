package config

import (
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"github.com/coatcheck/coatcheck/cmd/internal/usersource"
	"github.com/coatcheck/coatcheck/extauthz"
	"github.com/coatcheck/coatcheck/internal/secretfile"
	"github.com/coatcheck/coatcheck/internal/strictyaml"
)

// secret is a password that must not be seen anywhere.
const secret = "hunter2-canary"

// redisFlag is the one setting that has no default.
const redisFlag = "--redis-addresses=127.0.0.1:6379"

// loadText loads from a file's text, NAME=value variables and flags.
func loadText(t testing.TB, file string, environ, args []string) (*Config, error) {
	t.Helper()
	flags := pflag.NewFlagSet("test", pflag.ContinueOnError)
	Flags(flags)
	if err := flags.Parse(args); err != nil {
		t.Fatal(err)
	}
	return load([]byte(file), flags, environ)
}

// mustLoad is loadText of a file to which Redis's address is added.
func mustLoad(t testing.TB, file string) *Config {
	t.Helper()
	c, err := loadText(t, file, nil, []string{redisFlag})
	if err != nil {
		t.Fatalf("%s\n%v", file, err)
	}
	return c
}

// faults are the lines of the error that loading must end with.
func faults(t *testing.T, file string, environ, args []string) []string {
	t.Helper()
	_, err := loadText(t, file, environ, args)
	if err == nil {
		t.Fatalf("loaded %q %q %q", file, environ, args)
	}
	if strings.Contains(strings.ToLower(err.Error()), secret) {
		t.Errorf("the error holds the secret: %v", err)
	}
	return strings.Split(err.Error(), "\n")
}

// named fails unless one of the lines begins with the names, those of keys with
// variable and flag, and says why.
func named(t *testing.T, lines []string, names, why string) {
	t.Helper()
	head := ""
	for i, name := range strings.Split(names, ", ") {
		if i > 0 {
			head += ", "
		}
		head += name
		if name == "redis.password" { // the one secret
			head += " (COATCHECK_REDIS_PASSWORD)"
		} else if slices.ContainsFunc(new(Config).keys(), func(k key) bool { return k.name == name }) {
			dashed := strings.NewReplacer(".", "-", "_", "-").Replace(name)
			head += " (COATCHECK_" + strings.ToUpper(strings.ReplaceAll(dashed, "-", "_")) + ", --" + dashed + ")"
		}
	}
	for _, line := range lines {
		if (strings.HasPrefix(line, head+": ") || strings.HasPrefix(line, "it ") && strings.HasPrefix(line, head)) && strings.Contains(line, why) {
			return
		}
	}
	t.Errorf("no line begins with %q and says %q:\n%s", head+": ", why, strings.Join(lines, "\n"))
}

func TestDefaults(t *testing.T) {
	want := &Config{
		Listen: ":9001", ListenMode: "0660",
		MaxMessageBytes: 256 << 10, MaxHeaderBytes: 64 << 10, MaxStreams: 1024, MaxConnections: 1024,
		HandshakeTimeout: 5 * time.Second, MaxConnectionAge: 5 * time.Minute,
		Timeout: 150 * time.Millisecond, MaxInFlight: 1024,
		Paths: "safe", CookieName: "__Host-session", HeaderPrefix: "x-user-",
		IdleTimeout: 30 * time.Minute, AbsoluteTimeout: 12 * time.Hour, MaxPerUser: 50,
		SessionFormat: "coatcheck", formats: map[string]formatSettings{"express": &expressSettings{Prefix: "sess:", TTL: 24 * time.Hour, NoTTL: "refuse"}},
		RedisAddresses: []string{"127.0.0.1:6379"}, RedisWaitTimeout: 50 * time.Millisecond, RedisBreakerFailures: 10,
		NearCacheLease: time.Second, NearCacheMaxEntries: 100_000, NearCacheMaxBytes: 64 << 20,
		LoginListen: ":8080", LoginHSTS: 17520 * time.Hour, Users: usersource.Values{}, LoginBasePath: "/.auth/", LoginName: "Coatcheck", LoginAccent: "#1f5c4d", LoginLanguage: "en",
		APITimeout: 500 * time.Millisecond, APIMaxInFlight: 1024, APIMaxMessageBytes: 1 << 20, APIMaxHeaderBytes: 16 << 10, APIMaxStreams: 256, APIMaxConnections: 1024, APIMaxWatched: 200_000,
		AdminListen: "127.0.0.1:9102",
		LogLevel:    "info", LogFormat: "json", LogDecisions: "denied",
		LogDecisionLevel: "info", LogSample: 1, LogFaultsPerSecond: 10,
		Drain: 5 * time.Second, ShutdownGrace: 10 * time.Second,
	}
	for name, file := range map[string]string{
		"empty": "", "comment": "# nothing\n", "null": "null", "no keys": "{}", "marked": "---\n", "ended": "{}\n...\n",
	} {
		if got := mustLoad(t, file); !reflect.DeepEqual(got, want) {
			t.Errorf("%s:\n%+v, want\n%+v", name, got, want)
		}
	}
}

// TestKeys: a key is defined once, and everything else follows from that.
func TestKeys(t *testing.T) {
	flags := pflag.NewFlagSet("test", pflag.ContinueOnError)
	Flags(flags)
	seen := make(map[string]bool)
	for _, k := range new(Config).keys() {
		if k.usage == "" {
			t.Errorf("%s is not documented", k.name)
		}
		if (k.value.kind == isFile) != strings.HasSuffix(k.name, "_file") {
			t.Errorf("%s: a file has a name that says so", k.name)
		}
		for _, choice := range k.value.choices {
			if err := k.value.set(choice); err != nil {
				t.Errorf("%s does not take %s: %v", k.name, choice, err)
			}
		}
		if err := k.value.set(k.value.fallback); err != nil {
			t.Errorf("%s does not take its default: %v", k.name, err)
		}
		if has := flags.Lookup(k.flag()) != nil; has == k.secret {
			t.Errorf("%s: has a flag: %v, is secret: %v", k.name, has, k.secret)
		}
		if kubernetes.MatchString(k.variable() + "=tcp://10.0.0.1:1") {
			t.Errorf("%s could be a variable of Kubernetes", k.variable())
		}
		for _, name := range []string{k.variable(), k.flag()} {
			if seen[name] {
				t.Errorf("%s is there twice", name)
			}
			seen[name] = true
		}
	}
	fields := leaves(reflect.TypeFor[Config]()) - 2 + len(new(Config).sourceKeys()) // Users has those
	for _, f := range formats {
		fields += leaves(reflect.TypeOf(f.settings()).Elem())
	}
	if fields != len(new(Config).keys()) {
		t.Errorf("%d fields, %d keys", fields, len(new(Config).keys()))
	}
}

// needsOf are the variables without which a key of a source of users is a mistake.
func needsOf(source usersource.Source, k usersource.Key) (variables []string) {
	for i, other := range source.Keys {
		if other.Name != k.Name && (i == 0 || other.Required) {
			variables = append(variables, key{name: other.Name}.variable()+"=x")
		}
	}
	return variables
}

// load is Load of the text of a file; flags may be nil.
func load(file []byte, flags *pflag.FlagSet, environ []string) (*Config, error) {
	return parseAll(asksRedis, file, flags, environ)
}

// leaves counts the fields of a struct, and in their place those of a field that
// is one.
func leaves(t reflect.Type) int {
	n := 0
	for i := range t.NumField() {
		if field := t.Field(i).Type; field.Kind() == reflect.Struct {
			n += leaves(field)
		} else {
			n++
		}
	}
	return n
}

// TestPrecedence sets every key in each source, and then in all of them.
func TestPrecedence(t *testing.T) {
	values := map[string][3]string{ // in the file, the variable, the flag
		"listen":                        {":1", ":2", "unix:///tmp/3"},
		"listen_mode":                   {"0600", "660", "0777"},
		"timeout":                       {"1ms", "2s", "1m0s"},
		"login_url":                     {"/1", "/2", "https://login.example/?a=3"},
		"policy_file":                   {"/a", "/b", "/c"},
		"paths":                         {"parameters", "strict", "safe"},
		"route.ignore_keys":             {"a", "a,b", "c"},
		"cookie.name":                   {"a", "b", "c"},
		"cookie.keep":                   {"true", "false", "true"},
		"headers.prefix":                {"x-a-", "x-b-", "x-c-"},
		"headers.fields":                {"a", "a,b", "c"},
		"session.idle_timeout":          {"1m0s", "2m0s", "3m0s"},
		"session.absolute_timeout":      {"1h0m0s", "2h0m0s", "3h0m0s"},
		"session.idle_step":             {"1s", "2s", "3s"},
		"session.max_per_user":          {"1", "0", "10000"},
		"session.count_every":           {"10s", "11s", "12s"},
		"session.format":                {"express", "express", "express"}, // other keys need it
		"session.express.secret_file":   {"/a", "/b", "/c"},
		"session.express.prefix":        {"a:", "b:", "c:"},
		"session.express.user_id_path":  {"a", "a.b", "c"},
		"session.express.username_path": {"a", "a.b", "c"},
		"session.express.roles_path":    {"a", "a.b", "c"},
		"session.express.ttl":           {"1m0s", "2m0s", "3m0s"},
		"session.express.step":          {"1s", "2s", "3s"},
		"session.express.disable_touch": {"true", "false", "true"},
		"session.express.no_ttl":        {"accept", "refuse", "accept"},
		"redis.addresses":               {"a:1", "b:2,c:3", "unix:///run/redis"},
		"redis.master_name":             {"a", "b", "c"},
		"redis.username":                {"a", "b", "c"},
		"redis.password":                {"a", "b", ""},
		"redis.password_file":           {"/a", "/b", "/c"},
		"redis.database":                {"1", "2", "3"},
		"redis.emptied_hold":            {"1s", "2s", "3s"},
		"redis.wait_replicas":           {"1", "2", "3"},
		"redis.wait_timeout":            {"1ms", "2ms", "3ms"},
		"log.level":                     {"debug", "warn", "error"},
		"log.format":                    {"text", "json", "text"},
		"log.decisions":                 {"all", "faults", "denied"},
		"tls.cert_file":                 {"/a", "/b", "/c"},
		"tls.key_file":                  {"/a", "/b", "/c"},
		"tls.client_ca_file":            {"/a", "/b", "/c"},
		"tls.client_names":              {"a", "a,b", "spiffe://c"},
		"grpc.max_message_bytes":        {"65536", "65537", "65538"},
		"grpc.max_header_bytes":         {"4096", "4097", "4098"},
		"grpc.max_streams":              {"1", "2", "3"},
		"grpc.max_connections":          {"1", "2", "3"},
		"grpc.handshake_timeout":        {"1s", "2s", "3s"},
		"grpc.max_connection_age":       {"1s", "2s", "3s"},
		"max_in_flight":                 {"1", "2", "3"},
		"redis.cluster":                 {"true", "false", "true"},
		"redis.sentinel_username":       {"a", "b", "c"},
		"redis.sentinel_password_file":  {"/a", "/b", "/c"},
		"redis.pool_size":               {"1", "2", "3"},
		"redis.tls.enabled":             {"true", "false", "true"},
		"redis.tls.ca_file":             {"/a", "/b", "/c"},
		"redis.tls.cert_file":           {"/a", "/b", "/c"},
		"redis.tls.key_file":            {"/a", "/b", "/c"},
		"redis.tls.server_name":         {"a", "b", "c"},
		"redis.breaker_failures":        {"1", "2", "3"},
		"near_cache.enabled":            {"true", "false", "true"},
		"near_cache.lease":              {"500ms", "2s", "3s"},
		"near_cache.max_entries":        {"20000", "30000", "40000"},
		"near_cache.max_bytes":          {"20000000", "30000000", "40000000"},
		"admin.listen":                  {":1", ":2", "localhost:3"},
		"admin.pprof_listen":            {"127.0.0.1:1", "[::1]:2", "localhost:3"},
		"log.decision_level":            {"debug", "info", "debug"},
		"log.sample":                    {"1", "2", "3"},
		"log.faults_per_second":         {"1", "2", "3"},
		"shutdown.drain":                {"1s", "2s", "0s"},
		"shutdown.grace":                {"1s", "2s", "0s"},
		"cookie.domain":                 {"a.example", "b.example", "c.example"},
		"cookie.insecure":               {"true", "false", "true"},
		"bearer":                        {"true", "false", "true"},
		"login.listen":                  {":1", ":2", "localhost:3"},
		"login.base_path":               {"/a/", "/b/", "/c/"},
		"login.return_origins":          {"https://a.example", "https://a.example,https://b.example", "https://c.example"},
		"login.trusted_hops":            {"1", "2", "3"},
		"login.trusted_proxies":         {"10.0.0.0/8", "::1,10.0.0.0/8", "127.0.0.1"},
		"login.tls.cert_file":           {"/a", "/b", "/c"},
		"login.tls.key_file":            {"/a", "/b", "/c"},
		"login.tls.client_ca_file":      {"/a", "/b", "/c"},
		"login.tls.client_names":        {"a", "a,b", "spiffe://c"},
		"login.hsts_max_age":            {"1h0m0s", "2h0m0s", "0s"},
		"api.listen":                    {"127.0.0.1:1", "unix:///run/api", "localhost:3"},
		"api.callers_file":              {"/a", "/b", "/c"},
		"api.tls.cert_file":             {"/a", "/b", "/c"},
		"api.tls.key_file":              {"/a", "/b", "/c"},
		"api.tls.client_ca_file":        {"/a", "/b", "/c"},
		"api.client_names":              {"a", "a,b", "spiffe://c"},
		"api.plaintext":                 {"true", "false", "true"},
		"api.timeout":                   {"1s", "2s", "3s"},
		"api.max_in_flight":             {"1", "2", "3"},
		"api.max_message_bytes":         {"1024", "2048", "4096"},
		"api.max_header_bytes":          {"4096", "4097", "4098"},
		"api.max_streams":               {"1", "2", "3"},
		"api.max_connections":           {"1", "2", "3"},
		"api.max_watched":               {"10001", "10002", "10003"},
		"login.max_hashes":              {"1", "2", "3"},
		"login.hash_memory":             {"38", "64", "128"},
		"login.dummy_hash":              {"$2b$10$", "$2b$12$ $2b$10$", "$argon2id$v=19$m=65536,t=4,p=1"},
		"login.name":                    {"a", "b", "c"},
		"login.logo_file":               {"/a", "/b", "/c"},
		"login.accent":                  {"#aaaaaa", "#bbbbbb", "#cccccc"},
		"login.language":                {"de", "fr", "it"},
		"login.languages":               {"de", "fr,es", "en"},
		"tracing.endpoint":              {"a:1", "b:2", "c:3"},
		"tracing.sample":                {"1", "2", "3"},
		"tracing.headers_file":          {"/a", "/b", "/c"},
		"tracing.tls.enabled":           {"true", "false", "true"},
		"tracing.tls.ca_file":           {"/a", "/b", "/c"},
		"tracing.tls.cert_file":         {"/a", "/b", "/c"},
		"tracing.tls.key_file":          {"/a", "/b", "/c"},
		"tracing.tls.server_name":       {"a", "b", "c"},
		"login.help_url":                {"/a", "https://b.example/", "http://c.example/x?y"},
		"login.password_url":            {"/a", "https://b.example/", "http://c.example/x?y"},
		"login.texts":                   {"username=a", "username=b", "username=c"},
		"login.templates":               {"/a", "/b", "/c"},
	}
	server, pages, client := "--tls-cert-file=/c --tls-key-file=/k", "--login-tls-cert-file=/c --login-tls-key-file=/k", "--redis-tls-enabled=true --redis-tls-cert-file=/c --redis-tls-key-file=/k"
	beside := map[string][]string{ // what a key cannot do without
		"tls.cert_file":                {"--tls-key-file=/k"},
		"tls.key_file":                 {"--tls-cert-file=/c"},
		"tls.client_ca_file":           strings.Fields(server + " --tls-client-names=a"),
		"tls.client_names":             strings.Fields(server + " --tls-client-ca-file=/a"),
		"login.tls.cert_file":          {"--login-tls-key-file=/k"},
		"login.tls.key_file":           {"--login-tls-cert-file=/c"},
		"login.tls.client_ca_file":     strings.Fields(pages + " --login-tls-client-names=a"),
		"login.tls.client_names":       strings.Fields(pages + " --login-tls-client-ca-file=/a"),
		"login.trusted_hops":           {"--login-trusted-proxies=::1"},
		"login.trusted_proxies":        {"--login-trusted-hops=1"},
		"api.listen":                   {"--api-callers-file=/a"},
		"api.tls.cert_file":            {"--api-tls-key-file=/k"},
		"api.tls.key_file":             {"--api-tls-cert-file=/c"},
		"api.tls.client_ca_file":       {"--api-tls-cert-file=/c", "--api-tls-key-file=/k"},
		"api.client_names":             {"--api-tls-cert-file=/c", "--api-tls-key-file=/k", "--api-tls-client-ca-file=/a"},
		"redis.sentinel_username":      {"--redis-master-name=m"},
		"redis.sentinel_password_file": {"--redis-master-name=m"},
		"redis.tls.ca_file":            strings.Fields(client),
		"redis.tls.cert_file":          {"--redis-tls-enabled=true", "--redis-tls-key-file=/k"},
		"redis.tls.key_file":           {"--redis-tls-enabled=true", "--redis-tls-cert-file=/c"},
		"redis.tls.server_name":        strings.Fields(client),
		"tracing.sample":               {"--tracing-endpoint=a:1"},
		"tracing.headers_file":         {"--tracing-endpoint=a:1", "--tracing-tls-enabled=true"},
		"tracing.tls.enabled":          {"--tracing-endpoint=a:1"},
		"tracing.tls.ca_file":          {"--tracing-endpoint=a:1", "--tracing-tls-enabled=true"},
		"tracing.tls.cert_file":        {"--tracing-endpoint=a:1", "--tracing-tls-enabled=true", "--tracing-tls-key-file=/k"},
		"tracing.tls.key_file":         {"--tracing-endpoint=a:1", "--tracing-tls-enabled=true", "--tracing-tls-cert-file=/c"},
		"tracing.tls.server_name":      {"--tracing-endpoint=a:1", "--tracing-tls-enabled=true"},
		"cookie.domain":                {"--cookie-name=a"},
		"cookie.insecure":              {"--cookie-name=a"},
	}
	for _, k := range new(Config).formatKeys() {
		for _, need := range []string{"--session-format=express", "--session-express-secret-file=/s", "--session-express-user-id-path=u"} {
			if !strings.HasPrefix(need, "--"+k.flag()+"=") {
				beside[k.name] = append(beside[k.name], need)
			}
		}
	}
	for _, source := range usersource.Sources {
		for _, k := range source.Keys {
			values[k.Name] = [3]string{"/a", "/b", "/c"}
			beside[k.Name] = needsOf(source, k)
		}
	}
	for i, k := range new(Config).keys() {
		v, ok := values[k.name]
		if !ok {
			t.Errorf("%s has no values here", k.name)
			continue
		}
		file, variable, flag := yamlOf(k.name, v[0]), k.variable()+"="+v[1], "--"+k.flag()+"="+v[2]
		for name, test := range map[string]struct {
			file, variable, flag string
			want                 string
		}{
			"file":                    {file, "", "", v[0]},
			"variable":                {"", variable, "", v[1]},
			"flag":                    {"", "", flag, v[2]},
			"file and variable":       {file, variable, "", v[1]},
			"file and flag":           {file, "", flag, v[2]},
			"variable and flag":       {"", variable, flag, v[2]},
			"all":                     {file, variable, flag, v[2]},
			"file and empty variable": {file, k.variable() + "=", "", v[0]},
		} {
			var environ, args []string
			for _, need := range beside[k.name] {
				if strings.HasPrefix(need, "--") {
					args = append(args, need)
				} else {
					environ = append(environ, need)
				}
			}
			if k.name != "redis.addresses" {
				args = append(args, redisFlag)
			}
			if test.variable != "" {
				environ = append(environ, test.variable)
			}
			if test.flag != "" && k.secret {
				continue
			}
			if test.flag != "" {
				args = append(args, test.flag)
			}
			c, err := loadText(t, test.file, environ, args)
			if err != nil {
				t.Errorf("%s from %s: %v", k.name, name, err)
				continue
			}
			if got := textOf(c.keys()[i].value.get()); got != test.want {
				t.Errorf("%s from %s: %q, want %q", k.name, name, got, test.want)
			}
		}
	}
}

// yamlOf is a file that sets one key.
func yamlOf(name, value string) string {
	section, name, ok := strings.Cut(name, ".")
	if !ok {
		return fmt.Sprintf("%s: %q\n", section, value)
	}
	return section + ":\n  " + strings.ReplaceAll(strings.TrimSpace(yamlOf(name, value)), "\n", "\n  ") + "\n"
}

func textOf(v any) string {
	if list, ok := v.([]string); ok {
		return strings.Join(list, ",")
	}
	return v.(string)
}

// TestSources goes the way of the command: --config or COATCHECK_CONFIG, and the
// environment of the process.
func TestSources(t *testing.T) {
	write := func(name, text string) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	one, two := write("one.yaml", "redis: {addresses: [one:1]}"), write("two.yaml", "redis: {addresses: [two:2]}")
	bad, worse := write("bad.yaml", "redis: {addresses: [one:1]}\ntimout: 1s"), write("worse.yaml", "tiemout: 1s")
	dir := t.TempDir()
	for name, test := range map[string]struct {
		environ map[string]string
		args    []string
		want    string // the address, or what the error says
	}{
		"flag":                 {nil, []string{"--config", one}, "one:1"},
		"variable":             {map[string]string{"COATCHECK_CONFIG": one}, nil, "one:1"},
		"flag before variable": {map[string]string{"COATCHECK_CONFIG": one}, []string{"--config", two}, "two:2"},
		"environment":          {map[string]string{"COATCHECK_CONFIG": one, "COATCHECK_REDIS_ADDRESSES": "env:3"}, nil, "env:3"},
		"no file":              {map[string]string{"COATCHECK_REDIS_ADDRESSES": "env:3"}, nil, "env:3"},
		"missing file":         {nil, []string{"--config", one + ".missing"}, "configuration " + one + ".missing (--config): no such file or directory"},
		"missing by variable":  {map[string]string{"COATCHECK_CONFIG": two + ".missing"}, nil, "configuration " + two + ".missing (COATCHECK_CONFIG): no such file or directory"},
		"a folder":             {nil, []string{"--config", dir}, "configuration " + dir + " (--config): it is a directory"},
		"below a file":         {nil, []string{"--config", one + "/x"}, "configuration " + one + "/x (--config): not a directory"},
		"no YAML":              {nil, []string{"--config", write("no.yaml", "listen")}, "line 1: it is not keys with values"},
		"a bad file is named":  {nil, []string{"--config", bad}, "configuration " + bad + " (--config): timout: unknown key; did you mean timeout?"},
		"so is one with more": {nil, []string{"--config", worse}, "configuration " + worse + " (--config) has 2 mistakes:\n" +
			"  tiemout: unknown key; did you mean timeout?\n  redis.addresses (COATCHECK_REDIS_ADDRESSES, --redis-addresses): no Redis is named"},
		"nothing":        {nil, nil, "redis.addresses (COATCHECK_REDIS_ADDRESSES, --redis-addresses): no Redis is named"},
		"nothing, twice": {nil, []string{"--listen", "x"}, "the configuration has 2 mistakes:\n  listen (COATCHECK_LISTEN, --listen): "},
	} {
		t.Run(name, func(t *testing.T) {
			for name, value := range test.environ {
				t.Setenv(name, value)
			}
			flags := pflag.NewFlagSet("test", pflag.ContinueOnError)
			Flags(flags)
			if err := flags.Parse(test.args); err != nil {
				t.Fatal(err)
			}
			c, err := Load(flags)
			switch {
			case err != nil && !strings.Contains(err.Error(), test.want):
				t.Errorf("%v, want %q", err, test.want)
			case err == nil && !slices.Equal(c.RedisAddresses, []string{test.want}):
				t.Errorf("%q, want %q", c.RedisAddresses, test.want)
			}
		})
	}
	t.Setenv("COATCHECK_TIMOUT", "1s")
	if _, err := Check(one); err != nil {
		t.Errorf("Check looks at variables: %v", err)
	}
	if _, err := Check(bad); err == nil || err.Error() != "configuration "+bad+": timout: unknown key; did you mean timeout?" {
		t.Errorf("Check: %v", err)
	}
	if _, err := Check(one + ".missing"); err == nil {
		t.Error("Check of a missing file")
	}
}

// TestEveryFault: one start names every mistake.
func TestEveryFault(t *testing.T) {
	const file = `
timout: 1s
timeout: 150
session:
  idle_timeout: 30 minutes
  ttl: 1h
log:
  level: loud
  format:
redis:
  addresses: [localhost]
  database: first
cookie:
  name: "a b"
headers:
  prefix: user-
login_url: //elsewhere
`
	lines := faults(t, file, []string{"COATCHECK_TIMOUT=1s", "COATCHECK_REDIS_ADDRESS=a:1", "COATCHECK_SHUTDOWN_DRAIN=5"}, []string{"--cookie-keep=maybe", "--shutdown-grace=-1s"})
	for name, why := range map[string]string{
		"timout":                  "unknown key",
		"timeout":                 "150 is not a duration",
		"session.idle_timeout":    "30 minutes is not a duration",
		"session.ttl":             "unknown key",
		"log.level":               `"loud" is not one of`,
		"log.format":              "no value",
		"redis.addresses":         `"localhost" is neither`,
		"redis.database":          "first is not a whole number",
		"cookie.name":             "cannot be in it",
		"cookie.keep":             "maybe is neither true nor false",
		"headers.prefix":          `header prefix "user-"`,
		"login_url":               `login URL "//elsewhere"`,
		"shutdown.drain":          "5 is not a duration",
		"shutdown.grace":          "-1s is not between",
		"COATCHECK_TIMOUT":        "unknown variable",
		"COATCHECK_REDIS_ADDRESS": "unknown variable",
	} {
		named(t, lines, name, why)
	}
	if len(lines) != 16 {
		t.Errorf("%d faults:\n%s", len(lines), strings.Join(lines, "\n"))
	}
}

func TestFaults(t *testing.T) {
	for name, test := range map[string]struct{ file, key, why string }{
		"no Redis":               {"redis: {addresses: []}", "redis.addresses", "no Redis is named"},
		"a blank for Redis":      {"redis: {addresses: ' , '}", "redis.addresses", "no Redis is named"},
		"two passwords":          {"redis: {password: a, password_file: b}", "redis.password, redis.password_file", "only one"},
		"a number as duration":   {"shutdown: {drain: 5}", "shutdown.drain", "5 is not a duration"},
		"a number in quotes":     {"shutdown: {drain: '5'}", "shutdown.drain", "5 is not a duration"},
		"a fraction":             {"timeout: 0.5", "timeout", "0.5 is not a duration"},
		"a list as duration":     {"timeout: [1s]", "timeout", "not a duration"},
		"null":                   {"listen: null", "listen", "no value"},
		"tilde":                  {"redis: {username: ~}", "redis.username", "no value"},
		"nothing":                {"redis:\n  addresses:\n", "redis.addresses", "no value"},
		"no secret":              {"redis: {password: }", "redis.password", "no value"},
		"an empty section":       {"redis:\n# addresses: [a:1]\n", "redis", "no value"},
		"braces":                 {"redis: {}", "redis", "no value"},
		"braces for a value":     {"listen: {}", "listen", "no value"},
		"a scalar section":       {"redis: localhost:6379", "redis", "takes keys below it"},
		"a list section":         {"redis: [addresses]", "redis", "takes keys below it"},
		"a section scalar":       {"listen: {port: 9001}", "listen", "no keys below it"},
		"a nested section":       {"redis: {addresses: {first: a:1}}", "redis.addresses", "no keys below it"},
		"an unknown section":     {"ssl: {}", "ssl", "unknown key"},
		"an unknown null":        {"ssl:", "ssl", "unknown key"},
		"a dot too many":         {"redis: {wait: {timeout: 1s}}", "redis.wait.timeout", "unknown key"},
		"a number for a key":     {"1: x", "1", "unknown key"},
		"a number in a section":  {"redis: {1: x}", "redis.1", "unknown key"},
		"two cases":              {"listen: ':1'\nLISTEN: ':2'", "listen", "twice"},
		"two cases of sections":  {"log: {level: warn}\nLog: {Level: info}", "log.level", "twice"},
		"dot and section":        {"log.level: warn\nlog: {level: info}", "log.level", "twice"},
		"text as list":           {"redis: {addresses: 6379}", "redis.addresses", "6379 is not a list"},
		"a list of numbers":      {"headers: {fields: [a, 1]}", "headers.fields", "1 is not text"},
		"a list of lists":        {"headers: {fields: [[a]]}", "headers.fields", "is not text"},
		"a list with null":       {"headers: {fields: [a, ~]}", "headers.fields", "is not text"},
		"a number as text":       {"redis: {username: 42}", "redis.username", "42 is not text; put it in quotes"},
		"a yes":                  {"cookie: {keep: yes}", "cookie.keep", "yes is neither"},
		"a half":                 {"redis: {database: 1.5}", "redis.database", "1.5 is not a whole number"},
		"a negative database":    {"redis: {database: -1}", "redis.database", "-1 is not between"},
		"an API in plain text":   {"api: {listen: ':9003', callers_file: /a}", "api.tls.cert_file", "could read tokens and sessions; in a mesh"},
		"an API without callers": {"api: {listen: '127.0.0.1:9003'}", "api.callers_file", "no caller is named"},
		"names without a CA":     {"api: {client_names: [a]}", "api.client_names", "it also needs api.tls.client_ca_file"},
		"an API CA without TLS":  {"api: {tls: {client_ca_file: /a}}", "api.tls.client_ca_file, api.tls.cert_file", "no client presents a certificate"},
		"a long call":            {"api: {timeout: 2m}", "api.timeout", "2m0s is not between"},
		"replicas":               {"redis: {wait_replicas: 17}", "redis.wait_replicas", "17 is not between"},
		"WAIT for ever":          {"redis: {wait_timeout: 0}", "redis.wait_timeout", "0s is not between"},
		"no timeout":             {"timeout: 0", "timeout", "0s is not between"},
		"a long timeout":         {"timeout: 61s", "timeout", "1m1s is not between"},
		"a long drain":           {"shutdown: {drain: 1h}", "shutdown.drain", "1h0m0s is not between"},
		"no idle timeout":        {"session: {idle_timeout: 0}", "session.idle_timeout", "not a valid value"},
		"no absolute timeout":    {"session: {absolute_timeout: 0s}", "session.absolute_timeout", "not a valid value"},
		"a short idle timeout":   {"session: {idle_timeout: 9ms}", "session.idle_timeout", "idle timeout 9ms is under 10ms"},
		"a long idle timeout":    {"session: {idle_timeout: 900000h}", "session.idle_timeout", "idle timeout 900000h0m0s is over a century, 876000h0m0s"},
		"timeouts for ever":      {"session: {absolute_timeout: 2562047h}", "session.absolute_timeout", "absolute timeout 2562047h0m0s is over a century"},
		"a long step":            {"session: {idle_step: 1h}", "session.idle_step", "idle step 1h0m0s is not between"},
		"a scan without a rest":  {"session: {count_every: 1s}", "session.count_every", "1s is not between"},
		"a hold of days":         {"redis: {emptied_hold: 25h}", "redis.emptied_hold", "is not between"},
		"less than no session":   {"session: {max_per_user: -1}", "session.max_per_user", "-1 is not between"},
		"no cookie name":         {"cookie: {name: ''}", "cookie.name", "not a valid value"},
		"no prefix":              {"headers: {prefix: ''}", "headers.prefix", "not a valid value"},
		"no port":                {"listen: localhost", "listen", `"localhost" is neither`},
		"an empty port":          {"listen: 'localhost:'", "listen", "is neither"},
		"a port too high":        {"redis: {addresses: 'a:65536'}", "redis.addresses", `"a:65536" is neither`},
		"a port of letters":      {"redis: {addresses: 'a:63x9'}", "redis.addresses", `"a:63x9" is neither`},
		"a relative socket":      {"listen: unix://sock", "listen", "is neither"},
		"a URL":                  {"redis: {addresses: ['redis://localhost:6379']}", "redis.addresses", "is neither"},
		"a level":                {"log: {level: INFO}", "log.level", "is not one of debug, info, warn, error"},
		"a format":               {"log: {format: xml}", "log.format", "is not one of json, text"},
		"decisions":              {"log: {decisions: none}", "log.decisions", "is not one of all, denied, faults"},
		"Envoy's prefix":         {"headers: {prefix: x-envoy-}", "headers.prefix", "x-envoy-"},
		"a login scheme":         {"login_url: 'javascript:alert(1)'", "login_url", "login URL"},
		"two TLS files":          {"tls: {cert_file: a}", "tls.cert_file", "it also needs tls.key_file (COATCHECK_TLS_KEY_FILE, --tls-key-file)"},
		"a key alone":            {"tls: {key_file: a}", "tls.key_file", "it also needs tls.cert_file"},
		"a CA without names":     {"tls: {cert_file: a, key_file: b, client_ca_file: c}", "tls.client_ca_file", "it also needs tls.client_names"},
		"a CA without TLS":       {"tls: {client_ca_file: c, client_names: [d]}", "tls.client_ca_file, tls.cert_file", "without TLS"},
		"a mode":                 {"listen_mode: 'rw'", "listen_mode", `"rw" is not a mode`},
		"a wide mode":            {"listen_mode: '1777'", "listen_mode", `"1777" is not a mode`},
		"an admin address":       {"admin: {listen: 'unix:///a'}", "admin.listen", "is not host:port"},
		"pprof for all hosts":    {"admin: {pprof_listen: ':6060'}", "admin.pprof_listen", `":6060" is not a loopback address`},
		"a port without pprof":   {"admin: {pprof_listen: '127.0.0.1'}", "admin.pprof_listen", "is not host:port"},
		"a message":              {"grpc: {max_message_bytes: 1}", "grpc.max_message_bytes", "1 is not between 65536 and 16777216"},
		"nothing in flight":      {"max_in_flight: 0", "max_in_flight", "0 is not between"},
		"a database too far":     {"redis: {database: 70000}", "redis.database", "70000 is not between 0 and 65536"},
		"a Cluster's database":   {"redis: {cluster: true, database: 1}", "redis.database", "a Cluster has only database 0"},
		"Cluster and Sentinels":  {"redis: {cluster: true, master_name: m}", "redis.cluster, redis.master_name", "only one"},
		"a Sentinel's user":      {"redis: {sentinel_username: m}", "redis.sentinel_username, redis.sentinel_password_file", "they cannot be set without redis.master_name (COATCHECK"},
		"TLS that is off":        {"redis: {tls: {server_name: m}}", "redis.tls.enabled", "it is false"},
		"TLS over a socket":      {"redis: {addresses: ['unix:///r'], tls: {enabled: true}}", "redis.addresses, redis.tls.enabled", "no TLS"},
		"two sockets":            {"redis: {addresses: ['unix:///r', 'unix:///s']}", "redis.addresses", "belongs to a single server"},
		"a line in a value":      {"timeout: \"a\\nb\"", "timeout", `"a\nb" is not a duration`},
		"a line in a key":        {"\"a\\nb\": 1", `"a\nb"`, "unknown key"},
		"a letter wrong":         {"redis: {databse: 1}", "redis.databse", "unknown key; did you mean redis.database?"},
		"a dot wrong":            {"redis: {tls_enabled: true}", "redis.tls_enabled", "unknown key; did you mean redis.tls.enabled?"},
		"a list at the top":      {"- listen: ':1'", "line 1", "it is not keys with values"},
		"text at the top":        {"listen", "line 1", "it is not keys with values"},
		"no YAML":                {"listen: ':1'\n\tlog: {}", "line 2", "it is not YAML: it is indented with a tab"},
		"twice":                  {"listen: ':1'\nlisten: ':2'", "line 2", "it has a key twice"},
		"two documents":          {"listen: ':1'\n---\nlisten: ':2'", "line 1", "it holds more than one YAML document"},
		"not UTF-8":              {"listen: '\xff'", "line 1", "it is not YAML"},
	} {
		t.Run(name, func(t *testing.T) {
			args := []string{redisFlag}
			if strings.Contains(test.file, "addresses") {
				args = nil
			}
			lines := faults(t, test.file, nil, args)
			named(t, lines, test.key, test.why)
			if len(lines) != 1 && args != nil {
				t.Errorf("one fault makes %d lines:\n%s", len(lines), strings.Join(lines, "\n"))
			}
		})
	}
}

// TestForms: ways to write the same thing.
func TestForms(t *testing.T) {
	for name, file := range map[string]string{
		"list":          "headers: {fields: [a, b=x-user-c]}",
		"lines":         "headers:\n  fields:\n  - a\n  - b=x-user-c\n",
		"commas":        "headers: {fields: 'a,b=x-user-c'}",
		"blanks":        "headers: {fields: ' a , , b=x-user-c '}",
		"upper case":    "HEADERS: {Fields: [a, b=x-user-c]}",
		"a dot":         "headers.fields: [a, b=x-user-c]",
		"an alias":      "headers: {prefix: &p x-user-, fields: [a, b=x-user-c]}\ncookie: {keep: false}",
		"split section": "headers: {prefix: x-user-}\nHeaders: {fields: [a, b=x-user-c]}",
	} {
		if got := mustLoad(t, file).HeaderFields; !slices.Equal(got, []string{"a", "b=x-user-c"}) {
			t.Errorf("%s: %q", name, got)
		}
	}
	split := mustLoad(t, "log: {level: warn}\nLOG: {format: text}")
	if split.LogLevel != "warn" || split.LogFormat != "text" {
		t.Errorf("a section in two cases has lost a half: %s %s", split.LogLevel, split.LogFormat)
	}
}

// TestKubernetes: a Service named coatcheck, or whose name begins so, must not
// keep a pod beside it from starting.
func TestKubernetes(t *testing.T) {
	for variable, ours := range map[string]bool{
		"COATCHECK_SERVICE_HOST=10.0.0.1":                  false,
		"COATCHECK_SERVICE_PORT=9001":                      false,
		"COATCHECK_SERVICE_PORT_GRPC=9001":                 false,
		"COATCHECK_PORT=tcp://10.0.0.1:9001":               false,
		"COATCHECK_PORT_9001_TCP=tcp://10.0.0.1:9001":      false,
		"COATCHECK_PORT_9001_TCP_PROTO=tcp":                false,
		"COATCHECK_PORT_9001_TCP_PORT=9001":                false,
		"COATCHECK_PORT_9001_TCP_ADDR=10.0.0.1":            false,
		"COATCHECK_LOGIN_SERVICE_HOST=10.0.0.1":            false,
		"COATCHECK_LOGIN_SERVICE_PORT=8080":                false,
		"COATCHECK_LOGIN_SERVICE_PORT_HTTP=8080":           false,
		"COATCHECK_LOGIN_PORT=udp://10.0.0.1:8080":         false,
		"COATCHECK_LOGIN_PORT_8080_UDP_ADDR=fd00::1":       false,
		"COATCHECK_REDIS_PORT=tcp://10.0.0.1:6379":         false,
		"COATCHECK_REDIS_SERVICE_HOST=10.0.0.1":            false,
		"COATCHECKLIST=x":                                  false,
		"coatcheck_timeout=x":                              false,
		"COATCHECK_TIMOUT=1s":                              true,
		"COATCHECK_PORT=9001":                              true,
		"COATCHECK_REDIS_PORT=6379":                        true,
		"COATCHECK_REDIS_HOST=redis":                       true,
		"COATCHECK_SERVICE_PORT=first":                     true,
		"COATCHECK_PORT_9001=x":                            true,
		"COATCHECK_PORT_9001_TCP_NAME=x":                   true,
		"COATCHECK_REDIS__PASSWORD=" + secret:              true,
		"COATCHECK_=x":                                     true,
		"COATCHECK_TIMOUT=":                                true,
		"COATCHECK_SERVICE=10.0.0.1":                       true,
		"COATCHECK_HEADERS_FIELDS_0=tenant":                true,
		"COATCHECK_REDIS_ADDRESSES_SERVICE_PORTS=a:1":      true,
		"COATCHECK_TIMEOUT_PORT=tcp:10.0.0.1":              true,
		"COATCHECK_REDIS_ADDRESS\n_SERVICE_HOST=127.0.0.1": true,
	} {
		_, err := loadText(t, "", []string{variable}, []string{redisFlag})
		name, _, _ := strings.Cut(variable, "=")
		switch {
		case !ours && err != nil:
			t.Errorf("%s: %v", variable, err)
		case ours && (err == nil || !strings.HasPrefix(err.Error(), strictyaml.Quote(name)+": unknown variable") || strings.Contains(err.Error(), "\n")):
			t.Errorf("%s: %v, want an unknown variable", variable, err)
		}
	}
}

// TestSecrets puts a password in every wrong place.
func TestSecrets(t *testing.T) {
	for name, file := range map[string]string{
		"broken YAML":        "redis:\n  password: '" + secret + "\n",
		"a tab":              "redis:\n\tpassword: " + secret + "\n",
		"no blank":           "redis:\n  password:" + secret + "\n",
		"two values":         "redis:\n  password: " + secret + ": x\n",
		"an anchor":          "redis:\n  password: *" + secret + "\n",
		"at the top":         secret,
		"a list":             "redis: {password: [" + secret + "]}",
		"braces":             "redis: {password: {" + secret + "}}",
		"a section":          "redis: {password: {" + secret + ": x}}",
		"deep":               "redis: {password: {a: {" + secret + ": x}}}",
		"a tag":              "redis: {password: !!int " + secret + "}",
		"two of them":        "redis: {password: " + secret + ", password_file: /x}",
		"beside a fault":     "redis: {password: " + secret + "}\ntimout: 1s",
		"misspelled":         "redis: {pasword: " + secret + "}",
		"twice":              "redis: {password: " + secret + ", Password: " + secret + "}",
		"a URL":              "redis: {addresses: ['redis://me:" + secret + "@localhost:6379']}",
		"a URL without host": "redis: {addresses: ['redis://:" + secret + "@localhost']}",
		"a login URL":        "login_url: https://me:" + secret + "@login.example/",
	} {
		t.Run(name, func(t *testing.T) {
			faults(t, file, nil, nil)
			// A variable over it makes the file no better.
			faults(t, file, []string{"COATCHECK_REDIS_PASSWORD=" + secret, "COATCHECK_TIMOUT=1"}, []string{redisFlag})
		})
	}
	for _, number := range []string{"8675309", "[8675309]", "8.675309", "true", "2020-01-01", "0x8675309"} {
		lines := faults(t, "redis: {password: "+number+"}", nil, []string{redisFlag})
		named(t, lines, "redis.password", "put it in quotes")
		if strings.Contains(strings.Join(lines, ""), strings.Trim(number, "[]")) {
			t.Errorf("the error shows the password: %q", lines)
		}
	}
}

func TestRedis(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for name, test := range map[string]struct {
		file     string
		password string
		err      string
	}{
		"none":          {"{}", "", ""},
		"in the file":   {"redis: {password: ' " + secret + "'}", " " + secret, ""},
		"in its own":    {"redis: {password_file: " + write("plain", secret) + "}", secret, ""},
		"line feed":     {"redis: {password_file: " + write("lf", secret+"\n") + "}", secret, ""},
		"CR LF":         {"redis: {password_file: " + write("crlf", secret+"\r\n") + "}", secret, ""},
		"blanks":        {"redis: {password_file: " + write("blanks", " "+secret+" \n") + "}", " " + secret + " ", ""},
		"missing":       {"redis: {password_file: " + dir + "/missing}", "", "redis.password_file: open " + dir + "/missing"},
		"empty":         {"redis: {password_file: " + write("empty", "") + "}", "", "redis.password_file: " + dir + "/empty is empty"},
		"only a line":   {"redis: {password_file: " + write("line", "\n") + "}", "", "redis.password_file: " + dir + "/line is empty"},
		"a folder":      {"redis: {password_file: " + dir + "}", "", "redis.password_file: read " + dir},
		"not readable?": {"redis: {password_file: " + dir + "/plain/x}", "", "redis.password_file: open "},
	} {
		t.Run(name, func(t *testing.T) {
			o, err := mustLoad(t, test.file).Redis(nil)
			if test.err != "" {
				const in = " (COATCHECK_REDIS_PASSWORD_FILE, --redis-password-file)"
				if err == nil || !strings.HasPrefix(strings.Replace(err.Error(), in, "", 1), test.err) {
					t.Errorf("%v, want %q", err, test.err)
				}
				return
			}
			password := o.Password
			if o.PasswordFile != "" {
				password, _ = secretfile.Read(o.PasswordFile)
			}
			if err != nil || password != test.password {
				t.Errorf("%q %v, want %q", password, err, test.password)
			}
		})
	}

	o, err := mustLoad(t, "redis: {master_name: m, username: u, database: 3, wait_timeout: 1s, wait_replicas: 2}").Redis(nil)
	if err != nil || o.MasterName != "m" || o.Username != "u" || o.DB != 3 || !slices.Equal(o.Addrs, []string{"127.0.0.1:6379"}) {
		t.Errorf("%+v %v", o, err)
	}
	if want := oneTry(150 * time.Millisecond); o.ReadTimeout != want {
		t.Errorf("a check reads for %v, want %v, however long a revocation waits for replicas", o.ReadTimeout, want)
	}
	for timeout, want := range map[time.Duration]time.Duration{150 * time.Millisecond: 125 * time.Millisecond, 30 * time.Millisecond: 20 * time.Millisecond} {
		if got := oneTry(timeout); got != want {
			t.Errorf("one try of %v has %v, want %v", timeout, got, want)
		}
	}
	c, err := loadText(t, "redis: {addresses: [unix:///run/redis.sock]}", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if o, _ := c.Redis(nil); !slices.Equal(o.Addrs, []string{"/run/redis.sock"}) {
		t.Errorf("a socket's address is %q", o.Addrs)
	}
}

// TestTrustedProxies: addresses and networks, and every entry that is neither is
// named, beside all other mistakes.
func TestTrustedProxies(t *testing.T) {
	c := mustLoad(t, "login: {trusted_hops: 1, trusted_proxies: [10.0.0.0/8, 127.0.0.1, '::1', 'fc00::/7', '::ffff:192.0.2.0/120', '::ffff:192.0.2.9', 0.0.0.0/0]}")
	l, err := c.Login()
	const want = "[10.0.0.0/8 127.0.0.1/32 ::1/128 fc00::/7 192.0.2.0/24 192.0.2.9/32 0.0.0.0/0]"
	if got := fmt.Sprint(l.TrustedProxies); err != nil || got != want {
		t.Errorf("%s, %v", got, err)
	}
	lines := faults(t, "timeout: 5\nlogin: {trusted_hops: 1, trusted_proxies: [envoy, 10.1.2.3/8, 'fe80::1%eth0', 10.0.0.0/33, 127.0.0.1:80, '::ffff:0:0/90', 10.0.0.0/8]}", nil, nil)
	for _, entry := range []string{`"envoy"`, "10.0.0.0/8 is the network, and 10.1.2.3 the address", "fe80::1%eth0", "10.0.0.0/33", "127.0.0.1:80", "::ffff:0:0/90"} {
		named(t, lines, "login.trusted_proxies", entry)
	}
	named(t, lines, "timeout", "duration")
	lines = faults(t, "timeout: 5\nlogin: {trusted_hops: 1}", []string{"COATCHECK_LOG_SAMPLE=0"}, nil)
	named(t, lines, "login.trusted_hops, login.trusted_proxies", "name your proxies")
	named(t, lines, "timeout", "duration")
	named(t, lines, "log.sample", "between")
	lines = faults(t, "timeout: 5\nlogin: {trusted_proxies: [10.0.0.0/8]}", nil, []string{redisFlag})
	named(t, lines, "login.trusted_proxies, login.trusted_hops", "share")
}

// TestTexts: of a text that is there twice, one would be lost.
func TestTexts(t *testing.T) {
	for _, entries := range []string{"sign_in=Log in, sign_in=Enter", "de.sign_in=a, username=b, de.sign_in=c"} {
		named(t, faults(t, "timeout: 5\nlogin: {texts: '"+entries+"'}", nil, nil), "login.texts", "twice")
	}
}

// TestRepeatedFlags: a flag for a list may be repeated, as flags for lists can be
// elsewhere: the former values are not lost. Of another flag the last one counts.
func TestRepeatedFlags(t *testing.T) {
	c, err := loadText(t, "", nil, []string{redisFlag, "--login-trusted-hops=1", "--login-trusted-hops=2", "--login-trusted-proxies=192.0.2.1,192.0.2.2", "--login-trusted-proxies", "192.0.2.3"})
	if err != nil {
		t.Fatal(err)
	}
	if got := c.LoginTrustedProxies; !slices.Equal(got, []string{"192.0.2.1", "192.0.2.2", "192.0.2.3"}) || c.LoginTrustedHops != 2 {
		t.Errorf("%q, %d hops", got, c.LoginTrustedHops)
	}
}

// TestParts: what the other packages are handed.
func TestParts(t *testing.T) {
	c := mustLoad(t, `
timeout: 1s
login_url: /login
cookie: {name: sid, keep: true}
headers: {prefix: x-me-, fields: [tenant]}
session: {idle_timeout: 1m, absolute_timeout: 1h, idle_step: 1s, max_per_user: 0}
redis: {wait_replicas: 1, wait_timeout: 20ms}
log: {decisions: all}
`)
	e := c.ExtAuthz()
	if e.Timeout != time.Second || e.LoginURL != "/login" || e.Cookie.Name != "sid" || !e.KeepCookie || e.HeaderPrefix != "x-me-" || e.Log.Decisions != extauthz.LogAll {
		t.Errorf("ExtAuthz: %+v", e)
	}
	if s := c.Sessions(); s.IdleTimeout != time.Minute || s.AbsoluteTimeout != time.Hour || s.IdleStep != time.Second || s.MaxPerUser != -1 {
		t.Errorf("Sessions: %+v", s)
	}
	if s := c.Store(); s.WaitReplicas != 1 || s.WaitTimeout != 20*time.Millisecond {
		t.Errorf("Store: %+v", s)
	}
	for _, level := range []string{"debug", "info", "warn", "error"} {
		c.LogLevel = level
		for _, c.LogFormat = range []string{"json", "text"} {
			if !c.Logger(io.Discard).Enabled(t.Context(), 8) || c.Logger(io.Discard).Enabled(t.Context(), -4) != (level == "debug") {
				t.Errorf("a logger of level %s is of another", level)
			}
		}
	}
}

// TestFields: names of fields are kept as they are, names of headers are in the
// form in which Envoy and we compare them.
func TestFields(t *testing.T) {
	for entry, want := range map[string]string{ // field>header, or a part of the error
		"tenant":                 "tenant>x-user-tenant",
		"tenantId":               "tenantId>x-user-tenantid",
		"TENANT":                 "TENANT>x-user-tenant",
		"tenant_id":              "tenant_id>x-user-tenant-id",
		"org.unit":               "org.unit>x-user-org-unit",
		"a b":                    "a b>x-user-a-b",
		"9":                      "9>x-user-9",
		"tenantId=x-user-tenant": "tenantId>x-user-tenant",
		"a=x-user-b-c":           "a>x-user-b-c",
		"a=x-user-":              "must be x-user-",
		"a=tenant":               "must be x-user-",
		"a=":                     "must be x-user-",
		"a=X-User-A":             "must be x-user-",
		"a=x-user-ä":             "must be x-user-",
		"a = x-user-a":           "must be x-user-",
		"a=b=x-user-a":           "must be x-user-",
		"=x-user-a":              "a name has",
		"roles":                  "reserved name",
		"user_agent":             "reserved name",
		"id":                     "header x-user-id is taken",
		"Name":                   "header x-user-name is taken",
		"agent":                  "header x-user-agent is taken",
		"a=x-user-session":       "header x-user-session is taken",
	} {
		c, err := loadText(t, fmt.Sprintf("headers: {fields: [%q]}", entry), nil, []string{redisFlag})
		if err != nil {
			if !strings.Contains(err.Error(), want) || strings.Contains(want, ">") {
				t.Errorf("%q: %v, want %s", entry, err, want)
			}
			continue
		}
		f := c.ExtAuthz().Fields[0]
		if got := f.Field + ">" + f.Header; got != want {
			t.Errorf("%q is %s, want %s", entry, got, want)
		}
	}
	for _, pair := range []string{"tenant_id, tenant-id", "tenantId, tenantid", "a, b=x-user-a", "a, a"} {
		lines := faults(t, "headers: {fields: ["+pair+"]}", nil, []string{redisFlag})
		named(t, lines, "headers.fields", "is taken")
	}
}

// TestYAML: what is printed loads, and means the same.
func TestYAML(t *testing.T) {
	c := mustLoad(t, `
listen: unix:///run/coatcheck.sock
timeout: 1s
cookie: {name: "null", keep: true}
headers: {fields: ["a b", "tenantId=x-user-tenant"]}
session: {idle_timeout: 1h30m, idle_step: 1500us}
redis: {username: "007", master_name: "yes: #no", password_file: " x ", database: 8}
`)
	again(t, c)
	if text, _ := c.YAML(); strings.Contains(text, "redacted") {
		t.Errorf("no password looks like one:\n%s", text)
	}
	again(t, mustLoad(t, ""))

	c = mustLoad(t, "redis: {password: "+secret+"}")
	text, err := c.YAML()
	if err != nil || strings.Contains(text, secret) || !strings.Contains(text, "redacted") {
		t.Errorf("%v:\n%s", err, text)
	}
	c.RedisPassword = "[redacted]"
	again(t, c)
}

// again fails unless c's YAML loads back to c.
func again(t *testing.T, c *Config) {
	t.Helper()
	text, err := c.YAML()
	if err != nil {
		t.Fatal(err)
	}
	got, err := load([]byte(text), nil, nil)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	if !reflect.DeepEqual(got, c) {
		t.Errorf("%+v\nloads back as\n%+v\nfrom\n%s", c, got, text)
	}
}

// FuzzConfig: any file is an error or a valid Config, and that is printed so that
// it loads back.
func FuzzConfig(f *testing.F) {
	for _, seed := range []string{
		"", "null", "{}", "[]", "x", "redis: {addresses: 'a:1'}", "redis:\n  addresses:\n  - a:1\n  - unix:///b\n",
		"redis.addresses: a:1\nRedis: {username: x}", "redis: {addresses: a:1, password: x}",
		"redis: {addresses: a:1}\nheaders: {fields: [tenantId, 'a b=x-user-c']}\nlogin_url: /login?x=1",
		"redis: {addresses: a:1, database: 010, username: !!binary /w==}\ntimeout: 1h",
		"redis: &r {addresses: a:1}\nlog: {<<: *r}", "? [a]\n: b\n", "1: {2: {~: x}}", "a: &a [*a]",
		"redis: {addresses: a:1, username: \"\\n a\\n\\tb\\u0085\"}", "a: 1\n---\nb: 2\n", "listen: {}\nlisten.x: 1",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		c, err := load([]byte(string(file)), nil, nil)
		if err != nil {
			return
		}
		if err := c.validate(asksRedis); err != nil {
			t.Fatalf("loaded, but %v", err)
		}
		if c.RedisPassword != "" {
			c.RedisPassword = "[redacted]" // which is what is printed
		}
		again(t, c)
	})
}

// TestHashMemory: half of the memory that there is, but room for two hashes.
func TestHashMemory(t *testing.T) {
	for _, test := range []struct {
		set    int // MiB
		memory uint64
		want   int64
	}{
		{0, 256 << 20, 128 << 20}, {0, 32 << 20, 38 << 20}, {64, 256 << 20, 64 << 20}, {0, 0, 0}, {0, math.MaxUint64, math.MaxInt64 / 2},
	} {
		c := Config{LoginHashMemory: test.set}
		if got := c.Passwords(test.memory).Memory; got != test.want {
			t.Errorf("%d MiB set, of %d: %d, want %d", test.set, test.memory, got, test.want)
		}
	}
	for _, line := range []string{"hash_memory: 18", "hash_memory: -1", "dummy_hash: bcrypt", "dummy_hash: $2b$99$"} {
		key, _, _ := strings.Cut(line, ":")
		_, err := load([]byte("redis: {addresses: ['127.0.0.1:6379']}\nlogin: {"+line+"}\n"), nil, nil)
		if err == nil || !strings.Contains(err.Error(), "login."+key) {
			t.Errorf("%s: %v", line, err)
		}
	}
}
