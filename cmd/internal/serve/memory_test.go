package serve

import (
	"math"
	"runtime/debug"
	"testing"

	"github.com/KimMachineGun/automemlimit/memlimit"
)

// TestMemoryLimit: the limit is nine tenths of the container's memory, plus the headroom,
// which the kernel does not count. Without a container's limit there is no limit.
func TestMemoryLimit(t *testing.T) {
	t.Cleanup(func() { debug.SetMemoryLimit(math.MaxInt64); headroom = nil })
	headroom = nil
	t.Setenv("GOGC", "100")
	keepHeadroom()
	if headroom != nil {
		t.Error("headroom although GOGC is set")
	}
	const mebibyte = 1 << 20
	within := memlimit.Limit(100 * mebibyte)
	if got, err := limitMemory(within); err != nil || got != 90*mebibyte {
		t.Errorf("%d, %v", got, err)
	}
	t.Setenv("GOGC", "")
	keepHeadroom()
	if got, err := limitMemory(within); err != nil || got != (90+64)*mebibyte || debug.SetMemoryLimit(-1) != got {
		t.Errorf("%d, %v; %d in force", got, err, debug.SetMemoryLimit(-1))
	}
	none := func() (uint64, error) { return 0, memlimit.ErrNoLimit }
	if got, err := limitMemory(none); err != nil || got != math.MaxInt64 {
		t.Errorf("%d, %v", got, err)
	}
	t.Setenv("GOMEMLIMIT", "123MiB")
	debug.SetMemoryLimit(123 * mebibyte)
	if got, err := limitMemory(within); err != nil || got != 123*mebibyte {
		t.Errorf("GOMEMLIMIT is overruled: %d, %v", got, err)
	}
}
