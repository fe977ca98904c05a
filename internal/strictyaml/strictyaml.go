// Package strictyaml reads the YAML files that people write, strictly:
//
//	d := new(strictyaml.Decoder)
//	if root := d.Document(text); root != nil {
//		d.Object(root, "the file", map[string]strictyaml.Reader{
//			"name":    d.Text("name", &c.Name),
//			"timeout": d.Duration("timeout", &c.Timeout),
//		})
//	}
//	return strictyaml.Mistakes(path, d.Err())
//
// A [Decoder] goes on after a mistake, so that its error names all of them, each
// with its line. Unknown keys, keys that come twice, aliases, and values of another
// type are mistakes: YAML would pass over them or guess.
package strictyaml

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"go.yaml.in/yaml/v3"
)

// A Decoder collects the mistakes of one file. The zero Decoder is ready for use.
// It is not safe for concurrent use.
type Decoder struct {
	// Secret is for a file that holds secrets: mistakes then repeat no value, and of
	// the keys only those that the program knows.
	Secret bool

	mistakes []mistake
}

type mistake struct {
	line int
	text string
}

// Wrong records a mistake in a line, counted from 1.
func (d *Decoder) Wrong(line int, format string, args ...any) {
	d.mistakes = append(d.mistakes, mistake{line, fmt.Sprintf(format, args...)})
}

// About records each line of an error as a mistake of its own. It ignores nil.
func (d *Decoder) About(line int, err error) {
	if err == nil {
		return
	}
	for text := range strings.SplitSeq(err.Error(), "\n") {
		d.Wrong(line, "%s", text)
	}
}

// Count returns the number of mistakes so far.
func (d *Decoder) Count() int { return len(d.mistakes) }

// Err returns the mistakes in the order of their lines, one a line, or nil.
func (d *Decoder) Err() error {
	slices.SortStableFunc(d.mistakes, func(a, b mistake) int { return cmp.Compare(a.line, b.line) })
	var errs []error
	for _, m := range slices.Compact(d.mistakes) {
		errs = append(errs, fmt.Errorf("line %d: %s", m.line, m.text))
	}
	return errors.Join(errs...)
}

// Mistakes adds the file to an error of [Decoder.Err], and the number of mistakes
// if there are several. It returns nil for nil.
func Mistakes(file string, err error) error {
	if err == nil {
		return nil
	}
	mistakes := strings.Split(err.Error(), "\n")
	if len(mistakes) == 1 {
		return fmt.Errorf("%s: %w", file, err)
	}
	return fmt.Errorf("%s has %d mistakes:\n  %s", file, len(mistakes), strings.Join(mistakes, "\n  "))
}

// ReadFile returns the contents of a file of at most limit bytes. Its error does not
// name the file, because the caller does.
func ReadFile(path string, limit int64) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, cause(err)
	}
	defer func() { _ = file.Close() }()
	text, err := io.ReadAll(io.LimitReader(file, limit+1))
	if err != nil {
		return nil, cause(err)
	}
	if int64(len(text)) > limit {
		return nil, fmt.Errorf("it is larger than %d MiB", limit>>20)
	}
	return text, nil
}

// cause is what the system says, without the call and the path.
func cause(err error) error {
	if errors.Is(err, syscall.EISDIR) {
		return errors.New("it is a directory")
	}
	var of *fs.PathError
	if errors.As(err, &of) {
		return of.Err
	}
	return err
}

var (
	yamlLine   = regexp.MustCompile(`line (\d+)`)
	yamlPrefix = regexp.MustCompile(`^yaml: (line \d+: )?`)
)

// Document returns the root of the one document in a text. It returns nil if the
// text is empty, and, after recording a mistake, if it is not YAML.
func (d *Decoder) Document(text []byte) *yaml.Node {
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	var root yaml.Node
	switch err := decoder.Decode(&root); {
	case errors.Is(err, io.EOF):
		return nil
	case err != nil:
		if line, what, found := misindented(text); found {
			d.Wrong(line, "it is not YAML: %s", what)
		} else {
			d.Wrong(lineOf(err), "it is not YAML%s", parserDetail(err))
		}
		return nil
	}
	if err := decoder.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		d.Wrong(1, "it holds more than one YAML document")
	}
	return root.Content[0]
}

// lineOf is the line of a parser's error.
func lineOf(err error) int {
	line := 1
	if found := yamlLine.FindStringSubmatch(err.Error()); found != nil {
		line, _ = strconv.Atoi(found[1])
	}
	if strings.Contains(err.Error(), ": did not find expected") && !strings.HasSuffix(err.Error(), "node content") {
		line++ // in these errors the parser counts lines from 0
	}
	return line
}

// parserDetail is the parser's complaint, unless it quotes the file: the file may be
// another one than was meant, and hold a key or a password.
func parserDetail(err error) string {
	detail := yamlPrefix.ReplaceAllString(err.Error(), "")
	if strings.Contains(detail, "anchor") || strings.Contains(detail, "tag") {
		return ""
	}
	return ": " + detail
}

// Quote returns a text on one line: in quotes if it is empty or holds characters
// that could not stand there.
func Quote(text string) string {
	if text == "" || !strconv.CanBackquote(text) {
		return strconv.Quote(text)
	}
	return text
}

// Excerpt returns the beginning of a text, at most 64 bytes, as [Quote] does.
func Excerpt(text string) string {
	if len(text) > 64 {
		text = text[:64] + "..."
	}
	return Quote(text)
}
