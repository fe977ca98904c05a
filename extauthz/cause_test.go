package extauthz_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/coatcheck/coatcheck/extauthz"
	"github.com/coatcheck/coatcheck/sessions"
)

// TestCause: the line of a decision without an answer of the store names the cause, and no
// other line does.
func TestCause(t *testing.T) {
	away := errors.New("away")
	for name, test := range map[string]struct {
		err  error
		want string // in the line; empty: no cause
	}{
		"outage":         {away, `"cause":"refused","error":`},
		"breaker":        {errors.New("open"), `"cause":"breaker","opened_by":"refused","error":`},
		"not classified": {errors.New("other"), ""},
		"broken":         {fmt.Errorf("%w: x", sessions.ErrBroken), ""},
		"layout":         {fmt.Errorf("%w: 9", sessions.ErrLayout), ""},
		"not found":      {sessions.ErrNotFound, ""},
	} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			server, err := extauthz.New(&fake{err: test.err}, extauthz.Config{
				Logger: slog.New(slog.NewJSONHandler(&log, nil)),
				Cause: func(err error) (cause, openedBy string) {
					switch err.Error() {
					case "away":
						return "refused", ""
					case "open":
						return "breaker", "refused"
					case "other":
						return "", ""
					}
					return "wrong", "wrong"
				},
			})
			if err != nil {
				t.Fatal(err)
			}
			c := check{request: "GET /x", lines: []string{"cookie: " + ours(liveID)}}
			if _, err := server.Check(context.Background(), c.message()); err != nil {
				t.Fatal(err)
			}
			if test.want == "" && (strings.Contains(log.String(), `"cause"`) || log.Len() == 0) || !strings.Contains(log.String(), test.want) {
				t.Errorf("the line is %s, want %s", &log, test.want)
			}
		})
	}
}
