package main

import (
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/coatcheck/coatcheck/envoy/faults/history"
	"github.com/coatcheck/coatcheck/envoy/faults/stage"
	"github.com/coatcheck/coatcheck/internal/madepart"
)

// writeTable puts the tables into faults.md of a folder; without a folder it prints them.
func writeTable(folder string, results []*result, seed int64, rows int) error {
	text := tables(results, seed, rows)
	if folder == "" {
		fmt.Print(text)
		return nil
	}
	return madepart.Write(filepath.Join(folder, "faults.md"), "table", text)
}

const header = "| fault | F | setting | checks | ok | 401, 403 | 503 | errors | wrong allows | wrong denials | lost | revived | declared | p50 | p99 | worst | with lag | stood still | known down | first allow | 503 after | connections | goroutines | MiB |\n" +
	"|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|\n"

func tables(results []*result, seed int64, rows int) string {
	var b strings.Builder
	if len(results) < rows {
		fmt.Fprintf(&b, "**A part of the table**: %d of %d rows were played.\n\n", len(results), rows)
	}
	fmt.Fprintf(&b, "Measured on %s. Seed %d.\n\n%s\n", machine(), seed, sumOf(results))
	for _, kind := range kinds {
		begun := false
		for _, r := range results {
			if r.setting.stage.Kind != kind {
				continue
			}
			if !begun {
				fmt.Fprintf(&b, "\n### %s\n\n%s", headings[kind], header)
				begun = true
			}
			b.WriteString(r.row())
		}
	}
	b.WriteString("\n" + meanings(results))
	return b.String()
}

var headings = map[stage.Kind]string{
	stage.Single: "Single", stage.Sentinel: "Sentinel", stage.Cluster: "Cluster",
}

// sumOf is one sentence over all rows.
func sumOf(results []*result) string {
	var checks, allows, denials, lost, revived, unconfirmed, revoked, failed int
	for _, r := range results {
		checks += r.sums.Checks
		allows += r.sums.WrongAllows()
		denials += r.sums.WrongDenies()
		lost += r.sums.Lost
		revived += r.sums.Revived
		revoked += r.sums.Revoked
		unconfirmed += r.sums.Unconfirmed
		if len(r.failed) > 0 {
			failed++
		}
	}
	return fmt.Sprintf("%d runs, %d checks, %d sessions revoked (%d without the confirmation of a replica, and reported so): **%d wrong allows, %d wrong denials, %d sessions lost and %d revived** outside of declared losses. %d runs failed.",
		len(results), checks, revoked, unconfirmed, allows, denials, lost, revived, failed)
}

// row is a line of a table. A figure beyond its bound is bold.
func (r *result) row() string {
	in := r.inside
	cells := []string{
		r.fault.Name, strings.Join(r.fault.Rows, " "), strings.Join(r.setting.parts(), ", "),
		fmt.Sprint(r.sums.Checks), fmt.Sprint(in.Verdicts[history.Allowed] + in.Verdicts[history.Anonymous]),
		fmt.Sprint(in.Verdicts[history.Unauthenticated] + in.Verdicts[history.Forbidden]),
		fmt.Sprint(in.Verdicts[history.Unavailable]), fmt.Sprint(in.Verdicts[history.Failed] + in.Verdicts[history.Odd]),
		zero(r.sums.WrongAllows()), zero(r.sums.WrongDenies()), zero(r.sums.Lost), zero(r.sums.Revived), r.declared(),
		ms(in.Latency.Quantile(.5), 0), ms(in.Latency.Quantile(.99), r.owed(p99Answer)), ms(in.Latency.Worst(), r.owed(worstAnswer)), ms(in.WithLag.Worst(), 0),
		fmt.Sprintf("%.0f %%", 100*r.stalled),
		r.knownDown(), r.firstAllow(), zero(r.after.Verdicts[history.Unavailable]),
		fmt.Sprint(r.opened), r.used(func(u usage) int { return u.goroutines }), r.used(func(u usage) int { return u.memory >> 20 }),
	}
	return "| " + strings.Join(cells, " | ") + " |\n"
}

// zero is a number that should be 0.
func zero(n int) string {
	if n > 0 {
		return fmt.Sprintf("**%d**", n)
	}
	return "0"
}

// ms is a time in milliseconds, bold beyond a bound; 0: it has none.
func ms(d, bound time.Duration) string {
	text := fmt.Sprintf("%.0f", float64(d)/float64(time.Millisecond))
	if d > 0 && d < 10*time.Millisecond {
		text = fmt.Sprintf("%.1f", float64(d)/float64(time.Millisecond))
	}
	if bound > 0 && d > bound {
		return "**" + text + "**"
	}
	return text
}

func (r *result) declared() string {
	if !r.fault.Loss {
		return "–"
	}
	return fmt.Sprintf("%d/%d", r.sums.DeclaredLost, r.sums.DeclaredRevived)
}

// owed is a bound of an answer, or none: a replica that stands still itself answers late.
func (r *result) owed(bound time.Duration) time.Duration {
	if r.fault.Still {
		return 0
	}
	return bound
}

// knownDown is the median of the 503s that came when Redis was known to be down, if there
// were enough. A Redis that answers some checks is not known to be down.
func (r *result) knownDown() string {
	if r.fault.Part || r.inside.KnownDown.Len() < 20 {
		return "–"
	}
	return ms(r.inside.KnownDown.Quantile(.5), downAnswer)
}

func (r *result) firstAllow() string {
	text := ms(r.recovery, r.owedAllow())
	if r.moved > 0 {
		text += " (" + ms(r.moved, 0) + ")"
	}
	return text + "/" + ms(r.fault.Bound, 0)
}

// used is what the replicas use before and after, the one that uses more.
func (r *result) used(of func(usage) int) string {
	most := func(all []usage) (n int) {
		for _, u := range all {
			n = max(n, of(u))
		}
		return n
	}
	return fmt.Sprintf("%d→%d", most(r.before), most(r.later))
}

// line is a result for the progress.
func (r *result) line() string {
	verdict := "right"
	if len(r.failed) > 0 {
		verdict = "FAILED"
	} else if r.busy() {
		verdict = "right, on a machine too busy for times"
	}
	in := r.inside
	return fmt.Sprintf("%s, %s: %s; %d checks, inside %d ok, %d denied, %d x 503, worst %sms (the machine stood still for %.0f %%, at most %sms), first allow %sms, %s declared lost/revived",
		r.fault.Name, r.setting.name(), verdict, r.sums.Checks, in.Verdicts[history.Allowed], in.Verdicts[history.Unauthenticated],
		in.Verdicts[history.Unavailable], ms(in.Latency.Worst(), 0), 100*r.stalled, ms(r.lag, 0), r.firstAllow(), r.declared())
}

// meanings says what each fault is, once.
func meanings(results []*result) string {
	var b strings.Builder
	b.WriteString("### What each fault is\n\n| fault | what happens | for | declared loss |\n|---|---|---|---|\n")
	seen := make(map[string]bool)
	for _, r := range results {
		f := r.fault
		if seen[f.Name] {
			continue
		}
		seen[f.Name] = true
		loss := "–"
		if f.Loss {
			loss = "yes"
		}
		fmt.Fprintf(&b, "| %s | %s | %v | %s |\n", f.Name, f.What, f.For, loss)
	}
	return b.String()
}
