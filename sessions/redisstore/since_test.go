package redisstore

import (
	"testing"
	"time"
	"unsafe"
)

// TestSuspended: a login is as old as the time of day says where the machine was suspended
// after it had begun, and else as the monotonic clock says.
func TestSuspended(t *testing.T) {
	t.Parallel()
	const long = time.Minute
	for name, began := range map[string]time.Time{
		"suspended for a minute":                   suspendedFor(time.Now().Add(-long), long),
		"the time of day was set back by a minute": suspendedFor(time.Now().Add(-long), -long),
		"as before":                time.Now().Add(-long),
		"suspended for half of it": suspendedFor(time.Now().Add(-long), long/2),
	} {
		if age := since(began); age < long || age > 2*long+time.Second {
			t.Errorf("%s: %v old", name, age)
		}
	}
}

// suspendedFor moves what the monotonic clock has shown at a time, and not the time of day:
// package time has no other way to tell the two apart.
func suspendedFor(at time.Time, d time.Duration) time.Time {
	(*struct {
		wall      uint64
		monotonic int64
		zone      *time.Location
	})(unsafe.Pointer(&at)).monotonic += int64(d)
	return at
}
