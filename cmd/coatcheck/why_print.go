package main

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"unicode"

	"github.com/coatcheck/coatcheck/cmd/internal/story"
	"github.com/coatcheck/coatcheck/extauthz"
	"github.com/coatcheck/coatcheck/sessions/redisstore"
)

// printStory prints a line for each event, and below a refusal its cause and the
// values of its line.
func printStory(w io.Writer, s *story.Story) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, e := range s.Events {
		fmt.Fprintf(table, "%s\t%s\t%s\n", when(e.Time), happened(e), printable(headline(e)+repeated(e)))
		for _, row := range details(e) {
			if row[1] != "" {
				fmt.Fprintf(table, "\t  %s\t%s\n", printable(row[0]), printable(row[1]))
			}
		}
	}
	for _, l := range s.LeftOut {
		fmt.Fprintf(table, "left out\t%s\t%d\n", printable(strings.TrimSpace(fmt.Sprint(l.Kind, " ", l.Verdict, " ", l.Reason))), l.Count)
	}
	return table.Flush()
}

// happened is what an event is, in a word or two.
func happened(e *story.Event) string {
	switch e.Kind {
	case story.SignedIn:
		return "signed in"
	case story.Ended:
		if e.Failed {
			return "not ended for certain"
		}
		return "ended"
	case story.Decided:
		switch {
		case e.Refused():
			return "refused"
		case e.Shadow:
			return "allowed in shadow mode"
		}
		return "allowed"
	}
	return "log line"
}

// headline is what is worth knowing first.
func headline(e *story.Event) string {
	switch e.Kind {
	case story.SignedIn:
		return fmt.Sprintf("user %s, session %s%s", e.UserID, e.Session, from(e))
	case story.Ended:
		return ending(e) + from(e)
	case story.Decided:
		text := e.Method + " " + e.Host + e.Path
		if e.Refused() {
			return fmt.Sprintf("%s: %d, %s", text, e.Status, e.Reason)
		}
		return text + ": " + string(e.Reason)
	}
	return e.Message
}

// ending says of an end how many sessions, whose, by whom and why.
func ending(e *story.Event) string {
	what := "session " + e.Session
	switch {
	case e.Why == "revoke_others":
		what = fmt.Sprintf("%s of user %s, all but %s", counted(e.Sessions), e.UserID, e.Session)
	case e.Session == "":
		what = fmt.Sprintf("%s of user %s", counted(e.Sessions), e.UserID)
	case e.UserID != "":
		what += " of user " + e.UserID
	}
	if e.By != "" {
		what += ", by " + e.By
	}
	if meaning, ok := whys[e.Why]; ok {
		return what + ": " + meaning + " (" + e.Why + ")"
	}
	return what + ": " + e.Why
}

func counted(sessions int) string {
	if sessions == 1 {
		return "1 session"
	}
	return fmt.Sprint(sessions, " sessions")
}

// whys says in a sentence why sessions end.
var whys = map[string]string{
	"logout":          "the user signed out",
	"everywhere":      "the user signed out everywhere",
	"others":          "the user signed out everywhere else",
	"chosen":          "the user signed it out on the list of sessions",
	"replaced":        "the same browser signed in again",
	"undone":          "it was new, and the login failed after all",
	"max_per_user":    "the user had more sessions than session.max_per_user",
	"account closed":  "the users file no longer has the account",
	"account changed": "the users file has another password, other roles or other attributes",
	"revoke":          "an operator ended it",
	"revoke_all":      "an operator ended all of the user",
	"revoke_others":   "an operator ended the user's others",
	"revoke_scan":     "an operator ended it; it was not listed",
}

// from is the address of the client, of lines that have one.
func from(e *story.Event) string {
	for _, v := range e.Values {
		if v.Name == "address" {
			return ", from " + v.Value
		}
	}
	return ""
}

// repeated says how often decisions were the same.
func repeated(e *story.Event) string {
	if e.Count < 2 {
		return ""
	}
	return fmt.Sprintf(" (%d times, last at %s)", e.Count, when(e.Last))
}

// details are the rows below an event: for a refusal, and for an allowed request that
// would have an identity otherwise, the cause and all values of the line. Below others
// stands what is not usual there.
func details(e *story.Event) (rows [][2]string) {
	row := func(name, value string) { rows = append(rows, [2]string{name, value}) }
	usual := []string{"duration", "lookup_duration", "span_id"}
	switch {
	case e.Kind != story.Decided:
		usual = []string{"address"} // stands in the headline
	case e.Cause == "" && !e.Refused():
		usual = append(usual, "route", "rule", "request_id", "trace_id")
	default:
		row("cause", cmp.Or(e.Cause, "this version does not know the reason"))
		row("because", because(e))
		row("cure", plainText(e.Cure))
		row("policy", e.Policy)
		row("session", e.Session)
	}
	for _, v := range e.Values {
		switch {
		case v.Name == "cause" && e.Kind == story.Decided:
			i := redisstore.Cause(v.Value).Info()
			row("redis", v.Value+": "+i.Text)
			row("look at", i.Cure)
		case !slices.Contains(usual, v.Name):
			row(v.Name, v.Value)
		}
	}
	return rows
}

// because says where a session went that a decision did not find.
func because(e *story.Event) string {
	switch {
	case e.Because != nil:
		return when(e.Because.Time) + " ended " + ending(e.Because) + from(e.Because)
	case e.Reason == extauthz.NotFound && e.Session != "":
		return "no line of the log ends this session: it was idle for too long, never issued, or its end is in another log"
	}
	return ""
}

var link = regexp.MustCompile(`\[([^\]]*)\]\(([^)]*)\)`)

// plainText is a sentence in Markdown without its links, for a terminal.
func plainText(markdown string) string {
	return link.ReplaceAllString(markdown, "$1 (docs/$2)")
}

// printable writes what a terminal would obey, or could be misled by, as in Go: control
// characters, and those that change the direction of text or are not seen. Text of the
// log comes from clients.
func printable(s string) string {
	s = strings.ToValidUTF8(s, "\uFFFD") // a byte such as 0x9B alone is one that some terminals obey
	if !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return s
	}
	var b bytes.Buffer
	for _, r := range s {
		if unicode.IsPrint(r) {
			b.WriteRune(r)
			continue
		}
		quoted := strconv.QuoteRune(r)
		b.WriteString(quoted[1 : len(quoted)-1])
	}
	return b.String()
}
