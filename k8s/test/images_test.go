package manifests

import (
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A stage of a Dockerfile: its instructions in order, continued lines joined.
type stage struct {
	name, from   string
	instructions []string
}

func (s stage) all(instruction string) []string {
	var all []string
	for _, i := range s.instructions {
		if name, rest, _ := strings.Cut(i, " "); name == instruction {
			all = append(all, strings.Join(strings.Fields(rest), " "))
		}
	}
	return all
}

func stages(dockerfile string) []stage {
	var all []stage
	for line := range strings.SplitSeq(strings.ReplaceAll(dockerfile, "\\\n", " "), "\n") {
		line = strings.TrimSpace(line)
		if fields := strings.Fields(line); len(fields) == 4 && fields[0] == "FROM" && fields[2] == "AS" {
			all = append(all, stage{name: fields[3], from: fields[1]})
		} else if line != "" && line[0] != '#' && len(all) > 0 {
			all[len(all)-1].instructions = append(all[len(all)-1].instructions, line)
		}
	}
	return all
}

func imageProblems(dockerfile string) []string {
	var problems []string
	problem := func(format string, arguments ...any) { problems = append(problems, fmt.Sprintf(format, arguments...)) }
	all := stages(dockerfile)
	if len(all) == 0 || all[len(all)-1].name != "coatcheck" {
		problem("the last stage, which is built by default, is not coatcheck")
	}
	health := map[string]string{"coatcheck": `CMD ["/coatcheck", "health"]`, "upstream": `CMD ["/upstream", "-check"]`}
	for _, s := range all {
		if s.from != "scratch" {
			problem("%s: it is made from %s, and not from scratch", s.name, s.from)
		}
		if user := s.all("USER"); !slices.Equal(user, []string{"65532:65532"}) {
			problem("%s: its user is %q", s.name, user)
		}
		if entry := s.all("ENTRYPOINT"); !slices.Equal(entry, []string{`["/` + s.name + `"]`}) {
			problem("%s: its entry point is %q", s.name, entry)
		}
		if h := s.all("HEALTHCHECK"); len(h) != 1 || !strings.HasSuffix(h[0], health[s.name]) {
			problem("%s: its health check is %q", s.name, h)
		}
		if c := s.all("COPY"); !slices.Equal(c, []string{"LICENSE /LICENSE", ".build/" + s.name + " /" + s.name}) {
			problem("%s: it holds %q", s.name, c)
		}
		if n := len(s.all("RUN")) + len(s.all("ADD")) + len(s.all("ENV")); n > 0 {
			problem("%s: it runs, fetches or sets something", s.name)
		}
		if s.name != "coatcheck" {
			continue
		}
		labels := strings.Join(s.all("LABEL"), " ")
		for _, l := range []string{"title", "description", "source", "licenses", "version", "revision"} {
			if !strings.Contains(labels, "org.opencontainers.image."+l+"=") {
				problem("coatcheck: it has no label %s", l)
			}
		}
	}
	return problems
}

func TestDockerfile(t *testing.T) {
	good := read(t, "Dockerfile")
	for _, p := range imageProblems(good) {
		t.Error(p)
	}
	for _, m := range []mutation{
		{"another base", "FROM scratch AS coatcheck", "FROM alpine AS coatcheck", "scratch"},
		{"root", "USER 65532:65532\nEXPOSE", "EXPOSE", "user"},
		{"root at last", "USER 65532:65532\nEXPOSE", "USER 65532:65532\nUSER 0\nEXPOSE", "user"},
		{"compiler", "COPY .build/coatcheck /coatcheck", "RUN go build -o /coatcheck", "holds"},
		{"no health check", `HEALTHCHECK --interval=5s --timeout=3s --start-period=5s --retries=3 CMD ["/coatcheck", "health"]`, "", "health check"},
		{"no label", `org.opencontainers.image.revision=`, `revision=`, "label revision"},
	} {
		caught(t, good, m, imageProblems)
	}
}

// The context holds the two programs and the licence; neither sources nor passwords.
func TestDockerignore(t *testing.T) {
	var patterns []string
	for line := range strings.Lines(read(t, ".dockerignore")) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
			patterns = append(patterns, line)
		}
	}
	if want := []string{"*", "!.build/coatcheck", "!.build/upstream", "!LICENSE"}; !slices.Equal(patterns, want) {
		t.Errorf("%q, not %q", patterns, want)
	}
}

// Passwords are new at each place, kept once they are there, and stand in the
// users' file as hashes, beside the rights of the documentation.
func TestPasswords(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "passwords")
	generate := func() map[string]string {
		if out, err := exec.Command(root+"/.ci/passwords", dir).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		files := map[string]string{}
		for _, name := range []string{"check", "login", "manage", "users.acl"} {
			text, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil {
				t.Fatal(err)
			}
			files[name] = string(text)
		}
		return files
	}
	files := generate()
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("others enter the folder: %v %v", info.Mode(), err)
	}
	documented := read(t, "docs/sessions.md")
	lines := strings.Split(strings.TrimSpace(files["users.acl"]), "\n")
	if len(lines) != 5 || lines[0] != "user default off" || lines[1] != "user health on nopass +ping" {
		t.Errorf("the users are %q", lines)
	}
	for i, side := range []string{"check", "login", "manage"} {
		if len(files[side]) != 48 || strings.Trim(files[side], "0123456789abcdef") != "" {
			t.Errorf("the password of %s is no 192 bits in hexadecimal: %q", side, files[side])
		}
		hash := fmt.Sprintf("#%x", sha256.Sum256([]byte(files[side])))
		if line := strings.Replace(lines[2+i], hash, ">PASSWORD", 1); !strings.HasPrefix(line, "user coatcheck-"+side+" on >PASSWORD ") || !strings.Contains(documented, "\n"+line+"\n") {
			t.Errorf("not in docs/sessions.md: %s", line)
		}
	}
	if files["check"] == files["login"] || files["login"] == files["manage"] || files["manage"] == files["check"] {
		t.Error("two users have the same password")
	}
	again := generate()
	if again["check"] != files["check"] || again["users.acl"] != files["users.acl"] {
		t.Error("the passwords changed")
	}
	// The development overlay has its own.
	other, err := os.ReadFile(filepath.Join(tree, "overlays/dev/passwords/check"))
	if err != nil || string(other) == files["check"] {
		t.Errorf("two folders have the same password: %v", err)
	}
}

// The user is new at each place, kept once there is a file, with a hash of the
// password that lies beside it.
func TestUsers(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "passwords")
	generate := func() (password, users, said string) {
		out, err := exec.Command(root+"/.ci/users", binary, dir).CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		var texts []string
		for _, name := range []string{"ada", "users.yaml"} {
			text, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil {
				t.Fatal(err)
			}
			texts = append(texts, string(text))
		}
		return texts[0], texts[1], string(out)
	}
	password, users, said := generate()
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("others enter the folder: %v %v", info.Mode(), err)
	}
	if len(password) != 24 || strings.Trim(password, "0123456789abcdef") != "" {
		t.Errorf("the password is no 96 bits in hexadecimal: %q", password)
	}
	if !strings.Contains(said, filepath.Join(dir, "ada")) || strings.Contains(said, password) {
		t.Errorf("it says %q", said)
	}
	if strings.Contains(users, password) || strings.Count(users, "password_hash: '$argon2id$") != 1 || !strings.Contains(users, "username: ada\n") {
		t.Errorf("the users are %s", users)
	}
	own := users + "- {id: \"1\", username: own, password_hash: '!'}\n"
	if err := os.WriteFile(filepath.Join(dir, "users.yaml"), []byte(own), 0o600); err != nil {
		t.Fatal(err)
	}
	if again, kept, said := generate(); again != password || kept != own || said != "" {
		t.Errorf("something changed, and it says %q", said)
	}
	// A hash that could not be made leaves no file that would be taken for one.
	if out, err := exec.Command(root+"/.ci/users", "/bin/false", filepath.Join(dir, "other")).CombinedOutput(); err == nil {
		t.Errorf("without a hash it says %s", out)
	}
	if _, err := os.Stat(filepath.Join(dir, "other/users.yaml")); err == nil {
		t.Error("there are users without a hash")
	}
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, file))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
