//go:build !linux

package redisstore

// hungUp does not look: the socket's end is told in another way on each system.
func hungUp(uintptr) error { return nil }
