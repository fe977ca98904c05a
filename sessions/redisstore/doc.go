// Package redisstore keeps session records in Redis 7.0 or newer, or Valkey:
// one server, Sentinel or Cluster, through go-redis.
//
// # What it keeps
//
// A session is one hash at its [sessions.Key], with the expiry of the key as
// its idle timeout. A user's sessions are listed in a sorted set at
// "user-sessions:" and the user ID, whose members are the hash parts of the
// keys and whose scores are the absolute timeouts in milliseconds. The set is
// advisory: a key that it names may be gone. docs/sessions.md has the layout
// with a test vector.
//
// # What it sends
//
// Touch sends PEXPIREAT with GT and HMGET in one pipeline: one round trip, no
// script, each command on one key, so that a Cluster needs no hash tags. GT
// neither creates a key, nor shortens its life, nor gives an end to one without.
// Where nothing was read, an EXISTS tells a missing record from a broken one. Add
// is the one script (EVAL): all fields or none, and only if the record is there.
//
// # A client that is fit for it
//
// The defaults of go-redis let one call hang for half a minute behind a Redis
// that swallows packets. [NewClient] applies timeouts that fail within 150 ms,
// and recover within a second of Redis; bring a client of your own only with
// ContextTimeoutEnabled and the like.
//
// # Revocation and replicas
//
// Checks ask the master, so a session is gone for all of them when Delete has
// returned. What Redis replicates asynchronously it can lose in a failover, a
// revocation too; with [Config.WaitReplicas] Delete waits until so many replicas
// have it, and returns [ErrNotReplicated] if they did not acknowledge in time.
package redisstore
