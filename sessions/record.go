package sessions

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// LayoutVersion is the layout version that this package writes and reads.
const LayoutVersion = "1"

// The reserved fields of a record. Every other name belongs to the application.
const (
	FieldVersion   = "v"
	FieldUserID    = "user_id"
	FieldUsername  = "username"
	FieldRoles     = "roles"      // JSON array of strings
	FieldCreatedAt = "created_at" // RFC 3339
	FieldExpiresAt = "expires_at" // RFC 3339; the absolute timeout
	FieldAddress   = "address"    // of the browser at login
	FieldUserAgent = "user_agent" // of the browser at login
)

// The limits of a record, in bytes where they are not counts.
const (
	MaxUserID     = 256
	MaxRoles      = 256 // names
	MaxRole       = 128
	MaxFieldName  = 128
	MaxFieldValue = 1 << 20
	MaxUserAgent  = 1024
)

// The ways in which a record is not a live session.
var (
	// ErrNotFound: the store answered that there is no such record: never
	// created, revoked, or past its idle timeout. What is there and has nothing of
	// the layout is no record.
	ErrNotFound = errors.New("session not found")
	// ErrExpired: the record is past its absolute timeout.
	ErrExpired = errors.New("session past its absolute timeout")
	// ErrBroken: there is a record that is no session.
	ErrBroken = errors.New("broken session record")
	// ErrNotReplicated: the records are gone, or the mark is left, by the store's own word,
	// and fewer of its replicas than it was told to wait for have acknowledged that in
	// time: a failover now could bring the sessions back.
	ErrNotReplicated = errors.New("revoked, but not acknowledged by enough replicas")
	// ErrLayout: a newer program wrote the record. Nothing is known about the
	// session, as when the store is away.
	ErrLayout = errors.New("session record of an unknown layout version")
)

// Absent reports whether err says for certain that the client is not signed in, and so
// is answered 401 or sent to sign in: there is no session, or none that lives
// ([ErrNotFound], [ErrExpired], [ErrBroken]), or the request presents no usable
// session ID ([ErrNoCookie], [ErrMalformed], [ErrAmbiguousCookie]). A broken record is
// among them, because it authenticates no client, now or later.
//
// Every other error, [ErrLayout] included, means that it is unknown whether the client
// is signed in: the answer is 503, and the cookie stays. That holds also for an error
// that is joined with one of those above. Absent(nil) is false.
func Absent(err error) bool {
	switch joined := err.(type) { //nolint:errorlint // every branch is looked at
	case nil:
		return false
	case interface{ Unwrap() []error }:
		errs := joined.Unwrap()
		return len(errs) > 0 && !slices.ContainsFunc(errs, func(e error) bool { return !Absent(e) })
	case interface{ Unwrap() error }:
		return slices.Contains(absences, err) || Absent(joined.Unwrap())
	}
	return slices.Contains(absences, err)
}

// absences are the errors of [Absent].
var absences = []error{ErrNotFound, ErrExpired, ErrBroken, ErrNoCookie, ErrMalformed, ErrAmbiguousCookie}

// reserved lists the reserved fields; checkFields are those that decide
// whether a session is live and whose it is.
var (
	reserved = []string{
		FieldVersion, FieldUserID, FieldUsername, FieldRoles, FieldCreatedAt,
		FieldExpiresAt, FieldAddress, FieldUserAgent,
	}
	checkFields = []string{FieldVersion, FieldUserID, FieldUsername, FieldRoles, FieldExpiresAt}
)

// A Record is what a store holds of one session: field names and values, as
// they stand. A field that is not in it was not there, or was not asked for.
type Record map[string]string

// Decode reads the session of key from its record. It returns [ErrLayout] for
// a version that it does not know, also if the record is broken,
// [ErrNotFound] if every field that a check reads is missing, and
// [ErrBroken], with what is wrong but never with a value, for a record that
// breaks the layout or its limits. It does not look at the time. Fields other
// than the reserved ones are taken as they are.
func (r Record) Decode(key Key) (*Session, error) {
	if r.foreign() {
		return nil, ErrNotFound
	}
	if r.unknownLayout() {
		return nil, ErrLayout
	}
	s := &Session{
		Key:       key,
		UserID:    r[FieldUserID],
		Username:  r[FieldUsername],
		Address:   strings.ToValidUTF8(r[FieldAddress], "\uFFFD"),
		UserAgent: strings.ToValidUTF8(r[FieldUserAgent], "\uFFFD"),
	}
	var first faults
	if r.check(s, &first); first.what != "" {
		return nil, broken(first.field, first.what)
	}
	// created_at decides nothing, so a bad one locks no user out.
	if text := r[FieldCreatedAt]; text != "" {
		s.CreatedAt, _ = parseTime(text)
	}
	s.Fields = r.application()
	return s, nil
}

// unknownLayout reports whether a newer program wrote the record.
func (r Record) unknownLayout() bool {
	v := r[FieldVersion]
	return v != "" && v != LayoutVersion
}

// faults are the rules that a record breaks: all of them, or the first.
type faults struct {
	all         func(field, what string) // nil: the first is enough
	field, what string                   // the first
}

// found takes a rule that a field breaks, and reports whether the rules behind it are of
// interest, too.
func (f *faults) found(field, what string) bool {
	if f.all == nil {
		f.field, f.what = field, what
		return false
	}
	f.all(field, what)
	return true
}

// check holds the fields that a check reads against every rule of the layout, and puts
// their values into s. Only these can break a record: else a session would live that
// no listing shows.
func (r Record) check(s *Session, f *faults) {
	for _, name := range checkFields {
		if !utf8.ValidString(r[name]) && !f.found(name, "is not UTF-8") {
			return
		}
	}
	_ = r.checkTexts(f) && r.checkEnd(s, f) && r.checkRoles(s, f)
}

func (r Record) checkTexts(f *faults) bool {
	if r[FieldVersion] == "" && !f.found(FieldVersion, "is missing") {
		return false
	}
	if r[FieldUserID] == "" && !f.found(FieldUserID, "is missing") {
		return false
	}
	for _, name := range [...]string{FieldUserID, FieldUsername} {
		if len(r[name]) > MaxUserID && !f.found(name, "is too long") {
			return false
		}
	}
	return true
}

func (r Record) checkEnd(s *Session, f *faults) (goOn bool) {
	var err error
	if s.ExpiresAt, err = parseTime(r[FieldExpiresAt]); err != nil {
		return f.found(FieldExpiresAt, "is not an RFC 3339 time")
	}
	return true
}

func (r Record) checkRoles(s *Session, f *faults) (goOn bool) {
	text, ok := r[FieldRoles]
	if !ok {
		return true
	}
	var what string
	if s.Roles, what = rolesOf(text); what != "" {
		return f.found(FieldRoles, what)
	}
	return true
}

// parseTime takes what RFC 3339 does, in capitals. Package time takes more: an hour
// of one digit, a comma before the fraction, an offset of a day or longer.
func parseTime(text string) (time.Time, error) {
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}, err
	}
	end := len(text)
	if text[len("2006-01-02T15")] != ':' || text[len("2006-01-02T15:04:05")] == ',' ||
		text[end-1] != 'Z' && (text[end-5:end-3] > "23" || text[end-2:] > "59") {
		return time.Time{}, errors.New("not an RFC 3339 time")
	}
	return t, nil
}

// foreign reports whether a check would read nothing of the layout.
func (r Record) foreign() bool {
	for _, name := range checkFields {
		if _, ok := r[name]; ok {
			return false
		}
	}
	return true
}

func broken(field, why string) error {
	return fmt.Errorf("%w: %s %s", ErrBroken, field, why)
}

// decodeRoles takes a JSON array of strings and nothing else; encoding/json
// alone would take null, for the array and for a name. Otherwise it says what is wrong.
func decodeRoles(text string) (roles []string, wrong string) {
	const noArray = "is not a JSON array of strings"
	var names []*string
	if err := json.Unmarshal([]byte(text), &names); err != nil || names == nil {
		return nil, noArray
	}
	if len(names) > MaxRoles {
		return nil, "has too many names"
	}
	roles = make([]string, len(names))
	for i, name := range names {
		switch {
		case name == nil:
			return nil, noArray
		case len(*name) > MaxRole:
			return nil, "has a name that is too long"
		}
		roles[i] = *name
	}
	return roles, ""
}

// application returns the fields that are not reserved, or nil.
func (r Record) application() map[string]string {
	var fields map[string]string
	for name, value := range r {
		if !slices.Contains(reserved, name) {
			if fields == nil {
				fields = make(map[string]string)
			}
			fields[name] = value
		}
	}
	return fields
}

// encode makes the record of a new session. Times are UTC, to the millisecond.
func (n NewSession) encode(created, expires time.Time) (Record, error) {
	if err := n.validate(); err != nil {
		return nil, err
	}
	roles := n.Roles
	if roles == nil {
		roles = []string{}
	}
	text, err := json.Marshal(roles)
	if err != nil {
		return nil, fmt.Errorf("encoding roles: %w", err)
	}
	r := Record{
		FieldVersion:   LayoutVersion,
		FieldUserID:    n.UserID,
		FieldUsername:  n.Username,
		FieldRoles:     string(text),
		FieldCreatedAt: created.UTC().Format(timeLayout),
		FieldExpiresAt: expires.UTC().Format(timeLayout),
		FieldAddress:   n.Address,
		FieldUserAgent: n.UserAgent,
	}
	maps.DeleteFunc(r, func(_, value string) bool { return value == "" })
	maps.Copy(r, n.Fields)
	return r, nil
}

const timeLayout = "2006-01-02T15:04:05.000Z07:00"

// validate names everything that is wrong with n, by field and not by value.
func (n NewSession) validate() error {
	errs := []error{
		text(FieldUserID, n.UserID, MaxUserID),
		text(FieldUsername, n.Username, MaxUserID),
		text(FieldAddress, n.Address, MaxUserID),
		text(FieldUserAgent, n.UserAgent, MaxUserAgent),
	}
	if n.UserID == "" {
		errs = append(errs, errors.New("user_id is empty"))
	}
	if len(n.Roles) > MaxRoles {
		errs = append(errs, fmt.Errorf("more than %d roles", MaxRoles))
	}
	for _, role := range n.Roles {
		if role == "" {
			errs = append(errs, errors.New("a role is empty"))
		}
		errs = append(errs, text("a role", role, MaxRole))
	}
	if len(n.Fields) > 0 {
		errs = append(errs, validateFields(n.Fields))
	}
	return errors.Join(errs...)
}

func text(what, s string, limit int) error {
	if len(s) > limit {
		return fmt.Errorf("%s is longer than %d bytes", what, limit)
	}
	if !utf8.ValidString(s) {
		return fmt.Errorf("%s is not UTF-8", what)
	}
	return nil
}

// validateFields checks the names and sizes of application fields.
func validateFields(fields map[string]string) error {
	if len(fields) == 0 {
		return errors.New("no fields to add")
	}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		errs = append(errs, ValidateFieldName(name))
		if len(fields[name]) > MaxFieldValue {
			errs = append(errs, fmt.Errorf("field %q: value is longer than %d bytes", name, MaxFieldValue))
		}
	}
	return errors.Join(errs...)
}

// ValidateFieldName reports whether an application may use name for a field:
// not reserved, 1 to [MaxFieldName] bytes of UTF-8 without control characters.
func ValidateFieldName(name string) error {
	switch {
	case slices.Contains(reserved, name):
		return fmt.Errorf("field %q: %w", name, ErrReserved)
	case name == "" || len(name) > MaxFieldName:
		return fmt.Errorf("field %q: a name has 1 to %d bytes", name, MaxFieldName)
	case !printable(name):
		return fmt.Errorf("field %q: a name is UTF-8 without control characters", name)
	}
	return nil
}

func printable(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
}
