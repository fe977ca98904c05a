package live_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/coatcheck/coatcheck/envoy/e2e/rig"
	"github.com/coatcheck/coatcheck/internal/testtools"
)

// A program is one of apps, with the versions of its packages.
type program struct {
	name        string // a host name, by which Envoy finds it
	file        string
	environment []string
}

// An app is a running program.
type app struct {
	program
	address string
	process *rig.Process
}

// own keeps its user at session.user, passport at session.passport.user.
func own(express, store string, more ...string) program {
	return program{"express-" + express + ".connect-redis-" + store + ".test", "own.js", append(more, "EXPRESS="+express, "STORE="+store)}
}

func passport(version, express, store string) program {
	return program{
		strings.ReplaceAll("passport-"+version, ".", "-") + ".test", "passport.js",
		[]string{"PASSPORT=" + version, "EXPRESS=" + express, "STORE=" + store},
	}
}

var nest = program{name: "nest.test", file: "nest/main.ts"}

// start runs the program, with its sessions in the Redis of this URL, and waits until it
// listens.
func (p program) start(redis string, environment ...string) (*app, error) {
	a, err := p.launch(redis, environment...)
	if err != nil {
		return nil, err
	}
	return a, a.listens()
}

// launch does not wait.
func (p program) launch(redis string, environment ...string) (*app, error) {
	node, err := testtools.Program("node", "NODE")
	if err != nil {
		return nil, fmt.Errorf("%w: run `make express`, which fetches it", err)
	}
	packages, arguments := "express-live", []string{p.file}
	if !filepath.IsAbs(p.file) {
		arguments[0] = filepath.Join("apps", p.file)
	}
	if filepath.Ext(p.file) == ".ts" {
		packages = "nest-live"
		environment = append(environment, "TS_NODE_PROJECT="+filepath.Join("apps", "nest", "tsconfig.json"))
		arguments = append([]string{"-r", filepath.Join(tools, packages, "node_modules", "ts-node", "register", "transpile-only")}, arguments...)
	}
	environment = append(environment, p.environment...)
	environment = append(environment, "NODE_ENV=test", "NODE_PATH="+filepath.Join(tools, packages, "node_modules"), "REDIS="+redis)
	process, err := rig.Run(p.name, node, environment, arguments...)
	if err != nil {
		return nil, err
	}
	return &app{program: p, process: process}, nil
}

// listens waits until the program says where it listens.
func (a *app) listens() error {
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if _, rest, found := strings.Cut(a.process.Output(), "listening "); found && strings.Contains(rest, "\n") {
			a.address, _, _ = strings.Cut(rest, "\n")
			return a.process.Answers(a.address)
		}
		select {
		case <-a.process.Exited():
			return fmt.Errorf("%s ended (run `make express`, which fetches its packages): %s", a.name, a.process.Output())
		default:
		}
	}
	return fmt.Errorf("%s does not listen after a minute: %s", a.name, a.process.Output())
}
