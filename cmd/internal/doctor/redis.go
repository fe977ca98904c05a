package doctor

import (
	"fmt"
	"slices"
	"strings"
)

// redisDifferences says in what the Redis of checks is another one than login's.
// Sentinels and nodes of a Cluster may differ: of one set each knows the others.
func redisDifferences(c, l part) []string {
	checks, login := c.config, l.config
	var found []string
	say := func(key string, a, b any) {
		found = append(found, fmt.Sprintf("%s is %v for checks and %v for login", key, a, b))
	}
	switch {
	case checks.RedisMasterName != login.RedisMasterName:
		say("redis.master_name", orNone(checks.RedisMasterName), orNone(login.RedisMasterName))
	case checks.RedisCluster != login.RedisCluster:
		say("redis.cluster", checks.RedisCluster, login.RedisCluster)
	case len(checks.RedisAddresses) > 0 && len(login.RedisAddresses) > 0 && !shareOne(c.redis(), l.redis()):
		say("redis.addresses", strings.Join(checks.RedisAddresses, ","), strings.Join(login.RedisAddresses, ","))
	}
	if checks.RedisDatabase != login.RedisDatabase {
		say("redis.database", checks.RedisDatabase, login.RedisDatabase)
	}
	return found
}

func orNone(text string) string {
	if text == "" {
		return "not set"
	}
	return text
}

func shareOne(a, b []string) bool {
	return slices.ContainsFunc(a, func(address string) bool { return slices.Contains(b, address) })
}

// redis are the addresses of Redis. Those of Services are whole, because a pod of another
// namespace names the same Service redis.coatcheck.
func (p part) redis() []string {
	var found []string
	for _, address := range p.config.RedisAddresses {
		host, port, ok := strings.Cut(address, ":")
		if p.workload == nil || !ok || strings.HasPrefix(address, "unix://") {
			found = append(found, address)
			continue
		}
		host = strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(host, "."), ".cluster.local"), ".svc")
		if !strings.Contains(host, ".") {
			host += "." + p.workload.namespace
		}
		found = append(found, host+":"+port)
	}
	return found
}
