package serve

import (
	"math"
	"os"
	"runtime/debug"

	"github.com/KimMachineGun/automemlimit/memlimit"
)

const headroomBytes = 64 << 20

// headroom is memory that the program never touches, so that the system never provides
// it. Only the garbage collector counts it as live, and then lets the heap grow by as
// much between two collections. With a live heap of a few megabytes the collector
// would otherwise run hundreds of times a second and take half of the CPU.
var headroom []byte

// keepHeadroom allocates it, unless GOGC is set: then the operator has tuned the
// collector.
func keepHeadroom() {
	if os.Getenv("GOGC") == "" && headroom == nil {
		headroom = make([]byte, headroomBytes)
	}
}

// limitMemory makes the collector work harder before the container's memory is full: at
// nine tenths of the cgroup's limit. The headroom is added, because the collector
// counts it and the kernel does not. GOMEMLIMIT wins; without any limit nothing
// changes.
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

// leastMemory is the least of some limits in bytes, and 0 if no limit is known.
func leastMemory(of ...memlimit.Provider) (least uint64) {
	for _, provider := range of {
		if bytes, err := provider(); err == nil && bytes > 0 && (least == 0 || bytes < least) {
			least = bytes
		}
	}
	return least
}
