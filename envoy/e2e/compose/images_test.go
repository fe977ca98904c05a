package compose_test

import (
	"archive/tar"
	"bytes"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"testing"
)

// makeImages gives the engine the images that docker-compose.yml takes from
// registries, made from the programs of this machine: what the commands and health
// checks of the file run, and the libraries of each.
func makeImages(t *testing.T, e *engine) {
	t.Helper()
	redis, err := filepath.EvalSymlinks(tool(t, "redis-server", "REDIS_SERVER"))
	must(t, err)
	cli := filepath.Join(filepath.Dir(redis), "redis-cli")
	if _, err := os.Stat(cli); err != nil {
		cli = tool(t, "redis-cli", "REDIS_CLI")
	}
	e.importImage(t, "redis", "7.4", "/data", map[string]string{
		"/usr/bin/redis-server": redis, "/usr/bin/redis-cli": cli, "/bin/sh": "/bin/sh", "/bin/grep": "/bin/grep",
	})
	e.importImage(t, "envoyproxy/envoy", "v1.40.0", "/", map[string]string{
		"/usr/local/bin/envoy": tool(t, "envoy", "ENVOY"), "/bin/bash": "/bin/bash",
	})
}

// importImage makes an image of programs, each with the path that it has there.
func (e *engine) importImage(t *testing.T, name, tag, workingDirectory string, programs map[string]string) {
	t.Helper()
	files := make(map[string]string)
	for path, program := range programs {
		files[path] = program
		for _, library := range libraries(t, program) {
			files[library] = library
		}
	}
	reader, writer := io.Pipe()
	go func() { _ = writer.CloseWithError(pack(writer, files)) }()
	e.call(t, http.MethodPost, "/images/create", url.Values{
		"fromSrc": {"-"}, "repo": {name}, "tag": {tag},
		"changes": {"WORKDIR " + workingDirectory, "ENV PATH=/usr/local/bin:/usr/bin:/bin"},
	}, reader)
}

// An object is a path in a line of ldd, which is what the dynamic linker would load.
var object = regexp.MustCompile(`(?m)^\s+(?:\S+ => )?(/\S+) \(0x`)

// libraries lists the shared objects that a program needs, the linker included.
func libraries(t *testing.T, program string) []string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "ldd", program).CombinedOutput()
	if bytes.Contains(out, []byte("not a dynamic executable")) || bytes.Contains(out, []byte("statically linked")) {
		return nil
	}
	if err != nil || bytes.Contains(out, []byte("not found")) {
		t.Fatalf("ldd %s: %v\n%s", program, err, out)
	}
	var found []string
	for _, match := range object.FindAllSubmatch(out, -1) {
		found = append(found, string(match[1]))
	}
	return found
}

// pack writes a tar of files by their paths in it. What is a link here is a file there.
func pack(w io.Writer, files map[string]string) error {
	archive := tar.NewWriter(w)
	for _, path := range slices.Sorted(maps.Keys(files)) {
		content, err := os.ReadFile(files[path])
		if err != nil {
			return err
		}
		header := &tar.Header{Name: path[1:], Mode: 0o755, Size: int64(len(content)), Typeflag: tar.TypeReg}
		if err := archive.WriteHeader(header); err != nil {
			return err
		}
		if _, err := archive.Write(content); err != nil {
			return err
		}
	}
	return archive.Close()
}
