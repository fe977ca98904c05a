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

// pages are the templates with all that is the same on every answer.
type pages struct {
	templates   map[string]*template.Template
	text        map[string]string
	styleSource string // for the Content-Security-Policy
	frame       frame
}

// A frame is what every page knows.
type frame struct {
	Name, Lang, Base string
	Logo             template.URL  // empty: no logo
	Style            template.HTML // the style element
	Text             map[string]string
}

// A view is what one page knows besides; most fields are empty on most pages.
type view struct {
	frame
	page     string
	Status   int // zero: 200
	Title    string
	Alert    string // what went wrong
	Notice   string // what went well
	Username string // as typed
	Return   string // return address, checked
	User     string // the name of the user who is signed in
	Sessions []row
	More     int // sessions that are not among these
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
}

// newPages parses every template and tries it, so that no mistake waits for a
// user to find it.
func newPages(c Config) (*pages, error) {
	text, textErr := textsWith(c.Texts)
	logo, logoErr := logoURL(c.Logo)
	sheet, sheetErr := sheetOf(c.Templates)
	style, styleErr := page.NewStyle(sheet, c.Accent)
	if err := errors.Join(textErr, logoErr, sheetErr, styleErr); err != nil {
		return nil, err
	}
	p := &pages{
		templates: make(map[string]*template.Template), text: text, styleSource: style.Source,
		frame: frame{Name: c.Name, Lang: c.Lang, Base: c.BasePath, Logo: logo, Text: text, Style: style.Element},
	}
	files := overlay{c.Templates}
	var errs []error
	for _, name := range pageNames {
		errs = append(errs, p.parse(files, name))
	}
	return p, errors.Join(errs...)
}

// parse also executes the page, full and empty.
func (p *pages) parse(files fs.FS, name string) error {
	t, err := template.New("layout.html").Option("missingkey=error").Funcs(template.FuncMap{
		"fill": fill, "when": when,
	}).ParseFS(files, "layout.html", name+".html")
	if err != nil {
		return fmt.Errorf("template of the %s page: %w", name, err)
	}
	p.templates[name] = t
	for _, v := range []view{{}, {Alert: "a", Notice: "n", Username: "u", Return: "/", User: "u", Sessions: []row{{Current: true}, {}}, More: 1}} {
		v.page = name
		if _, err := p.render(v); err != nil {
			return fmt.Errorf("template of the %s page: %w", name, err)
		}
	}
	return nil
}

func (p *pages) render(v view) ([]byte, error) {
	v.frame = p.frame
	var b bytes.Buffer
	err := p.templates[v.page].Execute(&b, v)
	return b.Bytes(), err
}

// when is a time for people, in the zone that all of them can look up.
func when(t time.Time) string { return t.UTC().Format("2 Jan 2006, 15:04 UTC") }

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
