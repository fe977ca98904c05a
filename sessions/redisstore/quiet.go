package redisstore

import "github.com/redis/go-redis/v9/logging"

// go-redis logs by itself, for all clients of a process: "failed to dial after 8
// attempts", at each dial of an outage. What matters of it is in the errors of the
// calls. It has no logger for one client, and does not say which logger is set, so this
// is done before a program starts: one that wants the lines calls redis.SetLogger, and
// keeps them whenever it makes a client. [Client.Redact] blanks passwords out of them.
func init() { logging.Disable() } //nolint:gochecknoinits // see above
