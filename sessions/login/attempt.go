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

// maxUsername is in bytes, as in a session.
const maxUsername = sessions.MaxUserID

// An attempt is what a client sent to sign in.
type attempt struct {
	username, password string
	reply              // JSON is answered with JSON
}

// plausible reports whether an account can have this username and password, so that
// they are worth the work. Control characters are refused because PostgreSQL takes
// no NUL.
func (a *attempt) plausible() bool {
	return a.username != "" && len(a.username) <= maxUsername && utf8.ValidString(a.username) &&
		!strings.ContainsFunc(a.username, unicode.IsControl) &&
		a.password != "" && len(a.password) <= MaxPassword
}

func (h *Handler) readAttempt(r *http.Request) (*attempt, *problem) {
	switch mediaType(r) {
	case typeForm:
		if err := r.ParseForm(); err != nil {
			return nil, unreadable(err)
		}
		return &attempt{
			username: r.PostForm.Get("username"), password: r.PostForm.Get("password"),
			reply: reply{location: h.returnTo(r.PostForm.Get(sessions.ReturnParameter))},
		}, nil
	case typeJSON:
		return h.readJSONAttempt(r)
	}
	return nil, &problem{code: wrongType}
}

func (h *Handler) readJSONAttempt(r *http.Request) (*attempt, *problem) {
	var body struct {
		Username string `json:"username"`
		Password string `json:"password"`
		Return   string `json:"return"`
		Bearer   bool   `json:"bearer"`
	}
	if p := readJSON(r, &body); p != nil {
		return nil, p
	}
	if body.Bearer && !h.config.BearerLogin {
		return nil, &problem{code: bearerOff}
	}
	return &attempt{
		username: body.Username, password: body.Password,
		reply: reply{location: h.returnTo(body.Return), json: true, bearer: body.Bearer},
	}, nil
}

// readJSON reads one JSON value. It refuses a second one, and members that it does
// not know, because a misspelt one would be lost in silence.
func readJSON(r *http.Request, into any) *problem {
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

// unreadable drops the error, which may quote the body.
func unreadable(err error) *problem {
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		return &problem{code: tooLarge}
	}
	return &problem{code: badRequest}
}
