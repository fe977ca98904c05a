// Package redisstore keeps session records in Redis 7.0 or newer, or Valkey:
// one server, Sentinel or Cluster, through go-redis. Most programs write these lines:
//
//	config := redisstore.At("127.0.0.1:6379")
//	config.PasswordFile = "/run/secrets/redis"
//	client, err := redisstore.NewClient(config)
//	store := redisstore.New(client, redisstore.Config{})
//	counters := redisstore.NewCounters(client) // for login
//
// # What it keeps
//
// A session is one hash at its [sessions.Key], with the expiry of the key as
// its idle timeout. A user's sessions are listed in a sorted set at
// "user-sessions:" and the user ID, whose members are the hash parts of the
// keys and whose scores are the absolute timeouts in milliseconds. A key that it
// names may be gone, but no session lives that it does not name. A revocation of all
// of a user's sessions leaves a mark at "user-ended:" and the user ID. docs/sessions.md
// has the layout with a test vector.
//
// # What it sends
//
// Touches of a [Client] share one connection to each node, in batches, once there have
// been a few (internal/lane, roads.go): one at a time goes at once, and those that come
// while it is under way go together. PEXPIREAT is left out while an earlier answer shows
// that the end is set, but is sent once a second at least: a node that refuses writes, as
// a demoted master does, is found out. All that is unusual goes by go-redis, with its
// retries, redirects and breaker. Hooks that a program adds to the client end the lanes.
//
// By go-redis, Touch sends PEXPIREAT with GT, HMGET and PTTL in one pipeline: one round trip,
// no script, each command on one key, so that a Cluster needs no hash tags. GT
// neither creates a key, nor shortens its life, nor gives an end to one without.
// PTTL comes last: it tells a missing record from one that breaks the layout, and
// one that would never end. Add is a script (EVAL): all fields or none, and only
// if the record is there. What needs the time of the node that holds a key is a
// script, too, because a caller's clock may differ.
//
// [Store.Foreign] reads records of other frameworks, each with its expiry in one round trip by
// go-redis, and moves that expiry.
//
// Scan sends SCAN and reads the records that it names, in small steps with rests between
// them, on every master. It and Find are the only calls that need the right to SCAN.
//
// Create takes five round trips, because revocations happen beside it and processes
// die: see [Store.Create] for their order. In any order of the steps of logins
// and revocations, and wherever one of them ends, no session lives on that is not
// listed; a model follows them all in the tests.
//
// # A client that is fit for it
//
// The defaults of go-redis let one call hang for half a minute behind a Redis
// that swallows packets. [NewClient] applies timeouts that fail within 150 ms,
// and recover within a second of Redis; bring a client of your own only with
// ContextTimeoutEnabled and the like, and, for a Cluster, DisableRoutingPolicies:
// with them go-redis asks for COMMAND and waits for that past any deadline.
//
// After [ClientConfig.BreakerFailures] calls in a row that a node did not answer, its
// breaker opens: calls are refused with [ErrBreakerOpen] in microseconds, but for one
// probe each 100 ms. An error that a node answers is an answer, too ([Answered]). A call
// whose caller waits less than 20 ms neither opens a breaker nor is its probe, unless
// only such calls come. Each node of a Cluster has a breaker of its own, so that a dead
// node holds up no sessions on other nodes, and a client whose node does not answer asks
// for a new map of the Cluster.
//
// New connections have a breaker of their own, the door (door.go): a node that refuses our
// password, or has as many clients as it takes, is not asked again for each call, and the
// connections that it has accepted go on.
//
// [CauseOf] says why an operation failed, in one word of a closed list ([Causes]), whichever
// road it took.
//
// A master that was emptied answers that every session is missing. [State.Epochs] tells it
// from one without users, and [Store.HoldMissing] has checks wait.
//
// With [ClientConfig.PasswordFile] every new connection reads the password anew:
// let Redis know both passwords, replace the file, and take the old one away when
// connections have been made anew, at the latest after [ClientConfig]'s
// ConnMaxLifetime. No error repeats a password that the file has held: a reply that
// does is replaced.
//
// Importing the package turns go-redis's own log off, which is one for all clients of a
// process. A program that wants it back calls redis.SetLogger.
//
// # Metrics
//
// [Config.Metrics] registers, with no other labels than these:
//
//	coatcheck_redis_duration_seconds{operation}   histogram
//	coatcheck_redis_errors_total{operation}       touch, create, read, add, expire,
//	                                              delete, mark, list, find, time
//	coatcheck_redis_failures_total{cause}         those of [Causes]
//	coatcheck_redis_breaker_open                  nodes whose breaker is open
//	coatcheck_redis_breaker_opened_total
//	coatcheck_redis_connections{state}            idle, used
//	coatcheck_redis_pool_timeouts_total
//	coatcheck_sessions_created_total
//	coatcheck_sessions_revoked_total
//
// # Revocation and replicas
//
// Checks ask the master, so a session is gone for all of them when Delete has
// returned. What Redis replicates asynchronously it can lose in a failover, a
// revocation too; with [Config.WaitReplicas] Delete waits until that number of replicas
// have it, and returns [ErrNotReplicated] if they did not acknowledge in time. Such a
// session stays listed for a while, so that it can be ended if it comes back.
package redisstore
