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
)

const (
	variablePrefix = "COATCHECK_"
	fileFlag       = "config"
	fileVariable   = variablePrefix + "CONFIG"
)

// kubernetes matches the rest of the variables that Kubernetes makes for a
// Service whose name begins with coatcheck.
var kubernetes = regexp.MustCompile(`^([A-Z0-9_]+_)?(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)$`)

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
	v := viper.New()
	v.SetConfigType("yaml")
	if err := v.ReadConfig(file); err != nil {
		// The parser quotes what it stumbled over, which may be a password.
		return nil, fmt.Errorf("it is not YAML with keys and values %s", lineNumber.FindString(err.Error()))
	}
	inFile := v.AllKeys()
	variables := make(map[string]string)
	for _, variable := range environ {
		if name, text, ok := strings.Cut(variable, "="); ok && strings.HasPrefix(name, variablePrefix) {
			variables[name] = text
		}
	}
	errs := unknown(c.keys(), inFile, variables)
	for _, k := range c.keys() {
		if slices.Contains(inFile, k.name) && v.Get(k.name) == nil {
			errs = append(errs, fmt.Errorf("%s: it has no value", k.name))
		}
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
		if err := k.value.set(v.Get(k.name)); err != nil {
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

// unknown names the keys and variables that nobody reads.
func unknown(keys []key, inFile []string, variables map[string]string) []error {
	var errs []error
	slices.Sort(inFile)
	for _, name := range inFile {
		if !slices.ContainsFunc(keys, func(k key) bool { return k.name == name }) {
			errs = append(errs, fmt.Errorf("%s: unknown key", name))
		}
	}
	var names []string
	for name := range variables {
		known := name == fileVariable || kubernetes.MatchString(strings.TrimPrefix(name, variablePrefix)) ||
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
