package serve

import (
	"github.com/coatcheck/coatcheck/cmd/internal/config"
	"github.com/coatcheck/coatcheck/extauthz"
	"github.com/coatcheck/coatcheck/internal/filewatch"
	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/foreign"
	"github.com/coatcheck/coatcheck/sessions/redisstore"
)

// A foreignPart reads the sessions that another program makes, for checks. With
// session.format coatcheck it has no format, and does nothing.
type foreignPart struct {
	*process
	format  *config.Format      // nil: the sessions are Coatcheck's own
	records *redisstore.Foreign // of them
	checks  *foreign.Sessions
}

// open reads the secrets, and follows their changes from then on.
func (f *foreignPart) open(store *redisstore.Store) (err error) {
	if f.format, err = f.config.Format(); err != nil || f.format == nil {
		return err
	}
	f.records = store.Foreign(f.format.Place())
	if f.checks, err = foreign.New(f.records, f.format, f.format.Reading); err != nil {
		return err
	}
	f.onClose(f.checks.Close) // before the client is closed, which slides under way need
	hangups := f.hangups()
	f.running.Go(func() {
		filewatch.Watch(f.background, filewatch.Config{
			Interval: reloadEvery, Now: hangups, InUse: f.format.InUse, Use: f.format.Use, Report: f.report,
			Read: func() ([]byte, error) { return config.ReadSecrets(f.format.SecretFile) },
		})
	})
	return nil
}

func (f *foreignPart) report(err error) {
	f.metrics.reloaded(secretSource, err)
	if err != nil {
		f.logger.Error("the changed secrets of sessions cannot be used; the former ones stay in use", "error", err.Error())
		return
	}
	f.logger.Info("changed secrets of sessions are in use")
}

// over is what checks ask in place of the given sessions, and the format of their IDs; nil:
// Coatcheck's own.
func (f *foreignPart) over(own extauthz.Sessions) (extauthz.Sessions, sessions.Format) {
	if f.format == nil {
		return own, nil
	}
	f.logger.Info("sessions belong to the application: their end in Redis is the only one, and neither an idle nor an absolute timeout of Coatcheck holds for them",
		"session.format", f.config.SessionFormat, "prefix", f.format.Place().Prefix, "slides", f.format.Slides)
	return f.checks, f.format
}
