package login

import (
	"bytes"
	"embed"
	"encoding/base64"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"time"

	"github.com/coatcheck/coatcheck/internal/page"
)

//go:embed templates
var embedded embed.FS

// pageNames are the templates that are pages; each is put into layout.html.
var pageNames = []string{"login", "account", "logout", "sessions", "error"}

const maxLogo = 64 << 10

// pages are the templates in one language, with all that is the same on every answer.
type pages struct {
	templates   map[string]*template.Template
	text        map[string]string
	styleSource string // for the Content-Security-Policy
	frame       frame
}

// A frame is what every page knows.
type frame struct {
	Name, Lang, Base string
	Dir              string        // rtl, or empty
	Logo             template.URL  // empty: no logo
	Style            template.HTML // the style element
	Text             map[string]string
	Help             string // address; empty: no link
	ChangePassword   string // address; empty: no link
}

// A view is what one page knows besides; most fields are empty on most pages.
type view struct {
	frame
	page   string
	state  string // name of the text State
	notice string // name of the text Notice
	// unreplicated adds to Notice that a failover of the store could undo it.
	unreplicated bool
	Status       int // zero: 200
	Title        string
	State        string // what has happened, in short; the title of the window begins with it
	Alert        string // what went wrong
	Notice       string // what went well
	Invalid      bool   // the username or the password is wrong
	Username     string // as typed
	Return       string // return address, checked
	Place        string // where Return leads, for people; may be empty
	User         string // the name of the user who is signed in
	Roles        string // of the user, with commas between them
	Until        string // when the session ends
	Sessions     []row
	More         int // sessions that are not among these
}

// A row is one of the user's sessions.
type row struct {
	Handle    string    `json:"handle"`
	Current   bool      `json:"current"` // the one that asks
	Browser   string    `json:"browser"` // in short
	Address   string    `json:"address"`
	CreatedAt time.Time `json:"created_at"`
	LastUsed  time.Time `json:"last_used"` // at most one idle step too late
	Ago       string    `json:"-"`         // LastUsed, for people
	Number    int       `json:"-"`         // tells browsers of one name apart; zero: the first of its name
}

// newPages makes the pages in every language of c, by its tag; languages are the tags,
// of which the first is for browsers that ask for none of them.
func newPages(c Config) (all map[string]*pages, languages []string, err error) {
	list, languagesErr := languagesOf(c)
	logo, logoErr := logoURL(c.Logo)
	sheet, sheetErr := sheetOf(c.Templates)
	style, styleErr := page.NewStyle(sheet, c.Accent)
	if err := errors.Join(languagesErr, logoErr, sheetErr, styleErr); err != nil {
		return nil, nil, err
	}
	all = make(map[string]*pages, len(list))
	for _, l := range list {
		p := &pages{text: l.text, styleSource: style.Source, frame: frame{
			Name: c.Name, Lang: l.tag, Dir: direction(l.tag), Base: c.BasePath, Logo: logo, Text: l.text, Style: style.Element,
			Help: c.HelpURL, ChangePassword: c.PasswordURL,
		}}
		if err := p.parseAll(overlay{c.Templates}); err != nil {
			return nil, nil, err // which the other languages would only repeat
		}
		all[l.tag], languages = p, append(languages, l.tag)
	}
	return all, languages, nil
}

// parseAll parses every template and tries it, so that no mistake waits for a user to
// find it.
func (p *pages) parseAll(files fs.FS) error {
	if err := validateMonths(p.text); err != nil {
		return err
	}
	p.templates = make(map[string]*template.Template)
	var errs []error
	for _, name := range pageNames {
		errs = append(errs, p.parse(files, name))
	}
	return errors.Join(errs...)
}

// parse also executes the page, full and empty.
func (p *pages) parse(files fs.FS, name string) error {
	t, err := template.New("layout.html").Option("missingkey=error").Funcs(template.FuncMap{
		"fill": fill, "when": p.when, "count": p.count,
	}).ParseFS(files, "layout.html", name+".html")
	if err != nil {
		return fmt.Errorf("template of the %s page: %w", name, err)
	}
	p.templates[name] = t
	for _, v := range []view{{}, {state: "state_signed_out", notice: "signed_out", Alert: "a", Username: "u", Return: "/", Place: "/p", Invalid: true,
		User: "u", Roles: "r", Until: "u", Sessions: []row{{Current: true}, {Number: 2}}, More: 1}} {
		v.page = name
		if _, err := p.render(v); err != nil {
			return fmt.Errorf("template of the %s page: %w", name, err)
		}
	}
	return nil
}

// render writes a page, whose title, state and notice are texts.
func (p *pages) render(v view) ([]byte, error) {
	v.frame = p.frame
	v.Title = fill(p.text["title_"+v.page], "user", v.User)
	v.State, v.Notice = p.text[v.state], p.text[v.notice]
	if v.unreplicated {
		v.Notice += " " + p.text["unconfirmed"]
	}
	var b bytes.Buffer
	err := p.templates[v.page].Execute(&b, v)
	return b.Bytes(), err
}

// An overlay is the package's templates with the operator's files over them.
type overlay struct{ own fs.FS }

// Open implements [fs.FS].
func (o overlay) Open(name string) (fs.File, error) {
	if o.own != nil {
		if file, err := o.own.Open(name); !errors.Is(err, fs.ErrNotExist) {
			return file, err
		}
	}
	return embedded.Open("templates/" + name)
}

// sheetOf is the operator's stylesheet, or the common one.
func sheetOf(own fs.FS) (string, error) {
	if own == nil {
		return page.Sheet, nil
	}
	sheet, err := fs.ReadFile(own, "style.css")
	if errors.Is(err, fs.ErrNotExist) {
		return page.Sheet, nil
	}
	if err != nil {
		return "", fmt.Errorf("stylesheet: %w", err)
	}
	return string(sheet), nil
}

// logoURL makes an image part of the page.
func logoURL(image []byte) (template.URL, error) {
	if len(image) == 0 {
		return "", nil
	}
	kind := http.DetectContentType(image)
	if bytes.Contains(image[:min(len(image), 1024)], []byte("<svg")) {
		kind = "image/svg+xml" // scripts in it do not run inside an img
	}
	switch kind {
	case "image/svg+xml", "image/png", "image/jpeg", "image/webp":
	default:
		return "", errors.New("logo: it is not an SVG, PNG, JPEG or WebP")
	}
	if len(image) > maxLogo {
		return "", fmt.Errorf("logo: %d bytes are more than %d", len(image), maxLogo)
	}
	return template.URL("data:" + kind + ";base64," + base64.StdEncoding.EncodeToString(image)), nil //nolint:gosec // base64
}
