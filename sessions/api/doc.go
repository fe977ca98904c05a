// Package api answers other services' questions about sessions, over gRPC, gRPC-Web and
// JSON on one port:
//
//	server, err := api.New(manager, api.Config{Callers: callers, Decide: decide})
//	http.Handle(server.Handler())
//
// What may be asked, the proto says: coatcheck/sessions/v1/sessions.proto, from which package
// sessionsv1 is made. docs/api.md is its page.
//
// # A call
//
// [Server] looks at a request in this order, so that what comes later costs a stranger
// nothing: its headers, who calls ([Callers]: by a certificate or a token), the right that
// the method needs, and only then the body. A call names a session by its key or, with a
// right of its own, by its ID. What it may not see is not read.
//
// Get, ListUserSessions and Watch never slide a session. Check does where the caller asks for
// it and may.
//
// # Absent, unavailable, denied
//
// A session that is certainly not there is NOT_FOUND, as [sessions.Absent] has it; a store
// that is away, or late, is UNAVAILABLE; that a session may not do something is an answer of
// Check. The three are never confused.
//
// # What is kept secret
//
// No error repeats a part of the request, also where connect-go and protojson would: they
// decode with codecs of this package. No line of the log and no metric has an ID, a field, a
// user or a role. No method can be called with GET, which would put an ID into a URL.
// Messages are not compressed, so that a small body cannot become a large one.
//
// # Decisions
//
// The package knows no policies. [Config.Decide] brings them: the program coatcheck hands over
// what `coatcheck explain` uses.
package api
