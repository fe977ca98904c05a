package config

import "slices"

// Nearest is the known name that was probably meant by one that is not; empty
// where none is near: two letters away at most, and in a short name one.
func Nearest(name string, known []string) string {
	best, limit := "", min(2, len(name)/3)
	for _, k := range known {
		if d := distance(name, k); d <= limit && (best == "" || d < distance(name, best)) {
			best = k
		}
	}
	return best
}

// didYouMean is the end of a sentence about an unknown name.
func didYouMean(name string, known []string) string {
	if near := Nearest(name, known); near != "" {
		return "; did you mean " + near + "?"
	}
	return ""
}

// distance counts the bytes to insert, to remove or to replace that make b of a,
// and the neighbours to exchange.
func distance(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
		for j := range rows[i][1:] {
			j++
			if i == 0 {
				rows[i][j] = j
				continue
			}
			replaced := rows[i-1][j-1]
			if a[i-1] != b[j-1] {
				replaced++
			}
			rows[i][j] = slices.Min([]int{rows[i-1][j] + 1, rows[i][j-1] + 1, replaced})
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(a)][len(b)]
}
