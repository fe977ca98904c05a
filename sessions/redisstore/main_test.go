package redisstore_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/coatcheck/coatcheck/sessions/redisstore/redistest"
)

// A listener to what go-redis logs keeps it quiet, and notes passwords.
type listener struct{ heard atomic.Value }

func (l *listener) Printf(_ context.Context, format string, args ...any) {
	line := fmt.Sprintf(format, args...)
	if strings.Contains(line, "canary-") || strings.Contains(line, redistest.Password) {
		l.heard.Store(line)
	}
}

// TestMain fails if a goroutine is left over, or a password was logged.
func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		beAsProgram()
		return
	}
	log := new(listener)
	redis.SetLogger(log)
	code := m.Run()
	if line := log.heard.Load(); line != nil {
		fmt.Fprintln(os.Stderr, "go-redis logged a password:", line)
		code = 1
	}
	if code == 0 {
		err := goleak.Find()
		for range 40 { // go-redis dials a node that a test has killed once a second
			if err != nil {
				err = goleak.Find()
			}
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}
