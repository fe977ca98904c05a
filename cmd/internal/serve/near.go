package serve

import (
	"github.com/coatcheck/coatcheck/extauthz"
	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/nearcache"
	"github.com/coatcheck/coatcheck/sessions/redisstore"
)

// A nearPart keeps sessions in memory, for checks alone. Without near_cache.enabled it
// has no cache, and does nothing.
type nearPart struct {
	*process
	cache *nearcache.Cache // nil: none
}

// over is the store that the manager is given: what this process revokes itself leaves
// the cache, too.
func (n *nearPart) over(store sessions.Store) (sessions.Store, error) {
	if !n.config.NearCache || n.config.Listen == "" {
		return store, nil
	}
	config := n.config.Near()
	config.Metrics = n.metrics
	var err error
	if n.cache, err = nearcache.New(config); err != nil {
		return nil, err
	}
	return n.cache.Store(store), nil
}

// start returns what checks ask: the manager, or the cache in front of it.
func (n *nearPart) start(manager *timed, store *redisstore.Store) extauthz.Sessions {
	if n.cache == nil {
		return manager
	}
	checks := n.cache.Sessions(manager)
	lease := n.config.NearCacheLease
	n.running.Go(func() { checks.Run(n.background) })
	n.running.Go(func() { store.Track(n.background, n.cache, lease) })
	n.logger.Info("near cache: a session that was revoked may be admitted for the lease where Redis, or the way to it, fails; else for the milliseconds that the message takes",
		"lease", lease.String(), "max_entries", n.config.NearCacheMaxEntries, "max_bytes", n.config.NearCacheMaxBytes)
	return checks
}
