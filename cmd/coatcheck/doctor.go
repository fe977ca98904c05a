package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/coatcheck/coatcheck/cmd/internal/config"
	"github.com/coatcheck/coatcheck/cmd/internal/doctor"
	"github.com/coatcheck/coatcheck/cmd/internal/version"
)

// A physician is the flags of doctor.
type physician struct {
	login    string // a file
	version  string // of Envoy
	service  string
	severity string
	output   string
}

// reports are the forms in which doctor prints.
var reports = []string{"text", "json", "sarif"}

func doctorCommand() *cobra.Command {
	p := new(physician)
	cmd := &cobra.Command{
		Use:   "doctor SOURCE...",
		Short: "Find what is unsafe in the configuration of Envoy, Istio, Envoy Gateway and Kubernetes",
		Long: `Find what is unsafe in how Envoy, Istio, Envoy Gateway and Kubernetes are configured
to ask Coatcheck: each finding with its place, why it matters, and its cure. Nothing is
changed. docs/doctor.md lists every finding.

A source is Envoy's configuration, Envoy's admin interface, as in
http://127.0.0.1:9901, a config dump, manifests of Kubernetes, a compose file, a folder
with such files, or - for standard input. Name all that belong to one deployment: a
policy of Istio is compared with MeshConfig, and a dump, in which Envoy hides the
values of context_extensions, goes with Envoy's file. Of a kustomization read what it
builds: kubectl kustomize DIR | coatcheck doctor -

With the configuration of serve (--config) timeouts, prefix and fields of headers,
limits, the address and the policies of the policy file are compared, too; without it
those of the manifests, or the defaults. --login-config names the configuration of a
login in another process.

Its exit status is 0 without a finding of at least --severity, 1 with one, and 2 where
a source cannot be read.`,
		Example: `  coatcheck doctor --config coatcheck.yaml envoy.yaml
  coatcheck doctor --config coatcheck.yaml envoy.yaml http://127.0.0.1:9901
  coatcheck doctor --output json - <manifests.yaml
  coatcheck doctor --severity error --output sarif deploy/ >doctor.sarif`,
		Args: args(func(_ *cobra.Command, sources []string) error {
			if len(sources) == 0 {
				return errors.New("doctor takes what it should read: files, folders, URLs or -")
			}
			return nil
		}),
		ValidArgsFunction: files,
		RunE:              p.run,

		DisableFlagsInUseLine: true,
	}
	flags := cmd.Flags()
	flags.StringVar(&p.login, "login-config", "", "configuration `file` of a login in another process, to compare")
	flags.StringVar(&p.version, "envoy-version", "", "`version` of Envoy, where neither a config dump nor an image says it")
	flags.StringVar(&p.service, "service", "", "`name` of the cluster, the provider or the backend by which Coatcheck is asked, where it does not hold the word coatcheck")
	flags.StringVar(&p.severity, "severity", string(doctor.Warning), "least severity that makes the exit `status` 1: "+strings.Join(doctor.Severities(), ", "))
	flags.StringVarP(&p.output, "output", "o", reports[0], "`form` to print in: "+strings.Join(reports, ", "))
	complete(cmd, "severity", words(doctor.Severities()))
	complete(cmd, "output", words(reports))
	complete(cmd, "login-config", files)
	configFlags(cmd, flags)
	return cmd
}

func (p *physician) run(cmd *cobra.Command, sources []string) error {
	if !slices.Contains(reports, p.output) {
		return usageError{fmt.Errorf("--output: %q is not one of %s", p.output, strings.Join(reports, ", "))}
	}
	if !slices.Contains(doctor.Severities(), p.severity) {
		return usageError{fmt.Errorf("--severity: %q is not one of %s", p.severity, strings.Join(doctor.Severities(), ", "))}
	}
	report, err := p.examine(cmd, sources)
	if err != nil {
		return usageError{err} // status 2: nothing can be said
	}
	if err := p.print(cmd.OutOrStdout(), report); err != nil {
		return err
	}
	if len(report.Unbuilt) > 0 {
		fmt.Fprintf(cmd.ErrOrStderr(), "%s is a kustomization, whose files were looked at one by one; for the whole: kubectl kustomize DIR | coatcheck doctor -\n", visible(report.Unbuilt[0]))
	}
	if least := doctor.Severity(p.severity); report.Worst(least) {
		return fmt.Errorf("there are findings of severity %s", orWorse(least))
	}
	return nil
}

func orWorse(s doctor.Severity) string {
	if s == doctor.Error {
		return string(s)
	}
	return string(s) + " or worse"
}

func (p *physician) examine(cmd *cobra.Command, sources []string) (doctor.Report, error) {
	deployment := doctor.Deployment{EnvoyVersion: p.version, Service: p.service}
	c, err := config.LoadWithoutRedis(cmd.Flags())
	if err != nil {
		return doctor.Report{}, err
	}
	if configured(cmd) {
		deployment.Checks = c
	}
	if p.login != "" {
		if deployment.Login, err = config.Check(p.login); err != nil {
			return doctor.Report{}, fmt.Errorf("--login-config: %w", err)
		}
	}
	d := doctor.New(deployment)
	for _, source := range sources {
		if source == "-" && isTerminal(cmd.InOrStdin()) {
			fmt.Fprintln(cmd.ErrOrStderr(), "reading standard input; Ctrl-D ends it")
		}
		if err := d.Read(cmd.Context(), source, cmd.InOrStdin()); err != nil {
			return doctor.Report{}, err
		}
	}
	return d.Examine(cmd.Context())
}

// configured reports whether the operator has given a configuration of checks, by a file,
// a variable or a flag.
func configured(cmd *cobra.Command) bool {
	own := cmd.Flags().Changed(config.FileFlag) || os.Getenv(config.FileVariable) != ""
	for _, k := range config.Keys() {
		own = own || !k.Secret && cmd.Flags().Changed(k.Flag) || os.Getenv(k.Variable) != ""
	}
	return own
}

func (p *physician) print(w io.Writer, report doctor.Report) error {
	var form any = report
	switch p.output {
	case "text":
		printReport(w, report)
		return nil
	case "sarif":
		form = report.SARIF(version.Read().String())
	}
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(form)
}

// printReport prints for people. What comes of files is made safe for the terminal.
func printReport(w io.Writer, report doctor.Report) {
	for _, f := range report.Findings {
		place := f.File
		if f.Line > 0 {
			place = fmt.Sprintf("%s:%d", f.File, f.Line)
		}
		fmt.Fprintf(w, "%s: %s %s: %s\n", visible(place), f.Severity, f.ID, f.What)
		for _, part := range []struct{ name, text string }{{"at", f.Path}, {"here", f.Here}, {"why", f.Why}, {"cure", f.Cure}, {"source", f.Source}} {
			fmt.Fprintf(w, "  %-6s  %s\n", part.name, visible(part.text))
		}
	}
	if report.Left > 0 {
		fmt.Fprintf(w, "and %d more, which are not shown\n", report.Left)
	}
	fmt.Fprintln(w, summary(report))
}

// summary counts the findings.
func summary(report doctor.Report) string {
	counts := make(map[doctor.Severity]int)
	for _, f := range report.Findings {
		counts[f.Severity]++
	}
	return fmt.Sprintf("sources read: %d; errors: %d, warnings: %d, notes: %d", report.Sources, counts[doctor.Error], counts[doctor.Warning], counts[doctor.Note])
}
