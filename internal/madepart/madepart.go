// Package madepart writes the parts of pages that programs make:
//
//	err := madepart.Write("docs/performance.md", "bench", table)
//
// A part stands between two lines of its page, <!-- bench --> and <!-- /bench -->, and
// what people write stands around it.
package madepart

import (
	"fmt"
	"os"
	"strings"
)

// Replace returns the page with other text, whole lines, between the two lines of a part.
// It is an error if the page lacks one of them.
func Replace(page, part, text string) (string, error) {
	first, last := "<!-- "+part+" -->\n", "<!-- /"+part+" -->\n"
	before, rest, begun := strings.Cut(page, first)
	_, after, ended := strings.Cut(rest, last)
	if !begun || !ended {
		return "", fmt.Errorf("it must have the lines %s and %s, between which the made part stands", strings.TrimSpace(first), strings.TrimSpace(last))
	}
	return before + first + text + last + after, nil
}

// Write is Replace in a file.
func Write(path, part, text string) error {
	page, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	made, err := Replace(string(page), part, text)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return os.WriteFile(path, []byte(made), 0o644) //nolint:gosec // pages are public
}
