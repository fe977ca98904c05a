// Package envoyconfig reads what an Envoy is configured to do, as far as Coatcheck
// needs to know it:
//
//	config, err := envoyconfig.Load(ctx, "envoy.yaml") // or http://127.0.0.1:9901
//	...
//	found, err := config.Find(envoyconfig.Request{Method: "GET", Host: "shop.example", Path: "/admin"}, envoyconfig.Where{})
//	for _, way := range found {
//		way.Extensions // the context_extensions that Envoy sends to Coatcheck
//	}
//
// It takes a bootstrap file, in YAML or JSON, and a config dump: from a file or from
// the admin interface, where listeners, routes and filters that a control plane has
// sent stand, too (LDS, RDS, ECDS), as in Istio.
//
// # How it reads
//
// Leniently: extensions that it does not know do not make the reading fail, because an
// operator's Envoy has many. A [Value] is a part of the text; the types, [Listener],
// [Chain], [Manager], [Filter], [Routes], [VirtualHost] and [Route], name what
// Coatcheck depends on, and each keeps its Value, so that a reader can look up more.
// The generated types of go-control-plane are not used: with unknown fields discarded
// they would forget a condition of a route that a newer Envoy has, and a route would
// be named that Envoy does not take.
//
// # How it decides
//
// [Config.Find] does what Envoy 1.40 does: host and path are normalised as the
// connection manager is told to, then the virtual host and the first route that
// matches are found, and the settings of ext_authz for the route are merged. What the
// configuration alone cannot decide, such as a runtime_fraction, is not guessed: then
// there are several [Way] values with their conditions. A test in envoy/e2e compares it
// with a real Envoy, for each kind of domain, match and setting.
//
// A config dump hides the values of context_extensions, which Envoy's API marks as
// sensitive. [Reveal] takes them from the file of the same configuration.
package envoyconfig
