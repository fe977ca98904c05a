package rig

import (
	"fmt"
	"os"
	"strings"
)

// The Redis users of docs/sessions.md. Every Coatcheck of a stack is one of them, so
// that it has no more rights in a test than in production.
const (
	CheckUser  = "coatcheck-check"
	LoginUser  = "coatcheck-login"
	ManageUser = "coatcheck-manage"
)

// RedisPassword is the password of a user of docs/sessions.md.
func RedisPassword(user string) string { return "rig-" + user }

// Credentials are the variables that make a program a user of Redis.
func Credentials(user string) []string {
	return []string{"COATCHECK_REDIS_USERNAME=" + user, "COATCHECK_REDIS_PASSWORD=" + RedisPassword(user)}
}

// RedisUsers are the arguments that give redis-server the users of
// docs/sessions.md with their rights, which outlive a restart.
func RedisUsers() ([]string, error) {
	path, err := find("docs/sessions.md")
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var args []string
	for _, user := range []string{CheckUser, LoginUser, ManageUser} {
		_, rest, found := strings.Cut(string(text), "\nuser "+user+" on >PASSWORD ")
		if !found {
			return nil, fmt.Errorf("%s has no rights of %s", path, user)
		}
		rules, _, _ := strings.Cut(rest, "\n")
		args = append(args, "--user", user, "on", ">"+RedisPassword(user))
		args = append(args, strings.Fields(rules)...)
	}
	return args, nil
}
