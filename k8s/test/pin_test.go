package manifests

import (
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// No registry can be asked here, so a stand-in answers with the hash of the name.
const standIn = `#!/bin/sh
printf 'sha256:'; printf %s "$1" | sha256sum | cut -d ' ' -f 1
`

// pin runs .ci/pin on a file with this text, and returns what is in it then and
// what was said. Empty lookup is the stand-in.
func pin(t *testing.T, text, lookup string) (after, said string, err error) {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if lookup == "" {
		lookup = filepath.Join(dir, "lookup")
		if err := os.WriteFile(lookup, []byte(standIn), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	command := exec.Command(root+"/.ci/pin", file)
	command.Env = append(os.Environ(), "LOOKUP="+lookup)
	out, err := command.CombinedOutput()
	read, readErr := os.ReadFile(file)
	if readErr != nil {
		t.Fatal(readErr)
	}
	return string(read), string(out), err
}

func digestOf(image string) string {
	return fmt.Sprintf("%s@sha256:%x", image, sha256.Sum256([]byte(image)))
}

// Every image of the tree that a registry has gets its digest, and what is
// pinned passes the other tests as before.
func TestPin(t *testing.T) {
	for file, images := range map[string][]string{
		"docker-compose.yml":          {"redis:7.4", "envoyproxy/envoy:v1.40.0"},
		"k8s/overlays/dev/redis.yaml": {"redis:7.4"},
		"k8s/base/deployment.yaml":    nil, // built here
		"Dockerfile":                  nil, // from scratch
	} {
		before := read(t, file)
		want := before
		for _, image := range images {
			want = strings.ReplaceAll(want, "image: "+image+"\n", "image: "+digestOf(image)+"\n")
		}
		after, said, err := pin(t, before, "")
		if err != nil || after != want {
			t.Errorf("%s: %v: %s\n%s", file, err, said, after)
		}
		if again, said, err := pin(t, after, ""); err != nil || again != want {
			t.Errorf("%s, again: %v: %s\n%s", file, err, said, again)
		}
	}
	pinned, _, _ := pin(t, read(t, "docker-compose.yml"), "")
	for _, p := range composeProblems(pinned, read(t, "envoy/envoy.yaml")) {
		t.Error(p)
	}
	if target := read(t, "Makefile"); !strings.Contains(target, "\n\t@.ci/pin Dockerfile docker-compose.yml $$(find k8s -name '*.yaml' ") {
		t.Error("make pin does not pin all of them")
	}
}

func TestPinLines(t *testing.T) {
	old := "@sha256:" + strings.Repeat("0", 64)
	for before, want := range map[string]string{
		`  image: "redis:7.4" # redis:7.4`:                 `  image: "` + digestOf("redis:7.4") + `" # redis:7.4`,
		"- image: reg.example.com:5000/a/b:1.0":            "- image: " + digestOf("reg.example.com:5000/a/b:1.0"),
		"image: redis:7.4" + old:                           "image: " + digestOf("redis:7.4"),
		"FROM --platform=linux/amd64 debian:12 AS x":       "FROM --platform=linux/amd64 " + digestOf("debian:12") + " AS x",
		"image: redis:7x4\nimage: redis:7.4":               "image: " + digestOf("redis:7x4") + "\nimage: " + digestOf("redis:7.4"),
		"# image: redis:7.4":                               "# image: redis:7.4",
		"image: coatcheck\nimage: coatcheck:dev":           "image: coatcheck\nimage: coatcheck:dev",
		"FROM scratch AS a\nFROM a AS b\n      FROM users": "FROM scratch AS a\nFROM a AS b\n      FROM users",
	} {
		if after, said, err := pin(t, before, ""); err != nil || after != want {
			t.Errorf("%q became %q, not %q: %v: %s", before, after, want, err, said)
		}
	}
}

// What is not understood, or not found, leaves everything as it is.
func TestPinChangesNothing(t *testing.T) {
	for what, c := range map[string]struct{ text, lookup, said string }{
		"no registry":      {"image: redis:7.4\n", "false", "no digest of redis:7.4"},
		"an odd answer":    {"image: redis:7.4\n", "echo sha256:0", "is said to be 'sha256:0"},
		"more than one":    {"image: redis:7.4\n", "printf sha256:a\\nsha256:b\\n%s", "is said to be"},
		"in braces":        {"image: redis:7.4\nx: {image: redis:7.4}\n", "", "not understood: x: {image"},
		"in single quotes": {"image: 'redis:7.4'\n", "", "not understood"},
		"half a digest":    {"image: redis:7.4@sha256:00\n", "", "not understood"},
	} {
		after, said, err := pin(t, c.text, c.lookup)
		if err == nil || after != c.text || !strings.Contains(said, c.said) || !strings.Contains(said, "no file is changed") {
			t.Errorf("%s: %v: %q, and the file is %q", what, err, said, after)
		}
	}
}
