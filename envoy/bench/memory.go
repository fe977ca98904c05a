package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/redisstore"
	"github.com/coatcheck/coatcheck/sessions/redisstore/redistest"
)

// manyCookies is the file of the cookies of all sessions.
const manyCookies = "many"

// compact has Redis keep a record of login's, whose user_agent is longer than its default
// of 64 bytes, as one piece of memory instead of a table.
var compact = []string{"--hash-max-listpack-value", "512"}

// memory fills a world's Redis with sessions, and writes how much memory they need. It
// first tries records as login writes them, which have a name and a browser, in a Redis
// of their own.
func (g *growth) memory(b *strings.Builder, w *world) error {
	login, err := g.ofLogins()
	if err != nil {
		return err
	}
	compacted, err := g.ofLogins(compact...)
	if err != nil {
		return err
	}
	plain, ids, err := fill(w.redis, g.sessions, func(*sessions.NewSession) {})
	if err != nil {
		return err
	}
	fmt.Fprintf(b, "**Memory of Redis**, one session a user, with the index of each user's sessions (`used_memory`, and `used_memory_rss`):\n\n"+
		"| record | sessions | MB | MB resident | bytes a session |\n|---|---|---|---|---|\n")
	plain.row(b, "`v`, `user_id`, `roles`, `created_at`, `expires_at`")
	login.row(b, "as login writes it: also `username`, `address`, `user_agent`")
	compacted.row(b, "the same, with `hash-max-listpack-value 512`")
	_, err = w.cookieFile(manyCookies, ids)
	return err
}

// ofLogins is the footprint of sessions as login makes them, in a Redis of their own.
func (g *growth) ofLogins(arguments ...string) (footprint, error) {
	server, err := redistest.New(arguments...)
	if err != nil {
		return footprint{}, err
	}
	defer server.Close()
	made, _, err := fill(server, min(g.sessions, 100_000), func(n *sessions.NewSession) {
		n.Username, n.Address = "ada.lovelace", "203.0.113.7"
		n.UserAgent = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/129.0.0.0 Safari/537.36"
	})
	return made, err
}

// A footprint is what sessions need in Redis.
type footprint struct{ sessions, used, resident int }

func (f footprint) row(b *strings.Builder, record string) {
	fmt.Fprintf(b, "| %s | %d | %.0f | %.0f | %d |\n", record, f.sessions, float64(f.used)/1e6, float64(f.resident)/1e6, f.used/f.sessions)
}

// fill makes n sessions, each of a user of its own.
func fill(server *redistest.Server, n int, more func(*sessions.NewSession)) (footprint, []string, error) {
	const workers = 16
	client := server.Client()
	defer func() { _ = client.Close() }()
	manager, err := sessions.NewManager(redisstore.New(client, redisstore.Config{}), sessions.Config{IdleTimeout: 6 * time.Hour})
	if err != nil {
		return footprint{}, nil, err
	}
	before, err := usage(server)
	if err != nil {
		return footprint{}, nil, err
	}
	ids := make([]string, n)
	group, ctx := errgroup.WithContext(context.Background())
	for worker := range workers {
		group.Go(func() error {
			for i := worker; i < n; i += workers {
				s := sessions.NewSession{UserID: fmt.Sprintf("user-%07d", i), Roles: []string{"staff", "buyer", "editor"}}
				more(&s)
				id, _, err := manager.Create(ctx, s)
				if err != nil {
					return err
				}
				ids[i] = id.Reveal()
				if i%100_000 == 0 {
					progress("growth: session %d of %d", i, n)
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return footprint{}, nil, err
	}
	after, err := usage(server)
	return footprint{n, after.used - before.used, after.resident - before.resident}, ids, err
}

// usage reads INFO memory.
func usage(server *redistest.Server) (footprint, error) {
	client := server.Client()
	defer func() { _ = client.Close() }()
	text, err := client.Info(context.Background(), "memory").Result()
	if err != nil {
		return footprint{}, err
	}
	read := func(name string) int {
		_, rest, _ := strings.Cut(text, "\n"+name+":")
		value, _, _ := strings.Cut(rest, "\r")
		n, _ := strconv.Atoi(value) // 0 if it is none, which the table shows
		return n
	}
	return footprint{used: read("used_memory"), resident: read("used_memory_rss")}, nil
}
