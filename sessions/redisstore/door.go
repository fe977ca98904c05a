package redisstore

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// A door is the breaker of new connections to one node. A node that refuses to greet us (a
// password that was changed, a right that is missing to choose the database, maxclients)
// does answer, and goes on to serve the connections that it has, so that its breaker stays
// closed. But each call that finds no free connection would knock anew: a dial, TLS, and
// two refusals. After as many refusals in a row as open a breaker the door is shut: a new
// connection is refused here, in microseconds, but for one each 100 ms, whose welcome opens
// the door again. Calls with a connection do not notice.
type door struct {
	refusals atomic.Int32 // in a row
	database bool         // the handshake ends with SELECT, and else with HELLO

	mu    sync.Mutex
	next  time.Time // when one may knock again
	cause error     // the last refusal
}

// A shutDoor is the last refusal, of a connection that was not tried.
type shutDoor struct{ cause error }

func (s shutDoor) Error() string {
	return "redis refuses new connections, so that none is tried, but for one each 100ms: " + s.cause.Error()
}
func (s shutDoor) Unwrap() error { return s.cause }

// shut returns an error for a connection that must not be tried.
func (d *door) shut(limit int32, now time.Time) error {
	if d.refusals.Load() < limit {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if now.Before(d.next) {
		return shutDoor{d.cause}
	}
	d.next = now.Add(probeEvery)
	return nil
}

// learn looks at the end of a command, which may be one of a handshake. HELLO and, with a
// database, SELECT decide; go-redis sends AUTH behind a HELLO that was refused, and does not
// mind what CLIENT is answered. Usually it costs an atomic load.
func (d *door) learn(cmd redis.Cmder, limit int32, err error) {
	if err == nil && d.refusals.Load() == 0 || errors.As(err, new(shutDoor)) {
		return
	}
	last, name := "hello", cmd.Name()
	if d.database {
		last = "select"
	}
	switch {
	case name != "hello" && name != "select":
	case turnedAway(err) || name == "select" && Forbidden(err):
		d.refuse(limit, err)
	case err == nil && name == last:
		d.refusals.Store(0)
	}
}

// refuse notes a refusal.
func (d *door) refuse(limit int32, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.cause = err
	if d.refusals.Add(1) == limit {
		d.next = time.Now().Add(probeEvery)
	}
}

// turnedAway reports whether a server has said that it will not have this connection.
func turnedAway(err error) bool {
	return Refused(err) || redis.HasErrorPrefix(err, maxClients)
}

// maxClients is how a server begins that has as many connections as it takes. It says so
// unasked, and hangs up.
const maxClients = "max number of clients"
