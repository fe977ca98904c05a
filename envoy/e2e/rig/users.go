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
func RedisUsers() ([]string, error) { return redisUsers(nil) }

// RedisUsersNear are RedisUsers, with the rights of docs/near-cache.md for CheckUser.
func RedisUsersNear() ([]string, error) {
	path, text, err := page("docs/near-cache.md")
	if err != nil {
		return nil, err
	}
	_, rest, _ := strings.Cut(text, "\n## Rights\n")
	_, rest, found := strings.Cut(rest, "\n```\n")
	rules, _, ended := strings.Cut(rest, "\n```\n")
	if !found || !ended {
		return nil, fmt.Errorf("%s has no rights", path)
	}
	return redisUsers(strings.Fields(rules))
}

// redisUsers gives CheckUser more rules.
func redisUsers(more []string) ([]string, error) {
	path, text, err := page("docs/sessions.md")
	if err != nil {
		return nil, err
	}
	var args []string
	for _, user := range []string{CheckUser, LoginUser, ManageUser} {
		_, rest, found := strings.Cut(text, "\nuser "+user+" on >PASSWORD ")
		if !found {
			return nil, fmt.Errorf("%s has no rights of %s", path, user)
		}
		rules, _, _ := strings.Cut(rest, "\n")
		args = append(args, "--user", user, "on", ">"+RedisPassword(user))
		args = append(args, strings.Fields(rules)...)
		if user == CheckUser {
			args = append(args, more...)
		}
	}
	return args, nil
}

// page reads a page of the docs.
func page(name string) (path, text string, err error) {
	if path, err = find(name); err != nil {
		return "", "", err
	}
	b, err := os.ReadFile(path)
	return path, string(b), err
}
