package extauthz

import (
	"cmp"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coatcheck/coatcheck/extauthz/internal/redact"
	"github.com/coatcheck/coatcheck/internal/notice"
	"github.com/coatcheck/coatcheck/sessions"
)

const (
	// manyChecks is how many checks without a Cookie header are more than the bots and
	// monitors that may come first.
	manyChecks = 1000
	// manyLookalikes is how many cookies under other names are more than a few clients'
	// own.
	manyLookalikes = 100
	// maxNames bounds the names that are counted, and namesSaid those in the line.
	maxNames  = 8
	namesSaid = 3
	// maxNameSaid bounds a name in the line, in bytes.
	maxNameSaid = 64
)

// A cookieWatch notices, by the checks themselves, that the session cookie does not
// arrive: Envoy hides it, or login sets one of another name. The first live session
// shows that it does, and from then on a check only reads one flag.
//
// Clients cause both notices, so neither is more than a hint, and neither can be kept
// away by clients where it is true: behind an Envoy that hides Cookie headers none
// arrives, and of names only the most frequent are said, again each hour.
type cookieWatch struct {
	settled atomic.Bool // a session was seen
	arrived atomic.Bool // a Cookie header was seen
	bare    atomic.Int64
	board   *notice.Board
	cookie  sessions.Cookie
	format  sessions.Format // nil: ours
	names   lookalikes
}

func newCookieWatch(c Config) (*cookieWatch, error) {
	board, err := notice.NewBoard(c.Logger, c.Metrics, notice.NoCookieHeader, notice.OtherCookieName)
	return &cookieWatch{board: board, cookie: c.Cookie, format: c.Format, names: lookalikes{now: time.Now}}, err
}

// look learns from one check.
func (w *cookieWatch) look(r *request, who *identity) {
	if !w.settled.Load() {
		w.learn(r, who)
	}
}

func (w *cookieWatch) learn(r *request, who *identity) {
	switch {
	case r.malformed || !r.http:
	case who.session != nil:
		if !w.settled.Swap(true) {
			w.board.Over(notice.NoCookieHeader)
			w.board.Over(notice.OtherCookieName)
		}
	case len(r.cookies.Lines) > 0:
		if !w.arrived.Load() && !w.arrived.Swap(true) {
			w.board.Over(notice.NoCookieHeader)
		}
		if who.outcome == NoCookie {
			w.count(r.cookies)
		}
	case !w.arrived.Load():
		if n := w.bare.Add(1); n%manyChecks == 0 {
			w.board.Say(notice.NoCookieHeader)
		}
	}
}

// count counts the names of cookies that could be ours.
func (w *cookieWatch) count(h sessions.CookieHeader) {
	find := w.cookie.Lookalikes
	if w.format != nil {
		find = w.format.Lookalikes
	}
	found := find(h)
	if found == nil {
		return
	}
	if names := w.names.add(found); names != nil {
		w.board.Say(notice.OtherCookieName, slog.String("cookie.name", cmp.Or(w.cookie.Name, sessions.DefaultCookieName)), slog.Any("seen", names))
	}
}

// lookalikes counts names. Where clients send more names than there is room for, those
// that stand out remain (Misra and Gries, 1982); the default name always has room,
// because it is the one that a login without configuration sets.
type lookalikes struct {
	now func() time.Time

	mu     sync.Mutex
	counts map[string]int
	total  int
	until  time.Time // nothing is counted before
}

// add counts names, and returns the most frequent ones where it is time to say them:
// after many, and once an hour. A check does not wait for another one here.
func (l *lookalikes) add(names []string) []string {
	if !l.mu.TryLock() {
		return nil
	}
	defer l.mu.Unlock()
	if l.now().Before(l.until) {
		return nil
	}
	for _, name := range names {
		l.count(name)
	}
	if l.total++; l.total < manyLookalikes {
		return nil
	}
	frequent := l.frequent()
	l.counts, l.total, l.until = nil, 0, l.now().Add(notice.Pause)
	return frequent
}

func (l *lookalikes) count(name string) {
	if l.counts == nil {
		l.counts = make(map[string]int)
	}
	if l.counts[name] > 0 || len(l.counts) < maxNames || name == sessions.DefaultCookieName {
		l.counts[strings.Clone(name)]++ // it is a part of the request
		return
	}
	for other := range l.counts {
		if other == sessions.DefaultCookieName {
			continue
		}
		if l.counts[other]--; l.counts[other] == 0 {
			delete(l.counts, other)
		}
	}
}

// frequent are the names to be said, redacted, the default name first and then the most
// frequent.
func (l *lookalikes) frequent() []string {
	names := slices.SortedFunc(maps.Keys(l.counts), func(a, b string) int {
		first := func(name string) int {
			if name == sessions.DefaultCookieName {
				return 0
			}
			return 1
		}
		return cmp.Or(cmp.Compare(first(a), first(b)), cmp.Compare(l.counts[b], l.counts[a]), strings.Compare(a, b))
	})
	names = names[:min(namesSaid, len(names))]
	for i, name := range names {
		name = redact.ClientText(name)
		names[i] = name[:min(maxNameSaid, len(name))]
	}
	return names
}
