package pgusers

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/coatcheck/coatcheck/internal/secretfile"
	"github.com/coatcheck/coatcheck/sessions/throttle"
)

// A fault is the text of an error, and its kind. The error itself is not wrapped,
// because pgconn's errors hold the DSN with the password, and PostgreSQL's the values
// of a row or of a parameter ("invalid input syntax for type bigint: ...").
type fault struct {
	text string
	kind error // ErrQuery, the context's, or nil
}

func (f *fault) Error() string { return f.text }
func (f *fault) Unwrap() error { return f.kind }

// fault makes an error fit for a log. It hides passwords, and hashes that PostgreSQL may
// have quoted.
func (s *source) fault(err error, hashes ...string) error {
	text := strings.ReplaceAll(err.Error(), "\n\t", " ")
	for _, hash := range hashes {
		if len(hash) > 32 {
			text = strings.ReplaceAll(text, hash, "[...]")
		}
	}
	return &fault{text: "user database: " + s.secrets.Redact(text), kind: kindOf(err)}
}

// An untypedError is PostgreSQL's without its message.
type untypedError struct{ *pgconn.PgError }

func (e untypedError) Error() string {
	return fmt.Sprintf("%s (SQLSTATE %s): the message is left out, since it may quote what was typed; PostgreSQL's own log has it", e.Severity, e.Code)
}

func (e untypedError) Unwrap() error { return e.PgError }

// untyped leaves out the message of an error of PostgreSQL that may quote what was typed
// for a username, which may be a password: PostgreSQL quotes it also changed or in part, as
// the query made it, and in the quotes of its language.
func untyped(err error, typed string) error {
	refused, ok := errors.AsType[*pgconn.PgError](err)
	if !ok || !mayQuote(refused, typed) {
		return err
	}
	return untypedError{refused}
}

// mayQuote goes by the class of the error. Class 42 is about the SQL, and so about a value
// only where the query makes a name of it, such as regclass. Other classes are about
// values, as 22 is, or of the operator's own functions.
func mayQuote(e *pgconn.PgError, typed string) bool {
	if strings.HasPrefix(e.Code, "42") {
		return strings.Contains(throttle.Fold(e.Message), throttle.Fold(typed))
	}
	return !isAboutServer(e)
}

// isAboutServer reports whether the class of an error is about the server or the
// connection, and never about a value.
func isAboutServer(e *pgconn.PgError) bool {
	return slices.Contains([]string{"08", "25", "28", "40", "53", "54", "55", "57", "58", "XX"}, e.Code[:min(2, len(e.Code))])
}

func kindOf(err error) error {
	for _, kind := range []error{ErrQuery, context.Canceled, context.DeadlineExceeded} {
		if errors.Is(err, kind) {
			return kind
		}
	}
	// Classes 22 and 42 are about the query: a value of the wrong type; a mistake in
	// the SQL, a table that is not there, a right that is missing.
	var refused *pgconn.PgError
	if errors.As(err, &refused) && (strings.HasPrefix(refused.Code, "22") || strings.HasPrefix(refused.Code, "42")) {
		return ErrQuery
	}
	return nil
}

var dsnPassword = regexp.MustCompile(`(?i)password\s*=\s*('(?:[^'\\]|\\.)*'|[^\s&]*)`)

// parseFault says what is wrong with a DSN, such as a certificate file that is
// not there. The library's own error repeats the DSN.
func parseFault(dsn string, err error) error {
	cause := errors.Unwrap(err)
	var quoted *url.Error
	if cause == nil || errors.As(cause, &quoted) {
		return errors.New("user database: the DSN is neither a URL nor keywords and values")
	}
	var s secretfile.Set
	if u, err := url.Parse(dsn); err == nil {
		password, _ := u.User.Password()
		s.Add(password)
	}
	for _, found := range dsnPassword.FindAllStringSubmatch(dsn, -1) {
		s.Add(strings.Trim(found[1], "'"))
	}
	return fmt.Errorf("user database: the DSN: %s", s.Redact(cause.Error()))
}
