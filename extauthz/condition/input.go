package condition

import (
	"strings"
	"time"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/interpreter"

	"github.com/coatcheck/coatcheck/extauthz"
)

// skew is by how much a clock that created a session may be ahead of ours.
const skew = time.Minute

// An input gives an expression the variables that it asks for, and makes none of
// the other ones.
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

// Parent is for variables beyond these, of which there are none.
func (*input) Parent() interpreter.Activation { return nil }

// age is a duration of 0 or more. A clock that is a little ahead makes none
// younger than new; a time that is still to come tells nothing.
func (in *input) age() any {
	age := in.Now.Sub(in.Session.CreatedAt)
	if in.Session.CreatedAt.IsZero() || age < -skew {
		return types.WrapErr(ErrAge)
	}
	return max(age, 0)
}

// segments are what stands between the slashes of a canonical path. A slash at
// the end has an empty one behind it; the path "/" has none.
func (in *input) segments() []string {
	path := strings.TrimPrefix(in.Path, "/")
	if path == "" {
		return nil
	}
	return strings.Split(path, "/")
}
