// Package load sends HTTP/1.1 requests to an Envoy and measures the answers. It runs
// in a process of its own, so that its CPU time is no part of what is measured:
//
//	load.Serve(os.Stdin, os.Stdout) // in the child, until its input ends
//
//	generator, err := load.Start(os.Args[0], "load")
//	defer generator.Stop()
//	result, err := generator.Run(load.Job{Address: "127.0.0.1:8000", ...})
//
// One thread serves all connections with epoll(7). That costs 20 to 50 us of CPU a
// request, of which most is the kernel's; the net package's goroutines cost about twice
// that, which on a machine of two cores is missed by the server.
package load

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"time"
)

// A Job is one measurement.
type Job struct {
	// Address is Envoy's listener, host:port.
	Address string
	// Request is an HTTP/1.1 request. COOKIE in it becomes a cookie of Cookies.
	Request string
	// Cookies is a file with a Cookie header's value on each line, which are used in
	// turn. It is read once in the life of the process.
	Cookies string
	// Connections is how many connections there are, with one request at a time each.
	Connections int
	// Rate is how many requests arrive in a second, at random moments (Poisson), and
	// wait for a free connection. Zero: each connection sends its next request as soon
	// as it has its answer.
	Rate float64
	// Warm is how long requests are sent before the measurement of length For begins.
	Warm, For time.Duration
	// Pids are the processes whose CPU clocks are read when the measurement begins and
	// ends.
	Pids []int
}

// A Result is what a [Job] has measured.
type Result struct {
	// Answers counts the answers within the measured time, and All also those before
	// and after it.
	Answers, All int
	// Statuses counts the Answers by their HTTP status; 0 is a connection that broke.
	Statuses map[int]int
	Took     time.Duration
	// P50 and P99 are quantiles of the time to an answer: from sending, or with a Rate
	// from the moment at which the request was due.
	P50, P99 time.Duration
	// Late is how late 99 % of the requests were sent at most, with a Rate: beyond some
	// milliseconds the generator, or the machine, did not keep up.
	Late time.Duration
	// CPU is the CPU time of each of the Pids, Own the CPU time of the generator.
	CPU []time.Duration
	Own time.Duration
	// Others is how many cores the rest of the machine used, the host's share of a
	// virtual machine included.
	Others float64
}

// Serve runs jobs, in JSON one a line, until the input ends.
func Serve(in io.Reader, out io.Writer) error {
	runtime.GOMAXPROCS(1)
	runtime.LockOSThread()
	files := make(map[string][]string)
	jobs, results := json.NewDecoder(in), json.NewEncoder(out)
	for {
		var job Job
		if err := jobs.Decode(&job); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if files[job.Cookies] == nil {
			lines, err := lines(job.Cookies)
			if err != nil {
				return err
			}
			files[job.Cookies] = lines
		}
		result, err := run(job, files[job.Cookies])
		if err != nil {
			return fmt.Errorf("requests to %s: %w", job.Address, err)
		}
		if err := results.Encode(result); err != nil {
			return err
		}
	}
}

// lines are those of a file; without a file, one that is empty.
func lines(path string) ([]string, error) {
	if path == "" {
		return []string{""}, nil
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	var all []string
	scanner := bufio.NewScanner(file)
	scanner.Buffer(nil, 1<<20)
	for scanner.Scan() {
		if line := strings.TrimSpace(scanner.Text()); line != "" {
			all = append(all, line)
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%s has no cookies", path)
	}
	return all, scanner.Err()
}
