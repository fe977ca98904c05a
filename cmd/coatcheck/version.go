package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/coatcheck/coatcheck/cmd/internal/version"
)

func versionCommand() *cobra.Command {
	output := "text"
	forms := []string{"text", "json"}
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print version, revision and date of this build",
		Long: `Print version, revision and date of this build. The date is the commit's. A part of
which a build knows nothing is unknown, such as the revision of a copy of the source
without git.`,
		Example: "  coatcheck version\n  coatcheck version --output json",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case !slices.Contains(forms, output):
				return usageError{fmt.Errorf("--output: %q is not one of %s", output, strings.Join(forms, ", "))}
			case output == "json":
				return encode(cmd.OutOrStdout(), version.Read())
			}
			fmt.Fprintln(cmd.OutOrStdout(), "coatcheck", version.Read())
			return nil
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", output, "`form` to print in: "+strings.Join(forms, " or "))
	complete(cmd, "output", words(forms))
	return cmd
}
