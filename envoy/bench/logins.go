package main

import (
	"context"
	"flag"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/coatcheck/coatcheck/envoy/e2e/rig"
	"github.com/coatcheck/coatcheck/sessions/login/passwords"
)

// password is the password of all users.
const password = "correct horse, battery"

// measureLogins takes about 6 minutes.
func measureLogins(args []string) error {
	if err := flag.NewFlagSet("logins", flag.ExitOnError).Parse(args); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "coatcheck-bench-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	binary := filepath.Join(dir, "coatcheck")
	if err := rig.Build(binary); err != nil {
		return err
	}
	ctx := context.Background()
	for _, measure := range []func() error{
		func() error { return loginsBesideChecks(ctx, binary, true) },
		func() error { return loginsBesideChecks(ctx, binary, false) },
		func() error { return attempts(ctx, binary) },
		func() error { return refusals(dir) },
	} {
		if err := measure(); err != nil {
			return err
		}
	}
	return nil
}

// usersFile is a users file with n users, named user0 and so on.
func usersFile(n int) (string, error) {
	hash, err := passwords.HashPassword(password)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "- {id: \"u%d\", username: user%d, password_hash: %q}\n", i, i, hash)
	}
	return b.String(), nil
}

// A client signs in from an address of its own, which the rate limit counts.
type client struct {
	transport *http.Transport
	url       string
}

// clientsAt returns a client for each address.
func clientsAt(stack *rig.Stack, addresses ...string) []*client {
	var all []*client
	for _, address := range addresses {
		dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}
		all = append(all, &client{&http.Transport{DialContext: dialer.DialContext, ResponseHeaderTimeout: time.Minute}, stack.URL})
	}
	return all
}

func closeIdle(clients []*client) {
	for _, c := range clients {
		c.transport.CloseIdleConnections()
	}
}

// signIn returns the status of a login.
func (c *client) signIn(ctx context.Context, username, password string) (status int, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url+"/.auth/login", strings.NewReader(credentials(username, password)))
	if err != nil {
		return 0, err
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	response, err := c.transport.RoundTrip(r)
	if err != nil {
		return 0, err
	}
	return response.StatusCode, response.Body.Close()
}

// credentials are login's form.
func credentials(username, password string) string {
	return url.Values{"username": {username}, "password": {password}}.Encode()
}
