package version

import (
	"archive/zip"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"strings"
	"testing"
)

// A source is a folder with what a build needs: all of Coatcheck with COATCHECK_FULL=1,
// else this package with a program that prints what it says, which links at once.
type source struct {
	*testing.T
	dir         string
	environment []string
}

const program = `package main

import (
	"encoding/json"
	"os"

	"github.com/coatcheck/coatcheck/cmd/internal/version"
)

func main() { _ = json.NewEncoder(os.Stdout).Encode(version.Read()) }
`

const committed = "2026-01-02T03:04:05Z"

// newSource makes a folder without git.
func newSource(t *testing.T) *source {
	t.Helper()
	s := &source{T: t, dir: filepath.Join(t.TempDir(), "coatcheck"), environment: append(os.Environ(),
		"GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null", "GIT_COMMITTER_DATE=2026-01-02T04:04:05+01:00",
		"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a", "GOFLAGS=-trimpath", "VERSION=", "REVISION=", "DATE=")}
	files := []string{".ci/build", ".gitattributes", ".gitignore", "Makefile", "cmd/internal/version/version.go", "cmd/internal/version/archive.txt"}
	if os.Getenv("COATCHECK_FULL") != "" {
		files = append(files, "go.mod", "go.sum", "cmd", "extauthz", "internal", "sessions")
	}
	root, err := filepath.Abs("../../..")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		if err := filepath.WalkDir(filepath.Join(root, name), func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() {
				return err
			}
			info, err := entry.Info()
			if err != nil {
				return err
			}
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			relative, err := filepath.Rel(root, path)
			s.write(relative, string(text), info.Mode())
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	if os.Getenv("COATCHECK_FULL") == "" {
		s.reduce()
	}
	return s
}

// reduce leaves of the program what tells its version, which needs no other module.
func (s *source) reduce() {
	s.Helper()
	s.write("go.mod", "module github.com/coatcheck/coatcheck\n\ngo 1.26\n", 0o600)
	s.write("cmd/coatcheck/main.go", program, 0o600)
}

func (s *source) write(name, text string, mode fs.FileMode) {
	s.Helper()
	path := filepath.Join(s.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		s.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		s.Fatal(err)
	}
}

func (s *source) run(command ...string) string {
	s.Helper()
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Dir, cmd.Env = s.dir, s.environment
	out, err := cmd.CombinedOutput()
	if err != nil {
		s.Fatalf("%q: %v\n%s", command, err, out)
	}
	return strings.TrimSpace(string(out))
}

// commit makes a checkout of one commit, and returns its revision.
func (s *source) commit(tag string) string {
	s.Helper()
	s.run("git", "init", "-q")
	s.run("git", "add", "-A")
	s.run("git", "commit", "-q", "-m", "a")
	if tag != "" {
		s.run("git", "tag", tag)
	}
	return s.run("git", "rev-parse", "HEAD")
}

// says runs a binary.
func (s *source) says(binary string) Build {
	s.Helper()
	var b Build
	if err := json.Unmarshal([]byte(s.run(binary, "version", "--output", "json")), &b); err != nil {
		s.Fatal(err)
	}
	if !strings.HasPrefix(b.Go, "go1.") {
		s.Errorf("go_version is %q", b.Go)
	}
	b.Go = ""
	return b
}

func (s *source) wants(binary string, want Build) {
	s.Helper()
	if got := s.says(binary); got != want {
		s.Errorf("it says %+v, want %+v", got, want)
	}
}

// TestBuilds builds the program in each way that users do.
func TestBuilds(t *testing.T) {
	t.Parallel()
	t.Run("a checkout at a tag", func(t *testing.T) {
		s := newSource(t)
		want := Build{Version: "v1.2.3", Revision: s.commit("v1.2.3"), Date: committed}
		s.run("make", "-s", "build")
		s.wants(".build/coatcheck", want)
		first := s.run("sha256sum", ".build/coatcheck")
		s.run("make", "-s", "build")
		if again := s.run("sha256sum", ".build/coatcheck"); again != first {
			t.Error("a second build is another program")
		}
		s.run("go", "build", "-o", ".build/a", "./cmd/coatcheck")
		s.wants(".build/a", want)
		s.run("go", "build", "-buildvcs=false", "-o", ".build/b", "./cmd/coatcheck")
		s.wants(".build/b", Build{Version: Unknown, Revision: Unknown})
		s.run("make", "-s", "build", "VERSION=v9", "REVISION=abc", "DATE=2020-01-01T00:00:00Z")
		s.wants(".build/coatcheck", Build{Version: "v9", Revision: "abc", Date: "2020-01-01T00:00:00Z"})
		s.write("Makefile", s.run("cat", "Makefile")+"\n", 0o600)
		s.write("go.mod", s.run("cat", "go.mod")+"\n\n", 0o600)
		s.run("make", "-s", "build")
		s.wants(".build/coatcheck", Build{Version: "v1.2.3-dirty", Revision: want.Revision, Date: committed, Changed: true})
		s.run("go", "build", "-o", ".build/a", "./cmd/coatcheck")
		s.wants(".build/a", Build{Version: "v1.2.3+dirty", Revision: want.Revision, Date: committed, Changed: true})
	})
	t.Run("a checkout without a tag", func(t *testing.T) {
		s := newSource(t)
		revision := s.commit("")
		want := Build{Version: "v0.0.0-20260102030405-" + revision[:12], Revision: revision, Date: committed}
		s.run("make", "-s", "build")
		s.wants(".build/coatcheck", want)
		s.run("go", "build", "-o", ".build/a", "./cmd/coatcheck")
		s.wants(".build/a", want)
	})
	t.Run("an archive and a copy, in a checkout of another project", func(t *testing.T) {
		s := newSource(t)
		revision := s.commit("v1.2.3")
		s.run("git", "archive", "-o", "../a.tar", "HEAD")
		other := &source{T: t, dir: filepath.Join(t.TempDir(), "other"), environment: s.environment}
		other.write("README", "another project", 0o600)
		other.commit("v7.7.7")
		other.run("mkdir", "archive", "copy")
		other.run("tar", "-xf", filepath.Join(s.dir, "../a.tar"), "-C", "archive")
		other.run("cp", "-a", s.dir+"/.", "copy")
		other.run("rm", "-rf", "copy/.git")
		for _, each := range []struct {
			name string
			want Build
		}{
			{"archive", Build{Version: "v1.2.3", Revision: revision, Date: committed}},
			{"copy", Build{Version: Unknown, Revision: Unknown}},
		} {
			in := &source{T: t, dir: filepath.Join(other.dir, each.name), environment: s.environment}
			in.run("make", "-s", "build")
			in.wants(".build/coatcheck", each.want)
			in.run("go", "build", "-buildvcs=false", "-o", ".build/a", "./cmd/coatcheck")
			in.wants(".build/a", each.want)
		}
		in := &source{T: t, dir: filepath.Join(other.dir, "archive"), environment: s.environment}
		in.run("go", "build", "-o", ".build/a", "./cmd/coatcheck")
		in.wants(".build/a", Build{Version: "v1.2.3", Revision: revision, Date: committed})
	})
	t.Run("go install", func(t *testing.T) {
		s := newSource(t)
		s.reduce() // a proxy in a folder has no other module
		for version, want := range map[string]Build{
			"v1.2.3":                               {Version: "v1.2.3", Revision: Unknown},
			"v1.2.4-0.20260102030405-0123456789ab": {Version: "v1.2.4-0.20260102030405-0123456789ab", Revision: "0123456789ab", Date: committed},
		} {
			s.publish(version)
			s.run("go", "install", "github.com/coatcheck/coatcheck/cmd/coatcheck@"+version)
			s.wants(filepath.Join(s.dir, "bin/coatcheck"), want)
		}
	})
}

// publish puts the source into a module proxy that is a folder.
func (s *source) publish(version string) {
	s.Helper()
	proxy := filepath.Join(s.dir, "proxy")
	s.environment = append(s.environment, "GOPROXY=file://"+proxy, "GOSUMDB=off", "GOFLAGS=-modcacherw", "GOMODCACHE="+filepath.Join(s.dir, "cache"), "GOBIN="+filepath.Join(s.dir, "bin"))
	at := "proxy/github.com/coatcheck/coatcheck/@v/" + version
	s.write(at+".info", fmt.Sprintf(`{"Version": %q, "Time": "2026-01-02T03:04:05Z"}`, version), 0o600)
	s.write(at+".mod", s.run("cat", "go.mod"), 0o600)
	s.write("proxy/github.com/coatcheck/coatcheck/@v/list", version+"\n", 0o600)
	s.write(at+".zip", "", 0o600)
	file, err := os.Create(filepath.Join(s.dir, at+".zip"))
	if err != nil {
		s.Fatal(err)
	}
	out := zip.NewWriter(file)
	for _, name := range []string{"go.mod", "cmd/coatcheck/main.go", "cmd/internal/version/version.go", "cmd/internal/version/archive.txt"} {
		w, err := out.Create("github.com/coatcheck/coatcheck@" + version + "/" + name)
		if err != nil {
			s.Fatal(err)
		}
		fmt.Fprintln(w, s.run("cat", name))
	}
	if err := out.Close(); err != nil {
		s.Fatal(err)
	}
	file.Close()
}

// TestUnset: an argument of make that could become another flag of the linker is refused.
func TestUnset(t *testing.T) {
	t.Parallel()
	s := newSource(t)
	cmd := exec.Command(".ci/build", "-o", "x", "./cmd/coatcheck")
	cmd.Dir, cmd.Env = s.dir, append(s.environment, "VERSION=v1 -X main.a=b")
	if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "version has other characters") {
		t.Errorf("%v: %s", err, out)
	}
}

// TestString: what is unknown is called so, and never (devel) or an empty word.
func TestString(t *testing.T) {
	for _, test := range []struct {
		info    debug.BuildInfo
		archive string
		want    string
	}{
		{debug.BuildInfo{}, "$Format:%H$", `unknown version, unknown revision, go1\..*`},
		{debug.BuildInfo{Main: debug.Module{Version: "(devel)"}}, "", `unknown version, unknown revision, go1\..*`},
		{debug.BuildInfo{Main: debug.Module{Version: "v1.2.3"}}, "", `v1\.2\.3, unknown revision, go1\..*`},
		{debug.BuildInfo{Main: debug.Module{Version: "v1.2.3+dirty"}, Settings: []debug.BuildSetting{{Key: "vcs.revision", Value: "abc"}, {Key: "vcs.modified", Value: "true"}, {Key: "vcs.time", Value: committed}}}, "",
			`v1\.2\.3\+dirty, revision abc, of 2026-01-02T03:04:05Z, with changes, go1\..*`},
		{debug.BuildInfo{Main: debug.Module{Version: "v7.7.7"}}, "abc 2026-01-02T04:04:05+01:00 \n", `unknown version, revision abc, of 2026-01-02T03:04:05Z, go1\..*`},
		{debug.BuildInfo{Main: debug.Module{Version: "v7.7.7"}}, "abc 2026-01-02T04:04:05+01:00 v1\n", `v1, revision abc, of 2026-01-02T03:04:05Z, go1\..*`},
	} {
		if got := read(&test.info, test.archive).String(); !regexp.MustCompile("^" + test.want + "$").MatchString(got) {
			t.Errorf("%q, want %q", got, test.want)
		}
	}
}
