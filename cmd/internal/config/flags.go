package config

import "github.com/spf13/pflag"

// Flags adds --config and a flag for every key to a command's flags.
func Flags(flags *pflag.FlagSet) {
	flags.Var(&flagValue{kind: isFile}, FileFlag, "YAML file to read the configuration from ("+FileVariable+")")
	for _, k := range new(Config).keys() {
		if !k.secret {
			flags.Var(&flagValue{kind: k.value.kind}, k.flag(), k.meaning())
			flags.Lookup(k.flag()).DefValue = k.fallback() // for help alone
		}
	}
}

// A flagValue keeps what was typed; the key's own value parses it. A list may be typed in
// several flags, of which an empty one adds nothing; of another value the last one counts.
type flagValue struct {
	text string
	kind kind
}

func (f *flagValue) String() string { return f.text }
func (f *flagValue) Type() string   { return string(f.kind) }

func (f *flagValue) Set(s string) error {
	if f.kind == isList && f.text != "" {
		s = f.text + "," + s
	}
	f.text = s
	return nil
}
