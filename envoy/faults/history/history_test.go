package history_test

import (
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/coatcheck/coatcheck/envoy/faults/history"
	"github.com/coatcheck/coatcheck/internal/testtools/testleaks"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(testleaks.Patient(m)) }

const s = time.Second

var rules = history.Rules{Idle: 20 * s, Step: 2 * s, Slack: s / 10, Budget: 2 * s}

// A story is one session, told by hand: each step has its times in seconds.
type story struct {
	h       *history.History
	session *history.Session
}

func at(seconds float64) time.Duration { return time.Duration(seconds * float64(s)) }

// ada signs in from 0 to 1.
func ada(r history.Rules) *story {
	h := history.New(r)
	return &story{h, h.Issued(0, s, history.Subject{
		Handle: "abcdefghijkl", Key: "session:ada", User: "ada", Plan: "gold", Idle: r.Idle, Absolute: 100 * s,
	})}
}

var own = history.Answer{Verdict: history.Allowed, User: "ada", Key: "session:ada", Plan: "gold"}

func (t *story) check(begin, end float64, a history.Answer) *story {
	return t.on(history.Required, begin, end, a)
}

func (t *story) on(route history.Route, begin, end float64, a history.Answer) *story {
	t.session.Ask(at(begin), history.Question{Route: route}).Answer(at(end), a)
	return t
}

func (t *story) ok(begin, end float64) *story { return t.check(begin, end, own) }

func (t *story) says(begin, end float64, v history.Verdict) *story {
	return t.check(begin, end, history.Answer{Verdict: v})
}

func (t *story) revoke(begin, end float64, o history.Outcome) *story {
	t.session.Revoke(at(begin))(at(end), o, false)
	return t
}

func (t *story) confirmed(begin, end float64) *story {
	t.session.Revoke(at(begin))(at(end), history.Done, true)
	return t
}

func (t *story) revokeListed(begin, end float64) *story {
	t.session.RevokeListed(at(begin))(at(end), history.Done, true)
	return t
}

func (t *story) add(begin, end float64, o history.Outcome) *story {
	t.session.Add(at(begin), "blue")(at(end), o)
	return t
}

func (t *story) lose(from, to float64, emptied bool) *story {
	t.h.Lose(at(from), emptied)(at(to))
	return t
}

func (t *story) down(from, to float64) *story {
	t.h.Down(0, at(from))(at(to))
	return t
}

func with(change func(*history.Answer)) history.Answer {
	a := own
	change(&a)
	return a
}

// TestRules tells each story that breaks a rule, and beside it the nearest one that does not.
func TestRules(t *testing.T) {
	cached := rules
	cached.Stale = s
	marked := with(func(a *history.Answer) { a.Mark = "blue" })
	for name, c := range map[string]struct {
		story *story
		want  history.Rule // empty: it is right
	}{
		"alive":                           {ada(rules).ok(2, 2.1).says(3, 3.1, history.Unavailable).ok(4, 4.1), ""},
		"revoked":                         {ada(rules).revoke(2, 3, history.Done).ok(3.001, 4), history.Revoked},
		"a check that began before":       {ada(rules).revoke(2, 3, history.Done).ok(3, 4), ""},
		"revoked, not by replicas":        {ada(rules).revoke(2, 3, history.Unconfirmed).ok(3.1, 4), history.Revoked},
		"revoked, was gone":               {ada(rules).revoke(2, 3, history.Absent).ok(3.1, 4), history.Revoked},
		"an error of a revocation":        {ada(rules).revoke(2, 3, history.Uncertain).ok(3.1, 4).says(5, 6, history.Unauthenticated), ""},
		"then gone, then back":            {ada(rules).revoke(2, 3, history.Uncertain).says(5, 6, history.Unauthenticated).ok(6.1, 7), history.Returned},
		"gone beside":                     {ada(rules).revoke(2, 3, history.Uncertain).says(5, 6, history.Unauthenticated).ok(5.9, 7), ""},
		"a second acknowledgement":        {ada(rules).revoke(2, 3, history.Done).revoke(4, 5, history.Uncertain).ok(6, 7), history.Revoked},
		"unseen within the lease":         {ada(cached).revoke(2, 3, history.Done).ok(4, 4.5), ""},
		"unseen beyond the lease":         {ada(cached).revoke(2, 3, history.Done).ok(4.001, 4.5), history.Revoked},
		"after the absolute timeout":      {alive(99).check(101.2, 101.3, own), history.Expired},
		"about the absolute timeout":      {alive(99).check(101, 101.3, own), ""},
		"refused at the absolute timeout": {alive(99).says(99.9, 100, history.Unauthenticated), ""},
		"refused before it":               {alive(99).says(99, 99.8, history.Unauthenticated), history.Gone},
		"after the idle timeout":          {ada(rules).ok(2, 3).ok(26.2, 26.3), history.Idle},
		"about the idle timeout":          {ada(rules).ok(2, 3).ok(26, 26.3), ""},
		"slid by a check without answer":  {ada(rules).down(0, 99).ok(2, 3).says(3, 9, history.Failed).ok(26.2, 26.3), ""},
		"idle since 20 s":                 {ada(rules).ok(2, 3).says(20, 22, history.Unauthenticated), ""},
		"idle since 17 s":                 {ada(rules).ok(2, 3).says(19, 19.5, history.Unauthenticated), history.Gone},
		"gone":                            {ada(rules).says(2, 3, history.Unauthenticated), history.Gone},
		"gone beside its revocation":      {ada(rules).revoke(2.5, 9, history.Uncertain).says(2, 3, history.Unauthenticated), ""},
		"gone before its revocation":      {ada(rules).says(2, 3, history.Unauthenticated).revoke(3.5, 9, history.Done), history.Gone},
		"a refused revocation":            {ada(rules).revoke(2, 3, history.Refused).says(4, 5, history.Unauthenticated), history.Gone},
		"anonymous":                       {ada(rules).on(history.Optional, 2, 3, history.Answer{Verdict: history.Anonymous}), history.Gone},
		"anonymous where revoked":         {ada(rules).revoke(2, 3, history.Done).on(history.Optional, 4, 5, history.Answer{Verdict: history.Anonymous}), ""},
		"let through":                     {ada(rules).revoke(2, 3, history.Done).says(4, 5, history.Anonymous), history.Open},
		"another user":                    {ada(rules).check(2, 3, with(func(a *history.Answer) { a.User = "eve" })), history.Identity},
		"another session":                 {ada(rules).check(2, 3, with(func(a *history.Answer) { a.Key = "session:eve" })), history.Identity},
		"another plan":                    {ada(rules).check(2, 3, with(func(a *history.Answer) { a.Plan = "" })), history.Field},
		"a field too early":               {ada(rules).check(2, 3, marked).add(4, 5, history.Done), history.Field},
		"a field":                         {ada(rules).add(4, 5, history.Done).check(6, 7, marked), ""},
		"a field beside":                  {ada(rules).add(4, 5, history.Done).ok(5, 6), ""},
		"a field that is missing":         {ada(rules).add(4, 5, history.Done).ok(5.1, 6), history.Field},
		"a field without acknowledgement": {ada(rules).add(4, 5, history.Uncertain).ok(5.1, 6).check(6, 7, marked), ""},
		"a field that was refused":        {ada(rules).add(4, 5, history.Refused).check(6, 7, marked), history.Field},
		"a role it lacks":                 {ada(rules).on(history.Role, 2, 3, own), history.Escalated},
		"refused for want of it":          {ada(rules).on(history.Role, 2, 3, history.Answer{Verdict: history.Forbidden}), ""},
		"that, when revoked":              {ada(rules).revoke(2, 3, history.Done).on(history.Role, 4, 5, history.Answer{Verdict: history.Forbidden}), history.Revoked},
		"403 where no role is asked for":  {ada(rules).says(2, 3, history.Forbidden), history.Error},
		"an error":                        {ada(rules).says(2, 3, history.Failed), history.Error},
		"an error while it is down":       {ada(rules).down(2.9, 4).says(2, 3, history.Failed), ""},
		"an error before it is down":      {ada(rules).down(3.1, 4).says(2, 3, history.Failed), history.Error},
		"another status":                  {ada(rules).says(2, 3, history.Odd), history.Error},
		"late":                            {ada(rules).says(2, 4.1, history.Unavailable), history.Late},
		"late by the machine":             {ada(rules).check(2, 4.1, with(func(a *history.Answer) { a.Lag = s })), ""},

		"lost with what was written in a loss":      {lossAt(0.5, 2, false).says(3, 4, history.Unauthenticated), ""},
		"lost, though written before the loss":      {lossAt(1.5, 2, false).says(3, 4, history.Unauthenticated), history.Gone},
		"lost, when Redis was emptied":              {lossAt(1.5, 2, true).says(3, 4, history.Unauthenticated), ""},
		"revoked in a loss":                         {lossAt(2, 4, false).revoke(3, 3.5, history.Done).ok(6, 7), ""},
		"revoked before the loss":                   {lossAt(4, 5, false).revoke(3, 3.5, history.Done).ok(6, 7), history.Revoked},
		"revoked in a loss, confirmed, seen within": {lossAt(2, 4, false).confirmed(3, 3.5).ok(3.9, 5), ""},
		"revoked in a loss, confirmed, seen after":  {lossAt(2, 4, false).confirmed(3, 3.5).ok(4.1, 5), history.Revoked},
		"gone in a loss, and back":                  {lossAt(2, 4, false).revoke(2, 9, history.Uncertain).says(3, 3.5, history.Unauthenticated).ok(6, 7), ""},
		"revoked by a list":                         {ada(rules).revokeListed(3, 3.5).ok(6, 7), history.Revoked},
		"revoked by a list, before the loss":        {lossAt(2, 4, false).revokeListed(5, 5.5).ok(6, 7), history.Revoked},
		"revoked by a list that may be lost":        {lossAt(0.5, 2, false).revokeListed(5, 5.5).ok(6, 7), ""},
		"revoked by a list that was emptied":        {lossAt(1.5, 2, true).revokeListed(5, 5.5).ok(6, 7), ""},
		"revoked while Redis is emptied":            {lossAt(2, 4, true).revoke(3, 3.5, history.Done).ok(3.6, 3.7), history.Revoked},
		"gone while Redis is emptied, and back":     {lossAt(2, 4, true).says(3, 3.5, history.Unauthenticated).ok(3.6, 3.7), history.Returned},
		"a field lost in a loss":                    {lossAt(2, 4, false).add(3, 3.5, history.Done).ok(6, 7), ""},
	} {
		var got history.Rule
		found := c.story.h.Violations()
		if len(found) > 0 {
			got = found[0].Rule
		}
		if len(found) > 1 || got != c.want {
			t.Errorf("%s: %q, want %q: %v", name, got, c.want, found)
		}
	}
}

// alive is a session that is used until a time.
func alive(until float64) *story {
	t := ada(rules)
	for begin := 2.0; begin < until; begin += 5 {
		t.ok(begin, begin+0.1)
	}
	return t
}

func lossAt(from, to float64, emptied bool) *story { return ada(rules).lose(from, to, emptied) }

// TestStrangers: an ID that was never issued is never allowed.
func TestStrangers(t *testing.T) {
	for verdict, want := range map[history.Verdict]history.Rule{
		history.Allowed: history.Unknown, history.Anonymous: history.Open, history.Unauthenticated: "", history.Unavailable: "",
	} {
		h := history.New(rules)
		h.Stranger("unknown").Ask(0, history.Question{}).Answer(s, history.Answer{Verdict: verdict, User: "ada"})
		if got := h.Sums().Violations; want == "" && len(got) > 0 || want != "" && got[want] != 1 {
			t.Errorf("%v: %v, want %q", verdict, got, want)
		}
	}
}

// TestOpenLoss: what is written in a loss may be lost, also once it is over.
func TestOpenLoss(t *testing.T) {
	story := ada(rules)
	over := story.h.Lose(2*s, false)
	story.revoke(3, 3.5, history.Done).ok(6, 7)
	over(8 * s)
	story.ok(9, 10)
	sums := story.h.Sums()
	if sums.Wrong() != 0 || sums.DeclaredRevived != 1 {
		t.Errorf("%+v", sums)
	}
}

// TestCounts: a session is lost once, however many answers say so, and a wrong answer makes
// no later one wrong.
func TestCounts(t *testing.T) {
	story := ada(rules).says(2, 3, history.Unauthenticated).says(3, 4, history.Unauthenticated).ok(5, 6)
	sums := story.h.Sums()
	if sums.Lost != 1 || sums.WrongDenies() != 2 || sums.WrongAllows() != 0 || sums.Checks != 3 || sums.Issued != 1 {
		t.Errorf("%+v", sums)
	}
}

// TestExcerpt: a violation tells what happened to the session, and shows no secret.
func TestExcerpt(t *testing.T) {
	story := ada(rules)
	for i := range 20 {
		story.ok(float64(i), float64(i)+0.5)
	}
	story.revoke(30, 31, history.Done).ok(32, 33)
	text := story.h.Violations()[0].String()
	for _, want := range []string{"session abcdefghijkl: allowed after its revocation was acknowledged", "signed in from 0s to 1s", "revoke: acknowledged", "32s to 33s", "route required: ok", "earlier events"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in:\n%s", want, text)
		}
	}
}
