// Command bench measures Coatcheck behind a real Envoy.
//
//	go run ./envoy/bench           what a check costs, beside other servers
//	go run ./envoy/bench jwt       what verifying a JWT costs, beside a session
//	go run ./envoy/bench growth    whether the cost grows with streams, sessions, cookies, headers and fields, and memory
//	go run ./envoy/bench settings  what each setting of envoy.yaml costs Envoy
//	go run ./envoy/bench compare -old PATH -new PATH    two coatcheck binaries
//	go run ./envoy/bench api       what calls of the session API cost, beside a bare handler, without Envoy
//	go run ./envoy/bench logins    what logins cost checks, and what the rate limit lets through
//
// All servers that are compared run at once, behind one Envoy with a listener for each,
// and the measurements alternate in a random order. So a change of the machine's speed
// affects all: the ratios are comparable between runs, the figures are not. Envoy answers
// allowed requests itself, so that no upstream is measured. CPU time is the process's own
// clock, divided by the answers of a measurement. docs/performance.md says the rest.
package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/coatcheck/coatcheck/envoy/bench/load"
)

func main() {
	command, args := "checks", os.Args[1:]
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		command, args = args[0], args[1:]
	}
	commands := map[string]func([]string) error{
		"checks": measureChecks, "jwt": measureJWT, "growth": measureGrowth, "settings": measureSettings, "compare": compare, "logins": measureLogins, "api": measureAPI,
		"load": func([]string) error { return load.Serve(os.Stdin, os.Stdout) }, "bare": serveBare, "naive": serveNaive, "verifier": serveVerifier,
	}
	measure, known := commands[command]
	if !known {
		fmt.Fprintln(os.Stderr, "usage: bench [checks|jwt|growth|settings|api|compare|logins] [flags]")
		os.Exit(2)
	}
	if err := measure(args); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}
