package login

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/coatcheck/coatcheck/sessions"
)

// maxUsername is in bytes, that of a session.
const maxUsername = sessions.MaxUserID

// An attempt is what somebody sent to sign in.
type attempt struct {
	username, password string
	location           string // where to go then, checked
	json               bool   // as JSON, and the answer too
	bearer             bool   // the ID goes into the body
}

// plausible tells what can be nobody's username and password from what is worth
// the work. Control characters are refused because PostgreSQL takes no NUL.
func (a *attempt) plausible() bool {
	return a.username != "" && len(a.username) <= maxUsername && utf8.ValidString(a.username) &&
		!strings.ContainsFunc(a.username, unicode.IsControl) &&
		a.password != "" && len(a.password) <= MaxPassword
}

func (h *Handler) readAttempt(r *http.Request) (*attempt, *refusal) {
	switch mediaType(r) {
	case typeForm:
		if err := r.ParseForm(); err != nil {
			return nil, unreadable(err)
		}
		return &attempt{
			username: r.PostForm.Get("username"), password: r.PostForm.Get("password"),
			location: h.returnTo(r.PostForm.Get(sessions.ReturnParameter)),
		}, nil
	case typeJSON:
		return h.readJSONAttempt(r)
	}
	return nil, &refusal{code: wrongType}
}

func (h *Handler) readJSONAttempt(r *http.Request) (*attempt, *refusal) {
	var body struct {
		Username string `json:"username"`
		Password string `json:"password"`
		Return   string `json:"return"`
		Bearer   bool   `json:"bearer"`
	}
	if no := readJSON(r, &body); no != nil {
		return nil, no
	}
	if body.Bearer && !h.config.BearerLogin {
		return nil, &refusal{code: bearerOff}
	}
	return &attempt{
		username: body.Username, password: body.Password, location: h.returnTo(body.Return), json: true, bearer: body.Bearer,
	}, nil
}

// readJSON takes one JSON value and nothing behind it, nor members that it does
// not know: a misspelt one would be lost in silence.
func readJSON(r *http.Request, into any) *refusal {
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return unreadable(err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return unreadable(err)
	}
	return nil
}

// unreadable keeps the error, which may quote the body, to itself.
func unreadable(err error) *refusal {
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		return &refusal{code: tooLarge}
	}
	return &refusal{code: badRequest}
}
