package extauthz

import (
	"context"
	"reflect"
	"slices"
	"testing"
)

// A text is a condition that is nothing but its words.
type text string

func (text) Fields() []string                           { return nil }
func (text) Headers() []string                          { return nil }
func (t text) String() string                           { return string(t) }
func (text) Holds(context.Context, Input) (bool, error) { return false, nil }

func TestAtLeast(t *testing.T) {
	roles := func(names ...string) []string { return names }
	for _, test := range []struct {
		p, q Policy
		want bool
	}{
		{Policy{}, Policy{}, true}, {Policy{}, Policy{Session: "none"}, true}, {Policy{}, Policy{Session: "optional"}, true},
		{Policy{Session: "none"}, Policy{}, false}, {Policy{Session: "optional"}, Policy{}, false}, {Policy{Session: "optional"}, Policy{Session: "none"}, true},
		{Policy{Session: "none"}, Policy{Session: "optional"}, false},
		{Policy{Session: "optional", AnyRole: roles("a")}, Policy{}, true},
		{Policy{}, Policy{AnyRole: roles("a")}, false}, {Policy{AnyRole: roles("a")}, Policy{}, true},
		{Policy{AnyRole: roles("a")}, Policy{AnyRole: roles("a", "b")}, true}, {Policy{AnyRole: roles("a", "b")}, Policy{AnyRole: roles("a")}, false},
		{Policy{AllRoles: roles("a", "c")}, Policy{AnyRole: roles("a", "b")}, true}, {Policy{AnyRole: roles("a")}, Policy{AllRoles: roles("a")}, true},
		{Policy{AnyRole: roles("a", "b")}, Policy{AllRoles: roles("a")}, false}, {Policy{AllRoles: roles("a")}, Policy{AllRoles: roles("a", "b")}, false},
		{Policy{AllRoles: roles("a", "b")}, Policy{AllRoles: roles("b")}, true},
		{Policy{Condition: text("x")}, Policy{}, true}, {Policy{Condition: text("x")}, Policy{Condition: text("x")}, true}, {Policy{Condition: text("x")}, Policy{Condition: text("y")}, false},
		{Policy{}, Policy{Condition: text("x")}, false},
		{Policy{Condition: text("false")}, Policy{AllRoles: roles("a"), Condition: text("x"), Origins: []string{}}, true},
		{Policy{Condition: text("false"), Preflight: true}, Policy{}, false},
		{Policy{}, Policy{Origins: []string{}}, false}, {Policy{Origins: []string{}}, Policy{Origins: roles("o")}, true}, {Policy{Origins: roles("o")}, Policy{Origins: []string{}}, false},
		{Policy{Preflight: true}, Policy{}, false}, {Policy{Preflight: true}, Policy{Preflight: true}, true}, {Policy{}, Policy{Preflight: true}, true},
		{Policy{Shadow: true, AnyRole: roles("a")}, Policy{}, false}, {Policy{Shadow: true}, Policy{Session: "none"}, true}, {Policy{}, Policy{Shadow: true, AnyRole: roles("a")}, true},
	} {
		if got := test.p.AtLeast(test.q); got != test.want {
			t.Errorf("%+v at least %+v: %v", test.p, test.q, got)
		}
	}
}

// TestAtLeastKnowsAll: a new field of a policy is one that AtLeast looks at, or one
// that refuses nothing.
func TestAtLeastKnowsAll(t *testing.T) {
	known := []string{"Name", "Session", "AnyRole", "AllRoles", "Condition", "Headers", "Refusal", "Preflight", "Origins", "Shadow"}
	for _, field := range reflect.VisibleFields(reflect.TypeFor[Policy]()) {
		if !slices.Contains(known, field.Name) {
			t.Errorf("does %s ask for something? then AtLeast must compare it", field.Name)
		}
	}
}
