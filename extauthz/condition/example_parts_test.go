package condition_test

import (
	"context"
	"fmt"

	"github.com/coatcheck/coatcheck/extauthz"
	"github.com/coatcheck/coatcheck/extauthz/condition"
	"github.com/coatcheck/coatcheck/sessions"
)

// Why a condition does not hold, for the person who operates Coatcheck.
func ExampleCondition_Parts() {
	c, err := condition.Compile(`session.fields["tenant"] == request.segments[1] && "admin" in session.roles`)
	if err != nil {
		fmt.Println(err)
		return
	}
	session := &sessions.Session{Roles: []string{"admin"}, Fields: map[string]string{"tenant": "acme"}}
	for _, part := range c.Parts(context.Background(), extauthz.Input{Session: session, Path: "/tenants/evil"}) {
		fmt.Println(part.Text, "is", part.Result)
		for _, v := range part.Values {
			fmt.Println(" ", v.Name, "is", v.Value)
		}
	}
	// Output:
	// session.fields["tenant"] == request.segments[1] is false
	//   session.fields["tenant"] is "acme"
	//   request.segments[1] is "evil"
	// "admin" in session.roles is true
	//   session.roles is ["admin"]
}
