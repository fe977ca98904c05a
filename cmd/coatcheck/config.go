package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/coatcheck/coatcheck/cmd/internal/config"
	"github.com/coatcheck/coatcheck/cmd/internal/policyfile"
	"github.com/coatcheck/coatcheck/extauthz"
)

func configCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "config",
		Short:   "Print the effective configuration, secrets redacted",
		Example: "  coatcheck config --config coatcheck.yaml",
		Args:    subcommand,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := config.LoadWithoutRedis(cmd.Flags())
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
	var policyPath string
	cmd := &cobra.Command{
		Use:   "check FILE",
		Short: "Check a configuration file alone, without variables and flags, and its policies",
		Long: `Check a configuration file alone, without variables and flags, and the policy file
that it names, whose tests are run. With --policies, check that policy file in its
place; without FILE, it is checked with the default configuration.

Warnings name what is allowed but probably not meant, such as an idle timeout beyond the
absolute one or requests that bypass a rule, with the cure. The request headers that the policies read are printed, too, to
compare with allowed_headers in Envoy.`,
		Example: "  coatcheck config check coatcheck.yaml\n  coatcheck config check --policies policies.yaml",
		Args: args(func(_ *cobra.Command, args []string) error {
			if len(args) > 1 || len(args) == 0 && policyPath == "" {
				return fmt.Errorf("check takes one argument, a file, and not %d", len(args))
			}
			return nil
		}),
		ValidArgsFunction: files,
		RunE: func(cmd *cobra.Command, args []string) error {
			return checkFiles(cmd.OutOrStdout(), args, policyPath)
		},
	}
	cmd.Flags().StringVar(&policyPath, "policies", "", "policy `file` to check")
	complete(cmd, "policies", files)
	return cmd
}

// checkFiles checks a configuration, if one is named, and the policy file at
// policyPath, or else the one that the configuration names.
func checkFiles(w io.Writer, configuration []string, policyPath string) error {
	var cfg extauthz.Config
	about := func(err error) error { return err }
	good := ""
	for _, path := range configuration {
		c, err := config.Check(path)
		if err != nil {
			return err
		}
		cfg = c.ExtAuthz()
		if policyPath == "" {
			policyPath = c.PolicyFile
			about = func(err error) error { return config.About(err, "policy_file") }
		}
		good = path + ": good\n"
		for _, warning := range c.Warnings() {
			good += fmt.Sprintf("%s: warning: %s\n", path, warning)
		}
	}
	if policyPath == "" {
		fmt.Fprint(w, good)
		return nil
	}
	f, err := policyfile.Open(policyPath, cfg)
	if err != nil {
		return about(err)
	}
	fmt.Fprint(w, good)
	for _, warning := range f.Warnings {
		fmt.Fprintln(w, policyPath+": "+warning)
	}
	fmt.Fprintf(w, "%s: headers that Envoy's allowed_headers, if it is set, must include: %s\n", policyPath, strings.Join(f.RequestHeaders(), ", "))
	fmt.Fprintf(w, "%s: good; policies: %d, rules: %d, tests that pass: %d, warnings: %d\n",
		policyPath, len(f.Policies.Policies), len(f.Policies.Rules), len(f.Tests), len(f.Warnings))
	return nil
}

func configKeysCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "keys",
		Short: "List all keys of the configuration, with variable, flag and default",
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
