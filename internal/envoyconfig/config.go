package envoyconfig

import "strings"

// The types of the messages that are read, and the field under which they are known.
const (
	managerType  = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
	extAuthzType = "envoy.extensions.filters.http.ext_authz.v3.ExtAuthz"
	perRouteType = "envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute"
	wrapperType  = "envoy.config.route.v3.FilterConfig"
)

// A Config is what one Envoy is configured to do.
type Config struct {
	// Source is what [Load] has read, without a password.
	Source string
	// Listeners are those that are in use: of a config dump, the active ones.
	Listeners []*Listener
	// Remote is true where listeners come from a control plane, and are not in what
	// was read.
	Remote bool
	// Root is all that was read. Of a config dump, the parts that are not read are null.
	Root Value
	// Version is the Envoy's, such as 1.40.0, if a config dump says it.
	Version string

	clusters []*source        // the sets of clusters, the one in use last
	routes   map[string]Value // of a dump: by name
	filters  map[string]Value // of a dump: the configurations that ECDS has sent
}

// A Listener is where Envoy accepts connections.
type Listener struct {
	Value
	Name    string
	Address string // "" if it is no socket
	Port    int64
	// Chains are the filter chains, the default one last.
	Chains []*Chain
}

// A Chain is a filter chain of a listener that speaks HTTP.
type Chain struct {
	Value
	Name    string
	Default bool  // it takes the connections that no other takes
	Match   Value // the connections that it takes
	Manager *Manager
}

// A Manager is an HTTP connection manager.
type Manager struct {
	Value
	Filters []*Filter
	// Routes is nil where they are not in what was read.
	Routes *Routes
	// RoutesFrom says where the routes come from: "" for the connection manager
	// itself, else in words.
	RoutesFrom string
}

// A Filter is an HTTP filter.
type Filter struct {
	Value
	Name string
	// Type is the type of its configuration, and "" where that is not known.
	Type string
	// Config is its configuration.
	Config Value
	// Disabled is true for a filter that only routes which name it turn on.
	Disabled bool
}

// Asks reports whether the filter is an ext_authz filter that asks over gRPC, as
// Coatcheck must be asked.
func (f *Filter) Asks() bool {
	return f.Type == extAuthzType && f.Config.Get("grpc_service").Exists()
}

// Service names what an ext_authz filter asks: a cluster of Envoy, or the address of
// Google's gRPC client.
func (f *Filter) Service() string { return serviceOf(f.Config) }

func serviceOf(settings Value) string {
	grpc := settings.Get("grpc_service")
	if name := grpc.Get("envoy_grpc", "cluster_name").Text(); name != "" {
		return name
	}
	if target := grpc.Get("google_grpc", "target_uri").Text(); target != "" {
		return target
	}
	return settings.Get("http_service", "server_uri", "cluster").Text()
}

// ExtAuthz are the filters that could ask Coatcheck.
func (m *Manager) ExtAuthz() []*Filter {
	var found []*Filter
	for _, f := range m.Filters {
		if f.Asks() {
			found = append(found, f)
		}
	}
	return found
}

func newConfig(root Value) *Config {
	c := &Config{Root: root, routes: make(map[string]Value), filters: make(map[string]Value)}
	static := root.Get("static_resources", "listeners").Items()
	c.addClusters(root.Get("static_resources", "clusters"), "")
	c.Remote = root.Get("dynamic_resources", "lds_config").Exists()
	var listeners []Value
	dumped := false
	for _, part := range root.Get("configs").Items() {
		switch part.Type() {
		case "envoy.admin.v3.BootstrapConfigDump":
			static = part.Get("bootstrap", "static_resources", "listeners").Items()
			c.Version = versionOf(part.Get("bootstrap", "node", "user_agent_build_version", "version"))
			c.addClusters(part.Get("bootstrap", "static_resources", "clusters"), "")
		case "envoy.admin.v3.ListenersConfigDump":
			listeners, dumped = append(listeners, dumpedListeners(part)...), true
		case "envoy.admin.v3.RoutesConfigDump":
			c.addRoutes(part)
		case clustersType:
			c.addClusters(part.Get("static_clusters"), "cluster")
			c.addClusters(part.Get("dynamic_active_clusters"), "cluster")
		case "envoy.admin.v3.EcdsConfigDump":
			c.addFilters(part)
		}
	}
	if !dumped {
		listeners = static
	}
	for _, v := range listeners {
		c.Listeners = append(c.Listeners, c.listener(v))
	}
	return c
}

func dumpedListeners(part Value) (listeners []Value) {
	for _, entry := range part.Get("static_listeners").Items() {
		listeners = append(listeners, entry.Get("listener"))
	}
	for _, entry := range part.Get("dynamic_listeners").Items() {
		if active := entry.Get("active_state", "listener"); active.Exists() {
			listeners = append(listeners, active)
		}
	}
	return listeners
}

func (c *Config) addRoutes(part Value) {
	for _, list := range []string{"static_route_configs", "dynamic_route_configs"} {
		for _, entry := range part.Get(list).Items() {
			if routes := entry.Get("route_config"); routes.Get("name").Text() != "" {
				c.routes[routes.Get("name").Text()] = routes
			}
		}
	}
}

func (c *Config) addFilters(part Value) {
	for _, entry := range part.Get("ecds_filters").Items() {
		filter := entry.Get("ecds_filter") // a TypedExtensionConfig
		c.filters[filter.Get("name").Text()] = filter.Get("typed_config")
	}
}

func (c *Config) listener(v Value) *Listener {
	socket := v.Get("address", "socket_address")
	l := &Listener{Value: v, Name: v.Get("name").Text(), Address: socket.Get("address").Text(), Port: socket.Get("port_value").Int()}
	for _, chain := range v.Get("filter_chains").Items() {
		l.add(c.chain(chain))
	}
	if last := v.Get("default_filter_chain"); last.Exists() {
		chain := c.chain(last)
		if chain != nil {
			chain.Default = true
		}
		l.add(chain)
	}
	return l
}

func (l *Listener) add(chain *Chain) {
	if chain != nil {
		l.Chains = append(l.Chains, chain)
	}
}

// chain returns nil for a chain that does not speak HTTP.
func (c *Config) chain(v Value) *Chain {
	for _, filter := range v.Get("filters").Items() {
		if message, name := filter.Get("typed_config").Unwrapped(); name == managerType {
			return &Chain{Value: v, Name: v.Get("name").Text(), Match: v.Get("filter_chain_match"), Manager: c.manager(message)}
		}
	}
	return nil
}

func (c *Config) manager(v Value) *Manager {
	m := &Manager{Value: v}
	for _, filter := range v.Get("http_filters").Items() {
		m.Filters = append(m.Filters, c.filter(filter))
	}
	switch rds := v.Get("rds", "route_config_name"); {
	case v.Get("route_config").Exists():
		m.Routes = newRoutes(v.Get("route_config"))
	case rds.Exists():
		m.RoutesFrom = "the route configuration " + strictQuote(rds.Text()) + " of a control plane (RDS)"
		if routes, ok := c.routes[rds.Text()]; ok {
			m.Routes = newRoutes(routes)
		}
	case v.Get("scoped_routes").Exists():
		m.RoutesFrom = "scoped_routes, which choose a route configuration by a header"
	}
	return m
}

func (c *Config) filter(v Value) *Filter {
	f := &Filter{Value: v, Name: v.Get("name").Text(), Disabled: v.Get("disabled").Bool()}
	config := v.Get("typed_config")
	if discovery := v.Get("config_discovery"); discovery.Exists() {
		config = discovery.Get("default_config")
		if sent, ok := c.filters[f.Name]; ok {
			config = sent
		} else if types := discovery.Get("type_urls").Texts(); !config.Exists() && len(types) == 1 {
			f.Type = typeName(types[0])
			return f
		}
	}
	f.Config, f.Type = config.Unwrapped()
	return f
}

// strictQuote makes a name of the configuration safe to print, on one line.
func strictQuote(name string) string {
	if len(name) > 128 {
		name = name[:128] + "..."
	}
	return "\"" + strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 || r == '"' {
			return '\uFFFD'
		}
		return r
	}, name) + "\""
}
