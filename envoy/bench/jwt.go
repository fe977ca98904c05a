package main

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/coatcheck/coatcheck/internal/madepart"
	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/redisstore"
)

// measureJWT measures tokens beside sessions.
func measureJWT(args []string) error {
	flags := flag.NewFlagSet("jwt", flag.ContinueOnError)
	binary := flags.String("coatcheck", "", "binary to measure; empty: it is built first")
	rounds := flags.Int("rounds", 5, "how often each is measured")
	budget := flags.Duration("for", 90*time.Second, "time for all measurements behind Envoy together")
	docs := flags.String("docs", "", "folder of jwt.md, which is written anew between its marks; empty: only print")
	if err := flags.Parse(args); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "coatcheck-bench-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if err := built(binary, dir); err != nil {
		return err
	}
	text, err := compareTokens(dir, *binary, *rounds, *budget)
	if err != nil {
		return err
	}
	if *docs == "" {
		fmt.Print(text)
		return nil
	}
	return madepart.Write(filepath.Join(*docs, "jwt.md"), "bench", text)
}

// A token variant is a row: an algorithm, with or without a list of logged out tokens.
type tokenRow struct {
	algorithm string
	denylist  bool
}

func (r tokenRow) String() string {
	if r.denylist {
		return r.algorithm + ", and a list of ended tokens in Redis"
	}
	return r.algorithm
}

func (r tokenRow) cookies(dir string) string { return filepath.Join(dir, "tokens "+r.String()) }

func compareTokens(dir, binary string, rounds int, budget time.Duration) (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	rows := []tokenRow{{"EdDSA", true}}
	for _, algorithm := range algorithms {
		rows = append(rows, tokenRow{algorithm, false})
	}
	programs := []program{stand(bareServer, self, "bare"), stand(bareAgain, self, "bare"), coatcheck(lookupServer, binary, nil, nil)}
	if hasNearCache(binary) {
		programs = append(programs, coatcheck(hitServer, binary, nearCache, nil))
	}
	for _, r := range rows {
		p := stand(r.String(), self, "verifier")
		list := "no"
		if r.denylist {
			list = "yes"
		}
		p.arguments = append([]string{"verifier", r.algorithm, r.cookies(dir), list}, p.arguments[1:]...)
		programs = append(programs, p)
	}
	var fronts []front
	for _, p := range programs {
		fronts = append(fronts, front{name: p.name, server: p.name, filter: defaults})
	}
	w, err := newWorld(programs, fronts)
	if err != nil {
		return "", err
	}
	defer w.close()
	session, _, err := w.cookies(withSession)
	if err != nil {
		return "", err
	}
	var variants []variant
	for _, p := range programs {
		variants = append(variants, variant{name: p.name, front: p.name, server: p.name, cookies: session, status: http.StatusOK, hits: p.name == hitServer})
	}
	for i := range rows {
		variants[len(variants)-len(rows)+i].cookies = rows[i].cookies(dir)
	}
	results, err := inRounds(w, variants, rounds, budget)
	if err != nil {
		return "", err
	}
	return tokenText(w, variants, results)
}

// inRounds measures the closed loops in rounds.
func inRounds(w *world, variants []variant, rounds int, budget time.Duration) (table, error) {
	length := budget / time.Duration(rounds*len(closed)*len(variants)) * 4 / 5
	results := make(table)
	for round := range rounds {
		progress("round %d of %d, of %v together", round+1, rounds, budget)
		for _, s := range closed {
			for _, v := range shuffled(variants) {
				got, err := w.measure(v, s, length/5, length)
				if err != nil {
					return nil, err
				}
				results.add(s, v.name, got)
			}
		}
	}
	return results, nil
}

var tokenNames = map[string]string{
	bareServer: "nothing (bare server)", bareAgain: "nothing again (the noise)",
	lookupServer: "session: lookup in Redis", hitServer: "session: near hit",
}

// tokenText has the tables of docs/jwt.md.
func tokenText(w *world, variants []variant, results table) (string, error) {
	var b strings.Builder
	var all []sample
	for _, rows := range results {
		for _, samples := range rows {
			all = append(all, samples...)
		}
	}
	fmt.Fprintf(&b, "%s\n\n%s\n", describe(), stillness(all))
	for _, s := range closed {
		fmt.Fprintf(&b, "\n**%v**\n\n| the server checks | server us | Redis us | both us | more than bare | Envoy us | p50 us | p99 us |\n|---|---|---|---|---|---|---|---|\n", s)
		for _, v := range variants {
			own, bare := results[s][v.name], results[s][bareServer]
			m := func(column func(sample) float64) float64 { return median(each(own, column)) }
			name := cmp.Or(tokenNames[v.name], "JWT: "+v.name)
			fmt.Fprintf(&b, "| %s | %.0f | %.0f | %.0f | %.0f | %.0f | %.0f | %.0f |\n", name, m(serverCPU), m(redisCPU), m(serverAndRedis),
				median(differences(own, bare, serverAndRedis)), m(envoyCPU), m(p50), m(p99))
		}
	}
	if err := verificationAlone(&b); err != nil {
		return "", err
	}
	err := logoutCost(&b, w)
	return b.String(), err
}

// differences are those within each round.
func differences(of, from []sample, column func(sample) float64) []float64 {
	var all []float64
	for i := range min(len(of), len(from)) {
		all = append(all, column(of[i])-column(from[i]))
	}
	return all
}

// verificationAlone has a row for each algorithm: the CPU of one goroutine without a
// server, and the bytes that each request carries.
func verificationAlone(b *strings.Builder) error {
	cookie := sessions.DefaultCookieName + "=" + sessions.NewID().Reveal()
	b.WriteString("\n**Verification alone, and bytes on the wire**\n\n| | verify us | sign us | the cookie, bytes |\n|---|---|---|---|\n")
	fmt.Fprintf(b, "| session ID | - | - | %d |\n", len(cookie))
	for _, algorithm := range algorithms {
		s, err := newSigner(algorithm)
		if err != nil {
			return err
		}
		token, err := s.sign("user-1000")
		if err != nil {
			return err
		}
		verify, err := cpuOf(func() error { _, err := s.verify(token); return err })
		if err != nil {
			return err
		}
		sign, err := cpuOf(func() error { _, err := s.sign("user-1000"); return err })
		if err != nil {
			return err
		}
		fmt.Fprintf(b, "| JWT, %s | %.1f | %.1f | %d |\n", algorithm, verify, sign, len(tokenCookie)+1+len(token))
	}
	return nil
}

// cpuOf is the CPU time of a call in microseconds, with the garbage that it leaves: the
// median of five times.
func cpuOf(do func() error) (float64, error) {
	var rounds []float64
	for range 5 {
		begin, before, calls := time.Now(), processorTime(), 0
		for ; time.Since(begin) < 200*time.Millisecond; calls++ {
			if err := do(); err != nil {
				return 0, err
			}
		}
		rounds = append(rounds, micros(processorTime()-before)/float64(calls))
	}
	return median(rounds), nil
}

// processorTime is the CPU time of this process, all threads together.
func processorTime() time.Duration {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &ts) // fails for unknown clocks alone
	return time.Duration(ts.Nano())
}

// logoutCost measures what ends a session.
func logoutCost(b *strings.Builder, w *world) error {
	client := w.redis.Client()
	defer func() { _ = client.Close() }()
	manager, err := sessions.NewManager(redisstore.New(client, redisstore.Config{}), sessions.Config{})
	if err != nil {
		return err
	}
	ids, err := signIn(w.redis, sessionCount)
	if err != nil {
		return err
	}
	var took []float64
	for _, text := range ids {
		id, err := sessions.ParseID(text)
		if err != nil {
			return err
		}
		begin := time.Now()
		if err := manager.Revoke(context.Background(), id.Key()); err != nil {
			return err
		}
		took = append(took, micros(time.Since(begin)))
	}
	fmt.Fprintf(b, "\n**Logout**: ending a session took %.0f us in the median of %d, with its entry in the index of its user. The next check refuses it.\n", median(took), len(took))
	return nil
}
