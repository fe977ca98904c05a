// Package watching tells the streams of Watch which of the sessions that they name have
// ended. The session API writes these lines:
//
//	hub, err := watching.New(manager, watching.Config{})
//	go hub.Run(ctx)
//	go store.Track(ctx, hub, hub.Lease()) // a *redisstore.Store
//	stream, err := hub.Open(caller, keys)
//	defer stream.Close()
//	ends, err := stream.Next(ctx) // again and again
//
// # How an end is found
//
// Every end is found by reading the record, by the rules of a check; a message of the store
// only says when to read. There are four causes:
//
//   - The stream was opened. It is subscribed first and read then, so that no end falls
//     between the two. The first answer comes when all of its sessions have been read.
//   - The store tells of a change ([Hub.Invalidate]): a revocation, or a slide, in which
//     case the session lives on with a new end.
//   - A timer: the record ends now unless it was used. Redis does tell of keys that expire,
//     but only when it removes them, which may be long after their end, and it knows nothing
//     of the absolute timeout.
//   - Changes may be missed ([Hub.Flush]): then every session is read at least each half of
//     [Config.Patience], until tracking stands, and once more when it does.
//
// A session that could not be read for [Config.Patience] while it was in doubt ends its
// streams with [ErrUnavailable]. So a stream is never silent about what it does not know.
//
// # What it costs
//
// No goroutine and no timer for each session, nor for each stream: two goroutines read, in
// pipelines, one keeps the time with a heap. What is kept of a session has no pointer to its
// key or its name: the hash alone.
package watching
