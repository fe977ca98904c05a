package main

import (
	"crypto/rand"
	"encoding/binary"
)

// below is a random number from 0 up to n-1. Its bias is too small to matter for an
// order.
func below(n int) int {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return int(binary.LittleEndian.Uint64(b[:]) % uint64(n))
}

// shuffledNumbers are 0 to n-1 in random order.
func shuffledNumbers(n int) []int {
	mixed := make([]int, n)
	for i := range mixed {
		j := below(i + 1)
		mixed[i], mixed[j] = mixed[j], i
	}
	return mixed
}
