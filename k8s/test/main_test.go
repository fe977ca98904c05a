package manifests

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/yaml"

	"go.uber.org/goleak"
)

// root is the repository's.
const root = "../.."

var (
	binary string // the real program, built of this tree
	tree   string // a copy of k8s, with passwords for the development Redis
)

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "coatcheck-manifests-")
	if err != nil {
		panic(err)
	}
	code := 1
	if err := prepare(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
	} else {
		code = m.Run()
	}
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

func prepare(dir string) error {
	binary, tree = filepath.Join(dir, "coatcheck"), filepath.Join(dir, "k8s")
	for _, part := range []string{"base", "components", "overlays"} {
		if err := os.CopyFS(filepath.Join(tree, part), os.DirFS(filepath.Join("..", part))); err != nil {
			return err
		}
	}
	// Whoever runs the tests may have passwords of their own there.
	passwords := filepath.Join(tree, "overlays/dev/passwords")
	if err := os.RemoveAll(passwords); err != nil {
		return err
	}
	if out, err := exec.Command(root+"/.ci/passwords", passwords).CombinedOutput(); err != nil {
		return fmt.Errorf(".ci/passwords: %w\n%s", err, out)
	}
	if out, err := exec.Command("go", "build", "-C", root, "-o", binary, "./cmd/coatcheck").CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w\n%s", err, out)
	}
	return nil
}

// settings is what the program makes of its configuration, as far as the
// manifests rely on it.
type settings struct {
	Listen string
	Admin  struct{ Listen string }
	TLS    struct {
		Cert     string `json:"cert_file"`
		Key      string `json:"key_file"`
		ClientCA string `json:"client_ca_file"`
	}
	Redis struct {
		Addresses []string
		Username  string
		Password  string `json:"password_file"`
		TLS       struct {
			CA string `json:"ca_file"`
		}
	}
	Shutdown struct{ Drain, Grace duration }
}

type duration struct{ time.Duration }

func (d *duration) UnmarshalText(text []byte) (err error) {
	d.Duration, err = time.ParseDuration(string(text))
	return err
}

// files lists the paths that the program reads.
func (s settings) files() []string {
	var files []string
	for _, f := range []string{s.TLS.Cert, s.TLS.Key, s.TLS.ClientCA, s.Redis.Password, s.Redis.TLS.CA} {
		if f != "" {
			files = append(files, f)
		}
	}
	return files
}

// effective asks the real program what a configuration file, which may be empty,
// and variables come to. Its error is the program's own, if it refuses them.
func effective(file string, variables []string) (settings, error) {
	var s settings
	path := ""
	if file != "" {
		dir, err := os.MkdirTemp(tree, "config-")
		if err != nil {
			return s, err
		}
		path = filepath.Join(dir, "coatcheck.yaml")
		if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
			return s, err
		}
		if _, err := run(nil, "config", "check", path); err != nil {
			return s, err
		}
	}
	out, err := run(variables, "config", "--config", path)
	if err != nil {
		return s, err
	}
	return s, yaml.Unmarshal(out, &s)
}

// run runs the program with these variables and no others.
func run(variables []string, arguments ...string) ([]byte, error) {
	command := exec.Command(binary, arguments...)
	command.Env = append([]string{}, variables...)
	var stderr bytes.Buffer
	command.Stderr = &stderr
	out, err := command.Output()
	if err != nil {
		return nil, fmt.Errorf("coatcheck %s: %w: %s", arguments[0], err, strings.ReplaceAll(stderr.String(), "\n", " "))
	}
	return out, nil
}

// A mutation is a mistake that a check must find: old is replaced by new in a
// file that is good, and a problem must then contain want.
type mutation struct{ name, old, new, want string }

// caught applies a mutation and expects its problem.
func caught(t *testing.T, good string, m mutation, problems func(string) []string) {
	t.Helper()
	t.Run(m.name, func(t *testing.T) {
		if !strings.Contains(good, m.old) {
			t.Fatalf("there is no %q to spoil in\n%s", m.old, good)
		}
		found := problems(strings.Replace(good, m.old, m.new, 1))
		for _, p := range found {
			if strings.Contains(p, m.want) {
				return
			}
		}
		t.Errorf("no problem contains %q: %q", m.want, found)
	})
}
