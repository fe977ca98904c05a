package stage

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
)

// A census knows which process opens a connection: those of Redis have a loopback address
// each, from which they open all of theirs (bind-source-addr), and replicas of Coatcheck,
// which know no such setting, are told apart by who has the socket open.
type census struct {
	mu      sync.Mutex
	sources map[string]source // by IP address
	servers func() []Server
}

func replica(i int) source { return source(fmt.Sprintf("%s-%d", coatcheck, i)) }

// enroll returns the address from which a process opens its connections. The kernel has
// 16 million of them on the loopback interface.
func (c *census) enroll(name source) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	ip := fmt.Sprintf("127.20.0.%d", len(c.sources)+1)
	c.sources[ip] = name
	return ip
}

// source is coatcheck for every address that no process of Redis has.
func (c *census) source(client net.Addr) source {
	c.mu.Lock()
	defer c.mu.Unlock()
	if host, _, err := net.SplitHostPort(client.String()); err == nil && c.sources[host] != "" {
		return c.sources[host]
	}
	return coatcheck
}

// replica is the replica of Coatcheck that has the other end of a connection open, or
// coatcheck where none has.
func (c *census) replica(conn *net.TCPConn) source {
	inode, err := inodeOf(conn.RemoteAddr(), conn.LocalAddr())
	if err != nil {
		return coatcheck
	}
	for i, server := range c.servers() {
		if hasOpen(server.Pid(), fmt.Sprintf("socket:[%d]", inode)) {
			return replica(i)
		}
	}
	return coatcheck
}

func hasOpen(pid int, name string) bool {
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return false
	}
	for _, entry := range entries {
		if target, err := os.Readlink(filepath.Join(dir, entry.Name())); err == nil && target == name {
			return true
		}
	}
	return false
}
