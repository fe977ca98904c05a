package redisstore

import (
	"context"
	"errors"
	"strings"

	"github.com/redis/go-redis/v9"
)

// hideSecret is a hook that keeps a password out of a client's errors: a server
// that does not know AUTH repeats the command's arguments, and one that is no
// Redis may answer anything.
type hideSecret string

var errSecret = errors.New("redis: an answer that repeats the password; is this a Redis?")

func (hideSecret) DialHook(next redis.DialHook) redis.DialHook { return next }

func (s hideSecret) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		return s.hide(next(ctx, cmd), cmd)
	}
}

func (s hideSecret) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		return s.hide(next(ctx, cmds), cmds...)
	}
}

func (s hideSecret) hide(err error, cmds ...redis.Cmder) error {
	if err == nil {
		return nil
	}
	for _, cmd := range cmds {
		if s.in(cmd.Err()) {
			cmd.SetErr(errSecret)
		}
	}
	if s.in(err) {
		return errSecret
	}
	return err
}

func (s hideSecret) in(err error) bool {
	return err != nil && strings.Contains(err.Error(), string(s))
}
