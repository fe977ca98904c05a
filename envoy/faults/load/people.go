package load

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/coatcheck/coatcheck/envoy/faults/history"
	"github.com/coatcheck/coatcheck/sessions"
)

// A visitor is a session as its client and the history know it.
type visitor struct {
	id      sessions.ID
	key     sessions.Key
	shard   int
	person  *person
	history *history.Session
	ends    time.Duration // when it is over by its limits, and can be asked whether it is
	quiet   bool          // is not used before that
	marked  bool          // has its second field, or may have it
	revoked bool          // a revocation was sent
}

// A person is a user, with all sessions that were made for the user.
type person struct {
	id        string
	signingIn int // logins under way
	visitors  []*visitor
}

// people are all users and their sessions. It is safe for concurrent use.
type people struct {
	mu     sync.Mutex
	random *rand.Rand
	users  []*person
	live   []*visitor
	quiet  []*visitor // until their idle timeout
	over   []*visitor // revoked, or past a limit: the last ones
	next   int
}

const (
	// rememberedOver is how many sessions that are over are asked for: those of twice the
	// idle timeout at 25 changes a second, of which half end a session. So one that comes
	// back is asked for as long as it can live.
	rememberedOver = 500
	// justOver of them, which a server could still take for live ones, are asked for as often
	// as all others together.
	justOver = 50
)

func newPeople(seed uint64) *people {
	return &people{random: rand.New(rand.NewPCG(seed, 1))}
}

// shared is how many sessions a person has at most.
const shared = 4

// arrive is who signs in next: often a new person, sometimes one that has sessions already.
func (p *people) arrive() *person {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.users) > 0 && p.random.IntN(3) == 0 {
		who := p.users[len(p.users)-1-p.random.IntN(min(len(p.users), 20))]
		if len(who.visitors)+who.signingIn < shared {
			who.signingIn++
			return who
		}
	}
	p.next++
	who := &person{id: fmt.Sprint("user-", p.next), signingIn: 1}
	p.users = append(p.users, who)
	return who
}

// signedIn ends what arrive began; v is nil where no session came of it.
func (p *people) signedIn(who *person, v *visitor) {
	p.mu.Lock()
	defer p.mu.Unlock()
	who.signingIn--
	if v == nil {
		return
	}
	who.visitors = append(who.visitors, v)
	if v.quiet {
		p.quiet = append(p.quiet, v)
		return
	}
	p.live = append(p.live, v)
}

// size is how many sessions are alive, as far as it is known here.
func (p *people) size() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.live)
}

// asked draws a session for a check: a live one, or one that is over; nil if there is none.
func (p *people) asked(over bool) *visitor {
	p.mu.Lock()
	defer p.mu.Unlock()
	from := p.live
	if over {
		from = p.over
	}
	if len(from) == 0 {
		return nil
	}
	if over && p.random.IntN(2) == 0 {
		from = from[max(0, len(from)-justOver):]
	}
	return from[p.random.IntN(len(from))]
}

// toMark draws a live session that has no second field yet.
func (p *people) toMark() *visitor {
	v := p.asked(false)
	p.mu.Lock()
	defer p.mu.Unlock()
	if v == nil || v.marked || v.revoked {
		return nil
	}
	v.marked = true
	return v
}

// toRevoke draws a live session, which is over from now on.
func (p *people) toRevoke() *visitor {
	v := p.asked(false)
	p.mu.Lock()
	defer p.mu.Unlock()
	if v == nil || v.revoked {
		return nil
	}
	p.end(v)
	return v
}

// toRevokeAll draws a person without a login under way, and the sessions that are over from
// now on. A login under way may or may not survive, and says nothing.
func (p *people) toRevokeAll() (who *person, gone []*visitor) {
	v := p.asked(false)
	p.mu.Lock()
	defer p.mu.Unlock()
	if v == nil || v.person.signingIn > 0 {
		return nil, nil
	}
	v.person.signingIn = shared // no further login
	for _, other := range v.person.visitors {
		p.end(other)
	}
	return v.person, v.person.visitors
}

// end moves a session to those that are over. The caller holds the lock.
func (p *people) end(v *visitor) {
	v.revoked = true
	p.live, p.quiet = without(p.live, v), without(p.quiet, v)
	p.ended(v)
}

// ended adds a session to those that are over, once.
func (p *people) ended(v *visitor) {
	p.over = append(without(p.over, v), v)
	if len(p.over) > rememberedOver {
		p.over = p.over[len(p.over)-rememberedOver:]
	}
}

// expire moves sessions past a limit to those that are over.
func (p *people) expire(now time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, list := range [][]*visitor{append([]*visitor(nil), p.live...), append([]*visitor(nil), p.quiet...)} {
		for _, v := range list {
			if now > v.ends {
				p.live, p.quiet = without(p.live, v), without(p.quiet, v)
				p.ended(v)
			}
		}
	}
}

// all are the sessions that are asked at the end.
func (p *people) all() []*visitor {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append(append([]*visitor(nil), p.live...), p.over...)
}

// draw is a random number below n.
func (p *people) draw(n int) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.random.IntN(n)
}

func without(list []*visitor, v *visitor) []*visitor {
	for i := range list {
		if list[i] == v {
			list[i] = list[len(list)-1]
			return list[:len(list)-1]
		}
	}
	return list
}
