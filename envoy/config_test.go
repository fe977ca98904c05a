package envoy_test

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	extauthzv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_authz/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"go.uber.org/goleak"

	"github.com/coatcheck/coatcheck/envoy/e2e/rig"
	"github.com/coatcheck/coatcheck/internal/testtools"
	"github.com/coatcheck/coatcheck/internal/testtools/testleaks"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(testleaks.Patient(m)) }

// TestBootstrapDecodes reads envoy.yaml strictly, and validates every message by
// Envoy's rules.
func TestBootstrapDecodes(t *testing.T) {
	b, err := rig.Bootstrap()
	if err != nil {
		t.Fatal(err)
	}
	if err := b.ValidateAll(); err != nil {
		t.Error(err)
	}
	rig.ChangeFront(b, func(m *hcmv3.HttpConnectionManager) {
		if err := m.ValidateAll(); err != nil {
			t.Error(err)
		}
	})
	rig.ChangeFilter(b, func(f *extauthzv3.ExtAuthz) {
		if err := f.ValidateAll(); err != nil {
			t.Error(err)
		}
	})
}

// TestBootstrapStrict: a misspelt field is an error at any depth.
func TestBootstrapStrict(t *testing.T) {
	text, err := os.ReadFile("envoy.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, field := range []string{"failure_mode_allow", "static_resources", "remove_on_match", "context_extensions"} {
		if _, err := rig.Parse([]byte(strings.ReplaceAll(string(text), field+":", field+"x:"))); err == nil {
			t.Errorf("%sx is no error", field)
		}
	}
}

// TestBootstrapSettings checks the settings that security rests on.
func TestBootstrapSettings(t *testing.T) {
	b, err := rig.Bootstrap()
	if err != nil {
		t.Fatal(err)
	}
	rig.ChangeFilter(b, func(f *extauthzv3.ExtAuthz) {
		rules := f.GetDecoderHeaderMutationRules()
		for name, good := range map[string]bool{
			"failure_mode_allow off":    !f.GetFailureModeAllow() && !f.GetFailureModeAllowHeaderAdd(),
			"status_on_error 503":       f.GetStatusOnError().GetCode() == typev3.StatusCode_ServiceUnavailable,
			"timeout 200 ms":            f.GetGrpcService().GetTimeout().AsDuration() == 200*time.Millisecond,
			"encode_raw_headers":        f.GetEncodeRawHeaders(),
			"validate_mutations":        f.GetValidateMutations(),
			"no clear_route_cache":      !f.GetClearRouteCache(),
			"no body":                   f.GetWithRequestBody() == nil,
			"mutations are an error":    rules.GetDisallowAll().GetValue() && rules.GetDisallowIsError().GetValue(),
			"cannot be switched off":    f.GetFilterEnabled() == nil && f.GetDenyAtDisable() == nil && !f.GetShadowMode(),
			"allowed_headers is a list": len(f.GetAllowedHeaders().GetPatterns()) > 0,
		} {
			if !good {
				t.Errorf("envoy.yaml: %s: it is not so", name)
			}
		}
		allowed := regexp.MustCompile("^(?:" + rules.GetAllowExpression().GetRegex() + ")$")
		for _, name := range append([]string{"cookie", "x-user-tenant"}, rig.Spellings...) {
			if !allowed.MatchString(name) {
				t.Errorf("Coatcheck may not touch %s, which makes a 500", name)
			}
		}
		for _, name := range []string{":path", "host", "authorization", "x-envoy-original-path", "x-forwarded-for", "xxuser-id"} {
			if allowed.MatchString(name) {
				t.Errorf("Coatcheck may touch %s", name)
			}
		}
	})
	rig.ChangeFront(b, func(m *hcmv3.HttpConnectionManager) {
		filters := m.GetHttpFilters()
		routes := m.GetRouteConfig().GetVirtualHosts()[0].GetRoutes()
		for name, good := range map[string]bool{
			"ext_authz is last before the router": filters[len(filters)-2].GetName() == rig.FilterName,
			"identity headers go early":           len(m.GetEarlyHeaderMutationExtensions()) == 1,
			"and identity trailers":               filters[0].GetName() == "envoy.filters.http.header_mutation",
			"odd paths are refused":               routes[0].GetDirectResponse().GetStatus() == 400 && routes[0].GetMatch().GetSafeRegex() != nil,
			"HTTP/2 is bounded":                   m.GetHttp2ProtocolOptions().GetMaxConcurrentStreams().GetValue() == 100,
			"and so are memory and connections":   len(b.GetOverloadManager().GetResourceMonitors()) == 2 && len(b.GetOverloadManager().GetActions()) == 2,
			"paths are normalised":                m.GetNormalizePath().GetValue() && m.GetMergeSlashes(),
			"escaped slashes":                     m.GetPathWithEscapedSlashesAction() == hcmv3.HttpConnectionManager_UNESCAPE_AND_REDIRECT,
			"underscores are refused":             m.GetCommonHttpProtocolOptions().GetHeadersWithUnderscoresAction() == corev3.HttpProtocolOptions_REJECT_REQUEST,
			"the last route catches all":          routes[len(routes)-1].GetMatch().GetPrefix() == "/",
			"and it requires a session":           len(routes[len(routes)-1].GetTypedPerFilterConfig()) == 0,
		} {
			if !good {
				t.Errorf("envoy.yaml: %s: it is not so", name)
			}
		}
	})
}

// TestEnvoyAccepts asks Envoy itself.
func TestEnvoyAccepts(t *testing.T) {
	envoy, err := testtools.Program("envoy", "ENVOY")
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(envoy, "--mode", "validate", "-c", "envoy.yaml").CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
