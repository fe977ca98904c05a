package redisstore

import (
	"context"
	"sync"
)

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
		asked.Go(func() { failed[i] = client.GetMasterAddrByName(ctx, ask.name).Err() != nil })
	}
	asked.Wait()
	for i, addr := range ask.addrs {
		if failed[i] {
			away = append(away, addr)
		}
	}
	return away
}
