package serve

import (
	"context"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"github.com/coatcheck/coatcheck/cmd/internal/config"
	"github.com/coatcheck/coatcheck/cmd/internal/usersource"
	"github.com/coatcheck/coatcheck/internal/notice"
	"github.com/coatcheck/coatcheck/sessions/redisstore"
)

// noticed are the notices that the process says itself; the packages have theirs.
var noticed = []notice.Name{
	notice.EnvoyDeadline, notice.SettingsDiffer, notice.SettingsUnread, notice.LoginRights, notice.ClocksApart,
	notice.RedisEmptied, notice.EpochUnread, notice.SecureCookie, notice.IdleBeyondMaximum, notice.LongTimeout, notice.TracesLost, notice.APIRights,
}

// sayAtStart says what the configuration alone tells.
func (s *server) sayAtStart() {
	for _, w := range s.config.Warnings() {
		s.notices.Say(w.Notice, slog.String("values", w.Values))
	}
	if strings.HasPrefix(strings.ToLower(s.config.CookieName), "__host-") {
		s.notices.Say(notice.SecureCookie, slog.String("cookie.name", s.config.CookieName))
	}
}

// A deadlineWatch notices that Envoy gives checks no more time than we do. It looks at
// calls as they come, because a check that has waited for a processor has less time
// left than it was given.
type deadlineWatch struct {
	timeout time.Duration
	notices *notice.Board
	few     atomic.Int64 // calls that had too little
	most    atomic.Int64 // of what they had
}

// enoughCalls are more than a busy machine makes of calls that were given enough.
const enoughCalls = 10

// look learns what a call was given.
func (w *deadlineWatch) look(given time.Duration) {
	if given > w.timeout {
		return
	}
	for {
		most := w.most.Load()
		if int64(given) <= most || w.most.CompareAndSwap(most, int64(given)) {
			break
		}
	}
	if w.few.Add(1) >= enoughCalls {
		w.notices.Say(notice.EnvoyDeadline,
			slog.String("envoy", time.Duration(w.most.Load()).Round(time.Millisecond).String()), slog.String("timeout", w.timeout.String()))
	}
}

const (
	// apart is from which difference on clocks are noticed, and together below which
	// that is over.
	apart    = 5 * time.Second
	together = 4 * time.Second
)

// lookAtClocks notices that Redis's clock is far from ours.
func (w *redisWatch) lookAtClocks() {
	if !w.manager.ClockSynced() {
		return
	}
	offset := time.Until(w.manager.Now())
	switch {
	case offset.Abs() > apart:
		w.notices.Say(notice.ClocksApart, slog.String("redis_ahead_by", offset.Round(time.Second).String()))
	case offset.Abs() < together:
		w.notices.Over(notice.ClocksApart)
	}
}

// lookAtRights notices that login lacks rights. It looks when Redis begins to answer,
// and again until they are all there: a trial leaves errors in Redis's statistics.
func (w *redisWatch) lookAtRights(ctx context.Context) {
	missing, err := w.store.LoginRights(ctx, w.config.Users[usersource.UsersFile] != "")
	switch {
	case err != nil: // then nothing is known
	case len(missing) > 0:
		w.notices.Say(notice.LoginRights, slog.String("redis.username", w.config.RedisUsername), slog.Any("missing", missing))
	default:
		w.rights = true
		w.notices.Over(notice.LoginRights)
	}
}

// lookEvery is the time between two looks at what other processes have left in Redis.
var lookEvery = time.Minute

// A settingsWatch notices that this process has other settings than login. Login leaves
// its own at its start, so that the one that has started last counts; a check only
// reads.
type settingsWatch struct {
	state   *redisstore.State
	notices *notice.Board
	ours    config.Settings
	login   bool
	left    bool // ours, since the start
}

// look leaves or compares. A Redis that does not answer says nothing.
func (w *settingsWatch) look(ctx context.Context) {
	theirs, err := w.state.Read(ctx, redisstore.StateSettings)
	if err == nil && w.login && (theirs == "" || !w.left) {
		theirs = w.ours.Encode()
		err = w.state.Write(ctx, redisstore.StateSettings, theirs)
		w.left = err == nil
	}
	if err != nil {
		if redisstore.Forbidden(err) {
			w.notices.Say(notice.SettingsUnread, slog.String("error", err.Error()))
		}
		return
	}
	w.notices.Over(notice.SettingsUnread)
	w.compare(theirs)
}

func (w *settingsWatch) compare(text string) {
	theirs, err := config.ReadSettings(text)
	if err != nil {
		return // no login has started yet, or one of another version
	}
	if differ := w.ours.Differences(theirs); len(differ) > 0 {
		w.notices.Say(notice.SettingsDiffer, slog.Any("differ", differ))
		return
	}
	w.notices.Over(notice.SettingsDiffer)
}
