package login_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/sessions/login"
)

// TestThrottleAccountAtPrefix: five at once, then 30 seconds.
func TestThrottleAccountAtPrefix(t *testing.T) {
	r := newRig(t)
	for i := range 5 {
		if got := r.wrong("ada", fmt.Sprintf("192.0.2.%d", i)); got != http.StatusUnauthorized {
			t.Fatalf("attempt %d: %d", i, got)
		}
	}
	a := r.send("login", request{form: credentials("ada", adaPassword), from: "192.0.2.99"})
	r.want("the right password, too soon", a, http.StatusTooManyRequests)
	if n, _ := strconv.Atoi(a.Header.Get("Retry-After")); n < 28 || n > 30 || !strings.Contains(a.body, "Try again in "+strconv.Itoa(n)+" s") {
		t.Errorf("Retry-After %d: %s", n, a.body)
	}
	a = r.send("login", request{json: map[string]string{"username": "ada", "password": "x"}, from: "192.0.2.99"})
	var p struct {
		Code       string
		RetryAfter int `json:"retry_after"`
	}
	if err := json.Unmarshal([]byte(a.body), &p); err != nil || a.StatusCode != 429 || p.Code != "throttled" || p.RetryAfter < 28 {
		t.Errorf("as JSON: %s %s", a.Status, a.body)
	}
	if n := r.users.asked.Load(); n != 5 {
		t.Errorf("%d passwords were looked at, want 5", n)
	}
	// The same from elsewhere, and another user from here.
	if got := r.wrong("ada", "192.0.3.1"); got != http.StatusUnauthorized {
		t.Errorf("from elsewhere: %d", got)
	}
	if got := r.wrong("bob", "192.0.2.1"); got != http.StatusUnauthorized {
		t.Errorf("another account: %d", got)
	}
}

// TestThrottleSpellings: an account has one counter, however it is spelt.
func TestThrottleSpellings(t *testing.T) {
	r := newRig(t)
	for _, name := range []string{"ada", "ADA", " ada", "ａｄａ", "a\u200bda"} {
		r.wrong(name, "")
	}
	if got := r.wrong("áda", ""); got != http.StatusTooManyRequests {
		t.Errorf("an alias has attempts of its own: %d", got)
	}
}

// TestThrottleSuccess: it clears the counter of the account at the prefix, and
// buys no attempts at other accounts.
func TestThrottleSuccess(t *testing.T) {
	r := newRig(t)
	for range 20 {
		for range 4 { // a user who forgets
			r.wrong("ada", "192.0.2.1")
		}
		r.signIn("ada", "192.0.2.1")
	}
	for i := range 50 { // an attacker who has an account
		a := r.send("login", request{form: credentials("bob", bobPassword), from: "192.0.2.1"})
		if r.wrong(fmt.Sprint("eve", i), "192.0.2.1") == http.StatusTooManyRequests {
			if i < 10 {
				t.Errorf("stopped after %d failures, want 100", 80+i)
			}
			return
		}
		r.want("an attacker's own account", a, http.StatusSeeOther)
	}
	t.Error("signing in on and on buys attempts at other accounts")
}

// TestThrottleOffice: many who sign in rightly from one prefix are not stopped.
func TestThrottleOffice(t *testing.T) {
	r := newRig(t)
	for range 300 {
		r.signIn("ada", "192.0.2.1")
		r.signIn("bob", "192.0.2.2")
	}
}

// TestThrottleVictim: an attacker who keeps on from everywhere stops the owner
// neither where they have signed in before, nor for long elsewhere.
func TestThrottleVictim(t *testing.T) {
	r := newRig(t)
	r.signIn("ada", "192.0.2.1")
	refused := 0
	for i := range 200 {
		if r.wrong("ada", fmt.Sprintf("198.51.%d.1", i)) == http.StatusTooManyRequests {
			refused++
		}
	}
	if refused < 170 {
		t.Errorf("the attacker was stopped %d times of 200", refused)
	}
	for range 3 {
		r.signIn("ada", "192.0.2.77") // the same prefix
	}
	a := r.send("login", request{form: credentials("ada", adaPassword), from: "203.0.113.1"})
	n, _ := strconv.Atoi(a.Header.Get("Retry-After"))
	if a.StatusCode != http.StatusTooManyRequests || n > 20*60 {
		t.Errorf("at a new prefix: %s, Retry-After %d", a.Status, n)
	}
	t.Logf("200 attempts from 200 prefixes: %d stopped; the owner gets in at a known prefix, and waits %d s at a new one", refused, n)
}

// sendMany sends attempts, 100 in parallel, and returns how many passwords were
// looked at and how long it took.
func (r *rig) sendMany(n int, attempt func(i int) (username, from string)) (checked int64, took time.Duration) {
	r.Helper()
	before, start := r.users.asked.Load(), time.Now()
	work := make(chan int)
	var wg sync.WaitGroup
	statuses := make([]map[int]int, 100)
	for w := range statuses {
		statuses[w] = make(map[int]int)
		wg.Go(func() {
			for i := range work {
				username, from := attempt(i)
				a, err := r.try(r.Context(), "login", request{form: credentials(username, "wrong"), from: from})
				if err != nil {
					r.Error(err)
					continue
				}
				statuses[w][a.StatusCode]++
			}
		})
	}
	for i := range n {
		work <- i
	}
	close(work)
	wg.Wait()
	all := make(map[int]int)
	for _, some := range statuses {
		for status, n := range some {
			all[status] += n
		}
	}
	checked, took = r.users.asked.Load()-before, time.Since(start)
	r.Logf("%d attempts, 100 in parallel: %d passwords looked at, answers %v, in %v", n, checked, all, took.Round(time.Millisecond))
	if int64(all[401]) != checked || all[401]+all[429] != n {
		r.Errorf("the answers are %v", all)
	}
	return checked, took
}

// may is how many attempts may pass within a time: those that are free, and one
// after each delay.
func may(free int64, first, within time.Duration) int64 {
	for ; first <= within; first *= 2 {
		free++
		within -= first
	}
	return free
}

// TestThrottleRace: of attempts in parallel no more are checked than may. Those at one
// site are more than it may have, from 90 a prefix, which is less than a prefix may
// have.
func TestThrottleRace(t *testing.T) {
	for name, test := range map[string]struct {
		attempts int
		attempt  func(i int) (username, from string)
		free     int64
		first    time.Duration
	}{
		"one account, one address":    {atLength(1000, 10000), func(int) (string, string) { return "ada", "192.0.2.1" }, 5, 30 * time.Second},
		"one account, 1,000 prefixes": {atLength(1200, 3000), func(i int) (string, string) { return "ada", fmt.Sprintf("10.%d.%d.1", i%1000/250, i%250) }, 20, time.Second},
		"an account each, one site":   {atLength(900, 3000), func(i int) (string, string) { return fmt.Sprint("user", i), fmt.Sprintf("2001:db8:7:%x::1", i/90) }, 500, time.Second},
		"an account each, one prefix": {atLength(1000, 3000), func(i int) (string, string) { return fmt.Sprint("user", i), fmt.Sprintf("2001:db8::%x", i) }, 100, time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, func(c *login.Config) { c.Logger = nil })
			n, took := r.sendMany(test.attempts, test.attempt)
			if most := may(test.free, test.first, took); n < test.free || n > most {
				t.Errorf("%d passwords were looked at, want %d to %d", n, test.free, most)
			}
		})
	}
}

// atLength is how many times a test does something: full with COATCHECK_FULL=1.
func atLength(short, full int) int {
	if os.Getenv("COATCHECK_FULL") == "1" {
		return full
	}
	return short
}

// TestThrottleSiteSparesKnownPrefixes: an attacker who fills the counter of a site
// stops others there at new prefixes only.
func TestThrottleSiteSparesKnownPrefixes(t *testing.T) {
	r := newRig(t, func(c *login.Config) { c.Logger = nil })
	r.signIn("ada", "2001:db8:7:ffff::1")
	r.sendMany(700, func(i int) (string, string) { return fmt.Sprint("user", i), fmt.Sprintf("2001:db8:7:%x::1", i/50) })
	r.signIn("ada", "2001:db8:7:ffff::2")
	a := r.send("login", request{form: credentials("bob", bobPassword), from: "2001:db8:7:fffe::1"})
	if n, _ := strconv.Atoi(a.Header.Get("Retry-After")); a.StatusCode != http.StatusTooManyRequests || n > 60 {
		t.Errorf("at a new prefix of the site: %s, Retry-After %d", a.Status, n)
	}
	r.want("at another site", r.send("login", request{form: credentials("bob", bobPassword), from: "2001:db8:8::1"}), http.StatusSeeOther)
}
