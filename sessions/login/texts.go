package login

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// texts are those of the pages, without those of refusals. A name in braces is
// replaced by a value.
var texts = map[string]string{
	"title_login":    "Sign in",
	"title_account":  "You are signed in",
	"title_logout":   "Sign out?",
	"title_sessions": "Where you are signed in",
	"title_error":    "That did not work",

	"username":            "Username",
	"password":            "Password",
	"sign_in":             "Sign in",
	"sign_out":            "Sign out",
	"sign_out_this":       "Sign out this browser",
	"sign_out_others":     "Sign out everywhere else",
	"sign_out_everywhere": "Sign out everywhere",
	"signed_in_as":        "Signed in as {user}",
	"signed_out":          "You are signed out.",
	"continue":            "Continue",
	"your_sessions":       "Where you are signed in",
	"back_to_sign_in":     "To the sign-in page",
	"stay":                "Stay signed in",

	"plain_http_hint": "If the address of this page begins with http://, open it with https://: over plain http you cannot stay signed in.",

	"this_browser":    "This browser",
	"unknown_browser": "Unknown browser",
	"browser_on":      "{browser} on {system}",
	"address":         "Address",
	"signed_in":       "Signed in",
	"last_used":       "Last used",
	"sessions_help":   "Do you not know one of these? Sign it out, and change your password.",
	"ended_one":       "That browser is signed out.",
	"ended_others":    "All other browsers are signed out.",
	"more_sessions":   "{n} more are not shown. Sign out everywhere else to end them.",
	"just_now":        "just now",
	"ago":             "{time} ago",
	"seconds":         "{n} s",
	"minutes":         "{n} min",
	"hours":           "{n} h",
	"days":            "{n} d",
}

// DefaultTexts returns a copy of the texts of the pages, by the names that
// [Config.Texts] and templates use.
func DefaultTexts() map[string]string {
	all := maps.Clone(texts)
	for code, refusal := range refusals {
		all[errorText(code)] = refusal.text
	}
	return all
}

// errorText is the name of the text of a refusal.
func errorText(c code) string { return "error_" + string(c) }

// textsWith returns the texts with those of own in their place, or an error for a
// name that does not exist.
func textsWith(own map[string]string) (map[string]string, error) {
	all := DefaultTexts()
	for _, name := range slices.Sorted(maps.Keys(own)) {
		if _, ok := all[name]; !ok {
			return nil, fmt.Errorf("texts: there is no text called %q", name)
		}
		all[name] = own[name]
	}
	return all, nil
}

// fill puts values into a text: pairs of a name and its value.
func fill(text string, pairs ...string) string {
	for i := 0; i < len(pairs); i += 2 {
		pairs[i] = "{" + pairs[i] + "}"
	}
	return strings.NewReplacer(pairs...).Replace(text)
}
