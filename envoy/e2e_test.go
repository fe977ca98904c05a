package envoy_test

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/coatcheck/coatcheck/envoy/internal/rig"
)

func start(t *testing.T, o rig.Options) *rig.Stack {
	t.Helper()
	s, err := rig.Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.Close()
		if t.Failed() {
			t.Logf("coatcheck:\n%s", s.Coatcheck.Output())
			t.Logf("envoy:\n%s", s.Envoy.Output())
		}
	})
	return s
}

func TestFirst(t *testing.T) {
	s := start(t, rig.Options{})
	out, err := s.Command("", "session", "create", "--user-id", "42", "--username", "Ada", "--role", "staff", "-o", "json")
	if err != nil {
		t.Fatal(err)
	}
	var made struct{ ID string }
	if err := json.Unmarshal([]byte(out), &made); err != nil {
		t.Fatal(err)
	}
	for _, c := range []string{"", "__Host-session=" + made.ID} {
		req, _ := http.NewRequest("GET", s.URL+"/x", nil)
		if c != "" {
			req.Header.Set("Cookie", c)
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(res.Body)
		t.Log(res.StatusCode, res.Header, string(b))
	}
	t.Log(strings.TrimSpace(s.Envoy.Output()))
	t.Log(strings.TrimSpace(s.Coatcheck.Output()))
}
