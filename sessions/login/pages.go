package login

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"math"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"
)

//go:embed templates
var embedded embed.FS

// pageNames are the templates that are pages; each is put into layout.html.
var pageNames = []string{"login", "account", "logout", "sessions", "error"}

const maxLogo = 64 << 10

// pages are the templates with all that is the same on every answer.
type pages struct {
	templates map[string]*template.Template
	text      map[string]string
	styleHash string
	frame     frame
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
	files := overlay{c.Templates}
	style, styleErr := styleOf(files, c.Accent)
	if err := errors.Join(textErr, logoErr, styleErr); err != nil {
		return nil, err
	}
	sum := sha256.Sum256([]byte(style))
	p := &pages{
		templates: make(map[string]*template.Template), text: text,
		styleHash: "sha256-" + base64.StdEncoding.EncodeToString(sum[:]),
		frame: frame{
			Name: c.Name, Lang: c.Lang, Base: c.BasePath, Logo: logo, Text: text,
			Style: template.HTML("<style>" + style + "</style>"), //nolint:gosec // from the operator; styleOf refuses an end tag
		},
	}
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

var colour = regexp.MustCompile(`^#[0-9a-fA-F]{6}$`)

// styleOf is the stylesheet with the accent before it.
func styleOf(files fs.FS, accent string) (string, error) {
	if !colour.MatchString(accent) {
		return "", fmt.Errorf("accent %q: it is a colour such as #1f5c4d", accent)
	}
	sheet, err := fs.ReadFile(files, "style.css")
	if err != nil {
		return "", fmt.Errorf("stylesheet: %w", err)
	}
	if strings.Contains(strings.ToLower(string(sheet)), "</style") {
		return "", errors.New("stylesheet: it holds the end tag of style")
	}
	return ":root{--accent:" + accent + ";--on-accent:" + legibleOn(accent) + "}" + string(sheet), nil
}

// legibleOn is the one of black and white that has the better contrast (WCAG 2.2,
// relative luminance).
func legibleOn(accent string) string {
	luminance := 0.0
	for i, weight := range []float64{0.2126, 0.7152, 0.0722} {
		n, _ := strconv.ParseUint(accent[1+2*i:3+2*i], 16, 8)
		luminance += weight * linear(float64(n)/255)
	}
	if (luminance+0.05)*(luminance+0.05) > 1.05*0.05 {
		return "#000000"
	}
	return "#ffffff"
}

// linear undoes the gamma of sRGB.
func linear(c float64) float64 {
	if c <= 0.04045 {
		return c / 12.92
	}
	return math.Pow((c+0.055)/1.055, 2.4)
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
