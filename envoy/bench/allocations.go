package main

import (
	"bufio"
	"net/http"
	"strconv"
	"strings"
	"time"
)

var scraper = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second}

// allocations reads how many objects a server has allocated so far; 0 if it does not say.
func (s *server) allocations() float64 { return s.metric("go_memstats_mallocs_total") }

// hits reads how many checks its near cache has answered so far.
func (s *server) hits() float64 { return s.metric(`coatcheck_near_cache_lookups_total{result="hit"}`) }

// metric reads a series of a server; 0 if it has none.
func (s *server) metric(name string) float64 {
	if s == nil || s.metrics == "" {
		return 0
	}
	response, err := scraper.Get(s.metrics)
	if err != nil {
		return 0
	}
	defer func() { _ = response.Body.Close() }()
	for scanner := bufio.NewScanner(response.Body); scanner.Scan(); {
		if value, found := strings.CutPrefix(scanner.Text(), name+" "); found {
			n, _ := strconv.ParseFloat(value, 64) // 0 if it is none
			return n
		}
	}
	return 0
}
