package login

import (
	"maps"
	"strconv"
	"strings"
)

// texts are those of the pages in English, without those of refusals. A name in braces
// is replaced by a value. A name that ends in _one is the form for the number 1.
var texts = map[string]string{
	"title_login":    "Sign in",
	"title_account":  "Signed in as {user}",
	"title_logout":   "Sign out?",
	"title_sessions": "Where you are signed in",
	"title_error":    "That did not work",

	"username":            "Username",
	"password":            "Password",
	"sign_in":             "Sign in",
	"continue_to":         "To continue to {place}",
	"help":                "Trouble signing in?",
	"sign_out":            "Sign out",
	"sign_out_here":       "Sign out here",
	"sign_out_this":       "Sign out this browser",
	"sign_out_others":     "Sign out everywhere else",
	"sign_out_everywhere": "Sign out everywhere",
	"signed_in_as":        "Signed in as {user}",
	"signed_out":          "You are signed out.",
	"roles":               "Roles",
	"until":               "Until",
	"until_or_idle":       "{time}, or {idle} without use",
	"continue":            "Continue",
	"your_sessions":       "Where you are signed in",
	"change_password":     "Change password",
	"back_to_sign_in":     "Back to sign-in",
	"stay":                "Stay signed in",
	"plain_http_hint":     "If the address of this page begins with http://, open it with https://: over plain http you cannot stay signed in.",

	"this_browser":      "This browser",
	"unknown_browser":   "Unknown browser",
	"browser_on":        "{browser} on {system}",
	"address":           "Address",
	"signed_in":         "Signed in",
	"last_used":         "Last used",
	"sessions_help":     "Don't recognise one? Sign it out and change your password.",
	"ended_one":         "That browser is signed out.",
	"ended_others":      "All other browsers are signed out.",
	"unconfirmed":       "The backup servers have not confirmed this yet. If the main server fails before they do, a session could come back: look later at where you are signed in.",
	"more_sessions":     "{n} more are not shown. Sign out everywhere else to end them.",
	"more_sessions_one": "{n} more is not shown. Sign out everywhere else to end it.",
	"just_now":          "just now",
	"ago":               "{time} ago",
	"seconds":           "{n} seconds",
	"seconds_one":       "{n} second",
	"minutes":           "{n} minutes",
	"minutes_one":       "{n} minute",
	"hours":             "{n} hours",
	"hours_one":         "{n} hour",
	"days":              "{n} days",
	"days_one":          "{n} day",

	"date":      "{day} {month} {year}, {time} UTC",
	"clock":     "{time} UTC",
	"first_day": "1", // of a month
	"months":    "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec",

	// What the title of the window begins with. Those of refusals are named by the
	// refusal's code.
	"state_signed_out":              "Signed out",
	"state_ended_one":               "Browser signed out",
	"state_ended_others":            "Other browsers signed out",
	"state_bad_credentials":         "Wrong password",
	"state_throttled":               "Too many attempts",
	"state_busy":                    "Too busy",
	"state_unavailable":             "Sign-in unavailable",
	"state_too_many_sessions_shown": "Too many sessions",
	"state_cancelled":               "Cancelled",
	"state_not_signed_in":           "Not signed in",
	"state_cross_origin":            "Refused",
	"state_plain_http":              "Open with https",
	"state_hidden_port":             "Open with https",
	"state_bearer_not_allowed":      "Refused",
	"state_not_found":               "Page not found",
	"state_method_not_allowed":      "Not possible",
	"state_bad_request":             "Bad request",
	"state_too_large":               "Request too large",
	"state_unsupported_media_type":  "Wrong format",
}

// DefaultTexts returns a copy of the English texts of the pages, by the names that
// [Config.Texts] and templates use. Every other language has the same names.
func DefaultTexts() map[string]string {
	all := maps.Clone(texts)
	for code, refusal := range refusals {
		all[errorText(code)] = refusal.text
	}
	return all
}

// errorText is the name of the text of a refusal.
func errorText(c code) string { return "error_" + string(c) }

// stateText is the name of what the title of the window begins with.
func stateText(of code) string { return "state_" + string(of) }

// fill puts values into a text: pairs of a name and its value.
func fill(text string, pairs ...string) string {
	for i := 0; i < len(pairs); i += 2 {
		pairs[i] = "{" + pairs[i] + "}"
	}
	return strings.NewReplacer(pairs...).Replace(text)
}

// oneSuffix ends the name of a text for the number 1.
const oneSuffix = "_one"

// count is a text about n of something.
func (p *pages) count(name string, n int) string {
	if n == 1 {
		name += oneSuffix
	}
	return fill(p.text[name], "n", strconv.Itoa(n))
}
