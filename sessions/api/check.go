package api

import (
	"cmp"
	"context"
	"slices"

	"github.com/coatcheck/coatcheck/sessions"
	pb "github.com/coatcheck/coatcheck/sessions/api/sessionsv1"
)

// maxHeaders bounds the headers of a question.
const maxHeaders = 64

// noHost is the host of a question about a policy that names none: no host has it (RFC 2606).
const noHost = "none.invalid"

// The reasons of a question about roles, which is answered here.
const (
	reasonOK          = "ok"
	reasonMissingRole = "missing_role"
)

// check decides. It reads the session once, with the fields of the policy and of the caller,
// and slides it only where the caller asks for it and may.
func (s *Server) check(ctx context.Context, c *call, q *pb.CheckRequest) (*pb.CheckResponse, error) {
	of, err := s.named(ctx, c, q.GetSession())
	if err != nil {
		return nil, err
	}
	if q.GetTouch() && !c.caller.may(Touch) {
		return nil, lacksTouch
	}
	if err := c.visible(q.GetFields()); err != nil {
		return nil, err
	}
	decide, err := s.question(q)
	if err != nil {
		return nil, err
	}
	var session *sessions.Session
	verdict := decide(ctx, func(ctx context.Context, fields []string) (_ *sessions.Session, err error) {
		session, err = s.fetch(ctx, of, q.GetTouch(), union(q.GetFields(), fields))
		return session, err
	})
	if verdict.Err != nil {
		return nil, verdict.Err
	}
	c.reason = verdict.Reason
	a := &pb.CheckResponse{Allowed: verdict.Allowed, Reason: verdict.Reason}
	if session != nil {
		if err := tellable(session, q.GetFields()); err != nil {
			return nil, err
		}
		a.Session = s.told(session, q.GetFields())
	}
	return a, nil
}

// question returns what decides, or that there is no question: a caller that leaves it out,
// or computes an empty list of roles, must not be told that all is allowed.
func (s *Server) question(q *pb.CheckRequest) (func(context.Context, Lookup) Verdict, error) {
	var asked Question
	switch question := q.GetQuestion().(type) {
	case *pb.CheckRequest_Roles:
		anyOf, allOf := question.Roles.GetAnyOf(), question.Roles.GetAllOf()
		if !named(anyOf) && !named(allOf) || slices.Contains(anyOf, "") || slices.Contains(allOf, "") {
			return nil, noQuestion
		}
		return func(ctx context.Context, lookup Lookup) Verdict { return byRoles(ctx, anyOf, allOf, lookup) }, nil
	case *pb.CheckRequest_Policy:
		if question.Policy.GetName() == "" {
			return nil, noQuestion
		}
		asked = asking(question.Policy.GetRequest())
		asked.Policy = question.Policy.GetName()
		asked.Host, asked.Path = cmp.Or(asked.Host, noHost), cmp.Or(asked.Path, "/")
	case *pb.CheckRequest_Request:
		asked = asking(question.Request)
	default:
		return nil, noQuestion
	}
	if len(asked.Headers) > maxHeaders {
		return nil, tooManyHeaders
	}
	if s.config.Decide == nil {
		return nil, noPolicies
	}
	return func(ctx context.Context, lookup Lookup) Verdict { return s.config.Decide(ctx, asked, lookup) }, nil
}

func named(roles []string) bool { return len(roles) > 0 }

// asking is a request as a question.
func asking(r *pb.Request) Question {
	q := Question{Host: r.GetHost(), Method: r.GetMethod(), Path: r.GetPath(), Headers: r.GetHeaders()}
	if q.Method == "" {
		q.Method = "GET"
	}
	return q
}

// byRoles holds the session to roles, which are compared byte for byte, as checks do.
func byRoles(ctx context.Context, anyOf, allOf []string, lookup Lookup) Verdict {
	session, err := lookup(ctx, nil)
	if err != nil {
		return Verdict{Err: err}
	}
	has := func(role string) bool { return slices.Contains(session.Roles, role) }
	lacks := func(role string) bool { return !has(role) }
	if len(anyOf) > 0 && !slices.ContainsFunc(anyOf, has) || slices.ContainsFunc(allOf, lacks) {
		return Verdict{Reason: reasonMissingRole}
	}
	return Verdict{Allowed: true, Reason: reasonOK}
}

// union is both lists, each name once.
func union(a, b []string) []string {
	all := slices.Concat(a, b)
	slices.Sort(all)
	return slices.Compact(all)
}
