package main

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"github.com/coatcheck/coatcheck/internal/testtools"
	"github.com/coatcheck/coatcheck/sessions/redisstore/redistest"
)

// describe is a sentence on the machine, the versions and the day of a run.
func describe() string {
	load, _ := os.ReadFile("/proc/loadavg")
	return fmt.Sprintf("Measured on %s, %d cores of %s, Linux %s; Go %s, %s; Redis %s; Envoy %s with one worker. "+
		"All on one machine, over loopback. The load average at the end was %s (the run itself is part of it).",
		time.Now().UTC().Format(time.DateOnly), runtime.NumCPU(), processor(), kernel(), strings.TrimPrefix(runtime.Version(), "go"),
		modules("google.golang.org/grpc", "github.com/redis/go-redis/v9"), redisVersion(), envoyVersion(), firstFields(string(load), 1))
}

func processor() string {
	text, _ := os.ReadFile("/proc/cpuinfo")
	if found := regexp.MustCompile(`(?m)^model name\s*: (.*)$`).FindSubmatch(text); found != nil {
		return strings.TrimSpace(string(found[1]))
	}
	return "a processor of " + runtime.GOARCH
}

func kernel() string {
	text, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	return strings.TrimSpace(string(text))
}

func firstFields(text string, n int) string {
	fields := strings.Fields(text)
	return strings.Join(fields[:min(n, len(fields))], " ")
}

// modules are the versions of modules that this program is built with, too.
func modules(paths ...string) string {
	info, _ := debug.ReadBuildInfo()
	var found []string
	for _, path := range paths {
		for _, m := range info.Deps {
			if m.Path == path {
				found = append(found, m.Path+" "+m.Version)
			}
		}
	}
	return strings.Join(found, ", ")
}

var number = regexp.MustCompile(`\b\d+\.\d+\.\d+\b`)

func redisVersion() string {
	binary, err := redistest.Binary()
	return versionOf(binary, err)
}

func envoyVersion() string {
	binary, err := testtools.Program("envoy", "ENVOY")
	return versionOf(binary, err)
}

// versionOf is the first version number that a program prints of itself.
func versionOf(binary string, err error) string {
	if err != nil {
		return "of an unknown version"
	}
	printed, _ := exec.Command(binary, "--version").Output()
	return string(number.Find(printed))
}

// quiet is the most cores that the rest of the machine may use in a run that is called quiet.
const quiet = 0.5

// stillness says how quiet the machine was during measurements.
func stillness(samples []sample) string {
	busy, cores := 0, each(samples, others)
	for _, c := range cores {
		if c > quiet {
			busy++
		}
	}
	verdict := "The machine was quiet"
	if median(cores) > quiet || busy*10 > len(samples) {
		verdict = "**The machine was not quiet**: read the ratios alone, and those with care"
	}
	return fmt.Sprintf("%s: other programs, and other guests of the host, used %.2f cores in the median of %d measurements, and more than %.1f in %d of them.",
		verdict, median(cores), len(samples), quiet, busy)
}
