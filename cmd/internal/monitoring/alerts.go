// Package monitoring is the one source of what watches Coatcheck: the alerts, from which
// the table in docs/operations.md, docs/runbook.md and the PrometheusRule of
// k8s/components/monitoring are made, and the panels of the Grafana dashboard beside it.
//
//	for _, a := range monitoring.Alerts() { fmt.Println(a.Name, a.Expr) }
//
// `make docs` makes the files. A test of cmd/internal/serve has a real Prometheus scrape
// running servers, makes the fault of every alert, and asks every query of the panels.
package monitoring

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/coatcheck/coatcheck/extauthz"
	"github.com/coatcheck/coatcheck/internal/notice"
)

// A Severity says how soon a person must look.
type Severity string

// The severities, named as kube-prometheus names them.
const (
	Critical Severity = "critical" // now: users are refused, or soon will be
	Warning  Severity = "warning"  // within days
)

// An Alert is a rule of Prometheus and its entry in the runbook. Expressions keep the
// label namespace, so that two installations are told apart.
type Alert struct {
	Name     string
	Expr     string // PromQL
	For      time.Duration
	Severity Severity
	Summary  string // one line, for the pager
	Means    string // what the users see, in Markdown
	Do       string // what the operator does, in Markdown
}

// Runbook is where the Alert's entry is. The anchors of a page are its headings in lower
// case.
func (a Alert) Runbook() string {
	return "https://github.com/coatcheck/coatcheck/blob/main/docs/runbook.md#" + strings.ToLower(a.Name)
}

// Alerts returns every alert, those about requests first.
func Alerts() []Alert { return slices.Concat(faultAlerts(), others()) }

// byStatus says of the faults with a status what they are to the users, and how soon a
// person must look. What to do about a 503 differs from what to do about a mistake.
var byStatus = map[int]Alert{
	401: {Severity: Warning, Summary: "Records in Redis are broken: their users are not signed in",
		Means: "Checks found records that do not have the form of a session. Their users are asked to sign in; an attacker gains nothing.",
		Do:    "The log has a line with the handle and what is wrong (`error`). Mend the program that writes such records ([sessions](sessions.md)), and find them all with `coatcheck session verify --all`."},
	403: {Severity: Critical, Summary: "Requests are refused by a mistake in a route, a policy or a condition",
		Means: "Every request to some routes is refused, from every client: Envoy's route or the policy file says what Coatcheck does not know, or a condition fails.",
		Do:    "The log has a line with the route and the policy (`error`). `coatcheck explain` shows how such a request is decided. What changed last, in Envoy's configuration or in the policy file, is the likely cause."},
	503: {Severity: Critical, Summary: "Checks get no answer: users see 503",
		Means: "No user is logged out, but none gets in. It is Redis most of the time; `coatcheck_redis_up` says whether.",
		Do:    "By the label `reason`: `unavailable` and `timeout`: `coatcheck_redis_failures_total` and the log line `operations on Redis fail` have the [cause](troubleshooting.md#by-cause), with what to look at. `overloaded`: more checks wait than `max_in_flight`, so Redis is slow, or replicas are too few. `unknown_layout`: a newer Coatcheck or another program writes records. `internal`: a bug; the log has its place."},
}

// faultAlerts are one for each status that a fault can have. No other alert speaks of a
// reason.
func faultAlerts() (all []Alert) {
	faults := Faults()
	for _, status := range slices.Sorted(maps.Keys(faults)) {
		a := byStatus[status] // a status without a row has no summary, which a test finds
		a.Name = fmt.Sprintf("CoatcheckFaults%d", status)
		a.Expr = fmt.Sprintf(`sum by (namespace, reason) (rate(coatcheck_checks_total{reason=~"%s"}[5m])) > 0`, strings.Join(faults[status], "|"))
		a.Do += " Each reason has its cause and cure in [troubleshooting](troubleshooting.md#by-reason)."
		all = append(all, a)
	}
	return all
}

// Faults are the reasons that are faults, by the status of their refusal.
func Faults() map[int][]string {
	faults := make(map[int][]string)
	for _, i := range extauthz.Reasons() {
		if i.Fault {
			faults[i.Status()] = append(faults[i.Status()], string(i.Reason))
		}
	}
	return faults
}

// paging are the notices for which the operator is woken.
func paging() (names []string) {
	for _, i := range notice.All() {
		if i.Page {
			names = append(names, string(i.Name))
		}
	}
	return names
}
