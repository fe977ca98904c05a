package login

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// texts are those of the pages. In braces stands what is put in.
var texts = map[string]string{ //nolint:gosec // none of them is a credential
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

	"error_bad_credentials":         "This username and password do not belong together.",
	"error_throttled":               "Too many attempts. Try again in {time}.",
	"error_busy":                    "Too many people are signing in just now. Try again in {time}.",
	"error_unavailable":             "Signing in and out does not work just now. Try again in {time}. Whoever is signed in stays so.",
	"error_too_many_sessions_shown": "Your browser shows more sessions than can be signed out at once. Delete the cookies of this site.",
	"error_cancelled":               "The request was cancelled.",
	"error_not_signed_in":           "You are not signed in.",
	"error_cross_origin":            "The request came from another site and was refused.",
	"error_not_found":               "There is no such page.",
	"error_method_not_allowed":      "This page cannot be used in that way.",
	"error_bad_request":             "The request could not be read.",
	"error_too_large":               "The request is too large.",
	"error_unsupported_media_type":  "Send a form, or JSON as application/json.",
	"error_bearer_not_allowed":      "A session ID is not given out in the answer here.",
}

// DefaultTexts returns a copy of the texts of the pages, by the names that
// [Config.Texts] and templates use.
func DefaultTexts() map[string]string { return maps.Clone(texts) }

// textsWith is the texts with those replaced that own holds, or which of own has
// a name that does not exist.
func textsWith(own map[string]string) (map[string]string, error) {
	all := DefaultTexts()
	for _, name := range slices.Sorted(maps.Keys(own)) {
		if _, ok := all[name]; !ok {
			return nil, fmt.Errorf("texts: there is none called %q", name)
		}
		all[name] = own[name]
	}
	return all, nil
}

// fill puts values into a text: pairs of a name and what stands for it.
func fill(text string, pairs ...string) string {
	for i := 0; i < len(pairs); i += 2 {
		pairs[i] = "{" + pairs[i] + "}"
	}
	return strings.NewReplacer(pairs...).Replace(text)
}
