package doctor

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

// FuzzExamine: a text is refused or examined, without a panic; every finding has its row,
// a place in the text and words; reading the text twice, as two sources, finds no less;
// and a document that means nothing changes nothing.
func FuzzExamine(f *testing.F) {
	for _, base := range []string{"../../../envoy/envoy.yaml", "testdata/istio.yaml", "testdata/gateway.yaml", "testdata/kubernetes.yaml", "testdata/dump.json", "../../../docker-compose.yml"} {
		text, err := os.ReadFile(base)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text))
	}
	f.Add("apiVersion: v1\nkind: List\nitems: [{apiVersion: a/b, kind: SecurityPolicy}, {apiVersion: gateway.envoyproxy.io/v1, kind: SecurityPolicy, spec: {extAuth: {grpc: {backendRefs: [{name: coatcheck}]}}}}]")
	f.Add("apiVersion: v1\nkind: ConfigMap\ndata: {mesh: \"extensionProviders: [{envoyExtAuthzGrpc: {service: coatcheck, x: 1}}]\", a.yaml: 'static_resources: {}'}")
	f.Add("apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nspec: {action: CUSTOM, rules: [{}, {to: [{operation: {notPaths: [/]}}]}]}\n---\n- a\n---\n{}")
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > 1<<16 {
			return
		}
		once, err := outcome(t, text)
		if err != nil {
			return
		}
		lines := strings.Count(text, "\n") + 1
		for _, found := range once {
			rule := ruleOf(found.ID)
			if rule.What == string(found.ID) || found.Path == "" || found.What == "" || found.Severity != rule.Severity || found.Line < 0 || found.Line > lines+1 {
				t.Errorf("%+v of %d lines", found, lines)
			}
		}
		// Sources that add nothing known.
		again, err := outcome(t, text, "{}\n", "some: other\nfile: [1]\n")
		if err != nil || fmt.Sprint(again) != fmt.Sprint(once) {
			t.Errorf("%v: %+v, and with other files %+v", err, once, again)
		}
		twice, err := outcome(t, text, text)
		for _, id := range ids(once) {
			// What is unread, or hidden, can be the other text's to say.
			if err != nil || !slices.Contains(ids(twice), id) && ruleOf(id).Severity == Error && id != KubernetesConfig {
				t.Errorf("%s is not found in two copies of the text: %v", id, err)
			}
		}
	})
}

// outcome reads texts as files of a folder are read.
func outcome(t *testing.T, texts ...string) ([]Finding, error) {
	d := New(Deployment{})
	for _, text := range texts {
		if err := d.readText("file.yaml", []byte(text), false); err != nil {
			return nil, err
		}
	}
	report, err := d.Examine(t.Context())
	return report.Findings, err
}
