package redisstore

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
)

// A fake is as much of Redis as a store needs for a few sessions, on a clock that
// tests move. TestModelOnRedis holds it to the real one.
type fake struct {
	now  int64 // milliseconds
	keys map[string]*value
}

type value struct {
	text string
	hash map[string]string
	set  map[string]float64
	end  int64 // 0: none
}

// at returns what is there now, nil for nothing.
func (f *fake) at(key string) *value {
	v := f.keys[key]
	if v != nil && v.end != 0 && v.end <= f.now {
		delete(f.keys, key)
		return nil
	}
	return v
}

func (f *fake) make(key string) *value {
	v := f.at(key)
	if v == nil {
		v = &value{hash: map[string]string{}, set: map[string]float64{}}
		f.keys[key] = v
	}
	return v
}

// String is the whole state.
func (f *fake) String() string {
	var b strings.Builder
	fmt.Fprint(&b, f.now)
	for _, key := range slices.Sorted(maps.Keys(f.keys)) {
		if v := f.at(key); v != nil {
			fmt.Fprint(&b, key, v.text, len(v.hash), v.end)
			for _, member := range slices.Sorted(maps.Keys(v.set)) {
				fmt.Fprint(&b, member, v.set[member])
			}
		}
	}
	return b.String()
}

// do runs one command and sets its reply.
func (f *fake) do(cmd redis.Cmder) string {
	args := make([]string, len(cmd.Args()))
	for i, arg := range cmd.Args() {
		args[i] = fmt.Sprint(arg)
		if number, ok := arg.(float64); ok {
			args[i] = strconv.FormatFloat(number, 'f', -1, 64)
		}
	}
	reply := f.reply(args)
	switch cmd := cmd.(type) {
	case *redis.IntCmd:
		cmd.SetVal(reply.(int64))
	case *redis.BoolCmd:
		cmd.SetVal(reply.(int64) == 1)
	case *redis.StringCmd:
		if reply == nil {
			cmd.SetErr(redis.Nil)
			break
		}
		cmd.SetVal(reply.(string))
	case *redis.StatusCmd:
		cmd.SetVal("OK")
	case *redis.SliceCmd:
		cmd.SetVal(reply.([]any))
	case *redis.StringSliceCmd:
		var texts []string
		for _, text := range reply.([]any) {
			texts = append(texts, text.(string))
		}
		cmd.SetVal(texts)
	case *redis.Cmd:
		cmd.SetVal(reply)
	case once:
		cmd.SetVal(reply)
	default:
		panic(fmt.Sprintf("%T", cmd))
	}
	return fmt.Sprint(reply)
}

func (f *fake) reply(args []string) any {
	key := args[1]
	v := f.at(key)
	switch args[0] {
	case "pttl":
		switch {
		case v == nil:
			return int64(-2)
		case v.end == 0:
			return int64(-1)
		}
		return v.end - f.now
	case "PEXPIREAT", "pexpireat":
		return f.expire(key, args[2:])
	case "del":
		delete(f.keys, key)
		return boolean(v != nil)
	case "hset":
		v = f.make(key)
		for i := 2; i < len(args); i += 2 {
			v.hash[args[i]] = args[i+1]
		}
		return int64(0)
	case "hmget":
		replies := make([]any, len(args)-2)
		for i, name := range args[2:] {
			if v != nil && v.hash[name] != "" {
				replies[i] = v.hash[name]
			}
		}
		return replies
	case "zadd", "zcard", "zrange", "zrem":
		return f.sorted(args[0], key, args[2:])
	case "eval":
		return f.eval(args[1], args[3], args[4:])
	}
	panic(fmt.Sprint(args))
}

func boolean(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

func (f *fake) expire(key string, args []string) int64 {
	v := f.at(key)
	if v == nil {
		return 0
	}
	at, _ := strconv.ParseInt(args[0], 10, 64)
	if len(args) > 1 {
		switch strings.ToLower(args[1]) {
		case "nx":
			if v.end != 0 {
				return 0
			}
		case "gt":
			if v.end == 0 || at <= v.end {
				return 0
			}
		case "lt":
			if v.end != 0 && at >= v.end {
				return 0
			}
		}
	}
	v.end = at
	f.at(key)
	return 1
}

func (f *fake) sorted(name, key string, args []string) any {
	v := f.at(key)
	if v == nil {
		v = new(value)
	}
	switch name {
	case "zcard":
		return int64(len(v.set))
	case "zrange":
		from, _ := strconv.Atoi(args[0])
		members := members(v)
		if len(args) > 2 {
			slices.Reverse(members)
		}
		return members[min(from, len(members)):]
	case "zrem":
		before := len(v.set)
		for _, member := range args {
			delete(v.set, member)
		}
		if before > 0 && len(v.set) == 0 {
			delete(f.keys, key)
		}
		return int64(before - len(v.set))
	}
	flags := args[:len(args)-2]
	score, _ := strconv.ParseFloat(args[len(args)-2], 64)
	return f.zadd(key, args[len(args)-1], score, flags...)
}

// members are those of a set by their scores.
func members(v *value) []any {
	names := slices.SortedFunc(maps.Keys(v.set), func(a, b string) int {
		return cmp.Or(cmp.Compare(v.set[a], v.set[b]), cmp.Compare(a, b))
	})
	replies := make([]any, len(names))
	for i, name := range names {
		replies[i] = name
	}
	return replies
}

func (f *fake) zadd(key, member string, score float64, flags ...string) int64 {
	v := f.at(key)
	var old float64
	var there bool
	if v != nil {
		old, there = v.set[member]
	}
	for _, flag := range flags {
		switch flag {
		case "xx":
			if !there {
				return 0
			}
		case "gt":
			if there && score <= old {
				return 0
			}
		case "lt":
			if there && score >= old {
				return 0
			}
		default:
			panic(flag)
		}
	}
	f.make(key).set[member] = score
	return boolean(!there)
}

// eval runs the scripts of the index as they are meant.
func (f *fake) eval(script, key string, args []string) any {
	v := f.at(key)
	if v == nil {
		v = new(value)
	}
	switch script {
	case due:
		return slices.DeleteFunc(members(v), func(m any) bool { return v.set[m.(string)] > float64(f.now) })
	case forget:
		graceful, _ := strconv.ParseInt(args[0], 10, 64)
		long, _ := strconv.ParseInt(args[1], 10, 64)
		for i := 2; i < len(args); i += 2 {
			member := args[i]
			ends, _ := strconv.ParseFloat(args[i+1], 64)
			switch score, ok := v.set[member]; {
			case !ok || score > float64(f.now):
			case ends > 0:
				f.zadd(key, member, math.Floor(max(score, ends))+0.5, "xx")
			case score != math.Floor(score), score <= float64(f.now-long):
				f.sorted("zrem", key, []string{member})
			default:
				f.zadd(key, member, float64(f.now+graceful)+0.5, "xx")
			}
		}
		return int64(0)
	case hasten:
		after, _ := strconv.ParseInt(args[0], 10, 64)
		for _, member := range args[1:] {
			f.zadd(key, member, float64(f.now+after)+0.5, "xx", "lt")
		}
		return int64(0)
	case leave:
		life, _ := strconv.ParseInt(args[1], 10, 64)
		v = f.make(key)
		v.text, v.end = fmt.Sprint("mark of ", f.now), f.now+life // so that runs are alike
		v.hash[markField] = v.text
		return int64(0)
	case add:
		switch {
		case f.at(key) == nil:
			return int64(0)
		case v.hash[args[0]] != "":
			return int64(-1)
		}
		v.hash[args[0]] = args[1]
		return int64(1)
	}
	panic(script)
}
