package login

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// A code says, for programs, why something was refused. Its text for people is
// the one named error_ and the code.
type code string

const (
	badCredentials   code = "bad_credentials"
	throttled        code = "throttled"
	busy             code = "busy"
	unavailable      code = "unavailable"
	tooManyShown     code = "too_many_sessions_shown"
	cancelled        code = "cancelled" // nobody reads the answer
	notSignedIn      code = "not_signed_in"
	crossOrigin      code = "cross_origin"
	notFound         code = "not_found"
	methodNotAllowed code = "method_not_allowed"
	badRequest       code = "bad_request"
	tooLarge         code = "too_large"
	wrongType        code = "unsupported_media_type"
	bearerOff        code = "bearer_not_allowed"
)

var statuses = map[code]int{
	badCredentials: http.StatusUnauthorized, throttled: http.StatusTooManyRequests, busy: http.StatusServiceUnavailable,
	unavailable: http.StatusServiceUnavailable, tooManyShown: http.StatusServiceUnavailable, cancelled: http.StatusServiceUnavailable, notSignedIn: http.StatusUnauthorized,
	crossOrigin: http.StatusForbidden, notFound: http.StatusNotFound, methodNotAllowed: http.StatusMethodNotAllowed,
	badRequest: http.StatusBadRequest, tooLarge: http.StatusRequestEntityTooLarge,
	wrongType: http.StatusUnsupportedMediaType, bearerOff: http.StatusForbidden,
}

// retryUnavailable is when a client may ask again that met a fault of ours.
const retryUnavailable = 5 * time.Second

// A refusal is an answer other than the one asked for.
type refusal struct {
	code  code
	wait  time.Duration // before another try; zero: no Retry-After
	cause error         // for the log; nil where nothing is wrong with us
	form  *attempt      // shown again, without the password; nil: a page of its own
}

// fault is the refusal for an error that says that nothing is known, unless it
// came of the client's leaving.
func fault(ctx context.Context, cause error) *refusal {
	if errors.Is(ctx.Err(), context.Canceled) {
		return &refusal{code: cancelled}
	}
	return &refusal{code: unavailable, wait: retryUnavailable, cause: cause}
}

// notEnded is the refusal where sessions that should end may be alive.
func notEnded(ctx context.Context, err error) *refusal {
	if err == errTooManyShown { //nolint:errorlint // and nothing else
		return &refusal{code: tooManyShown, wait: retryUnavailable}
	}
	return fault(ctx, err)
}

// A problem is a refusal for programs (RFC 9457).
type problem struct {
	Type       string `json:"type"`
	Title      string `json:"title"`
	Status     int    `json:"status"`
	Detail     string `json:"detail"`
	Code       code   `json:"code"`
	RetryAfter int    `json:"retry_after,omitempty"` // seconds
}

// refuse answers with a problem or a page. It never touches the cookie.
func (h *Handler) refuse(w http.ResponseWriter, r *http.Request, no *refusal) {
	if no.cause != nil {
		h.config.Logger.ErrorContext(r.Context(), "login cannot serve", "endpoint", r.URL.Path[min(len(h.config.BasePath), len(r.URL.Path)):], "error", no.cause)
	}
	status := statuses[no.code]
	if status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", "Session") // RFC 9110 wants one; never Basic
	}
	seconds := int(math.Ceil(no.wait.Seconds()))
	if seconds > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(seconds))
	}
	detail := h.pages.refusal(no)
	if wantsJSON(r) {
		writeJSON(w, status, "application/problem+json", problem{
			"about:blank", http.StatusText(status), status, detail, no.code, seconds,
		})
		return
	}
	view := view{Status: status, Alert: detail, page: "error", Title: h.pages.text["title_error"]}
	if no.form != nil {
		view.page, view.Title = "login", h.pages.text["title_login"]
		view.Username, view.Return = no.form.username, no.form.location
	}
	h.show(w, r, view)
}

// wantsJSON tells programs from browsers: by what they send, else by what they
// accept.
func wantsJSON(r *http.Request) bool {
	if mediaType(r) == typeJSON {
		return true
	}
	accept := strings.Join(r.Header.Values("Accept"), ",")
	return strings.Contains(accept, "json") && !strings.Contains(accept, "text/html")
}

const (
	typeJSON = "application/json"
	typeForm = "application/x-www-form-urlencoded"
)

// mediaType is empty where the header is missing or makes no sense.
func mediaType(r *http.Request) string {
	t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil {
		return ""
	}
	return t
}

func writeJSON(w http.ResponseWriter, status int, contentType string, value any) {
	w.Header().Set("Content-Type", contentType)
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(value) // a client that left is nobody's fault
}
