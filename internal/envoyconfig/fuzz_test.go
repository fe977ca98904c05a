package envoyconfig

import (
	"fmt"
	"strings"
	"testing"

	"github.com/coatcheck/coatcheck/internal/strictyaml"
)

// FuzzParse: a text is refused or read, without a panic; JSON says the same when YAML's
// parser reads it; and what is found has a reason, and holds no character that a
// terminal obeys.
func FuzzParse(f *testing.F) {
	f.Add([]byte(shortConfig), "h", "/a?b")
	f.Add([]byte(`{"configs":[{"@type":"x/envoy.admin.v3.ListenersConfigDump","static_listeners":[{"listener":{"name":"\u001b[31m","filter_chains":[{"filters":[{"typed_config":{"@type":"x/`+managerType+`","route_config":{}}}]}]}}]}]}`), "h:80", "//")
	f.Add([]byte("static_resources: {listeners: [&a {name: x, filter_chains: []}, *a]}"), "[::1]:1", "/%2e")
	f.Add([]byte(`{"static_resources":{"listeners":[{"filter_chains":[{"filters":[{"typed_config":{"@type":"`+managerType+`","http_filters":[{"name":"a","typed_config":{"@type":"`+extAuthzType+`","grpc_service":{"x":1}}}],"normalize_path":true,"merge_slashes":true,"route_config":{"virtual_hosts":[{"domains":["*"],"routes":[{"match":{"path_match_policy":{"typed_config":{"@type":"`+uriTemplateType+`","path_template":"/{a=*/b}/**"}}}},{"match":{"safe_regex":{"regex":"a|b"}},"route":{"weighted_clusters":{"clusters":[{"weight":1},{"weight":2}]}}}]}]}}}]}]}]}}`), "h", "/x/b/c")
	f.Add([]byte(strings.Replace(shortConfig, "{match: {prefix: /}}", "{match: {path_separated_prefix: /a, headers: [{name: a, string_match: {prefix: b}}, {name: x, range_match: {start: 1, end: 9}, invert_match: true}, {name: ':method', exact_match: GET}], query_parameters: [{name: a, string_match: {safe_regex: {regex: '.*'}}}, {name: b, present_match: true}]}}, {match: {prefix: /, grpc: {}}}, {match: {prefix: /, runtime_fraction: {default_value: {numerator: 1, denominator: MILLION}}}}", 1)), "h:81", "/a/b?a=1&b")
	f.Fuzz(func(t *testing.T, text []byte, host, path string) {
		config, err := Parse(text)
		if err != nil {
			return
		}
		request := Request{Host: host, Path: path, Headers: map[string]string{"a": "b"}}
		ways, err := config.Find(request, Where{})
		said := fmt.Sprint(err)
		if err == nil && len(ways) == 0 {
			t.Fatal("neither a way nor an error")
		}
		for _, w := range ways {
			if w.Asks != (w.WhyNot == "") || w.Asks != (w.Extensions != nil) {
				t.Errorf("%+v", w)
			}
			said += w.If + w.Route + w.WhyNot + strings.Join(w.Notes, "")
		}
		if strings.ContainsFunc(said, func(r rune) bool { return r < ' ' || r >= 0x7f && r < 0xa0 }) {
			t.Errorf("a control character is said: %q", said)
		}
		d := new(strictyaml.Decoder)
		node := d.Document(text)
		left := maxNodes
		if d.Err() != nil || !strings.HasPrefix(strings.TrimSpace(string(text)), "{") || strings.Contains(string(text), "\\") || count(node, maxDepth, &left) != nil {
			return // not JSON, or with escapes that the two write differently
		}
		again, err2 := newConfig(valueOf(node)).Find(request, Where{})
		if fmt.Sprint(err) != fmt.Sprint(err2) || waysInWords(ways) != waysInWords(again) {
			t.Errorf("as JSON %s, %v; as YAML %s, %v", waysInWords(ways), err, waysInWords(again), err2)
		}
	})
}

func waysInWords(ways []Way) string {
	text := ""
	for _, w := range ways {
		w.manager, w.filter = nil, nil
		text += fmt.Sprintf("%+v\n", w)
	}
	return text
}

// FuzzCanonicalPath: a path that is canonical stays as it is, and holds neither a
// segment . or .. nor a character that must be encoded.
func FuzzCanonicalPath(f *testing.F) {
	for _, seed := range []string{"/", "/a/../b", "/%2e%2E/.%2e/x", `/a\..\b`, "/%41%zz%", "/a%20b%00", "/é|", "/.a/..b/...", "//..//."} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, path string) {
		if !strings.HasPrefix(path, "/") || nestedEscape.MatchString(path) {
			return
		}
		got, ok := canonicalPath(path)
		if !ok {
			return
		}
		if again, ok := canonicalPath(got); !nestedEscape.MatchString(got) && (!ok || again != got) {
			t.Errorf("%q became %q, and then %q, %v", path, got, again, ok)
		}
		for segment := range strings.SplitSeq(got, "/") {
			if segment == "." || segment == ".." {
				t.Errorf("%q became %q", path, got)
			}
		}
		if !strings.HasPrefix(got, "/") || strings.ContainsAny(got, "\\ \"<>^`{|}") || strings.ContainsFunc(got, func(r rune) bool { return r >= 0x7f }) {
			t.Errorf("%q became %q", path, got)
		}
	})
}
