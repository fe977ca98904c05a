package main

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/coatcheck/coatcheck/cmd/internal/config"
)

// isConfiguration marks the flags that are keys of the configuration. Its value says
// whether help shows the flag, because there are too many to show them all.
const isConfiguration = "configuration"

// configFlags adds the configuration to a command's flags, with completion from the
// definitions of the keys. Help shows the common keys of the named sections, or of all
// sections.
func configFlags(cmd *cobra.Command, flags *pflag.FlagSet, sections ...string) {
	config.Flags(flags)
	mark(flags.Lookup(config.FileFlag), true)
	complete(cmd, config.FileFlag, files)
	for _, k := range config.Keys() {
		if k.Secret {
			continue
		}
		section, _, _ := strings.Cut(k.Name, ".")
		mark(flags.Lookup(k.Flag), k.Common && (sections == nil || slices.Contains(sections, section)))
		switch {
		case k.File:
			complete(cmd, k.Flag, files)
		case len(k.Choices) > 0:
			complete(cmd, k.Flag, words(k.Choices))
		}
	}
}

func mark(f *pflag.Flag, shown bool) {
	value := "hidden"
	if shown {
		value = "shown"
	}
	f.Annotations = map[string][]string{isConfiguration: {value}}
}

// complete sets how a flag's value is completed. Without it the shell offers nothing.
func complete(cmd *cobra.Command, flag string, with cobra.CompletionFunc) {
	if err := cmd.RegisterFlagCompletionFunc(flag, with); err != nil {
		panic(err) // there is no such flag, or it has been set
	}
}

func files(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return nil, cobra.ShellCompDirectiveDefault
}

func words(choices []string) cobra.CompletionFunc {
	return cobra.FixedCompletions(choices, cobra.ShellCompDirectiveNoFileComp)
}
