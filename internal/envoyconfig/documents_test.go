package envoyconfig

import (
	"strings"
	"testing"
)

// TestDocuments: several documents, with the lines of the whole text.
func TestDocuments(t *testing.T) {
	documents, err := Documents([]byte("# first\na: 1\n---\n---\nb: [{c: 2}, {'x y': 3}]\n--- null\n---\nd: |\n  e:\n    f: 4\n  g: 5\nh: \"i: 6\"\n"))
	if err != nil || len(documents) != 3 {
		t.Fatalf("%d documents, %v", len(documents), err)
	}
	b := documents[1].Get("b").Items()
	if b[1].Line() != 5 || documents[0].Get("a").Line() != 2 {
		t.Errorf("lines %d and %d", b[1].Line(), documents[0].Get("a").Line())
	}
	paths := Paths(documents[1], []Value{b[0].Get("c"), b[1].Entry("x y"), {}, documents[1], documents[0]})
	if strings.Join(paths, "|") != `b[0].c|b[1]["x y"]|||` {
		t.Errorf("%q", paths)
	}
	inner, err := documents[2].Get("d").Embedded()
	if err != nil || inner.Get("e", "f").Line() != 10 || inner.Get("g").Line() != 11 {
		t.Errorf("line %d and %d, %v", inner.Get("e", "f").Line(), inner.Get("g").Line(), err)
	}
	if inner, err = documents[2].Get("h").Embedded(); err != nil || inner.Get("i").Line() != 12 {
		t.Errorf("line %d, %v", inner.Get("i").Line(), err)
	}
}

// TestDocumentsRefused: what is no YAML, or too much of it. No error repeats the text.
func TestDocumentsRefused(t *testing.T) {
	bomb := "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
	for c := 'b'; c < 'j'; c++ {
		bomb += string(c) + ": &" + string(c) + " [" + strings.Repeat("*"+string(c-1)+", ", 10) + "]\n"
	}
	for name, text := range map[string]string{
		"no YAML": "a: 1\n---\npassword: hunter2: x\n", "an alias to itself": "a: &a [*a]\n", "a bomb": bomb, "deep": strings.Repeat("[", 200) + strings.Repeat("]", 200),
	} {
		if documents, err := Documents([]byte(text)); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %d documents, %v", name, len(documents), err)
		}
	}
}

// TestCluster: by its name, in a file and in a dump, of which only the named one is
// decoded.
func TestCluster(t *testing.T) {
	for name, text := range map[string]string{
		"a file": `{"static_resources": {"clusters": [{"name": "a"}, {"name": "b", "type": "STRICT_DNS"}]}}`,
		"a dump": `{"configs": [{"@type": "x/envoy.admin.v3.SecretsConfigDump"}, {"@type": "x/envoy.admin.v3.ClustersConfigDump", "static_clusters": [{"cluster": {"name": "a"}}], "dynamic_active_clusters": [{"cluster": {"name": "b", "type": "STRICT_DNS"}}], "dynamic_warming_clusters": [{"cluster": {"name": "c"}}]}]}`,
	} {
		config, err := Parse([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		b, ok := config.Cluster("b")
		again, _ := config.Cluster("b")
		if !ok || b.Get("type").Text() != "STRICT_DNS" || again != b {
			t.Errorf("%s: %+v, %v", name, b, ok)
		}
		if path := Paths(config.Root, []Value{b.Get("type")})[0]; !strings.HasSuffix(path, ".type") || name == "a dump" && path != "configs[1].dynamic_active_clusters[0].cluster.type" {
			t.Errorf("%s: %q", name, path)
		}
		if _, ok := config.Cluster("c"); ok {
			t.Errorf("%s: c is there", name)
		}
	}
}
