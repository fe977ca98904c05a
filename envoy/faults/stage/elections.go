package stage

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/coatcheck/coatcheck/sessions/redisstore/redistest"
)

// Elections is a number that rises when replicas stand for the place of a master: the
// epoch of the Sentinels or of the Cluster. A machine that stands still for longer than
// DownAfter brings elections about that no fault has made, and with them the loss of what
// Redis has acknowledged.
func (s *Stage) Elections(ctx context.Context) (int, error) {
	switch s.o.Kind {
	case Sentinel:
		return s.sentinelEpoch(ctx)
	case Cluster:
		return s.clusterEpoch(ctx)
	}
	return 0, nil
}

func (s *Stage) sentinelEpoch(ctx context.Context) (highest int, err error) {
	var errs []error
	for _, watch := range s.sentinels {
		epoch, err := watch.epoch(ctx)
		errs = append(errs, err)
		highest = max(highest, epoch)
	}
	if highest == 0 { // a master is watched since the first
		return 0, fmt.Errorf("stage: no Sentinel tells its epoch: %w", errors.Join(errs...))
	}
	return highest, nil
}

func (w *sentinel) epoch(ctx context.Context) (int, error) {
	client := w.client()
	defer func() { _ = client.Close() }()
	master, err := client.Master(ctx, redistest.MasterName).Result()
	if err != nil {
		return 0, err
	}
	epoch, err := strconv.Atoi(master["config-epoch"])
	return 1 + epoch, err // the first master has epoch 0
}

func (s *Stage) clusterEpoch(ctx context.Context) (highest int, err error) {
	var errs []error
	for _, n := range s.nodes {
		epoch, err := n.epoch(ctx)
		errs = append(errs, err)
		highest = max(highest, epoch)
	}
	if highest == 0 {
		return 0, fmt.Errorf("stage: no node tells its epoch: %w", errors.Join(errs...))
	}
	return highest, nil
}

func (n *node) epoch(ctx context.Context) (int, error) {
	text, err := n.line(ctx, "cluster_current_epoch", "cluster", "info")
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(text)
}
