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
//	no, malformed or repeated cookie        401, or 302 to the login URL
//	unknown, expired or broken session      401, or 302 to the login URL
//	live session, none of the route's roles 403
//	context_extensions that make no sense   403, before anything else
//	a request that makes no sense           400, before any lookup
//	optional session, nobody signed in      OK, without identity
//	no session asked for                    OK, without identity or lookup
//	anything else                           503 with Retry-After
//
// Each has a [Reason], which stands in the log line and in the answer's dynamic
// metadata (namespace envoy.filters.http.ext_authz: reason, session).
//
// A fault is a denial with status 503 and never a gRPC error: Envoy hands errors
// to failure_mode_allow, and denials it always honours (CVE-2023-27488,
// CVE-2024-23324). For the same reason [Codec] reads a CheckRequest whatever
// bytes it holds. A caller that hangs up says nothing about the session.
//
// # Routes
//
// What a route needs arrives in the CheckRequest's context_extensions, which
// Envoy takes from its configuration and a client cannot forge. Paths are not
// matched again (CVE-2023-33189).
//
//	coatcheck.session   required (the default), optional or none
//	coatcheck.roles     names of A-Z a-z 0-9 _ . : - separated by commas, any of
//	                    which is enough
//
// Both together mean both. An unknown key or value, an empty list and roles on a
// route with none deny.
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
// early removal of the prefix; and decoder_header_mutation_rules must permit
// cookie, the prefix and its aliases. A WebSocket is checked once, when it
// begins.
package extauthz
