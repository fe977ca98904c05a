// Package service is a Go service with sessions of Coatcheck: copy what you need.
//
//	manager, err := service.Open("redis:6379", "login", "/run/secrets/redis")
//	began := time.Now()                                          // before the account is looked at
//	id, session, err := manager.Create(ctx, sessions.NewSession{UserID: "42", Roles: roles, Began: began})
//	session, err := manager.Touch(ctx, id)                       // sessions.Absent(err): not signed in
//	err := manager.Add(ctx, key, map[string]string{"cart": "3"}) // adds, and never overwrites
//	err := manager.Revoke(ctx, key)
package service

import (
	"net/http"

	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/redisstore"
	"github.com/coatcheck/coatcheck/sessions/web"
)

// Open returns a manager that reads and, where the Redis user may, makes and ends sessions.
// The timeouts are those of the checks: session.idle_timeout and session.absolute_timeout.
func Open(address, username, passwordFile string) (*sessions.Manager, error) {
	config := redisstore.At(address)
	config.Username, config.PasswordFile = username, passwordFile
	client, err := redisstore.NewClient(config) // Close it when the service ends
	if err != nil {
		return nil, err
	}
	return sessions.NewManager(redisstore.New(client, redisstore.Config{}), sessions.Config{})
}

// Behind guards the handlers of a service behind Envoy and Coatcheck by the headers that
// Coatcheck sets: who reads them asks web.FromContext. The service must be reachable
// through Envoy only, because headers are believed, not verified.
func Behind(everyone, signedIn, admins http.Handler) (http.Handler, error) {
	guard, err := web.Behind(web.HeaderConfig{Fields: map[string]string{"tenant": "x-user-tenant"}})
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("/", guard.Optional(everyone))
	mux.Handle("/account/", guard.Require(signedIn))
	mux.Handle("/admin/", guard.Require(admins, "admin"))
	return mux, nil
}
