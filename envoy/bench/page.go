package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/coatcheck/coatcheck/internal/madepart"
)

// checksPage is the generated part of docs/performance.md.
type checksPage struct {
	results  table
	shapes   []shape
	variants map[filter][]variant
	rounds   int
	machine  string
}

// write puts the tables into performance.md of a folder and the plots beside it; without
// a folder it prints the tables.
func (p checksPage) write(folder string) error {
	if folder == "" {
		fmt.Print(p.text())
		return nil
	}
	if err := madepart.Write(filepath.Join(folder, "performance.md"), "bench", p.text()); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(folder, "performance"), 0o755); err != nil {
		return err
	}
	for _, f := range []filter{defaults, ours} {
		for name, c := range map[string]chart{"cpu": p.cpu(f), "latency": p.latency(f)} {
			if err := os.WriteFile(filepath.Join(folder, plotName(name, f)), []byte(c.svg()), 0o644); err != nil {
				return err
			}
		}
	}
	return nil
}

// plotName is a plot's path from the pages.
func plotName(name string, f filter) string {
	return "performance/" + name + "-" + map[filter]string{defaults: "defaults", ours: "envoy-yaml"}[f] + ".svg"
}

func (p checksPage) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n\n%s %d rounds, medians.\n", p.machine, stillness(p.samples()), p.rounds)
	fmt.Fprintf(&b, "Envoy's own CPU with envoy.yaml's settings, as a ratio to its default settings, with the lookup: %s.\n", p.envoysShare())
	for _, f := range []filter{defaults, ours} {
		fmt.Fprintf(&b, "\n### %s\n\n![CPU of a check](%s)\n\n![Latency](%s)\n", heading[f], plotName("cpu", f), plotName("latency", f))
		for _, s := range p.shapes {
			fmt.Fprintf(&b, "\n**%v**\n\n", s)
			p.tableOf(&b, f, s)
		}
	}
	return b.String()
}

var heading = map[filter]string{defaults: "Envoy's default filter settings", ours: "The filter settings of envoy.yaml"}

func (p checksPage) tableOf(b *strings.Builder, f filter, s shape) {
	b.WriteString("| | server us | x V1 | Redis us | Envoy us | p50 us | p99 us | added p50 x V1 | added p99 x V1 | allocations | answers/s |\n|---|---|---|---|---|---|---|---|---|---|---|\n")
	none := p.of(noFilter, p.variants[noFilter][0], s)
	v1 := p.of(f, p.variants[f][0], s)
	for _, v := range append(p.variants[noFilter][:1:1], p.variants[f]...) {
		own := p.results[s][v.front+v.name]
		m := func(column func(sample) float64) float64 { return median(each(own, column)) }
		if v.name == string(noFilter) {
			fmt.Fprintf(b, "| %s | - | - | - | %.0f | %.0f | %.0f | - | - | - | %.0f |\n", v.name, m(envoyCPU), m(p50), m(p99), m(answerRate))
			continue
		}
		fmt.Fprintf(b, "| %s | %.0f | %.2f | %.1f | %.0f | %.0f | %.0f | %s | %s | %s | %.0f |\n", v.name, m(serverCPU), ratio(own, v1, serverCPU),
			m(redisCPU), m(envoyCPU), m(p50), m(p99), known(addedRatio(own, v1, none, p50), "%.2f"), known(addedRatio(own, v1, none, p99), "%.2f"), known(m(allocations), "%.0f"), m(answerRate))
	}
}

// known is a figure, or - where there is none.
func known(n float64, format string) string {
	if n <= 0 {
		return "-"
	}
	return fmt.Sprintf(format, n)
}

// addedRatio is the median of the ratios of what two variants add to the requests
// without a filter.
func addedRatio(of, to, none []sample, column func(sample) float64) float64 {
	var ratios []float64
	for i := range min(len(of), len(to), len(none)) {
		if base := column(to[i]) - column(none[i]); base > 0 {
			ratios = append(ratios, (column(of[i])-column(none[i]))/base)
		}
	}
	return median(ratios)
}

func (p checksPage) of(_ filter, v variant, s shape) []sample { return p.results[s][v.front+v.name] }

func (p checksPage) samples() []sample {
	var all []sample
	for _, rows := range p.results {
		for _, samples := range rows {
			all = append(all, samples...)
		}
	}
	return all
}

func (p checksPage) envoysShare() string {
	var shares []string
	is := func(v variant) bool { return v.name == rowLookup }
	i, j := slices.IndexFunc(p.variants[ours], is), slices.IndexFunc(p.variants[defaults], is)
	for _, s := range p.shapes {
		shares = append(shares, fmt.Sprintf("%.2f (%v)", ratio(p.of(ours, p.variants[ours][i], s), p.of(defaults, p.variants[defaults][j], s), envoyCPU), s))
	}
	return strings.Join(shares, ", ")
}

func (p checksPage) cpu(f filter) chart {
	return p.chart(f, chart{title: "CPU of a check: server and Redis. " + heading[f], unit: "us", parts: []string{"server", "Redis"}},
		func(own []sample) []float64 {
			return []float64{median(each(own, serverCPU)), median(each(own, redisCPU))}
		})
}

func (p checksPage) latency(f filter) chart {
	return p.chart(f, chart{title: "Time to an answer through Envoy, p50. " + heading[f], unit: "us", parts: []string{"p50"}},
		func(own []sample) []float64 { return []float64{median(each(own, p50))} })
}

func (p checksPage) chart(f filter, c chart, segments func([]sample) []float64) chart {
	for _, s := range p.shapes {
		g := group{label: s.String()}
		for _, v := range p.variants[f] {
			g.bars = append(g.bars, bar{label: v.name, segments: segments(p.of(f, v, s))})
		}
		c.groups = append(c.groups, g)
	}
	return c
}
