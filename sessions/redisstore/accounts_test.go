package redisstore_test

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/sessions/redisstore"
	"github.com/coatcheck/coatcheck/sessions/redisstore/redistest"
)

// TestAccounts: digests of 53 bits come back as they were, a file that is not in
// force writes nothing, and the mark of a live login ends by itself.
func TestAccounts(t *testing.T) {
	client := redistest.Start(t).Client()
	t.Cleanup(func() { _ = client.Close() })
	ctx, a := t.Context(), redisstore.NewAccounts(client)
	const first, second = 1<<53 - 1, 1<<52 + 1
	if file, live, err := a.InForce(ctx); file != 0 || live || err != nil {
		t.Errorf("at first: %d, %v, %v", file, live, err)
	}
	digests := map[string]uint64{"42": 1<<53 - 1, "a b": 1, "ü": 1<<53 - 3, "-": 0}
	for i := range 2500 {
		digests[fmt.Sprint("user", i)] = uint64(i)
	}
	if written, err := a.Write(ctx, first, digests, nil); written || err != nil {
		t.Errorf("written for a file that is not in force: %v", err)
	}
	errs := errors.Join(a.Claim(ctx, first), a.Live(ctx, first, time.Minute))
	written, err := a.Write(ctx, first, digests, []string{"none"})
	all, allErr := a.All(ctx)
	if errs = errors.Join(errs, err, allErr); errs != nil || !written || !maps.Equal(all, digests) {
		t.Errorf("%d of %d: %v", len(all), len(digests), errs)
	}
	if file, live, err := a.InForce(ctx); file != first || !live || err != nil {
		t.Errorf("in force: %d, %v, %v", file, live, err)
	}
	if err := a.Claim(ctx, second); err != nil {
		t.Fatal(err)
	}
	if written, err := a.Write(ctx, first, nil, []string{"42"}); written || err != nil {
		t.Errorf("forgotten for a file that is in force no more: %v", err)
	}
	if written, err := a.Write(ctx, second, nil, []string{"42"}); !written || err != nil {
		t.Errorf("forgotten: %v, %v", written, err)
	}
	if _, found, err := a.One(ctx, "42"); found || err != nil {
		t.Errorf("what was forgotten: %v, %v", found, err)
	}
	if digest, found, err := a.One(ctx, "ü"); digest != 1<<53-3 || !found || err != nil {
		t.Errorf("one: %d, %v, %v", digest, found, err)
	}
	if err := a.Live(ctx, first, 300*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	for since := time.Now(); client.Exists(ctx, fmt.Sprint("login-accounts:file:", uint64(first))).Val() != 0; time.Sleep(10 * time.Millisecond) {
		if time.Since(since) > 20*time.Second {
			t.Fatal("the mark lives on")
		}
	}
}

// TestAccountsRights: a Redis user needs these rights for it, neither SCAN nor
// HGETALL; without one of them an error names the cure.
func TestAccountsRights(t *testing.T) {
	t.Parallel()
	rights := strings.Fields("on >pw ~login-accounts* +zscore +zadd +zrem +zrange +eval +time +hset +pexpireat +exists")
	for _, cluster := range []bool{false, true} {
		rig := newACLRig(t, cluster)
		var also []string
		if cluster {
			also = []string{"+cluster|slots"}
		}
		work := func(rules []string) error {
			rig.as(rules)
			options := patient
			options.Addrs, options.Username, options.Password = []string{rig.server.Addr}, "tried", "pw"
			options.IsClusterMode, options.MaxRetries = rig.cluster, -1
			a := redisstore.NewAccounts(connect(rig, redisstore.ClientConfig{UniversalOptions: options}))
			ctx := t.Context()
			claimed, lived := a.Claim(ctx, 7), a.Live(ctx, 7, time.Minute)
			_, written := a.Write(ctx, 7, map[string]uint64{"42": 1}, []string{"43"})
			_, _, inForce := a.InForce(ctx)
			_, all := a.All(ctx)
			return errors.Join(claimed, lived, written, inForce, all)
		}
		if err := work(append(also, rights...)); err != nil {
			t.Errorf("cluster %v: %v", cluster, err)
		}
		for i, right := range rights[2:] {
			less := append(append([]string{}, rights[:i+2]...), rights[i+3:]...)
			if err := work(append(also, less...)); err == nil || !strings.Contains(err.Error(), "docs/sessions.md") {
				t.Errorf("cluster %v without %s: %v", cluster, right, err)
			}
		}
	}
}
