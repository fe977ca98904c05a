package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/pflag"
	"github.com/spf13/viper"
	"go.yaml.in/yaml/v3"
)

const (
	variablePrefix = "COATCHECK_"
	fileFlag       = "config"
	fileVariable   = variablePrefix + "CONFIG"
)

// kubernetes matches the variables that Kubernetes makes for a Service whose
// name begins with coatcheck, by their values, too: COATCHECK_PORT=9001 is
// somebody's mistake.
var kubernetes = regexp.MustCompile(`^COATCHECK_([A-Z0-9_]+_)?(SERVICE_HOST=.*|SERVICE_PORT(_[A-Z0-9_]+)?=\d+|` +
	`PORT=(tcp|udp|sctp)://.*|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?=.*)$`)

var lineNumber = regexp.MustCompile(`\(?line \d+\)?`)

// Flags adds --config and a flag for every key to a command's flags.
func Flags(flags *pflag.FlagSet) {
	flags.String(fileFlag, "", "YAML file to read the configuration from ("+fileVariable+")")
	for _, k := range new(Config).keys() {
		if !k.secret {
			flags.Var(&flagValue{kind: fmt.Sprintf("%T", k.value.fallback)}, k.flag(), k.usage)
		}
	}
}

// A flagValue keeps what was typed; the key's own value parses it.
type flagValue struct{ text, kind string }

func (f *flagValue) String() string     { return f.text }
func (f *flagValue) Set(s string) error { f.text = s; return nil }
func (f *flagValue) Type() string {
	switch f.kind {
	case "[]string":
		return "a,b"
	case "string":
		return "text"
	}
	return f.kind
}

// Load gathers the configuration from all sources. Its error names everything
// that is wrong, a line each, and never a secret.
func Load(flags *pflag.FlagSet) (*Config, error) {
	path, _ := flags.GetString(fileFlag)
	if path == "" {
		path = os.Getenv(fileVariable)
	}
	var file []byte
	if path != "" {
		var err error
		if file, err = os.ReadFile(path); err != nil {
			return nil, fmt.Errorf("reading the configuration: %w", err)
		}
	}
	c, err := load(bytes.NewReader(file), flags, os.Environ())
	if err != nil && path != "" {
		err = fmt.Errorf("configuration %s:\n%w", path, err)
	}
	return c, err
}

// load is Load with its sources at hand; flags may be nil.
func load(file io.Reader, flags *pflag.FlagSet, environ []string) (*Config, error) {
	c := new(Config)
	tree, err := parse(file)
	if err != nil {
		return nil, err
	}
	inFile := entries(tree, "")
	v := viper.New()
	for _, e := range inFile {
		if err := v.MergeConfigMap(map[string]any{e.name: e.value}); err != nil {
			return nil, fmt.Errorf("%s: it cannot be read", e.name)
		}
	}
	variables := make(map[string]string)
	for _, variable := range environ {
		if name, text, ok := strings.Cut(variable, "="); ok && strings.HasPrefix(name, variablePrefix) {
			variables[name] = text
		}
	}
	errs := unknown(c.keys(), inFile, variables)
	for _, k := range c.keys() {
		_ = k.value.set(k.value.fallback)
		v.SetDefault(k.name, k.value.fallback)
		if text := variables[k.variable()]; text != "" {
			v.Set(k.name, text)
		}
		if flags != nil {
			if f := flags.Lookup(k.flag()); f != nil && f.Changed {
				v.Set(k.name, f.Value.String())
			}
		}
		raw := v.Get(k.name)
		if raw == nil {
			continue // a value is in the section's place, and named already
		}
		if err := k.value.set(raw); err != nil {
			if k.secret {
				err = errors.New("it is not text; put it in quotes")
			}
			errs = append(errs, fmt.Errorf("%s: %w", k.name, err))
		}
	}
	// A value that could not be read has left its default behind.
	if err := errors.Join(append(errs, c.validate())...); err != nil {
		return nil, err
	}
	return c, nil
}

// parse reads the one document of a YAML file. Its error holds nothing of the
// file: the parser quotes what it stumbled over, which may be a password.
func parse(file io.Reader) (map[string]any, error) {
	tree := make(map[string]any)
	decoder := yaml.NewDecoder(file)
	err := decoder.Decode(&tree)
	if errors.Is(err, io.EOF) {
		return tree, nil
	}
	if err != nil {
		return nil, fmt.Errorf("it is not YAML with keys and values %s", lineNumber.FindString(err.Error()))
	}
	if err := decoder.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, errors.New("it holds more than one YAML document")
	}
	return tree, nil
}

// An entry is a key of the file, by its full name in lower case.
type entry struct {
	name  string
	value any // nil for a section without keys, too
}

// entries lists the keys of a section. Left to itself, viper would pass over a
// section that is empty, or that is there twice, in upper and lower case.
func entries(section map[string]any, prefix string) []entry {
	var all []entry
	for name, value := range section {
		name = prefix + strings.ToLower(name)
		inner, _ := value.(map[string]any)
		if other, ok := value.(map[any]any); ok { // with a key that is no text
			inner = make(map[string]any)
			for name, value := range other {
				inner[fmt.Sprint(name)] = value
			}
		}
		if len(inner) > 0 {
			all = append(all, entries(inner, name+".")...)
		} else {
			if inner != nil {
				value = nil
			}
			all = append(all, entry{name, value})
		}
	}
	slices.SortFunc(all, func(a, b entry) int { return strings.Compare(a.name, b.name) })
	return all
}

// misplaced says what is wrong with the file's i-th key, whatever its value. It
// does not name keys below a value: they may be a password in braces.
func misplaced(keys []key, inFile []entry, i int) error {
	e := inFile[i]
	for _, k := range keys {
		switch {
		case e.value == nil && (k.name == e.name || strings.HasPrefix(k.name, e.name+".")):
			return fmt.Errorf("%s: it has no value", e.name)
		case k.name == e.name && i > 0 && inFile[i-1].name == e.name:
			return fmt.Errorf("%s: it is there twice", e.name)
		case k.name == e.name:
			return nil
		case strings.HasPrefix(e.name, k.name+"."):
			return fmt.Errorf("%s: it takes a value, and no keys below it", k.name)
		case strings.HasPrefix(k.name, e.name+"."):
			return fmt.Errorf("%s: it takes keys below it, and no value", e.name)
		}
	}
	return fmt.Errorf("%s: unknown key", e.name)
}

// unknown names the keys and variables that nobody reads.
func unknown(keys []key, inFile []entry, variables map[string]string) []error {
	var errs []error
	for i := range inFile {
		errs = append(errs, misplaced(keys, inFile, i))
	}
	var names []string
	for name, text := range variables {
		known := name == fileVariable || kubernetes.MatchString(name+"="+text) ||
			slices.ContainsFunc(keys, func(k key) bool { return k.variable() == name })
		if !known {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		errs = append(errs, fmt.Errorf("%s: unknown variable", name))
	}
	return errs
}

// Check reads a file alone, without variables and flags.
func Check(path string) (*Config, error) {
	file, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading the configuration: %w", err)
	}
	return load(bytes.NewReader(file), nil, nil)
}

// YAML prints the configuration as a file that Load reads, secrets redacted.
func (c *Config) YAML() (string, error) {
	v := viper.New()
	v.SetConfigType("yaml")
	for _, k := range c.keys() {
		value := k.value.get()
		if k.secret && value != "" {
			value = "[redacted]"
		}
		v.Set(k.name, value)
	}
	var out strings.Builder
	err := v.WriteConfigTo(&out)
	return out.String(), err
}
