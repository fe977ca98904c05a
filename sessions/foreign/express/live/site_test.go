package live_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	extauthzv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_authz/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"github.com/redis/go-redis/v9"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/coatcheck/coatcheck/envoy/e2e/rig"
	"github.com/coatcheck/coatcheck/sessions/redisstore/redistest"
)

// A setting is how a team has set its sessions up, and Coatcheck with them. Programs
// of one setting differ in versions alone, so that Coatcheck needs to know nothing of
// these.
type setting struct {
	name        string
	cookie      string   // its name
	prefix      string   // of the keys in Redis
	lifetime    int      // seconds that the application's own touch gives a session
	named       bool     // the sessions have names of users
	secrets     string   // separated by commas; the first signs
	environment []string // of the programs
	arguments   []string // of coatcheck serve
	programs    []program
}

var (
	userAtSessionUser = []string{"--session-express-user-id-path", "user.userId", "--session-express-username-path", "user.username", "--session-express-roles-path", "user.roles"}
	userOfPassport    = []string{"--session-express-user-id-path", "passport.user", "--session-express-roles-path", "roles"}
)

var settings = []setting{
	{
		name: "own", cookie: "connect.sid", prefix: "sess:", lifetime: 86400, named: true, secrets: "keyboard cat",
		arguments: userAtSessionUser,
		programs: []program{
			own("4", "6", "SESSION=express-session-1.17"), own("4", "7"), own("4", "8"), own("4", "9"),
			own("5", "6"), own("5", "7"), own("5", "8", "RESAVE=1"), own("5", "9"),
		},
	},
	{
		name: "passport", cookie: "connect.sid", prefix: "sess:", lifetime: 86400, secrets: "a secret, not a cat",
		arguments: userOfPassport,
		programs:  []program{passport("0.5", "4", "7"), passport("0.6", "4", "8"), passport("0.7", "5", "9")},
	},
	{
		// A prefix of the client beside the store's, a name and IDs of its own.
		name: "prefixed", cookie: "shop.sid", prefix: "app1:s7:", lifetime: 1200, named: true, secrets: "shop",
		environment: []string{"KEY_PREFIX=app1:", "PREFIX=s7:", "COOKIE=shop.sid", "UUID=1", "TTL=1200"},
		arguments:   append([]string{"--session-express-prefix", "app1:s7:", "--cookie-name", "shop.sid", "--session-express-ttl", "20m"}, userAtSessionUser...),
		programs:    []program{{"prefixed.test", "own.js", []string{"EXPRESS=4", "STORE=7"}}},
	},
	{
		// A cookie that ends, is sent anew with each answer, and whose secret was rotated.
		name: "rolling", cookie: "connect.sid", prefix: "sess:", lifetime: 600, named: true, secrets: "new secret,keyboard cat",
		environment: []string{"MAX_AGE=600000", "ROLLING=1"},
		arguments:   userAtSessionUser,
		programs:    []program{{"rolling.test", "own.js", []string{"EXPRESS=5", "STORE=9"}}},
	},
	{
		name: "nest", cookie: "connect.sid", prefix: "sess:", lifetime: 86400, named: true, secrets: "as the article has it",
		arguments: userAtSessionUser,
		programs:  []program{nest},
	},
}

// A site is the applications of a setting behind Envoy and Coatcheck. Each answers
// to its own host name; at every host, /echo leads to an upstream that shows what it
// was sent.
type site struct {
	setting
	*rig.Stack
	apps  []*app
	store *redistest.Server
	redis *redis.Client
	link  *redistest.Proxy // between Coatcheck and Redis
	dir   string
}

func (s *setting) start() (_ *site, err error) {
	v := &site{setting: *s}
	defer func() {
		if err != nil {
			v.close()
		}
	}()
	if v.dir, err = os.MkdirTemp("", "coatcheck-site-"); err != nil {
		return nil, err
	}
	if v.store, err = newRedis(); err != nil {
		return nil, err
	}
	if err = allow(v.store, s.prefix); err != nil {
		return nil, err
	}
	v.redis = v.store.Client()
	if v.link, err = redistest.NewProxy(v.store.Addr); err != nil {
		return nil, err
	}
	for _, p := range s.programs {
		a, err := p.launch(v.redisURL(), append([]string{"SECRETS=" + s.secrets}, s.environment...)...)
		if err != nil {
			return nil, err
		}
		v.apps = append(v.apps, a)
	}
	for _, a := range v.apps {
		if err := a.listens(); err != nil {
			return nil, err
		}
	}
	return v, v.startStack()
}

// redisURL is what the applications are given.
func (v *site) redisURL() string {
	return fmt.Sprintf("redis://:%s@%s", redistest.Password, v.store.Addr)
}

func (v *site) startStack() (err error) {
	secrets := filepath.Join(v.dir, "secrets")
	if err := os.WriteFile(secrets, []byte(strings.ReplaceAll(v.secrets, ",", "\n")+"\n"), 0o600); err != nil {
		return err
	}
	v.Stack, err = rig.Start(rig.Options{
		Coatcheck: binary, Patient: true,
		RedisAddresses: []string{v.link.Addr}, Environment: rig.Credentials(redisUser),
		Arguments: append([]string{"--session-format", "express", "--session-express-secret-file", secrets}, v.arguments...),
		Bootstrap: func(b *bootstrapv3.Bootstrap) { v.routes(b) },
	})
	return err
}

func (v *site) close() {
	if v.Stack != nil {
		v.Close()
	}
	for _, a := range v.apps {
		_ = a.process.Stop()
	}
	if v.link != nil {
		v.link.Close()
	}
	if v.redis != nil {
		_ = v.redis.Close()
	}
	if v.store != nil {
		v.store.Close()
	}
	_ = os.RemoveAll(v.dir)
}

// open are the paths at which applications sign users in and out themselves.
var open = []string{"/login", "/logout", "/anon", "/me", "/auth"}

// routes gives each application a host of its own: the one of envoy.yaml, with its
// requirements, and with the open paths and /echo before them.
func (v *site) routes(b *bootstrapv3.Bootstrap) {
	for _, path := range open {
		match := &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_PathSeparatedPrefix{PathSeparatedPrefix: path}}
		rig.AddRoute(b, match, map[string]string{"coatcheck.session": "none"})
	}
	for _, a := range v.apps {
		addCluster(b, a)
	}
	rig.ChangeFront(b, func(m *hcmv3.HttpConnectionManager) {
		routes := m.GetRouteConfig()
		for _, a := range v.apps {
			routes.VirtualHosts = append(routes.VirtualHosts, host(routes.GetVirtualHosts()[0], a))
		}
	})
}

// host is a copy of the host of envoy.yaml, for an application.
func host(all *routev3.VirtualHost, a *app) *routev3.VirtualHost {
	h := proto.CloneOf(all)
	h.Name, h.Domains = a.name, []string{a.name}
	for _, r := range h.GetRoutes() {
		if r.GetRoute().GetCluster() == "upstream" {
			r.GetRoute().ClusterSpecifier = &routev3.RouteAction_Cluster{Cluster: a.name}
		}
	}
	for _, path := range []string{"/echo", "/echo/optional", "/echo/admin"} { // the last comes first
		h.Routes = append([]*routev3.Route{echoes(path)}, h.Routes...)
	}
	return h
}

var needs = map[string]map[string]string{
	"/echo":          {},
	"/echo/optional": {"coatcheck.session": "optional"},
	"/echo/admin":    {"coatcheck.roles": "admin"},
}

func echoes(path string) *routev3.Route {
	config, err := anypb.New(&extauthzv3.ExtAuthzPerRoute{Override: &extauthzv3.ExtAuthzPerRoute_CheckSettings{
		CheckSettings: &extauthzv3.CheckSettings{ContextExtensions: needs[path]},
	}})
	if err != nil {
		panic(err)
	}
	return &routev3.Route{
		Match: &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_PathSeparatedPrefix{PathSeparatedPrefix: path}},
		Action: &routev3.Route_Route{Route: &routev3.RouteAction{
			ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: "upstream"},
		}},
		TypedPerFilterConfig: map[string]*anypb.Any{rig.FilterName: config},
	}
}

// addCluster adds a copy of envoy.yaml's cluster of the upstream for an application.
func addCluster(b *bootstrapv3.Bootstrap, a *app) {
	all := &b.GetStaticResources().Clusters
	model := (*all)[slices.IndexFunc(*all, func(c *clusterv3.Cluster) bool { return c.GetName() == "upstream" })]
	c := proto.CloneOf(model)
	c.Name, c.LoadAssignment.ClusterName = a.name, a.name
	*all = append(*all, c)
	rig.ClusterAt(b, a.name, a.address)
}

// sites run once a test has asked for them.
var sites struct {
	sync.Mutex
	byName map[string]*site
}

// theSite runs the applications of a setting; tests share it.
func theSite(t *testing.T, name string) *site {
	t.Helper()
	sites.Lock()
	defer sites.Unlock()
	if v := sites.byName[name]; v != nil {
		return v
	}
	v, err := newSite(name)
	if err != nil {
		t.Fatal(err)
	}
	if sites.byName == nil {
		sites.byName = make(map[string]*site)
	}
	sites.byName[name] = v
	return v
}

// newSite runs a site of its own.
func newSite(name string) (*site, error) {
	for i := range settings {
		if settings[i].name == name {
			return settings[i].start()
		}
	}
	return nil, errors.New("no setting named " + name)
}

func closeSites() {
	for _, v := range sites.byName {
		v.close()
	}
}

// newRedis has the Redis users of the docs.
func newRedis() (*redistest.Server, error) {
	users, err := rig.RedisUsers()
	if err != nil {
		return nil, err
	}
	return redistest.New(users...)
}

// redisUser is Coatcheck's user of Redis, with the rights of the page.
const redisUser = "coatcheck-express"

// allow makes the user, for keys of this prefix.
func allow(store *redistest.Server, prefix string) error {
	page, err := readPage()
	if err != nil {
		return err
	}
	rules := strings.Fields(strings.NewReplacer("PASSWORD", rig.RedisPassword(redisUser), "~sess:", "~"+prefix).Replace(page["file: users.acl"]))
	if len(rules) < 3 || rules[1] != redisUser {
		return errors.New("the page has no rights of " + redisUser)
	}
	return store.SetUser(redisUser, rules[2:]...)
}

// key is where a session stands in Redis.
func (v *site) key(sid string) string { return v.prefix + sid }

// stack of a test that breaks something.
func ownSite(t *testing.T, name string) *site {
	t.Helper()
	v, err := newSite(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.close)
	return v
}
