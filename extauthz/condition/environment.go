package condition

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/cost"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
)

// maxCost bounds an expression's cost, in CEL's units, of which the cheapest step
// costs one: when it is compiled, for the largest input; and whenever it is
// evaluated, for the input at hand.
const maxCost = 20_000

// largest says how large the variables can be: strings in bytes, the list of
// roles in names. Sessions and Envoy have their own limits; these are for the
// estimate, and a larger value meets the limit on the cost itself.
var largest = map[string]uint64{
	"session.user_id": 256, "session.username": 256, "session.roles": 256, "session.fields": 4096,
	"request.method": 32, "request.host": 255, "request.path": 8192, "request.segments": 256, "request.headers": 8192,
	"source.address": 64, "source.principal": 1024,
}

// items are the elements of the lists, and the values of the maps.
var items = map[string]uint64{"session.roles": 128, "request.segments": 1024, "session.fields": 4096, "request.headers": 8192}

const inCIDR = "inCIDR"

// environment is what expressions are compiled in. It is made once, because making it
// takes longer than compiling an expression.
var environment = sync.OnceValues(func() (*cel.Env, error) {
	text, texts := cel.StringType, cel.ListType(cel.StringType)
	byName := cel.MapType(cel.StringType, cel.StringType)
	return cel.NewEnv(
		cel.Variable("session.user_id", text),
		cel.Variable("session.username", text),
		cel.Variable("session.roles", texts),
		cel.Variable("session.age", cel.DurationType),
		cel.Variable("session.fields", byName),
		cel.Variable("request.method", text),
		cel.Variable("request.host", text),
		cel.Variable("request.path", text),
		cel.Variable("request.segments", texts),
		cel.Variable("request.headers", byName),
		cel.Variable("source.address", text),
		cel.Variable("source.principal", text),
		cel.Function(inCIDR, cel.MemberOverload("string_in_cidr", []*cel.Type{text, text}, cel.BoolType,
			cel.BinaryBinding(addressIn))),
		cel.ParserExpressionSizeLimit(maxLength),
		cel.ParserRecursionLimit(32),
		cel.ParserErrorRecoveryLimit(4),
		cel.ExpressionNodeLimit(512),
		cel.RegexProgramSizeLimit(1000),
	)
})

// addressIn is inCIDR. A text that is not an address is an error, and not outside.
func addressIn(address, network ref.Val) ref.Val {
	ip, err := netip.ParseAddr(string(address.(types.String)))
	if err != nil {
		return types.NewErr("no IP address")
	}
	prefix, err := parseCIDR(string(network.(types.String)))
	if err != nil {
		return types.NewErr("no network")
	}
	return types.Bool(prefix.Contains(ip.Unmap().WithZone("")))
}

// parseCIDR takes a network in its one spelling: bits beyond its length are probably
// a mistake.
func parseCIDR(text string) (netip.Prefix, error) {
	prefix, err := netip.ParsePrefix(text)
	switch {
	case err != nil:
		return prefix, fmt.Errorf("%q is not a network such as 10.0.0.0/8", text)
	case prefix.Addr().Is4In6():
		return prefix, fmt.Errorf("%q: write it as IPv4", text)
	case prefix != prefix.Masked():
		return prefix, fmt.Errorf("%q has bits beyond its length; the network is %s", text, prefix.Masked())
	}
	return prefix, nil
}

// affordable refuses an expression that could cost too much.
func affordable(env *cel.Env, ast *cel.Ast) error {
	estimate, err := env.EstimateCost(ast, sizes{})
	if err != nil {
		return errors.New("its cost cannot be estimated")
	}
	if estimate.Max > maxCost {
		return fmt.Errorf("it could cost %d, and a condition may cost %d: loops within loops and patterns on long text are dear", estimate.Max, maxCost)
	}
	return nil
}

// sizes gives the estimator the largest sizes of the variables.
type sizes struct{}

// EstimateSize knows the variables and their elements.
func (sizes) EstimateSize(node cost.AstNode) *cost.SizeEstimate {
	path := node.Path()
	if len(path) == 0 {
		return nil
	}
	size, known := largest[path[0]]
	if len(path) > 1 && path[1] != "@keys" {
		size, known = items[path[0]]
	}
	if !known {
		return nil
	}
	return &cost.SizeEstimate{Max: size}
}

// EstimateCallCost knows inCIDR: parsing an address takes a few steps.
func (sizes) EstimateCallCost(function, _ string, _ *cost.AstNode, _ []cost.AstNode) *cost.CallEstimate {
	if function != inCIDR {
		return nil
	}
	return cost.NewCallEstimate(cost.RangedCostEstimate(1, 10), nil)
}
