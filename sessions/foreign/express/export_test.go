package express

import "net/url"

// Signed is the value of a cookie as the application sets it.
func Signed(sid, secret string) string {
	return url.PathEscape(signed + sid + "." + sign(sid, secret))
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
var Sign = sign
