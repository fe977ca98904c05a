package sessions

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"
)

// Config holds the rules by which sessions live. The zero Config is ready.
type Config struct {
	// IdleTimeout ends an unused session, after [MaxTimeout] at most. Zero: 30 minutes.
	IdleTimeout time.Duration
	// AbsoluteTimeout ends a session however much it is used, after [MaxTimeout] at most.
	// Zero: 12 hours.
	AbsoluteTimeout time.Duration
	// IdleStep is how coarsely the idle expiry slides: a session may live this
	// much longer than IdleTimeout, never shorter. Zero: a tenth of IdleTimeout,
	// at most a minute.
	IdleStep time.Duration
	// MaxPerUser is how many live sessions a user may have: a login beyond that ends
	// the oldest. Zero: 50. Negative: any number.
	MaxPerUser int
	// Clock is this machine's. Nil: the system's. It is for tests, which move it: with
	// it the manager asks for the store's time in [Manager.SyncClock] alone.
	Clock Clock
	// Logger gets a line for sessions that a login ends by MaxPerUser. Nil: nothing is
	// logged.
	Logger *slog.Logger
}

const (
	defaultIdleTimeout     = 30 * time.Minute
	defaultAbsoluteTimeout = 12 * time.Hour
	defaultMaxPerUser      = 50
	maxDefaultStep         = time.Minute
	minTimeout             = 10 * time.Millisecond
)

// MaxTimeout is the longest idle or absolute timeout, a century: with longer ones, sums of
// times would wrap round.
const MaxTimeout = 100 * 365 * 24 * time.Hour

func (c Config) withDefaults() Config {
	if c.IdleTimeout == 0 {
		c.IdleTimeout = defaultIdleTimeout
	}
	if c.AbsoluteTimeout == 0 {
		c.AbsoluteTimeout = defaultAbsoluteTimeout
	}
	if c.MaxPerUser == 0 {
		c.MaxPerUser = defaultMaxPerUser
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.IdleStep == 0 {
		c.IdleStep = max(min(c.IdleTimeout/10, maxDefaultStep), time.Millisecond)
	}
	return c
}

// Validate names every value that no session can live by.
func (c Config) Validate() error {
	c = c.withDefaults()
	errs := []error{validateTimeout("idle", c.IdleTimeout), validateTimeout("absolute", c.AbsoluteTimeout)}
	if c.IdleStep < time.Millisecond || c.IdleStep > max(c.IdleTimeout, time.Millisecond) {
		errs = append(errs, fmt.Errorf("idle step %v is not between 1ms and the idle timeout", c.IdleStep))
	}
	return errors.Join(errs...)
}

func validateTimeout(which string, d time.Duration) error {
	switch {
	case d < minTimeout:
		return fmt.Errorf("%s timeout %v is under %v", which, d, minTimeout)
	case d > MaxTimeout:
		return fmt.Errorf("%s timeout %v is over a century, %v", which, d, MaxTimeout)
	}
	return nil
}

// A Manager creates, reads, slides and ends sessions. It is safe for
// concurrent use.
type Manager struct {
	store  Store
	config Config
	clock  *clock
}

// NewManager returns a Manager over store, or what is wrong with config. It
// asks the store nothing. The manager goes by the store's time, as
// [Manager.SyncClock] says; it needs no end, because it leaves nothing running.
func NewManager(store Store, config Config) (*Manager, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	return &Manager{store: store, config: config.withDefaults(), clock: newClock(config.Clock)}, nil
}

// until is the end that a use at now gives to a session.
func (m *Manager) until(now time.Time) time.Time {
	step := m.config.IdleStep.Milliseconds()
	end := now.Add(m.config.IdleTimeout)
	ms := end.UnixMilli()
	if end.After(time.UnixMilli(ms)) {
		ms++ // a fraction of a millisecond must not be cut off
	}
	return time.UnixMilli((ms + step - 1) / step * step)
}

// Create makes a session and returns its ID, the only time that it is seen. It says
// what is wrong with n, by the names of its parts, and returns [ErrEnded] where
// all sessions of the user were ended since the login began. If the user has more
// sessions than [Config.MaxPerUser] then, it ends the oldest; logins at the same
// time may pass that limit by their number.
func (m *Manager) Create(ctx context.Context, n NewSession) (ID, *Session, error) {
	if err := n.validate(); err != nil {
		return ID{}, nil, err
	}
	m.learn(ctx)
	now := m.Now()
	absolute := now.Add(m.config.AbsoluteTimeout).Truncate(time.Millisecond)
	record, err := n.encode(now, absolute)
	if err != nil {
		return ID{}, nil, err
	}
	id := NewID()
	key := id.Key()
	expiry := m.until(now)
	if absolute.Before(expiry) {
		expiry = absolute
	}
	listed, err := m.store.Create(ctx, CreateParams{
		Key: key, UserID: n.UserID, Record: record, Began: n.Began,
		Now: now, Expiry: expiry, Absolute: absolute,
	})
	if err != nil {
		return ID{}, nil, fmt.Errorf("creating a session: %w", err)
	}
	session, err := record.Decode(key)
	if err != nil {
		return ID{}, nil, err
	}
	if m.config.MaxPerUser > 0 && listed > m.config.MaxPerUser {
		if err := m.endOldest(ctx, session); err != nil {
			_, undone := m.store.Delete(ctx, n.UserID, key)
			return ID{}, nil, errors.Join(fmt.Errorf("ending the user's oldest session: %w", err), undone)
		}
	}
	session.IdleExpiresAt = expiry
	return id, session, nil
}

// maxEnded is how many sessions one login ends at most.
const maxEnded = 200

// endOldest ends the sessions of a user, the oldest first, that are too many beside
// a new one, but no session that is newer or still being made: logins at once do not
// end one another. Entries without a live record do not count.
func (m *Manager) endOldest(ctx context.Context, created *Session) error {
	listed, _, err := m.store.List(ctx, created.UserID, reserved, m.config.MaxPerUser+maxEnded)
	if err != nil {
		return err
	}
	live := []*Session{created}
	for _, l := range listed {
		if s, err := m.entered(l.Key, l.Entry); err == nil && s.UserID == created.UserID && s.Key != created.Key {
			live = append(live, s)
		}
	}
	// Logins at once look at the same beginning of the same order, so that together
	// they end no more than are too many.
	slices.SortFunc(live, m.byAge)
	var keys []Key
	for _, s := range live[:max(0, len(live)-m.config.MaxPerUser)] {
		if m.byAge(s, created) < 0 && !m.unconfirmed(s) {
			keys = append(keys, s.Key)
		}
	}
	if len(keys) == 0 {
		return nil
	}
	_, err = m.store.Delete(ctx, created.UserID, keys...)
	unreplicated := errors.Is(err, ErrNotReplicated) // they have ended, and replicas that are away stop no login
	if err != nil && !unreplicated {
		return err // and how many have ended, is not known
	}
	for _, key := range keys {
		attrs := []any{"session", key.Handle(), "user_id", created.UserID, "sessions", 1,
			"why", "max_per_user", "by", created.UserID, "login", created.Key.Handle()}
		if unreplicated {
			attrs = append(attrs, "replicated", false)
		}
		m.config.Logger.InfoContext(ctx, "session ended", attrs...)
	}
	return nil
}

// unconfirmed reports whether a session's login may not have returned yet: its record
// lasts for less than a session does that was never used.
func (m *Manager) unconfirmed(s *Session) bool {
	idle := s.CreatedAt.Add(m.config.IdleTimeout - time.Second)
	return s.IdleExpiresAt.Before(idle) && s.IdleExpiresAt.Before(s.ExpiresAt.Add(-time.Second)) && m.Now().Before(idle)
}

// byAge puts the oldest first; the key decides between those of one millisecond.
func (m *Manager) byAge(a, b *Session) int {
	return cmp.Or(m.created(a).Compare(m.created(b)), strings.Compare(string(a.Key), string(b.Key)))
}

// created is when a session was made: a record need not tell, and then its end does.
func (m *Manager) created(s *Session) time.Time {
	if s.CreatedAt.IsZero() {
		return s.ExpiresAt.Add(-m.config.AbsoluteTimeout)
	}
	return s.CreatedAt
}

// Touch returns the live session of id, with the named application fields, and
// slides its idle expiry: one round trip. Otherwise it returns [ErrNotFound],
// [ErrExpired], [ErrBroken], [ErrLayout] or, with any other error, that the
// store is unavailable. A record found past its absolute timeout gets that as its
// end, so that use does not keep it; the store's clock decides when that is.
func (m *Manager) Touch(ctx context.Context, id ID, fields ...string) (*Session, error) {
	session, _, err := m.Fetch(ctx, id.Key(), Fetch{Slide: true, Fields: fields})
	return session, err
}

// touched are the names that a check reads. Most checks ask for no field besides, and
// share them.
func touched(fields []string) []string {
	if len(fields) == 0 {
		return checkFields
	}
	return slices.Concat(checkFields, fields)
}

// Lookup returns the live session of key with the named application fields,
// without sliding it. Its errors are those of [Manager.Touch].
func (m *Manager) Lookup(ctx context.Context, key Key, fields ...string) (*Session, error) {
	return m.read(ctx, key, slices.Concat(reserved, fields))
}

// Inspect is [Manager.Lookup] with every field that the record holds.
func (m *Manager) Inspect(ctx context.Context, key Key) (*Session, error) {
	return m.read(ctx, key, nil)
}

func (m *Manager) read(ctx context.Context, key Key, names []string) (*Session, error) {
	entries, err := m.store.Read(ctx, names, key)
	if err != nil {
		return nil, err
	}
	defer m.correct() // behind the verdict, which goes by the time as it was known
	return m.entered(key, entries[0])
}

// entered is the live session of an entry, with the end of its idleness.
func (m *Manager) entered(key Key, e Entry) (*Session, error) {
	if e.Err != nil {
		return nil, e.Err
	}
	now := m.Now()
	session, err := m.live(key, e.Record, e.TTL, now)
	if err != nil {
		return nil, err
	}
	session.IdleExpiresAt = now.Add(e.TTL)
	return session, nil
}

// spare is how much further away than the absolute timeout the end of a session
// may lie: clocks differ, and logins may be configured apart.
const spare = 24 * time.Hour

// live is the session of a record that lasts for a time, if it is one that lives
// at now. With [ErrExpired] it returns the session, too.
func (m *Manager) live(key Key, r Record, left time.Duration, now time.Time) (*Session, error) {
	session, err := r.Decode(key)
	switch {
	case err != nil:
		return nil, err
	case left < 0:
		return nil, fmt.Errorf("%w: its key has no expiry", ErrBroken)
	case !now.Before(session.ExpiresAt):
		return session, ErrExpired
	}
	if err := m.config.tooFar(session.ExpiresAt, now); err != nil {
		return nil, broken(FieldExpiresAt, err.Error()) // not joined: Absent would take it for an outage
	}
	return session, nil
}

// tooFar says that the end of a session lies further away than one of ours can.
func (c Config) tooFar(end, now time.Time) error {
	if !end.After(now.Add(c.AbsoluteTimeout + spare)) {
		return nil
	}
	return fmt.Errorf("lies further away than session.absolute_timeout (%v here) and a day", c.AbsoluteTimeout)
}

// Add adds application fields to a live session: all of them or, with
// [ErrFieldExists], [ErrReserved] or what is wrong with a name or a size, no field.
// For a session that is not live its errors are those of [Manager.Touch], and
// nothing is created. Sessions are not slid. An error other than these leaves
// open whether the fields were added.
func (m *Manager) Add(ctx context.Context, key Key, fields map[string]string) error {
	if err := validateFields(fields); err != nil {
		return err
	}
	if _, err := m.Lookup(ctx, key); err != nil {
		return err
	}
	return m.store.Add(ctx, key, fields)
}

// Revoke ends a session. It returns [ErrNotFound] if it is gone. A broken
// record, or one of an unknown layout, is ended, too. After [ErrNotReplicated] the
// session has ended, here and in RevokeUser and RevokeOthers, but a failover could bring
// it back; ErrNotFound says nothing of replicas.
func (m *Manager) Revoke(ctx context.Context, key Key) error {
	entries, err := m.store.Read(ctx, []string{FieldUserID}, key)
	if err != nil {
		return err
	}
	n, err := m.store.Delete(ctx, entries[0].Record[FieldUserID], key)
	if done(err) == nil && n == 0 {
		return ErrNotFound
	}
	return err
}

// RevokeUser ends all sessions of a user and returns how many there were. A login
// that is under way ends with [ErrEnded] and without a session.
func (m *Manager) RevokeUser(ctx context.Context, userID string) (int, error) {
	return m.revokeAll(ctx, userID, "")
}

// RevokeOthers ends all sessions of keep's user except keep, as after a change
// of password, and returns how many there were. A login that is under way, maybe
// with the former password, ends with [ErrEnded]. Its errors for keep are those
// of [Manager.Touch].
func (m *Manager) RevokeOthers(ctx context.Context, keep Key) (int, error) {
	session, err := m.Lookup(ctx, keep)
	if err != nil {
		return 0, err
	}
	return m.revokeAll(ctx, session.UserID, keep)
}

// revokeAll leaves the mark first: a login that the listing does not show yet finds
// it. A store too full for a mark has room when sessions have ended.
func (m *Manager) revokeAll(ctx context.Context, userID string, keep Key) (int, error) {
	marked := m.store.Mark(ctx, userID)
	n, err := m.endListed(ctx, userID, keep)
	if done(marked) == nil || done(err) != nil {
		return n, JoinRevocations(marked, err)
	}
	marked = m.store.Mark(ctx, userID)
	if done(marked) != nil {
		return n, marked
	}
	more, rest := m.endListed(ctx, userID, keep)
	return n + more, JoinRevocations(marked, err, rest)
}

// done is err, but for one that says that all was done.
func done(err error) error {
	if errors.Is(err, ErrNotReplicated) {
		return nil
	}
	return err
}

// JoinRevocations joins the errors of the parts of a revocation, nil where there are none.
// [ErrNotReplicated] remains only where it is the one kind: beside another it would say
// that all was done.
func JoinRevocations(errs ...error) error {
	var graver []error
	var unreplicated error
	for _, err := range errs {
		if done(err) != nil {
			graver = append(graver, err)
		} else if err != nil {
			unreplicated = err
		}
	}
	if len(graver) > 0 {
		return errors.Join(graver...)
	}
	return unreplicated
}

func (m *Manager) endListed(ctx context.Context, userID string, keep Key) (int, error) {
	keys, err := m.store.UserKeys(ctx, userID)
	if err != nil {
		return 0, err
	}
	keys = slices.DeleteFunc(keys, func(k Key) bool { return k == keep })
	if len(keys) == 0 {
		return 0, nil
	}
	return m.store.Delete(ctx, userID, keys...)
}

// MaxListed is how many sessions [Manager.List] returns at most.
const MaxListed = 100

// List returns up to [MaxListed] of a user's live sessions, the newest first,
// without application fields, and how many more there may be. Entries that name no
// live session of this user are left out. Its cost is bounded, however many there are.
func (m *Manager) List(ctx context.Context, userID string) (list []*Session, more int, err error) {
	listed, more, err := m.store.List(ctx, userID, reserved, MaxListed)
	if err != nil {
		return nil, 0, err
	}
	m.correct()
	for _, l := range listed {
		if s, err := m.entered(l.Key, l.Entry); err == nil && s.UserID == userID {
			list = append(list, s)
		}
	}
	slices.SortStableFunc(list, func(a, b *Session) int { return b.CreatedAt.Compare(a.CreatedAt) })
	return list, more, nil
}

// Resolve finds the one session whose handle begins with name, or whose key
// does: behind [KeyPrefix] a handle cannot be taken for a flag. With a userID it
// looks among that user's sessions; without, it scans the store. It returns
// [ErrNotFound] and [ErrHandleAmbiguous].
func (m *Manager) Resolve(ctx context.Context, name, userID string) (Key, error) {
	if key, err := ParseKey(name); err == nil {
		if userID == "" {
			return key, nil
		}
		name = key.Hash() // a key says nothing about whose it is
	}
	name = strings.TrimPrefix(name, KeyPrefix)
	if err := ValidateHandle(name); err != nil {
		return "", err
	}
	var keys []Key
	var err error
	if userID == "" {
		keys, err = m.store.Find(ctx, name, 2)
	} else {
		keys, err = m.userKeys(ctx, name, userID)
	}
	switch {
	case err != nil:
		return "", err
	case len(keys) == 0:
		return "", ErrNotFound
	case len(keys) > 1:
		return "", ErrHandleAmbiguous
	}
	return keys[0], nil
}

// userKeys finds up to two of a user's live sessions by the beginning of their
// hashes.
func (m *Manager) userKeys(ctx context.Context, prefix, userID string) ([]Key, error) {
	keys, err := m.store.UserKeys(ctx, userID)
	if err != nil {
		return nil, err
	}
	keys = slices.DeleteFunc(keys, func(k Key) bool { return !strings.HasPrefix(k.Hash(), prefix) })
	var found []Key
	for chunk := range slices.Chunk(keys, MaxListed) {
		entries, err := m.store.Read(ctx, reserved, chunk...)
		if err != nil {
			return nil, err
		}
		for i, key := range chunk {
			if s, err := m.entered(key, entries[i]); err == nil && s.UserID == userID {
				found = append(found, key)
			}
		}
		if len(found) > 1 {
			break
		}
	}
	return found, nil
}

// ValidateHandle says what is wrong with the beginning of a handle, or of the hash of a
// key.
func ValidateHandle(s string) error {
	bad := func(r rune) bool { return r > 0x7f || sextet(byte(r)) < 0 }
	if s == "" || len(s) > idLength || slices.ContainsFunc([]rune(s), bad) {
		return errors.New("a handle has 1 to 43 characters of A-Z, a-z, 0-9, - and _")
	}
	return nil
}
