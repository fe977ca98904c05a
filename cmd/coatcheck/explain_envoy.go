package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/coatcheck/coatcheck/internal/envoyconfig"
)

// A routed is the way of the request through Envoy, and the headers that Envoy sends
// to Coatcheck.
type routed struct {
	envoyconfig.Way
	headers map[string]string

	hidesSession bool // no header arrives in which there could be a session ID
}

// route finds what Envoy does with the request; nil without --envoy. A session ID comes
// in the Cookie header, and with bearer in Authorization, too.
func (x *explainer) route(ctx context.Context, bearer bool) (*routed, error) {
	if len(x.envoy) == 0 {
		return nil, nil
	}
	ways, err := x.ways(ctx)
	if err != nil {
		return nil, err
	}
	if !envoyconfig.Settled(ways) {
		return nil, undecided(ways)
	}
	way := ways[0]
	if err := x.fill(&way); err != nil {
		return nil, err
	}
	headers, open := way.Headers(x.request.Headers)
	if len(open) > 0 {
		way.Notes = append(way.Notes, "whether Envoy shows Coatcheck these headers cannot be said, and they are left out: "+strings.Join(open, ", "))
	}
	hidden := way.Asks && !arrives(&way, "cookie")
	if hidden {
		way.Notes = append(way.Notes, "Envoy does not show Coatcheck the Cookie header, and so no session in it: add cookie to allowed_headers of ext_authz")
	}
	return &routed{way, headers, hidden && (!bearer || !arrives(&way, "authorization"))}, nil
}

// arrives reports whether Envoy shows Coatcheck a header, or may.
func arrives(way *envoyconfig.Way, name string) bool {
	sent, open := way.Headers(map[string]string{name: ""})
	return len(sent)+len(open) > 0
}

// ways are those of one source, or of a config dump with the values of a file.
func (x *explainer) ways(ctx context.Context) ([]envoyconfig.Way, error) {
	if len(x.envoy) > 2 {
		return nil, usageError{errors.New("--envoy names one configuration, and with a config dump the file with its values")}
	}
	var found [][]envoyconfig.Way
	var names []string
	for _, source := range x.envoy {
		config, err := envoyconfig.Load(ctx, source)
		if err != nil {
			return nil, fmt.Errorf("--envoy: %w", err)
		}
		ways, err := config.Find(x.envoyRequest(), envoyconfig.Where{Listener: x.listener, Filter: x.filter})
		if err != nil {
			return nil, fmt.Errorf("--envoy %s: %w", config.Source, err)
		}
		found, names = append(found, ways), append(names, config.Source)
	}
	if len(found) == 1 {
		return found[0], nil
	}
	if !hides(found[0]) {
		slices.Reverse(found)
	}
	ways, err := envoyconfig.Reveal(found[0], found[1])
	if err != nil {
		return nil, fmt.Errorf("--envoy: %s and %s are not the same configuration: %w", names[0], names[1], err)
	}
	return ways, nil
}

func hides(ways []envoyconfig.Way) bool {
	return slices.ContainsFunc(ways, func(w envoyconfig.Way) bool { return len(w.Hidden) > 0 })
}

// envoyRequest is the request as Envoy's routes look at it. Headers that hold an ID
// are not known here, and neither is how Envoy joins those that came twice.
func (x *explainer) envoyRequest() envoyconfig.Request {
	return envoyconfig.Request{
		Scheme: x.request.Scheme, Method: x.request.Method, Host: x.request.Host, Path: x.request.Path,
		Headers: x.request.Headers, Hidden: append([]string{"cookie", "authorization"}, x.repeated...),
	}
}

// maxWays bounds how many ways are told: a route that chance decides is seldom alone.
const maxWays = 20

// undecided says of each way what leads to it.
func undecided(ways []envoyconfig.Way) error {
	var b strings.Builder
	b.WriteString("Envoy's configuration does not decide what becomes of the request:")
	for i, w := range ways {
		if i == maxWays {
			fmt.Fprintf(&b, "\n  and %d more", len(ways)-i)
			break
		}
		condition := "else"
		if w.If != "" {
			condition = "if " + w.If
		}
		does := "context_extensions " + visible(pairs(w.Extensions))
		if !w.Asks {
			does = "Envoy does not ask Coatcheck: " + w.WhyNot
		}
		fmt.Fprintf(&b, "\n  %s: %s, %s", condition, w.Route, does)
	}
	b.WriteString("\nname the entries that you mean with --policy and --extension, without --envoy")
	return errors.New(b.String())
}

// fill takes the values that a config dump hides from --policy and --extension.
func (x *explainer) fill(way *envoyconfig.Way) error {
	var missing []string
	for _, key := range way.Hidden {
		if value, ok := x.given[key]; ok {
			way.Extensions[key] = value
		} else {
			missing = append(missing, key)
		}
	}
	for key := range x.given {
		if !slices.Contains(way.Hidden, key) {
			return usageError{fmt.Errorf("%.64q: with --envoy the route says what it sends; --policy and --extension are for values that a config dump hides", key)}
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("--envoy: a config dump hides the values of context_extensions, here of %s on %s: name Envoy's file, too (--envoy envoy.yaml), or the values (--extension %s=...)",
			strings.Join(missing, ", "), way.Route, missing[0])
	}
	return nil
}

// pairs are context_extensions on one line, sorted.
func pairs(extensions map[string]string) string {
	var list []string
	for _, key := range slices.Sorted(maps.Keys(extensions)) {
		list = append(list, key+"="+extensions[key])
	}
	if list == nil {
		return "none"
	}
	return strings.Join(list, " ")
}
