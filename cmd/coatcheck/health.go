package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/coatcheck/coatcheck/cmd/internal/config"
)

func healthCommand() *cobra.Command {
	var live bool
	var within time.Duration
	cmd := &cobra.Command{
		Use:   "health",
		Short: "Ask a server on this machine whether it is ready",
		Long: `Ask a server on this machine whether it is ready: configured, listening and not
draining. It reads the same configuration as serve and asks the address in
admin.listen. Its exit status is 0 if the answer is 200, and 1 otherwise, so that a
container without a shell can be probed.`,
		Example: "  coatcheck health\n  coatcheck health --live --within 500ms",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := config.LoadWithoutRedis(cmd.Flags())
			if err != nil {
				return err
			}
			path := "/readyz"
			if live {
				path = "/healthz"
			}
			address, err := adminURL(c.AdminListen, path)
			if err != nil {
				return config.About(err, "admin.listen")
			}
			answer, err := ask(cmd.Context(), address, within)
			if err == nil {
				fmt.Fprintln(cmd.OutOrStdout(), answer)
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&live, "live", false, "ask whether it runs, also while it drains")
	cmd.Flags().DurationVar(&within, "within", 2*time.Second, "how long the answer may take")
	configFlags(cmd, cmd.Flags(), "admin")
	return cmd
}

// adminURL is the URL of a path on a server of this machine that listens on the
// address.
func adminURL(listen, path string) (string, error) {
	if listen == "" {
		return "", errors.New("it is empty, so there is no address to ask")
	}
	host, service, err := net.SplitHostPort(listen)
	if err != nil {
		return "", err
	}
	port, err := net.LookupPort("tcp", service)
	if err != nil {
		return "", err
	}
	switch ip, err := netip.ParseAddr(host); {
	case host == "" || err == nil && ip.IsUnspecified() && ip.Is4():
		host = "127.0.0.1"
	case err == nil && ip.IsUnspecified():
		host = "::1"
	}
	return (&url.URL{Scheme: "http", Host: net.JoinHostPort(host, strconv.Itoa(port)), Path: path}).String(), nil
}

// ask returns the answer of the address if it is 200, and an error otherwise. It uses
// no proxy, even if the environment names one.
func ask(ctx context.Context, address string, within time.Duration) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return "", err
	}
	response, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(request)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return "", fmt.Errorf("%s does not answer within %v", address, within)
	case err != nil:
		return "", fmt.Errorf("%s: %w", address, err)
	}
	defer func() { _ = response.Body.Close() }()
	answer := address + " answers " + response.Status
	line, _ := bufio.NewReader(io.LimitReader(response.Body, 200)).ReadString('\n')
	if line = strings.TrimSpace(line); line != "" {
		answer += ": " + visible(line)
	}
	if response.StatusCode != http.StatusOK {
		return "", errors.New(answer)
	}
	return answer, nil
}
