// Package login signs people in and out. Most programs write these lines:
//
//	users, err := userfile.Open("users.yaml") // or pgusers.New, or a Source of your own
//	checked, err := passwords.New(users, passwords.Config{})
//	handler, err := login.New(login.Config{
//		Users: checked, Sessions: manager, Counters: redisstore.NewCounters(client),
//	})
//	http.Handle("/.auth/", handler) // and /.well-known/change-password, see below
//
// The [http.Handler] takes a username and a password, asks an [Authenticator] to whom
// they belong, makes the session and hands its ID to the browser. Package passwords
// makes an Authenticator of hashes; for anything else, such as LDAP, write one. A
// [Method] signs in another way, beside the password form or in its place.
//
// # Endpoints
//
// All below one base path, /.auth/ unless configured, which itself leads to login:
//
//	login              GET   the form, or the user who is signed in
//	                   POST  form: username, password, rd          303 to rd, with the cookie
//	                         JSON: username, password, return,     200 with the user, the
//	                         bearer                                location and, if asked for, the id
//	logout             GET   asks                                  200
//	                   POST  ends every presented session          303 to login; JSON: 204
//	logout/everywhere  POST  ends all sessions of the user         303 to login; JSON: 204
//	sessions           GET   where the user is signed in, at most  200; JSON: the same as a list,
//	                         100 of them                           and how many more there are
//	                   POST  handle=H ends one, others=1 the rest  303; JSON: 204
//	session            GET   the user who is signed in, as JSON    200; 401 without one
//
// Beside them, GET /.well-known/change-password leads to [Config.PasswordURL], for
// password managers, if your program sends that path here, too. Without a PasswordURL it
// is a 404.
//
// A JSON client sends Content-Type application/json, or an Accept that names JSON
// and not text/html; it gets refusals as application/problem+json (RFC 9457) with
// a member code, such as bad_credentials. docs/login.md lists the codes with their
// statuses. 429 and 503 carry Retry-After. Browsers get the same as a page that works
// without JavaScript.
//
// No endpoint slides a session: a page that asks now and then who is signed in
// would keep it alive for ever.
//
// # A login, in its order
//
//  1. A POST from another origin is refused ([http.CrossOriginProtection]; OWASP
//     ASVS 5.0, 3.5.1), and one whose body is over 16 KiB or not understood.
//  2. Credentials that no account can have are refused like a wrong password, without
//     work and without being counted: an empty username or password, a username over 256
//     bytes, with control characters or not in UTF-8, a password over 1 KiB.
//  3. The attempt is counted, before the password is looked at and atomically, so
//     that the limit holds for thousands in parallel. If the attempt has to wait: 429.
//     If Redis cannot count: 503, and the password is not checked.
//  4. The Authenticator is asked. Unknown user and wrong password get the same
//     answer, to the byte (ASVS 6.3.8); that they take the same time is the
//     Authenticator's part. A password that was not checked, because the
//     Authenticator was busy (503) or its source down (503), is not counted.
//  5. The failures of this account at this address are forgotten.
//  6. A session with a new ID is made (ASVS 7.2.4), and then every presented session is
//     ended, of any user, so that an ID that an attacker has planted in the browser is
//     of no use (session fixation).
//  7. The answer sets the cookie.
//
// Steps 6 and 7 are [Handler.SignIn], in which every [Method] ends.
//
// From 5 on the work does not depend on the client staying. If a step fails: 503, and
// the cookie is not touched. If a presented session cannot be ended, the new one is
// ended as well; where that fails, too, it is left as by a crash. A crash between
// making the new session and ending the presented one leaves both: the ID of the new
// one has reached no client, and it dies of its idle timeout; the old one is as it
// was, and its user can sign it out. The other order would sign out a user whose login
// then fails.
//
// A user whom no session can hold, such as one with an attribute of a reserved
// name, is a mistake in the user source: 503, and the log says what is wrong.
//
// # Signing out
//
// Logout ends the sessions first and clears the cookie second. A request presents all
// IDs in cookies of the name and, with [Config.BearerLogin], in Authorization, each of
// which would admit a request with this ID alone ([sessions.Cookie.AllPresented]), also
// where together they do not. Up to [sessions.MaxPresented] are ended. With more, or if
// Redis does not end one, the answer is 503 and the cookie stays: else the browser
// would look signed out while a copy of an ID goes on. The others have ended all the
// same. logout/everywhere means the users of all presented sessions.
//
// # The throttle
//
// Up to four counters count one attempt, all of them or none: of the account at its
// address prefix, of the account, of the prefix and of the site. An attempt that comes
// too early is answered 429 with Retry-After and is not counted; no request sleeps. A
// success clears the first counter and gives back its own attempt to the others, so that
// an attacker's own account buys no attempts at other accounts. Package throttle has the
// rules; docs/login.md has the numbers, and says why no attacker can lock a user out for
// good. Watch coatcheck_logins_total{outcome="refused"}.
//
// The client's address is the address of the connection. Where the connection comes
// from one of [Config.TrustedProxies], it is read from X-Forwarded-For: from the last
// address backwards, as long as each is a trusted proxy's, over at most
// [Config.TrustedHops] addresses. Behind a proxy that is not named, or with trusted hops
// 0, all users share one prefix, and the throttle stops them all.
//
// # Return addresses
//
// rd is a path of this origin, or begins with an origin of
// [Config.ReturnOrigins]; at most 2 KiB, without backslashes and control
// characters. Anything else is ignored, not refused, and leads to "/" (ASVS
// 3.7.2). It is checked when the form is shown and again when it is posted.
// Chromium applies form-action to all redirects that follow a post: if your
// application redirects from rd to yet another origin, put that one on the list.
//
// # Pages
//
// The pages and the details of refusals come in English, German, Portuguese, Spanish and
// French, as the client prefers by Accept-Language; see [Config.Lang],
// [Config.Languages] and [Config.Texts]. docs/login.md has more.
//
// The login page names the place to which it leads. The address is chosen by other
// sites, so the page shows one word of the path at most, or the host of a return origin.
//
// [Config.Templates] replaces files of the folder templates: layout.html, which
// every page is put into, login.html, account.html, logout.html, sessions.html and
// error.html, and the stylesheet style.css. They are parsed and tried by New, in every
// language. The Content-Security-Policy allows that stylesheet and images in data: URLs,
// nothing else: no script, no style attribute, no address of another file. Every
// answer also carries Strict-Transport-Security ([Config.HSTS]).
//
// # Logs and metrics
//
// Each login is one line: outcome, address and, where it succeeded, user ID and
// handle of the session, else a pseudonym of the account that holds until the
// process ends. What was typed is never logged, because people type passwords into
// the wrong field. coatcheck_logins_total counts by outcome: success, refused,
// throttled, busy, unavailable, cancelled, invalid.
//
// Each session that is ended here is one line, "session ended", with its handle
// (session), user_id, why (logout, everywhere, others, chosen, replaced or undone),
// the user who ended it (by) and the address; sessions is 1. Where all sessions of a
// user end, a hundred have a line, and one more line without a handle counts the rest.
package login
