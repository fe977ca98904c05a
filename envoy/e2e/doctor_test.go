package e2e_test

import (
	"encoding/json"
	"slices"
	"testing"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	extauthzv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_authz/v3"

	"github.com/coatcheck/coatcheck/envoy/e2e/rig"
)

// TestDoctorOfRunningEnvoy: of what an Envoy really runs, by its admin interface, the
// doctor sees the same as of the file, but for the values that the dump hides.
func TestDoctorOfRunningEnvoy(t *testing.T) {
	t.Parallel()
	s := start(t, rig.Options{})
	for _, test := range []struct {
		sources, want []string
	}{
		{[]string{s.Config}, nil},
		{[]string{s.Admin}, []string{"ENVOY_VALUES_HIDDEN"}},
		{[]string{s.Admin + "/config_dump", s.Config}, nil},
	} {
		if got := findings(t, s, test.sources...); !slices.Equal(got, test.want) {
			t.Errorf("%v: %v, want %v", test.sources, got, test.want)
		}
	}
}

// TestDoctorOfUnsafeEnvoy: mistakes that a running Envoy has accepted are found in both.
func TestDoctorOfUnsafeEnvoy(t *testing.T) {
	t.Parallel()
	s := start(t, rig.Options{Bootstrap: func(b *bootstrapv3.Bootstrap) {
		rig.ChangeFilter(b, func(f *extauthzv3.ExtAuthz) { f.FailureModeAllow, f.StatusOnError = true, nil })
		for _, c := range b.GetStaticResources().GetClusters() {
			if c.GetName() == "coatcheck" {
				c.CircuitBreakers, c.HealthChecks = nil, nil
			}
		}
		rig.AddRoute(b, prefix("/wrong"), map[string]string{"coatcheck.role": "admin"})
	}})
	want := []string{"ENVOY_CIRCUIT_BREAKERS", "ENVOY_FAIL_OPEN", "ENVOY_HEALTH_CHECKS", "ENVOY_ROUTE_KEYS", "ENVOY_STATUS_ON_ERROR"}
	if got := findings(t, s, s.Config); !slices.Equal(got, want) {
		t.Errorf("by the file: %v", got)
	}
	if got := findings(t, s, s.Admin); !slices.Equal(got, append(want, "ENVOY_VALUES_HIDDEN")) {
		t.Errorf("by the admin interface: %v", got)
	}
}

// findings are the names of what the doctor finds.
func findings(t *testing.T, s *rig.Stack, sources ...string) []string {
	t.Helper()
	out, _ := s.Command("", append([]string{"doctor", "--output", "json", "--listen", s.Replicas[0].Checks}, sources...)...)
	var report struct{ Findings []struct{ ID string } }
	if err := json.Unmarshal([]byte(out), &report); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var ids []string
	for _, f := range report.Findings {
		ids = append(ids, f.ID)
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}
