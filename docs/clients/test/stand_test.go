package clients_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"github.com/redis/go-redis/v9"
	"google.golang.org/protobuf/proto"

	"github.com/coatcheck/coatcheck/envoy/e2e/rig"
	"github.com/coatcheck/coatcheck/internal/testtools"
	"github.com/coatcheck/coatcheck/internal/testtools/testca"
	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/redisstore"
)

// password is that of the Redis users of the clients.
const password = "clients-password"

// A stand is Envoy, Coatcheck and Redis, and the clients beside them.
type stand struct {
	*rig.Stack
	dir     string
	redis   *redis.Client     // may do all
	manager *sessions.Manager // the oracle
	address map[string]string // of the HTTP servers, by service
	clients []*client

	api       *rig.Process // serves the session API
	apiURL    string
	tokenFile string // of the clients
	ca        *testca.CA
	caFile    string
}

// services are the HTTP servers that read headers.
var services = []string{"go", "java", "express", "nest", "python"}

func start(dir string) (s *stand, err error) {
	s = &stand{dir: dir, address: make(map[string]string)}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	for _, service := range services {
		if s.address[service], err = testtools.Addr(); err != nil {
			return s, err
		}
	}
	s.Stack, err = rig.Start(rig.Options{
		Coatcheck: filepath.Join(dir, "coatcheck"), Patient: true, Bootstrap: s.route,
		Arguments: []string{"--headers-fields", "tenant"},
	})
	if err != nil {
		return s, err
	}
	s.redis = s.Redis.Client()
	if s.manager, err = sessions.NewManager(redisstore.New(s.redis, redisstore.Config{}), sessions.Config{}); err != nil {
		return s, err
	}
	for _, user := range []string{"login", "reader", "go-login", apiUser} {
		if err := s.permit(user, "", ""); err != nil {
			return s, err
		}
	}
	if err := s.startAPI(); err != nil {
		return s, err
	}
	for _, language := range languages {
		c, err := language(s)
		if err != nil {
			return s, err
		}
		s.clients = append(s.clients, c)
	}
	return s, nil
}

func (s *stand) close() {
	for _, c := range s.clients {
		c.close()
	}
	_ = s.api.Stop()
	if s.redis != nil {
		_ = s.redis.Close()
	}
	if s.Stack != nil {
		s.Close()
	}
}

// route has Envoy send /SERVICE/optional and /SERVICE/required to each service.
func (s *stand) route(b *bootstrapv3.Bootstrap) {
	var model = b.GetStaticResources().GetClusters()[0]
	for _, cluster := range b.GetStaticResources().GetClusters() {
		if cluster.GetName() == "upstream" {
			model = cluster
		}
	}
	for _, service := range services {
		cluster := proto.CloneOf(model)
		cluster.Name, cluster.LoadAssignment.ClusterName = service, service
		b.StaticResources.Clusters = append(b.StaticResources.Clusters, cluster)
		rig.ClusterAt(b, service, s.address[service])
		for _, kind := range []string{"optional", "required"} {
			match := &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_PathSeparatedPrefix{PathSeparatedPrefix: "/" + service + "/" + kind}}
			rig.AddRoute(b, match, map[string]string{"coatcheck.session": kind})
			rig.ChangeFront(b, func(m *hcmv3.HttpConnectionManager) {
				action := m.GetRouteConfig().GetVirtualHosts()[0].GetRoutes()[0].GetRoute()
				action.ClusterSpecifier = &routev3.RouteAction_Cluster{Cluster: service}
			})
		}
	}
}

var rights = regexp.MustCompile(`(?m)^user (\S+) on >PASSWORD (.+)$`)

// rules are the rights of a Redis user by docs/clients/README.md and, of the API's, by
// docs/sessions.md.
func rules(user string) ([]string, error) {
	page, err := os.ReadFile("../README.md")
	if err == nil && user == apiUser {
		page, err = os.ReadFile("../../sessions.md")
	}
	if err != nil {
		return nil, err
	}
	for _, found := range rights.FindAllStringSubmatch(string(page), -1) {
		if found[1] == user {
			return strings.Fields(found[2]), nil
		}
	}
	return nil, fmt.Errorf("the page has no rights of %s", user)
}

// permit gives a Redis user the page's rights but one, or all.
func (s *stand) permit(user, without, instead string) error {
	rules, err := rules(user)
	if err != nil {
		return err
	}
	given := []string{"on", ">" + password}
	for _, rule := range rules {
		if rule != without {
			given = append(given, rule)
		} else if instead != "" {
			given = append(given, instead)
		}
	}
	return s.Redis.SetUser(user, given...)
}

// verified fails unless coatcheck session verify finds nothing wrong.
func (s *stand) verified(t *testing.T, id string) {
	t.Helper()
	if out, err := s.Command(id, "session", "verify", "-"); err != nil {
		t.Errorf("coatcheck session verify: %v\n%s", err, out)
	}
}

// make makes a session as Coatcheck does.
func (s *stand) make(t *testing.T, n sessions.NewSession) (string, sessions.Key) {
	t.Helper()
	id, session, err := s.manager.Create(t.Context(), n)
	if err != nil {
		t.Fatal(err)
	}
	return id.Reveal(), session.Key
}

// oracle says what the library makes of an ID: live, absent or unknown.
func (s *stand) oracle(ctx context.Context, id string) string {
	parsed, err := sessions.ParseID(id)
	if err == nil {
		_, err = s.manager.Touch(ctx, parsed)
	}
	switch {
	case err == nil:
		return "live"
	case sessions.Absent(err):
		return "absent"
	}
	return "unknown"
}

// before returns when a condition holds, or fails after a while.
func before(patience time.Duration, holds func() bool) error {
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if holds() {
			return nil
		}
	}
	return errors.New("it never came")
}

// idle and absolute are the timeouts that Coatcheck has unless configured otherwise.
const idle, absolute = 30 * time.Minute, 12 * time.Hour
