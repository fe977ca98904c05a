package pgusers

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/coatcheck/coatcheck/sessions/login/passwords"
)

// A renewer is a source that stores hashes, too.
type renewer struct{ *source }

// Renew implements [passwords.Renewer].
func (r renewer) Renew(ctx context.Context, a passwords.Account, hash string) error {
	err := r.ask(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		return inTransaction(ctx, conn, true, func() error {
			return renew(ctx, conn.PgConn(), r.config.RenewQuery, [][]byte{[]byte(hash), []byte(a.ID), []byte(a.Hash)})
		})
	})
	if err != nil {
		return r.fault(err, hash, a.Hash)
	}
	return nil
}

// renew runs the query. That it changes no row is fine: the user has another
// password since.
func renew(ctx context.Context, conn *pgconn.PgConn, query string, params [][]byte) error {
	result := conn.ExecParams(ctx, query, params, nil, nil, nil).Read()
	if result.Err == nil && result.CommandTag.RowsAffected() > 1 {
		return errors.New("the renew query would change more than one row")
	}
	return result.Err
}

// inTransaction keeps what was done if there was no error and it should be kept.
func inTransaction(ctx context.Context, conn *pgx.Conn, keep bool, do func() error) error {
	tx, err := conn.Begin(ctx)
	if err != nil {
		return err
	}
	if err = do(); err == nil && keep {
		return tx.Commit(ctx)
	}
	// A transaction that cannot be rolled back ends with its connection.
	if tx.Rollback(ctx) != nil {
		_ = conn.PgConn().Close(ctx)
	}
	return err
}
