package page

import (
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"errors"
	"fmt"
	"html/template"
	"math"
	"regexp"
	"strconv"
	"strings"
)

// Sheet is the stylesheet: a card in the middle, light and dark.
//
//go:embed style.css
var Sheet string

// DefaultAccent is a dark green.
const DefaultAccent = "#1f5c4d"

// A Style is a stylesheet inside a page.
type Style struct {
	Element template.HTML // the style element
	Source  string        // what Content-Security-Policy's style-src allows it by (CSP 3, section 2.3.1)
}

var colour = regexp.MustCompile(`^#[0-9a-fA-F]{6}$`)

// NewStyle puts the colour accent, as #rrggbb, before a stylesheet, such as [Sheet], and
// the one of black and white that can be read on it.
func NewStyle(sheet, accent string) (Style, error) {
	if !colour.MatchString(accent) {
		return Style{}, fmt.Errorf("accent %q: it is a colour such as %s", accent, DefaultAccent)
	}
	if strings.Contains(strings.ToLower(sheet), "</style") {
		return Style{}, errors.New("stylesheet: it holds the end tag of style")
	}
	text := ":root{--accent:" + accent + ";--on-accent:" + legibleOn(accent) + "}" + sheet
	sum := sha256.Sum256([]byte(text))
	return Style{
		Element: template.HTML("<style>" + text + "</style>"), //nolint:gosec // from the operator, and without an end tag
		Source:  "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'",
	}, nil
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
