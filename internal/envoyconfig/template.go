package envoyconfig

import (
	"errors"
	"regexp"
	"strings"
)

const uriTemplateType = "envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig"

// pathPolicy is a path_match_policy: of the extensions for it, Envoy has one.
func pathPolicy(v Value, path string) truth {
	config, name := v.Get("typed_config").Unwrapped()
	if name != uriTemplateType {
		return undecided("the match has a path_match_policy of type " + clean(name))
	}
	expression, err := templateExpression(config.Get("path_template").Text())
	if err != nil {
		return undecided("the path_template " + clean(config.Get("path_template").Text()) + " cannot be read here")
	}
	return regexMatch(expression, path)
}

// What a template's operators stand for: the characters of RFC 3986's pchar, as Envoy
// has them.
const (
	templateSegment = "[a-zA-Z0-9-._~%!$&'()*+,;:@=]+"  // *
	templateRest    = "[a-zA-Z0-9-._~%!$&'()*+,;:@=/]*" // **
)

var templateName = regexp.MustCompile(`\A[a-zA-Z][a-zA-Z0-9_]{0,15}\z`)

var errTemplate = errors.New("no template")

// templateExpression is the regular expression of a template such as
// /users/{id}/files/{path=**}.
func templateExpression(template string) (string, error) {
	if !strings.HasPrefix(template, "/") {
		return "", errTemplate
	}
	var b strings.Builder
	for rest := template; rest != ""; {
		part, after, err := templatePart(rest)
		if err != nil {
			return "", err
		}
		b.WriteString(part)
		rest = after
	}
	return b.String(), nil
}

// templatePart takes an operator, a variable, or text up to one of them.
func templatePart(rest string) (part, after string, err error) {
	switch {
	case strings.HasPrefix(rest, "**"):
		return templateRest, rest[2:], nil
	case rest[0] == '*':
		return templateSegment, rest[1:], nil
	case rest[0] == '{':
		inside, after, closed := strings.Cut(rest[1:], "}")
		name, pattern, given := strings.Cut(inside, "=")
		if !closed || !templateName.MatchString(name) || given && pattern == "" || strings.ContainsAny(pattern, "{}") {
			return "", "", errTemplate
		}
		if !given {
			return templateSegment, after, nil
		}
		part, err = templateOperators(pattern)
		return part, after, err
	}
	end := strings.IndexAny(rest, "*{")
	if end < 0 {
		end = len(rest)
	}
	return regexp.QuoteMeta(rest[:end]), rest[end:], nil
}

// templateOperators is what stands in a variable: segments that are operators or
// texts.
func templateOperators(pattern string) (string, error) {
	var parts []string
	for segment := range strings.SplitSeq(pattern, "/") {
		switch {
		case segment == "**":
			parts = append(parts, templateRest)
		case segment == "*":
			parts = append(parts, templateSegment)
		case segment == "" || strings.ContainsAny(segment, "*="):
			return "", errTemplate
		default:
			parts = append(parts, regexp.QuoteMeta(segment))
		}
	}
	return strings.Join(parts, "/"), nil
}
