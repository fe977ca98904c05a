package envoyconfig

import "testing"

// TestRemoves: a mutation removes what Envoy's StringMatcher matches, in each form of it.
func TestRemoves(t *testing.T) {
	for text, want := range map[string]bool{
		`{"remove": "X-User-Id"}`:                                                                  true,
		`{"remove": "x-user-name"}`:                                                                false,
		`{"append": {"header": {"key": "x-user-id"}}}`:                                             false,
		`{"remove_on_match": {"key_matcher": {"exact": "x-user-id"}}}`:                             true,
		`{"remove_on_match": {"key_matcher": {"prefix": "x-user-"}}}`:                              true,
		`{"remove_on_match": {"key_matcher": {"suffix": "-id"}}}`:                                  true,
		`{"remove_on_match": {"key_matcher": {"contains": "user"}}}`:                               true,
		`{"remove_on_match": {"key_matcher": {"contains": "other"}}}`:                              false,
		`{"removeOnMatch": {"keyMatcher": {"exact": "X-USER-ID", "ignoreCase": true}}}`:            true,
		`{"remove_on_match": {"key_matcher": {"exact": "X-USER-ID"}}}`:                             false,
		`{"remove_on_match": {"key_matcher": {"safe_regex": {"regex": "(?i)x[-_.]user[-_.].*"}}}}`: true,
		`{"remove_on_match": {"key_matcher": {"safe_regex": {"regex": "user"}}}}`:                  false,
		`{"remove_on_match": {"key_matcher": {}}}`:                                                 false,
		`{}`: false,
	} {
		config, err := Parse([]byte(`{"static_resources": {"listeners": []}, "mutation": ` + text + `}`))
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if got := Removes(config.Root.Get("mutation"), "x-user-id"); got != want {
			t.Errorf("%s: %v", text, got)
		}
	}
}
