package login

import (
	"context"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// LimiterConfig says how many passwords are checked at the same time, and how many
// logins wait for that. The zero LimiterConfig is ready.
type LimiterConfig struct {
	// Concurrent bounds the passwords that are checked at the same time. Zero:
	// DefaultConcurrent.
	Concurrent int
	// Queue bounds the logins that wait for their turn. Zero: four times
	// Concurrent. Negative: no login waits.
	Queue int
	// Wait bounds how long a login waits. Zero: a second.
	Wait time.Duration
	// Metrics takes the collectors, whose names begin with coatcheck_login_hash.
	// Nil: they are not exported.
	Metrics prometheus.Registerer
}

// DefaultConcurrent is half of GOMAXPROCS, and at least one.
func DefaultConcurrent() int { return max(1, runtime.GOMAXPROCS(0)/2) }

func (c LimiterConfig) orDefault() LimiterConfig {
	if c.Concurrent <= 0 {
		c.Concurrent = DefaultConcurrent()
	}
	if c.Queue == 0 {
		c.Queue = 4 * c.Concurrent
	}
	c.Queue = max(0, c.Queue)
	if c.Wait <= 0 {
		c.Wait = time.Second
	}
	return c
}

// A Limiter bounds the passwords that are checked at the same time, and the logins
// that wait for their turn, because every client may ask for this work. It is safe
// for concurrent use.
type Limiter struct {
	places chan struct{} // one for each inside and each that waits
	inside chan struct{}
	wait   time.Duration

	refused prometheus.Counter
}

// NewLimiter returns a Limiter, or an error where its metrics cannot be registered.
func NewLimiter(c LimiterConfig) (*Limiter, error) {
	c = c.orDefault()
	l := &Limiter{
		places: make(chan struct{}, c.Concurrent+c.Queue),
		inside: make(chan struct{}, c.Concurrent),
		wait:   c.Wait,
		refused: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "coatcheck_login_hash_queue_full_total", Help: "Logins refused because too many passwords were being checked.",
		}),
	}
	if c.Metrics == nil {
		return l, nil
	}
	inFlight := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "coatcheck_login_hashes_in_flight", Help: "Passwords that are being hashed.",
	}, func() float64 { return float64(len(l.inside)) })
	for _, collector := range []prometheus.Collector{l.refused, inFlight} {
		if err := c.Metrics.Register(collector); err != nil {
			return nil, err
		}
	}
	return l, nil
}

// Enter waits for its turn, in the order of arrival. It returns [ErrBusy] where too
// many logins wait already or the wait was too long, and the error of ctx where its
// client has left. After nil, [Limiter.Leave] must follow.
func (l *Limiter) Enter(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case l.places <- struct{}{}:
	default:
		l.refused.Inc()
		return ErrBusy
	}
	timer := time.NewTimer(l.wait)
	defer timer.Stop()
	select {
	case l.inside <- struct{}{}:
		return nil
	case <-timer.C:
		<-l.places
		l.refused.Inc()
		return ErrBusy
	case <-ctx.Done():
		<-l.places
		return ctx.Err()
	}
}

// Leave makes room for the next login.
func (l *Limiter) Leave() {
	<-l.inside
	<-l.places
}

// Limit returns an [Authenticator] that asks a only in its turn, for one that bounds
// nothing itself, such as an LDAP directory. passwords.Passwords has a Limiter of its
// own.
func Limit(a Authenticator, l *Limiter) Authenticator { return limited{a, l} }

type limited struct {
	Authenticator
	limiter *Limiter
}

func (l limited) Authenticate(ctx context.Context, username, password string) (User, error) {
	if err := l.limiter.Enter(ctx); err != nil {
		return User{}, err
	}
	defer l.limiter.Leave()
	return l.Authenticator.Authenticate(ctx, username, password)
}
