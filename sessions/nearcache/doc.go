// Package nearcache keeps sessions in the memory of the process that checks them, for as
// long as the store tells of every change. Most programs write these lines:
//
//	cache, err := nearcache.New(nearcache.Config{Lease: time.Second})
//	manager, err := sessions.NewManager(cache.Store(store), sessions.Config{})
//	checks := cache.Sessions(manager) // its Touch is the manager's
//	go checks.Run(ctx)
//	go store.Track(ctx, cache, nearcache.DefaultLease) // a *redisstore.Store
//
// # What is kept
//
// A session as it was read and decoded, never a decision: a hit still goes through every
// rule of the request, and through the session's time limits. It is kept above the
// [sessions.Store] and not as a Record below the Manager, because a hit then decodes
// nothing and allocates nothing; the rules on records were applied when it was read.
//
// # When there is a hit
//
// Only while the lease holds: [Cache.Alive] says that a question on the tracking
// connection was answered, and the lease counts from when that question was sent. The
// store tells of a change before it answers a question that comes later. So a session
// that was revoked is admitted for the lease at most, whatever happens to the connection,
// and for the time that the message takes where nothing happens to it. A connection that
// breaks ends all hits at once ([Cache.Flush]).
//
// # The race of reads and changes
//
// A read that is under way when a change is heard of may have seen the record before it,
// or after. So each read is reserved before it is sent: the count of the changes heard of
// in the slot of its key, and the generation, which is the count of flushes. What was
// read is kept if neither has grown. Counts in slots need no memory for each read, and
// forget none. No check joins the read of another.
//
// # Sliding
//
// An entry knows when its use has to move the record's end: once in a step of
// [sessions.Config]. The first hit after that has it slid in the background, and goes on.
// The slide is a change, of which every replica hears: each reads its entry again, if it
// was used, in the background. A read changes nothing, and the other replicas' slides to
// the same end change nothing, either: so there is one slide and one read for each
// replica in a step, and no ping-pong. If the slide does not succeed for a step, checks
// ask the store.
//
// The package's metrics begin with coatcheck_near_cache.
package nearcache
