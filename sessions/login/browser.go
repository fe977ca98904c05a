package login

import (
	"strings"
)

// The marks by which browsers and systems are known. The first one found wins, because
// each browser also names the browsers that it imitates.
var (
	browserMarks = []struct{ mark, name string }{
		{"Edg/", "Edge"}, {"EdgA/", "Edge"}, {"EdgiOS/", "Edge"}, {"OPR/", "Opera"}, {"Vivaldi/", "Vivaldi"},
		{"SamsungBrowser/", "Samsung Internet"}, {"FxiOS/", "Firefox"}, {"Firefox/", "Firefox"},
		{"CriOS/", "Chrome"}, {"HeadlessChrome/", "Chrome"}, {"Chrome/", "Chrome"}, {"Version/", "Safari"},
		{"curl/", "curl"}, {"Wget/", "Wget"},
	}
	systemMarks = []struct{ mark, name string }{
		{"Windows", "Windows"}, {"iPhone", "iPhone"}, {"iPad", "iPad"}, {"Android", "Android"},
		{"CrOS", "ChromeOS"}, {"Mac OS X", "macOS"}, {"Linux", "Linux"},
	}
)

// browserName is a short form of a User-Agent for people, such as "Firefox 143
// on Windows". It is a hint, because a client can send any text.
func (p *pages) browserName(userAgent string) string {
	browser, system := "", ""
	for _, b := range browserMarks {
		if _, after, ok := strings.Cut(userAgent, b.mark); ok && (b.name != "Safari" || strings.Contains(after, "Safari/")) {
			browser = strings.TrimSpace(b.name + " " + digits(after))
			break
		}
	}
	for _, s := range systemMarks {
		if strings.Contains(userAgent, s.mark) {
			system = s.name
			break
		}
	}
	switch {
	case browser != "" && system != "":
		return fill(p.text["browser_on"], "browser", browser, "system", system)
	case browser != "":
		return browser
	}
	return p.firstWord(userAgent)
}

// firstWord is what a program calls itself, such as "okhttp/5.1".
func (p *pages) firstWord(userAgent string) string {
	word, _, _ := strings.Cut(strings.TrimSpace(userAgent), " ")
	switch {
	case word == "":
		return p.text["unknown_browser"]
	case len(word) > 40:
		return strings.ToValidUTF8(word[:40], "") + "…"
	}
	return word
}

// digits is the number at the beginning of s, which may be missing.
func digits(s string) string {
	return s[:len(s)-len(strings.TrimLeft(s, "0123456789"))]
}
