// Package callersfile reads the file of the services that may call the session API:
//
//	callers:
//	- name: billing
//	  certificate: spiffe://example.org/ns/shop/sa/billing
//	  rights: [get, check]
//	  fields: [cart]
//	- name: chat
//	  token_file: /run/secrets/chat-token
//	  rights: [watch, by_id]
//
// A caller has a certificate's name, a token file with one or two tokens, a line each, or
// both. A [File] holds everything that it was read from, so that a change of a token file is
// a change, too.
package callersfile

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/coatcheck/coatcheck/internal/secretfile"
	"github.com/coatcheck/coatcheck/internal/strictyaml"
	"github.com/coatcheck/coatcheck/sessions/api"
)

// maxBytes bounds the file; a thousand callers fit.
const maxBytes = 4 << 20

// maxTokens is how many tokens a token file holds at most: the new and the former one.
const maxTokens = 2

// A File is a callers file without a mistake.
type File struct {
	Callers *api.Callers
	// Contents are the file and its token files, joined. They hold secrets.
	Contents []byte
}

// Open reads the callers file and the token files that it names. With accept, which may be nil,
// the process says what no caller can have in it. The error names the file and every mistake,
// and repeats no token.
func Open(path string, accept func(api.Caller) error) (*File, error) {
	text, err := strictyaml.ReadFile(path, maxBytes)
	if err != nil {
		return nil, strictyaml.Mistakes(strictyaml.Quote(path), err)
	}
	f, err := parse(text, accept)
	return f, strictyaml.Mistakes(strictyaml.Quote(path), err)
}

// A decoder reads one file and its token files.
type decoder struct {
	strictyaml.Decoder
	accept   func(api.Caller) error // nil: everything
	contents bytes.Buffer
	callers  []api.Caller
	lines    []int // of callers
}

func parse(text []byte, accept func(api.Caller) error) (*File, error) {
	d := &decoder{accept: accept}
	d.contents.Write(text)
	if root := d.Document(text); root != nil {
		d.Object(root, "the file", map[string]strictyaml.Reader{"callers": d.List("callers", d.caller)})
	}
	if d.Count() == 0 && len(d.callers) == 0 {
		d.Wrong(1, "it names no callers")
	}
	d.validate()
	if err := d.Err(); err != nil {
		return nil, err
	}
	callers, err := api.NewCallers(d.callers)
	if err != nil {
		return nil, err
	}
	return &File{Callers: callers, Contents: d.contents.Bytes()}, nil
}

// caller reads one caller.
func (d *decoder) caller(n *yaml.Node) {
	var c api.Caller
	var tokens string
	var rights []string
	if !d.Object(n, "a caller", map[string]strictyaml.Reader{
		"name": d.Text("name", &c.Name), "certificate": d.Text("certificate", &c.Certificate), "token_file": d.Text("token_file", &tokens),
		"rights": d.Texts("rights", &rights), "fields": d.Texts("fields", &c.Fields),
	}) {
		return
	}
	for _, r := range rights {
		c.Rights = append(c.Rights, api.Right(r))
	}
	if tokens != "" {
		var err error
		if c.Tokens, err = d.tokens(tokens); err != nil {
			d.About(n.Line, err)
			return // that it has no token is then no mistake of its own
		}
	}
	d.callers, d.lines = append(d.callers, c), append(d.lines, n.Line)
}

// tokens reads a token file. Its error names the file and never what it holds.
func (d *decoder) tokens(path string) (tokens []string, err error) {
	text, err := secretfile.Read(path)
	if err != nil {
		return nil, fmt.Errorf("token_file: %w", err)
	}
	fmt.Fprintf(&d.contents, "\x00%s", text)
	for line := range strings.Lines(text) {
		token := strings.TrimRight(line, "\r\n")
		if err := api.ValidateToken(token); err != nil {
			return nil, fmt.Errorf("token_file: %s: %w", path, err)
		}
		tokens = append(tokens, token)
	}
	if len(tokens) > maxTokens {
		return nil, fmt.Errorf("token_file: %s has more than %d lines", path, maxTokens)
	}
	return tokens, nil
}

// validate names what is wrong with a caller at its line, and what two callers share at the
// first line of the file.
func (d *decoder) validate() {
	valid := true
	for i, c := range d.callers {
		err := c.Validate()
		if err == nil && d.accept != nil {
			err = d.accept(c)
		}
		if err != nil {
			valid = false
			d.About(d.lines[i], named(c.Name, err))
		}
	}
	if !valid || len(d.callers) == 0 {
		return
	}
	if _, err := api.NewCallers(d.callers); err != nil {
		d.About(1, err)
	}
}

// named adds the caller's name to each line of an error.
func named(name string, err error) error {
	var errs []error
	for line := range strings.SplitSeq(err.Error(), "\n") {
		errs = append(errs, fmt.Errorf("caller %s: %s", strictyaml.Excerpt(name), line))
	}
	return errors.Join(errs...)
}
