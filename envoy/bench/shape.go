package main

import (
	"cmp"
	"fmt"
	"time"

	"github.com/coatcheck/coatcheck/envoy/bench/load"
)

// A shape is how requests arrive.
type shape struct {
	inFlight int     // a closed loop with so many connections
	rate     float64 // an open loop with so many requests a second, if it is not 0
}

func (s shape) String() string {
	if s.rate > 0 {
		return fmt.Sprintf("open loop, %.0f/s", s.rate)
	}
	return fmt.Sprintf("%d in flight", s.inFlight)
}

// openConnections are enough for the bursts of an open loop at a third of capacity.
const openConnections = 256

// A sample is one measurement of one variant. CPU is in microseconds a request.
type sample struct {
	server, redis, envoy, load float64
	p50, p99                   float64 // microseconds
	rate                       float64 // answers a second
	allocations                float64 // of the server, a request; negative: unknown
	late                       float64 // of the generator at p99, in microseconds
	others                     float64 // cores that the rest of the machine used
}

// A variant is one row of a table: a front, and the requests that are sent to it.
type variant struct {
	name    string
	front   string // the name of a front
	server  string // the name of the server behind it; empty: none
	cookies string // file of cookies
	request string // empty: browser
	status  int    // that every answer has
	hits    bool   // nearly all are the near cache's
}

// tries is how often a measurement is made that did not get the right answers, each time
// for twice as long: a machine that others use can stop a process for longer than a
// measurement takes.
const tries = 3

// mostly is how many of the checks of a row of near hits are some, warm-up included: a
// lookup must not pass for one.
const mostly = 0.9

// measure measures a variant, as often as it takes for all answers to have its status.
func (w *world) measure(v variant, s shape, warm, length time.Duration) (got sample, err error) {
	for range tries {
		if got, err = w.measureOnce(v, s, warm, length); err == nil {
			break
		}
		progress("%v; measuring it again, for longer", err)
		warm, length = 2*warm, 2*length
	}
	return got, err
}

func (w *world) measureOnce(v variant, s shape, warm, length time.Duration) (sample, error) {
	job := w.job(v, s)
	job.Warm, job.For = warm, length
	behind := w.servers[v.server]
	known := behind.hits()
	first := behind.allocations()
	before := behind.allocations()
	scrape := before - first // what a reading itself allocates
	result, err := w.load.Run(job)
	if err != nil {
		return sample{}, fmt.Errorf("%s, %v: %w", v.name, s, err)
	}
	after := behind.allocations()
	if result.Answers == 0 {
		return sample{}, fmt.Errorf("%s, %v: no answer in %v", v.name, s, length)
	}
	if wrong := result.Answers - result.Statuses[v.status]; wrong > 0 {
		return sample{}, fmt.Errorf("%s, %v: %d of %d answers were not %d: %v", v.name, s, wrong, result.Answers, v.status, result.Statuses)
	}
	if hits := (behind.hits() - known) / float64(result.All); v.hits && hits < mostly {
		return sample{}, fmt.Errorf("%s, %v: only %.0f of 100 checks were near hits", v.name, s, 100*hits)
	}
	out := sampleOf(result)
	out.allocations = -1
	if before > 0 && after > 0 {
		out.allocations = (after - before - scrape) / float64(result.All)
	}
	return out, nil
}

// job is the load of a measurement, without its times.
func (w *world) job(v variant, s shape) load.Job {
	job := load.Job{
		Address: w.fronts[v.front], Request: cmp.Or(v.request, browser), Cookies: v.cookies,
		Connections: s.inFlight, Rate: s.rate, Pids: []int{w.envoy.Pid(), w.redis.Pid()},
	}
	if s.rate > 0 {
		job.Connections = openConnections
	}
	if behind := w.servers[v.server]; behind != nil {
		job.Pids = append(job.Pids, behind.process.Pid())
	}
	return job
}

func sampleOf(r load.Result) sample {
	each := func(d time.Duration) float64 { return micros(d) / float64(r.Answers) }
	s := sample{
		envoy: each(r.CPU[0]), redis: each(r.CPU[1]), load: each(r.Own), p50: micros(r.P50), p99: micros(r.P99),
		rate: float64(r.Answers) / r.Took.Seconds(), late: micros(r.Late), others: r.Others,
	}
	if len(r.CPU) > 2 {
		s.server = each(r.CPU[2])
	}
	return s
}
