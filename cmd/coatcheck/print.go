package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/coatcheck/coatcheck/sessions"
)

// A sessionView is a session as the session commands print it.
type sessionView struct {
	Handle      string            `json:"handle,omitempty"`
	Key         sessions.Key      `json:"key,omitempty"`
	UserID      string            `json:"user_id,omitempty"`
	Username    string            `json:"username,omitempty"`
	Roles       []string          `json:"roles,omitempty"`
	CreatedAt   time.Time         `json:"created_at,omitzero"`
	ExpiresAt   time.Time         `json:"expires_at,omitzero"`
	IdleExpires time.Time         `json:"idle_expires_at,omitzero"`
	Address     string            `json:"address,omitempty"`
	UserAgent   string            `json:"user_agent,omitempty"`
	Fields      map[string]string `json:"fields,omitempty"`
}

func view(s *sessions.Session) sessionView {
	return sessionView{
		s.Key.Handle(), s.Key, s.UserID, s.Username, s.Roles,
		s.CreatedAt, s.ExpiresAt, s.IdleExpiresAt.Truncate(time.Second), s.Address, s.UserAgent, s.Fields,
	}
}

// print prints a session, after further names and values.
func (t *sessionTool) print(w io.Writer, v sessionView, more ...string) error {
	if t.output == "json" {
		text, err := json.Marshal(v)
		if err != nil {
			return err
		}
		object := make(map[string]any)
		if err := json.Unmarshal(text, &object); err != nil {
			return err
		}
		for i := 0; i < len(more); i += 2 {
			object[more[i]] = more[i+1]
		}
		return encode(w, object)
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name, value string) {
		if value != "" {
			fmt.Fprintf(table, "%s\t%s\n", name, visible(value))
		}
	}
	for i := 0; i < len(more); i += 2 {
		row(more[i], more[i+1])
	}
	row("handle", v.Handle)
	row("key", string(v.Key))
	row("user_id", v.UserID)
	row("username", v.Username)
	row("roles", strings.Join(v.Roles, ", "))
	row("created_at", when(v.CreatedAt))
	row("expires_at", when(v.ExpiresAt))
	row("idle_expires_at", when(v.IdleExpires))
	row("address", v.Address)
	row("user_agent", v.UserAgent)
	for _, name := range slices.Sorted(maps.Keys(v.Fields)) {
		fmt.Fprintf(table, "field %s\t%s\n", visible(name), visible(v.Fields[name])) // also an empty one
	}
	return table.Flush()
}

func (t *sessionTool) printList(w io.Writer, list []*sessions.Session) error {
	views := make([]sessionView, len(list))
	for i, s := range list {
		views[i] = view(s)
	}
	if t.output == "json" {
		return encode(w, views)
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "HANDLE\tUSERNAME\tROLES\tCREATED\tIDLE EXPIRY\tABSOLUTE EXPIRY\tADDRESS\tBROWSER")
	for _, v := range views {
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", v.Handle, visible(v.Username), visible(strings.Join(v.Roles, ", ")),
			when(v.CreatedAt), when(v.IdleExpires), when(v.ExpiresAt), visible(v.Address), visible(v.UserAgent))
	}
	return table.Flush()
}

// escapable are the characters that JSON need not escape and that a terminal obeys, or
// that change the direction of text.
var escapable = regexp.MustCompile(`[\x{7f}-\x{9f}\p{Cf}]`)

func encode(w io.Writer, v any) error {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%s\n", escaped(text))
	return err
}

// compact is the JSON of a value on one line.
func compact(v any) ([]byte, error) {
	text, err := json.Marshal(v)
	return escaped(text), err
}

func escaped(text []byte) []byte {
	return escapable.ReplaceAllFunc(text, func(b []byte) []byte {
		r, _ := utf8.DecodeRune(b)
		var escaped []byte
		for _, unit := range utf16.AppendRune(nil, r) {
			escaped = fmt.Appendf(escaped, `\u%04x`, unit)
		}
		return escaped
	})
}

func when(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

// visible keeps text of users from controlling the terminal, and from changing the
// direction of what stands around it.
func visible(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsGraphic(r) {
			return '�'
		}
		return r
	}, s)
}

// An escapingWriter keeps lines of JSON from controlling the terminal: their values may
// be of records that another program wrote. Each Write is of whole lines.
type escapingWriter struct{ io.Writer }

// Write implements [io.Writer].
func (w escapingWriter) Write(b []byte) (int, error) {
	if _, err := w.Writer.Write(escaped(b)); err != nil {
		return 0, err
	}
	return len(b), nil
}
