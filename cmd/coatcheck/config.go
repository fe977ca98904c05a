package main

import (
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/coatcheck/coatcheck/cmd/internal/config"
)

func configCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "config",
		Short:   "Print the effective configuration, secrets redacted",
		Example: "  coatcheck config --config coatcheck.yaml",
		Args:    subcommand,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := config.Load(cmd.Flags())
			if err != nil {
				return err
			}
			text, err := c.YAML()
			fmt.Fprint(cmd.OutOrStdout(), text)
			return err
		},
	}
	configFlags(cmd, cmd.Flags())
	cmd.AddCommand(configCheckCommand(), configKeysCommand())
	return cmd
}

func configCheckCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "check FILE",
		Short:             "Check a configuration file alone, without variables and flags",
		Example:           "  coatcheck config check coatcheck.yaml",
		Args:              oneArg("a file"),
		ValidArgsFunction: files,
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, err := config.Check(args[0]); err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), args[0]+": good")
			return nil
		},
	}
}

func configKeysCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "keys",
		Short: "List all that can be configured, with variable, flag and default",
		Example: `  coatcheck config keys
  coatcheck config keys | grep -i redis`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			table := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintln(table, "KEY\tVARIABLE\tFLAG\tDEFAULT\tMEANING")
			for _, k := range config.Keys() {
				flag, fallback := "--"+k.Flag, k.Default
				if k.Secret {
					flag = "-"
				}
				if fallback == "" {
					fallback = "-"
				}
				fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\n", k.Name, k.Variable, flag, fallback, k.Meaning)
			}
			return table.Flush()
		},
	}
}
