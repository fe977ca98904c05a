package strictyaml_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/coatcheck/coatcheck/internal/strictyaml"
)

// TestMisindented: the line that is wrong is named, and not the one where the parser
// notices.
func TestMisindented(t *testing.T) {
	for name, test := range map[string]struct{ text, want string }{
		"further":       {"listen: ':9001'\nredis:\n  addresses: [a]\n\nsession:\n  idle_timeout: 30m\n    absolute_timeout: 12h\n", "line 7: it is not YAML: it is indented by 4 spaces, further than line 6, which has a value already"},
		"at the top":    {"timeout: 1s\n  listen: a\n", "line 2: it is not YAML: it is indented by 2 spaces, further than line 1, which has a value already"},
		"between":       {"session:\n    idle_timeout: 30m\n  absolute_timeout: 12h\n", "line 3: it is not YAML: it is indented by 2 spaces, and the lines above it by 0 or 4"},
		"less":          {"a:\n  b:\n    c: 1\n   d: 2\n", "line 4: it is not YAML: it is indented by 3 spaces, and the lines above it by 2 or 4"},
		"one space":     {"a:\n  b: 1\n c: 2\n", "line 3: it is not YAML: it is indented by 1 space, and the lines above it by 0 or 2"},
		"a tab":         {"log:\n\tlevel: info", "line 2: it is not YAML: it is indented with a tab; YAML takes spaces"},
		"a tab deep":    {"a:\n  b: 1\n  \tc: 2", "line 3: it is not YAML: it is indented with a tab; YAML takes spaces"},
		"in a list":     {"policies:\n- name: a\n   any_role: [b]\n", "line 3: it is not YAML: it is indented by 3 spaces, further than line 2, which has a value already"},
		"a list's end":  {"policies:\n- name: a\n  any_role: [b]\n - name: c\n", "line 4: it is not YAML: it is indented by 1 space, and the lines above it by 0 or 2"},
		"behind a text": {"a: |\n  b: 1\n    c: 2\n d\ne:\n  f: 1\n g: 2\n", "line 7: it is not YAML: it is indented by 1 space, and the lines above it by 0 or 2"},
		"comments":      {"a:\n  b: 1 # x: y\n# c\n\t\n     d: 1\n", "line 5: it is not YAML: it is indented by 5 spaces, further than line 2, which has a value already"},
		"not that":      {"a: b: c", "line 1: it is not YAML: mapping values are not allowed in this context"},
		"a bracket":     {"a: [\nb: 1\n  c: 2", ""},
		"a quote":       {"a: 'it''s\n  b: 1\n    c: 2", ""},
		"with returns":  {"a:\r\n  b: 1\r\n    c: 2\r\n", "line 3: it is not YAML: it is indented by 4 spaces, further than line 2, which has a value already"},
		"a nested list": {"a:\n- - b: 1\n    c: 2\n     d: 3\n", "line 4: it is not YAML: it is indented by 5 spaces, further than line 3, which has a value already"},
	} {
		for _, secret := range []bool{false, true} {
			d := &strictyaml.Decoder{Secret: secret}
			root := d.Document([]byte(test.text))
			err := d.Err()
			switch {
			case root != nil || err == nil:
				t.Errorf("%s: it is read", name)
			case test.want != "" && err.Error() != test.want:
				t.Errorf("%s:\n%v\nwant\n%s", name, err, test.want)
			case test.want == "" && strings.Contains(err.Error(), "indented"):
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

// TestMisindentedNot: of the repository's own files, indented anew line by line, those
// that are still YAML are read, and of the others the wrong line is named, or none is.
func TestMisindentedNot(t *testing.T) {
	named, silent := 0, 0
	err := filepath.WalkDir("../..", func(path string, entry fs.DirEntry, err error) error {
		if entry != nil && entry.IsDir() && (entry.Name() == ".tools" || entry.Name() == "node_modules") {
			return filepath.SkipDir
		}
		if err != nil || filepath.Ext(path) != ".yaml" {
			return err
		}
		text, err := os.ReadFile(path)
		lines := strings.Split(string(text), "\n")
		for i, line := range lines {
			if i > 150 || strings.TrimSpace(line) == "" || strings.HasPrefix(strings.TrimSpace(line), "#") {
				continue
			}
			lines[i] = " " + line
			shifted := []byte(strings.Join(lines, "\n"))
			lines[i] = line
			if yaml.Unmarshal(shifted, new(yaml.Node)) == nil {
				continue
			}
			d := new(strictyaml.Decoder)
			d.Document(shifted)
			message := d.Err().Error()
			at := 0
			if !strings.Contains(message, "indented") {
				silent++
				continue
			}
			named++
			// It, or its neighbour, is the one that is meant.
			if _, err := fmt.Sscanf(message, "line %d", &at); err != nil || at < i+1 || at > i+1+next(lines[i+1:], len(line)-len(strings.TrimLeft(line, " "))) {
				t.Errorf("%s: line %d is shifted: %s", path, i+1, message)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d lines named, %d not", named, silent)
	if named < 100 {
		t.Errorf("only %d lines are named", named)
	}
}

// next is how far the next line is that is not indented further.
func next(lines []string, indent int) int {
	for i, line := range lines {
		if bare := strings.TrimLeft(line, " "); bare != "" && bare[0] != '#' && len(line)-len(bare) <= indent {
			return i + 1
		}
	}
	return len(lines)
}
