package load

import (
	"crypto/rand"
	"encoding/binary"
	"math"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// arrivals are the moments at which requests are due in an open loop, and the
// connections that are free for them.
type arrivals struct {
	timer   int // timerfd_create(2)
	begin   time.Time
	at      []time.Duration // since begin
	waiting []time.Time     // due, without a free connection
	idle    []*connection
}

// newArrivals draws the moments of a Poisson process in advance.
func newArrivals(rate float64, length time.Duration) (*arrivals, error) {
	timer, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK)
	if err != nil {
		return nil, os.NewSyscallError("timerfd_create", err)
	}
	a := &arrivals{timer: timer, begin: time.Now()}
	for at := time.Duration(0); at < length+time.Second; a.at = append(a.at, at) {
		at += time.Duration(-math.Log(uniform()) / rate * float64(time.Second))
	}
	return a, nil
}

// uniform is a random number above 0 and up to 1.
func uniform() float64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return float64(binary.LittleEndian.Uint64(b[:])>>11+1) / (1 << 53)
}

// due reports whether a request should have been sent by now.
func (a *arrivals) due(now time.Time) bool {
	return len(a.at) > 0 && a.begin.Add(a.at[0]).Before(now)
}

func (a *arrivals) take() time.Time {
	due := a.begin.Add(a.at[0])
	a.at = a.at[1:]
	return due
}

// free takes a free connection; nil if there is none.
func (a *arrivals) free() *connection {
	if len(a.idle) == 0 {
		return nil
	}
	c := a.idle[len(a.idle)-1]
	a.idle = a.idle[:len(a.idle)-1]
	return c
}

func (a *arrivals) replace(old, fresh *connection) {
	if i := slices.Index(a.idle, old); i >= 0 {
		a.idle[i] = fresh
	}
}

// arm sets the timer to the next arrival.
func (a *arrivals) arm(now time.Time) error {
	if len(a.at) == 0 {
		return nil
	}
	wait := max(a.begin.Add(a.at[0]).Sub(now), time.Nanosecond) // 0 would disarm it
	spec := &unix.ItimerSpec{Value: unix.NsecToTimespec(int64(wait))}
	return os.NewSyscallError("timerfd_settime", unix.TimerfdSettime(a.timer, 0, spec, nil))
}

// drain makes the timer silent until it fires again.
func (a *arrivals) drain() {
	var count [8]byte
	_, _ = unix.Read(a.timer, count[:])
}
