package doctor

import (
	"fmt"
	"slices"
	"strings"

	"github.com/coatcheck/coatcheck/cmd/internal/config"
)

// redisDifferences says in what the Redis of checks is another one than login's.
// Sentinels and nodes of a Cluster may differ: of one set each knows the others.
func redisDifferences(checks, login *config.Config) []string {
	var found []string
	say := func(key string, a, b any) {
		found = append(found, fmt.Sprintf("%s is %v for checks and %v for login", key, a, b))
	}
	switch {
	case checks.RedisMasterName != login.RedisMasterName:
		say("redis.master_name", orNone(checks.RedisMasterName), orNone(login.RedisMasterName))
	case checks.RedisCluster != login.RedisCluster:
		say("redis.cluster", checks.RedisCluster, login.RedisCluster)
	case len(checks.RedisAddresses) > 0 && len(login.RedisAddresses) > 0 && !shareOne(checks.RedisAddresses, login.RedisAddresses):
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
