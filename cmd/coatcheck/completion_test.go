package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/coatcheck/coatcheck/cmd/internal/config"
)

// completions are what the shell is offered for the last word, without
// descriptions, and whether it may add files of its own.
func completions(t *testing.T, words ...string) (offered []string, files bool) {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(output(t, append([]string{cobra.ShellCompRequestCmd}, words...)...)), "\n")
	for _, line := range lines[:len(lines)-1] {
		word, _, _ := strings.Cut(line, "\t")
		offered = append(offered, word)
	}
	return offered, lines[len(lines)-1] == ":0"
}

func TestCompletion(t *testing.T) {
	for line, want := range map[string]string{
		"":                                  "completion config doctor explain hash-password health help serve session version why",
		"se":                                "serve session",
		"config ":                           "check keys",
		"session ":                          "add count create list revoke show verify",
		"help session ":                     "add count create list revoke show verify",
		"completion ":                       "bash fish zsh",
		"serve --log-level ":                "debug error info warn",
		"serve --log-level=w":               "debug error info warn", // the script leaves what does not fit
		"serve --log-format ":               "json text",
		"serve --log-decisions ":            "all denied faults",
		"serve --log-decision-level ":       "debug info",
		"config --cookie-keep ":             "false true",
		"health --redis-tls-enabled ":       "false true",
		"session list 42 --output ":         "json table",
		"session list 42 -o ":               "json table",
		"session create --redis-cluster ":   "false true",
		"serve --grpc-max-h":                "--grpc-max-header-bytes",
		"session list --redis-tls-s":        "--redis-tls-server-name",
		"serve --config ":                   "FILES",
		"session show --config ":            "FILES",
		"config check ":                     "FILES",
		"serve --redis-tls-ca-file ":        "FILES",
		"session add --redis-password-file": "--redis-password-file",
		"serve --listen ":                   "",
		"serve ":                            "",
		"session list ":                     "",
		"session create --user-id ":         "",
		"health --within ":                  "",
	} {
		// The last word is the one that is typed.
		offered, files := completions(t, strings.Split(line, " ")...)
		if files {
			offered = append(offered, "FILES")
		}
		slices.Sort(offered)
		if got := strings.Join(offered, " "); got != want {
			t.Errorf("%q completes to %q, want %q", line, got, want)
		}
	}
}

// TestCompletionOfFlags goes through all of them: every flag is offered, files
// only where the value is one, and few choices wherever there are few.
func TestCompletionOfFlags(t *testing.T) {
	keys := make(map[string]config.Key)
	for _, k := range config.Keys() {
		keys[k.Flag] = k
	}
	for i, path := range [][]string{{"serve"}, {"health"}, {"config"}, {"session", "list"}, {"session", "create"}, {"session", "revoke"}} {
		cmd, _, err := rootCommand().Find(path)
		if err != nil {
			t.Fatal(err)
		}
		_ = cmd.InheritedFlags() // which adds them
		all, _ := completions(t, append(slices.Clone(path), "--")...)
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			if !slices.Contains(all, "--"+f.Name) {
				t.Errorf("%q: --%s is not offered", path, f.Name)
			}
			k, ok := keys[f.Name]
			if f.NoOptDefVal != "" || ok && i > 0 {
				return // takes no value, or is a setting that has been tried
			}
			offered, files := completions(t, append(slices.Clone(path), "--"+f.Name, "")...)
			if files != (k.File || f.Name == "config") {
				t.Errorf("%q: --%s completes files: %v", path, f.Name, files)
			}
			if ok && !slices.Equal(offered, k.Choices) {
				t.Errorf("%q: --%s completes %q, want %q", path, f.Name, offered, k.Choices)
			}
		})
	}
}

// TestCompletionScripts: each shell that is here can read its script.
func TestCompletionScripts(t *testing.T) {
	for shell, check := range map[string][]string{"bash": {"-n"}, "zsh": {"-n"}, "fish": {"--no-execute"}} {
		script := output(t, "completion", shell)
		if !strings.Contains(script, "coatcheck __complete") && !strings.Contains(script, "__complete ") {
			t.Errorf("%s: it completes nothing:\n%s", shell, script)
		}
		binary, err := exec.LookPath(shell)
		if err != nil && shell != "bash" {
			t.Logf("%s is not here to read its script", shell)
			continue
		}
		path := filepath.Join(t.TempDir(), "coatcheck")
		if err := os.WriteFile(path, []byte(script), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command(binary, append(check, path)...).CombinedOutput(); err != nil {
			t.Errorf("%s: %v: %s", shell, err, out)
		}
	}
}
