package sessions

import (
	"context"
	"errors"
	"iter"
	"maps"
	"slices"
	"strings"
)

// A Scanner is a [Store] that can go through all of its records, for the operators'
// questions. A store need not be one. sessions/storetest holds every clause below.
type Scanner interface {
	// Scan yields all records, some at a time, with the named fields, or all of them
	// where names is nil. It finds each record that is there from the beginning to the
	// end, and may find others. A record may come twice, seldom and only where the
	// store reorders itself meanwhile. The memory that it takes does not grow with the
	// number of records, and it leaves the store time for others: it is slow on
	// purpose. An error ends it: then records are missing. ctx ends it with an error.
	Scan(ctx context.Context, names []string) iter.Seq2[Page, error]
}

// A Page is some of the records of a store, as [Scanner.Scan] found them. It may be
// empty.
type Page struct {
	// Records never has one with ErrNotFound.
	Records []Listed
	// Malformed is how many further keys stand in the place of records and have another
	// form than a key: no check ever asks for them. They are not named, because one may
	// be a session ID.
	Malformed int
	// Done is the part of the store that has been gone through, from 0 to 1, as far as
	// it can be told. It does not fall.
	Done float64
}

// ErrNoScan says that the manager's store is no [Scanner].
var ErrNoScan = errors.New("the store of the sessions cannot go through all of them")

// A Progress says how far a scan is.
type Progress struct {
	Records   int     // found so far
	Malformed int     // keys so far that stand in the place of records and name none; see Page
	Done      float64 // part of the store that has been gone through, from 0 to 1
}

// A Found is one record that [Manager.Scan] found.
type Found struct {
	Key    Key
	UserID string // as the record has it, which may be broken; may be empty
	// Session is the live session, without application fields; nil where Err says why
	// it is none, as [Manager.Lookup] does.
	Session *Session
	Err     error
}

// Scan goes through all records of the store, in no order: also those of which no
// listing knows, because another program wrote them. It slides and changes nothing,
// takes memory that does not grow with their number, and leaves the store time for
// checks, so that a million take minutes. Between the records it calls progress, unless
// that is nil, in the caller's goroutine. It yields an error last, if at all: [ErrNoScan],
// the store's, or the context's. A session that begins or ends meanwhile may be found or
// not; see [Scanner] for records that come twice.
func (m *Manager) Scan(ctx context.Context, progress func(Progress)) iter.Seq2[Found, error] {
	return func(yield func(Found, error) bool) {
		for listed, err := range m.scan(ctx, reserved, progress) {
			if err != nil {
				yield(Found{}, err)
				return
			}
			found := Found{Key: listed.Key, UserID: listed.Record[FieldUserID]}
			if found.Session, found.Err = m.entered(listed.Key, listed.Entry); !yield(found, nil) {
				return
			}
		}
	}
}

// scan yields the records of the store's pages.
func (m *Manager) scan(ctx context.Context, names []string, progress func(Progress)) iter.Seq2[Listed, error] {
	return func(yield func(Listed, error) bool) {
		scanner, ok := m.store.(Scanner)
		if !ok {
			yield(Listed{}, ErrNoScan)
			return
		}
		var at Progress
		for page, err := range scanner.Scan(ctx, names) {
			if err != nil {
				yield(Listed{}, err)
				return
			}
			for _, listed := range page.Records {
				if !yield(listed, nil) {
					return
				}
			}
			at = Progress{at.Records + len(page.Records), at.Malformed + page.Malformed, page.Done}
			if progress != nil {
				progress(at)
			}
		}
	}
}

// UserIDs returns the user IDs of the live sessions with this username, in any letter
// case, in their order: one, unless users share a name or have changed it. It is a
// [Manager.Scan]. Where it has found [MaxListed] it looks for no more.
func (m *Manager) UserIDs(ctx context.Context, username string, progress func(Progress)) ([]string, error) {
	ids := make(map[string]bool)
	for found, err := range m.Scan(ctx, progress) {
		if err != nil {
			return nil, err
		}
		if found.Err == nil && strings.EqualFold(found.Session.Username, username) {
			ids[found.Session.UserID] = true
		}
		if len(ids) == MaxListed {
			break
		}
	}
	return slices.Sorted(maps.Keys(ids)), nil
}
