package rig

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// patience is how long a process may take to start or to end.
const patience = time.Minute

// A Process is a running program whose output is kept. The kernel kills it when this
// process ends.
type Process struct {
	name   string
	cmd    *exec.Cmd
	exited chan struct{}
	err    error // once exited

	mu     sync.Mutex
	output bytes.Buffer
	log    io.Writer // gets the output, too, if it is not nil
}

// Run starts a program with additional environment variables.
func Run(name, binary string, environment []string, arguments ...string) (*Process, error) {
	return runTo(nil, name, binary, environment, arguments...)
}

// RunInto is Run for a program that prints much: file gets it, and [Process.Output] is
// empty.
func RunInto(file *os.File, name, binary string, environment []string, arguments ...string) (*Process, error) {
	p := command(name, binary, environment, arguments)
	p.cmd.Stdout, p.cmd.Stderr = file, file
	return p.start()
}

// runTo is Run with a log of what the program prints.
func runTo(log io.Writer, name, binary string, environment []string, arguments ...string) (*Process, error) {
	p := command(name, binary, environment, arguments)
	p.log = log
	p.cmd.Stdout, p.cmd.Stderr = p, p
	return p.start()
}

func command(name, binary string, environment, arguments []string) *Process {
	p := &Process{name: name, cmd: exec.Command(binary, arguments...), exited: make(chan struct{})}
	p.cmd.Env = append(inherited(), environment...)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	return p
}

func (p *Process) start() (*Process, error) {
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", p.name, err)
	}
	go func() { p.err = p.cmd.Wait(); close(p.exited) }()
	return p, nil
}

// Write keeps what the program prints.
func (p *Process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.log != nil {
		_, _ = p.log.Write(b) // a demonstration's; the output is here
	}
	return p.output.Write(b)
}

// Output is what the program has printed so far.
func (p *Process) Output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.output.String()
}

// Pid is the process's ID.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

var kilobytes = regexp.MustCompile(`(?m)^(VmRSS|VmHWM):\s+(\d+) kB$`)

// Memory is the resident memory of the process, and its largest value so far, in
// bytes.
func (p *Process) Memory() (now, peak int, err error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.Pid()))
	if err != nil {
		return 0, 0, err
	}
	found := make(map[string]int)
	for _, line := range kilobytes.FindAllStringSubmatch(string(status), -1) {
		n, err := strconv.Atoi(line[2])
		if err != nil {
			return 0, 0, err
		}
		found[line[1]] = n << 10
	}
	return found["VmRSS"], found["VmHWM"], nil
}

// ResetPeak has [Process.Memory] forget the largest value so far.
func (p *Process) ResetPeak() error {
	return os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", p.Pid()), []byte("5"), 0)
}

// Answers waits until the process listens on address. It fails when the process ends
// first, or after 20 s.
func (p *Process) Answers(address string) error {
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		select {
		case <-p.exited:
			return fmt.Errorf("%s ended: %s", p.name, p.Output())
		default:
		}
		if conn, err := net.DialTimeout("tcp", address, time.Second); err == nil {
			return conn.Close()
		}
	}
	return fmt.Errorf("%s does not listen on %s: %s", p.name, address, p.Output())
}

// Signal sends a signal.
func (p *Process) Signal(s os.Signal) error { return p.cmd.Process.Signal(s) }

// Stop asks the process to end, and kills it after 20 s. It returns the result of
// exec.Cmd.Wait. On a nil Process it does nothing.
func (p *Process) Stop() error {
	if p == nil {
		return nil
	}
	_ = p.Signal(syscall.SIGTERM)
	select {
	case <-p.exited:
	case <-time.After(patience):
		_ = p.Signal(syscall.SIGKILL)
		<-p.exited
	}
	return p.err
}

// Exited is closed when the process has ended, for any reason.
func (p *Process) Exited() <-chan struct{} { return p.exited }

// inherited is the environment without the variables of tests: coatcheck refuses
// unknown variables with its prefix.
func inherited() []string {
	return slices.DeleteFunc(os.Environ(), func(variable string) bool { return strings.HasPrefix(variable, "COATCHECK_FULL=") })
}
