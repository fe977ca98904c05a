package serve

import "os"

// headroom is memory that the program never touches, and so never has: it
// counts as live for the garbage collector alone, which then lets the heap grow
// by as much between two collections. With a live heap of a few megabytes the
// collector would otherwise run hundreds of times a second and take half of the
// CPU.
var headroom []byte

// keepHeadroom makes it, unless GOGC says that somebody has tuned the collector.
func keepHeadroom() {
	if os.Getenv("GOGC") == "" && headroom == nil {
		headroom = make([]byte, 64<<20)
	}
}
