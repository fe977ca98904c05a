package main

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/coatcheck/coatcheck/sessions"
)

// A progress shows how far a scan is, on one line of a terminal, several times a second.
// It shows nothing where standard error is no terminal.
type progress struct {
	w     io.Writer    // nil: no terminal
	flush func() error // prints what was found; nil: nothing is printed
	now   sessions.Progress
	last  time.Time
	shown bool
}

func newProgress(cmd *cobra.Command) *progress {
	p := new(progress)
	if w := cmd.ErrOrStderr(); isTerminal(w) {
		p.w = w
	}
	return p
}

// at is told how far the scan is.
func (p *progress) at(now sessions.Progress) {
	p.now = now
	if time.Since(p.last) < 200*time.Millisecond {
		return
	}
	p.last = time.Now()
	if p.flush != nil {
		_ = p.flush() // the writer keeps its error
	}
	if p.w != nil {
		_, _ = fmt.Fprintf(p.w, "\r\x1b[K%d sessions looked at, %.0f %% of Redis", now.Records, 100*now.Done)
		p.shown = true
	}
}

// clear takes the line away.
func (p *progress) clear() {
	if p.shown {
		_, _ = io.WriteString(p.w, "\r\x1b[K")
		p.shown = false
	}
}

// A clearing writer takes the line of the progress away before it writes.
type clearing struct {
	io.Writer
	progress *progress
}

// Write implements [io.Writer].
func (c clearing) Write(b []byte) (int, error) {
	c.progress.clear()
	return c.Writer.Write(b)
}
