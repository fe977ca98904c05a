package pgusers

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/coatcheck/coatcheck/internal/secretfile"
)

// A source is a pool with the queries. Everything is sent and received as text,
// in statements without names: any type can be an ID so, and PgBouncer, which
// gives each transaction another connection, is no hindrance.
type source struct {
	config  Config
	pool    *pgxpool.Pool
	secrets secretfile.Set
}

func (s *source) Close() { s.pool.Close() }

// ask does something on a connection, within the time that one question may
// take. Where the connection turns out to be lost, as all of a pool are after
// the database was started anew, it asks once more, on a new one.
func (s *source) ask(ctx context.Context, do func(context.Context, *pgx.Conn) error) error {
	ctx, cancel := context.WithTimeout(ctx, s.config.Timeout)
	defer cancel()
	lost, err := s.askOnce(ctx, do)
	if lost && ctx.Err() == nil {
		s.pool.Reset()
		_, err = s.askOnce(ctx, do)
	}
	return err
}

func (s *source) askOnce(ctx context.Context, do func(context.Context, *pgx.Conn) error) (lost bool, err error) {
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return false, err
	}
	defer conn.Release()
	err = do(ctx, conn.Conn())
	return conn.Conn().IsClosed(), err
}
