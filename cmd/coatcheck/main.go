// Command coatcheck is an external authorization server for Envoy that checks sessions
// in Redis. It also manages these sessions.
//
//	coatcheck serve --redis-addresses 127.0.0.1:6379
//
// answers Envoy's checks; coatcheck session creates, shows and revokes sessions;
// coatcheck config prints and checks the configuration; coatcheck explain says why a
// request is decided as it is, coatcheck why tells from the log what happened, and
// coatcheck doctor finds what is unsafe in the configuration of Envoy and meshes;
// coatcheck health asks whether a server is ready. The exit status is 2 after a wrong
// command line, and 1 after any other error.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/coatcheck/coatcheck/cmd/internal/version"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// The first signal drains; a second one, no longer caught, ends at once.
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run is main with its arguments and its streams.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	root := rootCommand()
	root.SetArgs(args)
	root.SetIn(stdin)
	printed := &checkedWriter{Writer: stdout}
	root.SetOut(printed)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		err = printed.err
	}
	if err == nil {
		return 0
	}
	for line := range strings.SplitSeq("coatcheck: "+hideIDs(err.Error()), "\n") {
		fmt.Fprintln(stderr, visible(line))
	}
	var usage usageError
	if errors.As(err, &usage) {
		return 2
	}
	return 1
}

// A checkedWriter keeps the first error of its writer, which no command has to look at: what was
// printed in part, as on a full disk, must not end with status 0.
type checkedWriter struct {
	io.Writer
	err error
}

// Write implements [io.Writer].
func (c *checkedWriter) Write(b []byte) (int, error) {
	n, err := c.Writer.Write(b)
	if c.err == nil {
		c.err = err
	}
	return n, err
}

func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:     "coatcheck COMMAND",
		Short:   "External authorization for Envoy by sessions in Redis",
		Example: "  coatcheck serve --redis-addresses 127.0.0.1:6379\n  coatcheck session list 42",
		Version: version.Read().String(),

		DisableFlagsInUseLine: true,
		SilenceErrors:         true,
		SilenceUsage:          true,
		Args:                  subcommand,
		RunE:                  showHelp,
	}
	root.SetVersionTemplate("coatcheck {{.Version}}\n")
	root.SetFlagErrorFunc(flagError)
	root.SetUsageFunc(usage)
	root.SetHelpCommand(helpCommand())
	root.CompletionOptions.SetDefaultShellCompDirective(cobra.ShellCompDirectiveNoFileComp)
	root.AddCommand(serveCommand(), healthCommand(), sessionCommand(), configCommand(), explainCommand(), whyCommand(), doctorCommand(), hashPasswordCommand(), completionCommand(), versionCommand())
	return root
}
