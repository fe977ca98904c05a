package login

import (
	"encoding/json"
	"math"
	"mime"
	"net/http"
	"strconv"
	"strings"
)

// A details is a problem for programs, the members of RFC 9457 and two of ours.
type details struct {
	Type       string `json:"type"`
	Title      string `json:"title"`
	Status     int    `json:"status"`
	Detail     string `json:"detail"`
	Code       code   `json:"code"`
	RetryAfter int    `json:"retry_after,omitempty"` // seconds
}

// refuse answers with a problem, as JSON or as a page. It never touches the cookie.
func (h *Handler) refuse(w http.ResponseWriter, r *http.Request, p *problem) {
	if p.cause != nil {
		h.config.Logger.ErrorContext(r.Context(), "login cannot serve", "endpoint", r.URL.Path[min(len(h.config.BasePath), len(r.URL.Path)):], "error", p.cause)
	}
	status := refusals[p.code].status
	if status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", "Session") // RFC 9110 wants one; never Basic
	}
	seconds := int(math.Ceil(p.wait.Seconds()))
	if seconds > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(seconds))
	}
	pages := h.speak(w, r)
	detail := fill(pages.text[errorText(p.code)], "time", pages.lasting(p.wait))
	if wantsJSON(r) {
		writeJSON(w, status, "application/problem+json", details{
			"about:blank", http.StatusText(status), status, detail, p.code, seconds,
		})
		return
	}
	view := view{Status: status, Alert: detail, page: "error", state: stateText(p.code), Invalid: p.code == badCredentials}
	if p.form != nil {
		view.page = "login"
		view.Username, view.Return, view.Place = p.form.username, p.form.location, h.placeOf(p.form.location)
	}
	h.show(w, r, view)
}

// show writes a page. net/http leaves its body out where the request was a HEAD.
func (h *Handler) show(w http.ResponseWriter, r *http.Request, v view) {
	if v.Status == 0 {
		v.Status = http.StatusOK
	}
	body, err := h.speak(w, r).render(v)
	if err != nil {
		h.config.Logger.ErrorContext(r.Context(), "login cannot show a page", "page", v.page, "error", err)
		http.Error(w, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(v.Status)
	_, _ = w.Write(body) //nolint:gosec // html/template has escaped it; the client may have left
}

// wantsJSON reports whether the client is a program and no browser: by what it
// sends, else by what it accepts.
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
	_ = json.NewEncoder(w).Encode(value) // the client may have left
}

// seeOther leads a browser to location with a GET. net/http's Redirect would
// rewrite the path.
func seeOther(w http.ResponseWriter, location string) *problem {
	w.Header().Set("Location", location)
	w.WriteHeader(http.StatusSeeOther)
	return nil
}
