package condition

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
	"cel.dev/cel-go/interpreter"

	"github.com/coatcheck/coatcheck/extauthz"
	"github.com/coatcheck/coatcheck/extauthz/internal/redact"
)

// maxValue bounds the text of a value, in bytes.
const maxValue = 256

var _ extauthz.ExplainedCondition = (*Condition)(nil)

// Parts evaluates the expression for people: the operands of &&, ||, ! and ?: with
// what each comes to, and the value of each variable that it reads. Unlike
// [Condition.Holds] it evaluates all of them, also where one side has decided. It
// compiles the expression anew, so it is not for checks. The values are those of the
// session and the request: they are for the operator's terminal, and not for a log.
func (c *Condition) Parts(_ context.Context, in extauthz.Input) []extauthz.ConditionPart {
	env, err := environment()
	if err != nil {
		return nil
	}
	if env, err = env.Extend(cel.EnableMacroCallTracking()); err != nil {
		return nil
	}
	checked, issues := env.Compile(c.text)
	if issues != nil && issues.Err() != nil {
		return nil
	}
	// Without short cuts an evaluation costs more than Holds may, but no more than
	// the estimate for the largest input.
	program, err := env.Program(checked, cel.EvalOptions(cel.OptExhaustiveEval), cel.CostLimit(2*maxCost))
	if err != nil {
		return nil
	}
	_, details, _ := program.Eval(&input{in}) // its error is one of a part, too
	if details == nil || details.State() == nil {
		return nil
	}
	native := checked.NativeRep()
	p := &parts{info: native.SourceInfo(), state: details.State()}
	if !p.operands(native.Expr(), 0) {
		p.add(native.Expr(), 0)
	}
	return p.list
}

// A parts collects the parts of an evaluated expression.
type parts struct {
	info  *ast.SourceInfo
	state interpreter.EvalState
	list  []extauthz.ConditionPart
}

// operands adds the operands of a logical operator, and reports whether e is one.
func (p *parts) operands(e ast.Expr, depth int) bool {
	operator, ok := logical(e)
	if !ok {
		return false
	}
	for _, operand := range flat(e, operator) {
		p.add(operand, depth)
		p.operands(operand, depth+1)
	}
	return true
}

func logical(e ast.Expr) (operator string, ok bool) {
	if e.Kind() != ast.CallKind {
		return "", false
	}
	operator = e.AsCall().FunctionName()
	switch operator {
	case operators.LogicalAnd, operators.LogicalOr, operators.LogicalNot, operators.Conditional:
		return operator, true
	}
	return "", false
}

// flat are the operands of an operator; of a && b && c they are three.
func flat(e ast.Expr, operator string) []ast.Expr {
	var list []ast.Expr
	for _, operand := range e.AsCall().Args() {
		if inner, ok := logical(operand); ok && inner == operator && (operator == operators.LogicalAnd || operator == operators.LogicalOr) {
			list = append(list, flat(operand, operator)...)
		} else {
			list = append(list, operand)
		}
	}
	return list
}

// add adds a part with its result, and with its values if it has no parts itself.
func (p *parts) add(e ast.Expr, depth int) {
	part := extauthz.ConditionPart{Text: p.text(e), Depth: depth, Result: "not evaluated"}
	if value, ok := p.state.Value(e.ID()); ok {
		part.Result = shown(value)
	}
	if _, ok := logical(e); !ok {
		for _, read := range reads(e, nil) {
			p.value(&part, e, read)
		}
	}
	p.list = append(p.list, part)
}

// value adds what a part reads, once, unless that is the part itself.
func (p *parts) value(part *extauthz.ConditionPart, e, read ast.Expr) {
	v := extauthz.ConditionValue{Name: p.text(read), Value: "not read"}
	if value, ok := p.state.Value(read.ID()); ok {
		v.Value = shown(value)
	}
	if read.ID() != e.ID() && !slices.Contains(part.Values, v) {
		part.Values = append(part.Values, v)
	}
}

// text is an expression as it is written.
func (p *parts) text(e ast.Expr) string {
	text, err := cel.ExprToString(e, p.info)
	if err != nil {
		return "?"
	}
	return strings.Join(strings.Fields(text), " ")
}

// reads adds the variables that e reads, with what is selected of them:
// request.segments[1], and not request.segments.
func reads(e ast.Expr, list []ast.Expr) []ast.Expr {
	switch e.Kind() {
	case ast.IdentKind:
		if known(variable(e)) {
			return append(list, e)
		}
	case ast.SelectKind:
		if fromVariable(e) {
			return append(list, e)
		}
		return reads(e.AsSelect().Operand(), list)
	case ast.CallKind:
		return readsOfCall(e, list)
	case ast.ListKind:
		for _, element := range e.AsList().Elements() {
			list = reads(element, list)
		}
	case ast.ComprehensionKind:
		loop := e.AsComprehension()
		return reads(loop.LoopStep(), reads(loop.IterRange(), list))
	}
	return list
}

func readsOfCall(e ast.Expr, list []ast.Expr) []ast.Expr {
	call := e.AsCall()
	args := call.Args()
	switch {
	case call.FunctionName() == operators.Index && fromVariable(e):
		return append(reads(args[1], list), e)
	case call.FunctionName() == operators.In && byName(variable(args[1])):
		return reads(args[0], list) // whether the name is there is the part's result
	case call.IsMemberFunction():
		list = reads(call.Target(), list)
	}
	for _, arg := range args {
		list = reads(arg, list)
	}
	return list
}

// fromVariable reports whether e is a part of one variable.
func fromVariable(e ast.Expr) bool {
	switch e.Kind() {
	case ast.IdentKind:
		return known(variable(e))
	case ast.SelectKind:
		return fromVariable(e.AsSelect().Operand())
	case ast.CallKind:
		return e.AsCall().FunctionName() == operators.Index && fromVariable(e.AsCall().Args()[0])
	}
	return false
}

func known(name string) bool { return largest[name] > 0 || name == ageVariable }

func byName(name string) bool { return name == fieldsVariable || name == headersVariable }

// shown is a value for people, without session IDs.
func shown(value ref.Val) string {
	text := redact.IDs(inWords(value))
	if len(text) > maxValue {
		text = strings.ToValidUTF8(text[:maxValue], "") + "..."
	}
	return text
}

func inWords(value ref.Val) string {
	switch v := value.(type) {
	case *types.Err:
		return errorInWords(v)
	case *types.Unknown:
		return "not evaluated"
	case types.String:
		return strconv.Quote(string(v))
	case types.Duration:
		return v.Duration.Round(time.Millisecond).String()
	case traits.Lister:
		var elements []string
		for i := types.Int(0); i < v.Size().(types.Int); i++ {
			elements = append(elements, inWords(v.Get(i)))
		}
		return "[" + strings.Join(elements, ", ") + "]"
	case traits.Mapper:
		return "a map"
	}
	if text, ok := value.ConvertToType(types.StringType).(types.String); ok {
		return string(text)
	}
	return "?"
}

func errorInWords(err *types.Err) string {
	switch {
	case errors.Is(err, ErrNoSession):
		return "no session"
	case errors.Is(err, ErrAge):
		return "not in the record"
	case strings.HasPrefix(err.Error(), "no such key: "), strings.HasPrefix(err.Error(), "index out of bounds"):
		return "not there"
	}
	return "an error: " + strings.Join(strings.Fields(err.Error()), " ")
}
