package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/coatcheck/coatcheck/envoy/faults/history"
	"github.com/coatcheck/coatcheck/envoy/faults/stage"
	"github.com/coatcheck/coatcheck/internal/madepart"
)

// A soakRun is what `faults soak` was asked for.
type soakRun struct {
	length    time.Duration
	seed      int64
	rate      int
	only      string // names of faults, with commas; empty: all
	kind      string
	near      string
	docs      string
	coatcheck string
	clocks    bool // those of Redis can be set
	clock     *clockworker
	apart     bool // the replicas' clocks disagree in every scene
	random    *rand.Rand
	sums      soaked
	deck      []string // names of faults, in the order in which they come
	now       int      // the rate at the moment: a machine that is too busy gets less
}

// soaked are the sums of a run, as they stand in docs/faults.json.
type soaked struct {
	Day         string         `json:"day"`
	Seed        int64          `json:"seed"`
	Seconds     int            `json:"seconds"`
	Scenes      int            `json:"scenes"`
	Checks      int            `json:"checks"`
	Sessions    int            `json:"sessions"`
	Revoked     int            `json:"revoked"`
	Unconfirmed int            `json:"unconfirmed"`
	Faults      map[string]int `json:"faults"`
	WrongAllows int            `json:"wrong_allows"`
	WrongDenies int            `json:"wrong_denials"`
	Violations  int            `json:"violations"`
	Failed      int            `json:"failed"` // faults after which a time was ten times beyond its bound, or with a leak
	Lost        int            `json:"lost"`
	Revived     int            `json:"revived"`
	Void        int            `json:"void"`     // scenes that are not counted: the machine stood still until Redis had failed over
	Declared    int            `json:"declared"` // sessions lost or revived in declared losses
	Machine     string         `json:"machine"`
	Revision    string         `json:"revision,omitempty"` // of Coatcheck; empty: measured before it was noted
}

func runSoak(ctx context.Context, args []string) error {
	var r soakRun
	flags := flag.NewFlagSet("soak", flag.ContinueOnError)
	flags.DurationVar(&r.length, "for", time.Hour, "how long")
	flags.Int64Var(&r.seed, "seed", time.Now().Unix(), "what all that is drawn comes from")
	flags.IntVar(&r.rate, "rate", 3000, "checks a second, at most")
	flags.StringVar(&r.only, "only", "", "names of faults, with commas; empty: all")
	flags.StringVar(&r.kind, "kind", "", "single, sentinel or cluster; empty: all")
	flags.StringVar(&r.near, "near", "", "near cache: on or off; empty: both")
	flags.StringVar(&r.docs, "docs", "", "folder of faults.json, to which the sums are added, and faults.md, which shows them; empty: only print")
	flags.BoolVar(&r.apart, "apart", false, "have the clocks of Coatcheck disagree in every scene, and not in a quarter of them")
	flags.BoolVar(&r.clocks, "clocks", true, "set the clocks of Redis, too; libfaketime cannot do so with Redis 8 and Valkey")
	flags.StringVar(&r.coatcheck, "coatcheck", "", "binary to try; empty: it is built first")
	if err := flags.Parse(args); err != nil {
		return err
	}
	done, err := withBinary(&r.coatcheck)
	if err != nil {
		return err
	}
	defer done()
	r.clock = new(clockworker)
	defer r.clock.remove()
	r.now = r.rate
	r.random = rand.New(rand.NewPCG(uint64(r.seed), 5))
	r.sums = soaked{Day: time.Now().UTC().Format(time.DateOnly), Seed: r.seed, Faults: make(map[string]int), Machine: machine(), Revision: revisionOf(r.coatcheck)}
	return r.run(ctx)
}

// sceneLength is how long faults follow one another on one stage.
const sceneLength = 90 * time.Second

func (r *soakRun) run(ctx context.Context) error {
	begin, unplayed := time.Now(), 0
	var err error
	for unplayed < maxUnplayed && ctx.Err() == nil && time.Since(begin) < r.length {
		if err = r.scene(ctx, begin.Add(r.length)); err == nil {
			unplayed = 0
		} else if unplayed++; ctx.Err() == nil { // an error of the stage, and not of Coatcheck
			progress("the next scene: %.400v", err)
		}
		r.sums.Seconds = int(time.Since(begin).Seconds())
		progress("%v of %v: %s", time.Since(begin).Round(time.Second), r.length, r.sums.text())
	}
	if unplayed < maxUnplayed {
		err = nil // what is there, counts
	}
	err = errors.Join(err, r.sums.keep(r.docs))
	return errors.Join(err, r.sums.wrong())
}

// wrong is an error if the sums have something wrong, or nothing at all.
func (s *soaked) wrong() error {
	switch {
	case s.Violations+s.Failed > 0:
		return fmt.Errorf("%d wrong answers, and %d faults with a failure", s.Violations, s.Failed)
	case s.Checks == 0 || len(s.Faults) == 0:
		return errors.New("nothing was tried")
	}
	return nil
}

// maxUnplayed is how many scenes in a row may fail to be played.
const maxUnplayed = 5

// scene plays random faults on one stage.
func (r *soakRun) scene(ctx context.Context, end time.Time) (err error) {
	set := r.setting()
	fits := r.fits(set)
	if len(fits) == 0 {
		return errors.New("no fault is named so, or it cannot happen there")
	}
	s, err := raise(ctx, set)
	if err != nil {
		return err
	}
	defer func() { err = s.blame(errors.Join(err, s.close())) }()
	progress("scene %d: %s, seed %d, %d checks a second", r.sums.Scenes+r.sums.Void+1, set.name(), set.stage.Seed, set.rate)
	pause(ctx, warm)
	p := played{faults: make(map[string]int)}
	next := func() stage.Fault { return r.next(fits) }
	err = p.play(ctx, s, next, earlier(time.Now().Add(sceneLength), end))
	r.sums.add(s.history.Sums(), &p)
	r.adapt(p.busy*3 > p.all())
	return err
}

// played is what a scene was.
type played struct {
	faults map[string]int // how often each
	failed int            // of them
	busy   int            // that met a machine too busy
	void   bool           // the machine failed, and not Coatcheck
}

func (p *played) all() (n int) {
	for _, count := range p.faults {
		n += count
	}
	return n
}

// play has faults follow one another until the end, or an answer that is wrong.
func (p *played) play(ctx context.Context, s *scene, next func() stage.Fault, end time.Time) error {
	draw := rand.New(rand.NewPCG(uint64(s.setting.stage.Seed), 6))
	for wrong := 0; time.Now().Before(end) && wrong == 0; {
		res, err := s.suffer(ctx, next(), draw)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // the end was asked for
		}
		if err != nil {
			return err
		}
		p.faults[res.fault.Name]++
		progress("  at %v: %s: %s", res.injected.Round(10*time.Millisecond), res.fault.Name, res.line())
		if p.void = res.void; p.void {
			progress("  the scene does not count: the machine stood still, and Redis failed over by itself")
			return nil
		}
		if len(res.failed) > 0 {
			p.failed++
			s.report(ctx, res)
		}
		if wrong = res.sums.Wrong(); res.busy() || !res.recovered {
			p.busy++
		}
	}
	return nil
}

// adapt lowers the rate where the machine did not keep up, and raises it where it did: with
// more than it can do nothing is allowed any more, and that proves little.
func (r *soakRun) adapt(busy bool) {
	if busy {
		r.now = max(r.now/2, 200)
	} else {
		r.now = min(r.now*3/2, r.rate)
	}
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// fits are the faults that can happen in a setting, of those that are asked for.
func (r *soakRun) fits(set setting) []stage.Fault {
	return slices.DeleteFunc(stage.Faults(), func(f stage.Fault) bool {
		return !f.Fits(set.stage) || set.stage.Clock && !f.Clock || r.only != "" && !slices.Contains(strings.Split(r.only, ","), f.Name)
	})
}

// next is the first of the deck that fits: in a random order every fault comes once before
// any comes again.
func (r *soakRun) next(fits []stage.Fault) stage.Fault {
	for {
		for i, name := range r.deck {
			if j := slices.IndexFunc(fits, func(f stage.Fault) bool { return f.Name == name }); j >= 0 {
				r.deck = slices.Delete(r.deck, i, i+1)
				return fits[j]
			}
		}
		for _, i := range r.random.Perm(len(fits)) {
			r.deck = append(r.deck, fits[i].Name)
		}
	}
}

// setting draws what the next scene is played in.
func (r *soakRun) setting() setting {
	n := r.random
	set := setting{
		stage: stage.Options{
			Kind: kinds[n.IntN(len(kinds))], TLS: n.IntN(3) == 0, ACL: n.IntN(2) == 0, Clock: n.IntN(8) == 0 && r.clocks, Seed: n.Int64N(1 << 40),
		},
		near: n.IntN(2) == 0, rate: r.now, coatcheck: r.coatcheck, clock: r.clock,
	}
	if n.IntN(4) == 0 || r.apart { // the replicas' clocks disagree, by up to twenty minutes
		for i := range set.ahead {
			set.ahead[i] = time.Duration(n.Int64N(1200)-600) * time.Second
		}
	}
	if r.kind != "" {
		set.stage.Kind = stage.Kind(r.kind)
	}
	if r.near != "" {
		set.near = r.near == "on"
	}
	return set
}

// add takes the sums of a scene, unless it is void.
func (s *soaked) add(h history.Sums, p *played) {
	if p.void {
		s.Void++
		return
	}
	s.Scenes++
	s.Failed += p.failed
	for name, n := range p.faults {
		s.Faults[name] += n
	}
	s.Checks += h.Checks
	s.Sessions += h.Issued
	s.Revoked += h.Revoked
	s.Unconfirmed += h.Unconfirmed
	s.WrongAllows += h.WrongAllows()
	s.WrongDenies += h.WrongDenies()
	s.Violations += h.Wrong()
	s.Lost += h.Lost
	s.Revived += h.Revived
	s.Declared += h.DeclaredLost + h.DeclaredRevived
}

func (s *soaked) text() string {
	n := 0
	for _, count := range s.Faults {
		n += count
	}
	rate := 0
	if s.Seconds > 0 {
		rate = s.Checks / s.Seconds
	}
	return fmt.Sprintf("%d checks (%d/s), %d scenes, %d faults, %d sessions, %d revoked (%d unconfirmed), %d wrong allows, %d wrong denials, %d lost, %d revived, %d declared",
		s.Checks, rate, s.Scenes, n, s.Sessions, s.Revoked, s.Unconfirmed, s.WrongAllows, s.WrongDenies, s.Lost, s.Revived, s.Declared)
}

// keep adds the sums to faults.json of a folder, and shows all of them in faults.md.
func (s *soaked) keep(folder string) error {
	if folder == "" {
		progress("%s", s.text())
		return nil
	}
	path := filepath.Join(folder, "faults.json")
	runs, err := readSoaked(path)
	if err != nil {
		return err
	}
	runs = append(runs, *s)
	text, err := json.MarshalIndent(runs, "", " ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(path, append(text, '\n'), 0o644); err != nil {
		return err
	}
	return madepart.Write(filepath.Join(folder, "faults.md"), "soak", soakTable(runs))
}

// server is the one that the run had, which the machine ends with.
func (s *soaked) server() string {
	return strings.TrimSpace(s.Machine[strings.LastIndex(s.Machine, ",")+1:])
}

func readSoaked(path string) (runs []soaked, err error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return runs, json.Unmarshal(text, &runs)
}

// soakTable shows all runs, and their sums.
func soakTable(runs []soaked) string {
	var b strings.Builder
	b.WriteString("| day | server | Coatcheck | seed | minutes | scenes | void | faults | checks | sessions | revoked | unconfirmed | wrong allows | wrong denials | lost | revived | declared |\n|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|\n")
	var all soaked
	faults := 0
	for _, r := range runs {
		n := 0
		for _, count := range r.Faults {
			n += count
		}
		faults += n
		fmt.Fprintf(&b, "| %s | %s | %s | %d | %d | %d | %d | %d | %d | %d | %d | %d | %s | %s | %s | %s | %d |\n", r.Day, r.server(), revisionText(r.Revision), r.Seed, r.Seconds/60, r.Scenes, r.Void, n, r.Checks,
			r.Sessions, r.Revoked, r.Unconfirmed, zero(r.WrongAllows), zero(r.WrongDenies), zero(r.Lost), zero(r.Revived), r.Declared)
		all.Seconds += r.Seconds
		all.Scenes += r.Scenes
		all.Void += r.Void
		all.Checks += r.Checks
		all.Sessions += r.Sessions
		all.Revoked += r.Revoked
		all.Unconfirmed += r.Unconfirmed
		all.WrongAllows += r.WrongAllows
		all.WrongDenies += r.WrongDenies
		all.Lost += r.Lost
		all.Revived += r.Revived
		all.Declared += r.Declared
	}
	fmt.Fprintf(&b, "| **all** | | | | %d | %d | %d | %d | **%d** | %d | %d | %d | **%d** | **%d** | **%d** | **%d** | %d |\n", all.Seconds/60, all.Scenes, all.Void, faults, all.Checks,
		all.Sessions, all.Revoked, all.Unconfirmed, all.WrongAllows, all.WrongDenies, all.Lost, all.Revived, all.Declared)
	return b.String()
}
