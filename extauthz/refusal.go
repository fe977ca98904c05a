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
	"github.com/coatcheck/coatcheck/sessions"
)

// A refusal is a [Refusal] made ready: where a person signs in, and the texts of a
// body.
type refusal struct {
	login                      *url.URL           // nil: no redirect
	unauthenticated, forbidden string             // "": the denial's own
	page                       *template.Template // nil: one of pages
	pages                      *pages
	peopleOnly                 bool // only people get more than a text, as without policies
}

// maxSentence bounds the texts of a refusal, and maxPage its page, in bytes.
const (
	maxSentence = 1 << 10
	maxPage     = 32 << 10
)

// override returns f with the parts that r sets.
func (f *refusal) override(r Refusal) (*refusal, error) {
	out := *f
	out.peopleOnly = false
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
		login, err := sessions.ParseLoginURL(r.LoginURL)
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

// location is where a person is sent to sign in, "" if the answer is not a
// redirect.
func (f *refusal) location(r *request, c class) string {
	if c != anonymous || f.login == nil || !r.navigation() {
		return ""
	}
	return sessions.LoginLocation(f.login, r.path)
}

// sentence is the policy's own for people, "" where it has none.
func (f *refusal) sentence(c class) string {
	switch c {
	case anonymous:
		return f.unauthenticated
	case forbidden:
		return f.forbidden
	}
	return ""
}

// detail is the one sentence for programs, and for pages of an operator's.
func (f *refusal) detail(c class) string { return strings.TrimSuffix(f.text(c), "\n") }

// text is that sentence as a plain body.
func (f *refusal) text(c class) string {
	if own := f.sentence(c); own != "" {
		return own + "\n"
	}
	return denials[c].text
}

// body is what the client prefers: a page, a problem, or plain text. A person gets a
// page, and a gRPC client an empty body. It adds the headers that go with it to set.
func (f *refusal) body(r *request, c class, signedIn bool, set []header) (string, []header) {
	kind := textBody
	if !f.peopleOnly {
		kind = preferred(r.accept)
	}
	switch {
	case r.grpc():
		return "", set
	case kind == htmlBody, kind == textBody && r.person():
		return f.html(r, c, signedIn, set)
	case kind == jsonBody:
		return f.problem(r, c), append(set, header{Name: "content-type", Value: "application/problem+json"})
	}
	return f.text(c), append(set, header{Name: "content-type", Value: "text/plain; charset=utf-8"})
}

// varies are the headers of the request on which the answer depends. It is not to be
// stored, and says so for caches that store it nevertheless.
const varies = "accept, accept-language, cookie, sec-fetch-dest, sec-fetch-mode"

// html is the policy's page, or where it has none, or its template fails for this
// request, ours.
func (f *refusal) html(r *request, c class, signedIn bool, set []header) (string, []header) {
	set = append(set, header{Name: "content-type", Value: "text/html; charset=utf-8"}, header{Name: "x-content-type-options", Value: "nosniff"}, header{Name: "vary", Value: varies})
	id := redact.ClientText(r.id)
	if f.page != nil {
		data := pageData{Status: denials[c].status, Title: http.StatusText(denials[c].status), Detail: f.detail(c), RequestID: id}
		if c == anonymous && f.login != nil {
			data.Login = f.login.String()
		}
		var b strings.Builder
		if f.page.Execute(&b, data) == nil {
			return b.String(), append(set, header{Name: "content-security-policy", Value: pagePolicy})
		}
	}
	lang := r.languages.prefer(f.pages.languages)
	text := f.pages.fill(lang, c, f.sentence(c), f.links(r, c, signedIn, pageTexts[lang]), id)
	return text, append(set, header{Name: "content-language", Value: lang}, header{Name: "content-security-policy", Value: f.pages.policy})
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
