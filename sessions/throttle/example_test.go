package throttle_test

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/coatcheck/coatcheck/sessions/throttle"
)

// A tally is Counters in memory, of one process, without delays; redisstore has the
// real ones.
type tally map[string]int

func (t tally) Count(_ context.Context, counters ...throttle.Counter) (wait time.Duration, err error) {
	for _, c := range counters {
		if t[c.Key] >= c.Free {
			return c.First, nil
		}
	}
	for _, c := range counters {
		t[c.Key]++
	}
	return 0, nil
}

func (t tally) Return(_ context.Context, counters ...throttle.Counter) error {
	for _, c := range counters {
		t[c.Key]--
	}
	return nil
}

func (t tally) Clear(_ context.Context, key string) error         { delete(t, key); return nil }
func (t tally) Mark(context.Context, string, time.Duration) error { return nil }

// An attempt is counted before the password is looked at.
func Example() {
	var counters throttle.Counters = tally{}
	ctx, address := context.Background(), netip.MustParseAddr("192.0.2.1")
	for range 6 {
		attempt := throttle.NewAttempt("Ada", address)
		wait, err := attempt.Count(ctx, counters)
		if err != nil || wait > 0 {
			fmt.Println("429, Retry-After", wait, err)
		}
	}

	// Another account at this address. Its password could not be checked, and then it
	// was right.
	attempts := []throttle.Attempt{throttle.NewAttempt("bob", address), throttle.NewAttempt("bob", address)}
	_, _ = attempts[0].Count(ctx, counters)
	fmt.Println(attempts[0].GiveBack(ctx, counters))
	_, _ = attempts[1].Count(ctx, counters)
	fmt.Println(attempts[1].Succeed(ctx, counters))

	// Output:
	// 429, Retry-After 30s <nil>
	// <nil>
	// <nil>
}

// All spellings of a name share their counters.
func ExampleFold() {
	fmt.Println(throttle.Fold(" ＡＤÁ "), throttle.Fold("ada"))
	// Output: ada ada
}
