package config

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/pflag"
	"github.com/spf13/viper"

	"github.com/coatcheck/coatcheck/internal/strictyaml"
	"github.com/coatcheck/coatcheck/internal/suggest"
)

// FileFlag is the flag that names the configuration file.
const FileFlag = "config"

const variablePrefix = "COATCHECK_"

// FileVariable is the variable that names the configuration file, where no flag does.
const FileVariable = variablePrefix + "CONFIG"

// kubernetes matches the variables that Kubernetes makes for a Service whose name
// begins with coatcheck. It looks at their values, too, because COATCHECK_PORT=9001
// is an operator's mistake.
var kubernetes = regexp.MustCompile(`^COATCHECK_([A-Z0-9_]+_)?(SERVICE_HOST=.*|SERVICE_PORT(_[A-Z0-9_]+)?=\d+|` +
	`PORT=(tcp|udp|sctp)://.*|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?=.*)$`)

// Load reads the configuration from all sources. Its error names every mistake, one a
// line, and repeats no secret.
func Load(flags *pflag.FlagSet) (*Config, error) {
	return loadFor(asksRedis, flags)
}

// LoadWithoutRedis is [Load] for a command that does not ask Redis, such as a probe:
// redis.addresses may be missing.
func LoadWithoutRedis(flags *pflag.FlagSet) (*Config, error) {
	return loadFor(!asksRedis, flags)
}

func loadFor(redis need, flags *pflag.FlagSet) (*Config, error) {
	path, source := "", ""
	if f := flags.Lookup(FileFlag); f != nil && f.Value.String() != "" {
		path, source = f.Value.String(), " (--"+FileFlag+")"
	} else if path = os.Getenv(FileVariable); path != "" {
		source = " (" + FileVariable + ")"
	}
	return read(redis, path, source, flags, os.Environ())
}

// Check reads a file alone, without variables and flags. It returns errors as [Load] does.
func Check(path string) (*Config, error) {
	return read(asksRedis, path, "", nil, nil)
}

// read loads with the file of that path, unless it is empty. The source says in errors
// where the path came from.
func read(redis need, path, source string, flags *pflag.FlagSet, environ []string) (*Config, error) {
	if path == "" {
		c, err := parseAll(redis, nil, flags, environ)
		if err != nil && strings.Contains(err.Error(), "\n") {
			err = strictyaml.Mistakes("the configuration", err)
		}
		return c, err
	}
	subject := "configuration " + strictyaml.Quote(path) + source
	text, err := strictyaml.ReadFile(path, maxFileBytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", subject, err)
	}
	c, err := parseAll(redis, text, flags, environ)
	return c, strictyaml.Mistakes(subject, err)
}

// maxFileBytes is far above what a configuration needs.
const maxFileBytes = 4 << 20

func parseAll(redis need, file []byte, flags *pflag.FlagSet, environ []string) (*Config, error) {
	tree, err := parse(file)
	if err != nil {
		return nil, err
	}
	c, v := new(Config), viper.New()
	inFile, variables := entries(tree, ""), ours(environ)
	for _, e := range inFile {
		if err := v.MergeConfigMap(map[string]any{e.name: e.value}); err != nil {
			return nil, fmt.Errorf("%s: it cannot be read", strictyaml.Quote(e.name))
		}
	}
	errs := unknown(c.keys(), inFile, variables)
	for _, k := range c.keys() {
		errs = append(errs, k.load(v, variables[k.variable()], flags))
	}
	c.adoptFormat(func(name string) bool { return given(name, inFile, variables, flags) })
	// A value that could not be read keeps its default, which is valid.
	if err := errors.Join(append(errs, c.validate(redis))...); err != nil {
		return nil, err
	}
	return c, nil
}

// ours returns the variables with our prefix, by their names.
func ours(environ []string) map[string]string {
	variables := make(map[string]string)
	for _, variable := range environ {
		if name, text, ok := strings.Cut(variable, "="); ok && strings.HasPrefix(name, variablePrefix) {
			variables[name] = text
		}
	}
	return variables
}

// load sets the key's value from the source with precedence; v holds the file.
func (k key) load(v *viper.Viper, variable string, flags *pflag.FlagSet) error {
	_ = k.value.set(k.value.fallback)
	v.SetDefault(k.name, k.value.fallback)
	if variable != "" {
		v.Set(k.name, variable)
	}
	if flags != nil {
		if f := flags.Lookup(k.flag()); f != nil && f.Changed {
			v.Set(k.name, f.Value.String())
		}
	}
	raw := v.Get(k.name)
	if raw == nil {
		return nil // the file has a value in place of the section, which misplaced reports
	}
	err := k.value.set(raw)
	if err != nil && k.secret {
		err = errors.New("it is not text; put it in quotes")
	}
	return About(err, k.name)
}

// given reports whether a source has a value for a key.
func given(name string, inFile []entry, variables map[string]string, flags *pflag.FlagSet) bool {
	k := key{name: name}
	if flags != nil {
		if f := flags.Lookup(k.flag()); f != nil && f.Changed {
			return true
		}
	}
	return variables[k.variable()] != "" || slices.ContainsFunc(inFile, func(e entry) bool { return e.name == k.inFile() })
}

// unknown names the keys and variables that no setting has.
func unknown(keys []key, inFile []entry, variables map[string]string) []error {
	var errs []error
	for i := range inFile {
		errs = append(errs, misplaced(keys, inFile, i))
	}
	known := append(names(keys, key.variable), FileVariable)
	for _, name := range slices.Sorted(maps.Keys(variables)) {
		if !slices.Contains(known, name) && !kubernetes.MatchString(name+"="+variables[name]) {
			errs = append(errs, fmt.Errorf("%s: unknown variable%s", strictyaml.Quote(name), suggest.DidYouMean(name, known)))
		}
	}
	return errs
}

// names are the names of the keys in one source.
func names(keys []key, of func(key) string) []string {
	var all []string
	for _, k := range keys {
		all = append(all, of(k))
	}
	return all
}

// YAML returns the configuration as a file that [Load] reads, with secrets redacted.
func (c *Config) YAML() (string, error) {
	v := viper.New()
	v.SetConfigType("yaml")
	for _, k := range c.keys() {
		value := k.value.asYAML()
		if k.secret && value != "" {
			value = "[redacted]"
		}
		v.Set(k.name, value)
	}
	var out strings.Builder
	err := v.WriteConfigTo(&out)
	return out.String(), err
}

// Parse reads the text of a file, which may be empty, with variables, written as
// NAME=value, and without flags. It is for configurations of other processes: files that
// it names are not read, and redis.addresses may be missing. It returns errors as [Load]
// does.
func Parse(text []byte, variables []string) (*Config, error) {
	return parseAll(!asksRedis, text, nil, variables)
}
