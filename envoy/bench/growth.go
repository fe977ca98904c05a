package main

import (
	"context"
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/coatcheck/coatcheck/internal/madepart"
	"github.com/coatcheck/coatcheck/sessions"
)

// growth is what `bench growth` was asked for.
type growth struct {
	coatcheck string
	sessions  int // of the large Redis
	rounds    int
	length    time.Duration
	docs      string
}

// measureGrowth measures whether a check costs more with more streams, sessions, bytes
// and fields, and how much memory sessions need.
func measureGrowth(args []string) error {
	var g growth
	flags := flag.NewFlagSet("growth", flag.ContinueOnError)
	quick := flags.Bool("quick", false, "with 50,000 sessions, and short, for development")
	flags.StringVar(&g.coatcheck, "coatcheck", "", "binary to measure; empty: it is built first")
	flags.IntVar(&g.sessions, "sessions", 1_000_000, "how many sessions the large Redis has")
	flags.IntVar(&g.rounds, "rounds", 5, "how often each is measured")
	flags.DurationVar(&g.length, "for", 1500*time.Millisecond, "how long each measurement takes")
	flags.StringVar(&g.docs, "docs", "", "folder of performance.md, which is written anew between its marks; empty: only print")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *quick {
		g.sessions, g.rounds, g.length = min(g.sessions, 50_000), min(g.rounds, 2), min(g.length, 400*time.Millisecond)
	}
	dir, err := os.MkdirTemp("", "coatcheck-bench-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if err := built(&g.coatcheck, dir); err != nil {
		return err
	}
	text, err := g.measure()
	if err != nil {
		return err
	}
	if g.docs == "" {
		fmt.Print(text)
		return nil
	}
	return madepart.Write(filepath.Join(g.docs, "performance.md"), "growth", text)
}

// Two worlds: one has as many sessions as are used, the other a million.
func (g *growth) measure() (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	programs := []program{coatcheck(lookupServer, g.coatcheck, nil, nil), stand(bareServer, self, "bare")}
	var fronts []front
	for _, p := range programs {
		fronts = append(fronts, front{name: p.name, server: p.name, filter: defaults})
	}
	small, err := newWorld(programs, fronts)
	if err != nil {
		return "", err
	}
	defer small.close()
	large, err := newWorld(programs, fronts)
	if err != nil {
		return "", err
	}
	defer large.close()
	var b strings.Builder
	if err := g.memory(&b, large); err != nil {
		return "", err
	}
	few, _, err := small.cookies(withSession)
	if err != nil {
		return "", err
	}
	table, err := g.tables(small, large, few)
	if err != nil {
		return "", err
	}
	after, err := memoryOf(large, small)
	if err != nil {
		return "", err
	}
	fmt.Fprintf(&b, "\nThe server of the %d sessions then used %d MiB, and the server of the 1,000 sessions %d MiB.\n", g.sessions, after[0]>>20, after[1]>>20)
	return describe() + "\n\n" + table + b.String(), nil
}

// memoryOf is the resident memory of the server of each world, in bytes.
func memoryOf(worlds ...*world) ([]int, error) {
	var all []int
	for _, w := range worlds {
		now, _, err := w.servers[lookupServer].process.Memory()
		if err != nil {
			return nil, err
		}
		all = append(all, now)
	}
	return all, nil
}

// A grown row is one variant in one world, with one shape.
type grownRow struct {
	label string
	world *world
	v     variant
	shape shape
	base  int // the row that the ratios are to
}

// tables measures, in rounds, tables with a base in each. What the bare server pays for a
// large request is the transport's, which a check pays as well.
func (g *growth) tables(small, large *world, few string) (string, error) {
	lookup := variant{name: lookupServer, front: lookupServer, server: lookupServer, cookies: few, status: http.StatusOK}
	fields, err := withFields(small)
	if err != nil {
		return "", err
	}
	many, cookie8k, headers, megabyte := lookup, lookup, lookup, lookup
	many.cookies = filepath.Join(large.dir, manyCookies)
	cookie8k.request = largeCookie
	headers.request = strings.Replace(browser, "Cookie: ", manyHeaders(100-strings.Count(browser, "\r\n")+2)+"Cookie: ", 1)
	megabyte.cookies = fields
	bare, bare8k, bareHeaders := lookup, cookie8k, headers
	for _, v := range []*variant{&bare, &bare8k, &bareHeaders} {
		v.name, v.front, v.server = bareServer, bareServer, bareServer
	}
	at8, at64 := shape{inFlight: 8}, shape{inFlight: 64}
	var streams []grownRow
	for _, n := range []int{1, 8, 64, 256, 1000} {
		streams = append(streams, grownRow{fmt.Sprint(n, " in flight"), small, lookup, shape{inFlight: n}, 0})
	}
	var sizes [][]grownRow
	for _, s := range []shape{at8, at64} {
		sizes = append(sizes, []grownRow{
			{fmt.Sprintf("1,000 sessions, a browser's request, %v", s), small, lookup, s, 0},
			{"the same again (the noise)", small, lookup, s, 0},
			{fmt.Sprintf("%d sessions, all used", g.sessions), large, many, s, 0},
			{"a cookie of 8 KB", small, cookie8k, s, 0},
			{"100 headers", small, headers, s, 0},
			{"1 MB of application fields in each session", small, megabyte, s, 0},
			{"bare server (V1), a browser's request", small, bare, s, 6},
			{"bare server, a cookie of 8 KB", small, bare8k, s, 6},
			{"bare server, 100 headers", small, bareHeaders, s, 6},
		})
	}
	var b strings.Builder
	for _, rows := range append([][]grownRow{streams}, sizes...) {
		if err := g.table(&b, rows); err != nil {
			return "", err
		}
	}
	return b.String(), nil
}

func (g *growth) table(b *strings.Builder, rows []grownRow) error {
	results := make([][]sample, len(rows))
	for round := range g.rounds {
		progress("growth: round %d of %d of %q and others", round+1, g.rounds, rows[0].label)
		for _, i := range shuffledNumbers(len(rows)) {
			got, err := rows[i].world.measure(rows[i].v, rows[i].shape, g.length/5, g.length)
			if err != nil {
				return fmt.Errorf("%s: %w", rows[i].label, err)
			}
			results[i] = append(results[i], got)
		}
	}
	b.WriteString("| | server us | ratio | Redis us | ratio | p50 us | p99 us |\n|---|---|---|---|---|---|---|\n")
	for i, row := range rows {
		m := func(column func(sample) float64) float64 { return median(each(results[i], column)) }
		fmt.Fprintf(b, "| %s | %.0f | %.2f | %.1f | %.2f | %.0f | %.0f |\n", row.label, m(serverCPU), ratio(results[i], results[row.base], serverCPU),
			m(redisCPU), ratio(results[i], results[row.base], redisCPU), m(p50), m(p99))
	}
	var all []sample
	for _, samples := range results {
		all = append(all, samples...)
	}
	fmt.Fprintf(b, "\n%s\n\n", stillness(all))
	return nil
}

// manyHeaders are n further headers of 40 bytes or so.
func manyHeaders(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "X-Application-Header-%d: value-%d-of-some-length\r\n", i, i)
	}
	return b.String()
}

// withFields makes 100 sessions with 1 MB of application fields each.
func withFields(w *world) (string, error) {
	const count, fields = 100, 16
	ids, err := signIn(w.redis, count)
	if err != nil {
		return "", err
	}
	client := w.redis.Client()
	defer func() { _ = client.Close() }()
	for _, text := range ids {
		id, err := sessions.ParseID(text)
		if err != nil {
			return "", err
		}
		values := make([]string, 0, 2*fields)
		for i := range fields {
			values = append(values, fmt.Sprint("field-", i), strings.Repeat("x", 1<<20/fields))
		}
		if err := client.HSet(context.Background(), "session:"+string(id.Key()), values).Err(); err != nil {
			return "", err
		}
	}
	return w.cookieFile("fields", ids)
}
