package clients_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"

	service "github.com/coatcheck/coatcheck/docs/clients/go"
	"github.com/coatcheck/coatcheck/sessions"
	sessionsv1 "github.com/coatcheck/coatcheck/sessions/api/sessionsv1"
	"github.com/coatcheck/coatcheck/sessions/api/sessionsv1/sessionsv1connect"
	"github.com/coatcheck/coatcheck/sessions/web"
)

// A goDriver drives the Go client, in this process.
type goDriver struct {
	login, reader *sessions.Manager
	began         map[string]time.Time
	api           func(url string) sessionsv1connect.SessionServiceClient
}

func startGo(s *stand) (*client, error) {
	file := filepath.Join(s.dir, "password")
	if err := os.WriteFile(file, []byte(password), 0o600); err != nil {
		return nil, err
	}
	d := &goDriver{began: make(map[string]time.Time)}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: s.ca.Pool()}, ForceAttemptHTTP2: true}
	d.api = func(url string) sessionsv1connect.SessionServiceClient {
		return service.NewAPI(&http.Client{Transport: transport}, url, s.tokenFile)
	}
	var err error
	if d.login, err = service.Open(s.Redis.Addr, "go-login", file); err != nil {
		return nil, err
	}
	if d.reader, err = service.Open(s.Redis.Addr, "reader", file); err != nil {
		return nil, err
	}
	server, err := serveGo(s.address["go"])
	if err != nil {
		return nil, err
	}
	return &client{language: "go", login: "go-login", reader: "reader", send: d.send, close: func() { _ = server.Close(); transport.CloseIdleConnections() }}, nil
}

// serveGo serves the pages of the client below the paths of the tests.
func serveGo(address string) (*http.Server, error) {
	page := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(told(web.FromContext(r.Context())))
	})
	behind, err := service.Behind(page, page, page)
	if err != nil {
		return nil, err
	}
	paths := map[string]string{"whoami": "/", "signed-in": "/account/", "admin": "/admin/"}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.URL.Path = paths[r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:]]
		behind.ServeHTTP(w, r)
	})}
	go func() { _ = server.Serve(listener) }()
	return server, nil
}

func told(s *sessions.Session) map[string]any {
	if s == nil {
		return nil
	}
	all := map[string]any{"id": s.UserID, "roles": append([]string{}, s.Roles...)}
	for name, text := range map[string]string{"name": s.Username, "session": string(s.Key), "tenant": s.Fields["tenant"]} {
		if text != "" {
			all[name] = text
		}
	}
	return all
}

func (d *goDriver) send(it call) (answer, error) {
	a, err := d.call(context.Background(), it)
	if err == nil {
		return a, nil
	}
	a.Error, a.Text = kindOf(err), err.Error()
	return a, nil
}

// kindOf names an error as the drivers of other languages do.
func kindOf(err error) string {
	switch {
	case errors.Is(err, sessions.ErrFieldExists), connect.CodeOf(err) == connect.CodeAlreadyExists:
		return "exists"
	case errors.Is(err, sessions.ErrEnded):
		return "ended"
	case sessions.Absent(err), service.Absent(err):
		return "not_found"
	}
	for _, text := range []string{"reserved", "longer than", "empty", "more than", "a name"} {
		if strings.Contains(err.Error(), text) {
			return "invalid"
		}
	}
	return "unknown"
}

func (d *goDriver) call(ctx context.Context, it call) (a answer, err error) {
	key := sessions.Key(it.Key)
	if _, err := sessions.ParseKey(it.Key); err != nil && slices.Contains([]string{"get", "add", "revoke"}, it.Do) {
		return a, sessions.ErrNotFound
	}
	if strings.HasPrefix(it.Do, "api_") {
		return d.central(ctx, it)
	}
	switch it.Do {
	case "begin":
		d.began[it.UserID] = time.Now()
	case "create":
		id, _, err := d.login.Create(ctx, sessions.NewSession{
			UserID: it.UserID, Username: it.Username, Roles: it.Roles, Address: it.Address, UserAgent: it.UserAgent, Fields: it.Fields,
			Began: d.began[it.UserID],
		})
		a.ID = id.Reveal()
		return a, err
	case "touch":
		if id, err := sessions.ParseID(it.ID); err == nil {
			a.Session, err = read(d.login.Touch(ctx, id, it.Names...))
			return a, err
		}
	case "get":
		a.Session, err = read(d.reader.Lookup(ctx, key, it.Names...))
		return a, err
	case "add":
		return a, d.login.Add(ctx, key, it.Fields)
	case "revoke":
		err := d.login.Revoke(ctx, key)
		a.Ended = err == nil
		if errors.Is(err, sessions.ErrNotFound) {
			err = nil
		}
		return a, err
	}
	return a, nil
}

// central asks the session API.
func (d *goDriver) central(ctx context.Context, it call) (a answer, err error) {
	api, name := d.api(it.URL), service.ByKey(it.Key)
	defer func() {
		if service.Absent(err) && it.Do != "api_add" {
			err = nil
		}
	}()
	switch it.Do {
	case "api_get":
		got, err := api.Get(ctx, connect.NewRequest(&sessionsv1.GetRequest{Session: name, Fields: it.Names}))
		if err == nil {
			a.Session = ofAPI(got.Msg.GetSession())
		}
		return a, err
	case "api_check":
		if it.ID != "" {
			if _, err := sessions.ParseID(it.ID); err != nil {
				return a, nil
			}
			name.Name = &sessionsv1.SessionName_Id{Id: it.ID}
		}
		got, err := api.Check(ctx, connect.NewRequest(&sessionsv1.CheckRequest{
			Session: name, Touch: it.Touch, Fields: it.Names, Question: &sessionsv1.CheckRequest_Roles{Roles: &sessionsv1.Roles{AnyOf: it.Roles}},
		}))
		if err == nil {
			a.Allowed, a.Reason, a.Session = got.Msg.GetAllowed(), got.Msg.GetReason(), ofAPI(got.Msg.GetSession())
		}
		return a, err
	case "api_check_none":
		return a, nil // without a cookie there is no ID to name a session by
	case "api_add":
		_, err := api.AddFields(ctx, connect.NewRequest(&sessionsv1.AddFieldsRequest{Session: name, Fields: it.Fields}))
		return a, err
	case "api_revoke":
		_, err := api.Revoke(ctx, connect.NewRequest(&sessionsv1.RevokeRequest{Session: name}))
		a.Ended = err == nil
		return a, err
	}
	q := &sessionsv1.RevokeUserRequest{UserId: it.UserID}
	if it.Key != "" {
		q.Except = name
	}
	got, err := api.RevokeUser(ctx, connect.NewRequest(q))
	if err == nil {
		a.Revoked = int(got.Msg.GetRevoked())
	}
	return a, err
}

func ofAPI(s *sessionsv1.Session) *session {
	return &session{Key: s.GetKey(), UserID: s.GetUserId(), Username: s.GetUsername(), Roles: append([]string{}, s.GetRoles()...), Fields: s.GetFields()}
}

func read(s *sessions.Session, err error) (*session, error) {
	if err != nil {
		if sessions.Absent(err) {
			err = nil
		}
		return nil, err
	}
	return &session{Key: string(s.Key), UserID: s.UserID, Username: s.Username, Roles: append([]string{}, s.Roles...), ExpiresAt: s.ExpiresAt.UnixMilli(), Fields: s.Fields}, nil
}
