package extauthz_test

import (
	"context"
	"fmt"
	"strings"

	"github.com/coatcheck/coatcheck/extauthz"
	"github.com/coatcheck/coatcheck/sessions"
)

// tenants is a condition that can say what it compares, as those of package condition
// can.
type tenants struct{}

var _ extauthz.ExplainedCondition = tenants{}

func (tenants) Fields() []string  { return []string{"tenant"} }
func (tenants) Headers() []string { return nil }
func (tenants) String() string    { return "the tenant is acme" }
func (tenants) Holds(_ context.Context, in extauthz.Input) (bool, error) {
	return in.Session.Fields["tenant"] == "acme", nil
}

func (tenants) Parts(_ context.Context, in extauthz.Input) []extauthz.ConditionPart {
	return []extauthz.ConditionPart{{Text: "tenant == acme", Result: "false", Values: []extauthz.ConditionValue{{Name: "tenant", Value: in.Session.Fields["tenant"]}}}}
}

// What a decision compared: roles, and the parts of a condition.
func ExampleServer_Explain_compared() {
	server, err := extauthz.New((*sessions.Manager)(nil), extauthz.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := server.SetPolicies(extauthz.PolicySet{Default: "acme", Policies: []extauthz.Policy{
		{Name: "acme", AnyRole: []string{"staff", "admin"}, Condition: tenants{}},
	}}); err != nil {
		fmt.Println(err)
		return
	}
	ada := &sessions.Session{UserID: "42", Roles: []string{"staff"}, Fields: map[string]string{"tenant": "evil"}}
	why, err := server.Explain(context.Background(), request("/", nil, nil), extauthz.WithSession(ada, nil))
	if err != nil {
		fmt.Println(err)
		return
	}
	compared(why.Needs, why.Parts)
	text, err := why.MarshalJSON()
	if err != nil {
		fmt.Println(err)
		return
	}
	var same extauthz.Explanation
	err = same.UnmarshalJSON(text)
	fmt.Println(same.Verdict, same.Reason, err, strings.Contains(string(text), `"reason":"condition_false"`))
	// Output:
	// policy: needs any of staff, admin; has staff
	// tenant == acme: false, for evil
	// deny condition_false <nil> true
}

func compared(needs []extauthz.Need, parts []extauthz.ConditionPart) {
	for _, need := range needs {
		fmt.Printf("%s: %s\n", need.By, need.Text)
	}
	for _, part := range parts {
		fmt.Printf("%s: %s, for %s\n", part.Text, part.Result, part.Values[0].Value)
	}
}

// What a policy reads of a session is what it is looked up with.
func ExampleWithLookup() {
	server, err := extauthz.New((*sessions.Manager)(nil), extauthz.Config{})
	if err == nil {
		err = server.SetPolicies(shop)
	}
	if err != nil {
		fmt.Println(err)
		return
	}
	var lookup extauthz.Lookup = func(_ context.Context, fields []string) (*sessions.Session, error) {
		fmt.Println("reads", fields)
		return nil, sessions.ErrNotFound
	}
	why, err := server.Explain(context.Background(), request("/gold/1", nil, nil), extauthz.WithLookup(lookup))
	fmt.Println(why.Allow, why.Reason, err)
	// Output:
	// reads [plan]
	// false not_found <nil>
}
