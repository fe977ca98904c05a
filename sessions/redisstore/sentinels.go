package redisstore

import (
	"context"
	"errors"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// sentinels are clients of the Sentinels of one master.
type sentinels struct {
	name    string
	addrs   []string
	clients []*redis.SentinelClient
	asking  sync.WaitGroup
}

func newSentinels(o *redis.UniversalOptions) *sentinels {
	s := &sentinels{name: o.MasterName, addrs: o.Addrs}
	for _, addr := range o.Addrs {
		options := &redis.Options{
			Addr: addr, Username: o.SentinelUsername, Password: o.SentinelPassword, TLSConfig: o.TLSConfig,
			DialTimeout: o.DialTimeout, ReadTimeout: o.ReadTimeout, WriteTimeout: o.WriteTimeout,
			ContextTimeoutEnabled: true, MaxRetries: -1, DialerRetries: 1, PoolSize: 1, MaintNotificationsConfig: o.MaintNotificationsConfig,
		}
		dial := o.Dialer
		if dial == nil {
			dial = redis.NewDialer(options)
		}
		options.Dialer = sound{}.DialHook(dial) // such a client has no hooks
		s.clients = append(s.clients, redis.NewSentinelClient(options))
	}
	return s
}

func (s *sentinels) close() {
	for _, client := range s.clients {
		_ = client.Close()
	}
	s.asking.Wait()
}

// SentinelsAway asks each of the client's Sentinels once for the master, all at the same
// time, and returns the addresses of those that name none: they are away, refuse us, or do
// not watch it. ctx bounds it, as the client's DialTimeout and ReadTimeout do. A client
// without Sentinels has none that are away.
func (s *Store) SentinelsAway(ctx context.Context) (away []string) {
	if s.sentinels == nil {
		return nil
	}
	ask := s.sentinels()
	defer ask.close()
	failed := make([]bool, len(ask.clients))
	var asked sync.WaitGroup
	for i, client := range ask.clients {
		asked.Go(func() { _, err := ask.wordOf(ctx, client); failed[i] = err != nil })
	}
	asked.Wait()
	for i, addr := range ask.addrs {
		if failed[i] {
			away = append(away, addr)
		}
	}
	return away
}

// A word is what a Sentinel says of the master.
type word struct {
	addr  string
	epoch int64
}

// straggling is how long the others are waited for once more than half of the Sentinels have
// answered: one may stand still.
const straggling = 20 * time.Millisecond

// latest is the word of the highest epoch. It is an error if no more than half of the
// Sentinels name a master.
func (s *sentinels) latest(ctx context.Context) (highest word, err error) {
	words := make(chan word, len(s.clients))
	for _, client := range s.clients {
		s.asking.Go(func() {
			w, _ := s.wordOf(ctx, client) // it is empty
			words <- w
		})
	}
	told, enough := 0, make(<-chan time.Time)
	for range s.clients {
		select {
		case <-enough:
			return highest, nil
		case w := <-words:
			if w.addr == "" {
				continue
			}
			if told++; told == 1 || w.epoch > highest.epoch {
				highest = w
			}
			if 2*told > len(s.clients) {
				enough = time.After(straggling)
			}
		}
	}
	if 2*told <= len(s.clients) {
		return word{}, errors.New("redis: no more than half of the Sentinels name a master")
	}
	return highest, nil
}

// wordOf asks one Sentinel. It has an epoch as soon as a replica is promoted; the address
// beside it is the former one until all replicas have changed over, and not the one by which
// clients ask.
func (s *sentinels) wordOf(ctx context.Context, client *redis.SentinelClient) (word, error) {
	fields, err := client.Master(ctx, s.name).Result()
	if err != nil {
		return word{}, err
	}
	epoch, err := strconv.ParseInt(fields["config-epoch"], 10, 64)
	if err != nil {
		return word{}, err
	}
	pair, err := client.GetMasterAddrByName(ctx, s.name).Result()
	if err != nil || len(pair) != 2 {
		return word{}, errors.Join(err, errors.New("redis: a Sentinel names no master"))
	}
	return word{net.JoinHostPort(pair[0], pair[1]), epoch}, nil
}
