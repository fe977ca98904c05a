package clients_test

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/coatcheck/coatcheck/envoy/e2e/rig"
	"github.com/coatcheck/coatcheck/internal/testtools"
)

// packages is where .ci/fetch clients has put the packages of a language.
func packages(language string) (string, error) {
	root := cmp.Or(os.Getenv("CLIENTS"), "../../../.tools/clients")
	path, err := filepath.Abs(filepath.Join(root, language))
	if err == nil {
		_, err = os.Stat(filepath.Join(path, "fetched"))
	}
	if err != nil {
		return "", fmt.Errorf("the packages of %s are missing: .ci/fetch clients fetches them: %w", language, err)
	}
	return path, nil
}

func buildCoatcheck(path string) error {
	err := rig.Build(path)
	say("coatcheck is compiled")
	return err
}

// gather copies the client and the driver of a language into one folder, as a user would.
func gather(dir string, from ...string) error {
	for _, folder := range from {
		if err := os.CopyFS(dir, os.DirFS(folder)); err != nil {
			return err
		}
	}
	return nil
}

func output(dir, program string, arguments ...string) error {
	cmd := exec.Command(program, arguments...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", program, err, out)
	}
	return nil
}

// node is the program to run: the one of the PATH, or the one that was fetched.
func node() (string, error) { return testtools.Program("node", "NODE") }

func buildNode(dir string) error {
	fetched, err := packages("node")
	if err == nil {
		err = gather(dir, "../node", "drivers/node")
	}
	if err == nil {
		err = os.Symlink(filepath.Join(fetched, "node_modules"), filepath.Join(dir, "node_modules"))
	}
	program, missing := node()
	if err = errors.Join(err, missing); err == nil {
		err = output(dir, program, "node_modules/typescript/bin/tsc", "-p", ".")
	}
	say("node is compiled")
	return err
}

func buildJava(dir string) error {
	jars, err := packages("java")
	if err == nil {
		err = gather(dir, "../java", "drivers/java")
	}
	if err != nil {
		return err
	}
	sources, err := filepath.Glob(filepath.Join(dir, "*.java"))
	if err == nil {
		err = output(dir, "javac", append([]string{"-nowarn", "-cp", jars + "/*", "-d", "classes"}, sources...)...)
	}
	say("java is compiled")
	return err
}

func buildPython(dir string) error {
	if _, err := packages("python"); err != nil {
		return err
	}
	return gather(dir, "../python", "drivers/python")
}
