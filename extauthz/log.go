package extauthz

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/coatcheck/coatcheck/extauthz/internal/redact"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"

	"github.com/coatcheck/coatcheck/sessions"
)

// LogDecisions says which decisions are logged. Faults ([ReasonInfo]) are always
// logged, as errors.
type LogDecisions string

// The choices of [LogConfig.Decisions].
const (
	LogAll    LogDecisions = "all"
	LogDenied LogDecisions = "denied"
	LogFaults LogDecisions = "faults"
)

// LogConfig says what becomes a line of the decision log. The zero LogConfig is ready.
type LogConfig struct {
	// Decisions says which decisions are logged. Empty: [LogDenied].
	Decisions LogDecisions
	// Level is the level of decisions that are not faults. Zero: Info.
	Level slog.Level
	// Sample logs one of this number of decisions that are not faults. Zero or one:
	// all.
	Sample int
	// FaultsPerSecond bounds the errors and warnings of each [Reason], because in an
	// outage every check has the same error. The next line and a metric count the
	// lines left out. Zero: 10.
	FaultsPerSecond int
}

func (l LogConfig) validate() error {
	if l.Sample < 0 || l.FaultsPerSecond < 0 {
		return fmt.Errorf("log: a sample of %d, %d faults a second: neither can be negative", l.Sample, l.FaultsPerSecond)
	}
	switch l.Decisions {
	case "", LogAll, LogDenied, LogFaults:
		return nil
	}
	return fmt.Errorf("logged decisions %q: one of all, denied, faults", string(l.Decisions))
}

// A decisionLog writes the line of a decision, if there is to be one.
type decisionLog struct {
	LogConfig
	logger *slog.Logger
	format sessions.Format                      // nil: ours
	cause  func(error) (cause, openedBy string) // nil: not known
	seen   atomic.Uint64                        // decisions that are not faults
	limits map[Reason]*rateLimit
}

// A rateLimit bounds the errors and warnings of one reason.
type rateLimit struct {
	*rate.Limiter
	leftOut    atomic.Uint64 // since the last line
	suppressed prometheus.Counter
}

func newDecisionLog(logger *slog.Logger, l LogConfig, m *metrics) *decisionLog {
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	if l.FaultsPerSecond == 0 {
		l.FaultsPerSecond = 10
	}
	d := &decisionLog{LogConfig: l, logger: logger, limits: make(map[Reason]*rateLimit)}
	for reason, series := range m.series {
		limiter := rate.NewLimiter(rate.Limit(l.FaultsPerSecond), l.FaultsPerSecond)
		d.limits[reason] = &rateLimit{Limiter: limiter, suppressed: series.suppressed}
	}
	return d
}

// wanted reports whether a decision becomes a line, and at which level.
func (l *decisionLog) wanted(ctx context.Context, d *decision, omitted []string) (slog.Level, bool) {
	switch {
	case d.reason.info().Fault:
		return slog.LevelError, true
	case omitted != nil:
		return slog.LevelWarn, true
	case l.Decisions == LogFaults, d.allow && !d.shadow && l.Decisions != LogAll, !l.logger.Enabled(ctx, l.Level):
		return 0, false
	}
	return l.Level, l.Sample < 2 || l.seen.Add(1)%uint64(l.Sample) == 1
}

// write writes the one line of a decision: no ID, no cookie, no identity, no
// query.
func (l *decisionLog) write(ctx context.Context, r *request, d *decision, took time.Duration) {
	omitted := d.policy.headers.omitted(d.identity.session)
	level, wanted := l.wanted(ctx, d, omitted)
	if !wanted {
		return
	}
	limit := l.limits[d.reason]
	if level >= slog.LevelWarn && !limit.Allow() {
		limit.leftOut.Add(1)
		limit.suppressed.Inc()
		return
	}
	if d.reason != Internal { // which may be a bug in reading it
		r.present(l.format)
	}
	attrs := slices.Concat(verdict(r, d), described(r), []slog.Attr{
		slog.Duration("duration", took), slog.Duration("lookup_duration", d.identity.lookup),
	})
	if n := limit.leftOut.Swap(0); n > 0 {
		attrs = append(attrs, slog.Uint64("suppressed", n))
	}
	if omitted != nil {
		attrs = append(attrs, slog.Any("omitted_fields", omitted))
	}
	attrs = append(attrs, l.causeOf(d)...)
	if d.err != nil {
		attrs = append(attrs, slog.String("error", redact.IDs(d.err.Error())))
	}
	l.logger.LogAttrs(ctx, level, "check", attrs...)
}

// causeOf says of a decision without an answer of the session store why there is none.
func (l *decisionLog) causeOf(d *decision) (attrs []slog.Attr) {
	if l.cause == nil || d.err == nil || d.reason != Unavailable && d.reason != Timeout {
		return nil
	}
	cause, openedBy := l.cause(d.err)
	if cause != "" {
		attrs = append(attrs, slog.String("cause", cause))
	}
	if openedBy != "" {
		attrs = append(attrs, slog.String("opened_by", openedBy))
	}
	return attrs
}

// undecodable logs a message that the codec could not decode.
func (l *decisionLog) undecodable(err error) {
	if l.limits[BadRequest].Allow() {
		l.logger.Error("decoding a CheckRequest; does the gRPC server use extauthz.Codec?", "error", err.Error())
	}
}

func (d *decision) verdict() string {
	if d.allow {
		return "allow"
	}
	return "deny"
}

// detail says of a missing role what was asked for and what the session has; "" of
// every other decision. Roles may be logged; names of users may not.
func (d *decision) detail() string {
	if d.reason != MissingRole {
		return ""
	}
	asked := d.required()
	if asked.verify(d.identity.outcome, d.identity.session) == holds {
		asked = d.policy.required
	}
	return asked.compared(d.identity.session)
}

// verdict is what was decided and what it rests on.
func verdict(r *request, d *decision) []slog.Attr {
	attrs := []slog.Attr{
		slog.String("verdict", d.verdict()),
		slog.String("reason", string(d.reason)),
		slog.Int("status", d.status(r)),
	}
	if text := d.detail(); text != "" {
		attrs = append(attrs, slog.String("detail", text))
	}
	if d.shadow {
		attrs = append(attrs, slog.Bool("shadow", true), slog.String("would_be", "deny"))
	}
	if d.reason != BadRoute {
		attrs = append(attrs, slog.String("route", d.required().String()))
	}
	if d.policy.name != "" {
		attrs = append(attrs, slog.String("policy", d.policy.name))
	}
	if d.rule != nil {
		attrs = append(attrs, slog.String("rule", d.rule.text))
	}
	if d.identity.key != "" {
		attrs = append(attrs, slog.String("session", d.identity.key.Handle()))
	}
	return attrs
}

// described is the request in the client's words, redacted.
func described(r *request) []slog.Attr {
	attrs := []slog.Attr{
		slog.String("method", r.text(r.method)),
		slog.String("host", r.text(r.host)),
		slog.String("path", clientPath(r)),
		slog.String("request_id", r.text(r.id)),
	}
	if trace, span, ok := traceOf(r.traceparent); ok {
		attrs = append(attrs, slog.String("trace_id", trace), slog.String("span_id", span))
	}
	return attrs
}

// clientPath is the path without its query, redacted.
func clientPath(r *request) string {
	path, _, _ := strings.Cut(r.path, "?")
	return r.text(path)
}

// present finds the ID of another framework that is to be kept out of a text, where the
// decision needed none.
func (r *request) present(format sessions.Format) {
	if format != nil && r.presented == (sessions.ID{}) {
		r.presented, _ = format.Read(r.cookies)
	}
}

// minForeign is the length from which on the ID of another framework is looked for in text:
// a shorter one may be a part of any word.
const minForeign = 16

// text is a client's text, redacted. What has the form of our own IDs is taken out wherever
// it stands; those of other frameworks have no form that would tell them from other words,
// so the one that this request presents is.
func (r *request) text(s string) string {
	if id := r.presented.Reveal(); len(id) >= minForeign {
		s = strings.ReplaceAll(s, id, r.presented.String())
	}
	return redact.ClientText(s)
}

// traceOf reads a traceparent header (W3C Trace Context, section 3.2):
// version, trace ID, parent ID and flags, in lower-case hexadecimal digits.
// Any other text is not a trace.
func traceOf(traceparent string) (trace, span string, ok bool) {
	if len(traceparent) != len("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01") {
		return "", "", false
	}
	for i := range len(traceparent) {
		c := traceparent[i]
		hexadecimal := '0' <= c && c <= '9' || 'a' <= c && c <= 'f'
		if dash := i == 2 || i == 35 || i == 52; dash != (c == '-') || !dash && !hexadecimal {
			return "", "", false
		}
	}
	return traceparent[3:35], traceparent[36:52], true
}
