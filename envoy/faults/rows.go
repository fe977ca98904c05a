package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"github.com/coatcheck/coatcheck/envoy/faults/history"
	"github.com/coatcheck/coatcheck/envoy/faults/stage"
	"github.com/coatcheck/coatcheck/internal/madepart"
)

// A measured row is what came of a fault, as docs/faults-rows.json keeps it and the page
// shows it. Times are in milliseconds.
type measured struct {
	Fault    string     `json:"fault"`
	Kind     stage.Kind `json:"kind"`
	Sessions int        `json:"sessions,omitempty"` // that Redis held beside those of the load
	Near     bool       `json:"near"`
	TLS      bool       `json:"tls"`
	ACL      bool       `json:"acl"`

	Seed     int64  `json:"seed"`
	Revision string `json:"revision,omitempty"` // of Coatcheck; empty: measured before it was noted
	Machine  string `json:"machine"`

	Checks          int `json:"checks"`
	OK              int `json:"ok"`
	Denied          int `json:"denied"`
	Unavailable     int `json:"unavailable"`
	Errors          int `json:"errors"`
	WrongAllows     int `json:"wrong_allows"`
	WrongDenials    int `json:"wrong_denials"`
	Lost            int `json:"lost"`
	Revived         int `json:"revived"`
	DeclaredLost    int `json:"declared_lost"`
	DeclaredRevived int `json:"declared_revived"`
	Revoked         int `json:"revoked,omitempty"` // 0: measured before it was noted
	Unconfirmed     int `json:"unconfirmed,omitempty"`

	P50        float64  `json:"p50"`
	P99        float64  `json:"p99"`
	Worst      float64  `json:"worst"`
	WithLag    float64  `json:"with_lag"`
	StoodStill float64  `json:"stood_still"`          // percent
	KnownDown  *float64 `json:"known_down,omitempty"` // nil: there was none
	FirstAllow float64  `json:"first_allow"`
	Moved      float64  `json:"moved,omitempty"` // until Redis had a new master; 0: not known
	After      int      `json:"after"`           // refusals
	Opened     int64    `json:"opened"`

	// Before and after, of the replica that uses more.
	Goroutines [2]int `json:"goroutines"`
	Files      [2]int `json:"files"` // that are open, connections among them; zeros: measured before it was noted
	MiB        [2]int `json:"mib"`
	Heap       [2]int `json:"heap"` // in MiB, behind a collection of garbage; zeros: measured before it was noted

	// How long revocations of all sessions of a user took; nil: measured before it was noted.
	RevokeAll *[2]float64 `json:"revoke_all,omitempty"` // the median and the worst

	Failed []string `json:"failed,omitempty"`
}

// measured is the result as it is kept.
func (r *result) measured(seed int64, revision, machine string) measured {
	in, o := r.inside, r.setting.stage
	m := measured{
		Fault: r.fault.Name, Kind: o.Kind, Sessions: o.Sessions, Near: r.setting.near, TLS: o.TLS, ACL: o.ACL,
		Seed: seed, Revision: revision, Machine: machine,
		Checks: r.sums.Checks, OK: in.Verdicts[history.Allowed] + in.Verdicts[history.Anonymous],
		Denied:      in.Verdicts[history.Unauthenticated] + in.Verdicts[history.Forbidden],
		Unavailable: in.Verdicts[history.Unavailable], Errors: in.Verdicts[history.Failed] + in.Verdicts[history.Odd],
		WrongAllows: r.sums.WrongAllows(), WrongDenials: r.sums.WrongDenies(), Lost: r.sums.Lost, Revived: r.sums.Revived,
		DeclaredLost: r.sums.DeclaredLost, DeclaredRevived: r.sums.DeclaredRevived, Revoked: r.sums.Revoked, Unconfirmed: r.sums.Unconfirmed,
		P50: inMS(in.Latency.Quantile(.5)), P99: inMS(in.Latency.Quantile(.99)), Worst: inMS(in.Latency.Worst()), WithLag: inMS(in.WithLag.Worst()),
		StoodStill: math.Round(100 * r.stalled), FirstAllow: inMS(r.recovery), Moved: inMS(r.moved),
		After: r.after.Verdicts[history.Unavailable], Opened: r.opened,
		Goroutines: r.used(func(u usage) int { return u.goroutines }),
		Files:      r.used(func(u usage) int { return u.descriptors }),
		MiB:        r.used(func(u usage) int { return u.memory >> 20 }),
		Heap:       r.used(func(u usage) int { return u.heap >> 20 }),
		Failed:     r.failed,
	}
	// A Redis that answers some checks is not known to be down.
	if !r.fault.Part && in.KnownDown.Len() >= 20 {
		down := inMS(in.KnownDown.Quantile(.5))
		m.KnownDown = &down
	}
	if in.RevokeAll.Len() > 0 {
		m.RevokeAll = &[2]float64{inMS(in.RevokeAll.Quantile(.5)), inMS(in.RevokeAll.Worst())}
	}
	return m
}

// inMS is a time in milliseconds, to the tenth.
func inMS(d time.Duration) float64 { return math.Round(float64(d)/float64(time.Millisecond)*10) / 10 }

// used is what the replicas use before and after, the one that uses more.
func (r *result) used(of func(usage) int) [2]int {
	most := func(all []usage) (n int) {
		for _, u := range all {
			n = max(n, of(u))
		}
		return n
	}
	return [2]int{most(r.before), most(r.later)}
}

// place says where a row stands on the page. It reports false for a fault that there is no
// more, or not on that kind.
func (m *measured) place() (place [4]int, ok bool) {
	all := allFaults()
	i := slices.IndexFunc(all, func(f stage.Fault) bool { return f.Name == m.Fault })
	near := 0
	if m.Near {
		near = 1
	}
	return [4]int{slices.Index(kinds, m.Kind), m.Sessions, i, near}, i >= 0 && slices.Contains(all[i].On, m.Kind)
}

// allFaults are those of the table and those of a million sessions.
func allFaults() []stage.Fault { return slices.Concat(stage.Faults(), stage.Millions()) }

// merge puts rows in the place of those of the same faults in the same kind, and in order.
func merge(kept []measured, measuredNow ...measured) []measured {
	merged := slices.DeleteFunc(append(slices.Clone(kept), measuredNow...), func(m measured) bool { _, ok := m.place(); return !ok })
	slices.SortStableFunc(merged, func(a, b measured) int {
		x, _ := a.place()
		y, _ := b.place()
		return slices.Compare(x[:], y[:])
	})
	var last []measured // of those in one place
	for _, m := range merged {
		at, _ := m.place()
		if n := len(last); n > 0 {
			if before, _ := last[n-1].place(); before == at {
				last = last[:n-1]
			}
		}
		last = append(last, m)
	}
	return last
}

// keepRow adds a row to those of a folder, and shows all of them in faults.md.
func keepRow(folder string, m measured) error {
	path := filepath.Join(folder, "faults-rows.json")
	kept, err := readRows(path)
	if err != nil {
		return err
	}
	kept = merge(kept, m)
	if err := writeRows(path, kept); err != nil {
		return err
	}
	return madepart.Write(filepath.Join(folder, "faults.md"), "table", tables(kept))
}

func readRows(path string) (rows []measured, err error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return rows, json.Unmarshal(text, &rows)
}

// writeRows writes a line for each, so that a change of one is a change of one line.
func writeRows(path string, rows []measured) error {
	var lines [][]byte
	for i := range rows {
		line, err := json.Marshal(rows[i])
		if err != nil {
			return err
		}
		lines = append(lines, line)
	}
	text := fmt.Appendf(nil, "[\n%s\n]\n", bytes.Join(lines, []byte(",\n")))
	return os.WriteFile(path, text, 0o644)
}

// revisionOf is the commit that a program says that it was built from, with a plus where its
// source had changes beside.
func revisionOf(coatcheck string) string {
	var build struct {
		Revision string
		Changed  bool
	}
	text, err := exec.Command(coatcheck, "version", "--output", "json").Output()
	if err != nil || json.Unmarshal(text, &build) != nil || build.Revision == "" {
		return "unknown"
	}
	revision := build.Revision[:min(12, len(build.Revision))]
	if build.Changed {
		revision += "+"
	}
	return revision
}
