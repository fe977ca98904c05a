package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/coatcheck/coatcheck/cmd/internal/config"
)

func configCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "config",
		Short:   "Print the effective configuration, secrets redacted",
		Example: "  coatcheck config --config coatcheck.yaml\n  coatcheck config check coatcheck.yaml",
		Args:    args(cobra.NoArgs),
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
	config.Flags(cmd.Flags())
	cmd.AddCommand(&cobra.Command{
		Use:   "check FILE",
		Short: "Check a configuration file alone, without variables and flags",
		Args:  args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, err := config.Check(args[0]); err != nil {
				return fmt.Errorf("%s:\n%w", args[0], err)
			}
			fmt.Fprintln(cmd.OutOrStdout(), args[0]+": good")
			return nil
		},
	})
	return cmd
}
