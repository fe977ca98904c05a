package stage

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
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
	inode := inodeOf(procAddr(conn.RemoteAddr()), procAddr(conn.LocalAddr()))
	if inode == "" {
		return coatcheck
	}
	for i, server := range c.servers() {
		if hasOpen(server.Pid(), "socket:["+inode+"]") {
			return replica(i)
		}
	}
	return coatcheck
}

// inodeOf finds a socket by its own address and the other side's (proc(5)). Its own is not
// enough: the kernel gives one port to connections to several addresses.
func inodeOf(own, other string) string {
	file, err := os.Open("/proc/net/tcp")
	if err != nil {
		return ""
	}
	defer func() { _ = file.Close() }()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) > 9 && fields[1] == own && fields[2] == other {
			return fields[9]
		}
	}
	return ""
}

// procAddr is an address as the kernel writes it there, on a little-endian machine.
func procAddr(addr net.Addr) string {
	at, ok := addr.(*net.TCPAddr)
	if !ok || at.IP.To4() == nil {
		return ""
	}
	ip := at.IP.To4()
	return fmt.Sprintf("%02X%02X%02X%02X:%04X", ip[3], ip[2], ip[1], ip[0], at.Port)
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
