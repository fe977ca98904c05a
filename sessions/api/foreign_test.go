package api

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/coatcheck/coatcheck/sessions"
	pb "github.com/coatcheck/coatcheck/sessions/api/sessionsv1"
)

// A framework has one session, whose cookie is "s:" and its ID.
type framework struct {
	id   sessions.ID
	slid bool
}

func (f *framework) Lookup(_ context.Context, id sessions.ID, fields ...string) (*sessions.Session, error) {
	if id != f.id {
		return nil, sessions.ErrNotFound
	}
	s := &sessions.Session{UserID: userID, Username: username, Roles: []string{"staff"}, Fields: map[string]string{}}
	for _, name := range fields {
		s.Fields[name] = map[string]string{"cart": "three apples", secretField: secretValue}[name]
	}
	return s, nil
}

func (f *framework) Touch(ctx context.Context, id sessions.ID, fields ...string) (*sessions.Session, error) {
	f.slid = true
	return f.Lookup(ctx, id, fields...)
}

func (f *framework) Find(_ context.Context, handle string) (sessions.ID, error) {
	if handle != f.id.Key().Handle() {
		return sessions.ID{}, sessions.ErrNotFound
	}
	return f.id, nil
}

func (f *framework) Parse(value string) (sessions.ID, error) {
	return sessions.ParseID(strings.TrimPrefix(value, "s:"))
}

// TestForeign: sessions of another framework are read by ID and by handle, never by key; no
// answer has a key, and what only their application may do is refused by a clear error.
func TestForeign(t *testing.T) {
	f := &framework{id: sessions.NewID()}
	s := newStand(t, func(c *Config) { c.Foreign = f })
	c, handle := s.as("all"), f.id.Key().Handle()
	byCookie := &pb.SessionName{Name: &pb.SessionName_Id{Id: "s:" + f.id.Reveal()}}
	byHandle := func(h string) *pb.SessionName { return &pb.SessionName{Name: &pb.SessionName_Handle{Handle: h}} }
	for _, of := range []*pb.SessionName{byCookie, byHandle(handle)} {
		got := must(t, c.Get, &pb.GetRequest{Session: of, Fields: []string{"cart"}}).GetSession()
		if got.GetUserId() != userID || got.GetKey() != "" || got.GetHandle() != handle || got.GetFields()["cart"] != "three apples" || f.slid {
			t.Errorf("Get: %v", got)
		}
	}
	a := must(t, c.Check, &pb.CheckRequest{Session: byCookie, Question: &pb.CheckRequest_Policy{Policy: &pb.Policy{Name: "ok"}}, Touch: true})
	if !a.GetAllowed() || !f.slid || a.GetSession().GetKey() != "" || strings.Contains(a.String(), secretValue) {
		t.Errorf("Check: %v", a)
	}
	for what, test := range map[string]struct {
		err  error
		want connect.Code
	}{
		"by key":           {second(ask(t, c.Get, &pb.GetRequest{Session: byKey(f.id.Key())})), connect.CodeInvalidArgument},
		"no name":          {second(ask(t, c.Get, &pb.GetRequest{})), connect.CodeInvalidArgument},
		"part of a handle": {second(ask(t, c.Get, &pb.GetRequest{Session: byHandle(handle[:5])})), connect.CodeInvalidArgument},
		"another handle":   {second(ask(t, c.Get, &pb.GetRequest{Session: byHandle("AAAAAAAAAAAA")})), connect.CodeNotFound},
		"another ID":       {second(ask(t, c.Get, &pb.GetRequest{Session: byID(sessions.NewID())})), connect.CodeNotFound},
		"no ID":            {second(ask(t, c.Get, &pb.GetRequest{Session: &pb.SessionName{Name: &pb.SessionName_Id{Id: "x"}}})), connect.CodeNotFound},
		"without by_id":    {second(ask(t, s.as("without-by-id").Get, &pb.GetRequest{Session: byCookie})), connect.CodePermissionDenied},
		"AddFields":        {second(ask(t, c.AddFields, &pb.AddFieldsRequest{Session: byCookie, Fields: map[string]string{"cart": "1"}})), connect.CodeUnimplemented},
		"Revoke":           {second(ask(t, c.Revoke, &pb.RevokeRequest{Session: byCookie})), connect.CodeUnimplemented},
		"RevokeUser":       {second(ask(t, c.RevokeUser, &pb.RevokeUserRequest{UserId: userID})), connect.CodeUnimplemented},
		"Watch":            {errorOf(watchOf(t, c, "all", byCookie)), connect.CodeUnimplemented},
		"ListUserSessions": {second(ask(t, c.ListUserSessions, &pb.ListUserSessionsRequest{UserId: userID})), connect.CodeUnimplemented},
	} {
		wantCode(t, what, test.err, test.want)
		if test.err != nil && strings.Contains(test.err.Error(), f.id.Reveal()) {
			t.Errorf("%s: %v", what, test.err)
		}
	}
	if strings.Contains(s.log.String(), f.id.Reveal()) || strings.Contains(s.log.String(), f.id.Key().Hash()) {
		t.Errorf("the log: %s", s.log)
	}
}

// A large framework takes its time to find a session by its handle.
type large struct {
	framework
	inside, most atomic.Int64
}

func (l *large) Find(ctx context.Context, handle string) (sessions.ID, error) {
	now := l.inside.Add(1)
	defer l.inside.Add(-1)
	for most := l.most.Load(); now > most && !l.most.CompareAndSwap(most, now); most = l.most.Load() {
	}
	time.Sleep(20 * time.Millisecond)
	return l.framework.Find(ctx, handle)
}

// TestHandlesAtOnce: a search for a handle goes through all that the store has, so one caller
// cannot have many of them run at once.
func TestHandlesAtOnce(t *testing.T) {
	f := &large{framework: framework{id: sessions.NewID()}}
	s := newStand(t, func(c *Config) { c.Foreign = f })
	c, of := s.as("all"), &pb.SessionName{Name: &pb.SessionName_Handle{Handle: f.id.Key().Handle()}}
	var calls sync.WaitGroup
	for range 8 {
		calls.Go(func() {
			if _, err := ask(t, c.Get, &pb.GetRequest{Session: of}); err != nil {
				t.Error(err)
			}
		})
	}
	calls.Wait()
	if most := f.most.Load(); most != 1 {
		t.Errorf("%d searches at once", most)
	}
}

// A searched framework says in which order handles are searched, each until it may go on.
type searched struct {
	framework
	handles chan string
	on      chan struct{}
}

func (f *searched) Find(ctx context.Context, handle string) (sessions.ID, error) {
	f.handles <- handle
	<-f.on
	return f.framework.Find(ctx, handle)
}

// TestHandlesInTurn: a caller that has many searches wait does not have those of others wait for
// all of them, or until their time is over.
func TestHandlesInTurn(t *testing.T) {
	const flood = 8
	f := &searched{framework{id: sessions.NewID()}, make(chan string, flood+1), make(chan struct{})}
	s := newStand(t, func(c *Config) { c.Foreign = f })
	var calls sync.WaitGroup
	search := func(caller, handle string) {
		calls.Go(func() {
			_, _ = ask(t, s.as(caller).Get, &pb.GetRequest{Session: &pb.SessionName{Name: &pb.SessionName_Handle{Handle: handle}}})
		})
	}
	for range flood {
		search("all", f.id.Key().Handle())
	}
	eventually(t, "a flood", func() bool { return s.server.room.inFlight() == flood })
	time.Sleep(100 * time.Millisecond) // they wait
	const other = "AAAAAAAAAAAA"
	search("without-list", other)
	eventually(t, "a call of another caller", func() bool { return s.server.room.inFlight() == flood+1 })
	time.Sleep(100 * time.Millisecond)
	turn := -1
	for i := range flood + 1 {
		if <-f.handles == other {
			turn = i
		}
		f.on <- struct{}{}
	}
	calls.Wait()
	if turn != 1 {
		t.Errorf("the other caller's search comes after %d of the flood", turn)
	}
}

var _ Foreign = (*framework)(nil)
