package waysin_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/coatcheck/coatcheck/envoy/e2e/rig"
	"github.com/coatcheck/coatcheck/internal/testtools"
)

// An upstream is a server that reads requests its own way. It answers with the
// page that it served in X-Page, and with the method as it reads it in X-Method.
type upstream struct {
	name, address string
	http2         bool // how Envoy speaks to it
}

// everyUpstream is who the requests go to.
var everyUpstream = []string{"tomcat", "tomcat-loose", "jetty", "jetty-loose", "express", "django", "gunicorn", "werkzeug", "decodes-twice"}

// ignoresCase reports whether an upstream serves /admin to who asks for /ADMIN.
func ignoresCase(name string) bool { return name == "express" }

// upstreams are running.
type upstreams struct {
	processes []*rig.Process
	byName    map[string]upstream
}

// startUpstreams runs all of them at once. What it could not start is in the
// error, and nothing is left behind then.
func startUpstreams() (u *upstreams, err error) {
	u = &upstreams{byName: make(map[string]upstream)}
	defer func() {
		if err != nil {
			u.close()
		}
	}()
	tools, err := toolsFolder()
	if err != nil {
		return u, err
	}
	python, node := filepath.Join(tools, "django", "bin", "python"), []string{"NODE_PATH=" + filepath.Join(tools, "express", "node_modules")}
	java := []string{"-Xmx512m", "-Xss1m", "-XX:+UseSerialGC", "-cp", filepath.Join(tools, "servlets", "*"), "upstreams/servlets/Servlets.java"}
	for _, p := range []struct {
		binary      string
		environment []string
		arguments   []string
	}{
		{"java", nil, java},
		{"node", node, []string{"upstreams/express/server.js"}},
		{python, nil, []string{"-B", "upstreams/python/site_django.py", "runserver"}},
		{python, nil, []string{"-B", "upstreams/python/site_django.py", "gunicorn"}},
		{python, nil, []string{"-B", "upstreams/python/site_werkzeug.py"}},
	} {
		binary, err := testtools.Program(p.binary, "") // on the PATH, or of .tools
		if err != nil {
			return u, fmt.Errorf("%w: run `make ways-in`, which fetches it", err)
		}
		process, err := rig.Run(p.arguments[len(p.arguments)-1], binary, p.environment, p.arguments...)
		if err != nil {
			return u, err
		}
		u.processes = append(u.processes, process)
	}
	for _, p := range u.processes {
		if err := u.ready(p); err != nil {
			return u, err
		}
	}
	for _, name := range everyUpstream {
		if _, ok := u.byName[name]; !ok {
			return u, fmt.Errorf("no upstream named %s", name)
		}
	}
	u.byName["tomcat-http2"] = upstream{"tomcat-http2", u.byName["tomcat"].address, true}
	u.byName["jetty-http2"] = upstream{"jetty-http2", u.byName["jetty"].address, true}
	return u, nil
}

// toolsFolder is where .ci/fetch puts what it fetches.
func toolsFolder() (string, error) {
	dir, err := os.Getwd()
	for ; err == nil && dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, ".ci", "fetch")); err == nil {
			return filepath.Join(dir, ".tools"), nil
		}
	}
	return "", errors.Join(errors.New("no .ci/fetch here or above"), err)
}

// ready waits until a process says that it is, and learns where it listens.
func (u *upstreams) ready(p *rig.Process) error {
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		lines := strings.Split(p.Output(), "\n")
		if !slices.Contains(lines, "ready") {
			select {
			case <-p.Exited():
				return fmt.Errorf("an upstream ended: %s", p.Output())
			default:
				continue
			}
		}
		for _, line := range lines {
			var name, address string
			if _, err := fmt.Sscanf(line, "listening %s %s", &name, &address); err == nil {
				u.byName[name] = upstream{name: name, address: address}
				if err := p.Answers(address); err != nil {
					return err
				}
			}
		}
		return nil
	}
	return fmt.Errorf("an upstream is not ready after a minute: %s", p.Output())
}

func (u *upstreams) close() {
	for _, p := range u.processes {
		_ = p.Stop()
	}
}
