package extauthz

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/coatcheck/coatcheck/extauthz/internal/redact"
	"github.com/coatcheck/coatcheck/internal/suggest"
	"github.com/coatcheck/coatcheck/sessions"
)

// A need is what a route asks of the session.
type need int

const (
	required need = iota
	optional
	none
)

// A route is what the route's context_extensions ask for. Envoy has matched the
// route; other servers matched the path a second time, differently, and were bypassed
// (CVE-2023-33189).
type route struct {
	session need
	roles   []string // any of them is enough; nil: no role is asked for
	said    bool     // session is what the route says, not the default
	policy  string   // that it names, or ""
	paths   Paths    // that it takes; "": as configured
}

// A requirement is what a route or a policy asks of the session.
type requirement struct {
	session need
	any     []string // any of these roles is enough; nil: no role is asked for
	all     []string // all of these are needed
}

var needNames = []string{required: "required", optional: "optional", none: "none"}

// String is the requirement as the log has it.
func (q requirement) String() string {
	text := needNames[q.session]
	if q.any != nil {
		text += " roles=" + strings.Join(q.any, ",")
	}
	if q.all != nil {
		text += " all=" + strings.Join(q.all, ",")
	}
	return text
}

// maxListed bounds how many roles of one list stand in a text.
const maxListed = 16

// compared says what is asked for and what the session has: "needs any of billing,
// admin; has staff".
func (q requirement) compared(s *sessions.Session) string {
	var asked []string
	if q.any != nil {
		asked = append(asked, "any of "+listed(q.any))
	}
	if q.all != nil {
		asked = append(asked, "all of "+listed(q.all))
	}
	switch {
	case asked == nil && q.session == none:
		return "needs no session"
	case asked == nil && q.session == optional:
		return "needs no session, and takes one"
	case asked == nil:
		asked = []string{"a session"}
	}
	has := "no session"
	if s != nil && q.any == nil && q.all == nil {
		has = "one"
	} else if s != nil {
		has = cmp.Or(listed(s.Roles), "no role")
	}
	return "needs " + strings.Join(asked, " and ") + "; has " + has
}

// listed are the names of roles for a line of text. A name that could be taken for
// several, or for the end of the list, stands in quotes.
func listed(roles []string) string {
	var names []string
	for i, role := range roles {
		if i == maxListed {
			names = append(names, fmt.Sprintf("and %d more", len(roles)-i))
			break
		}
		if role == "" || strings.ContainsFunc(role, notInRole) {
			role = strconv.Quote(role)
		}
		names = append(names, redact.ClientText(role))
	}
	return strings.Join(names, ", ")
}

// routeOf reads context_extensions. What is unknown is an error, never ignored:
// a typing error must not open a route. Of several errors it returns the first by key. The
// roles stand in scratch if it has room for them.
func routeOf(extensions map[string]string, scratch []string) (route, error) {
	var r route
	var err error
	wrong := ""
	for key, value := range extensions {
		if e := r.set(key, value, scratch); e != nil && (err == nil || key < wrong) {
			wrong, err = key, e
		}
	}
	if err == nil && r.session == none && r.roles != nil {
		err = errors.New("roles on a route that asks for no session")
	}
	return r, err
}

// set takes one entry.
func (r *route) set(key, value string, scratch []string) error {
	switch key {
	case extensionPrefix + "session":
		i := slices.Index(needNames, value)
		if i < 0 {
			return notOneOf(key, value, needNames)
		}
		r.session, r.said = need(i), true
	case extensionPrefix + "roles":
		roles, err := rolesOf(value, scratch)
		if err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		r.roles = roles
	case extensionPrefix + "policy":
		if value == "" {
			return fmt.Errorf("%s is empty", key)
		}
		r.policy = value
	case extensionPrefix + "paths":
		if r.paths = Paths(value); !slices.Contains(pathsNames, r.paths) {
			return notOneOf(key, value, pathsNames)
		}
	default:
		return fmt.Errorf("unknown key %.64q%s", key, hintFor(key))
	}
	return nil
}

// notOneOf says which words there are, and where only the case of the letters is wrong,
// that too.
func notOneOf[T ~string](key, value string, choices []T) error {
	words := make([]string, len(choices))
	for i, choice := range choices {
		words[i] = string(choice)
	}
	last, hint := len(words)-1, ""
	switch {
	case slices.Contains(words, strings.ToLower(value)):
		hint = " (lower case)"
	case len(value) <= 64:
		hint = suggest.DidYouMean(value, words)
	}
	return fmt.Errorf("%s: %.64q is not %s or %s%s", key, value, strings.Join(words[:last], ", "), words[last], hint)
}

// keyNames are the keys of context_extensions that are ours, without the prefix.
var keyNames = []string{"session", "roles", "policy", "paths"}

// hintFor says which key was probably meant, whose prefix can be left out or be
// misspelt, too, or what to do with a key of another filter.
func hintFor(key string) string {
	if len(key) > 64 {
		return ""
	}
	word := key[strings.LastIndexByte(key, '.')+1:]
	if near := suggest.Nearest(strings.ToLower(word), keyNames); near != "" {
		return "; did you mean " + extensionPrefix + near + "?"
	}
	if ignorable([]string{key}) != nil {
		return ""
	}
	return "; if it is there for another filter, name it in route.ignore_keys"
}

// ignorable checks the keys of context_extensions that are left to other readers. A
// key that could be a typing error for one of ours is refused.
func ignorable(keys []string) error {
	for _, key := range keys {
		if key == "" || !utf8.ValidString(key) {
			return fmt.Errorf("ignored key %.64q must be UTF-8 and not empty", key)
		}
		if len(key) >= len(extensionPrefix) && strings.EqualFold(key[:len(extensionPrefix)], extensionPrefix) {
			return fmt.Errorf("ignored key %.64q: keys that begin with %s are Coatcheck's", key, extensionPrefix)
		}
	}
	return nil
}

// rolesOf reads a comma-separated list of role names, into scratch if there is room.
func rolesOf(list string, scratch []string) ([]string, error) {
	roles := scratch
	for name := range strings.SplitSeq(list, ",") {
		name = strings.Trim(name, " \t")
		if strings.ContainsFunc(name, notInRole) {
			return nil, fmt.Errorf("%.64q is not a role name of A-Z a-z 0-9 _ . : -", name)
		}
		if name != "" {
			roles = append(roles, name)
		}
		if len(roles) > sessions.MaxRoles {
			return nil, fmt.Errorf("more than %d roles", sessions.MaxRoles)
		}
	}
	if len(roles) == 0 {
		return nil, errors.New("it names no role, so no session can have one")
	}
	return roles, nil
}

func notInRole(r rune) bool {
	switch {
	case 'A' <= r && r <= 'Z', 'a' <= r && r <= 'z', '0' <= r && r <= '9', strings.ContainsRune("_.:-", r):
		return false
	}
	return true
}

// requirement is what the short form asks of the session. Beside a policy it asks for
// no more than the route says.
func (r route) requirement(alone bool) requirement {
	if !alone && !r.said && r.roles == nil {
		return requirement{session: none}
	}
	return requirement{session: r.session, any: r.roles}
}

// verify returns why a client whose lookup had this outcome, and with OK this session,
// does not meet the requirement.
func (q requirement) verify(outcome Reason, s *sessions.Session) Reason {
	switch {
	case q.session == none:
		return holds
	case outcome == OK && q.admits(s.Roles):
		return holds
	case outcome == OK:
		return MissingRole
	case q.session == optional && q.any == nil && q.all == nil && outcome.info().class == anonymous:
		return holds
	}
	return outcome
}

// admits reports whether a user with these roles may pass.
func (q requirement) admits(roles []string) bool {
	for _, name := range q.all {
		if !slices.Contains(roles, name) {
			return false
		}
	}
	return q.any == nil || slices.ContainsFunc(q.any, func(name string) bool { return slices.Contains(roles, name) })
}
