package main

import (
	"errors"

	"github.com/spf13/cobra"
)

// shells make the script of completion for each shell.
var shells = map[string]func(*cobra.Command) error{
	"bash": func(cmd *cobra.Command) error { return cmd.Root().GenBashCompletionV2(cmd.OutOrStdout(), true) },
	"fish": func(cmd *cobra.Command) error { return cmd.Root().GenFishCompletion(cmd.OutOrStdout(), true) },
	"zsh":  func(cmd *cobra.Command) error { return cmd.Root().GenZshCompletion(cmd.OutOrStdout()) },
}

func completionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "completion bash|zsh|fish",
		Short: "Print the script that completes commands, flags and values in a shell",
		Long: `Print the script that completes commands, flags and values in a shell. bash needs
the package bash-completion, zsh a "compinit" in ~/.zshrc. A new shell knows it.`,
		Example: `  coatcheck completion bash >~/.local/share/bash-completion/completions/coatcheck
  coatcheck completion zsh >"${fpath[1]}/_coatcheck"
  coatcheck completion fish >~/.config/fish/completions/coatcheck.fish
  source <(coatcheck completion bash)    # for this shell alone; zsh, too`,
		ValidArgsFunction: words([]string{"bash", "zsh", "fish"}),
		Args: args(func(_ *cobra.Command, args []string) error {
			if len(args) != 1 || shells[args[0]] == nil {
				return errors.New("name the shell: bash, zsh or fish")
			}
			return nil
		}),
		RunE: func(cmd *cobra.Command, args []string) error { return shells[args[0]](cmd) },
	}
}
