package main

import (
	"context"
	"errors"
	"flag"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/coatcheck/coatcheck/envoy/faults/stage"
)

// A millionRun is what `faults million` was asked for.
type millionRun struct {
	sessions        int
	seed            int64
	rate            int
	near, only      string
	docs, coatcheck string
}

// runMillion plays what is about a Redis with a million sessions, all of it on one stage,
// which takes a quarter of a minute to be filled.
func runMillion(ctx context.Context, args []string) error {
	var m millionRun
	flags := flag.NewFlagSet("million", flag.ContinueOnError)
	flags.IntVar(&m.sessions, "sessions", stage.Million, "how many Redis holds")
	flags.Int64Var(&m.seed, "seed", 1, "what all that is drawn comes from")
	flags.IntVar(&m.rate, "rate", 400, "checks a second")
	flags.StringVar(&m.near, "near", "", "near cache: on or off; empty: both")
	quick := flags.Bool("quick", false, "one of both, drawn from the seed: within 2 minutes")
	flags.StringVar(&m.only, "only", "", "names of faults, with commas; empty: all")
	flags.StringVar(&m.docs, "docs", "", "folder of faults-rows.json and faults.md, as of table; empty: only print")
	flags.StringVar(&m.coatcheck, "coatcheck", "", "binary to try; empty: it is built first")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *quick {
		m.near = []string{"off", "on"}[m.seed&1]
	}
	done, err := withBinary(&m.coatcheck)
	if err != nil {
		return err
	}
	defer done()
	k := newKeeper(m.docs, m.seed, m.coatcheck)
	for _, near := range []bool{false, true} {
		if m.near == "" || m.near == "on" == near {
			if err := m.play(ctx, near, k); err != nil {
				return errors.Join(err, k.end())
			}
		}
	}
	return k.end()
}

// play plays the faults one after the other on one stage.
func (m *millionRun) play(ctx context.Context, near bool, k *keeper) (err error) {
	set := setting{
		stage: stage.Options{Kind: stage.Single, TLS: near, ACL: true, Seed: m.seed, Sessions: m.sessions},
		near:  near, rate: m.rate, coatcheck: m.coatcheck,
	}
	begin := time.Now()
	s, err := raise(ctx, set)
	if err != nil {
		return err
	}
	defer func() { err = s.blame(errors.Join(err, s.close())) }()
	progress("%s: %d sessions were there after %v", set.name(), m.sessions, time.Since(begin).Round(100*time.Millisecond))
	pause(ctx, warm)
	draw := rand.New(rand.NewPCG(uint64(m.seed), 7))
	for _, f := range stage.Millions() {
		if m.only != "" && !slices.Contains(strings.Split(m.only, ","), f.Name) {
			continue
		}
		res, err := s.suffer(ctx, f, draw)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err == nil {
			s.report(ctx, res)
		}
		if err := k.keep(f.Name+", "+set.name(), res, err); err != nil {
			return err
		}
		if err != nil {
			return err // the stage is no more what it was
		}
	}
	return nil
}
