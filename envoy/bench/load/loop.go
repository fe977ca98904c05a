package load

import (
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// drain is how long answers may take after the measured time.
const drain = 15 * time.Second

// A loop is one job under way.
type loop struct {
	job         Job
	head, tail  string // the request, around the cookie
	cookies     []string
	next        int // the next cookie
	epoll       int
	connections map[int]*connection // by file descriptor
	arrivals    *arrivals           // nil in a closed loop

	measuring  bool
	result     Result
	times      []time.Duration
	lateness   []time.Duration
	inFlight   int
	scratch    []byte
	warm, stop time.Time
}

func run(job Job, cookies []string) (Result, error) {
	l := &loop{job: job, cookies: cookies, connections: make(map[int]*connection)}
	l.head, l.tail = cutCookie(job.Request)
	l.result.Statuses = make(map[int]int)
	if err := l.open(); err != nil {
		return l.result, err
	}
	defer l.close()
	l.warm = time.Now().Add(job.Warm)
	if err := l.begin(); err != nil {
		return l.result, err
	}
	if err := l.until(l.warm); err != nil {
		return l.result, err
	}
	if err := l.measure(); err != nil {
		return l.result, err
	}
	return l.result, l.finish()
}

// measure is the time that counts.
func (l *loop) measure() error {
	before, err := readClocks(l.job.Pids)
	if err != nil {
		return err
	}
	begin := time.Now()
	l.measuring = true
	if err := l.until(begin.Add(l.job.For)); err != nil {
		return err
	}
	l.measuring = false
	l.result.Took = time.Since(begin)
	after, err := readClocks(l.job.Pids)
	if err != nil {
		return err
	}
	l.result.CPU, l.result.Own, l.result.Others = after.since(before, l.result.Took)
	l.result.Answers = len(l.times)
	l.result.P50, l.result.P99 = quantile(l.times, 0.50), quantile(l.times, 0.99)
	l.result.Late = quantile(l.lateness, 0.99)
	return nil
}

// begin sends the first requests.
func (l *loop) begin() error {
	if l.job.Rate > 0 {
		return l.arrivals.arm(time.Now())
	}
	for _, c := range l.connections {
		if err := l.send(c, time.Now()); err != nil {
			return err
		}
	}
	return nil
}

// until serves the connections up to a moment.
func (l *loop) until(end time.Time) error {
	l.stop = end
	for now := time.Now(); now.Before(end); now = time.Now() {
		if err := l.turn(end.Sub(now), true); err != nil {
			return err
		}
	}
	return nil
}

// finish waits for the answers that are still due.
func (l *loop) finish() error {
	for end := time.Now().Add(drain); l.inFlight > 0; {
		left := time.Until(end)
		if left <= 0 {
			return fmt.Errorf("%d requests have no answer after %v", l.inFlight, drain)
		}
		if err := l.turn(left, false); err != nil {
			return err
		}
	}
	return nil
}

// turn waits for events at most for a time, and serves them.
func (l *loop) turn(patience time.Duration, sending bool) error {
	var events [256]unix.EpollEvent
	n, err := unix.EpollWait(l.epoll, events[:], int(patience/time.Millisecond)+1)
	if errors.Is(err, unix.EINTR) {
		return nil
	} else if err != nil {
		return os.NewSyscallError("epoll_wait", err)
	}
	for _, event := range events[:n] {
		fd := int(event.Fd)
		if c := l.connections[fd]; c != nil {
			err = l.read(c, sending)
		} else if l.arrivals != nil && fd == l.arrivals.timer {
			err = l.arrive(sending)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// arrive sends the requests that are due.
func (l *loop) arrive(sending bool) error {
	l.arrivals.drain()
	now := time.Now()
	for l.arrivals.due(now) {
		due := l.arrivals.take()
		if !sending {
			continue
		}
		if c := l.arrivals.free(); c != nil {
			if err := l.send(c, due); err != nil {
				return err
			}
		} else {
			l.arrivals.waiting = append(l.arrivals.waiting, due)
		}
	}
	return l.arrivals.arm(now)
}

// answered counts an answer, and sends what comes next on its connection.
func (l *loop) answered(c *connection, status int, sending bool) error {
	l.inFlight--
	l.result.All++
	if l.measuring {
		l.times = append(l.times, time.Since(c.due))
		l.result.Statuses[status]++
	}
	c.reset()
	switch {
	case l.arrivals == nil && sending:
		return l.send(c, time.Now())
	case l.arrivals == nil:
		return nil
	case len(l.arrivals.waiting) > 0 && sending:
		due := l.arrivals.waiting[0]
		l.arrivals.waiting = l.arrivals.waiting[1:]
		return l.send(c, due)
	}
	l.arrivals.idle = append(l.arrivals.idle, c)
	return nil
}

func (l *loop) open() (err error) {
	if _, err := net.ResolveTCPAddr("tcp4", l.job.Address); err != nil {
		return err
	}
	if l.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return os.NewSyscallError("epoll_create1", err)
	}
	for range l.job.Connections {
		if _, err := l.connect(); err != nil {
			return err
		}
	}
	if l.job.Rate == 0 {
		return nil
	}
	if l.arrivals, err = newArrivals(l.job.Rate, l.job.Warm+l.job.For); err != nil {
		return err
	}
	for _, c := range l.connections {
		l.arrivals.idle = append(l.arrivals.idle, c)
	}
	return l.watch(l.arrivals.timer)
}

func (l *loop) watch(fd int) error {
	err := unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)})
	return os.NewSyscallError("epoll_ctl", err)
}

func (l *loop) close() {
	for fd := range l.connections {
		_ = unix.Close(fd)
	}
	if l.arrivals != nil {
		_ = unix.Close(l.arrivals.timer)
	}
	_ = unix.Close(l.epoll)
}

// quantile sorts the times.
func quantile(times []time.Duration, q float64) time.Duration {
	if len(times) == 0 {
		return 0
	}
	slices.Sort(times)
	return times[int(q*float64(len(times)-1)+0.5)]
}
