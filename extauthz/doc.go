// Package extauthz answers Envoy's external authorization checks
// (envoy.service.auth.v3.Authorization) by the session that a request's cookie
// names. It knows sessions and Envoy, and no Redis: a [Server] asks [Sessions],
// which *sessions.Manager is.
//
//	server, err := extauthz.New(manager, extauthz.Config{LoginURL: "/login"})
//	...
//	g := grpc.NewServer(grpc.ForceServerCodecV2(extauthz.Codec()))
//	extauthz.Register(g, server)
//
// # Verdicts
//
//	live session                            OK, with identity
//	no, malformed or repeated cookie, or    401, or 302 to the login URL
//	one behind a comma
//	unknown, expired or broken session      401, or 302 to the login URL
//	live session, a role is missing         403
//	the policy's condition does not hold    403
//	context_extensions that make no sense   403, before anything else
//	an unknown policy                       403, likewise
//	a request that makes no sense           400, before any lookup
//	a path that has two readings            400, before any lookup, on every route
//	a host that has two readings            400, where a rule or a condition reads it
//	another site's page sent it             403, before any lookup, where checked
//	a CORS preflight, where let through     OK, without identity or lookup
//	optional session, nobody signed in      OK, without identity
//	no session asked for                    OK, without identity or lookup
//	anything else                           503 with Retry-After
//
// Each has a [Reason], which stands in the log line and in the answer's dynamic
// metadata (namespace envoy.filters.http.ext_authz: reason, session, policy).
//
// A fault is a denial with status 503 and never a gRPC error: Envoy hands errors
// to failure_mode_allow, and denials it always honours (CVE-2023-27488,
// CVE-2024-23324). For the same reason [Codec] reads a CheckRequest whatever
// bytes it holds. A caller that hangs up says nothing about the session.
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
// Several mean all of them. Any other key (unless Config.IgnoreKeys names it), an
// unknown value or policy, an empty list and roles on a route with none deny.
//
// # Policies and rules
//
// [Server.SetPolicies] gives a server named policies. Where a route names none the
// first of the rules that matches decides, else the default, else the short form
// alone. The short form always adds to a policy and never takes away: a route
// with coatcheck.session none whose rule or default needs a session needs one.
//
// Rules and conditions read the path without its query, decoded, and the host in
// lower case without port. Before they do, more is refused than on every route:
// "//", segments "." and "..", ";", "\", "#", a percent sign before anything but
// upper-case hex of UTF-8, of a blank, of "<>[]^`{|} or of !$&'()*+,=:@; a Host
// with userinfo, commas, a dot at the end or an address in a form of its own. The
// comments of canonicalPath and canonicalHost have the whole of it. The letter case
// of a path counts. Headers such as X-Forwarded-Host, X-Original-URL and
// X-HTTP-Method-Override are not read.
//
// A policy in shadow mode refuses nobody, not even in an outage, and is counted
// and logged as if it did. What the route's short form asks for, a request that
// makes no sense and a path that has no rule's reading are refused as ever.
//
// [Server.Explain] says why a request is decided as it is.
//
// # Refusals
//
// Without policies a body is plain text. With them it is a problem (RFC 9457) or a
// page, as the Accept header prefers, and plain text for who names neither; texts,
// page and login URL can be a policy's own. gRPC clients get no body.
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
// The session cookie is cut out of the Cookie header, however often it came, and
// every other cookie stays as it was. Pairs that are not UTF-8 are dropped when
// the header is rewritten: an answer holds protobuf strings.
//
// With Config.Bearer the ID may come as "Authorization: Bearer <ID>" instead, by
// the cookie's rules; the header is then removed. Envoy must show it
// (allowed_headers) and permit its removal (decoder_header_mutation_rules).
//
// # What Envoy must do
//
// envoy/envoy.yaml is a configuration to copy. In particular allowed_headers can
// hide headers that the server would have to remove, so it goes together with an
// early removal of the prefix, and trailers, which no check is shown, with a
// removal of their own; it must show origin, upgrade, sec-fetch-site and
// access-control-request-method where policies rest on them, and what conditions
// read; and decoder_header_mutation_rules must permit cookie, the prefix and its
// aliases. A WebSocket is checked once, when it
// begins.
package extauthz
