package stage

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"

	"github.com/coatcheck/coatcheck/sessions/redisstore"
	"github.com/coatcheck/coatcheck/sessions/redisstore/redistest"
)

// Million is how many sessions Redis holds where [Millions] happen.
const Million = 1_000_000

// Millions are what happens to a Redis that holds many sessions: what is over in a moment
// with the few of a load takes seconds there. They need Options.Sessions.
func Millions() []Fault {
	return each(millionFaults, func(f *Fault) {
		f.On, f.Rows = []Kind{Single}, append([]string{"F25"}, f.Rows...)
	})
}

var millionFaults = []Fault{
	{
		Name: "million-save", Rows: []string{"F3"},
		What: "Redis writes all of its sessions to the disk again and again, as a snapshot (BGSAVE) and as a new log (BGREWRITEAOF): each time it forks.",
		For:  6 * time.Second, Bound: time.Second, Inject: onMaster(saves),
	},
	{
		Name: "million-scan",
		What: "An operator goes through all sessions and reads every record, as `coatcheck session verify --all` does (SCAN).",
		For:  6 * time.Second, Bound: time.Second, Inject: onMaster(scanned),
	},
	{
		Name: "million-restart", Rows: []string{"F2", "F13"},
		What: "Redis is killed and started again at once, and loads its sessions: meanwhile it answers LOADING.",
		For:  3 * time.Second, Bound: time.Second, Inject: onMaster(reloads),
	},
}

// perUser is how many of the sessions that fill makes belong to one user.
const perUser = 4

// fill gives the server so many sessions, as docs/sessions.md has them: records and lists of
// users. They live for hours. Redis answers none of the commands, which would take longer than
// the commands do, and writes its log anew once, at the end.
func (n *node) fill(ctx context.Context, count int) error {
	undo, err := n.set(ctx, "appendfsync", "no", "auto-aof-rewrite-percentage", "0")
	if err != nil {
		return err
	}
	before, err := n.keys(ctx)
	if err != nil {
		return err
	}
	if err := n.pour(ctx, count); err != nil {
		return fmt.Errorf("%s: %w", n.name, err)
	}
	users := (count + perUser - 1) / perUser
	after, err := n.keys(ctx)
	if err != nil || after != before+users*(1+perUser) {
		return errors.Join(fmt.Errorf("%s has %d keys, and had %d before %d sessions", n.name, after, before, users*perUser), err)
	}
	return errors.Join(n.rewritten(ctx), undo()) // else Redis begins to rewrite by itself
}

func (n *node) keys(ctx context.Context) (int, error) {
	reply, err := n.do(ctx, "dbsize")
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(fmt.Sprint(reply))
}

// pour sends the commands over a connection of its own, and returns when Redis has taken all.
func (n *node) pour(ctx context.Context, count int) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", n.server.Addr)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	to := bufio.NewWriterSize(conn, 1<<20)
	command(to, "AUTH", admin, redistest.Password)
	command(to, "CLIENT", "REPLY", "OFF")
	for user := 0; user*perUser < count; user++ {
		signIn(to, fmt.Sprint("million-", user))
	}
	command(to, "CLIENT", "REPLY", "ON")
	if err := to.Flush(); err != nil {
		return err
	}
	for _, what := range []string{"AUTH", "CLIENT REPLY ON"} {
		reply := make([]byte, len("+OK\r\n"))
		if _, err := io.ReadFull(conn, reply); err != nil || reply[0] != '+' {
			return fmt.Errorf("to %s Redis answers %q: %w", what, reply, err)
		}
	}
	return nil
}

// command writes a command as Redis reads it. Flush has the error.
func command(to *bufio.Writer, words ...string) {
	number(to, '*', len(words))
	for _, word := range words {
		number(to, '$', len(word))
		_, _ = to.WriteString(word)
		_, _ = to.WriteString("\r\n")
	}
}

func number(to *bufio.Writer, kind byte, n int) {
	_ = to.WriteByte(kind)
	_, _ = to.Write(append(strconv.AppendInt(to.AvailableBuffer(), int64(n), 10), '\r', '\n'))
}

// signIn makes the sessions of a user.
func signIn(to *bufio.Writer, user string) {
	now := time.Now().UTC()
	ends := now.Add(12 * time.Hour)
	list, until, idle := "user-sessions:"+user, inUnix(ends), inUnix(now.Add(6*time.Hour))
	created, expires := now.Format(time.RFC3339Nano), ends.Format(time.RFC3339)
	for range perUser {
		hash := sha256.Sum256([]byte(rand.Text()))
		key := base64.RawURLEncoding.EncodeToString(hash[:])
		command(to, "ZADD", list, until, key)
		command(to, "HSET", "session:"+key, "v", "1", "user_id", user, "username", user+"@example.com", "roles", `["staff"]`,
			"created_at", created, "expires_at", expires, "address", "192.0.2.1",
			"user_agent", "Mozilla/5.0 (X11; Linux x86_64; rv:156.0) Gecko/20100101 Firefox/156.0")
		command(to, "PEXPIREAT", "session:"+key, idle)
	}
	command(to, "PEXPIREAT", list, inUnix(ends.Add(24*time.Hour)))
}

func inUnix(t time.Time) string { return strconv.FormatInt(t.UnixMilli(), 10) }

// saves begins one way of writing all as soon as the other is over.
func saves(ctx context.Context, n *node, u *undoing) error {
	ways := []string{"bgsave", "bgrewriteaof"}
	begun := 0
	u.add(func() error {
		ctx, cancel := arranging()
		defer cancel()
		if err := eventually(ctx, func() error { return n.saved(ctx) }); err != nil {
			return err
		}
		if begun == 0 {
			return errors.New("stage: no save has been begun")
		}
		return nil
	})
	u.add(repeat(50*time.Millisecond, func(ctx context.Context) {
		if n.saved(ctx) != nil {
			return
		}
		if _, err := n.do(ctx, ways[begun%len(ways)]); err == nil {
			begun++
		}
	}))
	return ctx.Err()
}

// saved: no child of the server writes.
func (n *node) saved(ctx context.Context) error {
	for _, name := range []string{"rdb_bgsave_in_progress", "aof_rewrite_in_progress", "aof_rewrite_scheduled"} {
		if now, err := n.info(ctx, "persistence", name); err != nil || now != "0" {
			return errors.Join(fmt.Errorf("%s is still writing", n.name), err)
		}
	}
	return nil
}

// scanned goes through all records by the store's own scan until the healing, and begins
// again at the end.
func scanned(ctx context.Context, n *node, u *undoing) error {
	config := redisstore.At(n.server.Addr)
	config.Username, config.Password = admin, redistest.Password
	client, err := redisstore.NewClient(config)
	if err != nil {
		return err
	}
	u.add(client.Close)
	store, read := redisstore.New(client, redisstore.Config{}), 0
	u.add(func() error {
		if read == 0 {
			return errors.New("stage: the scan has read no record")
		}
		return nil
	})
	u.add(repeat(10*time.Millisecond, func(ctx context.Context) {
		for page, err := range store.Scan(ctx, nil) {
			if err != nil {
				return
			}
			read += len(page.Records)
		}
	}))
	return ctx.Err()
}

// reloads kills a node, and returns when it loads its data.
func reloads(_ context.Context, n *node, u *undoing) error {
	u.add(func() error { return n.loadedWithin(time.Minute) })
	if err := n.kill(); err != nil {
		return err
	}
	return n.start()
}
