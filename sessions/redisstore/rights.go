package redisstore

import (
	"context"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/coatcheck/coatcheck/sessions"
)

// probeKey is not the key of a session, since those are longer.
const probeKey = sessions.KeyPrefix + "probe"

// accountsProbe is beside the marks of users files, whose names are numbers.
const accountsProbe = accountsKey + ":probe"

// loginCommands are sent with probeKey, where they find and change nothing: it does
// not exist, and HSET has one word too few. Redis looks at rights before it looks at
// those.
var loginCommands = [][]any{
	{"hmget", probeKey, sessions.FieldVersion},
	{"hset", probeKey, sessions.FieldVersion, sessions.LayoutVersion, "probe"},
	{"pexpireat", probeKey, 1, "gt"},
	{"pttl", probeKey},
	{"exists", probeKey},
	{"del", probeKey},
	{"eval", "return 0", 1, probeKey},
	{"zadd", probeKey, "xx", 1, "probe"},
	{"zcard", probeKey},
	{"zrem", probeKey, "probe"},
	{"zrange", probeKey, 0, 0},
	{"zrangebyscore", probeKey, 0, 0},
	{"zscan", probeKey, 0},
	{"zscore", probeKey, "probe"},
}

// A keyPattern is a pattern of keys and a key of it that cannot exist, or that no login
// uses: no user has the empty ID.
type keyPattern struct{ pattern, key string }

var loginKeys = []keyPattern{
	{sessions.KeyPrefix + "*", probeKey},
	{indexPrefix + "*", indexPrefix},
	{markPrefix + "*", markPrefix},
	{"throttle:*", "throttle:{login}:probe"},
	{accountsKey + "*", accountsProbe},
}

// A trial is a command that is sent to learn whether a right is there.
type trial struct {
	command string // the right to be sent, as an ACL rule
	key     string // and to use its key
	cmd     redis.Cmder
}

// LoginRights tries every right that login needs, with those for a users file if
// accounts are kept, and returns the missing ones as rules of an ACL: +hset,
// ~user-sessions:*. It writes nothing. An error says that they are not known: Redis
// does not answer, or not to such questions.
func (s *Store) LoginRights(ctx context.Context, accounts bool) (missing []string, err error) {
	keys := loginKeys
	if !accounts {
		keys = slices.DeleteFunc(slices.Clone(keys), func(k keyPattern) bool { return k.key == accountsProbe })
	}
	if missing, err = s.lacking(ctx, loginCommands, keys); err != nil {
		return nil, err
	}
	return s.alone(ctx, missing)
}

// lacking tries commands on the key of a record, and each pattern of keys by one command
// that reads and one that writes.
func (s *Store) lacking(ctx context.Context, commands [][]any, keys []keyPattern) (missing []string, err error) {
	p := s.client.Pipeline()
	var trials []trial
	send := func(command, key string, args ...any) {
		cmd := redis.NewCmd(ctx, args...)
		_ = p.Process(ctx, cmd)
		trials = append(trials, trial{command, key, cmd})
	}
	for _, args := range commands {
		send("+"+args[0].(string), "~"+sessions.KeyPrefix+"*", args...)
	}
	for _, k := range keys {
		send("+hmget", "~"+k.pattern, "hmget", k.key, sessions.FieldVersion)
		send("+pexpireat", "~"+k.pattern, "pexpireat", k.key, 1, "gt")
	}
	// The error of each command is looked at; a refused handshake is none of a command.
	if _, err := p.Exec(ctx); err != nil && !slices.ContainsFunc(trials, func(t trial) bool { return t.cmd.Err() != nil }) {
		return nil, err
	}
	for _, t := range trials {
		if err := t.cmd.Err(); !Answered(err) {
			return nil, err
		}
		missing = t.lacks(missing, t.cmd.Err())
	}
	return missing, nil
}

// ServiceUses are what a service does with sessions beside reading them, for
// [Store.ServiceRights].
type ServiceUses struct {
	Touch  bool // slide
	Add    bool // add fields
	Revoke bool // end sessions, and all of a user
	List   bool // list those of a user
}

// ServiceRights is [Store.LoginRights] for a process that serves other services: it tries
// the rights to read sessions, and those that the uses need.
func (s *Store) ServiceRights(ctx context.Context, u ServiceUses) (missing []string, err error) {
	names := []string{"hmget", "pttl"}
	keys := []keyPattern{}
	if u.Touch {
		names = append(names, "pexpireat")
	}
	if u.Add {
		names = append(names, "eval", "exists", "hexists", "hset")
	}
	if u.Revoke {
		names = append(names, "del", "pexpireat", "hset", "zscan")
		keys = append(keys, loginKeys[0], loginKeys[2])
	}
	if u.Revoke || u.List { // both prune the listing
		names = append(names, "eval", "zadd", "zcard", "zrem", "zrange", "zrangebyscore", "zscore", "pexpireat")
		keys = append(keys, loginKeys[1])
	}
	commands := slices.DeleteFunc(slices.Concat(loginCommands, serviceCommands), func(args []any) bool {
		return !slices.Contains(names, args[0].(string))
	})
	if missing, err = s.lacking(ctx, commands, keys); err != nil {
		return nil, err
	}
	single := [][]any{{"time"}}
	if u.Revoke && s.config.WaitReplicas > 0 {
		single = append(single, []any{"wait", 0, 1})
	}
	return s.single(ctx, missing, single)
}

// serviceCommands are those that login does not send.
var serviceCommands = [][]any{{"hexists", probeKey, sessions.FieldVersion}}

// single tries commands without a key.
func (s *Store) single(ctx context.Context, missing []string, commands [][]any) ([]string, error) {
	for _, args := range commands {
		t := trial{command: "+" + args[0].(string), cmd: redis.NewCmd(ctx, args...)}
		if err := s.client.Process(ctx, t.cmd); !Answered(err) {
			return nil, err
		}
		missing = t.lacks(missing, t.cmd.Err())
	}
	return missing, nil
}

// alone tries the commands without a key. EXEC comes by itself, so that it is an error
// if no refusal, and MULTI in a transaction, since it must not be left open.
func (s *Store) alone(ctx context.Context, missing []string) ([]string, error) {
	commands := [][]any{{"time"}, {"exec"}}
	if s.config.WaitReplicas > 0 {
		commands = append(commands, []any{"wait", 0, 1})
	}
	missing, err := s.single(ctx, missing, commands)
	if err != nil {
		return nil, err
	}
	_, err = s.client.TxPipelined(ctx, func(p redis.Pipeliner) error {
		return p.Process(ctx, redis.NewCmd(ctx, "pttl", probeKey))
	})
	if Forbidden(err) && strings.Contains(err.Error(), "'multi'") {
		return append(missing, "+multi"), nil
	}
	if !Answered(err) {
		return nil, err
	}
	return missing, nil
}

// lacks adds what the reply says is missing. Redis speaks of the command or of its keys.
func (t trial) lacks(missing []string, err error) []string {
	if !Forbidden(err) && !redis.HasErrorPrefix(err, execAbort) { // which is how EXEC is refused
		return missing
	}
	right := t.key
	if strings.Contains(err.Error(), "to run the '") {
		right = t.command
	}
	if slices.Contains(missing, right) {
		return missing
	}
	return append(missing, right)
}

// trackingRights are what a user needs for [Store.Track] beside its other rights: the last
// two on a Cluster alone.
var trackingRights = []struct {
	trial    []string
	command  string
	key      string
	clusters bool
}{
	{trial: []string{"CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", sessions.KeyPrefix}, command: "+client|tracking"},
	{trial: []string{"SUBSCRIBE", trackingChannel}, command: "+subscribe", key: "&" + trackingChannel},
	{trial: []string{"ROLE"}, command: "+role"},
	{trial: []string{"CLUSTER", "INFO"}, command: "+cluster|info", clusters: true},
	{trial: []string{"CLUSTER", "NODES"}, command: "+cluster|nodes", clusters: true},
}

// trackAll has the server track, and tries the other rights. It returns those that are
// missing, and whether CLIENT TRACKING is refused for another reason.
func (c *trackingConn) trackAll(cluster bool) (missing []string, refused bool, err error) {
	for i, right := range trackingRights {
		if right.clusters && !cluster {
			continue
		}
		r, err := c.call(right.trial...)
		if err != nil {
			return nil, false, err
		}
		switch {
		case r.is("NOPERM"):
			missing = trial{command: right.command, key: right.key}.lacks(missing, refusedReply(r.text))
			if right.key != "" && missing[len(missing)-1] == right.command {
				missing = append(missing, right.key) // which a user without the command is not asked for
			}
		case r.kind == '-' && i == 0:
			refused = true
		}
	}
	return missing, refused, nil
}

// A refusedReply is an error that the server replied with.
type refusedReply string

func (e refusedReply) Error() string { return string(e) }

// RedisError tells go-redis that it is one.
func (refusedReply) RedisError() {}
