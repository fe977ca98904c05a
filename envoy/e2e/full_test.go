package e2e_test

import "os"

// full selects the long form of the tests: every combination instead of a sample.
var full = os.Getenv("COATCHECK_FULL") != ""

// sample is every n-th of a list, beginning with the first; or all of it in the
// long form.
func sample[T any](list []T, n int) []T {
	if full {
		return list
	}
	var some []T
	for i := 0; i < len(list); i += n {
		some = append(some, list[i])
	}
	return some
}

// count is how often something is tried: more often in the long form.
func count(short, long int) int {
	if full {
		return long
	}
	return short
}
