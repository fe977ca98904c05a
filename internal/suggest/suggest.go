// Package suggest finds the name that a person probably meant:
//
//	fmt.Errorf("unknown key %s%s", name, suggest.DidYouMean(name, known))
package suggest

import "slices"

// Nearest returns the known name nearest to an unknown one: at most two letters
// away, and in a short name one. It returns "" if no name is that near.
func Nearest(name string, known []string) string {
	best, limit := "", min(2, len(name)/3)
	for _, k := range known {
		if d := distance(name, k); d <= limit && (best == "" || d < distance(name, best)) {
			best = k
		}
	}
	return best
}

// DidYouMean returns the end of a sentence about an unknown name, "; did you mean
// listen?", or "" if no known name is near.
func DidYouMean(name string, known []string) string {
	if near := Nearest(name, known); near != "" {
		return "; did you mean " + near + "?"
	}
	return ""
}

// distance is the number of bytes to insert, remove, replace or swap with a
// neighbour that turn a into b.
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
