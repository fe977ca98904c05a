package lane

import (
	"bufio"
	"bytes"
	"errors"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

// read1 has a lane read the replies to one call from a text.
func read1(in []byte, slides, halves bool) (*call, error) {
	var source = bufio.NewReaderSize(bytes.NewReader(in), 16<<10)
	if halves {
		source = bufio.NewReaderSize(iotest.OneByteReader(bytes.NewReader(in)), 16)
	}
	c := &call{names: names, slides: slides, until: time.UnixMilli(1)}
	return c, (&Lane{in: source}).read(c)
}

// again1 is a second, plain reading of the same.
func again1(in string, slides bool) (ttl int64, values []string, ok bool) {
	line := func() (kind, rest string) {
		text, behind, found := strings.Cut(in, "\r\n")
		if !found || text == "" {
			return "", ""
		}
		in = behind
		return text[:1], text[1:]
	}
	number := func() (n int64) {
		kind, rest := line()
		n, err := strconv.ParseInt(rest, 10, 64)
		ok = ok && kind == ":" && err == nil && rest[0] != '+'
		return n
	}
	if ok = true; slides {
		number()
	}
	kind, rest := line()
	if n, err := strconv.Atoi(rest); kind != "*" || err != nil || n != len(names) || rest[0] == '+' {
		return 0, nil, false
	}
	for range names {
		kind, rest := line()
		n, err := strconv.Atoi(rest)
		switch {
		case kind == "_" && rest == "", kind == "$" && err == nil && n == -1:
			values = append(values, "absent")
			continue
		case kind != "$", err != nil, n < 0, rest[0] == '+', len(in) < n+2, in[n:n+2] != "\r\n":
			return 0, nil, false
		}
		values = append(values, "there: "+in[:n])
		in = in[n+2:]
	}
	return number(), values, ok
}

// FuzzReplies holds the reading of replies to a plain one: what one of them takes, the
// other takes, and takes for the same. Replies with errors in them have no values.
func FuzzReplies(f *testing.F) {
	for _, seed := range []string{
		":1\r\n*4\r\n$1\r\n1\r\n$6\r\nuser 0\r\n_\r\n$-1\r\n:7200000\r\n",
		"*4\r\n$0\r\n\r\n_\r\n_\r\n_\r\n:-2\r\n", "*-1\r\n:1\r\n", ":1\r\n-WRONGTYPE x\r\n:1\r\n", "-MOVED 1 a:1\r\n-MOVED 1 a:1\r\n-MOVED 1 a:1\r\n",
		"*4\r\n$2\r\n\r\n\r\n_\r\n_\r\n_\r\n:-0\r\n", "*4\n_\n_\n_\n_\n:1\n", ":1\r\n*4\r\n_\r\n_\r\n_\r\n_\r\n:9223372036854775808\r\n", "-\r\n", "$999999999999\r\n",
	} {
		f.Add([]byte(seed), true)
		f.Add([]byte(seed), false)
	}
	f.Fuzz(func(t *testing.T, in []byte, slides bool) {
		c, err := read1(in, slides, false)
		slow, slowErr := read1(in, slides, true)
		if (err == nil) != (slowErr == nil) && !errors.Is(slowErr, errStep) { // its lines may be 16 bytes long
			t.Fatalf("at once %v, by bytes %v", err, slowErr)
		}
		ttl, values, ok := again1(string(in), slides)
		if got := err == nil && c.verdict == fine; got != ok {
			t.Fatalf("%q: taken is %v (%v), want %v", in, got, err, ok)
		}
		if !ok {
			return
		}
		for _, c := range []*call{c, slow} {
			if c == slow && slowErr != nil {
				continue
			}
			var got []string
			for _, s := range c.spans {
				if s.from < 0 {
					got = append(got, "absent")
				} else {
					got = append(got, "there: "+string(c.text[s.from:s.to]))
				}
			}
			if c.ttl != ttl || !slices.Equal(got, values) {
				t.Fatalf("%q: %d %q, want %d %q", in, c.ttl, got, ttl, values)
			}
		}
	})
}

// TestErrors: what an error of Redis does to its call, and to the lane.
func TestErrors(t *testing.T) {
	const values, ttl = "*4\r\n_\r\n_\r\n_\r\n_\r\n", ":5\r\n"
	for in, want := range map[string]verdict{
		":0\r\n" + values + ttl:                            fine,
		":0\r\n-WRONGTYPE x\r\n" + ttl:                     wrongType,
		"-WRONGTYPE x\r\n" + values + ttl:                  refused,
		"-MOVED 1 h:1\r\n-MOVED 1 h:1\r\n-MOVED 1 h:1\r\n": again,
		"-ASK 1 h:1\r\n" + values + ttl:                    again,
		":0\r\n-TRYAGAIN x\r\n" + ttl:                      again,
		"-READONLY x\r\n" + values + ttl:                   refused,
		"-NOREPLICAS x\r\n" + values + ttl:                 refused,
		":0\r\n-NOPERM x\r\n" + ttl:                        refused,
		":0\r\n" + values + "-NOPERM x\r\n":                refused,
		":0\r\n" + values + "-WRONGTYPE x\r\n":             refused,
		"-LOADING\r\n-LOADING\r\n-LOADING\r\n":             refused,
		"-MOVED x\r\n-CLUSTERDOWN x\r\n-MOVED x\r\n":       refused,
	} {
		if c, err := read1([]byte(in), true, false); err != nil || c.verdict != want {
			t.Errorf("%q: %v, %v, want %v", in, c.verdict, err, want)
		}
	}
}

// TestSlid: what is remembered of ends, as answers come.
func TestSlid(t *testing.T) {
	const redis = 1_000_000 * time.Second // its clock, when the lane's shows zero
	end := func(d time.Duration) time.Time { return time.UnixMilli((redis + d).Milliseconds()) }
	var s slid
	// answer is one at a time, of a record that lasts until.
	answer := func(at time.Duration, asked, until time.Time, slides, moved bool) bool {
		left := time.Duration(until.UnixMilli())*time.Millisecond - redis - at
		return s.note(&call{sum: 7, until: asked, slides: slides, moved: moved, ttl: left.Milliseconds()}, at, at+time.Millisecond)
	}
	known := func(until time.Time, want bool) {
		t.Helper()
		if s.known(7, until) != want {
			t.Errorf("known is %v, want %v", !want, want)
		}
	}
	known(end(time.Hour), false)
	answer(0, end(time.Hour), end(2*time.Hour), true, false) // the clock is not known yet
	known(end(time.Hour), false)
	answer(time.Second, end(time.Hour), end(time.Hour), true, true)
	answer(2*time.Second, end(time.Hour), end(time.Hour), true, false)
	known(end(time.Hour), true)
	known(end(time.Hour+1e6), false)
	known(end(time.Minute), true)
	if s.due(2*time.Second+writes) || !s.due(2*time.Second+writes+time.Millisecond) {
		t.Error("not due a second behind the last write")
	}
	if !answer(time.Minute, end(time.Hour), end(time.Hour), false, false) || !answer(time.Minute, end(time.Hour), end(3*time.Hour), false, false) {
		t.Error("what has not changed, or was prolonged, is taken for shortened")
	}
	known(end(time.Hour), true)
	if answer(time.Minute, end(time.Hour), end(time.Hour-30*time.Millisecond), false, false) {
		t.Error("what was shortened is not seen")
	}
	known(end(time.Hour), false)
	// Shortened between PEXPIREAT and PTTL: not remembered, nor is the clock for long.
	answer(time.Minute, end(time.Hour), end(time.Minute), true, true)
	known(end(time.Hour), false)
	answer(time.Minute, end(time.Hour), end(time.Hour), true, true)
	known(end(time.Hour), true)
	s.note(&call{sum: 7, until: end(time.Hour), ttl: -2}, time.Minute, time.Minute)
	known(end(time.Hour), false)
}
