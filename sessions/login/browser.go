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
		{"curl/", "curl"}, {"Wget/", "Wget"}, {"HTTPie/", "HTTPie"}, {"PostmanRuntime/", "Postman"},
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
	return p.programName(userAgent)
}

// maxProgramName is in bytes.
const maxProgramName = 24

// programName is what a program calls itself, without its version: "okhttp" of
// "okhttp/5.1". A client that does not give its name in plain letters is unknown: the
// page shows no sentence of a client's choosing.
func (p *pages) programName(userAgent string) string {
	word, _, _ := strings.Cut(strings.TrimSpace(userAgent), " ")
	name, _, _ := strings.Cut(word, "/")
	if name == "" || name == "Mozilla" || len(name) > maxProgramName || strings.ContainsFunc(name, notInName) {
		return p.text["unknown_browser"]
	}
	return name
}

func notInName(r rune) bool {
	return r != '-' && r != '_' && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
}

// digits is the number at the beginning of s, which may be missing.
func digits(s string) string {
	return s[:len(s)-len(strings.TrimLeft(s, "0123456789"))]
}
