package usersource

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/coatcheck/coatcheck/sessions/login/userfile"
)

// openUsersFile takes users from a file, and keeps their sessions in line with it.
func openUsersFile(_ context.Context, v Values, p Parts) (Opened, error) {
	file, err := userfile.Open(v[UsersFile])
	if err != nil {
		return Opened{}, about(err, UsersFile)
	}
	accounts, err := userfile.NewAccounts(userfile.AccountsConfig{
		File: file, Store: p.Accounts, Sessions: p.Sessions, Logger: p.Logger, Metrics: p.Metrics,
	})
	if err != nil {
		return Opened{}, err
	}
	users, err := p.Checked(file, accounts.Confirm)
	if err != nil {
		return Opened{}, about(err, UsersFile)
	}
	followed := &followedFile{file, accounts, p.Logger}
	return Opened{Users: users, Settle: followed.settle, Run: followed.run}, nil
}

// findInFile asks the file as it is now.
func findInFile(ctx context.Context, v Values, username string) (string, error) {
	file, err := userfile.Open(v[UsersFile])
	if err != nil {
		return "", err
	}
	account, err := file.Find(ctx, username)
	return account.ID, err
}

// A followedFile is a users file whose changes are taken up.
type followedFile struct {
	file     *userfile.File
	accounts *userfile.Accounts
	logger   *slog.Logger
}

// settleTimeout is how long a start and a reload wait for the sessions of closed
// accounts to be ended; longer goes on beside the logins.
const settleTimeout = 5 * time.Second

// settle ends the sessions of closed accounts, so that the first login finds its
// account. Run tries again, and the error is logged.
func (f *followedFile) settle(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	_ = f.accounts.Settle(ctx)
}

// run follows the file, and ends sessions that settle has left.
func (f *followedFile) run(ctx context.Context, r Reloads) {
	changed := make(chan struct{}, 1)
	var beside sync.WaitGroup
	defer beside.Wait()
	beside.Go(func() { f.accounts.Run(ctx, changed) })
	f.file.Watch(ctx, r.Every, r.Now, func(err error) {
		if err == nil {
			f.settle(ctx)
			select {
			case changed <- struct{}{}:
			default: // Run has not looked since the last time
			}
		}
		r.Report(err)
		if err != nil {
			f.logger.Error("the changed users file cannot be used; the former users stay, and no session was ended; to close an account meanwhile, run: coatcheck session revoke --all --user ID",
				"error", err.Error())
			return
		}
		f.logger.Info("the changed users file is in use", "users", f.file.Len())
	})
}
