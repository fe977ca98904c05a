package stage

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/coatcheck/coatcheck/sessions/redisstore/redistest"
)

// The users of Redis here. Replication, Sentinels, and what arranges and judges are admin,
// so that what happens to Coatcheck's user happens to Coatcheck alone.
const (
	admin   = "stage"
	checks  = "coatcheck-check"
	ordinal = "default"
)

// rights are those of coatcheck-check in docs/sessions.md, with the near cache, and on a
// Cluster.
const (
	rights        = "~session:* %R~coatcheck:state* +hmget +pexpireat +pttl +time +info"
	nearRights    = "+client|tracking +subscribe +role &coatcheck:near"
	clusterRights = "+cluster|slots +asking +cluster|info +cluster|nodes"
)

// secrets are the passwords of Coatcheck's user.
type secrets struct {
	file, sentinels string // where Coatcheck reads them
	password        string // as Redis has it at the start
}

func (s *Stage) user() string {
	if s.o.ACL {
		return checks
	}
	return ordinal
}

// rules are those of Coatcheck's user, without passwords.
func (s *Stage) rules() []string {
	if !s.o.ACL {
		return []string{"on", "~*", "&*", "+@all"}
	}
	all := "on " + rights + " " + nearRights
	if s.o.Kind == Cluster {
		all += " " + clusterRights
	}
	return strings.Fields(all)
}

// users is the file of Redis's users, as each server has them after a start.
func (s *Stage) users() string { return filepath.Join(s.dir, "users.conf") }

// writeSecrets writes the passwords for both sides.
func (s *Stage) writeSecrets() error {
	s.secrets = secrets{
		file: filepath.Join(s.dir, "password"), sentinels: filepath.Join(s.dir, "sentinel-password"),
		password: rand.Text(),
	}
	if err := s.accept(s.secrets.password); err != nil {
		return err
	}
	return errors.Join(s.present(s.secrets.password), os.WriteFile(s.secrets.sentinels, []byte(redistest.Password+"\n"), 0o600))
}

// accept has servers accept these passwords of Coatcheck's user from their next start on.
// redistest looks whether a server answers as the default user, with a password of its own.
func (s *Stage) accept(passwords ...string) error {
	all := map[string][]string{
		admin:   {"on", ">" + redistest.Password, "~*", "&*", "+@all"},
		ordinal: {"on", ">" + redistest.Password, "~*", "&*", "+@all"},
	}
	user := append(all[s.user()], s.rules()...)
	for _, password := range passwords {
		user = append(user, ">"+password)
	}
	all[s.user()] = user
	var text strings.Builder
	for name, rules := range all {
		fmt.Fprintf(&text, "user %s %s\n", name, strings.Join(rules, " "))
	}
	return replace(s.users(), text.String())
}

// present has Coatcheck present a password from its next connection on.
func (s *Stage) present(password string) error { return replace(s.secrets.file, password+"\n") }

// alter changes Coatcheck's user on every server that lives.
func (s *Stage) alter(ctx context.Context, rules ...string) error {
	args := []any{"acl", "setuser", s.user()}
	for _, rule := range rules {
		args = append(args, rule)
	}
	for _, n := range s.nodes {
		if !n.alive {
			continue
		}
		if _, err := n.do(ctx, args...); err != nil {
			return err
		}
	}
	return nil
}

// restoreUser undoes every alter.
func (s *Stage) restoreUser() error {
	rules := append([]string{"reset"}, s.rules()...)
	if s.user() == ordinal {
		rules = append(rules, ">"+redistest.Password)
	}
	return s.alter(context.Background(), append(rules, ">"+s.secrets.password)...)
}

// replace writes a file in one step, so that no reader sees half of it.
func replace(path, text string) error {
	if err := os.WriteFile(path+".next", []byte(text), 0o600); err != nil {
		return err
	}
	return os.Rename(path+".next", path)
}
