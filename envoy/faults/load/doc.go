// Package load sends checks to replicas of Coatcheck, as Envoys do, and makes, changes and
// ends sessions beside them, as login does. It tells a history of all of it:
//
//	l, err := load.Start(load.Config{Replicas: addresses, History: h, Client: config, Rate: 400, Seed: 1})
//	defer l.Stop()
//	l.Begin("inside") // figures of what is sent from now on
//	...
//	figures := l.End("inside")
//
// Checks go over gRPC, at an even rate, without waiting for one another: a server that
// answers slowly gets as many as one that does not. Most are for live sessions; others are
// for sessions that were revoked or have expired, for IDs that were never issued and for
// cookies that are none. The order is drawn from the seed; what it meets, the machine
// decides.
//
// On a busy machine this process waits for a processor, and an answer seems late that was
// not. A [lagMeter] beside the checks measures that, and latencies are told with it and
// without it.
package load
