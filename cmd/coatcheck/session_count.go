package main

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/spf13/cobra"

	"github.com/coatcheck/coatcheck/sessions"
)

func (t *sessionTool) count() *cobra.Command {
	var f filter
	var roles bool
	cmd := &cobra.Command{
		Use:   "count",
		Short: "Count the live sessions",
		Long: `Count the live sessions, or those that the flags choose. It goes through all of Redis, as
list --all does: the number of Redis's keys tells less, because lists of sessions and
counters are keys, too.`,
		Example: "  coatcheck session count\n  coatcheck session count --roles\n  coatcheck session count --role admin --idle 10m",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			n := tally{roles: make(map[string]int)}
			p := newProgress(cmd)
			err := t.scan(cmd, &f, p, n.add)
			p.clear()
			if err != nil {
				return err
			}
			return t.printCount(cmd, n, roles)
		},
	}
	f.flags(cmd)
	cmd.Flags().BoolVar(&roles, "roles", false, "count the sessions with each role, too")
	return cmd
}

// maxRoles bounds the names that a tally keeps.
const maxRoles = 1000

// A tally counts sessions, and those with each role.
type tally struct {
	sessions int
	roles    map[string]int
	more     bool // there are roles that it has not counted
}

func (n *tally) add(s *sessions.Session) error {
	n.sessions++
	// Compact changes its argument, and sessions share their roles.
	for _, role := range slices.Compact(slices.Sorted(slices.Values(s.Roles))) {
		if _, known := n.roles[role]; !known && len(n.roles) == maxRoles {
			n.more = true
			continue
		}
		n.roles[role]++
	}
	return nil
}

func (t *sessionTool) printCount(cmd *cobra.Command, n tally, roles bool) error {
	if roles && n.more {
		_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "there are more than %d roles; the first that were found are counted\n", maxRoles)
	}
	if t.output == "json" {
		counts := map[string]any{"sessions": n.sessions}
		if roles {
			counts["roles"] = n.roles
		}
		return encode(cmd.OutOrStdout(), counts)
	}
	rows := []string{"sessions", fmt.Sprint(n.sessions)}
	if roles {
		most := slices.SortedFunc(maps.Keys(n.roles), func(a, b string) int { return cmp.Or(n.roles[b]-n.roles[a], cmp.Compare(a, b)) })
		for _, role := range most {
			rows = append(rows, "role "+visible(role), fmt.Sprint(n.roles[role]))
		}
	}
	return t.print(cmd.OutOrStdout(), sessionView{}, rows...)
}
