package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/coatcheck/coatcheck/extauthz"
	"github.com/coatcheck/coatcheck/sessions"
)

// A report is what explain prints.
type report struct {
	*extauthz.Explanation // nil where Envoy does not ask

	route      *routed           // nil without --envoy
	extensions map[string]string // those of the command line, without --envoy
	logged     *logLine
	session    *sessions.Session
}

func (e *report) print(w io.Writer, output string) error {
	if output == "json" {
		return e.printJSON(w)
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name, value string) {
		if value != "" {
			fmt.Fprintf(table, "%s\t%s\n", name, visible(value))
		}
	}
	if e.Explanation == nil {
		row("verdict", "none: Envoy does not ask Coatcheck here")
		row("because", e.route.WhyNot)
		e.printRoute(row)
		return table.Flush()
	}
	e.printVerdict(row)
	e.printRoute(row)
	e.printRules(row)
	e.printAnswer(row)
	return table.Flush()
}

// printVerdict prints the most important lines.
func (e *report) printVerdict(row func(name, value string)) {
	row("verdict", verdict(e.Explanation))
	row("reason", string(e.Reason))
	row("error", e.Error)
	for _, need := range e.Needs {
		row("because", fmt.Sprintf("the %s %s%s", need.By, need.Text, met(need.Met)))
	}
	for _, part := range e.Parts {
		row("because", strings.Repeat("  ", part.Depth)+compared(part))
	}
	row("request", e.Method+" "+e.Host+e.Path)
	row("logged", e.log())
	row("session", e.user())
	row("policy", e.Policy+by(e.PolicyBy))
	row("condition", e.Condition)
}

func met(is bool) string {
	if is {
		return ""
	}
	return ": not met"
}

// compared is a part of a condition with its result and its values.
func compared(part extauthz.ConditionPart) string {
	text := part.Text + " is " + part.Result
	for i, v := range part.Values {
		text += map[bool]string{true: ": ", false: ", "}[i == 0] + v.Name + " = " + v.Value
	}
	return text
}

// user names the session and its user.
func (e *report) user() string {
	if e.session == nil {
		return ""
	}
	text := "of user " + e.session.UserID
	if e.session.Username != "" {
		text += " (" + e.session.Username + ")"
	}
	if e.session.Key != "" { // also where the request was refused before a lookup
		text = e.session.Key.Handle() + " " + text
	}
	return text
}

// log is what the log says of the request, and whether it is decided otherwise now.
func (e *report) log() string {
	l := e.logged
	if l == nil {
		return ""
	}
	text := l.Verdict + ", " + l.Reason
	if !l.Time.IsZero() {
		text += ", at " + l.Time.UTC().Format(time.RFC3339)
	}
	if l.Verdict != e.Verdict || l.Reason != string(e.Reason) {
		text += "; it is decided otherwise now: policies, routes or the session have changed since, or the log lacks what counted, such as the query and headers"
	}
	return text
}

// noRoute is said where --envoy is not given, and neither is what a route sends.
const noRoute = "none was given: as for a route without context_extensions"

// printRoute prints where the request goes in Envoy, and what the route asks for.
func (e *report) printRoute(row func(name, value string)) {
	if e.route == nil {
		switch {
		case len(e.extensions) > 0 && e.Policy == "":
			row("route", e.Route)
		case len(e.extensions) > 0:
		case e.Policy == "" && e.Route != "":
			row("route", e.Route+"; "+noRoute)
		default:
			row("route", noRoute)
		}
		if e.Explanation != nil {
			row("host", e.CanonicalHost)
			row("path", e.CanonicalPath)
		}
		return
	}
	w := e.route.Way
	where := "listener " + w.Listener
	if w.VirtualHost != "" {
		where += ", virtual host " + w.VirtualHost
	}
	if w.Route != "" {
		where += ", " + w.Route
	}
	row("envoy", where)
	if w.Asks {
		row("sends", "context_extensions "+pairs(w.Extensions))
		row("host", w.Host)
		row("path", w.Path)
	}
	for _, note := range w.Notes {
		row("note", note)
	}
}

func (e *report) printRules(row func(name, value string)) {
	for _, r := range e.Passed {
		row("passed over", fmt.Sprintf("rule %d: %s (the %s does not match)", r.Number, r.Rule, r.Why))
	}
	if e.Rule != nil {
		row("decided by", fmt.Sprintf("rule %d: %s", e.Rule.Number, e.Rule.Rule))
	}
}

func (e *report) printAnswer(row func(name, value string)) {
	for _, h := range e.Set {
		row("set", h.Name+": "+h.Value)
	}
	for _, name := range e.Removed {
		row("removed", name)
	}
	row("body", e.body())
}

// body is a text as it is. Of a page is said that it is one: on one line no person reads
// it.
func (e *report) body() string {
	if strings.HasPrefix(e.Body, "<") {
		return fmt.Sprintf("a page of %d bytes; -o json has it", len(e.Body))
	}
	return strings.TrimSpace(e.Body)
}

// An envoyView is the way through Envoy as JSON.
type envoyView struct {
	Asks        bool              `json:"asks"`
	WhyNot      string            `json:"why_not,omitempty"`
	Listener    string            `json:"listener,omitempty"`
	Filter      string            `json:"filter,omitempty"`
	Routes      string            `json:"route_config,omitempty"`
	VirtualHost string            `json:"virtual_host,omitempty"`
	Route       string            `json:"route,omitempty"`
	Host        string            `json:"host"`
	Path        string            `json:"path"`
	Service     string            `json:"service,omitempty"`
	Extensions  map[string]string `json:"context_extensions,omitempty"`
	Notes       []string          `json:"notes,omitempty"`
}

// printJSON prints the explanation, whose fields are those of the log, and beside it
// what is known of Envoy. Where Envoy does not ask there is no verdict to print.
func (e *report) printJSON(w io.Writer) error {
	var object json.RawMessage = []byte(`{"verdict":"none"}`)
	if e.Explanation != nil {
		text, err := json.Marshal(e.Explanation)
		if err != nil {
			return err
		}
		object = text
	}
	if e.route == nil {
		return encode(w, object)
	}
	r := e.route.Way
	envoy, err := json.Marshal(envoyView{
		r.Asks, r.WhyNot, r.Listener, r.Filter, r.Routes, r.VirtualHost, r.Route, r.Host, r.Path, r.Service, r.Extensions, r.Notes,
	})
	if err != nil {
		return err
	}
	object = fmt.Appendf(bytes.TrimSuffix(object, []byte("}")), `,"envoy":%s}`, envoy)
	return encode(w, object)
}

func verdict(e *extauthz.Explanation) string {
	switch {
	case e.Shadow:
		return "allow, in shadow mode; it would be denied"
	case e.Allow:
		return "allow"
	}
	return fmt.Sprintf("deny, with status %d", e.Status)
}

// by says how the policy was chosen.
func by(what string) string {
	switch what {
	case "route":
		return ", which the route names"
	case "rule":
		return ", which a rule names"
	case "default":
		return ", the default"
	}
	return ""
}
