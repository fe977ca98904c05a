package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/coatcheck/coatcheck/cmd/internal/doctor"
	"github.com/coatcheck/coatcheck/internal/docstest"
)

// doctorSays runs coatcheck doctor without a Redis.
func doctorSays(t *testing.T, status int, stdin string, args ...string) (stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	if got := run(t.Context(), append([]string{"doctor"}, args...), strings.NewReader(stdin), &out, &errs); got != status {
		t.Errorf("coatcheck doctor %q: status %d, want %d: %s%s", args, got, status, out.String(), errs.String())
	}
	return out.String(), errs.String()
}

// TestDoctorOwnFiles: on what Coatcheck ships, also with the configurations that belong
// to it, the doctor finds nothing.
func TestDoctorOwnFiles(t *testing.T) {
	t.Chdir(docstest.Root)
	for _, args := range [][]string{
		{"envoy/envoy.yaml"}, {"docker-compose.yml"}, {"k8s"}, {"envoy"}, {"envoy/envoy.yaml", "docker-compose.yml", "k8s"},
		{"--config", "k8s/base/coatcheck.yaml", "--login-config", "k8s/base/login/coatcheck.yaml", "envoy/envoy.yaml", "k8s/base", "k8s/overlays/istio", "k8s/overlays/envoy-gateway"},
		// As the demo runs it.
		{"--headers-fields", "tenant", "--login-url", "/.auth/login", "--policy-file", "envoy/demo/policies.yaml", "envoy/envoy.yaml"},
	} {
		out, _ := doctorSays(t, 0, "", append(args, "--severity", "note")...)
		if !strings.Contains(out, "errors: 0, warnings: 0, notes: 0") {
			t.Errorf("%q: %s", args, out)
		}
	}
}

// spoiled is envoy.yaml with a mistake of each severity.
func spoiled(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(shipped)
	if err != nil {
		t.Fatal(err)
	}
	return strings.NewReplacer("failure_mode_allow: false", "failure_mode_allow: true", "merge_slashes: true", "merge_slashes: false",
		"encode_raw_headers: true", "encode_raw_headers: false").Replace(string(text))
}

// TestDoctorForms: the three forms say the same, with the lines of the file.
func TestDoctorForms(t *testing.T) {
	text := spoiled(t)
	path := filepath.Join(t.TempDir(), "my envoy.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var report doctor.Report
	out, errs := doctorSays(t, 1, "", "-o", "json", path)
	if err := json.Unmarshal([]byte(out), &report); err != nil || !strings.Contains(errs, "findings of severity warning or worse") {
		t.Fatal(err, errs)
	}
	if len(report.Findings) != 3 || report.Sources != 1 {
		t.Fatalf("%+v", report)
	}
	people, _ := doctorSays(t, 1, "", path)
	var log struct {
		Runs []struct {
			Results []struct {
				RuleID    string
				Level     string
				Locations []struct {
					PhysicalLocation struct {
						ArtifactLocation struct{ URI string }
						Region           struct{ StartLine int }
					}
				}
			}
			Tool struct {
				Driver struct{ Rules []struct{ ID string } }
			}
		}
	}
	out, _ = doctorSays(t, 1, "", "-o", "sarif", path)
	if err := json.Unmarshal([]byte(out), &log); err != nil || len(log.Runs) != 1 || len(log.Runs[0].Results) != 3 || len(log.Runs[0].Tool.Driver.Rules) != 3 {
		t.Fatalf("%v: %s", err, out)
	}
	lines := strings.Split(text, "\n")
	for i, f := range report.Findings {
		key := f.Path[strings.LastIndexByte(f.Path, '.')+1:]
		if f.ID != doctor.EnvoyPaths && !strings.Contains(lines[f.Line-1], key+":") {
			t.Errorf("%+v is not in line %q", f, lines[f.Line-1])
		}
		for _, part := range []string{string(f.Severity) + " " + string(f.ID) + ": " + f.What, f.Path, f.Why, f.Cure, f.Source} {
			if !strings.Contains(people, part) {
				t.Errorf("%q is not in %s", part, people)
			}
		}
		r := log.Runs[0].Results[i]
		at := r.Locations[0].PhysicalLocation
		if r.RuleID != string(f.ID) || r.Level != string(f.Severity) || at.Region.StartLine != f.Line || !strings.HasSuffix(at.ArtifactLocation.URI, "/my%20envoy.yaml") {
			t.Errorf("%+v, and in SARIF %+v", f, r)
		}
	}
}

// TestDoctorStatus: a program learns by the status alone what came out.
func TestDoctorStatus(t *testing.T) {
	note := strings.Replace(spoiled(t), "failure_mode_allow: true", "failure_mode_allow: false", 1)
	warned := note
	note = strings.Replace(note, "merge_slashes: false", "merge_slashes: true", 1)
	for _, test := range []struct {
		status int
		stdin  string
		args   []string
	}{
		{0, note, []string{"-"}},
		{1, note, []string{"-", "--severity", "note"}},
		{1, warned, []string{"-"}},
		{0, warned, []string{"-", "--severity", "error"}},
		{1, spoiled(t), []string{"-", "--severity", "error"}},
		{2, "", nil},
		{2, "", []string{"-"}},
		{2, "a: [", []string{"-"}},
		{2, "a: &a [*a]", []string{"-"}},
		{2, "redis: {password: hunter2}", []string{"-"}},
		{2, note, []string{"-", "--severity", "bad"}},
		{2, note, []string{"-", "--output", "yaml"}},
		{2, note, []string{"-", "--config", "none.yaml"}},
		{2, note, []string{"-", "--login-config", "none.yaml"}},
		{2, "", []string{"none.yaml"}},
		{2, "", []string{t.TempDir()}},
		{2, "", []string{"http://127.0.0.1:1"}},
	} {
		out, errs := doctorSays(t, test.status, test.stdin, test.args...)
		if strings.Contains(out+errs, "hunter2") || test.status == 2 && (out != "" || errs == "") {
			t.Errorf("%q: %s%s", test.args, out, errs)
		}
	}
}

// TestDoctorIsLegible: what an attacker writes into a manifest neither controls the
// terminal, nor stands in another order than it is.
func TestDoctorIsLegible(t *testing.T) {
	text := strings.Replace(spoiled(t), "            - name: all\n", "            - name: \"a\\e[2J\\u202Ell\\n- error\"\n", 1)
	text = strings.Replace(text, "match: {prefix: /}", `match: {prefix: "/x\e]0;owned\a"}`, 1)
	out, _ := doctorSays(t, 1, text, "-")
	if !strings.Contains(out, "ENVOY_NO_CATCH_ALL") || strings.ContainsAny(strings.ReplaceAll(out, "\n", ""), "\x1b\a\u202e") || strings.Contains(out, "\n- error") {
		t.Errorf("%q", out)
	}
}

// TestDoctorCompares: what is right depends on the configuration of serve.
func TestDoctorCompares(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	for name, text := range map[string]string{
		"slow.yaml":     "timeout: 250ms\n",
		"prefix.yaml":   "headers: {prefix: x-shop-}\n",
		"login.yaml":    "listen: ''\nlogin: {listen: ':8080', users_file: users.yaml}\nredis: {addresses: ['redis:6379'], database: 3}\nsession: {idle_timeout: 1h}\n",
		"checks.yaml":   "redis: {addresses: ['redis:6379']}\n",
		"policies.yaml": "policies:\n- {name: staff, condition: 'request.headers[\"x-plan\"] == \"gold\"'}\n",
		"badpolicy":     "policies: [{name: 'no name'}]\n",
	} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		status int
		args   []string
		want   []doctor.ID
	}{
		{1, []string{"--config", "slow.yaml"}, []doctor.ID{doctor.EnvoyTimeoutShort}},
		{1, []string{"--config", "prefix.yaml"}, []doctor.ID{doctor.EnvoyAliasesHidden, doctor.EnvoyMutationRules}},
		{1, []string{"--config", "checks.yaml", "--login-config", "login.yaml"}, []doctor.ID{doctor.ConfigRedisDiffers, doctor.ConfigSettingsDiffer}},
		{1, []string{"--policy-file", "policies.yaml"}, []doctor.ID{doctor.EnvoyHeadersHidden}},
		{1, []string{"--bearer", "true"}, []doctor.ID{doctor.EnvoyHeadersHidden}},
		{1, []string{"--listen", "unix:///run/coatcheck.sock"}, []doctor.ID{doctor.EnvoyClusterPort}},
		{1, []string{"--envoy-version", "1.38.3"}, []doctor.ID{doctor.EnvoyVersion}},
		{0, []string{"--envoy-version", "1.38.4"}, nil},
		{2, []string{"--policy-file", "badpolicy"}, nil},
	} {
		out, _ := doctorSays(t, test.status, "", append(test.args, "-o", "json", shipped)...)
		var report doctor.Report
		_ = json.Unmarshal([]byte(out), &report)
		var got []doctor.ID
		for _, f := range report.Findings {
			got = append(got, f.ID)
		}
		slices.Sort(got)
		if got = slices.Compact(got); !slices.Equal(got, test.want) {
			t.Errorf("%q: %v, want %v\n%s", test.args, got, test.want, out)
		}
	}
}
