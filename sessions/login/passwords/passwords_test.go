package passwords_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"golang.org/x/crypto/bcrypt"
	"golang.org/x/sys/unix"

	"github.com/coatcheck/coatcheck/sessions/login"
	"github.com/coatcheck/coatcheck/sessions/login/passwords"
	"github.com/coatcheck/coatcheck/sessions/login/userfile"
)

var timedLogins = flag.Int("timed-logins", 0, "how many refused logins of each kind TestRefusalTimes takes the time of; 0: 15, or 1000 where COATCHECK_FULL is 1")

// cheap are costs for tests that are not about costs.
var cheap = passwords.HashParams{Memory: 64, Passes: 1, Lanes: 1}

// A register is a Source for tests.
type register struct {
	mu       sync.Mutex
	accounts map[string]passwords.Account
	err      error // of Find
}

func (r *register) Find(_ context.Context, username string) (passwords.Account, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	a, ok := r.accounts[username]
	if r.err == nil && !ok {
		return a, passwords.ErrNoUser
	}
	return a, r.err
}

// A renewable register stores new hashes.
type renewable struct {
	*register
	renewErr error
}

func (r renewable) Renew(_ context.Context, a passwords.Account, hash string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.renewErr != nil {
		return fmt.Errorf("%w: %s for %s", r.renewErr, hash, a.Hash)
	}
	stored := r.accounts[a.Username]
	if stored.Hash == a.Hash {
		stored.Hash = hash
		r.accounts[a.Username] = stored
	}
	return nil
}

// newRegister has a user for each hash, by the names of the map.
func newRegister(hashes map[string]string) *register {
	r := &register{accounts: make(map[string]passwords.Account)}
	for name, hash := range hashes {
		r.accounts[name] = passwords.Account{User: login.User{ID: "id-" + name, Username: name, Roles: []string{"staff"}}, Hash: hash}
	}
	return r
}

func newPasswords(t testing.TB, s passwords.Source, c passwords.Config) *passwords.Passwords {
	t.Helper()
	p, err := passwords.New(s, c)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// usersFile opens a users file with this text.
func usersFile(t *testing.T, text string) *userfile.File {
	t.Helper()
	path := filepath.Join(t.TempDir(), "users.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := userfile.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func hashOf(t testing.TB, password string) string {
	t.Helper()
	hash, err := passwords.HashPassword(password)
	if err != nil {
		t.Fatal(err)
	}
	return hash
}

func bcryptOf(t testing.TB, password string, cost int) string {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte(password), cost)
	if err != nil {
		t.Fatal(err)
	}
	return string(hash)
}

func TestAuthenticate(t *testing.T) {
	full := strings.Repeat("x", 72)
	p := newPasswords(t, newRegister(map[string]string{
		"argon2id": hashOf(t, "secret"),
		"long":     hashOf(t, strings.Repeat("x", login.MaxPassword)),
		"bcrypt":   bcryptOf(t, full, bcrypt.MinCost),
		"locked":   "!",
		"none":     "",
		"md5":      "$1$abcdefgh$0123456789012345678901",
		"greedy":   "$argon2id$v=19$m=4194304,t=1,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
	}), passwords.Config{Params: cheap})
	for _, test := range []struct {
		username, password string
		err                error
	}{
		{"argon2id", "secret", nil},
		{"argon2id", "Secret", login.ErrBadCredentials},
		{"argon2id", "secret ", login.ErrBadCredentials},
		{"argon2id", "", login.ErrBadCredentials},
		{"long", strings.Repeat("x", login.MaxPassword), nil},
		{"long", strings.Repeat("x", login.MaxPassword+1), login.ErrBadCredentials},
		{"bcrypt", full, nil},
		{"bcrypt", full + "x", login.ErrBadCredentials}, // bcrypt alone would take it
		{"bcrypt", full[1:], login.ErrBadCredentials},
		{"locked", "!", login.ErrBadCredentials},
		{"none", "", login.ErrBadCredentials},
		{"none", "x", login.ErrBadCredentials},
		{"md5", "x", login.ErrBadCredentials},
		{"greedy", "password", login.ErrBadCredentials},
		{"unknown", "secret", login.ErrBadCredentials},
		{"", "secret", login.ErrBadCredentials},
	} {
		user, err := p.Authenticate(t.Context(), test.username, test.password)
		if !errors.Is(err, test.err) {
			t.Errorf("%s with %d bytes: %v, want %v", test.username, len(test.password), err, test.err)
		}
		if want := "id-" + test.username; err == nil && (user.ID != want || len(user.Roles) != 1) || err != nil && user.ID != "" {
			t.Errorf("%s: the user is %+v", test.username, user)
		}
	}
}

// TestSourceFault: a source that cannot be asked says nothing of a password.
func TestSourceFault(t *testing.T) {
	fault := errors.New("no database")
	r := newRegister(map[string]string{"ada": hashOf(t, "secret")})
	r.err = fault
	if _, err := newPasswords(t, r, passwords.Config{}).Authenticate(t.Context(), "ada", "secret"); !errors.Is(err, fault) || errors.Is(err, login.ErrBadCredentials) {
		t.Errorf("got %v", err)
	}
}

func TestNewPasswordsRefuses(t *testing.T) {
	taken := prometheus.NewRegistry()
	newPasswords(t, newRegister(nil), passwords.Config{Limit: login.LimiterConfig{Metrics: taken}})
	for name, c := range map[string]passwords.Config{
		"memory":  {Params: passwords.HashParams{Memory: 1 << 20}},
		"lanes":   {Params: passwords.HashParams{Memory: 8, Lanes: 2}},
		"dummy":   {Dummy: "canary-not-a-hash"},
		"metrics": {Limit: login.LimiterConfig{Metrics: taken}},
	} {
		if _, err := passwords.New(newRegister(nil), c); err == nil || strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRenewal(t *testing.T) {
	old := "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4"
	fresh := hashOf(t, "password")
	hashes := map[string]string{"old": old, "bcrypt": bcryptOf(t, "password", bcrypt.MinCost), "fresh": fresh}
	r := renewable{register: newRegister(hashes)}
	p := newPasswords(t, r, passwords.Config{})
	for name := range hashes {
		if _, err := p.Authenticate(t.Context(), name, "wrong"); !errors.Is(err, login.ErrBadCredentials) {
			t.Fatal(err)
		}
		if r.accounts[name].Hash != hashes[name] {
			t.Errorf("%s: a wrong password renewed the hash", name)
		}
		for range 2 {
			if _, err := p.Authenticate(t.Context(), name, "password"); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		if got := r.accounts[name].Hash; !strings.HasPrefix(got, "$argon2id$v=19$m=19456,t=2,p=1$") || (got == fresh) != (name == "fresh") {
			t.Errorf("%s: the hash is %s", name, got)
		}
	}
	plain := newRegister(hashes)
	if _, err := newPasswords(t, plain, passwords.Config{}).Authenticate(t.Context(), "old", "password"); err != nil || plain.accounts["old"].Hash != old {
		t.Errorf("a source that is no Renewer: %v", err)
	}
}

// TestNothingSecretIsSaid: neither passwords nor hashes reach the log, an error
// or a metric, for every mistake of a source.
func TestNothingSecretIsSaid(t *testing.T) {
	const password = "canary-password"
	hashes := map[string]string{
		"renewed": bcryptOf(t, password, bcrypt.MinCost),
		"odd":     "$scrypt$canary-hash",
		"plain":   password, // a table of passwords in plain text
	}
	var text bytes.Buffer
	registry := prometheus.NewRegistry()
	p := newPasswords(t, renewable{newRegister(hashes), errors.New("read-only")}, passwords.Config{
		Params: cheap, Limit: login.LimiterConfig{Metrics: registry}, Logger: slog.New(slog.NewJSONHandler(&text, nil)),
	})
	for name := range hashes {
		_, err := p.Authenticate(t.Context(), name, password)
		if (err == nil) != (name == "renewed") {
			t.Errorf("%s: %v", name, err)
		}
		fmt.Fprintln(&text, err)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(&text, families)
	for _, want := range []string{"id-odd", "id-plain", "cannot be used", "was not renewed", "read-only", "id-renewed"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("%q is not in:\n%s", want, text.String())
		}
	}
	for _, canary := range []string{"canary", hashes["renewed"], "$argon2id", "$2a$"} {
		if strings.Contains(text.String(), canary) {
			t.Errorf("%q is in:\n%s", canary, text.String())
		}
	}
}

// A slowSource is a Source of no accounts that answers when it is told to.
type slowSource struct {
	asked  atomic.Int32
	answer chan struct{}
}

func (s *slowSource) Find(ctx context.Context, _ string) (passwords.Account, error) {
	s.asked.Add(1)
	select {
	case <-s.answer:
		return passwords.Account{}, passwords.ErrNoUser
	case <-ctx.Done():
		return passwords.Account{}, ctx.Err()
	}
}

// TestLimiter: no more passwords at a time than there may be, no more that wait, and
// the source is asked by those alone whose turn it is; a client that goes away
// while it waits is not served.
func TestLimiter(t *testing.T) {
	registry := prometheus.NewRegistry()
	const logins = 12
	source := &slowSource{answer: make(chan struct{})}
	p := newPasswords(t, source, passwords.Config{Params: cheap, Limit: login.LimiterConfig{Concurrent: 1, Queue: 2, Wait: time.Minute, Metrics: registry}})
	results := make(chan error, logins)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for range logins {
		go func() { _, err := p.Authenticate(ctx, "unknown", "secret"); results <- err }()
	}
	for range logins - 3 { // one inside, two in the queue
		if err := <-results; !errors.Is(err, login.ErrBusy) {
			t.Fatalf("one too many: %v", err)
		}
	}
	if n, asked := metric(t, registry, "coatcheck_login_hashes_in_flight"), source.asked.Load(); n != 1 || asked > 1 {
		t.Errorf("%v at a time, of whom %d have asked the source", n, asked)
	}
	cancel()
	for range 3 {
		if err := <-results; !errors.Is(err, context.Canceled) {
			t.Errorf("after its client had gone: %v", err)
		}
	}
	if n := metric(t, registry, "coatcheck_login_hash_queue_full_total"); n != logins-3 {
		t.Errorf("%v are counted as refused", n)
	}
	if n := metric(t, registry, "coatcheck_login_hashes_in_flight"); n != 0 {
		t.Errorf("%v are in flight still", n)
	}
	close(source.answer)
	if _, err := p.Authenticate(t.Context(), "unknown", "secret"); !errors.Is(err, login.ErrBadCredentials) {
		t.Errorf("afterwards: %v", err)
	}
}

// TestLimiterWait: a login that has waited for too long is busy, not served late.
func TestLimiterWait(t *testing.T) {
	source := &slowSource{answer: make(chan struct{})}
	p := newPasswords(t, source, passwords.Config{Params: cheap, Limit: login.LimiterConfig{Concurrent: 1, Wait: time.Millisecond}})
	results := make(chan error, 2)
	for range 2 {
		go func() { _, err := p.Authenticate(t.Context(), "unknown", "secret"); results <- err }()
	}
	first := <-results
	close(source.answer)
	if second := <-results; !errors.Is(first, login.ErrBusy) || !errors.Is(second, login.ErrBadCredentials) {
		t.Errorf("got %v, then %v", first, second)
	}
}

// TestLimiterWithoutQueue: a login that does not get in at once is busy at once.
func TestLimiterWithoutQueue(t *testing.T) {
	p := newPasswords(t, newRegister(nil), passwords.Config{Params: passwords.HashParams{Memory: 16 << 10}, Limit: login.LimiterConfig{Concurrent: 2, Queue: -1, Wait: time.Minute}})
	var inside, busy atomic.Int32
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			switch _, err := p.Authenticate(t.Context(), "unknown", "secret"); {
			case errors.Is(err, login.ErrBusy):
				busy.Add(1)
			case errors.Is(err, login.ErrBadCredentials):
				inside.Add(1)
			}
		})
	}
	all.Wait()
	if inside.Load() < 2 || inside.Load()+busy.Load() != 20 {
		t.Errorf("%d got in, %d were refused", inside.Load(), busy.Load())
	}
}

func metric(t *testing.T, registry *prometheus.Registry, name string) float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetGauge().GetValue() + f.GetMetric()[0].GetCounter().GetValue()
		}
	}
	t.Fatalf("there is no %s", name)
	return 0
}

// TestMetricNames: the collectors say what they count, in Prometheus' manner.
func TestMetricNames(t *testing.T) {
	registry := prometheus.NewRegistry()
	newPasswords(t, newRegister(nil), passwords.Config{Limit: login.LimiterConfig{Metrics: registry}})
	problems, err := testutil.GatherAndLint(registry)
	if err != nil || len(problems) > 0 {
		t.Errorf("%v, %v", problems, err)
	}
}

// argon2idOf is a hash of those costs.
func argon2idOf(t *testing.T, params passwords.HashParams) string {
	t.Helper()
	r := renewable{register: newRegister(map[string]string{"ada": bcryptOf(t, "secret", bcrypt.MinCost)})}
	if _, err := newPasswords(t, r, passwords.Config{Params: params}).Authenticate(t.Context(), "ada", "secret"); err != nil {
		t.Fatal(err)
	}
	return r.accounts["ada"].Hash
}

// TestRefusalTimes: the time of a refusal tells neither whether there is such a
// user, nor whether it has a password, nor of which kind its hash is, nor that it
// has a bcrypt hash which the password is too long for, in sources of every kind
// and of several. With COATCHECK_FULL=1, or -args -timed-logins N, the costs are
// those that programs have, and the medians worth printing; they are to be within
// 5 %, and the test allows ten times as much.
func TestRefusalTimes(t *testing.T) {
	full := os.Getenv("COATCHECK_FULL") == "1" || *timedLogins > 0
	argon2ids := []passwords.HashParams{{Memory: 4 << 10, Passes: 2}, {Memory: 8 << 10, Passes: 4}, {Memory: 12 << 10, Passes: 2, Lanes: 8}}
	bcrypts, rounds := []int{6, 8}, 15
	if raceDetector { // a hash takes some ten times as long
		argon2ids = []passwords.HashParams{{Memory: 1 << 10, Passes: 2}, {Memory: 2 << 10, Passes: 4}, {Memory: 3 << 10, Passes: 2, Lanes: 8}}
		bcrypts, rounds = []int{4, 6}, 9
	}
	if full {
		argon2ids = []passwords.HashParams{{}, {Memory: 64 << 10, Passes: 4}, {Memory: 100 << 10, Passes: 2, Lanes: 8}} // the last is Django's
		bcrypts, rounds = []int{10, 12}, cmp.Or(*timedLogins, 1000)
	}
	first, strong, django := argon2idOf(t, argon2ids[0]), argon2idOf(t, argon2ids[1]), argon2idOf(t, argon2ids[2])
	weak, heavy := bcryptOf(t, "secret", bcrypts[0]), bcryptOf(t, "secret", bcrypts[1])
	for _, test := range []struct {
		name     string
		hashes   map[string]string
		password string
	}{
		{"argon2id", map[string]string{"known": first, "locked": "!"}, "wrong"},
		{"strong argon2id", map[string]string{"known": strong}, "wrong"},
		{"bcrypt", map[string]string{"known": weak, "locked": ""}, "wrong"},
		{"strong bcrypt", map[string]string{"known": heavy}, strings.Repeat("x", 73)},
		{"argon2id beside Django", map[string]string{"known": first, "django": django}, "wrong"},
		{"argon2id beside bcrypt", map[string]string{"known": first, "weak": weak, "heavy": heavy}, "wrong"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := passwords.Config{Params: argon2ids[0], Limit: login.LimiterConfig{Concurrent: 1}}
			// A file tells its kinds; of another source they are learned at the first login.
			var text strings.Builder
			for name, hash := range test.hashes {
				if len(hash) > 1 {
					fmt.Fprintf(&text, "- {id: %s, username: %s, password_hash: '%s'}\n", name, name, hash)
				}
			}
			refusals(t, newPasswords(t, usersFile(t, text.String()), c), rounds/3+1, test.hashes, test.password)
			source := newPasswords(t, newRegister(test.hashes), c)
			for name := range test.hashes {
				_, _ = source.Authenticate(t.Context(), name, "wrong")
			}
			refusals(t, source, rounds, test.hashes, test.password)
		})
	}
}

// refusals compares the times of all users and of an unknown one, taken in turn.
func refusals(t *testing.T, p *passwords.Passwords, rounds int, hashes map[string]string, password string) {
	t.Helper()
	names := append(slices.Sorted(maps.Keys(hashes)), "unknown")
	times, work := make(map[string][]time.Duration), make(map[string][]time.Duration)
	for round := range rounds {
		for i := range names {
			name := names[(i+round)%len(names)]
			begin, before := time.Now(), cpuTime(t)
			if _, err := p.Authenticate(t.Context(), name, password); !errors.Is(err, login.ErrBadCredentials) {
				t.Fatal(err)
			}
			times[name], work[name] = append(times[name], time.Since(begin)), append(work[name], cpuTime(t)-before)
		}
	}
	for _, name := range names {
		took, of := median(times[name]), median(times["unknown"])
		cpu, ofCPU := median(work[name]), median(work["unknown"])
		t.Logf("%s: the median of %d refusals is %v (CPU: %v), %.3f (%.3f) of an unknown user's", name, rounds, took, cpu,
			float64(took)/float64(of), float64(cpu)/float64(ofCPU))
		// On a busy machine a few times say nothing; what the CPU did says it.
		if quotient := float64(cpu) / float64(ofCPU); quotient < .5 || quotient > 1.5 {
			t.Errorf("%s: the CPU worked for %v, for an unknown user %v", name, cpu, ofCPU)
		}
	}
}

func median(all []time.Duration) time.Duration {
	slices.Sort(all)
	return all[len(all)/2].Round(10 * time.Microsecond)
}

// cpuTime is how long this process has computed.
func cpuTime(t *testing.T) time.Duration {
	t.Helper()
	var usage unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &usage); err != nil {
		t.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// TestDummyKinds: the kinds of Dummy count before any account is found.
func TestDummyKinds(t *testing.T) {
	slow := bcryptOf(t, "secret", 9)
	for _, dummy := range []string{slow, slow[:7], "$argon2id$v=19$m=64,t=1,p=1 " + slow[:7], "  $2a$09$  "} {
		p := newPasswords(t, newRegister(nil), passwords.Config{Params: cheap, Dummy: dummy})
		begin := time.Now()
		_, _ = p.Authenticate(t.Context(), "unknown", "wrong")
		if took := time.Since(begin); took < 5*time.Millisecond {
			t.Errorf("%q: a refusal took %v", dummy, took)
		}
	}
	for _, dummy := range []string{"bcrypt", "$2b$", "$2b$99$", "$argon2id$", "$argon2id$v=19$m=64", slow + "x", "$2b$09$ canary"} {
		if err := passwords.CheckDummy(dummy); err == nil || strings.Contains(err.Error(), "canary") {
			t.Errorf("%q: %v", dummy, err)
		}
	}
}

// TestConfirmIsAsked: Passwords asks about an account whose password was right.
func TestConfirmIsAsked(t *testing.T) {
	var asked bytes.Buffer
	no := errors.New("not now")
	p := newPasswords(t, newRegister(map[string]string{"ada": adaHash}), passwords.Config{
		Confirm: func(_ context.Context, a passwords.Account) error { asked.WriteString(a.ID); return no },
	})
	if _, err := p.Authenticate(t.Context(), "ada", "wrong"); !errors.Is(err, login.ErrBadCredentials) || asked.Len() > 0 {
		t.Errorf("a wrong password: %v, asked %s", err, &asked)
	}
	if _, err := p.Authenticate(t.Context(), "ada", "password"); !errors.Is(err, no) || asked.String() != "id-ada" {
		t.Errorf("the right one: %v, asked %s", err, &asked)
	}
}

func BenchmarkHashPassword(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		hashOf(b, "correct horse battery staple")
	}
}

func BenchmarkAuthenticate(b *testing.B) {
	for name, hash := range map[string]string{
		"argon2id":  hashOf(b, "secret"),
		"bcrypt-10": bcryptOf(b, "secret", 10),
		"bcrypt-12": bcryptOf(b, "secret", 12),
	} {
		b.Run(name, func(b *testing.B) {
			p := newPasswords(b, newRegister(map[string]string{"ada": hash}), passwords.Config{})
			b.ReportAllocs()
			for b.Loop() {
				if _, err := p.Authenticate(b.Context(), "ada", "secret"); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
