package main

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/coatcheck/coatcheck/cmd/internal/config"
	"github.com/coatcheck/coatcheck/internal/docstest"
)

// firstKeys are the keys that a newcomer sets first.
var firstKeys = []string{
	"listen", "login_url", "policy_file", "session.idle_timeout", "session.absolute_timeout",
	"redis.addresses", "redis.password_file", "login.users_file",
}

// TestDocsReadme: the README has the keys to begin with.
func TestDocsReadme(t *testing.T) {
	var table strings.Builder
	table.WriteString("| key | default | |\n|---|---|---|\n")
	for _, k := range config.Keys() {
		if slices.Contains(firstKeys, k.Name) {
			fmt.Fprintf(&table, "| `%s` | %s | %s |\n", k.Name, docstest.Code(k.Default), k.Meaning)
		}
	}
	docstest.PartIsCurrent(t, "README.md", "configuration", table.String())
}

// TestDocsCommands: docs/commands.md is what --help says, of all commands.
func TestDocsCommands(t *testing.T) {
	var page bytes.Buffer
	page.WriteString(`# Commands

<!-- Made by make docs from the commands themselves; do not edit. -->

The exit status of a command is 0, 2 after a wrong command line, or 1 after any other error. The error is a sentence on
standard error that begins with ` + "`coatcheck: `" + `; a configuration with several mistakes has a line for each. [Start-up mistakes](mistakes.md) lists them.
`)
	walk(rootCommand(), func(cmd *cobra.Command) { describe(&page, cmd) })
	docstest.IsCurrent(t, "docs/commands.md", page.String())
}

// walk visits the command and those below it.
func walk(cmd *cobra.Command, visit func(*cobra.Command)) {
	if !cmd.HasParent() {
		cmd.InitDefaultHelpCmd()
	}
	visit(cmd)
	for _, c := range cmd.Commands() {
		walk(c, visit)
	}
}

func describe(page *bytes.Buffer, cmd *cobra.Command) {
	text := cmd.Long
	if text == "" {
		text = cmd.Short + "."
	}
	cmd.InitDefaultHelpFlag()
	cmd.InitDefaultVersionFlag()
	own, shown, _ := flagsOf(cmd)
	own.Lookup("help").Hidden = true
	fmt.Fprintf(page, "\n## %s\n\n%s\n\n```\n%s\n```\n", cmd.CommandPath(), text, cmd.UseLine())
	if cmd.HasAvailableSubCommands() {
		page.WriteString("\nCommands:")
		for i, c := range cmd.Commands() {
			if i > 0 {
				page.WriteString(",")
			}
			fmt.Fprintf(page, " [%s](#%s)", c.Name(), strings.ReplaceAll(c.CommandPath(), " ", "-"))
		}
		page.WriteString("\n")
	}
	fmt.Fprintf(page, "\nFor example:\n\n```sh\n%s\n```\n", strings.ReplaceAll(strings.TrimPrefix(cmd.Example, "  "), "\n  ", "\n"))
	if own.HasAvailableFlags() {
		fmt.Fprintf(page, "\nFlags:\n\n```\n%s```\n", own.FlagUsages())
	}
	if shown.HasAvailableFlags() {
		page.WriteString("\nIt also takes `--config FILE` and a flag for every key of the [configuration](configuration.md).\n")
	}
}
