package express

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"strings"
	"unicode/utf8"

	"github.com/coatcheck/coatcheck/sessions"
)

const (
	// signed begins the value of a signed cookie; express-session ignores any other.
	signed = "s:"
	// macLength is a signature's length: 32 bytes in base64 without padding.
	macLength = 43
	// maxValue is the longest value that can be right: with quotes, and each byte
	// percent-encoded.
	maxValue = 2 + 3*(len(signed)+sessions.MaxForeignID+1+macLength)
)

// Read implements [sessions.Format].
func (f *Format) Read(h sessions.CookieHeader) (sessions.ID, error) {
	value, err := f.cookie.Value(h)
	if err != nil {
		return sessions.ID{}, err
	}
	return f.Parse(value)
}

// Cut implements [sessions.Format].
func (f *Format) Cut(h sessions.CookieHeader) (rest string, found bool) { return f.cookie.CutValue(h) }

// Lookalikes implements [sessions.Format].
func (f *Format) Lookalikes(h sessions.CookieHeader) []string {
	return f.cookie.LookalikesOf(h, func(value string) bool {
		_, _, ok := split(value)
		return ok
	})
}

// Parse implements [sessions.Format]: the signature must hold.
func (f *Format) Parse(value string) (sessions.ID, error) {
	sid, mac, ok := split(value)
	if !ok || !f.holds(sid, mac) {
		return sessions.ID{}, sessions.ErrMalformed
	}
	return sessions.ForeignID(sid)
}

// split returns the ID and the signature in a cookie's value, if it has their form. Node.js
// reads headers as Latin-1, and signs UTF-8: of bytes that are no ASCII as they stand it
// would make other ones, so they are refused.
func split(value string) (sid, mac string, ok bool) {
	value = strings.Trim(value, " \t")
	if len(value) > maxValue || strings.ContainsFunc(value, func(r rune) bool { return r >= utf8.RuneSelf }) {
		return "", "", false
	}
	text, ok := strings.CutPrefix(decodeComponent(unquoted(value)), signed)
	if !ok {
		return "", "", false
	}
	dot := strings.LastIndexByte(text, '.')
	if dot < 1 || len(text)-dot-1 != macLength {
		return "", "", false
	}
	return text[:dot], text[dot+1:], true
}

// unquoted takes away a pair of quotes.
func unquoted(value string) string {
	if len(value) >= 2 && value[0] == '"' && value[len(value)-1] == '"' {
		return value[1 : len(value)-1]
	}
	return value
}

// decodeComponent is JavaScript's decodeURIComponent of ASCII, and the text itself where
// that would throw: one sequence that is not valid leaves all of them as they are.
func decodeComponent(s string) string {
	if strings.IndexByte(s, '%') < 0 {
		return s
	}
	decoded := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] != '%' {
			decoded = append(decoded, s[i])
			continue
		}
		if len(s)-i < 3 || hexadecimal(s[i+1]) < 0 || hexadecimal(s[i+2]) < 0 {
			return s
		}
		decoded = append(decoded, byte(hexadecimal(s[i+1])<<4|hexadecimal(s[i+2])))
		i += 2
	}
	// ASCII between two sequences ends what they say, so the whole is valid if each is.
	if !utf8.Valid(decoded) {
		return s
	}
	return string(decoded)
}

// hexadecimal is the value of a digit, or -1.
func hexadecimal(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}

// holds reports whether a signature is by one of the secrets. The texts are compared,
// and not what they encode, as cookie-signature does: base64 has several spellings of the
// same bytes.
func (f *Format) holds(sid, mac string) bool {
	held := 0
	for _, secret := range *f.secrets.Load() {
		held |= subtle.ConstantTimeCompare([]byte(sign(sid, secret)), []byte(mac))
	}
	return held == 1
}

// sign is the signature of an ID.
func sign(sid, secret string) string {
	h := hmac.New(sha256.New, []byte(secret))
	h.Write([]byte(sid))
	return base64.RawStdEncoding.EncodeToString(h.Sum(nil))
}
