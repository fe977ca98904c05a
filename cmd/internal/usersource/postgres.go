package usersource

import (
	"context"
	"errors"
	"time"

	"github.com/coatcheck/coatcheck/sessions/login/pgusers"
)

const (
	postgresPasswordFile = "login.postgres.password_file" // #nosec G101 -- the name of a setting
	postgresQuery        = "login.postgres.query"
	postgresRenewQuery   = "login.postgres.renew_query"
)

// openPostgres takes users from a database. One that does not answer may be back before
// the first user signs in; a query that cannot be used is a mistake.
func openPostgres(ctx context.Context, v Values, p Parts) (Opened, error) {
	source, err := newPostgres(v, max(4, p.Concurrent)) // one for each password, so that no login waits
	if err != nil {
		return Opened{}, about(err, Postgres, postgresQuery)
	}
	if err := askPostgres(ctx, source, p); err != nil {
		source.Close()
		return Opened{}, err
	}
	users, err := p.Checked(source, nil)
	if err != nil {
		source.Close()
		return Opened{}, err
	}
	return Opened{Users: users, Close: source.Close}, nil
}

func newPostgres(v Values, connections int) (pgusers.Source, error) {
	return pgusers.New(pgusers.Config{
		DSN: v[Postgres], PasswordFile: v[postgresPasswordFile], Query: v[postgresQuery], RenewQuery: v[postgresRenewQuery],
		MaxConns: connections,
	})
}

// findInPostgres asks the operator's query.
func findInPostgres(ctx context.Context, v Values, username string) (string, error) {
	source, err := newPostgres(v, 1)
	if err != nil {
		return "", err
	}
	defer source.Close()
	account, err := source.Find(ctx, username)
	return account.ID, err
}

// askPostgres returns an error where the queries cannot be used, and logs it where the
// database does not answer.
func askPostgres(ctx context.Context, source pgusers.Source, p Parts) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	err := source.Check(ctx)
	switch {
	case errors.Is(err, pgusers.ErrQuery):
		return about(err, postgresQuery, postgresRenewQuery)
	case err != nil:
		p.Logger.Error("the user database does not answer; logins get 503 until it does", "error", err.Error())
	}
	return nil
}
