package serve

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/coatcheck/coatcheck/cmd/internal/callersfile"
	"github.com/coatcheck/coatcheck/cmd/internal/config"
	"github.com/coatcheck/coatcheck/internal/filewatch"
	"github.com/coatcheck/coatcheck/internal/notice"
	"github.com/coatcheck/coatcheck/sessions/api"
	"github.com/coatcheck/coatcheck/sessions/redisstore"
)

// followCallers takes up changes of the callers file and its token files. A file that cannot
// be used, or whose callers may more than the Redis user, changes nothing.
func (a *apiPart) followCallers() {
	hangups := a.hangups()
	var next *callersfile.File
	a.running.Go(func() {
		filewatch.Watch(a.background, filewatch.Config{
			Interval: reloadEvery, Now: hangups, InUse: a.file.Load().Contents,
			Read: func() (_ []byte, err error) {
				if next, err = callersfile.Open(a.config.APICallersFile, a.accept); err != nil {
					return nil, err
				}
				return next.Contents, nil
			},
			Use:    func([]byte) error { return a.use(next) },
			Report: a.reportCallers,
		})
	})
}

// accept says what a caller has in vain: a certificate that no connection can have, without a
// token beside it, and fields that no session can have.
func (a *apiPart) accept(c api.Caller) error {
	var errs []error
	if c.Certificate != "" && len(c.Tokens) == 0 && a.config.APITLS.CAFile == "" {
		errs = append(errs, config.About(errors.New("it is not set, so that no client presents the certificate by which alone it would be this caller"), "api.tls.client_ca_file"))
	}
	if format := a.config.ExtAuthz().Format; format != nil {
		for _, name := range c.Fields {
			errs = append(errs, format.ValidateField(name))
		}
	}
	return errors.Join(errs...)
}

// use takes callers into use.
func (a *apiPart) use(file *callersfile.File) error {
	ctx, cancel := context.WithTimeout(a.background, probeTimeout)
	defer cancel()
	missing, err := a.lacks(ctx, file.Callers)
	if len(missing) > 0 && a.changes(file.Callers) {
		return fmt.Errorf("%s: %w", a.config.APICallersFile, lackingRights(missing))
	}
	if err == nil && len(missing) == 0 {
		a.have(file)
	}
	a.server.SetCallers(file.Callers)
	a.file.Store(file)
	return nil
}

func (a *apiPart) reportCallers(err error) {
	a.metrics.reloaded(callersSource, err)
	if err != nil {
		a.logger.Error("the callers file cannot be used; the callers as they were before stay in use", "error", shortened(err.Error()))
		return
	}
	a.logger.Info("changed callers are in use", "file", a.config.APICallersFile, "callers", a.file.Load().Callers.Len())
}

// lacks tries the rights that the callers need, and returns the missing ones. An error says
// that they are not known, because Redis does not answer.
func (a *apiPart) lacks(ctx context.Context, callers *api.Callers) (missing []string, err error) {
	if a.foreign.format == nil {
		return a.store.ServiceRights(ctx, redisstore.ServiceUses{
			Touch: callers.Any(api.Touch), Add: callers.Any(api.Add), Revoke: callers.Any(api.Revoke), List: callers.Any(api.List),
		})
	}
	// What reading needs is tried with the checks', and no caller changes such a session. A
	// caller that may name one by its ID may never search for a handle.
	if callers.AnyWithout(api.ByID, api.Get, api.Check) {
		return a.foreign.records.FindRights(ctx)
	}
	return nil, nil
}

// lackingRights says that the Redis user may less than the callers.
func lackingRights(missing []string) error {
	return fmt.Errorf("the Redis user lacks rights that callers need: %s (docs/api.md has the user)", strings.Join(missing, " "))
}

// changes reports whether callers may more than read and slide.
func (a *apiPart) changes(callers *api.Callers) bool {
	return a.foreign.format == nil && callers.Any(api.Add, api.Revoke, api.List)
}

// checkRights refuses to start where callers may add, revoke or list and the Redis user may
// not. Where Redis does not answer nothing is known, and watchRights looks again.
func (a *apiPart) checkRights(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, firstTimeout)
	defer cancel()
	file := a.file.Load()
	missing, err := a.lacks(ctx, file.Callers)
	switch {
	case err != nil:
	case len(missing) == 0:
		a.tried.Store(file)
	case a.changes(file.Callers):
		return lackingRights(missing)
	}
	return nil
}

// have notes that all rights for the callers are there.
func (a *apiPart) have(file *callersfile.File) {
	a.tried.Store(file)
	a.notices.Over(notice.APIRights)
}

// watchRights tries the rights for the callers in use until Redis has answered that all are
// there, since Redis may be away when callers are taken into use, and then now and then.
func (a *apiPart) watchRights() {
	a.running.Go(func() {
		ticker := time.NewTicker(probeEvery)
		defer ticker.Stop()
		last := time.Now()
		for {
			select {
			case <-a.background.Done():
				return
			case <-ticker.C:
			}
			file := a.file.Load()
			if a.tried.Load() == file && time.Since(last) < lookEvery {
				continue
			}
			last = time.Now()
			ctx, cancel := context.WithTimeout(a.background, probeTimeout)
			missing, err := a.lacks(ctx, file.Callers)
			cancel()
			switch {
			case err != nil:
			case len(missing) == 0:
				a.have(file)
			default:
				a.tried.CompareAndSwap(file, nil)
				a.notices.Say(notice.APIRights, slog.Any("missing", missing))
			}
		}
	})
}
