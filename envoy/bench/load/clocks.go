package load

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// clocks are what CPU clocks showed at one moment.
type clocks struct {
	processes []time.Duration
	own       time.Duration
	machine   time.Duration // all cores that were not idle, the host's share included
}

func readClocks(pids []int) (clocks, error) {
	c := clocks{processes: make([]time.Duration, len(pids))}
	var err error
	for i, pid := range pids {
		if c.processes[i], err = processClock(pid); err != nil {
			return c, err
		}
	}
	if c.machine, err = machineClock(); err != nil {
		return c, err
	}
	c.own, err = processClock(os.Getpid())
	return c, err
}

// since is the CPU time of each process, the CPU time of this process, and how many cores the
// rest of the machine used.
func (c clocks) since(before clocks, took time.Duration) (processes []time.Duration, own time.Duration, others float64) {
	own = c.own - before.own
	rest := c.machine - before.machine - own
	for i := range c.processes {
		used := c.processes[i] - before.processes[i]
		processes = append(processes, used)
		rest -= used
	}
	return processes, own, max(0, rest.Seconds()/took.Seconds())
}

// processClock reads the CPU clock of a process, all threads together (the encoding of
// such a clock's ID is the kernel's, see clock_getcpuclockid(3)).
func processClock(pid int) (time.Duration, error) {
	const scheduler = 2
	var ts unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|scheduler), &ts); err != nil {
		return 0, fmt.Errorf("reading the CPU clock of process %d: %w", pid, err)
	}
	return time.Duration(ts.Nano()), nil
}

// machineClock is the first line of /proc/stat (proc(5)), without idle and iowait. Its
// unit is 10 ms on every architecture.
func machineClock() (time.Duration, error) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	scanner := bufio.NewScanner(bytes.NewReader(text))
	scanner.Scan()
	var busy time.Duration
	for i, field := range bytes.Fields(scanner.Bytes()) {
		if i < 1 || i == 4 || i == 5 || i > 8 { // the name, idle, iowait; guests are part of user
			continue
		}
		n, err := strconv.Atoi(string(field))
		if err != nil {
			return 0, fmt.Errorf("/proc/stat: %w", err)
		}
		busy += time.Duration(n) * 10 * time.Millisecond
	}
	return busy, nil
}
