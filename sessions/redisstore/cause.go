package redisstore

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/coatcheck/coatcheck/sessions"
)

// A Cause says in one word why an operation of the store failed: what an operator has to
// look at. It is found from the error alone, which is the same whether a touch went by a
// lane or by go-redis, since what a lane cannot tell goes by go-redis.
type Cause string

// The causes. [Causes] describes each. There are no others, so that they can be labels.
const (
	CauseTimeout        Cause = "timeout"
	CauseRefused        Cause = "refused"
	CauseTLS            Cause = "tls"
	CauseReadOnly       Cause = "read_only"
	CauseLoading        Cause = "loading"
	CauseBusy           Cause = "busy"
	CauseNoPermission   Cause = "no_permission"
	CauseBadCredentials Cause = "bad_credentials"
	CauseNoReplicas     Cause = "no_replicas"
	CauseNotSaved       Cause = "not_saved"
	CauseClusterDown    Cause = "cluster_down"
	CauseMoved          Cause = "moved_too_often"
	CauseTooManyClients Cause = "too_many_clients"
	CauseFull           Cause = "full"
	CauseBreaker        Cause = "breaker"
	CausePool           Cause = "pool"
	CauseEmptied        Cause = "emptied"
	CauseOther          Cause = "other"
)

// A CauseInfo describes a [Cause].
type CauseInfo struct {
	Cause Cause
	// Text is what has happened, Cure what the operator looks at; both are plain text.
	Text, Cure string
}

// Causes describes every [Cause], in the order of the pages.
func Causes() []CauseInfo { return slices.Clone(causes) }

// Info describes a cause. One that is not of the list is its own text.
func (c Cause) Info() CauseInfo {
	if i := slices.IndexFunc(causes, func(i CauseInfo) bool { return i.Cause == c }); i >= 0 {
		return causes[i]
	}
	return CauseInfo{Cause: c, Text: string(c)}
}

// causes is the one list: metric, lines and pages are made from it.
var causes = []CauseInfo{
	{CauseTimeout, "Redis did not answer in time",
		"look at what holds Redis up (SLOWLOG GET, LATENCY DOCTOR, its processor, a fork, CLIENT PAUSE), at the network between, and at the processor of Coatcheck; a port without TLS is silent, too, where redis.tls.enabled is true"},
	{CauseRefused, "Redis, or each Sentinel, cannot be reached: connections are refused or cut, or its name is not known",
		"look whether it runs, at redis.addresses, at the firewall and the DNS between; a protected-mode Redis lets in its own host alone"},
	{CauseTLS, "no TLS with Redis: a certificate is not accepted, or one side speaks plaintext",
		"look at redis.tls.*, at when the certificates end, at the name that Redis's bears (redis.tls.server_name), and whether the port of redis.addresses is tls-port"},
	{CauseReadOnly, "the Redis that is asked is a replica, and refuses writes",
		"let redis.addresses name the master, or the Sentinels (redis.master_name); after a failover this ends by itself, once Sentinel or Cluster tell of the new master"},
	{CauseLoading, "Redis is reading its data from disk and answers no question yet",
		"wait; a master that loads for long has a large data set or a slow disk: let a replica take over"},
	{CauseBusy, "Redis is busy with a script, and refuses all else",
		"end it with SCRIPT KILL, or FUNCTION KILL, and find who sent it: Coatcheck's own scripts take microseconds"},
	{CauseNoPermission, "the ACL user lacks a right",
		"the error names the command or the key; give redis.username its rights as docs/sessions.md has them (ACL LOG shows what was refused)"},
	{CauseBadCredentials, "Redis, or a Sentinel, refuses the user or the password for new connections, or the file of the password cannot be read; connections that are there go on",
		"put the password that Redis knows into redis.password_file, which each new connection reads, or give the user the former password again (ACL SETUSER); no restart is needed"},
	{CauseNoReplicas, "the master has fewer replicas that keep up than min-replicas-to-write, or redis.wait_replicas, asks for, and so no write is accepted",
		"bring the replicas back (INFO replication); only if no other node can be master, lower min-replicas-to-write: such a master may be on the wrong side of a split"},
	{CauseNotSaved, "Redis refuses writes because it could not save its data to disk",
		"look at the disk and at the log of Redis (INFO persistence); stop-writes-on-bgsave-error has it refuse"},
	{CauseClusterDown, "the Cluster does not serve the slot, or too few of its masters answer",
		"CLUSTER INFO and CLUSTER NODES say which slots have no master; with cluster-require-full-coverage no the others are served"},
	{CauseMoved, "the nodes of the Cluster send the question to one another",
		"let redis.cluster be true where redis.addresses names one node of a Cluster; else look whether a slot is stuck between two nodes (redis-cli --cluster check, then --cluster fix)"},
	{CauseTooManyClients, "Redis has maxclients connections and takes no more",
		"find who keeps them (CLIENT LIST); maxclients must be more than the replicas of Coatcheck times redis.pool_size and two"},
	{CauseFull, "Redis has no memory left for what is to be written; checks go on, logins do not",
		"raise maxmemory, or find what fills it (INFO memory, redis-cli --bigkeys); do not let it evict, which would log users out"},
	{CauseBreaker, "the breaker of a node is open: calls to it are refused at once, but for one each 100 ms",
		"look at what has opened it: opened_by names that cause"},
	{CausePool, "no connection to Redis became free in time",
		"Redis is slow, or redis.pool_size too small for that many calls at once"},
	{CauseEmptied, "Redis has lost its sessions, and checks wait as redis.emptied_hold says before they send users to log in again",
		"look why Redis is empty: restore its data, or let users sign in again; a restart of Coatcheck ends the wait"},
	{CauseOther, "something else",
		"the error says what"},
}

// CauseOf returns why an operation failed, and for an open breaker the cause that has
// opened it. Both are empty where the error is an answer about a session, or nil.
func CauseOf(err error) (cause, openedBy Cause) {
	var open breakerOpen
	switch {
	case err == nil || isAnswer(err) || errors.Is(err, sessions.ErrLayout):
		return "", ""
	case errors.As(err, &open):
		return CauseBreaker, open.by
	}
	return causeOf(err), ""
}

func causeOf(err error) Cause {
	var late inVain
	if errors.As(err, &late) {
		return causeOf(late.dial)
	}
	for _, known := range causesByError {
		if errors.Is(err, known.err) {
			return known.cause
		}
	}
	var file fileError
	var reply redis.Error
	switch {
	case errors.As(err, &file), Refused(err):
		return CauseBadCredentials
	case errors.As(err, &reply) && !errors.As(err, new(hiddenReply)):
		return causeOfReply(reply.Error())
	case secured(err):
		return CauseTLS
	case timedOut(err):
		return CauseTimeout
	case cut(err):
		return CauseRefused
	}
	return CauseOther
}

var causesByError = []struct {
	err   error
	cause Cause
}{
	{ErrEmptied, CauseEmptied},
	{ErrNotReplicated, CauseNoReplicas},
	{errFewTimes, CauseClusterDown},
	{redis.ErrPoolTimeout, CausePool},
	{redis.ErrPoolExhausted, CausePool},
	{errSecret, CauseOther},
}

// causeOfReply goes by the code, the first word of an error that Redis replied with.
func causeOfReply(text string) Cause {
	text = strings.TrimPrefix(text, execAbort+" Transaction discarded because of: ") // of EXEC itself
	for _, known := range causesByReply {
		if strings.HasPrefix(text, known.start) {
			return known.cause
		}
	}
	if strings.Contains(text, "The user executing the script can't") { // from within one, behind ERR
		return CauseNoPermission
	}
	return CauseOther
}

var causesByReply = []struct {
	start string
	cause Cause
}{
	{"WRONGPASS ", CauseBadCredentials},
	{"NOAUTH ", CauseBadCredentials},
	{"READONLY ", CauseReadOnly},
	{"MASTERDOWN ", CauseReadOnly}, // of a replica that has lost its master
	{"LOADING ", CauseLoading},
	{"BUSY ", CauseBusy},
	{"NOPERM ", CauseNoPermission},
	{"DENIED ", CauseRefused}, // protected mode
	{"NOREPLICAS ", CauseNoReplicas},
	{"MISCONF ", CauseNotSaved},
	{"CLUSTERDOWN ", CauseClusterDown},
	{"MOVED ", CauseMoved},
	{"ASK ", CauseMoved},
	{"TRYAGAIN ", CauseMoved},
	{"ERR max number of clients", CauseTooManyClients},
	{"OOM ", CauseFull},
}

// secured reports whether TLS failed. What the other side says of it comes as an alert,
// whose type a net.OpError hides.
func secured(err error) bool {
	return errors.As(err, new(*tls.CertificateVerificationError)) || errors.As(err, new(tls.RecordHeaderError)) ||
		errors.As(err, new(tls.AlertError)) || strings.Contains(err.Error(), "tls: ") || strings.Contains(err.Error(), "x509: ")
}

// cut reports whether there is no connection, or none any more. What go-redis says of
// Sentinels and of a Cluster without nodes has no type.
func cut(err error) bool {
	var network net.Error
	return errors.As(err, &network) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		strings.Contains(err.Error(), "all sentinels") || strings.Contains(err.Error(), "cluster has no nodes")
}
