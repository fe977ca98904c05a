package extauthz

import (
	"cmp"
	"fmt"
	"html"
	"html/template"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/coatcheck/coatcheck/internal/page"
	"github.com/coatcheck/coatcheck/sessions"
)

// A PageConfig says how the page looks that a person sees who is refused. The zero
// PageConfig is ready.
type PageConfig struct {
	// Name stands above the page. Empty: Coatcheck.
	Name string
	// Accent is the colour of its button, as #rrggbb. Empty: a dark green.
	Accent string
	// Lang is the language of browsers that ask for none of Languages, as a tag such as
	// de or pt-BR. Empty, or a language in which there are no texts: en.
	Lang string
	// Languages are those of the page beside Lang, out of en, de, pt, es and fr: a
	// browser gets the one that it prefers by Accept-Language. Empty: all five, or, where
	// Lang is another language, en alone.
	Languages []string
}

// pages are the pages of all refusals that have none of their own, but for what differs
// from one request to the next. They look as login's do. A page runs no script, loads
// nothing and is in no frame (ASVS 5.0, 3.4.3 and 3.4.6), and its links lead to this
// host and to the login URL alone.
type pages struct {
	languages []string
	policy    string                          // Content-Security-Policy
	begin     func() map[string]*textsOfClass // by language: the page up to its sentence
}

type textsOfClass [len(denials)]string

func newPages(c PageConfig) (*pages, error) {
	style, err := page.NewStyle(page.Sheet, cmp.Or(c.Accent, page.DefaultAccent))
	if err != nil {
		return nil, err
	}
	name := strings.ToValidUTF8(cmp.Or(c.Name, "Coatcheck"), "\uFFFD")
	if len(name) > maxSentence {
		return nil, fmt.Errorf("name: %d bytes are more than %d", len(name), maxSentence)
	}
	languages, err := c.languages()
	if err != nil {
		return nil, err
	}
	return &pages{
		languages: languages,
		policy:    "default-src 'none'; style-src " + style.Source + "; img-src data:; form-action 'none'; base-uri 'none'; frame-ancestors 'none'",
		begin:     sync.OnceValue(func() map[string]*textsOfClass { return beginnings(name, style) }),
	}, nil
}

// languages are the languages of the texts, the one for all other browsers in front.
func (c PageConfig) languages() ([]string, error) {
	first, _, _ := strings.Cut(strings.ToLower(cmp.Or(c.Lang, page.Languages[0])), "-")
	offered := c.Languages
	if !slices.Contains(page.Languages, first) {
		first = page.Languages[0]
	} else if len(offered) == 0 {
		offered = page.Languages
	}
	list := []string{first}
	for _, lang := range offered {
		if !slices.Contains(page.Languages, lang) {
			return nil, fmt.Errorf("language %q: it is not one of %s", lang, strings.Join(page.Languages, ", "))
		}
		if !slices.Contains(list, lang) {
			list = append(list, lang)
		}
	}
	return list, nil
}

var beginning = template.Must(template.New("page").Parse(`<!doctype html>
<html lang="{{.Lang}}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="robots" content="noindex">
<title>{{.Title}} · {{.Name}}</title>
<link rel="icon" href="data:,">
{{.Style}}
</head>
<body>
<main>
<header>
<p class="name">{{.Name}}</p>
</header>
<h1>{{.Title}}</h1>
<p>`))

func beginnings(name string, style page.Style) map[string]*textsOfClass {
	all := make(map[string]*textsOfClass, len(page.Languages))
	for _, lang := range page.Languages {
		all[lang] = new(textsOfClass)
		for c := anonymous; int(c) < len(denials); c++ {
			var b strings.Builder
			_ = beginning.Execute(&b, struct { // cannot fail: it only writes strings
				Lang, Name, Title string
				Style             template.HTML
			}{lang, name, pageTexts[lang].refusals[c].title, style.Element})
			all[lang][c] = b.String()
		}
	}
	return all
}

// A link leads on from a page.
type link struct{ text, to string }

// fill makes the page of a refusal: what was made once, and the few words that are this
// request's, escaped. Without a sentence it has the language's own.
func (p *pages) fill(lang string, c class, sentence string, links []link, requestID string) string {
	t := pageTexts[lang]
	start := p.begin()[lang][c]
	sentence = cmp.Or(sentence, t.refusals[c].sentence)
	var b strings.Builder
	b.Grow(len(start) + len(sentence) + len(requestID) + 1<<10)
	write(&b, start, html.EscapeString(sentence), "</p>\n")
	writeLinks(&b, links)
	if requestID != "" {
		write(&b, `<p class="number">`, t.number, ` <code>`, html.EscapeString(requestID), "</code></p>\n")
	}
	write(&b, endings[c])
	return b.String()
}

// writeLinks makes the first link the page's button, and puts the others below it.
func writeLinks(b *strings.Builder, links []link) {
	for i, l := range links {
		open := ` <a href="`
		switch i {
		case 0:
			open = `<p><a class="button" href="`
		case 1:
			open = `<p class="foot"><a href="`
		}
		write(b, open, html.EscapeString(l.to), `">`, html.EscapeString(l.text), "</a>")
		if i == 0 || i == len(links)-1 {
			write(b, "</p>\n")
		}
	}
}

func write(b *strings.Builder, parts ...string) {
	for _, part := range parts {
		b.WriteString(part)
	}
}

// endings have the status in the words of RFC 9110, which administrators know.
var endings = func() (all textsOfClass) {
	for c, d := range denials {
		all[c] = fmt.Sprintf("<p class=\"status\" lang=\"en\">%d %s</p>\n</main>\n</body>\n</html>\n", d.status, http.StatusText(d.status))
	}
	return all
}()

// links are those that may help a person who is refused. Each leads to a place that the
// operator chose, or to the same host: a Referer could lead back to the page before, but
// Envoy would have to send it with every check, and browsers have a button for that.
func (f *refusal) links(r *request, c class, signedIn bool, t *pageText) []link {
	var list []link
	add := func(text, to string) { list = append(list, link{text, to}) }
	shows := r.method == http.MethodGet || r.method == http.MethodHead // else a link cannot send it again
	if c == unavailable && shows {
		add(t.again, "")
	}
	if c == anonymous && f.login != nil {
		add(t.signIn, f.loginFor(r, shows))
	}
	if r.path != "/" && !strings.HasPrefix(r.path, "/?") {
		add(t.back, "/")
	}
	if c == forbidden && signedIn && f.login != nil {
		add(t.another, f.loginFor(r, shows))
	}
	return list
}

// loginFor is the login URL with the way back to what r asks for, or to "/" where a
// redirect could not ask for it.
func (f *refusal) loginFor(r *request, shows bool) string {
	path := "/"
	if shows {
		path = r.path
	}
	return sessions.LoginLocation(f.login, path)
}
