package extauthz

import (
	"context"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// resting are policies that rest on every header that policies can, but for those
// that conditions name.
var resting = PolicySet{Policies: []Policy{{Name: "p", Origins: []string{}, Preflight: true, Condition: headersOf{"x-flag", "accept"}}}}

// headersOf is a condition that reads headers.
type headersOf []string

func (h headersOf) Headers() []string { return h }
func (headersOf) Fields() []string    { return nil }
func (headersOf) String() string      { return "headers" }
func (headersOf) Holds(context.Context, Input) (bool, error) {
	return false, nil
}

// TestRequestHeaders: the list has every header that the code looks at.
func TestRequestHeaders(t *testing.T) {
	source, err := os.ReadFile("request.go")
	if err != nil {
		t.Fatal(err)
	}
	_, reading, _ := strings.Cut(string(source), "\nfunc (r *reader) header(")
	reading, _, _ = strings.Cut(reading, "\n// join ")
	// The one is read if Config.Bearer says so; the other is the path itself, as it came.
	listed := append(resting.RequestHeaders(), "authorization", ":path")
	named := 0
	for _, line := range regexp.MustCompile(`case ("[:a-z-]+"(, "[:a-z-]+")*):`).FindAllStringSubmatch(reading, -1) {
		for name := range strings.SplitSeq(line[1], ", ") {
			name = strings.Trim(name, `"`)
			if named++; !slices.Contains(listed, name) && !strings.HasPrefix(name, "sec-fetch-") {
				t.Errorf("%s is read, and RequestHeaders does not list it: %q", name, listed)
			}
		}
	}
	if named < 10 || !slices.Contains(listed, "x-flag") || !slices.Contains(listed, "cookie") {
		t.Errorf("%d headers are read, %q listed", named, listed)
	}
	if got, want := (PolicySet{Policies: []Policy{{}}}).RequestHeaders(), []string{"accept", "accept-language", "connection", "content-type", "cookie", "sec-fetch-", "traceparent", "x-request-id"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// TestEnvoyShowsHeaders: envoy.yaml shows Coatcheck every header on which policies
// can rest, so that no Origin check and no preflight passes for want of one.
func TestEnvoyShowsHeaders(t *testing.T) {
	text, err := os.ReadFile("../envoy/envoy.yaml")
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(text), "allowed_headers:\n")
	if !found {
		t.Fatal("envoy.yaml has no allowed_headers")
	}
	section, _, _ = strings.Cut(section, "decoder_header_mutation_rules:")
	shown := func(name string) bool {
		for _, pattern := range regexp.MustCompile(`\{(exact|prefix): "?([^}"]+)"?\}`).FindAllStringSubmatch(section, -1) {
			if pattern[2] == name || pattern[1] == "prefix" && strings.HasPrefix(name, pattern[2]) {
				return true
			}
		}
		return false
	}
	for _, name := range append(resting.RequestHeaders(), ":path") {
		if name != "x-flag" && !shown(name) {
			t.Errorf("envoy.yaml's allowed_headers hides %s", name)
		}
	}
	if shown("x-user-id") || shown("x-anything") {
		t.Error("the pattern shows everything: the test shows nothing")
	}
}
