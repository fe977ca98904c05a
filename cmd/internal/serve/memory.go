package serve

import (
	"math"
	"os"
	"runtime/debug"

	"github.com/KimMachineGun/automemlimit/memlimit"
)

const headroomBytes = 64 << 20

// headroom is memory that the program never touches, and so never has: it
// counts as live for the garbage collector alone, which then lets the heap grow
// by as much between two collections. With a live heap of a few megabytes the
// collector would otherwise run hundreds of times a second and take half of the
// CPU.
var headroom []byte

// keepHeadroom makes it, unless GOGC says that somebody has tuned the collector.
func keepHeadroom() {
	if os.Getenv("GOGC") == "" && headroom == nil {
		headroom = make([]byte, headroomBytes)
	}
}

// limitMemory makes the collector work harder before the container's memory is
// full: at nine tenths of the cgroup's limit. The headroom comes on top, since
// it counts for the collector and not for the kernel. GOMEMLIMIT, if set, is
// left as it is; without a limit there is none.
func limitMemory(ofContainer memlimit.Provider) (limit int64, err error) {
	return memlimit.Set(memlimit.WithRatio(1), memlimit.WithProvider(func() (uint64, error) {
		bytes, err := ofContainer()
		return bytes/10*9 + uint64(len(headroom)), err
	}))
}

// fromRuntime is GOMEMLIMIT.
func fromRuntime() (uint64, error) {
	limit := debug.SetMemoryLimit(-1)
	if limit == math.MaxInt64 {
		return 0, nil
	}
	return uint64(limit), nil
}

// leastMemory is the least of some limits in bytes, 0 where none is known.
func leastMemory(of ...memlimit.Provider) (least uint64) {
	for _, provider := range of {
		if bytes, err := provider(); err == nil && bytes > 0 && (least == 0 || bytes < least) {
			least = bytes
		}
	}
	return least
}
