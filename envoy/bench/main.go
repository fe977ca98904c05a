// Command bench measures Coatcheck behind a real Envoy.
//
//	go run ./envoy/bench           what a check costs
//	go run ./envoy/bench logins    what logins cost checks, and what the rate limit lets through
//
// The first measures Coatcheck and a bare gRPC server that always allows. Each runs
// behind an Envoy of its own with envoy.yaml. The measurements alternate in one run,
// so that a change of the machine's speed affects both: the ratios are comparable
// between runs, the figures are not. Envoy answers allowed requests itself, so that no
// upstream is measured. CPU time is the process's own clock over a fixed count of
// requests.
package main

import (
	"fmt"
	"os"
	"strings"
)

func main() {
	command, args := "checks", os.Args[1:]
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		command, args = args[0], args[1:]
	}
	commands := map[string]func([]string) error{
		"checks": measureChecks, "logins": measureLogins,
		"serve": serveBare, // as the rig starts it in place of coatcheck
	}
	measure, known := commands[command]
	if !known {
		fmt.Fprintln(os.Stderr, "usage: bench [checks|logins] [flags]")
		os.Exit(2)
	}
	if err := measure(args); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}
