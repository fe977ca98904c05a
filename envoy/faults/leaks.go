package main

import (
	"fmt"

	"github.com/coatcheck/coatcheck/envoy/faults/stage"
)

// What a replica may use more than before, once all has recovered: it is not given back at
// once, and the load is not the same at two moments.
const (
	goroutineRoom = 20
	// heapRoom is of what is in use behind a collection of garbage: the buffers of a pool for
	// each node of a Cluster, and some.
	heapRoom = 16 << 20
	// memoryRoom is of resident memory. Go collects garbage when the heap has doubled, which
	// is at 134 MiB, and gives back over minutes what it does not need.
	memoryRoom = 160 << 20
	// otherFiles are what a replica has open beside connections to the nodes of Redis: its
	// listeners, those of the load, the log.
	otherFiles = 40
)

// nodesOf are the nodes to which a replica may have connections: in a Cluster, where any
// node may become a master, all; with Sentinels the one, too, that names the master to each
// connection that is opened: go-redis keeps as many connections to it.
var nodesOf = map[stage.Kind]int{stage.Single: 1, stage.Sentinel: 2, stage.Cluster: 6}

// connectionsTo is how many connections to a node a replica may have: a pool of ten for each
// processor, the one by which checks go, its successor, and two of the near cache.
func connectionsTo() int { return 10*cores() + 4 }

// leaks says which replica uses more than the fault can account for.
func leaks(kind stage.Kind, before, later []usage) (leaks []string) {
	if len(later) < len(before) {
		return []string{"a replica does not tell its metrics"}
	}
	pools := nodesOf[kind] * connectionsTo()
	for i, l := range later {
		b := before[i]
		for _, c := range []struct {
			what                string
			now, before, atMost int
		}{
			{"goroutines", l.goroutines, b.goroutines, b.goroutines + goroutineRoom},
			// Pools fill up in a fault, and are kept.
			{"open files", l.descriptors, b.descriptors, min(b.descriptors, otherFiles) + pools},
			{"MiB of memory", l.memory >> 20, b.memory >> 20, (b.memory + memoryRoom) >> 20},
			{"MiB of heap", l.heap >> 20, b.heap >> 20, (b.heap + heapRoom) >> 20},
		} {
			if c.now > c.atMost {
				leaks = append(leaks, fmt.Sprintf("replica %d has %d %s, before %d, and may have %d", i, c.now, c.what, c.before, c.atMost))
			}
		}
	}
	return leaks
}

// grown says what a scene of several faults has come to use since its first one: what each
// leaves behind a little of.
func (s *scene) grown(res *result) (failed []string) {
	for _, leak := range leaks(s.setting.stage.Kind, s.first, res.later) {
		failed = append(failed, "since the first fault: "+leak)
	}
	return failed
}
