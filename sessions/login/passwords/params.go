package passwords

import "fmt"

// HashParams are the costs of an argon2id hash (RFC 9106). A zero field stands
// for its default: together 19 MiB, two passes and one lane, the second of the
// equal choices of the OWASP Password Storage Cheat Sheet.
type HashParams struct {
	Memory uint32 // KiB, 8 for each lane to 131072 (128 MiB); default 19456
	Passes uint32 // over that memory, 1 to 16; default 2
	Lanes  uint8  // computed at the same time, 1 to 16; default 1
}

const (
	// What is read of a source. The memory has room for what frameworks make by
	// default: PHP 64 MiB, Django 100 MiB.
	maxHashMemory = 128 << 10 // KiB
	maxHashPasses = 16
	maxHashLanes  = 16
)

func (p HashParams) orDefault() HashParams {
	if p.Memory == 0 {
		p.Memory = 19 << 10
	}
	if p.Passes == 0 {
		p.Passes = 2
	}
	if p.Lanes == 0 {
		p.Lanes = 1
	}
	return p
}

// check bounds the work of a hash. RFC 9106, section 3.1, wants 8 KiB for each
// lane; with less, x/crypto would quietly take more than is asked for.
func (p HashParams) check() error {
	switch {
	case p.Lanes < 1 || p.Lanes > maxHashLanes:
		return fmt.Errorf("its lanes are not 1 to %d", maxHashLanes)
	case p.Passes < 1 || p.Passes > maxHashPasses:
		return fmt.Errorf("its passes are not 1 to %d", maxHashPasses)
	case p.Memory < 8*uint32(p.Lanes) || p.Memory > maxHashMemory:
		return fmt.Errorf("its memory is not 8 KiB for each lane to %d KiB", maxHashMemory)
	}
	return nil
}
