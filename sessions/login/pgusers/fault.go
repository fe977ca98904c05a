package pgusers

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
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

// fault makes an error fit for a log. It hides passwords, and values of the question
// that PostgreSQL may have quoted.
func (s *source) fault(err error, hide ...string) error {
	text := strings.ReplaceAll(err.Error(), "\n\t", " ")
	for _, value := range hide {
		if value != "" {
			text = strings.ReplaceAll(text, `"`+value+`"`, "[...]")
		}
		if len(value) > 32 { // a hash
			text = strings.ReplaceAll(text, value, "[...]")
		}
	}
	return &fault{text: "user database: " + s.secrets.hide(text), kind: kindOf(err)}
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
	var s secrets
	if u, err := url.Parse(dsn); err == nil {
		password, _ := u.User.Password()
		s.add(password)
	}
	for _, found := range dsnPassword.FindAllStringSubmatch(dsn, -1) {
		s.add(strings.Trim(found[1], "'"))
	}
	return fmt.Errorf("user database: the DSN: %s", s.hide(cause.Error()))
}
