package api

import (
	"context"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/redis/go-redis/v9"

	"github.com/coatcheck/coatcheck/sessions"
	pb "github.com/coatcheck/coatcheck/sessions/api/sessionsv1"
	"github.com/coatcheck/coatcheck/sessions/api/sessionsv1/sessionsv1connect"
	"github.com/coatcheck/coatcheck/sessions/redisstore/redistest"
)

func universal(s *redistest.Server) *redis.UniversalOptions {
	return &redis.UniversalOptions{Addrs: []string{s.Addr}, Password: redistest.Password, ReadTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second, DialTimeout: 10 * time.Second, PoolTimeout: 10 * time.Second}
}

// ask sends a message and returns its answer.
func ask[Q, A any](t testing.TB, method func(context.Context, *connect.Request[Q]) (*connect.Response[A], error), q *Q) (*A, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	a, err := method(ctx, connect.NewRequest(q))
	if err != nil {
		return nil, err
	}
	return a.Msg, nil
}

func must[Q, A any](t testing.TB, method func(context.Context, *connect.Request[Q]) (*connect.Response[A], error), q *Q) *A {
	t.Helper()
	a, err := ask(t, method, q)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func wantCode(t testing.TB, what string, err error, want connect.Code) {
	t.Helper()
	if err == nil || connect.CodeOf(err) != want {
		t.Errorf("%s: %v, want %v", what, err, want)
	}
}

// TestProtocols: every method, by every protocol and name, on one port.
func TestProtocols(t *testing.T) {
	s := newStand(t, nil)
	for name, options := range map[string][]connect.ClientOption{
		"connect": nil, "json": {connect.WithProtoJSON()}, "grpc": {connect.WithGRPC()}, "grpc-web": {connect.WithGRPCWeb()},
	} {
		t.Run(name, func(t *testing.T) {
			c := s.as("all", options...)
			id, key := s.signIn(t)
			for _, of := range []*pb.SessionName{byKey(key), byID(id)} {
				got := must(t, c.Get, &pb.GetRequest{Session: of, Fields: []string{"cart", "theme"}}).GetSession()
				if got.GetKey() != string(key) || got.GetHandle() != key.Handle() || got.GetUserId() != userID || got.GetUsername() != username ||
					!slices.Equal(got.GetRoles(), []string{role, "staff"}) || !maps.Equal(got.GetFields(), map[string]string{"cart": "three apples"}) {
					t.Errorf("Get: %v", got)
				}
				if idle, created := got.GetIdleExpiresAt().AsTime(), got.GetCreatedAt().AsTime(); time.Until(idle) < 25*time.Minute ||
					time.Until(idle) > 35*time.Minute || time.Since(created).Abs() > time.Minute || time.Until(got.GetExpiresAt().AsTime()) < 11*time.Hour {
					t.Errorf("Get: times %v", got)
				}
				for path, want := range map[string]string{"/ok": "ok", "/no": "condition_false", "/public": "public"} {
					a := must(t, c.Check, &pb.CheckRequest{Session: of, Question: &pb.CheckRequest_Request{Request: &pb.Request{Host: "shop.example", Path: path}}})
					if a.GetReason() != want || a.GetAllowed() == (path == "/no") || len(a.GetSession().GetFields()) != 0 {
						t.Errorf("Check %s: %v", path, a)
					}
				}
			}
			a := must(t, c.Check, &pb.CheckRequest{Session: byKey(key), Question: anyOf("admin", "staff"), Fields: []string{"cart"}})
			if !a.GetAllowed() || a.GetReason() != "ok" || a.GetSession().GetFields()["cart"] == "" {
				t.Errorf("Check by roles: %v", a)
			}
			must(t, c.AddFields, &pb.AddFieldsRequest{Session: byKey(key), Fields: map[string]string{"theme": "dark"}})
			_, err := ask(t, c.AddFields, &pb.AddFieldsRequest{Session: byKey(key), Fields: map[string]string{"theme": "light"}})
			wantCode(t, "a second theme", err, connect.CodeAlreadyExists)
			if got := must(t, c.Get, &pb.GetRequest{Session: byKey(key), Fields: []string{"theme"}}); got.GetSession().GetFields()["theme"] != "dark" {
				t.Errorf("after AddFields: %v", got)
			}
			if got := must(t, c.ListUserSessions, &pb.ListUserSessionsRequest{UserId: userID}); len(got.GetSessions()) < 2 || len(got.GetSessions()[0].GetFields()) != 0 {
				t.Errorf("ListUserSessions: %v", got)
			}
			if a := must(t, c.Revoke, &pb.RevokeRequest{Session: byKey(key)}); a.GetUnconfirmed() {
				t.Error("Revoke is unconfirmed")
			}
			for what, err := range map[string]error{
				"Get": second(ask(t, c.Get, &pb.GetRequest{Session: byKey(key)})), "Revoke": second(ask(t, c.Revoke, &pb.RevokeRequest{Session: byID(id)})),
				"Check":     second(ask(t, c.Check, &pb.CheckRequest{Session: byKey(key), Question: anyOf("staff")})),
				"AddFields": second(ask(t, c.AddFields, &pb.AddFieldsRequest{Session: byKey(key), Fields: map[string]string{"cart": "1"}})),
			} {
				wantCode(t, what+" after Revoke", err, connect.CodeNotFound)
			}
		})
	}
}

func second[A any](_ A, err error) error { return err }

// TestRights: for each right, what it is for is refused without it, and nothing happens.
func TestRights(t *testing.T) {
	s := newStand(t, nil)
	get := &pb.GetRequest{Session: byKey(s.key)}
	check := &pb.CheckRequest{Session: byKey(s.key), Question: anyOf("staff")}
	uses := map[Right]func(c sessionsv1connect.SessionServiceClient) error{
		Get:   func(c sessionsv1connect.SessionServiceClient) error { return second(ask(t, c.Get, get)) },
		Check: func(c sessionsv1connect.SessionServiceClient) error { return second(ask(t, c.Check, check)) },
		Touch: func(c sessionsv1connect.SessionServiceClient) error {
			return second(ask(t, c.Check, &pb.CheckRequest{Session: byKey(s.key), Question: anyOf("staff"), Touch: true}))
		},
		Add: func(c sessionsv1connect.SessionServiceClient) error {
			return second(ask(t, c.AddFields, &pb.AddFieldsRequest{Session: byKey(s.key), Fields: map[string]string{"theme": "dark"}}))
		},
		Revoke: func(c sessionsv1connect.SessionServiceClient) error {
			err := second(ask(t, c.Revoke, &pb.RevokeRequest{Session: byKey(s.key)}))
			if other := second(ask(t, c.RevokeUser, &pb.RevokeUserRequest{UserId: userID})); connect.CodeOf(other) != connect.CodeOf(err) {
				t.Errorf("RevokeUser: %v, Revoke: %v", other, err)
			}
			return err
		},
		List: func(c sessionsv1connect.SessionServiceClient) error {
			return second(ask(t, c.ListUserSessions, &pb.ListUserSessionsRequest{UserId: userID}))
		},
		Watch: func(c sessionsv1connect.SessionServiceClient) error {
			q := connect.NewRequest(&pb.WatchRequest{Sessions: []*pb.SessionName{byKey(s.key)}})
			q.Header().Set("Authorization", "Bearer "+token("without-watch"))
			stream, err := c.Watch(t.Context(), q)
			if err != nil {
				return err
			}
			defer stream.Close()
			stream.Receive()
			return stream.Err()
		},
		ByID: func(c sessionsv1connect.SessionServiceClient) error {
			return second(ask(t, c.Get, &pb.GetRequest{Session: byID(s.id)}))
		},
	}
	s.shorten(t, s.key)
	for _, r := range Rights() {
		err := uses[r](s.as("without-" + strings.ReplaceAll(string(r), "_", "-")))
		wantCode(t, string(r), err, connect.CodePermissionDenied)
	}
	if left := s.left(t, s.key); left > time.Minute || left < time.Second {
		t.Errorf("after the refusals the session lasts for %v", left)
	}
	if got := must(t, s.as("all").Get, &pb.GetRequest{Session: byID(s.id), Fields: []string{"theme"}}); got.GetSession().GetFields() != nil {
		t.Errorf("a field was added: %v", got)
	}
	for _, r := range []Right{Get, Check, Touch, Add, List, ByID} {
		if err := uses[r](s.as("all")); err != nil {
			t.Errorf("%s, with the right: %v", r, err)
		}
	}
}

// TestSlide: only Check with touch slides a session.
func TestSlide(t *testing.T) {
	s := newStand(t, nil)
	c := s.as("all")
	s.shorten(t, s.key)
	must(t, c.Get, &pb.GetRequest{Session: byID(s.id)})
	must(t, c.ListUserSessions, &pb.ListUserSessionsRequest{UserId: userID})
	must(t, c.Check, &pb.CheckRequest{Session: byKey(s.key), Question: anyOf("staff")})
	must(t, c.Check, &pb.CheckRequest{Session: byKey(s.key), Question: &pb.CheckRequest_Policy{Policy: &pb.Policy{Name: "ok"}}})
	must(t, c.AddFields, &pb.AddFieldsRequest{Session: byKey(s.key), Fields: map[string]string{"theme": "dark"}})
	if left := s.left(t, s.key); left > time.Minute {
		t.Errorf("without touch it lasts for %v", left)
	}
	must(t, c.Check, &pb.CheckRequest{Session: byKey(s.key), Question: anyOf("admin"), Touch: true})
	if left := s.left(t, s.key); left < 29*time.Minute {
		t.Errorf("with touch it lasts for %v", left)
	}
}

// TestFields: a caller sees no field that it may not see, and adds none; of those of a
// policy, it sees none either.
func TestFields(t *testing.T) {
	s := newStand(t, nil)
	c := s.as("all")
	for what, err := range map[string]error{
		"Get":       second(ask(t, c.Get, &pb.GetRequest{Session: byKey(s.key), Fields: []string{"cart", secretField}})),
		"Check":     second(ask(t, c.Check, &pb.CheckRequest{Session: byKey(s.key), Question: anyOf("staff"), Fields: []string{secretField}})),
		"AddFields": second(ask(t, c.AddFields, &pb.AddFieldsRequest{Session: byKey(s.key), Fields: map[string]string{"theme": "1", secretField + "2": "2"}})),
		"reserved":  second(ask(t, c.Get, &pb.GetRequest{Session: byKey(s.key), Fields: []string{sessions.FieldAddress}})),
		"roles":     second(ask(t, c.AddFields, &pb.AddFieldsRequest{Session: byKey(s.key), Fields: map[string]string{sessions.FieldRoles: "[]"}})),
	} {
		wantCode(t, what, err, connect.CodePermissionDenied)
		if strings.Contains(err.Error(), secretField) || strings.Contains(err.Error(), "address") {
			t.Errorf("%s: the error names the field: %v", what, err)
		}
	}
	a := must(t, c.Check, &pb.CheckRequest{Session: byKey(s.key), Question: &pb.CheckRequest_Policy{Policy: &pb.Policy{Name: "ok"}}, Fields: []string{"cart"}})
	if text := a.String(); !a.GetAllowed() || strings.Contains(text, secretValue) || strings.Contains(text, "192.0.2.77") || strings.Contains(text, "secret-user-agent") {
		t.Errorf("the answer has what the caller may not see: %s", text)
	}
}

// TestRevokeUser: all sessions of a user end, or all but one of theirs.
func TestRevokeUser(t *testing.T) {
	s := newStand(t, nil)
	c := s.as("all")
	_, other := s.signIn(t)
	_, stranger, err := s.manager.Create(t.Context(), sessions.NewSession{UserID: "another"})
	if err != nil {
		t.Fatal(err)
	}
	_, err = ask(t, c.RevokeUser, &pb.RevokeUserRequest{UserId: userID, Except: byKey(stranger.Key)})
	wantCode(t, "but one of another user", err, connect.CodeInvalidArgument)
	_, err = ask(t, c.RevokeUser, &pb.RevokeUserRequest{UserId: userID, Except: &pb.SessionName{}})
	wantCode(t, "but one without a name", err, connect.CodeInvalidArgument)
	if a := must(t, c.RevokeUser, &pb.RevokeUserRequest{UserId: userID, Except: byKey(s.key)}); a.GetRevoked() != 1 {
		t.Errorf("all but one: %v", a)
	}
	_, err = ask(t, c.Get, &pb.GetRequest{Session: byKey(other)})
	wantCode(t, "the other one", err, connect.CodeNotFound)
	must(t, c.Get, &pb.GetRequest{Session: byKey(s.key)})
	if a := must(t, c.RevokeUser, &pb.RevokeUserRequest{UserId: userID}); a.GetRevoked() != 1 {
		t.Errorf("all: %v", a)
	}
	must(t, c.Get, &pb.GetRequest{Session: byKey(stranger.Key)})
}

// TestSenseless: what makes no sense is INVALID_ARGUMENT and repeats nothing; a question that
// is left out is no question that all sessions pass.
func TestSenseless(t *testing.T) {
	s := newStand(t, nil)
	c := s.as("all")
	const marker = "secret-marker"
	many := slices.Repeat([]string{"cart"}, 65)
	fields := map[string]string{}
	for i := range 65 {
		fields["cart"+strings.Repeat("x", i)] = ""
	}
	for what, err := range map[string]error{
		"no name":       second(ask(t, c.Get, &pb.GetRequest{})),
		"a key":         second(ask(t, c.Get, &pb.GetRequest{Session: byKey("session:" + marker)})),
		"a handle":      second(ask(t, c.Get, &pb.GetRequest{Session: &pb.SessionName{Name: &pb.SessionName_Handle{Handle: marker}}})),
		"fields":        second(ask(t, c.Get, &pb.GetRequest{Session: byKey(s.key), Fields: many})),
		"no question":   second(ask(t, c.Check, &pb.CheckRequest{Session: byKey(s.key)})),
		"no roles":      second(ask(t, c.Check, &pb.CheckRequest{Session: byKey(s.key), Question: anyOf()})),
		"an empty role": second(ask(t, c.Check, &pb.CheckRequest{Session: byKey(s.key), Question: anyOf("")})),
		"no policy":     second(ask(t, c.Check, &pb.CheckRequest{Session: byKey(s.key), Question: &pb.CheckRequest_Policy{Policy: &pb.Policy{}}})),
		"no fields":     second(ask(t, c.AddFields, &pb.AddFieldsRequest{Session: byKey(s.key)})),
		"many fields":   second(ask(t, c.AddFields, &pb.AddFieldsRequest{Session: byKey(s.key), Fields: fields})),
		"no user":       second(ask(t, c.RevokeUser, &pb.RevokeUserRequest{})),
		"a long user":   second(ask(t, c.ListUserSessions, &pb.ListUserSessionsRequest{UserId: strings.Repeat(marker, 30)})),
	} {
		wantCode(t, what, err, connect.CodeInvalidArgument)
		if err != nil && strings.Contains(err.Error(), marker) {
			t.Errorf("%s: the error repeats the request: %v", what, err)
		}
	}
	_, err := ask(t, c.Get, &pb.GetRequest{Session: &pb.SessionName{Name: &pb.SessionName_Id{Id: marker}}})
	wantCode(t, "a cookie that is no ID", err, connect.CodeNotFound)
}
