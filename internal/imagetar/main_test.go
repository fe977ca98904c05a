package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/coatcheck/coatcheck/internal/testtools/testleaks"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(testleaks.Patient(m)) }

const dockerfile = `# A comment.
ARG VERSION=dev
FROM scratch AS other
COPY other /other
FROM scratch AS server
ARG VERSION
LABEL title="a \"server\"" \
      version="${VERSION}"
COPY LICENSE /LICENSE
COPY build/server /bin/server
USER 65532:65532
EXPOSE 9001 8080
HEALTHCHECK --interval=5s --timeout=3s --start-period=1m --retries=3 CMD ["/bin/server", "health"]
ENTRYPOINT ["/bin/server"]
CMD ["serve"]
`

// folder is a place with the files, which have the modes of a umask.
func folder(t *testing.T, umask os.FileMode, at time.Time) string {
	t.Helper()
	dir := t.TempDir()
	must(t, os.Mkdir(filepath.Join(dir, "build"), 0o755))
	for name, f := range map[string]struct {
		content string
		mode    os.FileMode
	}{"Dockerfile": {dockerfile, 0o666}, "LICENSE": {"free", 0o666}, "build/server": {"\x7fELF", 0o777}} {
		path := filepath.Join(dir, name)
		must(t, os.WriteFile(path, []byte(f.content), 0o600))
		must(t, os.Chmod(path, f.mode&^umask))
		must(t, os.Chtimes(path, at, at))
	}
	return dir
}

func build(t *testing.T, dir string, further ...string) []byte {
	t.Helper()
	output := filepath.Join(t.TempDir(), "image.tar")
	must(t, run(append([]string{"-context", dir, "-target", "server", "-tag", "server:v1", "-arch", "arm64", "-time", "1795714463", "-o", output}, further...)))
	content, err := os.ReadFile(output)
	must(t, err)
	return content
}

// TestReproducible: neither the folder nor the modes and times of its files are in
// the image, and what the caller says is.
func TestReproducible(t *testing.T) {
	first := build(t, folder(t, 0o022, time.Unix(1, 0)))
	if !bytes.Equal(first, build(t, folder(t, 0o077, time.Now()))) {
		t.Error("another folder gives another image")
	}
	for _, further := range [][]string{{"-arg", "VERSION=v2"}, {"-time", "1"}, {"-arch", "amd64"}, {"-tag", "server:v2"}} {
		if bytes.Equal(first, build(t, folder(t, 0o022, time.Unix(1, 0)), further...)) {
			t.Errorf("%q changes nothing", further)
		}
	}
}

// TestImage: the archive has the form of docker save, and says what the Dockerfile says.
func TestImage(t *testing.T) {
	files := untar(t, build(t, folder(t, 0o022, time.Now()), "-arg", "VERSION=v1"))
	var manifests []manifest
	must(t, json.Unmarshal(files["manifest.json"], &manifests))
	if len(manifests) != 1 || len(manifests[0].Layers) != 1 || manifests[0].RepoTags[0] != "server:v1" || len(files) != 3 {
		t.Fatalf("%v in %d files", manifests, len(files))
	}
	var d description
	config := files[manifests[0].Config]
	must(t, json.Unmarshal(config, &d))
	if manifests[0].Config != digest(config)+".json" {
		t.Errorf("the configuration is called %s", manifests[0].Config)
	}
	layer := gunzip(t, files[manifests[0].Layers[0]])
	want := description{
		Created: time.Unix(1795714463, 0).UTC(), Architecture: "arm64", OS: "linux",
		Config: configuration{
			User: "65532:65532", ExposedPorts: map[string]struct{}{"9001/tcp": {}, "8080/tcp": {}},
			Entrypoint: []string{"/bin/server"}, Cmd: []string{"serve"},
			Healthcheck: &healthcheck{[]string{"CMD", "/bin/server", "health"}, 5 * time.Second, 3 * time.Second, time.Minute, 3},
			Labels:      map[string]string{"title": `a "server"`, "version": "v1"},
		},
		RootFS: rootFS{"layers", []string{"sha256:" + digest(layer)}}, History: d.History,
	}
	if !reflect.DeepEqual(d, want) {
		t.Errorf("the image is %+v, want %+v", d, want)
	}
	if got := untar(t, layer); len(got) != 2 || string(got["LICENSE"]) != "free" || string(got["bin/server"]) != "\x7fELF" {
		t.Errorf("the image holds %q", got)
	}
}

// untar returns the files of an archive, whose owner, times and modes it checks.
func untar(t *testing.T, archive []byte) map[string][]byte {
	t.Helper()
	files := make(map[string][]byte)
	for r := tar.NewReader(bytes.NewReader(archive)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		must(t, err)
		if mode := map[bool]int64{true: 0o755, false: 0o644}[h.Name == "bin/server"]; h.Uid != 0 || h.Gid != 0 || h.Uname != "" || h.Mode != mode || h.ModTime.Unix() != 1795714463 {
			t.Errorf("%s is of %d:%d, mode %o, time %v", h.Name, h.Uid, h.Gid, h.Mode, h.ModTime)
		}
		files[h.Name], err = io.ReadAll(r)
		must(t, err)
	}
}

func gunzip(t *testing.T, compressed []byte) []byte {
	t.Helper()
	r, err := gzip.NewReader(bytes.NewReader(compressed))
	must(t, err)
	if !r.ModTime.IsZero() || r.Name != "" {
		t.Errorf("the compression names %q of %v", r.Name, r.ModTime)
	}
	content, err := io.ReadAll(r)
	must(t, err)
	return content
}

// TestRefused: what the image could not say as the Dockerfile does is an error, and
// leaves no file.
func TestRefused(t *testing.T) {
	for name, change := range map[string]struct{ before, after, want string }{
		"another base":            {"FROM scratch AS server", "FROM alpine AS server", "not FROM scratch"},
		"no such stage":           {"AS server", "AS serve", "no stage server"},
		"a command at build":      {"USER 65532:65532", "RUN adduser x", "unknown instruction"},
		"a variable":              {"USER 65532:65532", "ENV A=b", "unknown instruction"},
		"a copy with an owner":    {"COPY LICENSE /LICENSE", "COPY --chown=1 LICENSE /LICENSE", "must be a file"},
		"a copy into a folder":    {"COPY LICENSE /LICENSE", "COPY LICENSE /", "must be a file"},
		"a folder":                {"COPY LICENSE /LICENSE", "COPY build /LICENSE", "not a file"},
		"no such file":            {"COPY LICENSE /LICENSE", "COPY COPYING /LICENSE", "no such file"},
		"a shell's form":          {`CMD ["serve"]`, "CMD serve", "JSON list"},
		"a health check's form":   {`CMD ["/bin/server", "health"]`, "CMD /bin/server health", "JSON list"},
		"a health check's key":    {"--retries=3", "--start-interval=3s", "unknown option"},
		"a label without a value": {`version="${VERSION}"`, "version=${VERSION}", "must be NAME"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := folder(t, 0o022, time.Now())
			if !strings.Contains(dockerfile, change.before) {
				t.Fatalf("there is no %q", change.before)
			}
			must(t, os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(strings.Replace(dockerfile, change.before, change.after, 1)), 0o600))
			output := filepath.Join(dir, "image.tar")
			err := run([]string{"-context", dir, "-target", "server", "-tag", "server:v1", "-o", output})
			if err == nil || !strings.Contains(err.Error(), change.want) {
				t.Errorf("the error is %v, want %q", err, change.want)
			}
			if _, err := os.Stat(output); err == nil {
				t.Error("there is a file")
			}
		})
	}
	err := run([]string{"-context", folder(t, 0o022, time.Now()), "-target", "server", "-tag", "server:v1", "-o", filepath.Join(t.TempDir(), "x"), "-arg", "EDITION=v1"})
	if err == nil || !strings.Contains(err.Error(), "no ARG EDITION") {
		t.Errorf("an argument of another name: %v", err)
	}
}

// TestOwnDockerfile: both stages of the repository's Dockerfile are understood.
func TestOwnDockerfile(t *testing.T) {
	text, err := os.ReadFile("../../Dockerfile")
	must(t, err)
	for _, target := range []string{"coatcheck", "upstream"} {
		s, err := parse(string(text), target, map[string]string{})
		must(t, err)
		if s.User != "65532:65532" || s.Healthcheck == nil || s.Entrypoint[0] != "/"+target || len(s.files) != 2 {
			t.Errorf("%s is %+v", target, s)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
