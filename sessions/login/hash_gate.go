package login

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// A hashGate bounds the passwords that are checked at the same time, and those
// that wait for it. Hashing is the one thing here that costs anything, and every
// client may ask for it.
type hashGate struct {
	places chan struct{} // one for each inside and each that waits
	inside chan struct{}
	wait   time.Duration

	refused prometheus.Counter
}

func newHashGate(concurrent, queue int, wait time.Duration, registerer prometheus.Registerer) (*hashGate, error) {
	g := &hashGate{
		places: make(chan struct{}, concurrent+queue),
		inside: make(chan struct{}, concurrent),
		wait:   wait,
		refused: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "coatcheck_login_hash_queue_full_total", Help: "Logins refused because too many passwords were being checked.",
		}),
	}
	if registerer == nil {
		return g, nil
	}
	inFlight := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "coatcheck_login_hashes_in_flight", Help: "Passwords that are being hashed.",
	}, func() float64 { return float64(len(g.inside)) })
	for _, collector := range []prometheus.Collector{g.refused, inFlight} {
		if err := registerer.Register(collector); err != nil {
			return nil, err
		}
	}
	return g, nil
}

// enter waits for room, in the order of arrival. It returns ErrBusy where there
// is no room to wait in or the wait was too long, and the context's error where
// nobody waits for the answer any more. After nil, leave must follow.
func (g *hashGate) enter(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case g.places <- struct{}{}:
	default:
		g.refused.Inc()
		return ErrBusy
	}
	timer := time.NewTimer(g.wait)
	defer timer.Stop()
	select {
	case g.inside <- struct{}{}:
		return nil
	case <-timer.C:
		<-g.places
		g.refused.Inc()
		return ErrBusy
	case <-ctx.Done():
		<-g.places
		return ctx.Err()
	}
}

func (g *hashGate) leave() {
	<-g.inside
	<-g.places
}
