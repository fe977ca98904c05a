// Package extauthz is an external authorization server for Envoy
// (envoy.service.auth.v3.Authorization): it decides requests by the session that a
// cookie names. For most uses, three lines are enough:
//
//	server, err := extauthz.New(manager, extauthz.Config{LoginURL: "/login"})
//	g := grpc.NewServer(grpc.ForceServerCodecV2(extauthz.Codec()))
//	extauthz.Register(g, server)
//
// The manager is a *sessions.Manager, or other [Sessions]. The package knows sessions
// and Envoy, and no store.
//
// # How a check flows
//
//	wire.go      the bytes become a request        (request.go: what is kept of it)
//	service.go   gRPC's handler; each check ends in an answer, also after a panic
//	decide.go    three steps, each of which can end with a reason to refuse:
//	               screen    route.go: what the route asks for; choose.go: which policy
//	                         holds; origin.go: did another site's page send it
//	               identify  one lookup of the session, if route or policy need it
//	               judge     the route's requirement, the policy's, its condition
//	reason.go    the one table of reasons: what each answers, and which are faults
//	response.go  Envoy's answer; headers.go: identity; refusal.go: bodies and
//	             redirects; page.go: for people
//	log.go, metrics.go   the record of it
//	memory.go    what a check works in, used again by the next; deadline.go: how long
//	             its lookup takes at most
//
// compile.go makes policies ready. Beside this package, rules finds the rule for a
// request, condition is CEL for policies, internal/canonical says which paths, hosts
// and header names have one reading, internal/redact takes session IDs out of text,
// internal/answer makes the bytes of an answer.
//
// # Verdicts
//
//	live session                            OK, with identity
//	no, malformed or repeated cookie, or    401, or 302 to the login URL
//	one behind a comma
//	unknown, expired or broken session      401, or 302 to the login URL
//	live session, a role is missing         403
//	the policy's condition does not hold    403
//	context_extensions that make no sense   403, before any other step
//	an unknown policy                       403, likewise
//	a request that makes no sense           400, before any lookup
//	a path that has two readings            400, before any lookup, on every route
//	a host that has two readings            400, where a rule or a condition reads it
//	another site's page sent it             403, before any lookup, where checked
//	a CORS preflight, where let through     OK, without identity or lookup
//	optional session, client not signed in  OK, without identity
//	no session asked for                    OK, without identity or lookup
//	any fault                               503 with Retry-After
//
// Each has a [Reason], which stands in the log line and in the answer's dynamic
// metadata (namespace envoy.filters.http.ext_authz: reason, session, policy).
//
// A fault is a denial with status 503 and never a gRPC error: Envoy hands errors
// to failure_mode_allow, and always honours denials (CVE-2023-27488,
// CVE-2024-23324). For the same reason the service reads a CheckRequest of any bytes. A
// caller that hangs up does not change the decision.
//
// # Routes
//
// What a route needs arrives in the CheckRequest's context_extensions, which
// Envoy takes from its configuration and a client cannot forge. But the client
// chooses the route, by a path that an upstream may read in another way than
// Envoy. So the path of every request must have one reading ([Paths]); it is not
// matched again (CVE-2023-33189) unless there are rules. A method is 1 to 32
// characters of A-Z and "-".
//
//	coatcheck.session   required (the default), optional or none
//	coatcheck.roles     names of A-Z a-z 0-9 _ . : - separated by commas, any of
//	                    which is enough
//	coatcheck.policy    the name of a policy
//	coatcheck.paths     safe, parameters or strict, in place of Config.Paths
//
// All keys of a route must be met. Any other key (unless Config.IgnoreKeys names it),
// an unknown value or policy, an empty list, and roles on a route with none deny.
//
// # Policies and rules
//
// [Server.SetPolicies] gives a server named policies. Where a route names no policy,
// the first rule that matches decides, else the default, else the short form above
// alone. The short form always adds to a policy and never takes away: a route
// with coatcheck.session none still needs a session if its rule or default needs one.
//
// Rules and conditions read the path without its query, decoded, and the host in
// lower case without port. For them more paths are refused than on every route: "//",
// segments "." and "..", ";", "\", "#", lower-case hex digits, and other spellings that
// internal/canonical lists; and a Host with userinfo, commas, a dot at the end or an
// address in another form than the usual one. The letter case of a path counts.
// Headers such as X-Forwarded-Host, X-Original-URL and X-HTTP-Method-Override are not
// read.
//
// A policy in shadow mode refuses no request, also in an outage, and counts and logs
// what it would have refused. The route's short form, a request that makes no sense
// and a path that rules cannot read are refused as without shadow mode.
//
// [Server.Explain] says why a request is decided as it is.
//
// # Refusals
//
// A person, who follows a link or sends a form, gets a page in the language of the
// browser: en, de, pt, es or fr, by Accept-Language. It has the status and the request's
// ID, and no cause and no name. Other clients get plain text without policies. With them
// they get a problem (RFC 9457) or a page, as the Accept header prefers, and plain text
// where it names neither; a policy can have its own texts, page and login URL. gRPC
// clients get no body.
//
// # Headers
//
// All names under one prefix, x-user- by default, belong to the server. Every OK,
// anonymous ones included, sets each of them (OVERWRITE_IF_EXISTS_OR_ADD) or
// names it in headers_to_remove, never both, because Envoy removes last, and
// never empty, because newer Envoys skip an empty value. Incoming headers whose
// normal form (lower case, every byte outside a-z and 0-9 read as "-") begins with
// the prefix are removed under the name that they came by; grpc-web's
// x-user-agent is left alone. Values are percent-encoded outside visible ASCII
// and for "%" and ","; lists are joined by commas.
//
// The session cookie is cut out of the Cookie header at every place, and every other
// cookie stays as it was. Pairs that are not UTF-8 are dropped when the header is
// rewritten, because an answer holds protobuf strings.
//
// With Config.Bearer the ID may come as "Authorization: Bearer <ID>" instead, by
// the cookie's rules; the header is then removed. Envoy must let it through
// (allowed_headers) and permit its removal (decoder_header_mutation_rules).
//
// # What Envoy must do
//
// Copy envoy/envoy.yaml. It removes the prefix early, because allowed_headers can hide
// headers that the server would have to remove, and it removes trailers, which no
// check sees. Its allowed_headers let through the headers that the server reads
// ([PolicySet.RequestHeaders]). Its decoder_header_mutation_rules permit cookie, the
// prefix and its aliases. A WebSocket is checked once, when it begins.
package extauthz
