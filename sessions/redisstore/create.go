package redisstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/coatcheck/coatcheck/sessions"
)

// provisional is how long a record lives until its creation is confirmed. It is
// told as a time and not as a duration, so that a write that reaches Redis late,
// out of a stalled process or network, is over when it arrives. Together with the
// confirmation it is well below the grace of an entry without a record.
const provisional = 5 * time.Minute

// Create takes five steps, since a Cluster may keep all of the keys apart, and any
// of them may be the last of a process that dies. It reads the user's mark; it
// writes the listing; it writes the record, for a while; it writes the listing
// again, which a revocation may have hastened, and reads the mark again; and it
// gives the record its time, if that is still there.
//
// So a revocation that lists the user's sessions before the listing has left its
// mark before that, too; one that lists them later finds the entry, whether it finds
// the record or not; and one that ends the record in between leaves nothing to be
// confirmed.
func (s *Store) Create(ctx context.Context, c sessions.CreateParams) (listed int, err error) {
	ctx, call := s.metrics.create.begin(ctx)
	defer call.done(&err)
	mark, err := s.markBefore(ctx, c.UserID, c.Began)
	if err != nil {
		return 0, err
	}
	listed, due, err := s.list(ctx, c)
	if err != nil {
		return 0, fmt.Errorf("listing the session: %w", err)
	}
	if err := s.write(ctx, c); err != nil {
		return 0, err
	}
	if err := s.confirm(ctx, c, mark); err != nil {
		return 0, err
	}
	s.metrics.created.Inc()
	s.pruneDue(ctx, c.UserID, due)
	return listed, nil
}

// list writes the listing and returns how long it is, and the members that are due.
func (s *Store) list(ctx context.Context, c sessions.CreateParams) (int, []string, error) {
	index, end := indexPrefix+c.UserID, c.Absolute.Add(margin).UnixMilli()
	var n *redis.IntCmd
	var members *redis.Cmd
	err := s.transact(ctx, func(p redis.Pipeliner) error {
		p.ZAdd(ctx, index, entryFor(c))
		// NX for a new set, GT for one that has to live longer.
		p.Do(ctx, "PEXPIREAT", index, end, "NX")
		p.Do(ctx, "PEXPIREAT", index, end, "GT")
		n = p.ZCard(ctx, index)
		members = p.Eval(ctx, due, []string{index}, pruned)
		return nil
	})
	if err != nil {
		return 0, nil, err
	}
	texts, err := members.StringSlice()
	return int(n.Val()), texts, err
}

func entryFor(c sessions.CreateParams) redis.Z {
	return redis.Z{Score: float64(c.Absolute.UnixMilli()), Member: c.Key.Hash()}
}

// write writes the record with an end that is near.
func (s *Store) write(ctx context.Context, c sessions.CreateParams) error {
	end := c.Now.Add(provisional)
	if c.Expiry.Before(end) {
		end = c.Expiry
	}
	return s.transact(ctx, func(p redis.Pipeliner) error {
		p.HSet(ctx, string(c.Key), pairs(c.Record))
		p.PExpireAt(ctx, string(c.Key), end)
		return nil
	})
}

// execAbort begins the reply to EXEC where the transaction had an error.
const execAbort = "EXECABORT"

// transact sends commands in a transaction. Its error is that of the first command that
// Redis refused: EXEC says only that there was one.
func (s *Store) transact(ctx context.Context, fill func(redis.Pipeliner) error) error {
	cmds, err := s.client.TxPipelined(ctx, fill)
	if !redis.HasErrorPrefix(err, execAbort) {
		return err
	}
	for _, cmd := range cmds {
		if fault := cmd.Err(); fault != nil && !redis.HasErrorPrefix(fault, execAbort) {
			return fault
		}
	}
	return err
}

// confirm gives the record its time. Where the user's sessions were ended since the
// login began, it ends this one, too; one that it cannot end, ends soon.
func (s *Store) confirm(ctx context.Context, c sessions.CreateParams, mark string) error {
	now, err := s.relist(ctx, c)
	if err != nil {
		return fmt.Errorf("listing the session again: %w", err)
	}
	if now != mark {
		_, _ = s.Delete(ctx, c.UserID, c.Key)
		return sessions.ErrEnded
	}
	p := s.client.Pipeline()
	_ = p.Process(ctx, redis.NewIntCmd(ctx, "pexpireat", string(c.Key), c.Expiry.UnixMilli(), "gt"))
	left := pttl(ctx, p, string(c.Key))
	if _, err := p.Exec(ctx); err != nil {
		return fmt.Errorf("confirming the session: %w", err)
	}
	if left.Val() == noKey {
		return errGone
	}
	return nil
}

// errGone says that a record was gone before its session was handed out.
var errGone = errors.New("the new session's record is gone: ended meanwhile, or the clocks of Redis and of this machine are minutes apart")

// relist writes the listing again, which may have become empty meanwhile, and so be a
// new one without an end, and returns the user's mark.
func (s *Store) relist(ctx context.Context, c sessions.CreateParams) (string, error) {
	p := s.client.Pipeline()
	p.ZAdd(ctx, indexPrefix+c.UserID, entryFor(c))
	p.Do(ctx, "PEXPIREAT", indexPrefix+c.UserID, c.Absolute.Add(margin).UnixMilli(), "NX")
	mark := p.HMGet(ctx, markPrefix+c.UserID, markField)
	if _, err := p.Exec(ctx); err != nil {
		return "", err
	}
	return markOf(mark)
}
