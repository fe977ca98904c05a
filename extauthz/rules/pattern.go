package rules

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/coatcheck/coatcheck/extauthz/internal/canonical"
)

// A pathPattern matches decoded canonical paths, seen as the segments behind
// each "/": "/" is one empty segment, "/a/" an "a" and an empty one.
type pathPattern struct {
	segments []segment
	tail     tail
	whole    string // the one path that it matches, or with a tail the one that all begin with
	plain    bool   // no segment is a parameter: comparing with whole is enough
	folded   bool   // its texts are folded, and so must be the paths that it is asked about
}

// A segment is literal text, or a parameter, which any text fits that is not empty.
type segment struct {
	literal   string
	parameter bool
}

// A tail says what may follow the segments.
type tail int

const (
	nothing  tail = iota // of a path or a template
	slash                // optionally a slash: of a path or a template with OptionalSlash
	more                 // at least one segment, which may be empty: of a prefix with "/" at its end
	anything             // of a prefix, of {rest...}, or of a rule without a path
)

// pattern compiles the rule's path, or says why it could never match.
func (r Rule) pattern() (pathPattern, error) {
	p, err := r.literalPattern()
	if err == nil && r.OptionalSlash {
		p.ignoreSlash()
	}
	return p, err
}

// literalPattern is the pattern by its letters and slashes.
func (r Rule) literalPattern() (pathPattern, error) {
	set := 0
	for _, text := range []string{r.Path, r.PathPrefix, r.PathTemplate} {
		if text != "" {
			set++
		}
	}
	switch {
	case set > 1:
		return pathPattern{}, errors.New("only one of path, prefix and template can be set")
	case r.Path != "":
		return plainPattern("path", r.Path, nothing)
	case r.PathPrefix != "" && strings.HasSuffix(r.PathPrefix, "/"):
		p, err := plainPattern("prefix", r.PathPrefix, more)
		p.segments = p.segments[:max(len(p.segments)-1, 0)] // without the empty one
		return p, err
	case r.PathPrefix != "":
		return plainPattern("prefix", r.PathPrefix, anything)
	case r.PathTemplate != "":
		return templatePattern(r.PathTemplate)
	}
	return pathPattern{tail: anything, plain: true}, nil
}

// ignoreSlash has the pattern match with a slash at the end as without it. The
// path "/" has no twin.
func (p *pathPattern) ignoreSlash() {
	if n := len(p.segments); n > 1 && p.segments[n-1] == (segment{}) {
		p.segments = p.segments[:n-1]
	}
	switch {
	case p.tail == more:
		p.tail = anything
	case p.tail == nothing && p.segments[0] != (segment{}):
		p.tail = slash
	default:
		return
	}
	p.whole = strings.TrimSuffix(p.whole, "/")
}

// fold returns p for paths that are folded, too.
func (p pathPattern) fold(f folding) pathPattern {
	p.folded, p.whole = true, f(p.whole)
	p.segments = slices.Clone(p.segments)
	for i := range p.segments {
		p.segments[i].literal = f(p.segments[i].literal)
	}
	return p
}

func plainPattern(kind, text string, t tail) (pathPattern, error) {
	path, err := canonical.Literal(text)
	if err != nil {
		return pathPattern{}, fmt.Errorf("%s %q: %w", kind, text, err)
	}
	p := pathPattern{tail: t, whole: path, plain: true}
	for literal := range strings.SplitSeq(path[1:], "/") {
		p.segments = append(p.segments, segment{literal: literal})
	}
	return p, nil
}

// templatePattern reads /users/{id}/orders and /files/{rest...}.
func templatePattern(text string) (pathPattern, error) {
	var p pathPattern
	if !strings.HasPrefix(text, "/") {
		return p, fmt.Errorf("template %q must begin with /", text)
	}
	parts := strings.Split(text[1:], "/")
	for i, part := range parts {
		name, isParameter := parameterOf(part)
		rest, isRest := strings.CutSuffix(name, "...")
		switch {
		case !isParameter && strings.ContainsAny(part, "{}"):
			return p, fmt.Errorf("template %q: %q: a parameter is a whole segment", text, part)
		case isParameter && (rest == "" || strings.Trim(rest, parameterLetters) != ""):
			return p, fmt.Errorf("template %q: %q: the name of a parameter must be of a-z A-Z 0-9 _", text, part)
		case isRest && i != len(parts)-1:
			return p, fmt.Errorf("template %q: %s must stand at the end", text, part)
		case isRest:
			p.tail = anything
		case isParameter:
			p.segments = append(p.segments, segment{parameter: true})
		default:
			p.segments = append(p.segments, segment{literal: part})
		}
	}
	return p, p.literals(text)
}

const parameterLetters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_"

func parameterOf(part string) (name string, ok bool) {
	if len(part) < 2 || part[0] != '{' || part[len(part)-1] != '}' {
		return "", false
	}
	return part[1 : len(part)-1], true
}

// literals checks and decodes the literal segments of a template; only the last
// may be empty.
func (p pathPattern) literals(text string) error {
	for i, s := range p.segments {
		if s.parameter || s.literal == "" && i == len(p.segments)-1 && p.tail == nothing {
			continue
		}
		path, err := canonical.Literal("/" + s.literal)
		if err == nil && path == "/" {
			err = errors.New("it has an empty segment")
		}
		if err != nil {
			return fmt.Errorf("template %q: %w", text, err)
		}
		p.segments[i].literal = path[1:]
	}
	return nil
}

// matches reports whether a canonical path matches, folded if the pattern is.
func (p *pathPattern) matches(path string) bool {
	if p.plain {
		return p.matchesPlain(path)
	}
	rest := path // from the slash before the next segment
	for i := range p.segments {
		if rest == "" {
			return false
		}
		s, n := &p.segments[i], 0
		if s.parameter {
			if n = strings.IndexByte(rest[1:], '/'); n < 0 {
				n = len(rest) - 1
			}
			if n == 0 {
				return false
			}
		} else if n = len(s.literal); !begins(rest[1:], s.literal) {
			return false
		}
		rest = rest[1+n:]
	}
	switch p.tail {
	case slash:
		return rest == "" || rest == "/"
	case more:
		return rest != ""
	case anything:
		return true
	}
	return rest == ""
}

// begins reports whether the first segment of path is literal.
func begins(path, literal string) bool {
	return strings.HasPrefix(path, literal) && (len(path) == len(literal) || path[len(literal)] == '/')
}

func (p *pathPattern) matchesPlain(path string) bool {
	switch p.tail {
	case nothing:
		return path == p.whole
	case slash:
		return begins(path, p.whole) && len(path) <= len(p.whole)+1
	}
	return p.whole == "" || begins(path, p.whole) || p.tail == more && strings.HasPrefix(path, p.whole)
}

// text is all literal text.
func (p *pathPattern) text() string {
	text := p.whole
	for _, s := range p.segments {
		text += s.literal
	}
	return text
}

// first is the text of the first segment, if only one text matches there.
func (p *pathPattern) first() (text string, literal bool) {
	if len(p.segments) == 0 || p.segments[0].parameter {
		return "", false
	}
	return p.segments[0].literal, true
}

// covers reports whether p matches every path that q matches. Patterns that ignore
// letter case are folded narrowly, because a path for which that matters is refused.
func (p *pathPattern) covers(q pathPattern) bool {
	if len(p.segments) > len(q.segments) {
		return false // the segments that may follow q's need not be p's
	}
	for i, s := range p.segments {
		if !p.coversSegment(s, q, q.segments[i]) {
			return false
		}
	}
	rest := q.segments[len(p.segments):]
	switch p.tail {
	case anything:
		return true
	case more: // without segments q matches every path, and each has one
		return len(rest) > 0 || q.tail == more || len(q.segments) == 0
	case slash:
		return len(rest) == 0 && q.tail <= slash || len(rest) == 1 && rest[0] == (segment{}) && q.tail == nothing
	}
	return len(rest) == 0 && q.tail == nothing
}

// coversSegment reports whether p's segment s fits all that q's segment t fits.
func (p *pathPattern) coversSegment(s segment, q pathPattern, t segment) bool {
	switch {
	case s.parameter:
		return t != segment{}
	case t.parameter:
		return false
	case p.folded:
		return s.literal == foldNarrow(t.literal)
	case q.folded: // q's stands for all spellings of it
		return s.literal == t.literal && t.literal == strings.ToUpper(t.literal)
	}
	return s == t
}
