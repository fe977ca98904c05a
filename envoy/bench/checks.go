package main

import (
	"context"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/coatcheck/coatcheck/envoy/e2e/rig"
)

// The names of the servers, and with "again" of the same program a second time.
const (
	bareServer   = "bare"
	bareAgain    = "bare again"
	naiveServer  = "naive"
	lookupServer = "lookup"
	hitServer    = "hit"
)

// A run is what `bench checks` was asked for.
type run struct {
	coatcheck string
	peers     []peer
	rounds    int
	budget    time.Duration // for all measurements together
	docs      string        // folder of the pages that it writes; empty: none
}

// measureChecks measures what a check costs.
func measureChecks(args []string) error {
	var r run
	flags := flag.NewFlagSet("checks", flag.ContinueOnError)
	quick := flags.Bool("quick", false, "2 minutes and fewer rounds, for development; numbers to look at, not to keep")
	peers := flags.String("peers", "", "YAML file with further ext_authz servers (docs/performance.md)")
	flags.StringVar(&r.coatcheck, "coatcheck", "", "binary to measure; empty: it is built first")
	flags.DurationVar(&r.budget, "for", 9*time.Minute, "time for all measurements together")
	flags.IntVar(&r.rounds, "rounds", 5, "how often each is measured")
	flags.StringVar(&r.docs, "docs", "", "folder of performance.md, which is written anew between its marks; empty: only print")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *quick {
		r.rounds, r.budget = min(r.rounds, 2), min(r.budget, 100*time.Second)
	}
	var err error
	if r.peers, err = readPeers(*peers); err != nil {
		return err
	}
	return r.measure()
}

func (r *run) measure() error {
	dir, err := os.MkdirTemp("", "coatcheck-bench-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if err := built(&r.coatcheck, dir); err != nil {
		return err
	}
	programs, err := r.programs()
	if err != nil {
		return err
	}
	w, err := newWorld(programs, fronts(programs))
	if err != nil {
		return err
	}
	defer w.close()
	variants, err := r.variants(w)
	if err != nil {
		return err
	}
	results, shapes, err := r.rounded(w, variants)
	if err != nil {
		return err
	}
	page := checksPage{results: results, shapes: shapes, variants: variants, rounds: r.rounds, machine: describe()}
	return page.write(r.docs)
}

// programs are the servers that are compared.
func (r *run) programs() ([]program, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	programs := []program{
		stand(bareServer, self, "bare"), stand(bareAgain, self, "bare"), stand(naiveServer, self, "naive"),
		coatcheck(lookupServer, r.coatcheck, nil, nil),
	}
	if hasNearCache(r.coatcheck) {
		programs = append(programs, coatcheck(hitServer, r.coatcheck, nearCache, nil))
	}
	for _, p := range r.peers {
		programs = append(programs, p.program())
	}
	return programs, nil
}

// nearCache is the environment that switches the near cache on.
var nearCache = []string{"COATCHECK_NEAR_CACHE_ENABLED=true"}

// hasNearCache reports whether a binary has the key.
func hasNearCache(binary string) bool {
	keys, err := exec.Command(binary, "config", "keys").Output()
	return err == nil && strings.Contains(string(keys), "near_cache.enabled")
}

// fronts are a listener for each server with each settings of the filter, and one
// without the filter.
func fronts(programs []program) []front {
	all := []front{{name: string(noFilter), filter: noFilter}}
	for _, f := range []filter{defaults, ours} {
		for _, p := range programs {
			all = append(all, front{name: frontName(p.name, f), server: p.name, filter: f})
		}
	}
	return all
}

func frontName(server string, f filter) string { return server + ", " + string(f) }

// variants are the rows of one table, for each of the filter's settings; the first is
// the row without a filter.
func (r *run) variants(w *world) (map[filter][]variant, error) {
	cookies := make(map[string]string)
	for _, kind := range []string{withSession, withoutCookie, withMalformed, withUnknown} {
		path, _, err := w.cookies(kind)
		if err != nil {
			return nil, err
		}
		cookies[kind] = path
	}
	client := w.redis.Client()
	defer func() { _ = client.Close() }()
	ids, err := idsOf(cookies[withSession])
	if err != nil {
		return nil, err
	}
	if err := signInNaive(context.Background(), client, ids); err != nil {
		return nil, err
	}
	all := map[filter][]variant{noFilter: {{
		name: string(noFilter), front: string(noFilter), cookies: cookies[withSession], status: http.StatusOK,
	}}}
	for _, f := range []filter{defaults, ours} {
		if all[f], err = r.rows(w, f, cookies); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// The names of the rows.
const (
	rowBare      = "bare, always allows (V1)"
	rowBareAgain = "V1 again (the noise)"
	rowNaive     = "naive: GET, EXPIRE, JSON"
	rowLookup    = "Coatcheck: lookup"
	rowHit       = "Coatcheck: near hit"
	rowNone      = "Coatcheck: no cookie"
	rowMalformed = "Coatcheck: malformed cookie"
	rowUnknown   = "Coatcheck: unknown ID"
)

func (r *run) rows(w *world, f filter, cookies map[string]string) ([]variant, error) {
	row := func(name, server, kind string, status int) variant {
		return variant{name: name, front: frontName(server, f), server: server, cookies: cookies[kind], status: status}
	}
	rows := []variant{
		row(rowBare, bareServer, withSession, http.StatusOK),
		row(rowBareAgain, bareAgain, withSession, http.StatusOK),
		row(rowNaive, naiveServer, withSession, http.StatusOK),
		row(rowLookup, lookupServer, withSession, http.StatusOK),
	}
	if w.servers[hitServer] != nil {
		hit := row(rowHit, hitServer, withSession, http.StatusOK)
		hit.hits = true
		rows = append(rows, hit)
	}
	rows = append(rows,
		row(rowNone, lookupServer, withoutCookie, http.StatusUnauthorized),
		row(rowMalformed, lookupServer, withMalformed, http.StatusUnauthorized),
		row(rowUnknown, lookupServer, withUnknown, http.StatusUnauthorized))
	for _, p := range r.peers {
		path, err := p.sessions(w, cookies[withSession])
		if err != nil {
			return nil, err
		}
		v := row(p.name, p.name, withSession, p.status)
		v.cookies = path
		rows = append(rows, v)
	}
	return rows, nil
}

// closed are the closed loops.
var closed = []shape{{inFlight: 64}, {inFlight: 8}, {inFlight: 1}}

// rounded measures everything in rounds. In a round each shape takes every variant, in a
// random order. The open loop's rate is a third of what the bare server answered at 64
// in flight before the first round.
func (r *run) rounded(w *world, variants map[filter][]variant) (table, []shape, error) {
	var all []variant
	for _, rows := range variants {
		all = append(all, rows...)
	}
	shapes := append(closed[:len(closed):len(closed)], shape{})
	length := r.budget / time.Duration(r.rounds*len(shapes)*len(all))
	warm, length := length/6, length*4/6 // the rest is for readings and answers that are late
	capacity, err := capacityOf(w, variants[defaults][0])
	if err != nil {
		return nil, nil, err
	}
	shapes[len(closed)].rate = capacity / 3
	results := make(table)
	begin := time.Now()
	for round := range r.rounds {
		for _, s := range shapes {
			progress("round %d of %d, %v; %v of about %v", round+1, r.rounds, s, time.Since(begin).Round(time.Second), r.budget)
			for _, v := range shuffled(all) {
				got, err := w.measure(v, s, warm, length)
				if err != nil {
					return nil, nil, err
				}
				results.add(s, v.front+v.name, got)
			}
		}
	}
	return results, shapes, nil
}

// capacityOf is the most that a variant answers in a second.
func capacityOf(w *world, v variant) (float64, error) {
	most := 0.0
	for range 3 {
		got, err := w.measure(v, closed[0], time.Second/4, time.Second)
		if err != nil {
			return 0, err
		}
		most = max(most, got.rate)
	}
	return most, nil
}

func progress(format string, args ...any) { fmt.Fprintf(os.Stderr, "bench: "+format+"\n", args...) }

// built builds coatcheck into a folder, unless a binary is named.
func built(binary *string, dir string) error {
	if *binary != "" {
		return nil
	}
	progress("building coatcheck")
	*binary = filepath.Join(dir, "coatcheck")
	return rig.Build(*binary)
}
