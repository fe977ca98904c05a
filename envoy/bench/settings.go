package main

import (
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	extauthzv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_authz/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/coatcheck/coatcheck/envoy/e2e/rig"
	"github.com/coatcheck/coatcheck/internal/madepart"
)

// A setting is a part of envoy.yaml, and how it is taken out.
type setting struct {
	name    string
	without func(*bootstrapv3.Bootstrap)
}

func ofFilter(name string, without func(*extauthzv3.ExtAuthz)) setting {
	return setting{name, func(b *bootstrapv3.Bootstrap) { rig.ChangeFilter(b, without) }}
}

func ofFront(name string, without func(*hcmv3.HttpConnectionManager)) setting {
	return setting{name, func(b *bootstrapv3.Bootstrap) { rig.ChangeFront(b, without) }}
}

// settings are those that Envoy works for on each request: of the filter first, and then
// of the connection manager. What is not here acts on connections or on the process.
var settings = []setting{
	ofFilter("allowed_headers", func(e *extauthzv3.ExtAuthz) { e.AllowedHeaders = nil }),
	ofFilter("encode_raw_headers", func(e *extauthzv3.ExtAuthz) { e.EncodeRawHeaders = false }),
	ofFilter("decoder_header_mutation_rules", func(e *extauthzv3.ExtAuthz) { e.DecoderHeaderMutationRules = nil }),
	ofFilter("validate_mutations", func(e *extauthzv3.ExtAuthz) { e.ValidateMutations = false }),
	ofFilter("enforce_response_header_limits", func(e *extauthzv3.ExtAuthz) { e.EnforceResponseHeaderLimits = false }),
	ofFilter("emit_filter_state_stats", func(e *extauthzv3.ExtAuthz) { e.EmitFilterStateStats = false }),
	ofFilter("retry_policy", func(e *extauthzv3.ExtAuthz) { e.GetGrpcService().RetryPolicy = nil }),
	ofFront("early_header_mutation", func(m *hcmv3.HttpConnectionManager) { m.EarlyHeaderMutationExtensions = nil }),
	ofFront("header_mutation of trailers", func(m *hcmv3.HttpConnectionManager) {
		m.HttpFilters = slices.DeleteFunc(m.HttpFilters, func(h *hcmv3.HttpFilter) bool { return h.GetName() == "envoy.filters.http.header_mutation" })
	}),
	ofFront("the route that refuses ambiguous paths", func(m *hcmv3.HttpConnectionManager) {
		host := m.GetRouteConfig().GetVirtualHosts()[0]
		host.Routes = host.GetRoutes()[1:]
	}),
	ofFront("normalize_path, merge_slashes, path_with_escaped_slashes_action", func(m *hcmv3.HttpConnectionManager) {
		m.NormalizePath, m.MergeSlashes, m.PathWithEscapedSlashesAction = nil, false, hcmv3.HttpConnectionManager_IMPLEMENTATION_SPECIFIC_DEFAULT
	}),
	ofFront("strip_any_host_port, strip_trailing_host_dot", func(m *hcmv3.HttpConnectionManager) {
		m.StripPortMode, m.StripTrailingHostDot = nil, false
	}),
	ofFront("headers_with_underscores_action", func(m *hcmv3.HttpConnectionManager) {
		m.GetCommonHttpProtocolOptions().HeadersWithUnderscoresAction = corev3.HttpProtocolOptions_ALLOW
	}),
	ofFront("use_remote_address", func(m *hcmv3.HttpConnectionManager) { m.UseRemoteAddress = nil }),
	ofFront("request_headers_timeout, stream_idle_timeout", func(m *hcmv3.HttpConnectionManager) {
		m.RequestHeadersTimeout, m.StreamIdleTimeout = nil, durationpb.New(0)
	}),
	ofFront("access_log (to a file)", func(m *hcmv3.HttpConnectionManager) { m.AccessLog = nil }),
}

// everything is envoy.yaml as it is, with which each setting is compared.
const everything = "all of envoy.yaml"

// measureSettings measures what each setting of envoy.yaml costs Envoy.
func measureSettings(args []string) error {
	flags := flag.NewFlagSet("settings", flag.ContinueOnError)
	binary := flags.String("coatcheck", "", "binary that answers; empty: it is built first")
	rounds := flags.Int("rounds", 40, "how often each is measured")
	length := flags.Duration("for", 150*time.Millisecond, "how long each measurement takes")
	inFlight := flags.Int("inflight", 8, "checks in flight")
	only := flags.String("only", "", "regular expression for the names of settings; empty: all")
	docs := flags.String("docs", "", "folder of performance.md, which is written anew between its marks; empty: only print")
	if err := flags.Parse(args); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "coatcheck-bench-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if err := built(binary, dir); err != nil {
		return err
	}
	wanted, err := regexp.Compile(*only)
	if err != nil {
		return err
	}
	fronts := settingFronts(wanted)
	server := coatcheck(lookupServer, *binary, nil, nil)
	server.plain = true // reading its metrics takes longer than a measurement
	w, err := newWorld([]program{server}, fronts)
	if err != nil {
		return err
	}
	defer w.close()
	text, err := settingsTable(w, fronts, shape{inFlight: *inFlight}, *rounds, *length)
	if err != nil || *docs == "" {
		fmt.Print(text)
		return err
	}
	return madepart.Write(filepath.Join(*docs, "performance.md"), "settings", describe()+"\n\n"+text)
}

// settingFronts are envoy.yaml, Envoy's defaults, no filter, and envoy.yaml without
// each setting.
func settingFronts(only *regexp.Regexp) []front {
	all := []front{
		{name: everything, server: lookupServer, filter: ours, logs: true},
		{name: "with the filter's " + string(defaults), server: lookupServer, filter: defaults, logs: true},
		{name: "without the filter", filter: noFilter, logs: true},
	}
	for _, s := range settings {
		if only.MatchString(s.name) {
			all = append(all, front{name: "without " + s.name, server: lookupServer, filter: ours, logs: true, change: s.without})
		}
	}
	return all
}

// settingsTable measures each front beside the first one, again and again: what a setting
// costs is less than what a machine's speed changes within a second.
func settingsTable(w *world, fronts []front, s shape, rounds int, length time.Duration) (string, error) {
	cookies, _, err := w.cookies(withSession)
	if err != nil {
		return "", err
	}
	own, base := make([][]sample, len(fronts)), make([][]sample, len(fronts))
	measure := func(f front, into *[]sample) error {
		v := variant{name: f.name, front: f.name, server: f.server, cookies: cookies, status: http.StatusOK}
		got, err := w.measure(v, s, length/5, length)
		*into = append(*into, got)
		return err
	}
	for round := range rounds {
		if round%10 == 0 {
			progress("settings: round %d of %d", round+1, rounds)
		}
		for _, i := range shuffledNumbers(len(fronts)) {
			for _, first := range shuffledNumbers(2) {
				if first == 0 {
					err = measure(fronts[0], &base[i])
				} else {
					err = measure(fronts[i], &own[i])
				}
				if err != nil {
					return "", err
				}
			}
		}
	}
	var b strings.Builder
	b.WriteString("| | Envoy us | ratio | server ratio |\n|---|---|---|---|\n")
	var all []sample
	for i, f := range fronts {
		name := f.name
		if i == 0 {
			name += ", twice (the noise)"
		}
		fmt.Fprintf(&b, "| %s | %.0f | %.2f | %s |\n", name, median(each(own[i], envoyCPU)), ratio(own[i], base[i], envoyCPU), known(ratio(own[i], base[i], serverCPU), "%.2f"))
		all = append(all, own[i]...)
	}
	fmt.Fprintf(&b, "\n%v, %d pairs of measurements. %s\n", s, rounds, stillness(all))
	return b.String(), nil
}
