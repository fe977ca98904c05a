package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/coatcheck/coatcheck/cmd/internal/story"
	"github.com/coatcheck/coatcheck/extauthz"
	"github.com/coatcheck/coatcheck/internal/strictyaml"
)

// maxLog bounds what is read of a log, in bytes: it is meant to be one line.
const maxLog = 16 << 20

// args takes one argument at most. Its error does not repeat the arguments, because one
// of them may be a session ID.
func (*explainer) args(cmd *cobra.Command, given []string) error {
	return args(func(*cobra.Command, []string) error {
		if len(given) > 1 {
			return errors.New("explain takes one argument, a URL or a line of the log; put it in quotes")
		}
		return nil
	})(cmd, given)
}

// read checks the arguments and flags, and makes the request of them.
func (x *explainer) read(cmd *cobra.Command, arguments []string) error {
	if err := x.readRequest(cmd, arguments); err != nil {
		return err
	}
	if err := x.readFlags(); err != nil {
		return usageError{err}
	}
	return nil
}

func (x *explainer) readRequest(cmd *cobra.Command, arguments []string) (err error) {
	argument := strings.Join(arguments, "")
	given := argument != ""
	switch {
	case given && x.log != "", given && (x.request.Host != "" || x.request.Path != ""), x.log != "" && (x.request.Host != "" || x.request.Path != ""):
		return usageError{errors.New("a request is a URL, a line of the log, or --host and --path; only one of them can be given")}
	case x.log != "":
		text, err := readLog(cmd.InOrStdin(), x.log)
		if err != nil {
			return fmt.Errorf("--log: %w", err)
		}
		x.logged, err = findLine(text)
		if err != nil {
			return fmt.Errorf("--log: %w", err)
		}
	case isLogLine(argument):
		if x.logged, err = findLine(argument); err != nil {
			return usageError{err}
		}
	case given:
		if err := x.url(argument); err != nil {
			return usageError{err}
		}
	}
	if x.logged == nil {
		return nil
	}
	if x.logged.Reason == string(extauthz.BadRoute) && len(x.envoy) == 0 {
		return x.logged.errBadRoute()
	}
	x.fromLog()
	return nil
}

// url takes scheme, host and path of a URL. The path stays as it is written: net/url
// would decode it and encode it anew.
func (x *explainer) url(text string) error {
	scheme, rest, ok := strings.Cut(text, "://")
	scheme = strings.ToLower(scheme)
	if !ok || scheme != "http" && scheme != "https" {
		return errors.New("the argument is neither a URL such as https://shop.example/admin nor a line of the decision log")
	}
	rest, _, _ = strings.Cut(rest, "#") // browsers keep it to themselves
	end := strings.IndexAny(rest, "/?")
	if end < 0 {
		end = len(rest)
	}
	host, path := rest[:end], rest[end:]
	if strings.Contains(host, "@") {
		return errors.New("the URL has a user or a password before its host, which no browser sends")
	}
	if !strings.HasPrefix(path, "/") {
		path = "/" + path
	}
	x.request.Scheme, x.request.Host, x.request.Path = scheme, host, path
	return nil
}

// readFlags checks the flags, and parses the headers and the extensions.
func (x *explainer) readFlags() (err error) {
	switch {
	case x.request.Host == "" || x.request.Path == "":
		return errors.New("--host and --path are required, or a URL, or a line of the decision log")
	case x.session != "" && x.fields != "" && x.logged == nil:
		return errors.New("--session and --fields each name a session; only one of them can be set")
	case !slices.Contains(outputs, x.output):
		return fmt.Errorf("--output: %q is not one of %s", x.output, strings.Join(outputs, ", "))
	case len(x.envoy) == 0 && (x.listener != "" || x.filter != ""):
		return errors.New("--listener and --filter name parts of Envoy's configuration, which --envoy names")
	}
	if err := x.readHeaders(); err != nil {
		return err
	}
	if x.given == nil {
		x.given = make(map[string]string)
	}
	extensions, err := parseFields(x.extensions)
	if err != nil {
		return errors.New("--extension is name=value, each name once")
	}
	for name, value := range extensions {
		x.given[name] = value
	}
	if x.policy != "" {
		x.given["coatcheck.policy"] = x.policy
	}
	return nil
}

func (x *explainer) readHeaders() error {
	if x.request.Headers == nil {
		x.request.Headers = make(map[string]string)
	}
	for _, h := range x.headers {
		name, value, ok := strings.Cut(h, ":")
		switch name = strings.ToLower(strings.TrimSpace(name)); {
		case !ok || name == "":
			return errors.New("a header is 'name: value'")
		case name == "cookie" || name == "authorization":
			return fmt.Errorf("the %s header holds a session ID, which does not belong on the command line; use --session or --fields", name)
		}
		if _, twice := x.request.Headers[name]; twice {
			x.repeated = append(x.repeated, name)
		}
		x.request.Headers[name] = strings.TrimSpace(value)
	}
	return nil
}

// A logLine is a line of the decision log, as far as it describes a request.
type logLine struct {
	Time                                          time.Time
	Verdict, Reason, Route, Policy, Rule, Session string
	Method, Host, Path, Error, RequestID          string
	TraceID, SpanID                               string
}

// named reports whether the line's policy was named by the route: where rules and
// default lead to another.
func (l *logLine) named(e extauthz.Explanation) bool {
	return l != nil && l.Policy != "" && l.Rule == "" && l.Policy != e.Policy
}

// isLogLine reports whether an argument is meant to be a line of the log, and no URL: one
// may stand in a line, too, behind its verdict.
func isLogLine(argument string) bool {
	start, _, _ := strings.Cut(argument, "://")
	return strings.HasPrefix(strings.TrimSpace(argument), "{") || strings.Contains(start, "verdict=") || strings.Contains(start, `"verdict":`)
}

func readLog(stdin io.Reader, name string) (string, error) {
	if name != "-" {
		text, err := strictyaml.ReadFile(name, maxLog)
		if err != nil {
			return "", fmt.Errorf("%s: %w", name, err)
		}
		return string(text), nil
	}
	text, err := io.ReadAll(io.LimitReader(stdin, maxLog+1))
	if err == nil && len(text) > maxLog {
		err = fmt.Errorf("it is larger than %d MiB", maxLog>>20)
	}
	return string(text), err
}

// findLine finds the one line of a decision.
func findLine(text string) (*logLine, error) {
	var found []*logLine
	for line := range strings.Lines(text) {
		if l := parseLine(strings.TrimSpace(line)); l != nil {
			found = append(found, l)
		}
	}
	switch len(found) {
	case 0:
		return nil, errors.New(`no line of the decision log is there: it has "msg":"check" and a verdict`)
	case 1:
		return found[0], nil
	}
	return nil, fmt.Errorf("%d lines of the decision log are there; one is explained at a time, so choose it, such as by its request_id", len(found))
}

// parseLine reads a line as why does, in either form of log.format and with what log
// collectors put in front; nil for another line, also for one in which a client's text
// looks like one of ours.
func parseLine(line string) *logLine {
	parsed, err := story.Parse([]byte(line))
	if err != nil || parsed.Message != "check" {
		return nil
	}
	text := parsed.Get
	l := &logLine{
		Time: parsed.Time, Verdict: text("verdict"), Reason: text("reason"), Route: text("route"), Policy: text("policy"), Rule: text("rule"),
		Session: text("session"), Method: text("method"), Host: text("host"), Path: text("path"),
		Error: text("error"), RequestID: text("request_id"), TraceID: text("trace_id"), SpanID: text("span_id"),
	}
	if l.Verdict == "" || l.Host == "" || l.Path == "" {
		return nil
	}
	return l
}

// fromLog takes the request that the line describes. What the route asked for, the line
// has in words; a policy that the route named is found later, because the line does not
// say what named it.
func (x *explainer) fromLog() {
	l := x.logged
	x.request.Host, x.request.Path, x.request.Method = l.Host, l.Path, l.Method
	if x.session == "" && x.fields == "" {
		x.session = l.Session
		if l.Session != "" {
			x.session = "session:" + l.Session // it may begin with a dash
		}
	}
	x.request.Headers = make(map[string]string)
	if l.RequestID != "" {
		x.request.Headers["x-request-id"] = l.RequestID
	}
	if l.TraceID != "" {
		x.request.Headers["traceparent"] = "00-" + l.TraceID + "-" + l.SpanID + "-00"
	}
	if len(x.envoy) > 0 {
		return
	}
	x.given = make(map[string]string)
	session, roles, some := strings.Cut(l.Route, " roles=")
	if some {
		x.given["coatcheck.roles"] = roles
	}
	if session == "optional" || session == "none" && l.Policy == "" {
		x.given["coatcheck.session"] = session
	}
	if name, ok := l.unknownPolicy(); ok {
		x.given["coatcheck.policy"] = name
	}
}

// unknownPolicy is the name of the policy that there was not.
func (l *logLine) unknownPolicy() (name string, ok bool) {
	_, rest, ok := strings.Cut(l.Error, "there is no policy ")
	if !ok || l.Reason != string(extauthz.UnknownPolicy) {
		return "", false
	}
	quoted, err := strconv.QuotedPrefix(rest)
	if err != nil {
		return "", false
	}
	name, err = strconv.Unquote(quoted)
	return name, err == nil
}

// errBadRoute says of a line that the log does not hold what its route sends.
func (l *logLine) errBadRoute() error {
	return fmt.Errorf("the line is of a route that makes no sense (%s), and does not hold what the route sends; name Envoy's configuration with --envoy", l.Error)
}
