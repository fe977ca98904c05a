package condition

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/interpreter"

	"github.com/coatcheck/coatcheck/extauthz"
)

// maxLength bounds an expression, in bytes.
const maxLength = 4096

// A Condition is a compiled expression. It is safe for concurrent use.
type Condition struct {
	text    string
	program cel.Program
	fields  []string
	headers []string
	absent  []string
}

var _ extauthz.Condition = (*Condition)(nil)

// Compile reads an expression that is true or false. Its error names every
// mistake with its column, on one line, and may repeat the expression.
func Compile(text string) (*Condition, error) {
	if len(text) > maxLength {
		return nil, fmt.Errorf("a condition of %d bytes; it can have %d", len(text), maxLength)
	}
	env, err := environment()
	if err != nil {
		return nil, err
	}
	ast, issues := env.Compile(text)
	if issues != nil && issues.Err() != nil {
		return nil, fmt.Errorf("%w%s", mistakes(issues), cure(text))
	}
	if ast.OutputType() != cel.BoolType {
		return nil, fmt.Errorf("a condition is true or false, and this is of type %s", cel.FormatCELType(ast.OutputType()))
	}
	c := &Condition{text: text, absent: absent(ast)}
	if c.fields, c.headers, err = names(ast); err != nil {
		return nil, err
	}
	if err := affordable(env, ast); err != nil {
		return nil, err
	}
	c.program, err = env.Program(ast, cel.EvalOptions(cel.OptOptimize), cel.CostLimit(maxCost))
	if err != nil {
		return nil, fmt.Errorf("it cannot be evaluated: %w", err)
	}
	return c, nil
}

// mistakes are the compiler's messages, on one line and without the picture below
// each.
func mistakes(issues *cel.Issues) error {
	var all []string
	for _, e := range issues.Errors() {
		said, _, _ := strings.Cut(e.Message, "\n")
		where := fmt.Sprintf("column %d", max(e.Location.Column(), 0)+1)
		if e.Location.Line() > 1 {
			where = fmt.Sprintf("its line %d, %s", e.Location.Line(), where)
		}
		all = append(all, where+": "+said)
	}
	return errors.New(strings.Join(slices.Compact(all), "; "))
}

// Fields lists the application fields that the expression reads, sorted, and
// created_at for session.age.
func (c *Condition) Fields() []string { return slices.Clone(c.fields) }

// Headers lists the request headers that the expression reads, in lower case and
// sorted. Envoy's allowed_headers must let them through.
func (c *Condition) Headers() []string { return slices.Clone(c.headers) }

// AbsentHeaders lists the request headers, sorted, whose absence can make the
// expression true, as in !("x-bot" in request.headers). A client can always leave a
// header out, and Envoy's allowed_headers hides each header that it does not name. In
// doubt AbsentHeaders lists the header.
func (c *Condition) AbsentHeaders() []string { return slices.Clone(c.absent) }

// String is the expression as it was written.
func (c *Condition) String() string { return c.text }

// The errors of [Condition.Holds]. They hold no value of the session or the request,
// because errors are logged.
var (
	// ErrNoSession: the expression needs a session, and the client is not signed in.
	ErrNoSession = errors.New("the condition reads the session, and the client is not signed in")
	// ErrAge: the record lacks the time at which the session was created, or that
	// time is still to come.
	ErrAge = errors.New("the condition reads session.age, and the record lacks it")
	// ErrAbsent: the session lacks a field, or the request a header.
	ErrAbsent = errors.New("the condition reads what is not there")
	// ErrCost: the evaluation cost more than a condition may.
	ErrCost = errors.New("the condition costs too much for this request")
	// ErrFailed: another error, such as a division by zero.
	ErrFailed = errors.New("the condition cannot be evaluated for this request")
)

// Holds evaluates the expression. It takes microseconds, and does not look at ctx: a
// caller that hangs up does not change the decision.
func (c *Condition) Holds(_ context.Context, in extauthz.Input) (bool, error) {
	value, _, err := c.program.Eval(&input{in})
	if err != nil {
		return false, c.blamed(err)
	}
	return value == types.True, nil
}

// blamed returns the kind of an error. CEL's text can repeat values; only the name of
// an absent field or header is kept, which stands in the expression, too.
func (c *Condition) blamed(err error) error {
	for _, ours := range []error{ErrNoSession, ErrAge} {
		if errors.Is(err, ours) {
			return ours
		}
	}
	var cancelled interpreter.EvalCancelledError
	name, absent := strings.CutPrefix(err.Error(), "no such key: ")
	switch {
	case errors.As(err, &cancelled):
		return ErrCost
	case absent && slices.Contains(c.fields, name):
		return fmt.Errorf("%w: session.fields[%q]", ErrAbsent, name)
	case absent && slices.Contains(c.headers, name):
		return fmt.Errorf("%w: request.headers[%q]", ErrAbsent, name)
	}
	return ErrFailed
}
