package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/coatcheck/coatcheck/envoy/e2e/rig"
	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/redisstore"
)

// A result is one measurement; CPU is in microseconds a request.
type result struct {
	server, redis, envoy float64
	p50, p99             time.Duration
	rate                 float64 // requests a second
}

// login makes n sessions and returns their cookies.
func login(stack *rig.Stack, n int) ([]string, error) {
	client := stack.Redis.Client()
	defer func() { _ = client.Close() }()
	manager, err := sessions.NewManager(redisstore.New(client, redisstore.Config{}), sessions.Config{})
	if err != nil {
		return nil, err
	}
	cookies := make([]string, n)
	for i := range cookies {
		id, _, err := manager.Create(context.Background(), sessions.NewSession{
			UserID: fmt.Sprint("user-", i), Username: "Ada Lovelace", Roles: []string{"staff", "buyer", "editor"},
		})
		if err != nil {
			return nil, err
		}
		cookies[i] = sessions.DefaultCookieName + "=" + id.Reveal()
	}
	return cookies, nil
}

// browser is a browser's request; %s is the session cookie.
const browser = "GET /api/items?page=2 HTTP/1.1\r\nHost: shop.example\r\n" +
	"User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/129.0.0.0 Safari/537.36\r\n" +
	"Accept: application/json, text/plain, */*\r\nAccept-Language: en-GB,en;q=0.9,de;q=0.8\r\nAccept-Encoding: gzip, deflate, br, zstd\r\n" +
	"Referer: https://shop.example/items\r\nOrigin: https://shop.example\r\nSec-Fetch-Site: same-origin\r\nSec-Fetch-Mode: cors\r\nSec-Fetch-Dest: empty\r\n" +
	"Sec-Ch-Ua: \"Google Chrome\";v=\"129\", \"Not=A?Brand\";v=\"8\"\r\nSec-Ch-Ua-Mobile: ?0\r\nSec-Ch-Ua-Platform: \"Linux\"\r\nDnt: 1\r\n" +
	"Cookie: _ga=GA1.1.1234567890.1234567890; theme=dark; %s\r\n\r\n"

// measure sends count requests over as many connections as there are clients.
func measure(stack *rig.Stack, cookies []string, clients, count int) (result, error) {
	pids := []int{stack.Coatcheck.Pid(), stack.Redis.Pid(), stack.Envoy.Pid()}
	before, err := cpu(pids)
	if err != nil {
		return result{}, err
	}
	var next atomic.Int64
	latencies := make([][]time.Duration, clients)
	errs := make(chan error, clients)
	begin := time.Now()
	var wg sync.WaitGroup
	for client := range clients {
		wg.Go(func() {
			errs <- drive(stack, cookies, &next, int64(count), &latencies[client])
		})
	}
	wg.Wait()
	took := time.Since(begin)
	for range clients {
		if err := <-errs; err != nil {
			return result{}, err
		}
	}
	after, err := cpu(pids)
	if err != nil {
		return result{}, err
	}
	all := slices.Concat(latencies...)
	slices.Sort(all)
	each := func(i int) float64 { return micros(after[i]-before[i]) / float64(count) }
	return result{
		server: each(0), redis: each(1), envoy: each(2),
		p50: all[len(all)/2], p99: all[len(all)*99/100],
		rate: float64(count) / took.Seconds(),
	}, nil
}

// drive sends requests on one connection until there have been count of them.
func drive(stack *rig.Stack, cookies []string, next *atomic.Int64, count int64, latencies *[]time.Duration) error {
	conn, err := net.Dial("tcp", strings.TrimPrefix(stack.URL, "http://"))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(2 * time.Minute))
	reader := bufio.NewReader(conn)
	for {
		i := next.Add(1)
		if i > count {
			return nil
		}
		begin := time.Now()
		if _, err := fmt.Fprintf(conn, browser, cookies[int(i)%len(cookies)]); err != nil {
			return err
		}
		response, err := http.ReadResponse(reader, nil)
		if err != nil {
			return err
		}
		if _, err := io.Copy(io.Discard, response.Body); err != nil {
			return err
		}
		_ = response.Body.Close()
		if response.StatusCode != http.StatusOK {
			return fmt.Errorf("status %d", response.StatusCode)
		}
		*latencies = append(*latencies, time.Since(begin))
	}
}

// cpu reads the CPU clock of each process, all threads together (the encoding
// of such a clock's ID is the kernel's, see clock_getcpuclockid(3)).
func cpu(pids []int) ([]time.Duration, error) {
	clocks := make([]time.Duration, len(pids))
	for i, pid := range pids {
		const scheduler = 2
		var ts unix.Timespec
		if err := unix.ClockGettime(int32(^pid<<3|scheduler), &ts); err != nil {
			return nil, fmt.Errorf("reading the CPU clock of process %d: %w", pid, err)
		}
		clocks[i] = time.Duration(ts.Nano())
	}
	return clocks, nil
}
