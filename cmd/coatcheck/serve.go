package main

import (
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/coatcheck/coatcheck/cmd/internal/config"
	"github.com/coatcheck/coatcheck/cmd/internal/serve"
)

func serveCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Answer Envoy's checks",
		Long: `Answer Envoy's checks (envoy.service.auth.v3.Authorization) over gRPC, beside
the gRPC health service. It also serves the login pages if users are configured. It
starts without Redis, answers 503 until Redis answers, and drains on SIGTERM.`,
		Example: "  coatcheck serve --redis-addresses 127.0.0.1:6379\n  coatcheck serve --config coatcheck.yaml",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			// Also before serve listens for it: operators send it to all that they have.
			signal.Ignore(syscall.SIGHUP)
			c, err := config.Load(cmd.Flags())
			if err != nil {
				return err
			}
			// The reader of the log may go away; that is no reason to end.
			signal.Ignore(syscall.SIGPIPE)
			return serve.Run(cmd.Context(), c, os.Stderr)
		},
	}
	configFlags(cmd, cmd.Flags())
	return cmd
}
