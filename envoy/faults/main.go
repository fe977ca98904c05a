// Command faults has everything go wrong with Redis that is in the fault table, under load,
// and holds every answer of Coatcheck against the history of its session:
//
//	go run ./envoy/faults                                  the table, printed
//	go run ./envoy/faults table -docs docs                 the table, into docs/faults.md
//	go run ./envoy/faults table -only failover -kind sentinel -near off -seed 7
//	go run ./envoy/faults table -quick                     a part of the table, in 4 minutes at most
//	go run ./envoy/faults soak -for 1h -docs docs          random faults at a high rate
//	go run ./envoy/faults million -docs docs               what is about a Redis with a million sessions
//
// Redis, its Sentinels and two replicas of Coatcheck are real processes on this machine
// (package stage); package load sends the checks and changes the sessions; package history
// knows what each answer may be. A run fails on a single wrong verdict, on a leak, and where
// a time is ten times beyond its bound. docs/faults.md says the rest.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

func main() {
	command, args := "table", os.Args[1:]
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		command, args = args[0], args[1:]
	}
	commands := map[string]func(context.Context, []string) error{"table": runTable, "soak": runSoak, "million": runMillion, "list": list}
	run, known := commands[command]
	if !known {
		fmt.Fprintln(os.Stderr, "usage: faults [table|soak|million|list] [flags]")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, args)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "faults:", err)
		os.Exit(1)
	}
}

func progress(format string, args ...any) { fmt.Fprintf(os.Stderr, "faults: "+format+"\n", args...) }
