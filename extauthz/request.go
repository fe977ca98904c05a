package extauthz

import (
	"bytes"
	"slices"
	"strings"
	"unicode/utf8"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/coatcheck/coatcheck/extauthz/internal/canonical"
	"github.com/coatcheck/coatcheck/internal/page"
	"github.com/coatcheck/coatcheck/sessions"
)

// A request is what a check needs of a CheckRequest.
type request struct {
	memory *memory // nil: none yet

	malformed bool // not a CheckRequest at all, or with a header that cannot be named
	http      bool // has an HTTP part

	method, host, path string

	cookies       sessions.CookieHeader
	authorization []string
	presented     sessions.ID // of another framework, if it was read

	fetch                bool // came with any Sec-Fetch header
	fetchMode, fetchDest string
	accept, contentType  string
	languages            languages // accept-language
	id                   string    // x-request-id
	traceparent          string

	managed    []string          // incoming headers under the prefix, named as they came
	extensions map[string]string // context_extensions, without those for other readers

	// Only kept where there are policies.
	scheme, origin, fetchSite string
	wantsMethod               bool // came with Access-Control-Request-Method
	upgrade                   bool // asks for a WebSocket
	headers                   map[string][]byte
	address, principal        string // of the source
}

// A wanted says what is kept of a CheckRequest.
type wanted struct {
	prefix  string   // of the managed headers, in normal form
	ignored []string // keys of context_extensions that are for other readers
	all     bool     // what policies decide by is kept, too
	headers []string // that conditions read, then
}

// A reader makes a request of a CheckRequest. There are two ways: from the wire
// (wire.go), and from the generated message (fromProto). Both hand what they find
// to the same methods.
type reader struct {
	request
	wanted *wanted

	mapCookie         string // of the headers map, where a repeated key replaces the former
	rawPath           string // where that is not UTF-8; "": the path is as it came
	lines, keys, kept int    // header lines, entries of context_extensions, and bytes that are kept of the lines
	full              bool   // kept or keys are more than a request can hold

	keepRaw bool
	raw     []byte         // the message as it came, if keepRaw
	unread  *emptypb.Empty // the message, if another codec than ours has taken it
}

// What a request can hold. By default Envoy takes 100 headers and 60 KiB of them, and
// a browser sends no more; a larger request costs time that other checks need.
const (
	maxLines   = 4 << 10  // header lines
	maxManaged = 256      // of them under the managed prefix
	maxKept    = 64 << 10 // bytes of cookies, credentials, managed names and what policies decide by
	maxTarget  = 64 << 10 // bytes of path and query
	maxKeys    = 64       // entries of context_extensions
)

// overfull reports whether r holds more than a request can. It is then malformed,
// and not read any further.
func (r *reader) overfull() bool { return r.full || r.lines > maxLines }

// count adds to the bytes that are kept.
func (r *reader) count(bytes int) {
	r.kept += bytes
	r.full = r.full || r.kept > maxKept
}

// extensionPrefix begins the keys of context_extensions that are ours.
const extensionPrefix = "coatcheck."

// read makes a request of the generated message.
func (w *wanted) read(m *authv3.CheckRequest) *request {
	r := &reader{wanted: w}
	r.fromProto(m)
	return &r.request
}

// fromProto fills r from the generated message.
func (r *reader) fromProto(m *authv3.CheckRequest) {
	attributes := m.GetAttributes()
	for key, value := range attributes.GetContextExtensions() {
		if r.extension([]byte(key), []byte(value)); r.overfull() {
			r.malformed = true
			return
		}
	}
	if source := attributes.GetSource(); r.wanted.all {
		r.address, r.principal = source.GetAddress().GetSocketAddress().GetAddress(), source.GetPrincipal()
	}
	h := attributes.GetRequest().GetHttp()
	if h == nil {
		return
	}
	r.http = true
	r.method, r.host, r.path = h.GetMethod(), h.GetHost(), h.GetPath()
	if r.wanted.all {
		r.scheme = h.GetScheme()
	}
	for name, value := range h.GetHeaders() {
		if r.mapHeader([]byte(name), []byte(value)); r.overfull() {
			r.malformed = true
			return
		}
	}
	for _, header := range h.GetHeaderMap().GetHeaders() {
		value := header.GetRawValue()
		if len(value) == 0 {
			value = []byte(header.GetValue())
		}
		if r.header([]byte(header.GetKey()), value); r.overfull() {
			r.malformed = true
			return
		}
	}
	r.finish()
}

// finish is called after the last header.
func (r *reader) finish() {
	if r.cookies.Joined {
		r.count(len(r.mapCookie))
		r.cookies.Lines = append(r.cookies.Lines, r.mapCookie)
	}
	if r.rawPath != "" {
		r.path = r.rawPath
	}
	r.malformed = r.malformed || r.overfull()
}

// text is a part of the message as a text.
func (r *reader) text(value []byte) string { return r.own().texts.keep(value) }

// keep adds the value of a header line to a list.
func (r *reader) keep(list *[]string, value []byte) {
	r.count(len(value))
	*list = append(*list, r.text(value))
}

// extension keeps an entry of context_extensions, unless it is for another
// reader. An unknown entry is kept, too, to be refused.
func (r *reader) extension(key, value []byte) {
	r.keys++
	r.full = r.full || r.keys > maxKeys
	if slices.Contains(r.wanted.ignored, string(key)) {
		return
	}
	if r.extensions == nil {
		r.extensions = make(map[string]string, 2)
	}
	r.extensions[r.text(key)] = r.text(value)
}

// mapHeader takes an entry of the headers map, in which Envoy has joined the
// lines of one name with commas.
func (r *reader) mapHeader(name, value []byte) {
	if bytes.EqualFold(name, []byte("cookie")) {
		r.cookies.Joined = true
	}
	if string(name) == "cookie" {
		r.lines++
		r.mapCookie = r.text(value)
		return
	}
	delete(r.headers, string(name)) // as a map's key, it replaces and does not repeat
	if string(name) == "origin" {
		r.origin = ""
	}
	r.header(name, value)
}

// maxAccept is how much of an Accept header is read, in bytes.
const maxAccept = 4 << 10

// header takes a header line. Neither slice is kept.
func (r *reader) header(name, value []byte) {
	r.lines++
	switch string(name) {
	case ":path":
		// In the path itself Envoy has written "!" for each byte that is no UTF-8, and some
		// upstream may read a dot or a slash there.
		if !utf8.Valid(value) {
			r.rawPath = r.text(value)
		}
	case "accept":
		r.accept = r.text(value[:min(len(value), maxAccept)])
	case "accept-language":
		r.languages.add(value)
	case "content-type":
		r.contentType = r.text(value)
	case "sec-fetch-mode":
		r.fetchMode, r.fetch = r.text(value), true
	case "sec-fetch-dest":
		r.fetchDest, r.fetch = r.text(value), true
	case "sec-fetch-site", "sec-fetch-user":
		r.fetch = true
	case "x-request-id":
		r.id = r.text(value)
	case "authorization":
		r.keep(&r.authorization, value)
	case "traceparent":
		r.traceparent = r.text(value)
	case "connection":
		r.malformed = r.malformed || nominates(value, r.wanted.prefix)
	default:
		if len(name) == len("cookie") && bytes.EqualFold(name, []byte("cookie")) {
			r.keep(&r.cookies.Lines, value)
		}
	}
	if r.wanted.all {
		r.policyHeader(name, value)
	}
	if canonical.HasPrefix(name, r.wanted.prefix) {
		// An answer is a protobuf string: what is not UTF-8 could not be removed.
		r.malformed = r.malformed || !utf8.Valid(name)
		r.keep(&r.managed, name)
		r.full = r.full || len(r.managed) > maxManaged
	}
}

// nominates reports whether a Connection header names a managed header. The next proxy would
// not forward that (RFC 9110, section 7.6.1), and the program behind it take the request for
// one of no user. Envoy takes Connection away itself, but not from a request for a WebSocket.
func nominates(connection []byte, prefix string) bool {
	for name := range bytes.SplitSeq(connection, []byte(",")) {
		if canonical.HasPrefix(bytes.TrimLeftFunc(name, noLetter), prefix) {
			return true
		}
	}
	return false
}

// noLetter reports whether no name of a managed header begins with r. Programs differ in
// what is a blank: to some the byte 0xA0 is one.
func noLetter(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
}

// policyHeader keeps what policies decide by.
func (r *reader) policyHeader(name, value []byte) {
	switch string(name) {
	case "origin":
		r.count(len(value))
		if !strings.Contains(r.origin, ",") { // else it is not an origin already
			r.origin = string(join([]byte(r.origin), value))
		}
	case "sec-fetch-site":
		r.fetchSite = r.text(value)
	case "access-control-request-method":
		r.wantsMethod = true
	case "upgrade":
		r.upgrade = r.upgrade || bytes.Contains(bytes.ToLower(value), []byte("websocket"))
	}
	if slices.Contains(r.wanted.headers, string(name)) {
		if r.headers == nil {
			r.headers = make(map[string][]byte, len(r.wanted.headers))
		}
		r.count(len(value))
		r.headers[string(name)] = join(r.headers[string(name)], value)
	}
}

// join puts a further line of a header behind the former ones, with the comma
// that Envoy puts, too.
func join(former, value []byte) []byte {
	if len(former) > 0 {
		former = append(former, ',')
	}
	return append(former, value...)
}

// makesSense reports whether r is a request that a browser can make.
// Envoy sends a CONNECT without a path, and Istio a TCP connection without an
// HTTP part.
func (r *request) makesSense() bool {
	if r.malformed || !r.http || !strings.HasPrefix(r.path, "/") || len(r.path) > maxTarget || !validMethod(r.method) {
		return false
	}
	for i := range len(r.path) {
		if r.path[i] < ' ' || r.path[i] == 0x7f {
			return false
		}
	}
	return true
}

// maxMethod bounds a method, in bytes; the longest that is registered with IANA
// has 17.
const maxMethod = 32

// validMethod reports whether a method is of A-Z and "-". Methods are distinguished
// by the case of their letters (RFC 9110, section 9.1), and HTTP/2 carries any:
// "post" would pass by a rule for POST, to an upstream that takes it for POST.
func validMethod(method string) bool {
	for i := range len(method) {
		if c := method[i]; (c < 'A' || c > 'Z') && c != '-' {
			return false
		}
	}
	return 0 < len(method) && len(method) <= maxMethod
}

// grpc reports whether the client speaks gRPC, to which Envoy translates a
// denial itself (grpc-web has its own content types with the same beginning).
func (r *request) grpc() bool { return strings.HasPrefix(r.contentType, "application/grpc") }

// navigation reports whether a person will see the answer: only then is a redirect
// to a login page of use (Fetch Metadata, W3C).
func (r *request) navigation() bool {
	if r.method != "GET" && r.method != "HEAD" || r.grpc() {
		return false
	}
	if r.fetch {
		return r.navigates()
	}
	for media := range strings.SplitSeq(r.accept, ",") {
		media, _, _ = strings.Cut(media, ";")
		if strings.EqualFold(strings.TrimSpace(media), "text/html") {
			return true
		}
	}
	return false
}

// navigates reports whether Sec-Fetch headers say that the answer fills a window.
func (r *request) navigates() bool {
	return r.fetchMode == "navigate" && (r.fetchDest == "document" || r.fetchDest == "")
}

// person reports whether a browser shows the answer to a person: it follows a link or
// sends a form. Browsers without Sec-Fetch headers, and all of them on plain http, show
// that only by what they accept.
func (r *request) person() bool {
	if r.fetch {
		return r.navigates()
	}
	return preferred(r.accept) == htmlBody
}

// languages is the beginning of an Accept-Language header, as long as browsers make it.
// Only refusals read it, so that it is kept without memory of its own.
type languages struct {
	text [128]byte
	size uint8
}

// add takes a line of the header.
func (l *languages) add(line []byte) {
	if l.size > 0 && int(l.size) < len(l.text) {
		l.text[l.size] = ','
		l.size++
	}
	l.size += uint8(copy(l.text[l.size:], line))
}

// prefer returns the one that the header prefers. A full text may have lost the end of
// its last range, or the weight behind it, so that range does not count.
func (l *languages) prefer(offered []string) string {
	text := string(l.text[:l.size])
	if len(text) == len(l.text) {
		text = text[:max(0, strings.LastIndexByte(text, ','))]
	}
	return page.Language(text, offered)
}
