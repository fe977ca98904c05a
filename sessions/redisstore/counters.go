package redisstore

import (
	"cmp"
	"context"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/coatcheck/coatcheck/sessions/throttle"
)

// Counters are [throttle.Counters] in Redis, for sessions/login. Each call is one round trip and
// atomic; times are those of Redis. No key is without an expiry: a counter lives
// until it has forgotten every attempt. It is safe for concurrent use.
type Counters struct{ client redis.UniversalClient }

// NewCounters returns Counters on client, which stays the caller's to close. It
// sends nothing.
func NewCounters(client redis.UniversalClient) *Counters { return &Counters{client} }

// countAttempt counts with all counters and returns 0, or, with none, for how
// many milliseconds to wait. KEYS are pairs of a counter and its mark, the
// counter's own key where it has none; ARGV are free, first and longest of each.
// A counter is its time of life, in units of longest: the number of attempts and
// the end of the key cannot disagree. No shebang line, as with add.
const countAttempt = `
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local wait, counted = 0, {}
for i = 1, #KEYS, 2 do
  local key, mark, a = KEYS[i], KEYS[i + 1], (i - 1) / 2 * 3
  local free, first, longest = tonumber(ARGV[a + 1]), tonumber(ARGV[a + 2]), tonumber(ARGV[a + 3])
  if mark == key or redis.call('EXISTS', mark) == 0 then
    local last = math.min(tonumber(redis.call('HMGET', key, 'last')[1] or now), now)
    local life = math.max(redis.call('PTTL', key), 0)
    local n = math.ceil((life + now - last) / longest)
    if n >= free then
      wait = math.max(wait, last + math.min(first * 2 ^ (n - free), longest) - now)
    end
    counted[#counted + 1] = {key, now + life + longest}
  end
end
if wait > 0 then return wait end
for _, c in ipairs(counted) do
  redis.call('HSET', c[1], 'last', now)
  redis.call('PEXPIREAT', c[1], c[2])
end
return 0`

// returnAttempt takes KEYS and ARGV as countAttempt does.
const returnAttempt = `
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for i = 1, #KEYS, 2 do
  local key, mark, longest = KEYS[i], KEYS[i + 1], tonumber(ARGV[(i - 1) / 2 * 3 + 3])
  if mark == key or redis.call('EXISTS', mark) == 0 then
    redis.call('PEXPIREAT', key, math.max(now + redis.call('PTTL', key) - longest, 1))
  end
end
return 0`

// mark marks KEYS[1] for ARGV[1] milliseconds.
const mark = `
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('HSET', KEYS[1], 'last', now)
redis.call('PEXPIREAT', KEYS[1], now + ARGV[1])
return 0`

// Count counts one attempt with all of counters. If one of them has to wait, it
// counts with none and returns how long. Attempts in parallel count one after the
// other, so that no more of them pass than may.
func (c *Counters) Count(ctx context.Context, counters ...throttle.Counter) (wait time.Duration, err error) {
	ms, err := c.run(ctx, countAttempt, counters)
	return time.Duration(ms) * time.Millisecond, err
}

// Return takes back one attempt that was counted, since it was none after all.
func (c *Counters) Return(ctx context.Context, counters ...throttle.Counter) error {
	_, err := c.run(ctx, returnAttempt, counters)
	return err
}

// Clear forgets every attempt of the counter at key.
func (c *Counters) Clear(ctx context.Context, key string) error {
	return c.client.Del(ctx, key).Err()
}

// Mark marks key for so long, anew where it is marked already.
func (c *Counters) Mark(ctx context.Context, key string, life time.Duration) error {
	cmd := redis.NewCmd(ctx, "eval", mark, 1, key, life.Milliseconds())
	return c.client.Process(ctx, cmd)
}

// run sends a script, once: a reply that got lost may have counted.
func (c *Counters) run(ctx context.Context, script string, counters []throttle.Counter) (int64, error) {
	if len(counters) == 0 {
		return 0, nil
	}
	args := []any{"eval", script, 2 * len(counters)}
	for _, counter := range counters {
		args = append(args, counter.Key, cmp.Or(counter.Unless, counter.Key))
	}
	for _, counter := range counters {
		args = append(args, counter.Free, counter.First.Milliseconds(), counter.Longest.Milliseconds())
	}
	cmd := redis.NewCmd(ctx, args...)
	_ = c.client.Process(ctx, once{cmd})
	return cmd.Int64()
}
