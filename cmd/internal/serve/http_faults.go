package serve

import (
	"log"
	"log/slog"
	"strings"

	"golang.org/x/time/rate"
)

// httpFaults takes net/http's lines about the connections of a part: failed handshakes
// above all, which any client can cause, and panics.
type httpFaults struct {
	part         string
	logger       *slog.Logger
	notEncrypted func()
	often        *rate.Limiter
}

// newHTTPFaults returns a log for an [net/http.Server]. It calls notEncrypted at each
// handshake that failed.
func newHTTPFaults(part string, logger *slog.Logger, notEncrypted func()) *log.Logger {
	return log.New(&httpFaults{part, logger, notEncrypted, rate.NewLimiter(1, 5)}, "", 0)
}

// Write implements [io.Writer]; each call is one line.
func (f *httpFaults) Write(line []byte) (int, error) {
	text := strings.TrimSpace(string(line))
	switch {
	case strings.HasPrefix(text, "http: panic"):
		f.logger.Error(f.part+" met a bug", "error", withoutValue(text))
	case strings.HasPrefix(text, "http: TLS handshake error"):
		f.notEncrypted()
		fallthrough
	default:
		if f.often.Allow() {
			f.logger.Warn("a connection of "+f.part+" failed", "error", text)
		}
	}
	return len(line), nil
}

// withoutValue is net/http's line about a panic without its value, which can hold a
// password or a session ID. The text of a runtime error holds none, and stays.
func withoutValue(text string) string {
	stack := strings.LastIndex(text, "\ngoroutine ")
	if stack < 0 {
		return "panic"
	}
	_, value, _ := strings.Cut(text[:stack], ": ") // http: panic serving ADDRESS: VALUE
	_, value, _ = strings.Cut(value, ": ")
	if !strings.HasPrefix(value, "runtime error: ") {
		return "panic" + text[stack:]
	}
	return value + text[stack:]
}
