package pgusers

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
)

// Check implements [Source].
func (s *source) Check(ctx context.Context) error {
	err := s.ask(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		if err := checkQuery(ctx, conn, s.config.Query); err != nil {
			return fmt.Errorf("query: %w", err)
		}
		if s.config.RenewQuery == "" {
			return nil
		}
		if err := checkRenewQuery(ctx, conn, s.config.RenewQuery); err != nil {
			return fmt.Errorf("renew query: %w", err)
		}
		return nil
	})
	if err != nil {
		return s.fault(err)
	}
	return nil
}

func unusable(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrQuery, fmt.Errorf(format, args...))
}

// checkQuery has the query described, and then tries it with a username that
// no user has, because only running it shows whether it may be run.
func checkQuery(ctx context.Context, conn *pgx.Conn, query string) error {
	statement, err := conn.PgConn().Prepare(ctx, "", query, nil)
	if err != nil {
		return err
	}
	if n := len(statement.ParamOIDs); n != 1 {
		return unusable("it has %d parameters; it needs one, the username $1", n)
	}
	switch statement.ParamOIDs[0] {
	case pgtype.BPCharOID, pgtype.NameOID:
		return unusable("it compares $1 as char(n) or name, so that one user has many spellings; write $1::text")
	}
	if err := checkColumns(conn.TypeMap(), statement.Fields); err != nil {
		return err
	}
	switch answered, err := answers(ctx, conn.PgConn(), query, "coatcheck-"+rand.Text()); {
	case answered:
		return unusable("it returns a row for a username that no user has")
	case err != nil:
		return err
	}
	return checkPatterns(ctx, conn.PgConn(), query)
}

// checkPatterns refuses a query that takes $1 for a pattern: "a%" would be another
// spelling of a user, with attempts of its own. It finds that out by patterns that every
// username matches, of LIKE and of ~; a query may refuse such a text.
func checkPatterns(ctx context.Context, conn *pgconn.PgConn, query string) error {
	for _, pattern := range []string{"%", ".*"} {
		answered, err := answers(ctx, conn, query, pattern)
		if answered {
			return unusable("it takes $1 for a pattern, as LIKE and ~ do, so that one user has many spellings; compare with =")
		}
		if refused, ok := errors.AsType[*pgconn.PgError](err); err != nil && (!ok || isAboutServer(refused)) {
			return err
		}
	}
	return nil
}

// answers reports whether the query returns a row for a username. If so, it ends the
// connection, since the other rows may be a whole table.
func answers(ctx context.Context, conn *pgconn.PgConn, query, username string) (bool, error) {
	reader := conn.ExecParams(ctx, query, [][]byte{[]byte(username)}, nil, nil, nil)
	if reader.NextRow() {
		return true, conn.Close(ctx)
	}
	_, err := reader.Close()
	return false, err
}

func checkColumns(types *pgtype.Map, fields []pgconn.FieldDescription) error {
	at, err := columns(fields)
	if err != nil {
		return unusable("%w", err)
	}
	known := slices.Concat(required, optional)
	for _, field := range fields {
		if !slices.Contains(known, field.Name) {
			return unusable("it returns a column named %q; the columns are %s", field.Name, strings.Join(known, ", "))
		}
	}
	if i, ok := at["attributes"]; ok && !isJSON(fields[i].DataTypeOID) {
		return unusable("the column attributes is not json or jsonb")
	}
	i, ok := at["roles"]
	if !ok || isJSON(fields[i].DataTypeOID) {
		return nil
	}
	// A type that the library does not know may be an array of the database's own.
	if roles, known := types.TypeForOID(fields[i].DataTypeOID); known {
		if _, array := roles.Codec.(*pgtype.ArrayCodec); !array {
			return unusable("the column roles is neither an array nor json or jsonb")
		}
	}
	return nil
}

// checkRenewQuery tries the query with NULLs, which are equal to nothing, and
// undoes what that may have changed.
func checkRenewQuery(ctx context.Context, conn *pgx.Conn, query string) error {
	statement, err := conn.PgConn().Prepare(ctx, "", query, nil)
	if err != nil {
		return err
	}
	if n := len(statement.ParamOIDs); n != 3 {
		return unusable("it has %d parameters; it needs three, the new hash $1, the id $2 and the former hash $3", n)
	}
	return inTransaction(ctx, conn, false, func() error {
		return renew(ctx, conn.PgConn(), query, make([][]byte, 3))
	})
}
