package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/coatcheck/coatcheck/cmd/internal/config"
)

// output is what a command prints that must end well.
func output(t *testing.T, args ...string) string {
	t.Helper()
	var out, errs bytes.Buffer
	if status := run(t.Context(), args, strings.NewReader(""), &out, &errs); status != 0 || errs.Len() > 0 && args[0] != cobra.ShellCompRequestCmd {
		t.Fatalf("coatcheck %q: status %d: %s", args, status, errs.String())
	}
	return out.String()
}

// TestHelp: every command says what it does, and shows how it is called.
func TestHelp(t *testing.T) {
	n := 0
	walk(rootCommand(), func(cmd *cobra.Command) {
		n++
		path := cmd.CommandPath()
		if cmd.Short == "" || strings.HasSuffix(cmd.Short, ".") {
			t.Errorf("%s: its description is %q", path, cmd.Short)
		}
		for _, line := range strings.Split(cmd.Example, "\n") {
			if !strings.HasPrefix(line, "  "+path) && !strings.HasPrefix(line, "  source <("+path) && !strings.Contains(line, " | "+path) && cmd.Parent() != nil {
				t.Errorf("%s: its example is %q", path, line)
			}
		}
		if cmd.Example == "" || cmd.Args == nil && cmd.Name() != "help" {
			t.Errorf("%s: it has no example, or takes any arguments", path)
		}
		words := strings.Fields(path)[1:]
		help := output(t, append(words, "--help")...)
		for _, part := range []string{cmd.Short, cmd.Example, "Usage:\n  " + path} {
			if !strings.Contains(help, part) && (cmd.Long == "" || part != cmd.Short) {
				t.Errorf("%s --help does not say %q", path, part)
			}
		}
		if got := output(t, append([]string{"help"}, words...)...); got != help {
			t.Errorf("help %s is\n%s and not\n%s", path, got, help)
		}
	})
	if n < 15 {
		t.Errorf("there are %d commands", n)
	}
}

// TestHelpIsShort: the flags that few need work, and are left to the reference.
func TestHelpIsShort(t *testing.T) {
	help := output(t, "serve", "--help")
	for _, k := range config.Keys() {
		if k.Flag != "" && strings.Contains(help, "--"+k.Flag+" ") != k.Common {
			t.Errorf("--%s: in the help: %v, is common: %v", k.Flag, !k.Common, k.Common)
		}
	}
	if !strings.Contains(help, "--config file") || !strings.Contains(help, "`coatcheck config keys` lists them all") {
		t.Error(help)
	}
	keys := output(t, "config", "keys")
	for _, k := range config.Keys() {
		for _, part := range []string{k.Name, k.Variable, "--" + k.Flag, k.Default, k.Meaning} {
			if !strings.Contains(keys, part) {
				t.Errorf("%s: %q is not among the keys", k.Name, part)
			}
		}
	}
	cmd, _, err := rootCommand().Find([]string{"session", "list"})
	if err != nil {
		t.Fatal(err)
	}
	own, shown, _ := flagsOf(cmd)
	if own.Lookup("output") == nil || shown.Lookup("redis-addresses") == nil || shown.Lookup("listen") != nil {
		t.Errorf("session list: its own flags are\n%s, shown is\n%s", own.FlagUsages(), shown.FlagUsages())
	}
	own.VisitAll(func(f *pflag.Flag) {
		if f.Usage == "" {
			t.Errorf("--%s is not documented", f.Name)
		}
	})
}
