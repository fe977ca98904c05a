package extauthz

import (
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/coatcheck/coatcheck/extauthz/internal/redact"
)

// A refusal is a [Refusal] made ready: where a person signs in, and the texts of a
// body.
type refusal struct {
	login                      *url.URL // nil: no redirect
	unauthenticated, forbidden string   // "": the denial's own
	page                       *template.Template
	textOnly                   bool // as without policies
}

// maxSentence bounds the texts of a refusal, and maxPage its page, in bytes.
const (
	maxSentence = 1 << 10
	maxPage     = 32 << 10
)

// override returns f with the parts that r sets.
func (f *refusal) override(r Refusal) (*refusal, error) {
	out := *f
	out.textOnly = false
	var errs []error
	for _, text := range []struct {
		from string
		to   *string
	}{{r.Unauthenticated, &out.unauthenticated}, {r.Forbidden, &out.forbidden}} {
		if len(text.from) > maxSentence || !utf8.ValidString(text.from) {
			errs = append(errs, fmt.Errorf("text %.40q must be UTF-8 of at most %d bytes", text.from, maxSentence))
		}
		if text.from != "" {
			*text.to = text.from
		}
	}
	if r.LoginURL != "" {
		login, err := parseLogin(r.LoginURL)
		errs = append(errs, err)
		out.login = login
	}
	if r.HTML != "" {
		page, err := parsePage(r.HTML)
		errs = append(errs, err)
		out.page = page
	}
	return &out, errors.Join(errs...)
}

// A pageData is what a page's template can use.
type pageData struct {
	Status           int
	Title, Detail    string
	Login, RequestID string
}

// parsePage reads a page's template and tries it.
func parsePage(text string) (*template.Template, error) {
	if len(text) > maxPage || !utf8.ValidString(text) {
		return nil, fmt.Errorf("page: it must be UTF-8 of at most %d bytes", maxPage)
	}
	page, err := template.New("page").Parse(text)
	if err == nil {
		err = page.Execute(new(strings.Builder), pageData{Status: 401, Title: "a", Detail: "b", Login: "/c", RequestID: "d"})
	}
	if err != nil {
		return nil, fmt.Errorf("page: %w", err)
	}
	return page, nil
}

var defaultPage = template.Must(template.New("page").Parse(`<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{.Title}}</title>
<h1>{{.Title}}</h1>
<p>{{.Detail}}</p>
{{with .Login}}<p><a href="{{.}}">Sign in</a></p>
{{end}}{{with .RequestID}}<p><small>Request {{.}}</small></p>
{{end}}</html>
`))

// location is where a person is sent to sign in, "" if the answer is not a
// redirect.
func (f *refusal) location(r *request, c class) string {
	if c != anonymous || f.login == nil || !r.navigation() {
		return ""
	}
	return loginLocation(f.login, r.path)
}

// detail is the one sentence for people.
func (f *refusal) detail(c class) string {
	return strings.TrimSuffix(f.text(c), "\n")
}

// text is that sentence as a plain body.
func (f *refusal) text(c class) string {
	switch {
	case c == anonymous && f.unauthenticated != "":
		return f.unauthenticated + "\n"
	case c == forbidden && f.forbidden != "":
		return f.forbidden + "\n"
	}
	return denials[c].text
}

// body is what the client prefers: a page, a problem, or plain text. A gRPC client
// gets an empty body.
func (f *refusal) body(r *request, c class) (contentType, body string) {
	kind := textBody
	if !f.textOnly {
		kind = preferred(r.accept)
	}
	switch {
	case r.grpc():
		return "", ""
	case kind == htmlBody:
		return "text/html; charset=utf-8", f.html(r, c)
	case kind == jsonBody:
		return "application/problem+json", f.problem(r, c)
	}
	return "text/plain; charset=utf-8", f.text(c)
}

// html fills the page. Where its template fails for this request, the default page
// stands in.
func (f *refusal) html(r *request, c class) string {
	data := pageData{Status: denials[c].status, Title: http.StatusText(denials[c].status), Detail: f.detail(c), RequestID: redact.ClientText(r.id)}
	if c == anonymous && f.login != nil {
		data.Login = f.login.String()
	}
	var b strings.Builder
	if f.page != nil && f.page.Execute(&b, data) == nil {
		return b.String()
	}
	b.Reset()
	_ = defaultPage.Execute(&b, data) // cannot fail: it only writes strings
	return b.String()
}

// problem is the body of RFC 9457. Its type is about:blank, which is left out
// because the status says enough.
func (f *refusal) problem(r *request, c class) string {
	text, err := json.Marshal(struct {
		Title     string `json:"title"`
		Status    int    `json:"status"`
		Detail    string `json:"detail"`
		RequestID string `json:"request_id,omitempty"`
	}{http.StatusText(denials[c].status), denials[c].status, f.detail(c), redact.ClientText(r.id)})
	if err != nil {
		return "{}" // cannot happen: strings always marshal
	}
	return string(text) + "\n"
}

type bodyKind int

const (
	textBody bodyKind = iota
	htmlBody
	jsonBody
)

// preferred picks a body by an Accept header (RFC 9110, section 12.5.1): of the
// types named the one of the highest weight, the first of equal ones. Wildcards do
// not count.
func preferred(accept string) bodyKind {
	best, weight := textBody, 0.0
	for media := range strings.SplitSeq(accept, ",") {
		kind, parameters, _ := strings.Cut(media, ";")
		if q := quality(parameters); q > weight {
			if k, ok := kindOf(strings.ToLower(strings.TrimSpace(kind))); ok {
				best, weight = k, q
			}
		}
	}
	return best
}

func kindOf(media string) (bodyKind, bool) {
	switch media {
	case "text/html", "application/xhtml+xml":
		return htmlBody, true
	case "application/json", "application/problem+json":
		return jsonBody, true
	case "text/plain":
		return textBody, true
	}
	return jsonBody, strings.HasPrefix(media, "application/") && strings.HasSuffix(media, "+json")
}

// quality is the weight among a media type's parameters: 1 where it is missing, 0
// where it is not valid.
func quality(parameters string) float64 {
	for p := range strings.SplitSeq(parameters, ";") {
		name, value, _ := strings.Cut(strings.TrimSpace(p), "=")
		if strings.EqualFold(name, "q") {
			q, err := strconv.ParseFloat(value, 64)
			if err != nil || q < 0 || q > 1 {
				return 0
			}
			return q
		}
	}
	return 1
}
