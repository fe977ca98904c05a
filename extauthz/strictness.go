package extauthz

import "slices"

// AtLeast reports whether p asks for no less than q, as far as their texts tell:
// what p lets through, q would let through, too. Conditions are compared as texts;
// one that reads false holds for no request.
func (p Policy) AtLeast(q Policy) bool {
	switch {
	case q.Shadow:
		return true
	case p.Shadow:
		return q.asksNothing()
	case p.Preflight && !q.Preflight:
		return false
	case p.Condition != nil && p.Condition.String() == "false":
		return true
	}
	return p.sessionRank() >= q.sessionRank() && p.rolesAtLeast(q) && p.conditionAtLeast(q) && p.originsAtLeast(q)
}

func (p Policy) asksNothing() bool {
	return p.sessionRank() == 0 && p.Condition == nil && p.Origins == nil
}

// sessionRank orders what p asks of the session: nothing, a lookup, a live one. Who
// has a role is signed in.
func (p Policy) sessionRank() int {
	switch {
	case p.Session == "none":
		return 0
	case p.Session == "optional" && p.AnyRole == nil && p.AllRoles == nil:
		return 1
	}
	return 2
}

func (p Policy) rolesAtLeast(q Policy) bool {
	surely := p.AllRoles // of every user whom p lets through
	if len(p.AnyRole) == 1 {
		surely = append(surely[:len(surely):len(surely)], p.AnyRole[0])
	}
	has := func(role string) bool { return slices.Contains(surely, role) }
	among := func(role string) bool { return slices.Contains(q.AnyRole, role) }
	all := func(list []string, is func(string) bool) bool {
		return !slices.ContainsFunc(list, func(role string) bool { return !is(role) })
	}
	any := q.AnyRole == nil || p.AnyRole != nil && all(p.AnyRole, among) || slices.ContainsFunc(surely, among)
	return any && all(q.AllRoles, has)
}

func (p Policy) conditionAtLeast(q Policy) bool {
	return q.Condition == nil || p.Condition != nil && p.Condition.String() == q.Condition.String()
}

func (p Policy) originsAtLeast(q Policy) bool {
	return q.Origins == nil || p.Origins != nil && !slices.ContainsFunc(p.Origins, func(origin string) bool {
		return !slices.Contains(q.Origins, origin)
	})
}
