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

// TestAtLeastComparesEveryField: a policy that differs from another in one field alone
// asks for more, or for no less, as the field says. Fields that refuse no request are
// named here.
func TestAtLeastComparesEveryField(t *testing.T) {
	refuseNothing := []string{"Name", "Headers", "Refusal"}
	stricter := map[string][2]Policy{
		"Session":   {{Session: "required"}, {Session: "none"}},
		"AnyRole":   {{AnyRole: []string{"a"}}, {}},
		"AllRoles":  {{AllRoles: []string{"a"}}, {}},
		"Condition": {{Condition: text("x")}, {}},
		"Preflight": {{}, {Preflight: true}},
		"Origins":   {{Origins: []string{}}, {}},
		"Shadow":    {{}, {Shadow: true}},
	}
	for _, field := range reflect.VisibleFields(reflect.TypeFor[Policy]()) {
		pair, ok := stricter[field.Name]
		if ok == slices.Contains(refuseNothing, field.Name) {
			t.Errorf("%s: does it refuse requests? then AtLeast must compare it", field.Name)
		}
		if !ok {
			continue
		}
		if p, q := pair[0], pair[1]; !p.AtLeast(q) || q.AtLeast(p) {
			t.Errorf("%s: %v, and the other way round %v", field.Name, p.AtLeast(q), q.AtLeast(p))
		}
		p := reflect.ValueOf(&pair[0]).Elem().FieldByIndex(field.Index)
		p.Set(reflect.ValueOf(pair[1]).FieldByIndex(field.Index))
		if !reflect.DeepEqual(pair[0], pair[1]) {
			t.Errorf("%s is not all that differs", field.Name)
		}
	}
}
