package compose_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// runsRelease: the image that make release makes without Docker is the one that Docker
// makes of the Dockerfile, and login runs from it.
func (u *user) runsRelease(t *testing.T, e *engine) {
	program, archive := filepath.Join(u.dir, "imagetar"), filepath.Join(u.dir, "image.tar")
	run(t, "go", "build", "-C", root, "-o", program, "./internal/imagetar")
	run(t, program, "-context", u.dir, "-target", "coatcheck", "-tag", "coatcheck:released", "-o", archive)
	content, err := os.Open(archive)
	must(t, err)
	defer func() { _ = content.Close() }()
	e.call(t, http.MethodPost, "/images/load", url.Values{"quiet": {"1"}}, content)
	want, got := e.image(t, "coatcheck:dev"), e.image(t, "coatcheck:released")
	if !reflect.DeepEqual(got, want) {
		t.Errorf("the release's image is %+v, and Docker's %+v", got, want)
	}

	u.replace(t, "docker-compose.yml", "image: coatcheck:dev # built above", "image: coatcheck:released")
	u.compose(t, "up", "--wait", "--wait-timeout", "180")
	healthy(t, u.project)
	u.send(t, "GET", "/", "", u.login(t)).is(t, 200)
}

// A description is what an image says of how it is run.
type description struct {
	Architecture, Os string
	Config           struct {
		User            string
		ExposedPorts    map[string]struct{}
		Entrypoint, Cmd []string
		Healthcheck     map[string]any
		Labels          map[string]string
	}
}

func (e *engine) image(t *testing.T, name string) (d description) {
	t.Helper()
	must(t, json.Unmarshal(e.call(t, http.MethodGet, "/images/"+name+"/json", nil, nil), &d))
	for label := range d.Config.Labels { // docker compose adds some of its own
		if !strings.HasPrefix(label, "org.opencontainers.image.") {
			delete(d.Config.Labels, label)
		}
	}
	if len(d.Config.Labels) == 0 {
		t.Fatalf("the image %s says nothing", name)
	}
	return d
}
