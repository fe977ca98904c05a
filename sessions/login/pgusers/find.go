package pgusers

import (
	"context"
	"errors"
	"strings"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/login/passwords"
)

// Find implements [passwords.Source].
func (s *source) Find(ctx context.Context, username string) (passwords.Account, error) {
	if !storable(username) {
		return passwords.Account{}, passwords.ErrNoUser
	}
	var account passwords.Account
	err := s.ask(ctx, func(ctx context.Context, conn *pgx.Conn) (err error) {
		account, err = find(ctx, conn.PgConn(), s.config.Query, username)
		return err
	})
	switch {
	case err == nil:
		return account, nil
	case errors.Is(err, passwords.ErrNoUser), unknownCharacter(err):
		return passwords.Account{}, passwords.ErrNoUser
	}
	return passwords.Account{}, s.fault(untyped(err, username))
}

// storable reports whether a text can be in PostgreSQL, which takes no NUL and no bytes
// that are not UTF-8; that it refuses them is no fault of the database. No user has a
// longer username than a session can hold.
func storable(username string) bool {
	return len(username) <= sessions.MaxUserID && utf8.ValidString(username) && !strings.Contains(username, "\x00")
}

// unknownCharacter is the error for a text that the database's own encoding
// cannot express, such as Greek in LATIN1: no user there has such a name.
func unknownCharacter(err error) bool {
	var refused *pgconn.PgError
	return errors.As(err, &refused) && (refused.Code == "22P05" || refused.Code == "22021")
}

var errManyRows = errors.New("the query returns more than one row for a username")

// find runs the query. It reads to the end of the rows, however many.
func find(ctx context.Context, conn *pgconn.PgConn, query, username string) (passwords.Account, error) {
	var account passwords.Account
	var broken error
	rows := 0
	reader := conn.ExecParams(ctx, query, [][]byte{[]byte(username)}, nil, nil, nil)
	for ; reader.NextRow(); rows++ {
		if rows == 0 {
			account, broken = decode(reader.FieldDescriptions(), reader.Values())
		}
	}
	_, err := reader.Close()
	switch {
	case err != nil:
		return passwords.Account{}, err
	case rows == 0:
		return passwords.Account{}, passwords.ErrNoUser
	case rows > 1:
		return passwords.Account{}, errManyRows
	}
	return account, broken
}
