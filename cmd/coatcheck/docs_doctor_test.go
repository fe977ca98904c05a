package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/coatcheck/coatcheck/cmd/internal/doctor"
	"github.com/coatcheck/coatcheck/internal/docstest"
)

const aboutDoctor = `# What the doctor finds

<!-- Made by make docs from the rules themselves; do not edit. -->

` + "`coatcheck doctor`" + ` reads how Envoy, Istio, Envoy Gateway and Kubernetes are configured, and says what is unsafe there, where,
why, and how to mend it. It changes nothing and needs no Redis.

` + "```sh" + `
coatcheck doctor --config coatcheck.yaml envoy.yaml                          # Envoy's file
coatcheck doctor --config coatcheck.yaml envoy.yaml http://127.0.0.1:9901    # and what Envoy runs
kubectl kustomize overlays/mine | coatcheck doctor -                         # manifests
coatcheck doctor --output sarif deploy/ >doctor.sarif                        # for a forge
` + "```" + `

Name everything that belongs to one deployment: a policy of Istio is compared with MeshConfig, a route of Envoy Gateway with its
Gateway. With the configuration of ` + "`serve`" + ` (` + "`--config`" + `, variables or flags) timeouts, the prefix and the fields of headers, limits,
the address, and the names of policies are compared, too; without it those of the manifests, or the defaults. ` + "`--login-config`" + `
names the configuration of a login in another process. [commands.md](commands.md#coatcheck-doctor) has all flags.

- **Values that a config dump hides.** Envoy replaces the values of ` + "`context_extensions`" + ` in its dump by ` + "`[redacted]`" + `. The doctor
  still sees the keys; to compare roles and names of policies, name Envoy's file, too.
- **Which filter is Coatcheck's.** The ones that ask a cluster, a provider or a backend with coatcheck in its name, or else all
  that ask over gRPC; ` + "`--service`" + ` names another.
- **The status** is 0 without a finding of at least ` + "`--severity`" + ` (warning), 1 with one, 2 where a source cannot be read. Names of
  findings never change their meaning.
- **What it does not see**: whether upstreams can be reached past Envoy, what an EnvoyPatchPolicy or a WebAssembly plugin does,
  and which routes a control plane will send tomorrow.

An *error* lets requests pass without a check, or lets none pass. A *warning* fails in an outage, in a burst, or together with
another mistake. A *note* could not be looked at, or is better otherwise.
`

var doctorSubjects = []struct{ prefix, title string }{
	{"ENVOY_", "Envoy"}, {"ISTIO_", "Istio"}, {"GATEWAY_", "Envoy Gateway"}, {"KUBERNETES_", "Kubernetes"}, {"CONFIG_", "Checks and login"},
}

// TestDocsDoctor: docs/doctor.md lists every finding.
func TestDocsDoctor(t *testing.T) {
	var page strings.Builder
	page.WriteString(aboutDoctor)
	for _, subject := range doctorSubjects {
		fmt.Fprintf(&page, "\n## %s\n\n| finding | what is wrong | why it matters | cure | source |\n|---|---|---|---|---|\n", subject.title)
		for _, r := range doctor.Rules() {
			if strings.HasPrefix(string(r.ID), subject.prefix) {
				fmt.Fprintf(&page, "| `%s`<br>%s | %s | %s | %s | %s |\n", r.ID, r.Severity, r.What, r.Why, r.Cure, r.From)
			}
		}
	}
	docstest.IsCurrent(t, "docs/doctor.md", page.String())
}

// TestDocsDoctorMentions: pages name only findings that exist.
func TestDocsDoctorMentions(t *testing.T) {
	for name, pages := range docstest.Mentions(t, "`((?:ENVOY|ISTIO|GATEWAY|KUBERNETES|CONFIG)_[A-Z0-9_]+)`") {
		if !slices.ContainsFunc(doctor.Rules(), func(r doctor.Rule) bool { return string(r.ID) == name }) {
			t.Errorf("%s in %v is no finding", name, pages)
		}
	}
}

// TestDocsLeastEnvoy: the README and envoy.yaml name the least releases of Envoy as the
// doctor does.
func TestDocsLeastEnvoy(t *testing.T) {
	for _, file := range []string{"README.md", "envoy/envoy.yaml"} {
		text, err := os.ReadFile(filepath.Join(docstest.Root, file))
		if err != nil {
			t.Fatal(err)
		}
		versions := regexp.MustCompile(`1\.\d\d\.\d+`).FindAllString(string(text), -1)
		slices.Sort(versions)
		versions = slices.Compact(versions)
		for _, v := range versions {
			parts := strings.Split(v, ".")
			if len(parts[2]) != 1 {
				continue
			}
			if doctor.TooOld(v) {
				t.Errorf("%s names Envoy %s, which the doctor takes for too old", file, v)
			}
		}
		for _, v := range doctor.LeastEnvoy() {
			if !slices.Contains(versions, v) {
				t.Errorf("%s does not name Envoy %s", file, v)
			}
		}
	}
}
