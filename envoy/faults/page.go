package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/coatcheck/coatcheck/envoy/faults/stage"
)

const header = "| fault | F | setting | checks | ok | 401, 403 | 503 | errors | wrong allows | wrong denials | lost | revived | declared | p50 | p99 | worst | with lag | stood still | known down | first allow | 503 after | connections | goroutines | open files | MiB | heap |\n" +
	"|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|\n"

// tables shows rows, which are in order.
func tables(rows []measured) string {
	var b strings.Builder
	b.WriteString(origins(rows) + "\n" + sumOf(rows) + "\n")
	begun := ""
	for i := range rows {
		if heading := rows[i].heading(); heading != begun {
			fmt.Fprintf(&b, "\n### %s\n\n%s", heading, header)
			begun = heading
		}
		b.WriteString(rows[i].line())
		if i+1 == len(rows) || rows[i+1].heading() != begun {
			b.WriteString(revocations(rows, begun))
		}
	}
	b.WriteString("\n" + meanings(rows))
	return b.String()
}

var headings = map[stage.Kind]string{
	stage.Single: "Single", stage.Sentinel: "Sentinel", stage.Cluster: "Cluster",
}

func (m *measured) heading() string {
	if m.Sessions > 0 {
		return fmt.Sprintf("%s, with %d sessions more", headings[m.Kind], m.Sessions)
	}
	return headings[m.Kind]
}

// revocations says how long those of all sessions of a user took in the rows below a heading,
// where Redis holds many sessions.
func revocations(rows []measured, heading string) string {
	var medians, worst []float64
	for _, m := range rows {
		if m.Sessions > 0 && m.RevokeAll != nil && m.heading() == heading {
			medians, worst = append(medians, m.RevokeAll[0]), append(worst, m.RevokeAll[1])
		}
	}
	if len(medians) == 0 {
		return ""
	}
	return fmt.Sprintf("\nRevocations of all sessions of a user took %s to %s ms (the medians of %d rows), and %s ms at most, where Redis has each command on the disk before it answers.\n",
		ms(slices.Min(medians), 0), ms(slices.Max(medians), 0), len(medians), ms(slices.Max(worst), 0))
}

// origins says where rows come from, each place once.
func origins(rows []measured) string {
	type origin struct {
		machine, revision string
		seed              int64
	}
	var all []origin
	count := make(map[origin]int)
	for _, m := range rows {
		o := origin{m.Machine, m.Revision, m.Seed}
		if count[o]++; count[o] == 1 {
			all = append(all, o)
		}
	}
	var b strings.Builder
	b.WriteString("| rows | measured on | seed | Coatcheck |\n|---|---|---|---|\n")
	for _, o := range all {
		fmt.Fprintf(&b, "| %d | %s | %d | %s |\n", count[o], o.machine, o.seed, revisionText(o.revision))
	}
	return b.String()
}

// revisionText is a revision as pages show it.
func revisionText(revision string) string {
	if revision == "" {
		return "not noted"
	}
	return "`" + revision + "`"
}

// sumOf is one sentence over all rows.
func sumOf(rows []measured) string {
	var checks, allows, denials, lost, revived, unconfirmed, revoked, failed, noted int
	for _, m := range rows {
		checks += m.Checks
		allows += m.WrongAllows
		denials += m.WrongDenials
		lost += m.Lost
		revived += m.Revived
		revoked += m.Revoked
		unconfirmed += m.Unconfirmed
		if m.Revoked > 0 {
			noted++
		}
		if len(m.Failed) > 0 {
			failed++
		}
	}
	return fmt.Sprintf("%d rows, %d checks: **%d wrong allows, %d wrong denials, %d sessions lost and %d revived** outside of declared losses. %d rows failed. In the %d rows that have counted them, %d sessions were revoked, %d of them without the confirmation of a replica, and reported so.",
		len(rows), checks, allows, denials, lost, revived, failed, noted, revoked, unconfirmed)
}

// line is a line of a table. A figure beyond its bound is bold.
func (m *measured) line() string {
	f := faultOf(m.Fault)
	cells := []string{
		m.Fault, strings.Join(f.Rows, " "), strings.Join(m.setting().parts(), ", "),
		fmt.Sprint(m.Checks), fmt.Sprint(m.OK), fmt.Sprint(m.Denied), fmt.Sprint(m.Unavailable), fmt.Sprint(m.Errors),
		zero(m.WrongAllows), zero(m.WrongDenials), zero(m.Lost), zero(m.Revived), m.declared(f),
		ms(m.P50, 0), ms(m.P99, owed(f, p99Answer)), ms(m.Worst, owed(f, worstAnswer)), ms(m.WithLag, 0),
		fmt.Sprintf("%.0f %%", m.StoodStill), m.knownDown(), m.firstAllow(f), zero(m.After),
		fmt.Sprint(m.Opened), change(m.Goroutines), change(m.Files), change(m.MiB), change(m.Heap),
	}
	return "| " + strings.Join(cells, " | ") + " |\n"
}

func (m *measured) setting() setting {
	return setting{stage: stage.Options{Kind: m.Kind, TLS: m.TLS, ACL: m.ACL}, near: m.Near}
}

// faultOf is the fault of a name.
func faultOf(name string) stage.Fault {
	for _, f := range allFaults() {
		if f.Name == name {
			return f
		}
	}
	return stage.Fault{Name: name}
}

// change is a figure before and after, unless it was not noted.
func change(of [2]int) string {
	if of == [2]int{} {
		return "–"
	}
	return fmt.Sprintf("%d→%d", of[0], of[1])
}

// zero is a number that should be 0.
func zero(n int) string {
	if n > 0 {
		return fmt.Sprintf("**%d**", n)
	}
	return "0"
}

// ms is a time in milliseconds, bold beyond a bound; 0: it has none.
func ms(t float64, bound time.Duration) string {
	text := fmt.Sprintf("%.0f", t)
	if t > 0 && t < 10 {
		text = fmt.Sprintf("%.1f", t)
	}
	if bound > 0 && t > inMS(bound) {
		return "**" + text + "**"
	}
	return text
}

func (m *measured) declared(f stage.Fault) string {
	if !f.Loss {
		return "–"
	}
	return fmt.Sprintf("%d/%d", m.DeclaredLost, m.DeclaredRevived)
}

// owed is a bound of an answer, or none: a replica that stands still itself answers late.
func owed(f stage.Fault, bound time.Duration) time.Duration {
	if f.Still {
		return 0
	}
	return bound
}

// knownDown is the median of the 503s that came when Redis was known to be down, if there
// were enough.
func (m *measured) knownDown() string {
	if m.KnownDown == nil {
		return "–"
	}
	return ms(*m.KnownDown, downAnswer)
}

// owedAllow is by when checks must be allowed again: by the bound, or, where Redis itself
// takes longer than that to have a new master, soon after it has one.
func (m *measured) owedAllow(f stage.Fault) time.Duration {
	if m.Moved == 0 {
		return f.Bound
	}
	return max(f.Bound, time.Duration(m.Moved*float64(time.Millisecond))+afterMaster)
}

func (m *measured) firstAllow(f stage.Fault) string {
	text := ms(m.FirstAllow, m.owedAllow(f))
	if m.Moved > 0 {
		text += " (" + ms(m.Moved, 0) + ")"
	}
	return text + "/" + ms(inMS(f.Bound), 0)
}

// line is a result for the progress, behind the name of its fault.
func (r *result) line() string {
	verdict := "right"
	if len(r.failed) > 0 {
		verdict = "FAILED"
	} else if r.busy() {
		verdict = "right, on a machine too busy for times"
	}
	m := r.measured(0, "", "")
	return fmt.Sprintf("%s; %d checks, inside %d ok, %d denied, %d x 503, worst %s ms (the machine stood still for %.0f %%, at most %s ms), first allow %s ms, %s declared lost/revived",
		verdict, m.Checks, m.OK, m.Denied, m.Unavailable, ms(m.Worst, 0), m.StoodStill, ms(inMS(r.lag), 0), m.firstAllow(r.fault), m.declared(r.fault))
}

// meanings says what each fault is, once.
func meanings(rows []measured) string {
	var b strings.Builder
	b.WriteString("### What each fault is\n\n| fault | what happens | for | declared loss | its bound of the first allow, where it is not the usual one |\n|---|---|---|---|---|\n")
	seen := make(map[string]bool)
	for _, m := range rows {
		if seen[m.Fault] {
			continue
		}
		seen[m.Fault] = true
		f := faultOf(m.Fault)
		loss, why := "–", "–"
		if f.Loss {
			loss = "yes"
		}
		if f.Why != "" {
			why = fmt.Sprintf("%v: %s", f.Bound, f.Why)
		}
		fmt.Fprintf(&b, "| %s | %s | %v | %s | %s |\n", f.Name, f.What, f.For, loss, why)
	}
	return b.String()
}
