package main

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/coatcheck/coatcheck/cmd/internal/config"
	"github.com/coatcheck/coatcheck/internal/suggest"
	"github.com/coatcheck/coatcheck/sessions"
)

// A usageError is a mistake on the command line.
type usageError struct{ error }

// args makes a usageError of an error about the arguments.
func args(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return usageError{fmt.Errorf("%w; see %s --help", err, cmd.CommandPath())}
		}
		return nil
	}
}

// noArgs is for a command that takes only flags. Its error does not repeat the
// arguments, because one of them may be a session ID.
var noArgs = args(func(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("%s takes no arguments, only flags", cmd.Name())
	}
	return nil
})

// subcommand is for a command with commands below it: an argument is an unknown one.
func subcommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	end := "; see " + cmd.CommandPath() + " --help"
	if near := nearCommand(cmd, args[0]); near != "" {
		end = "; did you mean " + near + "?"
	}
	return usageError{fmt.Errorf("unknown command %q for %q%s", args[0], cmd.CommandPath(), end)}
}

// nearCommand is the command that was probably meant, or the ones that begin so.
func nearCommand(cmd *cobra.Command, name string) string {
	var known []string
	for _, c := range cmd.Commands() {
		known = append(known, c.Name())
	}
	if near := suggest.Nearest(name, known); near != "" {
		return near
	}
	return strings.Join(cmd.SuggestionsFor(name), " or ")
}

// showHelp is what a command does that only holds others.
func showHelp(cmd *cobra.Command, _ []string) error { return cmd.Help() }

// flagError adds to an unknown flag the one that was probably meant.
func flagError(cmd *cobra.Command, err error) error {
	end := "; see " + cmd.CommandPath() + " --help"
	var unknown *pflag.NotExistError
	if errors.As(err, &unknown) && unknown.GetSpecifiedShortnames() == "" {
		var known []string
		cmd.Flags().VisitAll(func(f *pflag.Flag) { known = append(known, f.Name) })
		if near := suggest.Nearest(unknown.GetSpecifiedName(), known); near != "" {
			end = "; did you mean --" + near + "?"
		}
		for _, k := range config.Keys() {
			if k.Secret && strings.ReplaceAll(k.Name, ".", "-") == unknown.GetSpecifiedName() {
				end = "; every process could read a secret there, so set " + k.Variable
			}
		}
	}
	return usageError{fmt.Errorf("%w%s", err, end)}
}

// longWord is text that can hold a session ID, which has 43 of these characters.
var longWord = regexp.MustCompile(`[A-Za-z0-9_-]{43,}`)

// hideIDs shortens the session IDs of an error. One stands there where an operator
// gives it as a command, an argument or, since one ID in 64 begins with a dash, as a
// flag: errors about these repeat what was given.
func hideIDs(text string) string {
	return longWord.ReplaceAllStringFunc(text, func(word string) string {
		for _, part := range []string{word[:43], word[len(word)-43:]} { // the last: -xID
			if _, err := sessions.ParseID(part); err == nil {
				return shortened(word)
			}
		}
		return word
	})
}
