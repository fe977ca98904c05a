package serve

import (
	"context"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/coatcheck/coatcheck/cmd/internal/config"
	"github.com/coatcheck/coatcheck/cmd/internal/logsink"
	"github.com/coatcheck/coatcheck/cmd/internal/tlsfiles"
	"github.com/coatcheck/coatcheck/internal/notice"
)

// A process is what its parts share: the configuration, the log, the metrics, and
// the end.
type process struct {
	config  *config.Config
	logger  *slog.Logger
	metrics *metrics
	notices *notice.Board
	failed  chan error // what a part that serves has met

	background context.Context // of what runs beside the parts, until close
	end        context.CancelFunc
	running    sync.WaitGroup
	closers    []func()       // in the order of opening
	ignored    chan os.Signal // each SIGHUP, until close ends
}

func newProcess(ctx context.Context, c *config.Config, sink *logsink.Sink) *process {
	p := &process{config: c, logger: c.Logger(io.Writer(sink)), metrics: newMetrics(sink.Dropped, c.Settings().Fingerprint()), failed: make(chan error, 4)}
	var err error
	if p.notices, err = notice.NewBoard(p.logger, p.metrics, noticed...); err != nil {
		panic(err) // two metrics of one name
	}
	p.background, p.end = context.WithCancel(context.WithoutCancel(ctx))
	// A SIGHUP never ends the process, also while close waits for handlers: operators
	// send it to all that they have.
	p.ignored = make(chan os.Signal, 1)
	signal.Notify(p.ignored, syscall.SIGHUP)
	return p
}

// hangups returns a channel of its own for each caller that gets every SIGHUP.
func (p *process) hangups() <-chan os.Signal {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGHUP)
	p.onClose(func() { signal.Stop(c) })
	return c
}

// onClose has do called in the end, before what was opened earlier is closed.
func (p *process) onClose(do func()) { p.closers = append(p.closers, do) }

func (p *process) close() {
	p.end()
	for i := range p.closers {
		p.closers[len(p.closers)-1-i]()
	}
	p.running.Wait()
	signal.Stop(p.ignored)
}

// listenHTTP opens the listener of a key, unless its address is empty.
func (p *process) listenHTTP(key, address string) (net.Listener, error) {
	if address == "" {
		return nil, nil
	}
	listener, err := listenTCP(address)
	if err != nil {
		return nil, config.About(err, key)
	}
	p.onClose(func() { _ = listener.Close() })
	return listener, nil
}

// reloadEvery is the time between two looks at a file for changes. A change counts
// at the second look that finds it. TLS files are looked at twice as often, so that
// a new certificate is in use within a second.
var reloadEvery = time.Second

// watchTLS opens TLS files and takes up their changes from then on.
func (p *process) watchTLS(source string, files tlsfiles.Files) (*tlsfiles.Source, error) {
	opened, err := tlsfiles.Open(files)
	if err != nil {
		return nil, err
	}
	if !opened.Expiry().IsZero() {
		p.metrics.watchExpiry(source, opened.Expiry)
	}
	hangups := p.hangups()
	p.running.Go(func() {
		opened.Watch(p.background, reloadEvery/2, hangups, func(err error) {
			p.metrics.reloaded(source, err)
			if err != nil {
				p.logger.Error("changed TLS files cannot be used; the former contents stay in use", "source", source, "error", err.Error())
				return
			}
			p.logger.Info("changed TLS files are in use", "source", source, "expires", opened.Expiry())
		})
	})
	return opened, nil
}
