// Package memstore keeps sessions in memory, for tests of programs that use the
// library. A manager and a whole login run on it without Redis:
//
//	clock := new(memstore.Clock)
//	store := memstore.New(memstore.Config{Clock: clock})
//	manager, err := sessions.NewManager(store, sessions.Config{Clock: clock})
//	counters := memstore.NewCounters(memstore.Config{Clock: clock}) // for login.Config
//	clock.Advance(31 * time.Minute)                                 // and the session is over
//
// [Store] passes sessions/storetest, as the store in Redis does, and [Counters] count
// as those in Redis do; tests compare them. It is no store for a service: a restart
// forgets every session and every attempt at a password, and a second replica knows
// neither.
package memstore
