package extauthz

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/coatcheck/coatcheck/sessions"
)

// LogDecisions says which decisions are logged. Faults, that is what somebody
// on call should know, are logged as errors whatever it says.
type LogDecisions string

// The choices of [Config.Log].
const (
	LogAll    LogDecisions = "all"
	LogDenied LogDecisions = "denied"
	LogFaults LogDecisions = "faults"
)

func (l LogDecisions) validate() error {
	switch l {
	case "", LogAll, LogDenied, LogFaults:
		return nil
	}
	return fmt.Errorf("logged decisions %q: one of all, denied, faults", string(l))
}

// maxLogged bounds each value of a log line, in bytes.
const maxLogged = 256

// log writes the one line of a decision: no ID, no cookie, no identity, no
// query.
func (s *Server) log(ctx context.Context, r *request, d decision, took time.Duration) {
	level := slog.LevelInfo
	omitted := s.headers.omitted(d.session)
	switch {
	case d.reason.fault():
		level = slog.LevelError
	case omitted != nil:
		level = slog.LevelWarn
	case s.config.Log == LogFaults, d.allow && s.config.Log != LogAll:
		return
	}
	if !s.config.Logger.Enabled(ctx, level) {
		return
	}
	verdict := "deny"
	if d.allow {
		verdict = "allow"
	}
	path, _, _ := strings.Cut(r.path, "?")
	attrs := []slog.Attr{
		slog.String("verdict", verdict),
		slog.String("reason", string(d.reason)),
		slog.String("method", loggable(r.method)),
		slog.String("host", loggable(r.host)),
		slog.String("path", loggable(path)),
		slog.String("request_id", loggable(r.id)),
		slog.Duration("duration", took),
	}
	if !d.allow {
		attrs = append(attrs, slog.Int("status", s.status(r, d)))
	}
	if d.session != nil {
		attrs = append(attrs, slog.String("session", d.session.Key.Handle()))
	}
	if omitted != nil {
		attrs = append(attrs, slog.Any("omitted_fields", omitted))
	}
	if d.err != nil {
		attrs = append(attrs, slog.String("error", blot(d.err.Error())))
	}
	s.config.Logger.LogAttrs(ctx, level, "check", attrs...)
}

// idLength is that of a session ID.
const idLength = 43

// loggable cuts a client's text short and blots tickets out of it. Control
// characters are the log handler's to escape.
func loggable(s string) string {
	s = blot(strings.ToValidUTF8(s[:min(len(s), maxLogged+idLength)], "\uFFFD"))
	return strings.ToValidUTF8(s[:min(len(s), maxLogged)], "") // without the half of a character
}

// blot replaces every word that is long enough to hold a session ID: people put
// tickets into URLs and request IDs, and an error may repeat what it was asked.
func blot(s string) string {
	for word := range strings.FieldsFuncSeq(s, outsideWord) {
		if len(word) >= idLength {
			s = strings.ReplaceAll(s, word, sessions.ID{}.String())
		}
	}
	return s
}

// outsideWord reports whether r is no character of a session ID.
func outsideWord(r rune) bool {
	switch {
	case 'A' <= r && r <= 'Z', 'a' <= r && r <= 'z', '0' <= r && r <= '9', r == '-', r == '_':
		return false
	}
	return true
}
