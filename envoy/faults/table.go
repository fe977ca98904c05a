package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/coatcheck/coatcheck/envoy/e2e/rig"
	"github.com/coatcheck/coatcheck/envoy/faults/stage"
)

// kinds are those of the page, in its order.
var kinds = []stage.Kind{stage.Single, stage.Sentinel, stage.Cluster}

// quickly is how long a quick run may take, and slow how long a single row at most.
const quickly, slow = 220 * time.Second, 40 * time.Second

// A tableRun is what `faults table` was asked for.
type tableRun struct {
	only, kind, near string
	seed             int64
	rate             int
	quick            bool
	docs             string // folder of faults-rows.json and faults.md; empty: none
	coatcheck        string
}

// A row of the table is one fault in one setting.
type row struct {
	fault   stage.Fault
	setting setting
}

func runTable(ctx context.Context, args []string) error {
	var t tableRun
	flags := flag.NewFlagSet("table", flag.ContinueOnError)
	flags.StringVar(&t.only, "only", "", "names of faults, with commas; empty: all")
	flags.StringVar(&t.kind, "kind", "", "single, sentinel or cluster; empty: all")
	flags.StringVar(&t.near, "near", "", "near cache: on or off; empty: both")
	flags.Int64Var(&t.seed, "seed", 1, "what all that is drawn comes from")
	flags.IntVar(&t.rate, "rate", 400, "checks a second")
	flags.BoolVar(&t.quick, "quick", false, "a part of the table, drawn from the seed, in 4 minutes at most")
	flags.StringVar(&t.docs, "docs", "", "folder of faults-rows.json, in which each row is put in its place as soon as it is measured, and faults.md, which shows them; empty: only print")
	flags.StringVar(&t.coatcheck, "coatcheck", "", "binary to try; empty: it is built first")
	if err := flags.Parse(args); err != nil {
		return err
	}
	rows := t.rows()
	if len(rows) == 0 {
		return errors.New("no fault is named so, or it cannot happen there: faults list")
	}
	done, err := withBinary(&t.coatcheck)
	if err != nil {
		return err
	}
	defer done()
	clock := new(clockworker)
	defer clock.remove()
	for i := range rows {
		rows[i].setting.coatcheck, rows[i].setting.clock = t.coatcheck, clock
	}
	return t.run(ctx, rows)
}

// withBinary builds coatcheck, if no binary is named.
func withBinary(path *string) (done func(), err error) {
	if *path != "" {
		return func() {}, nil
	}
	dir, err := os.MkdirTemp("", "coatcheck-faults-")
	if err != nil {
		return nil, err
	}
	done = func() { _ = os.RemoveAll(dir) }
	progress("building coatcheck")
	*path = filepath.Join(dir, "coatcheck")
	if err := rig.Build(*path); err != nil {
		done()
		return nil, err
	}
	return done, nil
}

// rows are those that are asked for, in the order of the page; of a quick run in a random
// order, the kinds in turn.
func (t *tableRun) rows() []row {
	var rows []row
	for _, kind := range kinds {
		for _, fault := range stage.Faults() {
			for _, near := range []bool{false, true} {
				if t.asked(fault, kind, near) {
					rows = append(rows, row{fault, t.setting(fault, kind, near)})
				}
			}
		}
	}
	if t.quick {
		mix(rows, uint64(t.seed))
	}
	return rows
}

func (t *tableRun) asked(f stage.Fault, kind stage.Kind, near bool) bool {
	named := t.only == "" && (!t.quick || !f.Apart) || slices.Contains(strings.Split(t.only, ","), f.Name)
	return named && slices.Contains(f.On, kind) && (t.kind == "" || t.kind == string(kind)) &&
		(t.near == "" || t.near == "on" == near)
}

// setting draws whether TLS and an ACL user are used. It depends on the row and the seed
// alone, so that a row can be played again without the others.
func (t *tableRun) setting(f stage.Fault, kind stage.Kind, near bool) setting {
	h := fnv.New64a()
	fmt.Fprint(h, t.seed, f.Name, kind, near)
	seed := int64(h.Sum64() >> 1)
	return setting{
		stage: stage.Options{Kind: kind, TLS: f.TLS || seed&4 != 0, ACL: seed&8 != 0, Clock: f.Clock, Seed: seed},
		near:  near, rate: t.rate,
	}
}

// mix shuffles the rows, with the kinds in turn.
func mix(rows []row, seed uint64) {
	random := rand.New(rand.NewPCG(seed, 3))
	random.Shuffle(len(rows), func(i, j int) { rows[i], rows[j] = rows[j], rows[i] })
	turns, turn := make(map[stage.Kind]int), make(map[string]int)
	for _, r := range rows {
		turn[r.fault.Name+r.setting.name()] = turns[r.setting.stage.Kind]
		turns[r.setting.stage.Kind]++
	}
	slices.SortStableFunc(rows, func(a, b row) int { return turn[a.fault.Name+a.setting.name()] - turn[b.fault.Name+b.setting.name()] })
}

func (t *tableRun) run(ctx context.Context, rows []row) error {
	k := newKeeper(t.docs, t.seed, t.coatcheck)
	begin := time.Now()
	for i, r := range rows {
		if t.quick && time.Since(begin) > quickly-slow {
			progress("%d of %d rows in %v: the time is over", i, len(rows), time.Since(begin).Round(time.Second))
			break
		}
		res, err := playAgain(ctx, r)
		if ctx.Err() != nil {
			return errors.Join(fmt.Errorf("%d of %d rows: %w", i, len(rows), ctx.Err()), k.end())
		}
		if err := k.keep(fmt.Sprintf("%d of %d: %s, %s", i+1, len(rows), r.fault.Name, r.setting.name()), res, err); err != nil {
			return err
		}
	}
	return k.end()
}

// A keeper takes results as they come, so that a run that is broken off has kept what it has
// measured.
type keeper struct {
	docs              string // folder of faults-rows.json and faults.md; empty: none
	seed              int64
	revision, machine string
	rows              []measured
	failed            []string // which rows, and why
}

func newKeeper(docs string, seed int64, coatcheck string) *keeper {
	return &keeper{docs: docs, seed: seed, revision: revisionOf(coatcheck), machine: machine()}
}

// keep takes the result of a row, or why it was not played. Its error is one of writing.
func (k *keeper) keep(which string, res *result, err error) error {
	if err != nil {
		k.fail("%s: not played: %.600v", which, err)
		return nil
	}
	progress("%s: %s", which, res.line())
	if len(res.failed) > 0 {
		k.fail("%s, %s, seed %d: %s", res.fault.Name, res.setting.name(), k.seed, strings.Join(res.failed, "; "))
	}
	m := res.measured(k.seed, k.revision, k.machine)
	k.rows = merge(k.rows, m)
	if k.docs == "" {
		return nil
	}
	return keepRow(k.docs, m)
}

// fail notes what has failed, which the end says once more: what is printed in between, or
// the end of a long log alone, hides it.
func (k *keeper) fail(format string, args ...any) {
	k.failed = append(k.failed, fmt.Sprintf(format, args...))
	progress("FAILED: %s", k.failed[len(k.failed)-1])
}

// end prints the rows where they are not in a file, and says which have failed.
func (k *keeper) end() error {
	if k.docs == "" {
		fmt.Print(tables(k.rows))
	}
	if len(k.failed) > 0 {
		return fmt.Errorf("%d rows failed, or were not played:\n%s", len(k.failed), strings.Join(k.failed, "\n"))
	}
	return nil
}

// playAgain plays a row, and once more where it could not be played: an error is one of the
// stage, such as a Sentinel that did not start in time, and says nothing of Coatcheck. What
// was wrong until then counts. Neither does a failover that no fault has made.
func playAgain(ctx context.Context, r row) (*result, error) {
	res, err := play(ctx, r)
	switch {
	case ctx.Err() != nil, errors.Is(err, errWrong), err == nil && !res.void:
		return res, err
	case err == nil:
		err = errors.New("the machine stood still, and Redis failed over by itself")
	}
	progress("once more: %v", err)
	return play(ctx, r)
}

// play plays one row on a stage of its own.
func play(ctx context.Context, r row) (res *result, err error) {
	s, err := raise(ctx, r.setting)
	if err != nil {
		return nil, err
	}
	defer func() { err = s.blame(errors.Join(err, s.close())) }()
	pause(ctx, warm)
	res, err = s.suffer(ctx, r.fault, rand.New(rand.NewPCG(uint64(r.setting.stage.Seed), 4)))
	if err != nil {
		return nil, err
	}
	s.report(ctx, res)
	return res, nil
}

// warm is how long checks go before the fault.
const warm = 1500 * time.Millisecond

// report prints what is wrong with a run, and how it can be had again.
func (s *scene) report(ctx context.Context, res *result) {
	if len(res.failed) == 0 {
		return
	}
	progress("FAILED: %s, %s, seed of the stage %d: %s", res.fault.Name, s.setting.name(), s.setting.stage.Seed, strings.Join(res.failed, "; "))
	for _, v := range s.history.Violations() {
		progress("  %v  %s\n", v, s.load.Present(ctx, v.Handle))
	}
	for i, r := range s.replicas {
		progress("the end of what replica %d has printed:\n%s", i, r.tail())
	}
}

// errWrong says that there were wrong answers before a run broke off.
var errWrong = errors.New("wrong answers before that")

// blame adds the wrong answers to an error that broke off a run, and prints them.
func (s *scene) blame(err error) error {
	wrong := s.history.Sums().Wrong()
	if err == nil || wrong == 0 {
		return err
	}
	for _, v := range s.history.Violations() {
		progress("  %v", v)
	}
	return fmt.Errorf("%w; %d x %w", err, wrong, errWrong)
}

// list prints the faults.
func list(context.Context, []string) error {
	for _, f := range allFaults() {
		fmt.Printf("%-20s %-12s %v: %s\n", f.Name, strings.Join(f.Rows, " "), f.On, f.What)
	}
	return nil
}
