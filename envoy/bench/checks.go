package main

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"text/tabwriter"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"

	"github.com/coatcheck/coatcheck/envoy/e2e/rig"
)

// measureChecks measures what a check costs.
func measureChecks(args []string) error {
	flags := flag.NewFlagSet("checks", flag.ExitOnError)
	rounds := flags.Int("rounds", 5, "how often each is measured")
	requests := flags.Int("requests", 6000, "requests of a measurement with 64 clients; fewer with fewer")
	if err := flags.Parse(args); err != nil {
		return err
	}
	return run(*rounds, *requests)
}

// A variant is one server behind an Envoy of its own.
type variant struct {
	name  string
	stack *rig.Stack
}

func run(rounds, requests int) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	// "again" repeats the first: the difference between the two is the noise.
	variants := []*variant{{name: "bare"}, {name: "coatcheck"}, {name: "bare again"}}
	for _, v := range variants {
		options := rig.Options{Bootstrap: answerItself, Patient: true}
		if v.name != "coatcheck" {
			options.Coatcheck = self
		}
		if v.stack, err = rig.Start(options); err != nil {
			return err
		}
		defer v.stack.Close()
	}
	cookies, err := login(variants[1].stack, 1000)
	if err != nil {
		return err
	}
	results := make(map[string]map[int][]result)
	for round := range rounds {
		for _, clients := range []int{64, 8, 1} {
			order := slices.Clone(variants)
			if round%2 == 1 {
				slices.Reverse(order)
			}
			for _, v := range order {
				count := requests * (clients + 36) / 100
				if _, err := measure(v.stack, cookies, clients, count/10); err != nil {
					return err
				}
				r, err := measure(v.stack, cookies, clients, count)
				if err != nil {
					return fmt.Errorf("%s with %d clients: %w", v.name, clients, err)
				}
				if results[v.name] == nil {
					results[v.name] = make(map[int][]result)
				}
				results[v.name][clients] = append(results[v.name][clients], r)
			}
		}
	}
	return report(variants, results)
}

// answerItself lets Envoy answer instead of the upstream, and keeps its access
// log out of the measurement.
func answerItself(b *bootstrapv3.Bootstrap) {
	for _, cluster := range b.GetStaticResources().GetClusters() {
		cluster.HealthChecks = nil // the bare server does not answer them
	}
	rig.ChangeFront(b, func(m *hcmv3.HttpConnectionManager) {
		m.AccessLog = nil
		m.GetRouteConfig().GetVirtualHosts()[0].Routes = []*routev3.Route{{
			Match: &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"}},
			Action: &routev3.Route_DirectResponse{DirectResponse: &routev3.DirectResponseAction{
				Status: 200, Body: &corev3.DataSource{Specifier: &corev3.DataSource_InlineString{InlineString: "ok"}},
			}},
		}}
	})
}

// report prints medians, and the median of each round's ratio to bare.
func report(variants []*variant, results map[string]map[int][]result) error {
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "clients\tserver\tserver CPU us\tx bare\tRedis CPU us\tEnvoy CPU us\tp50 us\tx bare\tp99 us\tx bare\trequests/s\t")
	for _, clients := range []int{64, 8, 1} {
		for _, v := range variants {
			own, bare := results[v.name][clients], results["bare"][clients]
			ratio := func(of func(result) float64) float64 {
				var ratios []float64
				for i := range own {
					ratios = append(ratios, of(own[i])/of(bare[i]))
				}
				return median(ratios)
			}
			mid := func(of func(result) float64) float64 {
				var values []float64
				for _, r := range own {
					values = append(values, of(r))
				}
				return median(values)
			}
			server := func(r result) float64 { return r.server }
			p50 := func(r result) float64 { return micros(r.p50) }
			p99 := func(r result) float64 { return micros(r.p99) }
			fmt.Fprintf(table, "%d\t%s\t%.0f\t%.2f\t%.0f\t%.0f\t%.0f\t%.2f\t%.0f\t%.2f\t%.0f\t\n", clients, v.name,
				mid(server), ratio(server),
				mid(func(r result) float64 { return r.redis }), mid(func(r result) float64 { return r.envoy }),
				mid(p50), ratio(p50), mid(p99), ratio(p99), mid(func(r result) float64 { return r.rate }))
		}
	}
	return table.Flush()
}

func median(values []float64) float64 {
	slices.Sort(values)
	return values[len(values)/2]
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
