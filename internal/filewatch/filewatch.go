// Package filewatch follows files that change while a program uses them:
//
//	filewatch.Watch(ctx, filewatch.Config{
//		Interval: time.Second,
//		InUse:    contents, // as the program read them at start
//		Read:     func() ([]byte, error) { return os.ReadFile(path) },
//		Use:      use, // parses new contents and takes them into use
//		Report:   report,
//	})
//
// Watch compares contents, because a write, a rename and, in Kubernetes, a symbolic
// link that moves then look alike. One rule holds for contents and for errors: they
// count when two looks in a row find the same. Half of a file that is being written
// can be valid, and between the two writes of a certificate and its key the two do
// not fit.
package filewatch

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"time"
)

// A Config says what to watch. Its functions are called one at a time, and a panic
// of Read or Use counts as an error: a file that reveals a bug does not end a
// program that has good contents.
type Config struct {
	Interval time.Duration    // between two looks
	Now      <-chan os.Signal // each signal has the two looks made at once, settle apart; nil: only Interval

	InUse []byte                 // the contents in use when Watch begins
	Read  func() ([]byte, error) // returns the contents, of several files joined
	Use   func([]byte) error     // takes contents into use; after an error the former ones stay

	// Report gets nil when the contents in use have changed, and when they are back
	// after an error; otherwise the error of Read or Use, once until something else
	// is there, and again after each signal.
	Report func(error)
}

// settle is the time between the two looks after a signal: long enough for a file
// that is being written in place, too short for an operator to wait for.
const settle = 100 * time.Millisecond

// Watch looks at the files until ctx is done.
func Watch(ctx context.Context, c Config) {
	w := newWatcher(c)
	ticker := time.NewTicker(c.Interval)
	defer ticker.Stop()
	ticks := ticker.C
	var settled <-chan time.Time // after a signal, in place of ticks
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.Now:
			w.asked = true
		case <-settled:
		case <-ticks:
		}
		w.look()
		ticks, settled = ticker.C, nil
		if w.asked {
			ticks, settled = nil, time.After(settle)
		}
	}
}

// A sight is what a look found: contents, by their sum, or an error.
type sight struct {
	sum     [sha256.Size]byte
	mistake string
}

type watcher struct {
	Config
	inUse   sight
	last    sight // of the look before
	taken   sight // the last that counted
	failing bool  // the error of taken has been reported
	asked   bool  // by a signal, and not yet answered
}

func newWatcher(c Config) *watcher {
	inUse := sight{sum: sha256.Sum256(c.InUse)}
	return &watcher{Config: c, inUse: inUse, last: inUse, taken: inUse}
}

// look takes what the files hold if the look before found the same, and if it is new
// or a signal has asked for it.
func (w *watcher) look() {
	var contents []byte
	err := survive(func() (err error) {
		contents, err = w.Read()
		return err
	})
	now := sight{sum: sha256.Sum256(contents)}
	if err != nil {
		now = sight{mistake: err.Error()}
	}
	again := now == w.last
	w.last = now
	if again && (w.asked || now != w.taken) {
		w.taken, w.asked = now, false
		w.take(now, contents, err)
	}
}

// take takes contents into use, unless they are in use, and reports what is new.
func (w *watcher) take(now sight, contents []byte, err error) {
	changed := now != w.inUse
	if err == nil && changed {
		err = survive(func() error { return w.Use(contents) })
	}
	switch {
	case err != nil:
		w.failing = true
		w.Report(err)
	case changed || w.failing:
		w.inUse, w.failing = now, false
		w.Report(nil)
	}
}

// survive makes an error of a panic.
func survive(do func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("a bug in reading it: panic of type %T", p)
		}
	}()
	return do()
}
