package main

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/coatcheck/coatcheck/internal/strictyaml"
	"github.com/coatcheck/coatcheck/sessions/redisstore/redistest"
)

// A peer is another ext_authz server, which the reader has built. docs/performance.md
// describes the file that names them.
type peer struct {
	name        string
	command     []string // {port}, {metrics} and {redis} are replaced
	environment []string
	cookies     []string // a command that prints a Cookie header's value a line
	status      int
}

// readPeers reads a YAML file; without a path there are none.
func readPeers(path string) ([]peer, error) {
	if path == "" {
		return nil, nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var peers []peer
	d := new(strictyaml.Decoder)
	if root := d.Document(text); root != nil {
		d.List("the file", func(node *yaml.Node) {
			p := peer{status: http.StatusOK}
			d.Object(node, "a peer", map[string]strictyaml.Reader{
				"name": d.Text("name", &p.name), "command": d.Texts("command", &p.command),
				"environment": d.Texts("environment", &p.environment), "cookies": d.Texts("cookies", &p.cookies),
				"status": d.Int("status", &p.status),
			})
			if p.name == "" || len(p.command) == 0 {
				d.Wrong(node.Line, "a peer has a name and a command")
			}
			peers = append(peers, p)
		})(root)
	}
	return peers, strictyaml.Mistakes(path, d.Err())
}

func (p peer) program() program {
	return program{name: p.name, binary: p.command[0], arguments: p.command[1:], environment: p.environment}
}

// sessions runs the peer's command that makes sessions, and writes the cookies that it
// prints to a file. Without a command it is the file of Coatcheck's own.
func (p peer) sessions(w *world, own string) (string, error) {
	if len(p.cookies) == 0 {
		return own, nil
	}
	command := placeholders(":0", ":0", w.redis.Addr)(p.cookies)
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Env = append(os.Environ(), "REDISCLI_AUTH="+redistest.Password)
	printed, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			err = fmt.Errorf("%w: %s", err, strings.TrimSpace(string(exit.Stderr)))
		}
		return "", fmt.Errorf("cookies of %s: %w", p.name, err)
	}
	path := filepath.Join(w.dir, p.name+".cookies")
	return path, os.WriteFile(path, printed, 0o600)
}
