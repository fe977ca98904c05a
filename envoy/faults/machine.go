package main

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"time"

	"github.com/coatcheck/coatcheck/sessions/redisstore/redistest"
)

func cores() int { return runtime.NumCPU() }

// machine says where and when something was measured.
func machine() string {
	return fmt.Sprintf("%s, %d cores of %s, Linux %s, Go %s, %s", time.Now().UTC().Format(time.DateOnly), cores(),
		processor(), firstLine("/proc/sys/kernel/osrelease"), strings.TrimPrefix(runtime.Version(), "go"), server())
}

func firstLine(path string) string {
	text, _ := os.ReadFile(path)
	line, _, _ := strings.Cut(string(text), "\n")
	return line
}

func processor() string {
	text, _ := os.ReadFile("/proc/cpuinfo")
	if found := regexp.MustCompile(`(?m)^model name\s*: (.*)$`).FindSubmatch(text); found != nil {
		return strings.TrimSpace(string(found[1]))
	}
	return "a processor of " + runtime.GOARCH
}

// server is the program and the version of Redis: "Redis 7.0.15" or "Valkey 8.1.4".
func server() string {
	binary, err := redistest.Binary()
	if err != nil {
		return "Redis of an unknown version"
	}
	printed, _ := exec.Command(binary, "--version").Output()
	return serverOf(string(printed))
}

func serverOf(printed string) string {
	name, _, _ := strings.Cut(printed, " ")
	return name + " " + regexp.MustCompile(`\d+\.\d+\.\d+`).FindString(printed)
}
