package express

import "net/url"

// Signed is the value of a cookie as the application sets it.
func Signed(sid, secret string) string {
	return url.PathEscape(signed + sid + "." + Sign(sid, secret))
}

// Unescaped is a value without its percent-encoding.
func Unescaped(value string) string {
	text, err := url.PathUnescape(value)
	if err != nil {
		panic(err)
	}
	return text
}

// Sign is the signature of an ID.
func Sign(sid, secret string) string { return string(sign(sid, secret)) }

// ParsePath are the names of a path, and the text that they are written as.
func ParsePath(text string) (names []string, again string, err error) {
	p, err := parsePath(text)
	return p, dotted(p), err
}
