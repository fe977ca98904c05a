package main

import (
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// comparison is what `bench compare` was asked for.
type comparison struct {
	old, new                       string
	oldEnvironment, newEnvironment string
	oldEnvoy, newEnvoy             string
	what                           string
	filter                         string
	bare                           bool
	shapes                         []shape
	rounds                         int
	length                         time.Duration
}

// compare measures two coatcheck binaries, or one with two configurations, in turn.
func compare(args []string) error {
	c, err := parseComparison(args)
	if err != nil {
		return err
	}
	w, err := c.world()
	if err != nil {
		return err
	}
	defer w.close()
	variants, err := c.variants(w)
	if err != nil {
		return err
	}
	results := make(table)
	for round := range c.rounds {
		fmt.Fprintf(os.Stderr, "compare: round %d of %d\n", round+1, c.rounds)
		for _, s := range c.shapes {
			for _, v := range shuffled(variants) {
				got, err := w.measure(v, s, c.length/5, c.length)
				if err != nil {
					return err
				}
				results.add(s, v.name, got)
			}
		}
	}
	return c.print(variants, results)
}

func parseComparison(args []string) (*comparison, error) {
	c := new(comparison)
	flags := flag.NewFlagSet("compare", flag.ContinueOnError)
	flags.StringVar(&c.old, "old", "", "a coatcheck binary")
	flags.StringVar(&c.new, "new", "", "the binary to compare with it; empty: the same")
	flags.StringVar(&c.oldEnvironment, "old-env", "", "variables for the old one: NAME=value, several apart by blanks")
	flags.StringVar(&c.newEnvironment, "new-env", "", "variables for the new one")
	flags.StringVar(&c.oldEnvoy, "old-envoy", "", "an Envoy configuration for the old one, instead of envoy.yaml")
	flags.StringVar(&c.newEnvoy, "new-envoy", "", "an Envoy configuration for the new one")
	flags.StringVar(&c.what, "what", "session", "what is sent: session (1,000 sessions in turn), large (the same, beside 8 KB of other cookies), none (no cookie), malformed, unknown")
	flags.StringVar(&c.filter, "filter", "defaults", "settings of ext_authz: defaults (Envoy's), or ours (envoy.yaml's)")
	flags.BoolVar(&c.bare, "bare", false, "measure a bare server that always allows, too, and print ratios to it")
	inFlight := flags.String("inflight", "1,8,64", "checks in flight")
	rate := flags.Float64("rate", 0, "also an open loop with so many requests a second")
	flags.IntVar(&c.rounds, "rounds", 5, "how often each is measured")
	flags.DurationVar(&c.length, "for", time.Second, "how long each measurement takes")
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	if c.old == "" {
		return nil, errors.New("compare: -old names a coatcheck binary")
	}
	if c.new == "" {
		c.new = c.old
	}
	for text := range strings.SplitSeq(*inFlight, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(text))
		if err != nil || n < 1 {
			return nil, fmt.Errorf("compare: -inflight %q: numbers from 1, separated by commas", *inFlight)
		}
		c.shapes = append(c.shapes, shape{inFlight: n})
	}
	if *rate > 0 {
		c.shapes = append(c.shapes, shape{rate: *rate})
	}
	return c, nil
}

// The names of the rows. "old again" is a second process of the first binary: its ratio
// to the first is the noise.
const oldOne, oldAgain, newOne, bareOne = "old", "old again", "new", "bare"

func (c *comparison) world() (*world, error) {
	settings := map[string]filter{"defaults": defaults, "ours": ours}[c.filter]
	if settings == "" {
		return nil, fmt.Errorf("compare: -filter %q is neither defaults nor ours", c.filter)
	}
	programs := []program{
		coatcheck(oldOne, c.old, strings.Fields(c.oldEnvironment), nil),
		coatcheck(oldAgain, c.old, strings.Fields(c.oldEnvironment), nil),
		coatcheck(newOne, c.new, strings.Fields(c.newEnvironment), nil),
	}
	if c.bare {
		self, err := os.Executable()
		if err != nil {
			return nil, err
		}
		programs = append(programs, stand(bareOne, self, "bare"))
	}
	var fronts []front
	for _, p := range programs {
		f := front{name: p.name, server: p.name, filter: settings, file: c.oldEnvoy}
		if p.name == newOne {
			f.file = c.newEnvoy
		}
		fronts = append(fronts, f)
	}
	return newWorld(programs, fronts)
}

func (c *comparison) variants(w *world) ([]variant, error) {
	kind, request := c.what, browser
	if c.what == "large" {
		kind, request = withSession, largeCookie
	}
	cookies, status, err := w.cookies(kind)
	if err != nil {
		return nil, err
	}
	var variants []variant
	for _, name := range []string{oldOne, oldAgain, newOne, bareOne} {
		if w.servers[name] == nil {
			continue
		}
		v := variant{name: name, front: name, server: name, cookies: cookies, request: request, status: status}
		if name == bareOne {
			v.status = http.StatusOK
		}
		variants = append(variants, v)
	}
	return variants, nil
}

// print prints a row for each variant and shape: medians, and medians of the ratios
// within each round to the old binary.
func (c *comparison) print(variants []variant, results table) error {
	fmt.Printf("%s, filter: %s, %d rounds of %v; medians, and medians of the ratios within a round to old (xold)", c.what, c.filter, c.rounds, c.length)
	if c.bare {
		fmt.Print(" and to bare (xbare)")
	}
	fmt.Print(".\nCPU in us a check. \"old again\" is a second process of the old binary: the noise.\n\n")
	t := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "\t\tserver\txold\txbare\tRedis\txold\tEnvoy\txold\tp50 us\txold\tp99 us\txold\tchecks/s\tallocs\tothers\t")
	for _, s := range c.shapes {
		for _, v := range variants {
			own, old, bare := results[s][v.name], results[s][oldOne], results[s][bareOne]
			x := func(to []sample, column func(sample) float64) string {
				if len(to) == 0 || ratio(own, to, column) == 0 {
					return "-"
				}
				return fmt.Sprintf("%.2f", ratio(own, to, column))
			}
			m := func(column func(sample) float64) float64 { return median(each(own, column)) }
			fmt.Fprintf(t, "%v\t%s\t%.1f\t%s\t%s\t%.1f\t%s\t%.1f\t%s\t%.0f\t%s\t%.0f\t%s\t%.0f\t%.0f\t%.2f\t\n", s, v.name,
				m(serverCPU), x(old, serverCPU), x(bare, serverCPU), m(redisCPU), x(old, redisCPU), m(envoyCPU), x(old, envoyCPU),
				m(p50), x(old, p50), m(p99), x(old, p99), m(answerRate), m(allocations), m(others))
		}
	}
	return t.Flush()
}

// A table has the samples of each variant, by shape and name, a round each.
type table map[shape]map[string][]sample

func (t table) add(s shape, name string, got sample) {
	if t[s] == nil {
		t[s] = make(map[string][]sample)
	}
	t[s][name] = append(t[s][name], got)
}

// shuffled is a copy in random order, so that no variant always follows the same one.
func shuffled(variants []variant) []variant {
	mixed := make([]variant, len(variants))
	for to, from := range shuffledNumbers(len(variants)) {
		mixed[to] = variants[from]
	}
	return mixed
}
