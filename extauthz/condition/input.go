package condition

import (
	"strings"
	"time"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/interpreter"

	"github.com/coatcheck/coatcheck/extauthz"
)

// skew bounds how far the clock that dated a session may be ahead of ours.
const skew = time.Minute

// An input makes the variables that an expression asks for, and only these.
type input struct {
	extauthz.Input
}

// ResolveName returns a variable's value, or an error in its place.
func (in *input) ResolveName(name string) (any, bool) {
	switch name {
	case "request.method":
		return in.Method, true
	case "request.host":
		return in.Host, true
	case "request.path":
		return in.Path, true
	case "request.segments":
		return in.segments(), true
	case "request.headers":
		return in.Headers, true
	case "source.address":
		return in.SourceAddress, true
	case "source.principal":
		return in.SourcePrincipal, true
	}
	if !strings.HasPrefix(name, "session.") {
		return nil, false
	}
	if in.Session == nil {
		return types.WrapErr(ErrNoSession), true
	}
	return in.ofSession(name)
}

func (in *input) ofSession(name string) (any, bool) {
	switch name {
	case "session.user_id":
		return in.Session.UserID, true
	case "session.username":
		return in.Session.Username, true
	case "session.roles":
		return in.Session.Roles, true
	case "session.fields":
		return in.Session.Fields, true
	case "session.age":
		return in.age(), true
	}
	return nil, false
}

// Parent is for further variables, which do not exist.
func (*input) Parent() interpreter.Activation { return nil }

// age is a duration of 0 or more. It is 0 where the other clock is a little ahead; a
// time further in the future is an error.
func (in *input) age() any {
	age := in.Now.Sub(in.Session.CreatedAt)
	if in.Session.CreatedAt.IsZero() || age < -skew {
		return types.WrapErr(ErrAge)
	}
	return max(age, 0)
}

// segments are the texts between the slashes of a canonical path. Behind a slash at
// the end stands an empty segment; the path "/" has no segment.
func (in *input) segments() []string {
	path := strings.TrimPrefix(in.Path, "/")
	if path == "" {
		return nil
	}
	return strings.Split(path, "/")
}
