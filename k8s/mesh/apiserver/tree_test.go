package apiserver

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// parts of k8s are what operators apply.
var parts = []string{"base", "components", "overlays"}

// plant copies what operators apply, and makes the copies of overlays that READMEs speak
// of. coatcheck is where the program is.
func plant(coatcheck string) error {
	for _, part := range parts {
		if err := os.CopyFS(filepath.Join(tree, part), os.DirFS(filepath.Join(root, "k8s", part))); err != nil {
			return err
		}
	}
	// A developer may have passwords of their own there.
	passwords := filepath.Join(tree, "overlays/dev/passwords")
	if err := os.RemoveAll(passwords); err != nil {
		return err
	}
	for _, command := range []*exec.Cmd{exec.Command(root+"/.ci/passwords", passwords), exec.Command(root+"/.ci/users", coatcheck, passwords)} {
		if err := output(command); err != nil {
			return err
		}
	}
	return vary()
}

// vary makes the copies.
func vary() error {
	for _, place := range []string{"namespace", "whole-mesh"} {
		if err := copied("istio", "istio-"+place, "\n- gateway\n", "\n- "+place+"\n"); err != nil {
			return err
		}
	}
	if err := copied("envoy-gateway", "envoy-gateway-sidecar", "\nimages:\n", "\ncomponents: [../../components/envoy-gateway-sidecar]\nimages:\n"); err != nil {
		return err
	}
	for _, i := range installations {
		component, ok := strings.CutPrefix(i.folder, "overlays/with-")
		if !ok {
			continue
		}
		text := "namespace: coatcheck\nresources: [../../base]\ncomponents: [../../components/" + component + "]\n"
		if err := os.Mkdir(filepath.Join(tree, i.folder), 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(tree, i.folder, "kustomization.yaml"), []byte(text), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// copied copies an overlay, and changes a place of its kustomization.
func copied(overlay, name, before, after string) error {
	dir := filepath.Join(tree, "overlays", name)
	if err := os.CopyFS(dir, os.DirFS(filepath.Join(tree, "overlays", overlay))); err != nil {
		return err
	}
	file := filepath.Join(dir, "kustomization.yaml")
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if strings.Count(string(text), before) != 1 {
		return fmt.Errorf("there is no place %q in %s", before, file)
	}
	return os.WriteFile(file, []byte(strings.Replace(string(text), before, after, 1)), 0o600)
}

// output runs a command, and returns what it says if it fails.
func output(command *exec.Cmd) error {
	if out, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(command.Args, " "), err, out)
	}
	return nil
}
