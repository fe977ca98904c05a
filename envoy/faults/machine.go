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
	return fmt.Sprintf("%s, %d cores of %s, Linux %s, Go %s, Redis %s", time.Now().UTC().Format(time.DateOnly), cores(),
		processor(), firstLine("/proc/sys/kernel/osrelease"), strings.TrimPrefix(runtime.Version(), "go"), redisVersion())
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

func redisVersion() string {
	binary, err := redistest.Binary()
	if err != nil {
		return "of an unknown version"
	}
	printed, _ := exec.Command(binary, "--version").Output()
	return string(regexp.MustCompile(`\d+\.\d+\.\d+`).Find(printed))
}
