// Package sessions says what a session is, how long it lives and what ends it. Most
// programs write these lines:
//
//	manager, err := sessions.NewManager(redisstore.New(client, redisstore.Config{}), sessions.Config{})
//	id, _, err := manager.Create(ctx, sessions.NewSession{UserID: "42", Roles: roles}) // login
//	http.SetCookie(w, sessions.Cookie{}.New(id))
//	session, err := manager.Touch(ctx, id)       // each request
//	err = manager.Revoke(ctx, session.Key)       // logout
//
// Package web guards http.Handlers with them, and package memstore stands in for Redis
// in tests; docs/library.md has whole programs.
//
// It knows neither Redis nor Envoy: a [Store] keeps the records, and a [Manager]
// applies the rules below to them.
//
// # ID, key and handle
//
// A browser holds a session [ID]: 32 bytes of crypto/rand, base64url without
// padding, 43 characters that say nothing. The record stays on the server, under a
// [Key] made of the ID's SHA-256. A reader of the store, of a backup or of a log line
// finds keys, and a key cannot be turned back into an ID. People name a session by
// its [Key.Handle], the first twelve characters of the hash, as with git commits.
//
// # Two limits
//
// The idle timeout (default 30 minutes) ends an unused session. It is
// the expiry of the record, and [Manager.Touch] slides it. The absolute timeout
// (default 12 hours) ends a session however much it is used; it stands in the
// record and never moves. Both are enforced here; the lifetime of a cookie
// enforces nothing (OWASP Session Management Cheat Sheet, "Session Expiration").
//
// A slide goes up to the next multiple of a step (a tenth of the idle timeout,
// at most a minute), so that all requests within one step ask the store for the
// same expiry and only the first of them changes anything. A session therefore
// ends between IdleTimeout and IdleTimeout plus one step after its last use,
// never earlier.
//
// # Missing is not unavailable
//
// Absence is a fact: [ErrNotFound], [ErrExpired] and [ErrBroken] say that the store
// answered and that the client is not signed in. Every other error, and [ErrLayout],
// says that the answer is unknown. [Absent] distinguishes them. A caller that takes an
// unknown answer for "signed out" logs out every user when the store has a bad minute,
// and one that takes it for "signed in" lets every client in.
//
// # Whose clock
//
// "Now" is the store's time, by the best sample of it and what has elapsed since on
// this machine; a manager asks for it by itself ([Manager.SyncClock]). One wrong sample,
// or a change of this machine's time of day, changes nothing. A session that a wrong
// clock takes for expired does not end for that, because the store gets the time of its
// end and decides itself.
//
// # Only add, never delete
//
// An application adds fields to a session with [Manager.Add]. It never overwrites or
// removes an existing field, adds several all or none, and creates nothing by adding
// to a session that is gone. These rules do not bind a program that writes to the
// store by itself.
//
// # Adding a field
//
// An application field needs no change here: login fills it from the attributes of a
// user, [Manager.Add] adds it later, a check reads it by its name, and the setting
// headers.fields hands it to upstreams. ValidateFieldName says which names there are.
//
// A reserved field, such as an e-mail address, becomes a part of the record's layout.
// It needs: a Field constant, [Session] and [NewSession] (record.go, session.go); a
// line in docs/sessions.md and its Python program; login.User, if login fills it, and
// the sources of users; a header (extauthz/headers.go) and a variable of conditions
// (extauthz/condition), if upstreams and policies see it. Old records lack it, so it
// is optional, and LayoutVersion stays.
//
// # All sessions
//
// [Manager.Scan] goes through all records, if the store is a [Scanner], for the questions
// that no listing answers: who is signed in, how many, with which roles.
// [Manager.Verify] holds a record that another program wrote against every rule of the
// layout. Neither is for a request path.
//
// # Ending a session
//
// When [Manager.Revoke], [Manager.RevokeUser] or [Manager.RevokeOthers] has
// returned without an error, no [Manager.Touch] that begins afterwards finds
// the session. A login that began before RevokeUser or RevokeOthers and is still
// under way ends with [ErrEnded]; one that begins afterwards is a new one. A user has
// [Config.MaxPerUser] live sessions at most, give or take logins at the same moment:
// the next login ends the oldest. A login always makes a new ID and revokes the one
// that its request presented (session fixation); changed roles mean a new session.
//
// The layout of a record, for programs in other languages, is in
// docs/sessions.md.
package sessions
