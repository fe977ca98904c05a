package api

import (
	"context"
	"errors"
	"slices"
	"time"
	"unicode/utf8"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/coatcheck/coatcheck/sessions"
	pb "github.com/coatcheck/coatcheck/sessions/api/sessionsv1"
	"github.com/coatcheck/coatcheck/sessions/api/sessionsv1/sessionsv1connect"
)

// service is the methods of a server, as connect-go calls them.
type service struct{ *Server }

var _ sessionsv1connect.SessionServiceHandler = service{}

func (s service) Get(ctx context.Context, q *connect.Request[pb.GetRequest]) (*connect.Response[pb.GetResponse], error) {
	return answer(ctx, s.Server, q, (*Server).get)
}

func (s service) Check(ctx context.Context, q *connect.Request[pb.CheckRequest]) (*connect.Response[pb.CheckResponse], error) {
	return answer(ctx, s.Server, q, (*Server).check)
}

func (s service) AddFields(ctx context.Context, q *connect.Request[pb.AddFieldsRequest]) (*connect.Response[pb.AddFieldsResponse], error) {
	return answer(ctx, s.Server, q, (*Server).addFields)
}

func (s service) Revoke(ctx context.Context, q *connect.Request[pb.RevokeRequest]) (*connect.Response[pb.RevokeResponse], error) {
	return answer(ctx, s.Server, q, (*Server).revoke)
}

func (s service) RevokeUser(ctx context.Context, q *connect.Request[pb.RevokeUserRequest]) (*connect.Response[pb.RevokeUserResponse], error) {
	return answer(ctx, s.Server, q, (*Server).revokeUser)
}

func (s service) ListUserSessions(ctx context.Context, q *connect.Request[pb.ListUserSessionsRequest]) (*connect.Response[pb.ListUserSessionsResponse], error) {
	return answer(ctx, s.Server, q, (*Server).list)
}

// maxFields bounds the fields of one call.
const maxFields = 64

// visible returns an error unless the caller may see the fields.
func (c *call) visible(fields []string) error {
	switch {
	case len(fields) > maxFields:
		return tooManyFields
	case !c.caller.sees(fields):
		return hiddenField
	}
	return nil
}

// get reads a session and never slides it.
func (s *Server) get(ctx context.Context, c *call, q *pb.GetRequest) (*pb.GetResponse, error) {
	of, err := s.named(ctx, c, q.GetSession())
	if err != nil {
		return nil, err
	}
	if err := c.visible(q.GetFields()); err != nil {
		return nil, err
	}
	session, err := s.fetch(ctx, of, false, q.GetFields())
	if err != nil {
		return nil, err
	}
	if err := tellable(session, q.GetFields()); err != nil {
		return nil, err
	}
	return &pb.GetResponse{Session: s.told(session, q.GetFields())}, nil
}

// tellable returns an error where an answer cannot hold one of the fields: other programs write
// them, too, and any bytes.
func tellable(of *sessions.Session, fields []string) error {
	for _, name := range fields {
		if !utf8.ValidString(of.Fields[name]) {
			return notText
		}
	}
	return nil
}

// fetch reads a session in one round trip.
func (s *Server) fetch(ctx context.Context, of ref, slide bool, fields []string) (*sessions.Session, error) {
	if s.config.Foreign != nil {
		return s.fetchForeign(ctx, of, slide, fields)
	}
	// The time of creation is no field that a check reads.
	names := append(slices.Clip(fields), sessions.FieldCreatedAt)
	session, left, err := s.sessions.Fetch(ctx, of.key, sessions.Fetch{Slide: slide, Fields: names})
	if err != nil {
		return nil, err
	}
	with := *session
	with.IdleExpiresAt = s.sessions.Now().Add(left)
	if with.ExpiresAt.Before(with.IdleExpiresAt) {
		with.IdleExpiresAt = with.ExpiresAt
	}
	return &with, nil
}

// told is what a caller is told of a session: of the application fields those that it has
// asked for, which it may see.
func (s *Server) told(of *sessions.Session, fields []string) *pb.Session {
	t := &pb.Session{
		Key: string(of.Key), Handle: of.Key.Handle(), UserId: of.UserID, Username: of.Username, Roles: of.Roles,
		CreatedAt: stamp(of.CreatedAt), ExpiresAt: stamp(of.ExpiresAt), IdleExpiresAt: stamp(of.IdleExpiresAt),
	}
	if s.config.Foreign != nil {
		t.Key = ""
	}
	for _, name := range fields {
		if value, ok := of.Fields[name]; ok {
			if t.Fields == nil {
				t.Fields = make(map[string]string, len(fields))
			}
			t.Fields[name] = value
		}
	}
	return t
}

// stamp is a time as messages have it: none where it is not known, or where the record has one
// before the year 1, which JSON cannot hold.
func stamp(t time.Time) *timestamppb.Timestamp {
	if told := timestamppb.New(t); !t.IsZero() && told.IsValid() {
		return told
	}
	return nil
}

// addFields adds fields that the caller may see. Names and sizes are looked at here, since
// the errors of the manager would repeat names.
func (s *Server) addFields(ctx context.Context, c *call, q *pb.AddFieldsRequest) (*pb.AddFieldsResponse, error) {
	if err := s.own(); err != nil {
		return nil, err
	}
	key, err := c.key(q.GetSession())
	if err != nil {
		return nil, err
	}
	fields := q.GetFields()
	if len(fields) == 0 || len(fields) > maxFields {
		return nil, noFields
	}
	for name, value := range fields {
		if !c.caller.sees([]string{name}) {
			return nil, hiddenField
		}
		if len(value) > sessions.MaxFieldValue {
			return nil, noFields
		}
	}
	if err := s.sessions.Add(ctx, key, fields); err != nil {
		return nil, err
	}
	return &pb.AddFieldsResponse{}, nil
}

func (s *Server) revoke(ctx context.Context, c *call, q *pb.RevokeRequest) (*pb.RevokeResponse, error) {
	if err := s.own(); err != nil {
		return nil, err
	}
	key, err := c.key(q.GetSession())
	if err != nil {
		return nil, err
	}
	err = s.sessions.Revoke(ctx, key)
	if unconfirmed := errors.Is(err, sessions.ErrNotReplicated); err == nil || unconfirmed {
		return &pb.RevokeResponse{Unconfirmed: unconfirmed}, nil
	}
	return nil, err
}

// revokeUser ends all sessions of a user, or all but one.
func (s *Server) revokeUser(ctx context.Context, c *call, q *pb.RevokeUserRequest) (*pb.RevokeUserResponse, error) {
	if err := s.own(); err != nil {
		return nil, err
	}
	user := q.GetUserId()
	if !validUser(user) {
		return nil, noUser
	}
	end := func() (int, error) { return s.sessions.RevokeUser(ctx, user) }
	if q.GetExcept() != nil {
		key, err := c.key(q.GetExcept())
		if err != nil {
			return nil, err
		}
		kept, err := s.fetch(ctx, ref{key: key}, false, nil)
		if err != nil {
			return nil, err
		}
		if kept.UserID != user {
			return nil, otherUser
		}
		end = func() (int, error) { return s.sessions.RevokeOthers(ctx, key) }
	}
	n, err := end()
	c.ended = n
	if unconfirmed := errors.Is(err, sessions.ErrNotReplicated); err == nil || unconfirmed {
		return &pb.RevokeUserResponse{Revoked: int32(n), Unconfirmed: unconfirmed}, nil
	}
	return nil, err
}

func (s *Server) list(ctx context.Context, _ *call, q *pb.ListUserSessionsRequest) (*pb.ListUserSessionsResponse, error) {
	if err := s.own(); err != nil {
		return nil, err
	}
	if !validUser(q.GetUserId()) {
		return nil, noUser
	}
	all, more, err := s.sessions.List(ctx, q.GetUserId())
	if err != nil {
		return nil, err
	}
	a := &pb.ListUserSessionsResponse{More: int32(more)}
	for _, session := range all {
		a.Sessions = append(a.Sessions, s.told(session, nil))
	}
	return a, nil
}

func validUser(id string) bool { return id != "" && len(id) <= sessions.MaxUserID }
