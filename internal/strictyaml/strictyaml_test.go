package strictyaml_test

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.yaml.in/yaml/v3"

	"github.com/coatcheck/coatcheck/internal/strictyaml"
	"github.com/coatcheck/coatcheck/internal/testtools/testleaks"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(testleaks.Patient(m)) }

// A shop has a value of each kind.
type shop struct {
	Name, Kind string
	Open       bool
	Floors     int
	Lunch      time.Duration
	Staff      []string
	Signs      map[string]string
	Doors      []string
}

func read(d *strictyaml.Decoder, text string) (s shop, err error) {
	if root := d.Document([]byte(text)); root != nil {
		d.Object(root, "a shop", map[string]strictyaml.Reader{
			"name": d.Text("name", &s.Name), "kind": d.Choice("kind", &s.Kind, "books", "tea"), "open": d.Bool("open", &s.Open),
			"floors": d.Int("floors", &s.Floors), "lunch": d.Duration("lunch", &s.Lunch), "staff": d.Texts("staff", &s.Staff),
			"signs": d.TextsByName("signs", &s.Signs),
			"doors": d.List("doors", func(n *yaml.Node) {
				var name string
				d.Object(n, "a door", map[string]strictyaml.Reader{"name": d.Text("name", &name)})
				s.Doors = append(s.Doors, name)
			}),
		})
	}
	return s, d.Err()
}

func TestRead(t *testing.T) {
	got, err := read(new(strictyaml.Decoder), `{name: "Ada's", kind: tea, open: true, floors: 2, lunch: 30m, staff: [], signs: {in: front, "1": side}, doors: [{name: front}]}`)
	want := shop{"Ada's", "tea", true, 2, 30 * time.Minute, []string{}, map[string]string{"in": "front", "1": "side"}, []string{"front"}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := read(new(strictyaml.Decoder), "# a comment\n"); err != nil || !reflect.DeepEqual(got, shop{}) {
		t.Errorf("an empty document: %+v, %v", got, err)
	}
}

// TestMistakes: each is named with its line; a secret file's values are not.
func TestMistakes(t *testing.T) {
	for _, test := range []struct{ text, want, secret string }{
		{"a: b: c", "line 1: it is not YAML: mapping values are not allowed in this context", ""},
		{"open: true\nstaff: [", "line 2: it is not YAML: did not find expected node content", ""},
		{"name: *hunter2", "line 1: it is not YAML", ""},
		{"open: true\n---\nopen: true", "line 1: it holds more than one YAML document", ""},
		{"- hunter2", "line 1: a shop is keys with values, and not a list", ""},
		{"hunter2", "line 1: a shop is keys with values, and not hunter2", "line 1: a shop is keys with values, and not another value"},
		{"flors: 2", "line 1: a shop has no key flors; did you mean floors?", "line 1: a shop has no such key; did you mean floors?"},
		{"hunter2: 2", "line 1: a shop has no key hunter2", "line 1: a shop has no such key; it has doors, floors, kind, lunch, name, open, signs, staff"},
		{"name:", "line 1: name has no value", ""},
		{"name: a\nname: b", "line 2: a shop has name twice", ""},
		{"signs: {hunter2: a, hunter2: b}", "line 1: signs has hunter2 twice", "line 1: signs has a key twice"},
		{"signs: {hunter2: [a]}", "line 1: hunter2 is text, and not a list; put it in quotes", "line 1: a value of signs is text, and not a list; put it in quotes"},
		{"signs: [a]", "line 1: signs are names with values, and not a list", ""},
		{"? [a]\n: b", "line 1: a key of a shop is text, and not a list", ""},
		{"name: 2222", "line 1: name is text, and not 2222; put it in quotes", "line 1: name is text, and not another value; put it in quotes"},
		{"name: ~\nkind: x", "line 1: name has no value\nline 2: kind: x is not one of books, tea", "line 1: name has no value\nline 2: kind: another value is not one of books, tea"},
		{"open: 1", "line 1: open is true or false, and not 1", "line 1: open is true or false, and not another value"},
		{"floors: 1.5", "line 1: floors is a whole number, and not 1.5", "line 1: floors is a whole number, and not another value"},
		{"lunch: 30", "line 1: lunch: 30 is not a duration like 150ms, 30m or 12h", "line 1: lunch: another value is not a duration like 150ms, 30m or 12h"},
		{"staff: ada", "line 1: staff is a list, and not ada", "line 1: staff is a list, and not another value"},
		{"staff: [&a ada, *a]", "line 1: staff: aliases are not followed; write it out", ""},
		{"name: &a x\nkind: *a", "line 2: kind: aliases are not followed; write it out", ""},
		{"kind: \"te\\na\"", `line 1: kind: "te\na" is not one of books, tea`, "line 1: kind: another value is not one of books, tea"},
		{"doors: [{name: x}, {nam: y}]", "line 1: a door has no key nam; did you mean name?", "line 1: a door has no such key; did you mean name?"},
	} {
		for _, secret := range []bool{false, true} {
			want := test.want
			if secret && test.secret != "" {
				want = test.secret
			}
			if _, err := read(&strictyaml.Decoder{Secret: secret}, test.text); err == nil || err.Error() != want {
				t.Errorf("%q, secret %v:\n%v\nwant\n%s", test.text, secret, err, want)
			}
		}
	}
}

// TestOrder: mistakes come in the order of their lines, and each once.
func TestOrder(t *testing.T) {
	d := new(strictyaml.Decoder)
	d.Wrong(3, "c")
	d.About(1, errors.New("a\nb"))
	d.About(2, nil)
	d.Wrong(3, "c")
	if err := strictyaml.Mistakes("shop.yaml", d.Err()); d.Count() != 4 || err == nil ||
		err.Error() != "shop.yaml has 3 mistakes:\n  line 1: a\n  line 1: b\n  line 3: c" {
		t.Errorf("%d: %v", d.Count(), err)
	}
	if err := strictyaml.Mistakes("shop.yaml", errors.New("a")); err.Error() != "shop.yaml: a" {
		t.Error(err)
	}
	if err := strictyaml.Mistakes("shop.yaml", new(strictyaml.Decoder).Err()); err != nil {
		t.Error(err)
	}
}

func TestReadFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	if err := os.WriteFile(path, []byte(strings.Repeat("x", 1<<20)), 0o600); err != nil {
		t.Fatal(err)
	}
	if text, err := strictyaml.ReadFile(path, 1<<20); len(text) != 1<<20 || err != nil {
		t.Errorf("%d bytes, %v", len(text), err)
	}
	for path, want := range map[string]string{path: "it is larger than 0 MiB", dir: "it is a directory", path + "x": "no such file or directory"} {
		if _, err := strictyaml.ReadFile(path, 1<<20-1); err == nil || err.Error() != want {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestQuote(t *testing.T) {
	for text, want := range map[string]string{"a b": "a b", "": `""`, "a\nb": `"a\nb"`, "a`b": "\"a`b\""} {
		if got := strictyaml.Quote(text); got != want {
			t.Errorf("%q: %s", text, got)
		}
	}
	if got := strictyaml.Excerpt(strings.Repeat("x", 65)); got != strings.Repeat("x", 64)+"..." {
		t.Error(got)
	}
}

// FuzzDecoder: a text is read or its mistakes are lines with numbers that do not go
// back, and a secret file's mistakes repeat nothing of it.
func FuzzDecoder(f *testing.F) {
	for _, seed := range []string{
		"name: S\nkind: S", "S: S", "signs: {S: [S], S: S}", "&S a: *S", "!S a", "%TAG ! S", "name: 'S", "S", "[S, *S]", "? S\n: S", "doors: [{S: S}]", "a: b: S", "\tS", "--- S\n--- S",
		"name: |S\n x", `name: "\S"`, "<<: S", "staff: [S, {S: S}, ~]",
	} {
		f.Add(seed)
	}
	const secret = "hunter2hunter2"
	f.Fuzz(func(t *testing.T, text string) {
		text = strings.ReplaceAll(text, "S", secret)
		_, open := read(new(strictyaml.Decoder), text)
		_, closed := read(&strictyaml.Decoder{Secret: true}, text)
		if (open == nil) != (closed == nil) {
			t.Fatalf("%q: %v, secret: %v", text, open, closed)
		}
		if closed == nil {
			return
		}
		if strings.Contains(closed.Error(), secret) {
			t.Errorf("%q: %v", text, closed)
		}
		last := 0
		for line := range strings.SplitSeq(closed.Error(), "\n") {
			number, _, _ := strings.Cut(strings.TrimPrefix(line, "line "), ": ")
			n, err := strconv.Atoi(number)
			if err != nil || n < max(last, 1) {
				t.Errorf("%q: after line %d: %q", text, last, line)
			}
			last = n
		}
	})
}
