package compose_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A project is a copy of what docker-compose.yml is about, with passwords of its own.
// So a developer's passwords, users and containers stay as they are.
type project struct {
	dir         string
	program     string // docker compose
	environment []string
}

// newProject copies the files.
func newProject(t *testing.T) *project {
	t.Helper()
	p := &project{dir: t.TempDir(), program: tool(t, "docker-compose", "DOCKER_COMPOSE")}
	for _, name := range []string{"docker-compose.yml", "Dockerfile", ".dockerignore", "LICENSE", "envoy/envoy.yaml"} {
		text, err := os.ReadFile(filepath.Join(root, name))
		must(t, err)
		p.write(t, name, text)
	}
	p.environment = append(os.Environ(), "DOCKER_BUILDKIT=0", "DOCKER_CONFIG="+filepath.Join(p.dir, ".docker"),
		"COMPOSE_PROJECT_NAME=coatcheck-e2e", "COMPOSE_ANSI=never", "COMPOSE_PROGRESS=plain")
	return p
}

// build builds the programs and makes passwords, as make image does before it calls
// Docker.
func (p *project) build(t *testing.T) {
	t.Helper()
	build := filepath.Join(p.dir, ".build")
	run(t, "go", "build", "-C", root, "-trimpath", "-o", build+"/coatcheck", "./cmd/coatcheck")
	run(t, "go", "build", "-C", root, "-trimpath", "-o", build+"/upstream", "./envoy/upstream")
	run(t, filepath.Join(root, ".ci/passwords"), build+"/passwords")
	run(t, filepath.Join(root, ".ci/users"), build+"/coatcheck", build+"/passwords")
}

func run(t *testing.T, name string, arguments ...string) {
	t.Helper()
	command := exec.CommandContext(t.Context(), name, arguments...)
	command.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := command.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
}

func (p *project) write(t *testing.T, name string, text []byte) {
	t.Helper()
	path := filepath.Join(p.dir, name)
	must(t, os.MkdirAll(filepath.Dir(path), 0o755))
	must(t, os.WriteFile(path, text, 0o644)) // containers read it as users of their own
}

func (p *project) read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(p.dir, name))
	must(t, err)
	return string(text)
}

func (p *project) replace(t *testing.T, name, before, after string) {
	t.Helper()
	text := p.read(t, name)
	if !strings.Contains(text, before) {
		t.Fatalf("%s has no %q", name, before)
	}
	p.write(t, name, []byte(strings.Replace(text, before, after, 1)))
}

// command is docker compose, in the project.
func (p *project) command(arguments ...string) *exec.Cmd {
	command := exec.Command(p.program, arguments...)
	command.Dir, command.Env = p.dir, p.environment
	return command
}

// compose runs docker compose, which must succeed, and returns its standard output.
func (p *project) compose(t *testing.T, arguments ...string) string {
	t.Helper()
	command := p.command(arguments...)
	var stdout, stderr bytes.Buffer
	command.Stdout, command.Stderr = &stdout, &stderr
	if err := command.Run(); err != nil {
		t.Fatalf("docker compose %s: %v\n%s%s", strings.Join(arguments, " "), err, stdout.String(), stderr.String())
	}
	return stdout.String()
}

// A container is a line of docker compose ps.
type container struct {
	ID, Service, State, Health string
	ExitCode                   int
}

// containers lists those of the services, the ended ones, too.
func (p *project) containers(t *testing.T) map[string]container {
	t.Helper()
	found := make(map[string]container)
	for line := range strings.Lines(p.compose(t, "ps", "--all", "--format", "json")) {
		var c container
		must(t, json.Unmarshal([]byte(line), &c))
		found[c.Service] = c
	}
	return found
}
