package extauthz_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/coatcheck/coatcheck/extauthz"
	"github.com/coatcheck/coatcheck/sessions"
)

// series gathers every sample by its name and labels; of a histogram the count.
func series(t *testing.T, g prometheus.Gatherer) map[string]float64 {
	t.Helper()
	families, err := g.Gather()
	if err != nil {
		t.Fatal(err)
	}
	found := make(map[string]float64)
	for _, family := range families {
		for _, m := range family.GetMetric() {
			name := family.GetName()
			for _, label := range m.GetLabel() {
				name += "," + label.GetName() + "=" + label.GetValue()
			}
			found[name] = m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return found
}

// TestMetrics: each answer is counted under its verdict and reason, and no
// request makes a series that was not there from the start.
func TestMetrics(t *testing.T) {
	f := &fake{session: ada}
	registry := prometheus.NewRegistry()
	server, err := extauthz.New(f, extauthz.Config{Metrics: registry})
	if err != nil {
		t.Fatal(err)
	}
	before := series(t, registry)
	live := []string{"cookie: " + ours(liveID)}
	for want, c := range map[string]struct {
		check
		err error
	}{
		"reason=ok,verdict=allow":              {check{request: "GET /x", lines: live}, nil},
		"reason=public,verdict=allow":          {check{request: "GET /x", extensions: public}, nil},
		"reason=no_cookie,verdict=allow":       {check{request: "GET /x", extensions: optional}, nil},
		"reason=no_cookie,verdict=deny":        {check{request: "GET /x"}, nil},
		"reason=bad_request,verdict=deny":      {check{request: "GET x"}, nil},
		"reason=missing_role,verdict=deny":     {check{request: "GET /x", lines: live, extensions: map[string]string{"coatcheck.roles": "x"}}, nil},
		"reason=bad_route,verdict=deny":        {check{request: "GET /x", extensions: map[string]string{"coatcheck.a": "x"}}, nil},
		"reason=not_found,verdict=deny":        {check{request: "GET /x", lines: live}, sessions.ErrNotFound},
		"reason=broken_record,verdict=allow":   {check{request: "GET /x", lines: live, extensions: optional}, sessions.ErrBroken},
		"reason=unavailable,verdict=deny":      {check{request: "GET /x", lines: live}, errors.New("refused")},
		"reason=unknown_layout,verdict=deny":   {check{request: "GET /x", lines: live}, sessions.ErrLayout},
		"reason=ambiguous_cookie,verdict=deny": {check{request: "GET /x", lines: append(live, live...)}, nil},
	} {
		f.err = c.err
		at := "coatcheck_checks_total," + want
		old := series(t, registry)
		if _, err := server.Check(t.Context(), c.message()); err != nil {
			t.Fatal(err)
		}
		now := series(t, registry)
		if now[at] != old[at]+1 {
			t.Errorf("%s: %v after %v", at, now[at], old[at])
		}
		if n := "coatcheck_check_duration_seconds"; now[n] != old[n]+1 {
			t.Errorf("%s: %v after %v", n, now[n], old[n])
		}
	}
	for i := range 1000 {
		c := check{request: fmt.Sprintf("M%d /%d", i, i), lines: []string{fmt.Sprintf("cookie: a%d=%d", i, i)}}
		if _, err := server.Check(t.Context(), c.message()); err != nil {
			t.Fatal(err)
		}
	}
	if after := series(t, registry); len(after) != len(before) {
		t.Errorf("%d series have become %d", len(before), len(after))
	}
	if _, err := extauthz.New(f, extauthz.Config{Metrics: registry}); err == nil {
		t.Error("two servers on one registry, and no error")
	}
}
