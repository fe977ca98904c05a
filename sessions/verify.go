package sessions

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"maps"
	"math"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// An Indexer is a [Store] that tells how it lists a user's sessions, for
// [Manager.Verify]. A store need not be one.
type Indexer interface {
	// Listings tells, of each of keys, how it stands in the listing of the user at the
	// same place of userIDs.
	Listings(ctx context.Context, userIDs []string, keys []Key) ([]Listing, error)
}

// A Listing is how one session stands in its user's listing.
type Listing struct {
	// Listed reports whether it is there.
	Listed bool
	// Score is what it is sorted by: its absolute timeout in milliseconds of Unix time,
	// unless the store has changed it, which a fraction tells.
	Score float64
	// TTL is the time until the whole listing ends; negative if it has no end.
	TTL time.Duration
	// Err is ErrBroken where something other than a listing is in its place.
	Err error
}

// A Finding is a rule of the record's contract (docs/sessions.md) that a record breaks.
// No part of it repeats a value of the record.
type Finding struct {
	// Field is the field of the record that it is about, or [FindingKey] or
	// [FindingListing].
	Field string
	// Problem says what is wrong, and Cure how to mend it.
	Problem, Cure string
	// Refused reports whether checks refuse the session because of it. Otherwise the
	// session lives, and another promise is broken.
	Refused bool
}

// What a [Finding] is about, if not a field.
const (
	FindingKey     = "the key"     // its type or its expiry
	FindingListing = "the listing" // of the user's sessions
)

// A Verified is a record with all that is wrong with it, maybe nothing.
type Verified struct {
	Key      Key
	Findings []Finding
}

// Verify holds one record against every rule of the contract, as a check does and beyond
// that: the expiry of its key, the fields that no check reads, and, where the store is an
// [Indexer], the listing. It returns all findings, [ErrNotFound] where there is no
// record, or the store's error. It slides and changes nothing.
func (m *Manager) Verify(ctx context.Context, key Key) ([]Finding, error) {
	entries, err := m.store.Read(ctx, nil, key)
	if err != nil {
		return nil, err
	}
	if errors.Is(entries[0].Err, ErrNotFound) {
		return nil, ErrNotFound
	}
	verified, err := m.verify(ctx, []Listed{{key, entries[0]}}, true)
	if err != nil {
		return nil, err
	}
	return verified[0].Findings, nil
}

// VerifyID is [Manager.Verify] for a session whose ID is known. A record that is in
// another place than the hash of the ID says is a finding, too.
func (m *Manager) VerifyID(ctx context.Context, id ID) ([]Finding, error) {
	findings, err := m.Verify(ctx, id.Key())
	if !errors.Is(err, ErrNotFound) {
		return findings, err
	}
	places := misplaced(id)
	keys := make([]Key, len(places))
	for i, p := range places {
		keys[i] = p.key
	}
	entries, err := m.store.Read(ctx, []string{FieldVersion}, keys...)
	if err != nil {
		return nil, err
	}
	for i, entry := range entries {
		if !errors.Is(entry.Err, ErrNotFound) {
			return []Finding{{
				Field: FindingKey, Problem: "is " + places[i].what + ", so checks find no session", Refused: true,
				Cure: KeyPrefix + " and the base64url without padding of SHA-256 over the 43 ASCII characters of the ID",
			}}, nil
		}
	}
	return nil, ErrNotFound
}

// A place is where a program that took the hash in another way keeps a record.
type place struct {
	what string
	key  Key
}

// misplaced are the places but that of the ID itself: to ask for it would show the ID of
// another session to those who watch Redis. [Manager.VerifyAll] counts such keys.
func misplaced(id ID) []place {
	over := sha256.Sum256([]byte(id.Reveal()))
	bytes, _ := base64.RawURLEncoding.DecodeString(id.Reveal())
	decoded := sha256.Sum256(bytes)
	return []place{
		{"made of the 32 bytes of the ID, decoded", Key(KeyPrefix + base64.RawURLEncoding.EncodeToString(decoded[:]))},
		{"in standard base64, or has padding", Key(KeyPrefix + base64.StdEncoding.EncodeToString(over[:]))},
		{"in standard base64, or has padding", Key(KeyPrefix + base64.RawStdEncoding.EncodeToString(over[:]))},
		{"in standard base64, or has padding", Key(KeyPrefix + base64.URLEncoding.EncodeToString(over[:]))},
		{"in hexadecimal", Key(KeyPrefix + hex.EncodeToString(over[:]))},
	}
}

// VerifyAll verifies all records, as a [Manager.Scan] goes through them, also those
// with which nothing is wrong.
func (m *Manager) VerifyAll(ctx context.Context, progress func(Progress)) iter.Seq2[Verified, error] {
	return func(yield func(Verified, error) bool) {
		var some []Listed
		flush := func() (goOn bool) {
			verified, err := m.verify(ctx, some, false)
			if err != nil {
				yield(Verified{}, err)
				return false
			}
			some = some[:0]
			for _, v := range verified {
				if !yield(v, nil) {
					return false
				}
			}
			return true
		}
		for listed, err := range m.scan(ctx, nil, progress) {
			if err != nil {
				yield(Verified{}, err)
				return
			}
			if some = append(some, listed); len(some) >= verifiedAtOnce && !flush() {
				return
			}
		}
		flush()
	}
}

// verifiedAtOnce is how many records, which may be long, are kept to ask for their
// listings at once.
const verifiedAtOnce = 20

// verify says what is wrong with each of some records. That the time of a session is over
// is a finding only where it is asked for.
func (m *Manager) verify(ctx context.Context, some []Listed, over bool) ([]Verified, error) {
	listings, err := m.listings(ctx, some)
	if err != nil {
		return nil, err
	}
	verified := make([]Verified, len(some))
	for i, listed := range some {
		v := verification{Session: Session{Key: listed.Key}, record: listed.Record, ttl: listed.TTL, now: m.Now(), config: m.config, over: over}
		v.all(listed.Err, listings[i])
		verified[i] = Verified{listed.Key, v.findings}
	}
	return verified, nil
}

// listings are those of the records that say whose they are; nil for the others.
func (m *Manager) listings(ctx context.Context, some []Listed) ([]*Listing, error) {
	all := make([]*Listing, len(some))
	indexer, ok := m.store.(Indexer)
	if !ok {
		return all, nil
	}
	var userIDs []string
	var keys []Key
	var places []int
	for i, listed := range some {
		if id := listed.Record[FieldUserID]; id != "" {
			userIDs, keys, places = append(userIDs, id), append(keys, listed.Key), append(places, i)
		}
	}
	if len(keys) == 0 {
		return all, nil
	}
	got, err := indexer.Listings(ctx, userIDs, keys)
	if err != nil {
		return nil, err
	}
	for i, place := range places {
		all[place] = &got[i]
	}
	return all, nil
}

// A verification gathers what is wrong with one record.
type verification struct {
	Session // as far as the record can be read
	record  Record
	ttl     time.Duration
	now     time.Time
	config  Config
	over    bool // to be told where the session is over

	findings []Finding
}

func (v *verification) refused(field, problem, cure string) {
	v.findings = append(v.findings, Finding{field, problem, cure, true})
}

func (v *verification) wrong(field, problem, cure string) {
	v.findings = append(v.findings, Finding{field, problem, cure, false})
}

func (v *verification) all(broken error, listing *Listing) {
	switch {
	case broken != nil:
		v.refused(FindingKey, "it is no hash", "DEL it, and write the record with HSET")
		return
	case v.record.unknownLayout():
		v.refused(FieldVersion, "is a version of the layout that this program does not know: checks answer 503", "write "+LayoutVersion+", or upgrade the checks first")
		return
	case v.record.foreign():
		v.refused(FindingKey, "the hash has no field of the layout, so checks find no session", "write the fields v, user_id and expires_at with the same HSET as the others")
		return
	}
	v.record.check(&v.Session, &faults{all: func(field, what string) { v.refused(field, what, cures[field]) }})
	v.key()
	v.times()
	v.roles()
	v.browser()
	v.application()
	if listing != nil {
		v.listing(listing)
	}
}

// cures are for the rules of [Record.Decode], by field.
var cures = map[string]string{
	FieldVersion:   "write " + LayoutVersion,
	FieldUserID:    fmt.Sprintf("write 1 to %d bytes of UTF-8", MaxUserID),
	FieldUsername:  fmt.Sprintf("write up to %d bytes of UTF-8, or leave it out", MaxUserID),
	FieldRoles:     fmt.Sprintf(`write a JSON array of up to %d strings of up to %d bytes, such as ["staff"]`, MaxRoles, MaxRole),
	FieldExpiresAt: "write RFC 3339 in UTC, such as 2026-11-24T22:00:00Z",
}

// key looks at the expiry of the key, which is the idle timeout.
func (v *verification) key() {
	longest := v.config.IdleTimeout + v.config.IdleStep + time.Second
	switch {
	case v.ttl < 0:
		v.refused(FindingKey, "it has no expiry, so the session would never idle out", "send PEXPIREAT with the idle timeout, in milliseconds, in one MULTI with HSET")
	case v.ttl > longest:
		v.wrong(FindingKey, fmt.Sprintf("it ends in %v, later than session.idle_timeout (%v here) and a step", v.ttl.Round(time.Second), v.config.IdleTimeout),
			"give PEXPIREAT the idle timeout, in milliseconds, and not the absolute one; or tell this command the session.idle_timeout of the checks")
	}
}

// times looks at both times of the record, as far as it tells them.
func (v *verification) times() {
	end := v.ExpiresAt
	if err := v.config.tooFar(end, v.now); err != nil {
		v.refused(FieldExpiresAt, err.Error(), "write the time of the login and session.absolute_timeout at most")
	}
	if v.over && !end.IsZero() && !v.now.Before(end) {
		v.refused(FieldExpiresAt, "is past: the session is over", "write UTC, and a time in the future")
	}
	text, ok := v.record[FieldCreatedAt]
	if !ok {
		return
	}
	created, err := parseTime(text)
	if err != nil {
		v.wrong(FieldCreatedAt, "is not an RFC 3339 time, so it is read as absent", "write RFC 3339 in UTC, such as 2026-11-24T10:00:00Z, or leave it out")
		return
	}
	if ahead := created.Sub(v.now); ahead > clockSpare {
		v.wrong(FieldCreatedAt, fmt.Sprintf("lies %v in the future", ahead.Round(time.Second)), "set the clock of the program that wrote it (NTP), and write UTC")
	}
	if end.IsZero() {
		return
	}
	switch life := end.Sub(created); {
	case life <= 0:
		v.wrong(FieldCreatedAt, "is not before expires_at", "write the time of the login")
	case life > v.config.AbsoluteTimeout+clockSpare:
		v.wrong(FieldExpiresAt, fmt.Sprintf("lies %v behind created_at, further than session.absolute_timeout (%v here)", life.Round(time.Second), v.config.AbsoluteTimeout),
			"write created_at and session.absolute_timeout at most")
	}
}

// clockSpare is how far clocks that are kept may differ.
const clockSpare = 5 * time.Second

// roles looks at names that the layout permits and no requirement can name.
func (v *verification) roles() {
	if slices.Contains(v.Roles, "") {
		v.wrong(FieldRoles, "has an empty name", "leave it out")
	}
	if slices.ContainsFunc(v.Roles, func(role string) bool { return strings.Contains(role, ",") }) {
		v.wrong(FieldRoles, "has a name with a comma, which no route can ask for", "write each role as a string of its own")
	}
}

// browser looks at what is known of the browser, which no check reads.
func (v *verification) browser() {
	for _, field := range []string{FieldAddress, FieldUserAgent} {
		text, limit := v.record[field], MaxUserID
		if field == FieldUserAgent {
			limit = MaxUserAgent
		}
		cure := fmt.Sprintf("write up to %d bytes of UTF-8, or leave it out", limit)
		if !utf8.ValidString(text) {
			v.wrong(field, "is not UTF-8", cure)
		}
		if len(text) > limit {
			v.wrong(field, "is too long", cure)
		}
	}
}

// application looks at the names and the sizes of the application's fields.
func (v *verification) application() {
	for _, name := range slices.Sorted(maps.Keys(v.record.application())) {
		if err := ValidateFieldName(name); err != nil {
			v.wrong(fmt.Sprintf("%.64q", name), fmt.Sprintf("is no name of a field: 1 to %d bytes of UTF-8 without control characters", MaxFieldName), "give it another name")
		} else if meant := reservedLike(name); meant != "" {
			v.wrong(name, "is a field of the application; no check reads it", "if it was meant for it, write "+meant)
		}
		if len(v.record[name]) > MaxFieldValue {
			v.wrong(fmt.Sprintf("%.64q", name), fmt.Sprintf("is longer than %d bytes", MaxFieldValue), "keep it elsewhere, and write a reference to it")
		}
	}
}

// reservedLike is the reserved name that an application's was probably meant for, such
// as userId.
func reservedLike(name string) string {
	plain := func(s string) string { return strings.ToLower(strings.NewReplacer("_", "", "-", "").Replace(s)) }
	for _, field := range reserved {
		if plain(name) == plain(field) {
			return field
		}
	}
	return ""
}

// listing looks at how the session is listed.
func (v *verification) listing(l *Listing) {
	const list = "ZADD user-sessions:<user_id> <expires_at in milliseconds> <hash part of the key>"
	switch {
	case l.Err != nil:
		v.wrong(FindingListing, "there is no sorted set in its place", "DEL it, and "+list)
		return
	case !l.Listed:
		v.wrong(FindingListing, "does not have the session, so no revocation of all of the user's sessions finds it", list+", before the record is written")
		return
	case !v.ExpiresAt.IsZero() && l.Score == math.Trunc(l.Score) && math.Abs(l.Score-float64(v.ExpiresAt.UnixMilli())) >= 1000:
		v.wrong(FindingListing, "has another time for the session than expires_at in milliseconds", list)
	}
	switch {
	case l.TTL < 0:
		v.wrong(FindingListing, "it has no expiry, so it stays when its sessions are over", "PEXPIREAT it with NX and with GT, a day after expires_at")
	case !v.ExpiresAt.IsZero() && v.now.Add(l.TTL).Before(v.ExpiresAt):
		v.wrong(FindingListing, "it ends before the session may, which no revocation would find then", "PEXPIREAT it with NX and with GT, a day after expires_at")
	}
}
