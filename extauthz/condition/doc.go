// Package condition gives policies conditions in CEL, the Common Expression
// Language (https://cel.dev): expressions over the session and the request that
// are true or false, have no side effects, and always end.
//
//	c, err := condition.Compile(`session.age < duration("5m")`)
//	...
//	ok, err := c.Holds(ctx, extauthz.Input{Session: session, Now: now})
//
// # Variables
//
//	session.user_id       string
//	session.username      string, empty if the record has none
//	session.roles         list(string)
//	session.age           duration since the session was created
//	session.fields        map(string, string), the application fields
//	request.method        string, as it came: "GET"
//	request.host          string, in lower case and without port
//	request.path          string, without query, decoded and canonical
//	request.segments      list(string), the path between its slashes: the third of
//	                      /a/b/ is empty, and / has none
//	request.headers       map(string, string), names in lower case
//	source.address        string, the peer of Envoy
//	source.principal      string, its name in the certificate; may be empty
//
// Beside CEL's own functions there is
//
//	source.address.inCIDR("10.0.0.0/8")
//
// A field and a header are named in quotes where they are used, as in
// session.fields["tenant"], session.fields.tenant, has(session.fields.tenant) or
// "tenant" in session.fields: so [Condition.Fields] and [Condition.Headers] know
// before the first check what to read. A computed name is refused, as are names that
// cannot exist, and request.headers["cookie"], which holds the session ID.
//
// # Errors
//
// An absent value is an error and not false: any session variable where the client is
// not signed in, session.age where the record lacks its time, a field that the session
// lacks, a header that did not come. An error denies. As in all of CEL, an error on
// one side of && or || does not matter where the other side decides:
// has(session.fields.tenant) && session.fields.tenant == "acme" is false, and no
// error, for a session without the field.
//
// # Limits
//
// An expression has at most 4096 bytes. Its cost is estimated when it is compiled,
// and refused where it could be too high; it is counted when the expression is
// evaluated, too. Both limits are far above the cost of one comparison after another,
// and below about a millisecond.
package condition
