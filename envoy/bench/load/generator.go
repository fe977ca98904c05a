package load

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
)

// A Generator is a process that runs [Serve]. It is not safe for concurrent use.
type Generator struct {
	cmd     *exec.Cmd
	jobs    io.WriteCloser
	encoder *json.Encoder
	results *json.Decoder
}

// Start starts a program that calls [Serve]. The kernel kills it when this process ends.
func Start(program string, args ...string) (*Generator, error) {
	cmd := exec.Command(program, args...)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	jobs, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	results, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting the load generator: %w", err)
	}
	return &Generator{cmd, jobs, json.NewEncoder(jobs), json.NewDecoder(results)}, nil
}

// Run runs a job to its end.
func (g *Generator) Run(job Job) (Result, error) {
	var result Result
	if err := g.encoder.Encode(job); err != nil {
		return result, err
	}
	err := g.results.Decode(&result)
	if errors.Is(err, io.EOF) {
		err = errors.New("the load generator has ended")
	}
	return result, err
}

// Stop ends the process.
func (g *Generator) Stop() error {
	_ = g.jobs.Close()
	return g.cmd.Wait()
}
