package condition

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"

	"github.com/coatcheck/coatcheck/sessions"
)

const (
	ageVariable     = "session.age"
	fieldsVariable  = "session.fields"
	headersVariable = "request.headers"
)

// A reader collects the names under which an expression looks into the maps.
type reader struct {
	fields, headers map[string]bool
	accounted       map[int64]bool // uses of the maps that read a known name
	errs            []error
}

// names lists the fields and the headers that an expression reads, sorted, or names
// the uses that are not known beforehand.
func names(checked *cel.Ast) (fields, headers []string, err error) {
	r := &reader{fields: map[string]bool{}, headers: map[string]bool{}, accounted: map[int64]bool{}}
	root := checked.NativeRep().Expr()
	ast.PreOrderVisit(root, ast.NewExprVisitor(r.lookup))
	ast.PreOrderVisit(root, ast.NewExprVisitor(r.whole))
	if err := errors.Join(r.errs...); err != nil {
		return nil, nil, errors.New(strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	return slices.Sorted(maps.Keys(r.fields)), slices.Sorted(maps.Keys(r.headers)), nil
}

// absent lists the headers, sorted, whose absence can make an expression true.
func absent(checked *cel.Ast) []string {
	found := make(map[string]bool)
	presence(checked.NativeRep().Expr(), true, found)
	return slices.Sorted(maps.Keys(found))
}

// presence notes down the headers that e asks for, where their absence can make the
// condition true. With grants, only a true e helps to make the condition true; a
// negation turns that round.
func presence(e ast.Expr, grants bool, found map[string]bool) {
	if name, asked := asksForHeader(e); asked {
		if !grants {
			found[name] = true
		}
		return
	}
	if e.Kind() == ast.CallKind {
		switch call := e.AsCall(); {
		case call.FunctionName() == operators.LogicalAnd, call.FunctionName() == operators.LogicalOr, elseFalse(call):
			presence(call.Args()[0], grants, found)
			presence(call.Args()[1], grants, found)
			return
		case call.FunctionName() == operators.LogicalNot:
			presence(call.Args()[0], !grants, found)
			return
		}
	}
	// In any other expression a part can count either way.
	ast.PreOrderVisit(e, ast.NewExprVisitor(func(part ast.Expr) {
		if name, asked := asksForHeader(part); asked {
			found[name] = true
		}
	}))
}

// elseFalse reports whether a call is a ? b : false, which is a && b.
func elseFalse(call ast.CallExpr) bool {
	if call.FunctionName() != operators.Conditional || call.Args()[2].Kind() != ast.LiteralKind {
		return false
	}
	return call.Args()[2].AsLiteral() == types.False
}

// asksForHeader reports whether e is has(request.headers.name) or
// "name" in request.headers.
func asksForHeader(e ast.Expr) (name string, asked bool) {
	switch e.Kind() {
	case ast.SelectKind:
		selected := e.AsSelect()
		return selected.FieldName(), selected.IsTestOnly() && variable(selected.Operand()) == headersVariable
	case ast.CallKind:
		call := e.AsCall()
		if call.FunctionName() == operators.In && variable(call.Args()[1]) == headersVariable {
			return literal(call.Args()[0])
		}
	}
	return "", false
}

// lookup notes down an expression that asks for one name in a map: m.name,
// has(m.name), m["name"] and "name" in m. It also checks the networks.
func (r *reader) lookup(e ast.Expr) {
	switch e.Kind() {
	case ast.SelectKind:
		r.read(e.AsSelect().Operand(), e.AsSelect().FieldName())
	case ast.CallKind:
		call := e.AsCall()
		switch args := call.Args(); {
		case call.FunctionName() == operators.Index:
			r.readLiteral(args[0], args[1])
		case call.FunctionName() == operators.In:
			r.readLiteral(args[1], args[0])
		case call.FunctionName() == inCIDR:
			r.network(args[0])
		}
	}
}

func (r *reader) readLiteral(within, name ast.Expr) {
	if text, ok := literal(name); ok {
		r.read(within, text)
	}
}

func literal(e ast.Expr) (string, bool) {
	if e.Kind() != ast.LiteralKind {
		return "", false
	}
	text, ok := e.AsLiteral().(types.String)
	return string(text), ok
}

// read notes down a name in one of the two maps.
func (r *reader) read(within ast.Expr, name string) {
	switch variable(within) {
	case fieldsVariable:
		r.fields[name] = true
		r.note(sessions.ValidateFieldName(name))
	case headersVariable:
		r.headers[name] = true
		r.note(validateHeader(name))
	default:
		return
	}
	r.accounted[within.ID()] = true
}

func (r *reader) note(err error) {
	if err != nil {
		r.errs = append(r.errs, err)
	}
}

// whole refuses what uses a map in any other way, and sees session.age.
func (r *reader) whole(e ast.Expr) {
	name := variable(e)
	if name == ageVariable {
		r.fields[sessions.FieldCreatedAt] = true
	}
	if name != fieldsVariable && name != headersVariable || r.accounted[e.ID()] {
		return
	}
	r.errs = append(r.errs, fmt.Errorf(`%s needs a name in quotes, as in %s["name"], so that it is known what to read`, name, name))
}

// variable is the name of the variable that e is, if it is one.
func variable(e ast.Expr) string {
	if e.Kind() != ast.IdentKind {
		return ""
	}
	return strings.TrimPrefix(e.AsIdent(), ".")
}

// network refuses a network that is computed, or that could not be parsed later.
func (r *reader) network(e ast.Expr) {
	text, ok := literal(e)
	if !ok {
		r.errs = append(r.errs, fmt.Errorf(`%s needs a network in quotes, as in %s("10.0.0.0/8")`, inCIDR, inCIDR))
		return
	}
	_, err := parseCIDR(text)
	r.note(err)
}

// validateHeader takes names as HTTP/2 and Envoy write them.
func validateHeader(name string) error {
	switch {
	case name == "" || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-_.") != "":
		return fmt.Errorf("request.headers[%q]: names of headers are in lower case", name)
	case name == "cookie":
		return errors.New(`request.headers["cookie"] holds the session ID, and a condition must not read that`)
	}
	return nil
}
