package page

import (
	"fmt"
	"regexp"
	"strings"
)

// languageTag is the form of a tag (RFC 5646), which also goes into a header.
var languageTag = regexp.MustCompile(`^[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*$`)

// CheckTag returns an error unless tag has the form of a language tag (RFC 5646).
func CheckTag(tag string) error {
	if languageTag.MatchString(tag) {
		return nil
	}
	return fmt.Errorf("language %q: it is a tag such as de or pt-BR", tag)
}

// Languages are those of the texts of pages. The first is for clients that ask for no
// other of them. One text in each serves all regions: pt is written as in Brazil, where
// most of its readers live.
var Languages = []string{"en", "de", "pt", "es", "fr"}

// What is read of a header. A browser sends about 50 bytes and five ranges.
const (
	maxLanguages = 1 << 10 // bytes; a range that is cut off does not count
	maxRanges    = 32
)

// Language returns the one of the languages offered that an Accept-Language header
// prefers (RFC 9110, section 12.5.4): the one of the highest weight, of equal ones the
// one that is named first. A range stands for the language that begins it, as pt-BR for
// pt (RFC 4647, section 3.4), and * for the languages that are not named. Where the
// header asks for no language that is offered, or refuses all, it is the first.
//
// The header may be any bytes. Lines of it are joined by commas. Language allocates
// nothing, and is safe for concurrent use.
func Language(accept string, offered []string) string {
	accept = bound(accept)
	best, most, first := offered[0], 0, 0
	for _, tag := range offered {
		weight, at := preference(accept, tag)
		if weight > most || weight == most && weight > 0 && at < first {
			best, most, first = tag, weight, at
		}
	}
	return best
}

// bound cuts a header at the last comma that is read.
func bound(accept string) string {
	if len(accept) <= maxLanguages {
		return accept
	}
	return accept[:max(0, strings.LastIndexByte(accept[:maxLanguages], ','))]
}

// preference is the weight that a header gives to a language, in thousandths, and the
// number of the range that says so. A language that a range names is not under *, and
// one that its own name refuses is refused.
func preference(accept, tag string) (weight, at int) {
	named := false
	anyWeight, anyAt, n := 0, 0, 0
	for item := range strings.SplitSeq(accept, ",") {
		if n++; n > maxRanges {
			break
		}
		languageRange, parameters, _ := strings.Cut(item, ";")
		languageRange = strings.Trim(languageRange, " \t")
		q, ok := weightOf(parameters)
		switch {
		case !ok:
		case languageRange == "*":
			anyWeight, anyAt = q, n
		case q == 0 && strings.EqualFold(languageRange, tag):
			return 0, n
		case q > 0 && stands(languageRange, tag):
			if named = true; q > weight {
				weight, at = q, n
			}
		}
	}
	if named {
		return weight, at
	}
	return anyWeight, anyAt
}

// stands reports whether a range stands for a language: one of them is the other, or
// begins it.
func stands(languageRange, tag string) bool {
	return begins(languageRange, tag) || begins(tag, languageRange)
}

// begins reports whether tag is prefix, or prefix and further subtags.
func begins(tag, prefix string) bool {
	return prefix != "" && len(tag) >= len(prefix) && strings.EqualFold(tag[:len(prefix)], prefix) &&
		(len(tag) == len(prefix) || tag[len(prefix)] == '-')
}

// weightOf reads the weight behind a range, in thousandths: 1000 where there is none
// (RFC 9110, section 12.4.2). A range with another parameter, or with a weight that is
// not valid, does not count.
func weightOf(parameters string) (thousandths int, ok bool) {
	parameters = strings.Trim(parameters, " \t")
	if parameters == "" {
		return 1000, true
	}
	if len(parameters) < 3 || len(parameters) > len("q=0.123") || parameters[0]|0x20 != 'q' || parameters[1] != '=' {
		return 0, false
	}
	whole, fraction, dot := parameters[2], "", false
	if rest := parameters[3:]; rest != "" {
		if fraction, dot = strings.CutPrefix(rest, "."); !dot {
			return 0, false
		}
	}
	for i := range 3 {
		digit := byte('0')
		if i < len(fraction) {
			digit = fraction[i]
		}
		if digit < '0' || digit > '9' {
			return 0, false
		}
		thousandths = 10*thousandths + int(digit-'0')
	}
	if whole == '1' && thousandths == 0 {
		return 1000, true
	}
	return thousandths, whole == '0'
}
