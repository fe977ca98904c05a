package stage

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
)

// proofs show that each fault happens, while it does.
var proofs = map[string]func(*scene){
	"bounce":       answers("refused"),
	"bounce-twice": answers("refused"),
	"kill":         answers("refused"),
	"kill-empty":   answers("refused"),
	"flush":        (*scene).isEmpty,
	"shutdown":     answers("refused"),
	"loading":      (*scene).isLoading,
	"pause":        answers("timeout"),
	"pause-short":  answers("timeout"),
	"pause-often":  takes(50*time.Millisecond, 200*time.Millisecond),
	"fork":         (*scene).hasForked,

	"busy":            answers("BUSY"),
	"sleep":           answers("timeout"),
	"client-pause":    answers("timeout"),
	"pause-write":     (*scene).writesWait,
	"oom":             (*scene).isFull,
	"evicting":        (*scene).hasEvicted,
	"readonly":        answers("READONLY"),
	"noreplicas":      answers("NOREPLICAS"),
	"maxclients":      (*scene).refusesClients,
	"maxclients-part": (*scene).refusesSomeClients,
	"client-kill":     (*scene).endsKept,
	"script-flush":    (*scene).forgetsScripts,

	"delay":          takes(60*time.Millisecond, 200*time.Millisecond),
	"slow":           keptAnswers("timeout"),
	"skew":           takes(45*time.Millisecond, 85*time.Millisecond),
	"jitter":         takes(60*time.Millisecond, 250*time.Millisecond),
	"throttle":       (*scene).isThrottled,
	"blackhole":      both(keptAnswers("timeout"), answers("timeout")),
	"silent":         (*scene).actsInSilence,
	"replies-held":   both(keptAnswers("timeout"), answers("timeout")),
	"questions-held": both(keptAnswers("timeout"), answers("timeout")),
	"half-open":      both(keptAnswers("timeout"), everyMaster("ok")),
	"unreachable":    both(keptAnswers("timeout"), answers("timeout")),
	"reset":          (*scene).endsKept,
	"refuse":         both(keptAnswers("re"), answers("refused")),
	"flap":           toAndFro("refused"),
	"half-blind":     (*scene).oneClientIsBlind,
	"herd":           everyMaster("ok"),
	"herd-outage":    answers("timeout"),
	"cancel-storm":   takes(10*time.Millisecond, 150*time.Millisecond),

	"acl-rotate":    (*scene).passwordsOverlap,
	"acl-abrupt":    both(answers("WRONGPASS"), keptAnswers("")),
	"acl-changed":   (*scene).keptLiveOn,
	"acl-flap":      toAndFro("WRONGPASS"),
	"acl-right":     both(keptAnswers("NOPERM"), answers("NOPERM")),
	"acl-off":       answers("WRONGPASS"),
	"password-file": (*scene).fileIsEmpty,

	"tls-rotated":        everyMaster("ok"),
	"tls-expired":        answers("expired"),
	"tls-foreign":        answers("unknown authority"),
	"tls-name":           answers("IP SANs"),
	"tls-client-expired": answers("remote error"),
	"tls-client-refused": answers("remote error"),
	"tls-garbage":        answers("unknown authority"),
	"tls-moved":          answers("unknown authority"),

	"clock-ahead":  clockIs(15*time.Second, time.Minute),
	"clock-behind": clockIs(-time.Minute, -15*time.Second),
	"clock-swings": (*scene).clockSwings,

	"reload":      (*scene).policiesChange,
	"coat-clocks": (*scene).clocksAreApart,

	"sigterm":            (*scene).clientIsGone,
	"sigkill":            (*scene).clientIsGone,
	"sigterm-outage":     answers("timeout"),
	"start-down":         answers("refused"),
	"coat-pause":         clientIs("T"),
	"coat-pause-revoked": clientIs("T"),
	"fds":                (*scene).clientHasNone,

	"se-kill":           (*scene).masterMoves,
	"se-stop":           (*scene).masterMoves,
	"se-manual":         (*scene).masterMoves,
	"se-pause":          both((*scene).writesWait, (*scene).masterMoves),
	"se-partition":      both((*scene).masterMoves, (*scene).twoMasters),
	"se-isolate":        both((*scene).masterMoves, keptAnswers("timeout")),
	"se-replication":    (*scene).replicasLag,
	"se-sentinels":      (*scene).sentinelsAreGone,
	"se-sentinels-stop": (*scene).sentinelsAreSilent,
	"se-blind":          both((*scene).masterMoves, (*scene).oneSentinelIsBlind),
	"se-rolling":        everyMaster("ok"),
	"se-lag":            (*scene).masterMoves,
	"se-replicas":       answers("refused"),
	"se-bounce":         answers("refused"),
	"se-restart-coat":   (*scene).masterMoves,
	"se-late":           (*scene).masterMoves,
	"se-stale":          (*scene).masterMoves,

	"cl-kill":         (*scene).masterMoves,
	"cl-stop":         (*scene).masterMoves,
	"cl-manual":       (*scene).masterMoves,
	"cl-double":       (*scene).masterMoves,
	"cl-takeover":     (*scene).masterMoves,
	"cl-bounce":       answers("refused"),
	"cl-shard":        both(answers("refused"), (*scene).restIsServed),
	"cl-replica-kill": both(answers("refused"), everyMaster("ok")),
	"cl-migrate":      (*scene).slotsMove,
	"cl-seeds":        (*scene).seedsRefuse,
	"cl-partition":    both((*scene).masterMoves, answers("CLUSTERDOWN")),
	"cl-minority":     both((*scene).masterMoves, (*scene).oneClientFails),
	"cl-bus":          answers("CLUSTERDOWN"),
	"cl-bus-one-way":  (*scene).busIsDoubted,
}

// healed show what a healing leaves behind, beside all that every one must.
var healed = map[string]func(*scene){
	"kill-empty":     (*scene).isEmpty,
	"replies-held":   everyMaster("ok"),
	"acl-rotate":     (*scene).passwordIsNew,
	"acl-abrupt":     (*scene).passwordIsNew,
	"acl-changed":    (*scene).passwordIsNew,
	"clock-ahead":    clockIs(-2*time.Second, 2*time.Second),
	"clock-behind":   clockIs(-2*time.Second, 2*time.Second),
	"clock-swings":   clockIs(-2*time.Second, 2*time.Second),
	"sigterm":        clientIs("SR"),
	"reload":         (*scene).policiesAreGood,
	"coat-clocks":    (*scene).clientsAreWell,
	"coat-pause":     clientIs("SR"),
	"evicting":       (*scene).evictsNoMore,
	"script-flush":   everyMaster("ok"),
	"cl-migrate":     (*scene).slotsAreBack,
	"se-stale":       (*scene).oneMaster,
	"cl-minority":    (*scene).clientsAreWell,
	"se-partition":   (*scene).clientsAreWell,
	"half-blind":     (*scene).clientsAreWell,
	"fds":            (*scene).clientsAreWell,
	"start-down":     (*scene).clientsAreWell,
	"sigterm-outage": (*scene).clientsAreWell,
}

// policiesChange: the file is one of four things, in turn.
func (sc *scene) policiesChange() {
	sc.within(time.Minute, "the policies are broken", func() error {
		if text, err := os.ReadFile(sc.policies()); err != nil || string(text) != "policies: {" {
			return fmt.Errorf("%q, %w", text, err)
		}
		return nil
	})
}

// clocksAreApart: one is ahead, and one behind.
func (sc *scene) clocksAreApart() {
	a, b := sc.Servers[0].(*client).ahead, sc.Servers[1].(*client).ahead
	if a == 0 || b == 0 || (a > 0) == (b > 0) {
		sc.Errorf("the clocks are %v and %v ahead", a, b)
	}
	everyMaster("ok")(sc)
}

func answers(word string) func(*scene) { return func(sc *scene) { sc.Helper(); sc.anyNode(word) } }

func keptAnswers(word string) func(*scene) { return func(sc *scene) { sc.Helper(); sc.anyKept(word) } }

func everyMaster(word string) func(*scene) { return func(sc *scene) { sc.Helper(); sc.allNodes(word) } }

func both(one, other func(*scene)) func(*scene) {
	return func(sc *scene) { sc.Helper(); one(sc); other(sc) }
}

func toAndFro(word string) func(*scene) {
	return func(sc *scene) { sc.Helper(); sc.anyNode(word); sc.allMastersSoon(); sc.anyNode(word) }
}

func (sc *scene) allMastersSoon() {
	sc.within(20*time.Second, "all masters are well", func() error {
		for n := range sc.kept {
			if got := sc.ask(n); got != "ok" {
				return errors.New(got)
			}
		}
		return nil
	})
}

func takes(low, high time.Duration) func(*scene) {
	return func(sc *scene) {
		sc.Helper()
		sc.within(20*time.Second, fmt.Sprintf("answers take %v to %v", low, high), func() error {
			if longest := sc.slowest(5); longest < low || longest > high {
				return fmt.Errorf("the slowest takes %v", longest)
			}
			return nil
		})
	}
}

// written is the keys that a test writes before a fault.
const written = 30

func keyOf(i int) string { return fmt.Sprintf("session:written-%d", i) }

// write writes them, by the judge's way.
func (sc *scene) write() {
	sc.Helper()
	for i := range written {
		sc.within(time.Minute, "a write", func() error {
			return sc.judge.Set(sc.Context(), keyOf(i), strings.Repeat("x", 200), time.Hour).Err()
		})
	}
	if sc.o.Kind != Sentinel {
		return
	}
	// On a busy machine Sentinels may hold an election by themselves, which is to cost nothing.
	if _, err := sc.judge.Pipelined(sc.Context(), func(p redis.Pipeliner) error {
		p.Set(sc.Context(), keyOf(0), strings.Repeat("x", 200), time.Hour)
		p.Do(sc.Context(), "wait", 2, 5000)
		return nil
	}); err != nil {
		sc.Log(err)
	}
}

// left is how many of them are there.
func (sc *scene) left() (n int, err error) {
	for i := range written {
		ctx, cancel := context.WithTimeout(sc.Context(), time.Second)
		found, err := sc.judge.Exists(ctx, keyOf(i)).Result()
		cancel()
		if err != nil {
			return 0, err
		}
		n += int(found)
	}
	return n, nil
}

func (sc *scene) isEmpty() {
	sc.within(20*time.Second, "nothing is left", func() error {
		n, err := sc.left()
		if err != nil || n > 0 {
			return fmt.Errorf("%d keys: %w", n, err)
		}
		return nil
	})
}

func (sc *scene) isLoading() {
	sc.within(20*time.Second, "the server loads", func() error {
		_, err := sc.nodes[0].do(sc.Context(), "hmget", sc.keys[0], "user_id")
		if err == nil || !strings.Contains(err.Error(), "LOADING") {
			return fmt.Errorf("it says %w", err)
		}
		return nil
	})
}

func (sc *scene) hasForked() {
	if _, err := sc.nodes[0].info(sc.Context(), "keyspace", "db1"); err != nil {
		sc.Error("there are no more keys")
	}
	if n, err := sc.nodes[0].info(sc.Context(), "stats", "total_forks"); err != nil || n == "0" {
		sc.Errorf("%s forks (%v)", n, err)
	}
}

func (sc *scene) writesWait() {
	sc.within(20*time.Second, "a write waits while a read is answered", func() error {
		for n := range sc.kept {
			c := redis.NewClient(sc.options(n))
			read := answer(c.HMGet(sc.Context(), "session:{x}", "user_id").Err())
			wrote := answer(c.Do(sc.Context(), "pexpireat", "session:{x}", 1, "gt").Err())
			_ = c.Close()
			if read != "timeout" && wrote == "timeout" {
				return nil
			}
		}
		return errors.New("none does")
	})
}

func (sc *scene) isFull() {
	for n := range sc.kept {
		client := n.client()
		err := client.HSet(sc.Context(), sc.own[n], "field", 1).Err()
		_ = client.Close()
		if err == nil || !strings.Contains(err.Error(), "OOM") {
			sc.Errorf("%s takes a write: %v", n.name, err)
		}
	}
	sc.allNodes("ok") // what a check sends needs no memory
}

// keyAt is a key that the node has.
func (sc *scene) keyAt(n *node) string {
	client := n.client()
	defer func() { _ = client.Close() }()
	for _, key := range sc.keys {
		if err := client.Exists(sc.Context(), key).Err(); err == nil {
			return key
		}
	}
	sc.Fatalf("%s has no key", n.name)
	return ""
}

func (sc *scene) hasEvicted() {
	sc.within(20*time.Second, "keys are evicted", func() error {
		for n := range sc.kept {
			_, _ = n.do(sc.Context(), "set", "{"+sc.own[n]+"}-filler", strings.Repeat("x", 1000))
			if evicted, err := n.info(sc.Context(), "stats", "evicted_keys"); err == nil && evicted != "0" {
				return nil
			}
		}
		return errors.New("none was")
	})
}

func (sc *scene) evictsNoMore() {
	for _, n := range sc.nodes {
		reply, err := n.do(sc.Context(), "config", "get", "maxmemory")
		if err != nil || fmt.Sprint(reply) != "[maxmemory 0]" {
			sc.Errorf("%s: %v, %v", n.name, reply, err)
		}
	}
}

func (sc *scene) refusesClients() {
	sc.within(20*time.Second, "new connections are refused", func() error {
		for n := range sc.kept {
			if got := sc.ask(n); got == "reset" || strings.Contains(got, "max number of clients") {
				return nil
			}
		}
		return errors.New("none is")
	})
}

func (sc *scene) refusesSomeClients() {
	taken := make([]*redis.Client, 0, 12)
	defer func() {
		for _, c := range taken {
			_ = c.Close()
		}
	}()
	var well, refused int
	for n := range sc.kept {
		for range 5 {
			c := redis.NewClient(sc.options(n))
			taken = append(taken, c)
			if sc.touch(c) == "ok" {
				well++
			} else {
				refused++
			}
		}
	}
	if well == 0 || refused == 0 {
		sc.Errorf("%d connections taken, %d refused", well, refused)
	}
}

func (sc *scene) endsKept() {
	sc.within(20*time.Second, "a connection from before ends", func() error {
		for _, c := range sc.kept {
			if c.PoolStats().StaleConns > 0 || sc.touch(c) == "reset" {
				return nil
			}
		}
		return errors.New("none does")
	})
}

func (sc *scene) forgetsScripts() {
	n := sc.someMaster()
	sha, err := n.do(sc.Context(), "script", "load", "return 1")
	if err != nil {
		sc.Fatal(err)
	}
	sc.within(20*time.Second, "the script is forgotten", func() error {
		reply, err := n.do(sc.Context(), "script", "exists", sha)
		if err != nil || fmt.Sprint(reply) != "[0]" {
			return fmt.Errorf("%v: %w", reply, err)
		}
		return nil
	})
}

func (sc *scene) someMaster() *node {
	for n := range sc.kept {
		return n
	}
	return nil
}

func (sc *scene) isThrottled() {
	sc.within(20*time.Second, "a long question takes long", func() error {
		for n, c := range sc.kept {
			key, begin := sc.own[n], time.Now()
			err := c.HMGet(sc.Context(), key, strings.Repeat("x", 2_000)).Err()
			if took := time.Since(begin); err == nil && took > 100*time.Millisecond {
				return nil
			}
		}
		return errors.New("it takes no time")
	})
}

// actsInSilence: what was asked for happened, and no answer came.
func (sc *scene) actsInSilence() {
	sc.within(20*time.Second, "a master acts and says nothing", func() error {
		for n, c := range sc.kept {
			before, err := n.info(sc.Context(), "commandstats", "cmdstat_pexpireat")
			if err != nil || sc.touch(c) != "timeout" {
				continue
			}
			if after, err := n.info(sc.Context(), "commandstats", "cmdstat_pexpireat"); err == nil && after != before {
				return nil
			}
		}
		return errors.New("none does")
	})
}

func (sc *scene) oneClientIsBlind() {
	sc.oneClientFails()
	sc.allNodes("ok")
}

// oneClientFails: of the two, exactly one is answered.
func (sc *scene) oneClientFails() {
	sc.within(20*time.Second, "one client fails alone", func() error {
		failing := 0
		for _, server := range sc.Servers {
			c := server.(*client)
			c.mu.Lock()
			if c.failed(300 * time.Millisecond) {
				failing++
			}
			c.mu.Unlock()
		}
		if failing != 1 {
			return fmt.Errorf("%d fail", failing)
		}
		return nil
	})
}

func (sc *scene) policiesAreGood() {
	if text, err := os.ReadFile(sc.policies()); err != nil || string(text) != goodPolicies {
		sc.Errorf("%q, %v", text, err)
	}
}

func (sc *scene) clientsAreWell() {
	for _, server := range sc.Servers {
		c := server.(*client)
		_ = c.heard("") // what it has said so far
		sc.within(time.Minute, "a client is well", func() error { return c.heard("ok") })
	}
}

func (sc *scene) passwordsOverlap() {
	sc.allNodes("ok") // by the file
	n := sc.someMaster()
	reply, err := n.do(sc.Context(), "acl", "getuser", sc.user())
	if err != nil {
		sc.Fatal(err)
	}
	passwords := fmt.Sprint(reply.([]any)[3])
	want := 2
	if sc.user() == ordinal {
		want = 3 // and that of redistest
	}
	if got := len(strings.Fields(passwords)); got != want {
		sc.Errorf("%s has %d passwords, want %d", sc.user(), got, want)
	}
}

func (sc *scene) passwordIsNew() {
	sc.allNodes("ok")
	for n := range sc.kept {
		o := sc.options(n)
		o.Password = sc.oldPassword
		sc.within(20*time.Second, string(n.name)+" takes the old password no more", func() error {
			c := redis.NewClient(o)
			defer func() { _ = c.Close() }()
			if got := sc.touch(c); !strings.Contains(got, "WRONGPASS") {
				return errors.New(got)
			}
			return nil
		})
	}
}

func (sc *scene) keptLiveOn() {
	sc.anyNode("WRONGPASS")
	well := 0
	for n, c := range sc.kept {
		switch got := sc.touch(c); got {
		case "ok":
			well++
		case "timeout": // of a busy machine
		default:
			sc.Errorf("a connection from before to %s: %s", n.name, got)
		}
	}
	if well == 0 {
		sc.Error("no connection from before lives on")
	}
}

func (sc *scene) fileIsEmpty() {
	if text, err := os.ReadFile(sc.secrets.file); err != nil || len(text) > 0 {
		sc.Errorf("the file holds %d bytes (%v)", len(text), err)
	}
	sc.endsKept()
}

func clockIs(low, high time.Duration) func(*scene) {
	return func(sc *scene) {
		sc.Helper()
		for _, n := range sc.nodes {
			sc.within(20*time.Second, fmt.Sprintf("the clock is %v to %v ahead", low, high), func() error {
				ahead, err := sc.ahead(n)
				if err != nil || ahead < low || ahead > high {
					return fmt.Errorf("%v: %w", ahead, err)
				}
				return nil
			})
		}
	}
}

func (sc *scene) ahead(n *node) (time.Duration, error) {
	client := n.client()
	defer func() { _ = client.Close() }()
	now, err := client.Time(sc.Context()).Result()
	return time.Until(now), err
}

func (sc *scene) clockSwings() {
	var low, high time.Duration
	sc.within(20*time.Second, "the clock swings", func() error {
		ahead, err := sc.ahead(sc.nodes[0])
		low, high = min(low, ahead), max(high, ahead)
		if err != nil || high-low < 2*time.Second {
			return fmt.Errorf("from %v to %v: %w", low, high, err)
		}
		return nil
	})
}

// states are those of the processes of the clients (proc(5)); none for one that has ended.
func (sc *scene) states() (all string) {
	for _, server := range sc.Servers {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", server.Pid()))
		if err != nil {
			continue
		}
		_, rest, _ := strings.Cut(string(text), ") ")
		all += rest[:1]
	}
	return all
}

func clientIs(state string) func(*scene) {
	return func(sc *scene) {
		sc.Helper()
		sc.within(20*time.Second, "a client is "+state, func() error {
			if all := sc.states(); len(all) != len(sc.Servers) || !strings.ContainsAny(all, state) {
				return fmt.Errorf("they are %s", all)
			}
			return nil
		})
	}
}

func (sc *scene) clientIsGone() {
	if all := sc.states(); len(all) != len(sc.Servers)-1 {
		sc.Errorf("the clients are %q", all)
	}
}

func (sc *scene) clientHasNone() {
	sc.within(20*time.Second, "a client has no descriptor left", func() error {
		var errs []error
		for _, server := range sc.Servers {
			// A client that can ask no Sentinel does not always say for want of what.
			for _, text := range []string{"too many open files", "all sentinels specified in configuration are unreachable"} {
				err := server.(*client).heard(text)
				if err == nil {
					return nil
				}
				errs = append(errs, err)
			}
		}
		return errors.Join(errs...)
	})
}

// masterMoves: a shard has another master.
func (sc *scene) masterMoves() {
	sc.within(time.Minute, "another master", func() error {
		now, err := sc.mastersOfMost()
		if err != nil {
			return err
		}
		for _, n := range now {
			if sc.kept[n] == nil {
				return nil
			}
		}
		return errors.New("the same")
	})
}

// oneSentinelIsBlind: some name the new master, and one still the former.
func (sc *scene) oneSentinelIsBlind() {
	blind := 0
	for _, watch := range sc.sentinels {
		if n, err := sc.watchedBy(sc.Context(), watch); err == nil && sc.kept[n] != nil {
			blind++
		}
	}
	if blind != 1 {
		sc.Errorf("%d Sentinels name the former master, want one", blind)
	}
}

// mastersOfMost are the masters in the eyes of most processes.
func (sc *scene) mastersOfMost() ([]*node, error) {
	if sc.o.Kind == Sentinel {
		n, err := sc.watched(sc.Context())
		return []*node{n}, err
	}
	var all []*node
	for _, n := range sc.nodes {
		if !n.alive {
			continue
		}
		ctx, cancel := context.WithTimeout(sc.Context(), 200*time.Millisecond)
		if is, err := n.isMaster(ctx); err == nil && is {
			all = append(all, n)
		}
		cancel()
	}
	return all, nil
}

func (sc *scene) twoMasters() {
	masters := 0
	for _, n := range sc.nodes {
		if is, err := n.isMaster(sc.Context()); err == nil && is {
			masters++
		}
	}
	if masters != 2 {
		sc.Errorf("%d masters", masters)
	}
	sc.oneClientOf(sc.before[0])
}

// oneClientOf: one of the clients speaks to this node, and not both.
func (sc *scene) oneClientOf(n *node) {
	sc.within(20*time.Second, "one client speaks to the old master", func() error {
		with := 0
		for i := range sc.Servers {
			if n.proxy.flows(replica(i)) {
				with++
			}
		}
		if with != 1 {
			return fmt.Errorf("%d do", with)
		}
		return nil
	})
}

func (sc *scene) oneMaster() {
	masters := 0
	for _, n := range sc.nodes {
		if is, err := n.isMaster(sc.Context()); err == nil && is {
			masters++
		}
	}
	if masters != 1 {
		sc.Errorf("%d masters", masters)
	}
}

func (sc *scene) replicasLag() {
	if err := sc.judge.Set(sc.Context(), "session:lag", 1, time.Hour).Err(); err != nil {
		sc.Fatal(err)
	}
	n, err := sc.judge.Do(sc.Context(), "wait", 1, 50).Int()
	if err != nil || n != 0 {
		sc.Errorf("%d replicas have it (%v)", n, err)
	}
	sc.allNodes("ok")
}

func (sc *scene) sentinelsAreGone() {
	for _, watch := range sc.sentinels {
		c := redis.NewClient(&redis.Options{Addr: watch.proxy.addr, MaxRetries: -1, DialerRetries: 1})
		if got := answer(c.Ping(sc.Context()).Err()); got != "refused" {
			sc.Errorf("%s: %s", watch.name, got)
		}
		_ = c.Close()
	}
	sc.allKept("ok")
}

func (sc *scene) allKept(word string) {
	for n, c := range sc.kept {
		sc.within(20*time.Second, "a connection from before to "+string(n.name)+" answers "+word, func() error {
			if got := sc.touch(c); got != word {
				return errors.New(got)
			}
			return nil
		})
	}
}

func (sc *scene) sentinelsAreSilent() {
	for _, watch := range sc.sentinels {
		state, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", watch.server.Pid()))
		if _, rest, _ := strings.Cut(string(state), ") "); err != nil || !strings.HasPrefix(rest, "T") {
			sc.Errorf("%s runs (%v)", watch.name, err)
		}
	}
	sc.endsKept()
}

// restIsServed: the shards whose nodes live answer.
func (sc *scene) restIsServed() {
	served := 0
	for n := range sc.kept {
		if n.alive && sc.ask(n) == "ok" {
			served++
		}
	}
	if served != shards-1 {
		sc.Errorf("%d shards are served", served)
	}
}

func (sc *scene) slotsMove() {
	sc.within(20*time.Second, "slots move", func() error {
		for n := range sc.kept {
			if got, err := sc.ranges(n); err != nil || got > shards {
				return err
			}
		}
		return errors.New("they are where they were")
	})
}

// slotsAreBack: masters are told so, and replicas hear of it.
func (sc *scene) slotsAreBack() {
	sc.within(time.Minute, "slots are back", func() error {
		got, err := sc.ranges(sc.nodes[0])
		if err == nil && got != shards {
			err = fmt.Errorf("%d ranges of slots", got)
		}
		return err
	})
}

func (sc *scene) ranges(n *node) (int, error) {
	reply, err := n.do(sc.Context(), "cluster", "slots")
	all, _ := reply.([]any)
	return len(all), err
}

func (sc *scene) seedsRefuse() {
	for _, seed := range sc.seeds {
		c := redis.NewClient(&redis.Options{Addr: seed.addr, MaxRetries: -1, DialerRetries: 1})
		if got := answer(c.Ping(sc.Context()).Err()); got != "refused" {
			sc.Errorf("a seed: %s", got)
		}
		_ = c.Close()
	}
	sc.allNodes("ok")
}

// busIsDoubted: a node says that another may have failed.
func (sc *scene) busIsDoubted() {
	sc.within(20*time.Second, "a node is doubted", func() error {
		for _, n := range sc.nodes {
			reply, err := n.do(sc.Context(), "cluster", "nodes")
			if err != nil {
				return err
			}
			if strings.Contains(fmt.Sprint(reply), "fail") {
				return nil
			}
		}
		return syscall.EAGAIN
	})
}
