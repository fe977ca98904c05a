package stage

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"time"

	"github.com/coatcheck/coatcheck/sessions/redisstore/redistest"
)

// movedSlots is how many slots move in a migration.
const movedSlots = 60

// migrates moves slots that a master has to another one while the fault lasts, and back
// where they were at the healing.
func migrates(ctx context.Context, s *Stage, r *rand.Rand) (func() error, error) {
	masters, err := s.masters(ctx)
	if err != nil || len(masters) < 2 {
		return nil, errors.Join(fmt.Errorf("stage: %d masters", len(masters)), err)
	}
	at := r.Perm(len(masters))
	from, to := masters[at[0]], masters[at[1]]
	moved, err := from.ownSlots(ctx, r)
	if err != nil {
		return nil, err
	}
	m := &migration{masters: masters}
	next := 0
	stop := repeat(time.Millisecond, func(ctx context.Context) {
		if next < len(moved) && m.err == nil {
			m.err = m.move(context.WithoutCancel(ctx), moved[next], from, to)
			next++
		}
	})
	return func() error {
		err := errors.Join(stop(), m.err)
		for _, slot := range moved[:next] {
			err = errors.Join(err, m.move(context.Background(), slot, to, from))
		}
		return err
	}, nil
}

// A migration moves slots between two masters.
type migration struct {
	masters []*node
	err     error
}

// move moves a slot as redis-cli does: keys first, and then all masters are told, the new
// owner before the others.
func (m *migration) move(ctx context.Context, slot int, from, to *node) error {
	ids := make(map[*node]any)
	for _, n := range []*node{from, to} {
		id, err := n.do(ctx, "cluster", "myid")
		if err != nil {
			return err
		}
		ids[n] = id
	}
	if _, err := to.do(ctx, "cluster", "setslot", slot, "importing", ids[from]); err != nil {
		return err
	}
	if _, err := from.do(ctx, "cluster", "setslot", slot, "migrating", ids[to]); err != nil {
		return err
	}
	if err := from.sendKeys(ctx, slot, to); err != nil {
		return err
	}
	for _, n := range append([]*node{to, from}, m.masters...) {
		if _, err := n.do(ctx, "cluster", "setslot", slot, "node", ids[to]); err != nil {
			return err
		}
	}
	return nil
}

// sendKeys moves the keys of a slot.
func (n *node) sendKeys(ctx context.Context, slot int, to *node) error {
	for {
		reply, err := n.do(ctx, "cluster", "getkeysinslot", slot, 100)
		keys, ok := reply.([]any)
		if err != nil || !ok || len(keys) == 0 {
			return err
		}
		host, port, err := net.SplitHostPort(to.target())
		if err != nil {
			return err
		}
		args := append([]any{"migrate", host, port, "", 0, 1000, "auth2", admin, redistest.Password, "keys"}, keys...)
		if _, err := n.do(ctx, args...); err != nil {
			return err
		}
	}
}

// target is where the node listens, in the protocol that nodes speak.
func (n *node) target() string { return n.proxy.to() }

// ownSlots draws slots that the node has, some of them with keys where there are any.
func (n *node) ownSlots(ctx context.Context, r *rand.Rand) ([]int, error) {
	reply, err := n.do(ctx, "cluster", "slots")
	if err != nil {
		return nil, err
	}
	var own []int
	ranges, _ := reply.([]any)
	for _, one := range ranges {
		fields, ok := one.([]any)
		if !ok || len(fields) < 3 {
			continue
		}
		if master, ok := fields[2].([]any); ok && len(master) > 1 && fmt.Sprint(master[1]) == portOf(n.proxy.addr) {
			for slot := fields[0].(int64); slot <= fields[1].(int64); slot++ {
				own = append(own, int(slot))
			}
		}
	}
	if len(own) < movedSlots {
		return nil, fmt.Errorf("%s has %d slots", n.name, len(own))
	}
	r.Shuffle(len(own), func(i, j int) { own[i], own[j] = own[j], own[i] })
	return own[:movedSlots], nil
}
