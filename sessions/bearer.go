package sessions

import "strings"

// ReadBearer looks for session IDs in Authorization header lines (RFC 6750,
// section 2.1: "Bearer" in any case, blanks, the ID), several of which may have
// been joined by commas. It returns the last one and how many there are: with
// more than one, of the same value or not, nobody is authenticated. Credentials
// of another form are somebody else's and do not count. It allocates nothing.
func ReadBearer(lines []string) (id ID, n int) {
	for _, line := range lines {
		for credentials := range strings.SplitSeq(line, ",") {
			scheme, value, _ := strings.Cut(trimBlanks(credentials), " ")
			if !strings.EqualFold(scheme, "bearer") {
				continue
			}
			if found, err := ParseID(trimBlanks(value)); err == nil {
				id = found
				n++
			}
		}
	}
	return id, n
}
