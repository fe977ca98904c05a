package condition_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/coatcheck/coatcheck/extauthz"
	"github.com/coatcheck/coatcheck/extauthz/condition"
	"github.com/coatcheck/coatcheck/sessions"
)

func ExampleCompile() {
	c, err := condition.Compile(`session.fields.tenant == "acme" && !("x-bot" in request.headers)`)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(c.Fields(), c.Headers(), c.AbsentHeaders())
	ask(c, &sessions.Session{Fields: map[string]string{"tenant": "acme"}})
	ask(c, &sessions.Session{})
	ask(c, nil)
	// Output:
	// [tenant] [x-bot] [x-bot]
	// true <nil>
	// false: the condition reads what is not there: session.fields["tenant"]
	// false: the client is not signed in
}

func ask(c *condition.Condition, s *sessions.Session) {
	ok, err := c.Holds(context.Background(), extauthz.Input{Session: s})
	switch {
	case errors.Is(err, condition.ErrNoSession):
		fmt.Println("false: the client is not signed in")
	case errors.Is(err, condition.ErrAge), errors.Is(err, condition.ErrCost), errors.Is(err, condition.ErrFailed):
		fmt.Println("the record lacks its time, or the expression costs too much or divides by zero")
	case errors.Is(err, condition.ErrAbsent):
		fmt.Printf("%v: %v\n", ok, err)
	default:
		fmt.Println(ok, err)
	}
}
