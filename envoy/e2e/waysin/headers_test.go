package waysin_test

import (
	"strings"
	"testing"
)

// elsewhere are headers by which some program takes another path, host or
// method than the request line's.
var elsewhere = []string{
	"X-Original-URL: /Q", "X-Rewrite-URL: /Q", "X-Original-URI: /Q", "X-Forwarded-Uri: /Q", "X-Forwarded-Path: /Q", "X-Original-Path: /Q", "X-Envoy-Original-Path: /Q", "X-Replaced-Path: /Q", "X-Accel-Redirect: /Q", "X-Sendfile: /Q", "X-Override-URL: /Q", "Destination: /Q", "Content-Location: /Q", "Referer: http://shop.example/Q",
	"X-Forwarded-Prefix: /public", "X-Forwarded-Prefix: /public/..", "X-Forwarded-Prefix: /Q", "X-Script-Name: /public", "Script-Name: /public", "SCRIPT_NAME: /public", "Script_Name: /public", "script_name: /public", "SCRIPT.NAME: /public", "PATH_INFO: /Q", "Path-Info: /Q", "PATH.INFO: /Q", "REQUEST_URI: /Q", "RAW_URI: /Q", "Request-Uri: /Q", "X-Request-URI: /Q", "X-Path-Info: /Q", "HTTP_X_REWRITE_URL: /Q",
	"X-Forwarded-Host: evil.example/Q", "X-Forwarded-Host: internal.example", "X-Host: internal.example", "Forwarded: host=internal.example;proto=https", "X-Forwarded-Server: internal.example", "X-Forwarded-Proto: https", "X-Forwarded-Port: 443", "X-Forwarded-Ssl: on", "X-Forwarded-Scheme: https",
	"X-HTTP-Method-Override: DELETE", "X-Method-Override: DELETE", "X-HTTP-Method: DELETE", "_method: DELETE", "REQUEST_METHOD: DELETE",
	"REMOTE_USER: admin", "Remote-User: admin", "X-Remote-User: admin", "X-Forwarded-User: admin", "X-Forwarded-For: 127.0.0.1", "X-Real-IP: 127.0.0.1", "Authorization: Basic YWRtaW46YWRtaW4=", "Connection: cookie, x-user-id", "Connection: close, x-user-id, x-user-roles", "Keep-Alive: x", "Proxy-Authorization: x", "X-Coatcheck.Policy: public", "coatcheck.session: none", "coatcheck.roles: none", "X-Envoy-Internal: true", "X-Envoy-Decorator-Operation: x", "x-envoy-retry-on: 5xx", "X-Envoy-Upstream-Alt-Stat-Name: x",
}

// framing are headers on which two programs may disagree where a request ends,
// or to which host it goes.
var framing = []string{
	"Host: shop.example\r\nHost: internal.example", "Host:shop.example", " Host: x", "Host : x", "Content-Length: 0\r\nContent-Length: 40", "Content-Length: +0", "Content-Length: 0, 0", "Content-Length: 0x0",
	"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\nGET /Q HTTP/1.1\r\nHost: x", "Transfer-Encoding: xchunked", "Transfer-Encoding : chunked", "Transfer-Encoding: identity, chunked", "Transfer-Encoding:\x0bchunked", "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", "X: y\rX-User-Id: admin", "X: y\nX-User-Id: admin", "X: y\x00X-User-Id: admin", "X-User-Id\x00: admin", "X-User-Id\t: admin", "X: y\r\n X-User-Id: admin", "Expect: 100-continue", "Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\nConnection: Upgrade, HTTP2-Settings", "Upgrade: websocket\r\nConnection: Upgrade", "TE: trailers", "Trailer: x-user-id",
}

// aliases are spellings of identity headers that some upstream takes for ours.
var aliases = []string{
	"x-user-id", "X-USER-ID", "x_user_id", "X_User_Id", "x-user_id", "x_user-id", "x.user.id", "X.User-Id", "x~user!id", "x-user.id", "x`user|id", "x-user-roles", "X_USER_ROLES", "x.user.roles", "x-user-name", "x_user_name", "x-user-session", "x_user_session", "x-user-tenant", "X-User-", "x-user-id-", "x--user-id", "x-user--id", "HTTP_X_USER_ID", "http-x-user-id", "x%2duser-id", "x-us\u00e9r-id", "x-user-id\xa0",
}

// TestHeaders sends headers by which an upstream could take another path, or
// another user: what it reads is what Coatcheck has decided on.
func TestHeaders(t *testing.T) {
	l := theLot(t)
	var paths, users []request
	met := make(map[string]bool)
	add := func(class, target, line string) {
		if !met[target+line] {
			met[target+line] = true
			paths = append(paths, get(class, target, line))
		}
	}
	for _, target := range []string{"/public/secret", "/public/admin"} {
		for _, q := range []string{"secret", "admin"} {
			for _, line := range elsewhere {
				add("other headers", target, strings.ReplaceAll(line, "Q", q))
			}
		}
	}
	for _, line := range framing {
		add("framing", "/public/x", strings.ReplaceAll(line, "Q", "secret"))
	}
	for _, target := range []string{"/public/x", "/optional/x", "/secret"} {
		for i, name := range aliases {
			users = append(users, get("identity headers", target, name+": evil"), get("identity headers", target, name+": evil", aliases[(i+5)%len(aliases)]+": evil", name+": evil"))
		}
	}
	list := append(paths, users...)
	if !full {
		list = sample(list, 5)
	}
	onEvery(t, everyUpstream, func(t *testing.T, name string) {
		for n, protocol := range protocols {
			for _, f := range []front{shipped, alone, bare, joined} {
				s := l.sender(t, door{f, name}, protocol)
				for i, r := range list {
					if protocol == "HTTP/2" && r.class == "framing" {
						continue
					}
					if f == shipped || i%2 == n {
						s.try(anonymous, r)
						s.try(staff, r)
					}
				}
				s.client.close()
			}
			s := l.sender(t, door{open, name}, protocol)
			for _, r := range list {
				switch r.class {
				case "other headers":
					s.tryOpen(r)
				case "identity headers":
					s.control(r, func(a reply) bool { return len(identity(a.seen())) > 0 })
				}
			}
			s.client.close()
		}
		if seen.get(name, "identity headers").escapes == 0 {
			t.Errorf("no identity header reaches %s by the open control: the test would see no way in", name)
		}
	})
	if full && seen.get("gunicorn", "other headers").escapes == 0 {
		t.Error("no header leads to another page of gunicorn's: the test would see no way in")
	}
}

// TestTrailers sends identity behind the body, to upstreams that Envoy speaks
// HTTP/2 to.
func TestTrailers(t *testing.T) {
	l := theLot(t)
	onEvery(t, []string{"tomcat-http2", "jetty-http2"}, func(t *testing.T, name string) {
		var list []request
		for _, target := range []string{"/public/x", "/optional/x", "/secret"} {
			for _, alias := range []string{"x-user-id", "x-user-roles", "x_user_id", "x.user.id", "x-user-session", "x-user-anything"} {
				r := get("trailers", target, "Trailer: "+alias)
				r.method, r.body, r.trailers = "POST", "x", []string{alias + ": evil"}
				list = append(list, r)
			}
		}
		for _, f := range []front{shipped, alone, bare, joined} {
			s := l.sender(t, door{f, name}, "HTTP/2")
			for _, r := range list {
				s.try(anonymous, r)
				s.try(staff, r)
			}
			s.client.close()
		}
		s := l.sender(t, door{open, name}, "HTTP/2")
		for _, r := range list {
			s.control(r, func(a reply) bool { return len(identity(a.seen())) > 0 })
		}
		s.client.close()
		if seen.get(name, "trailers").escapes == 0 {
			t.Errorf("no trailer reaches %s by the open control: the test would see no way in", name)
		}
	})
}
