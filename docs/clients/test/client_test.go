package clients_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// A call is a line that a driver reads.
type call struct {
	Do        string            `json:"do"`
	ID        string            `json:"id"`
	Key       string            `json:"key"`
	Names     []string          `json:"names"`
	Mark      *string           `json:"mark"`
	UserID    string            `json:"user_id"`
	Username  string            `json:"username"`
	Roles     []string          `json:"roles"`
	Address   string            `json:"address"`
	UserAgent string            `json:"user_agent"`
	Fields    map[string]string `json:"fields"`

	URL   string `json:"url"` // of the session API
	Touch bool   `json:"touch"`
}

// An answer is the line that comes back.
type answer struct {
	ID      string   `json:"id"`
	Mark    *string  `json:"mark"`
	Session *session `json:"session"`
	Ended   bool     `json:"ended"`
	Allowed bool     `json:"allowed"`
	Reason  string   `json:"reason"`
	Revoked int      `json:"revoked"`
	Error   string   `json:"error"` // not_found, exists, ended, invalid or unknown
	Text    string   `json:"text"`  // all that the language prints of the error
}

// A session is what a client makes of a record.
type session struct {
	Key       string            `json:"key"`
	UserID    string            `json:"user_id"`
	Username  string            `json:"username"`
	Roles     []string          `json:"roles"`
	ExpiresAt int64             `json:"expires_at"`
	Fields    map[string]string `json:"fields"`
}

// A client is one language's, behind its driver. Its calls come one after the other.
type client struct {
	language      string
	login, reader string // its Redis users
	send          func(call) (answer, error)
	close         func()

	mu   sync.Mutex
	said strings.Builder // all error texts

	stderr printed // what the program has printed beside
}

func (c *client) do(t *testing.T, it call) answer {
	t.Helper()
	a, err := c.try(it)
	if err != nil {
		t.Fatalf("%s: %v", it.Do, err)
	}
	return a
}

func (c *client) try(it call) (answer, error) {
	if it.Names == nil {
		it.Names = []string{}
	}
	if it.Roles == nil {
		it.Roles = []string{}
	}
	if it.Fields == nil {
		it.Fields = map[string]string{}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	a, err := c.send(it)
	c.said.WriteString(a.Text)
	return a, err
}

// must fails unless a call went well.
func (c *client) must(t *testing.T, it call) answer {
	t.Helper()
	a := c.do(t, it)
	if a.Error != "" {
		t.Fatalf("%s: %s: %s", it.Do, a.Error, a.Text)
	}
	return a
}

// create makes a session as a login does.
func (c *client) create(t *testing.T, it call) answer {
	t.Helper()
	mark := c.must(t, call{Do: "begin", UserID: it.UserID})
	it.Do, it.Mark = "create", mark.Mark
	return c.must(t, it)
}

// languages start a client each.
var languages = []func(*stand) (*client, error){startGo, startJava, startNode, startPython}

func startJava(s *stand) (*client, error) {
	jars, err := packages("java")
	if err != nil {
		return nil, err
	}
	environment := []string{"HTTP_ADDR=" + s.address["java"], "TOMCAT_DIR=" + filepath.Join(s.dir, "tomcat")}
	classes := filepath.Join(s.dir, "java", "classes")
	return s.drive("java", environment, []string{"java"}, "java", "-Xshare:auto", "-XX:TieredStopAtLevel=1", "-cp", classes+":"+jars+"/*", "Drive")
}

func startNode(s *stand) (*client, error) {
	program, err := node()
	if err != nil {
		return nil, err
	}
	environment := []string{"HTTP_ADDR=" + s.address["express"], "NEST_ADDR=" + s.address["nest"]}
	return s.drive("node", environment, []string{"express", "nest"}, program, filepath.Join(s.dir, "node", "dist", "drive.js"))
}

func startPython(s *stand) (*client, error) {
	fetched, err := packages("python")
	if err != nil {
		return nil, err
	}
	python := filepath.Join(fetched, "bin", "python")
	return s.drive("python", []string{"HTTP_ADDR=" + s.address["python"]}, []string{"python"}, python, filepath.Join(s.dir, "python", "drive.py"))
}

// drive runs a driver until close, and waits for its HTTP servers.
func (s *stand) drive(language string, environment, serves []string, program string, arguments ...string) (*client, error) {
	_, port, _ := net.SplitHostPort(s.Redis.Addr)
	c := &client{language: language, login: "login", reader: "reader", close: func() {}}
	cmd := exec.Command(program, arguments...)
	cmd.Env = append(os.Environ(), append(environment, "REDIS_PORT="+port, "REDIS_PASSWORD="+password, "TOKEN_FILE="+s.tokenFile, "CA_FILE="+s.caFile, "NODE_EXTRA_CA_CERTS="+s.caFile)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Stderr = &c.stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", language, err)
	}
	lines := bufio.NewReader(out)
	c.send = func(it call) (answer, error) { return c.exchange(in, lines, it) }
	c.close = func() { _ = in.Close(); _ = cmd.Wait() }
	for _, service := range serves {
		if err := before(60*time.Second, func() bool { return listens(s.address[service]) }); err != nil {
			defer c.close()
			return nil, fmt.Errorf("%s does not listen: %s", service, c.stderr.String())
		}
		say("%s listens", service)
	}
	return c, nil
}

func listens(address string) bool {
	conn, err := net.DialTimeout("tcp", address, time.Second)
	if err == nil {
		_ = conn.Close()
	}
	return err == nil
}

// half stands in a call for half of a surrogate pair, which JSON can bring from a client, and which Go
// does not write.
const half = "\ue000"

// half is what is no text in the language.
func (c *client) half() string {
	if c.language == "go" {
		return "\xed\xa0\x80"
	}
	return half
}

func (c *client) exchange(in io.Writer, lines *bufio.Reader, it call) (a answer, err error) {
	line, err := json.Marshal(it)
	if err != nil {
		return a, err
	}
	line = bytes.ReplaceAll(line, []byte(half), []byte(`\ud800`))
	if _, err := in.Write(append(line, '\n')); err != nil {
		return a, err
	}
	text, err := lines.ReadBytes('\n')
	if err != nil {
		return a, fmt.Errorf("%s has ended: %w", c.language, err)
	}
	return a, json.Unmarshal(text, &a)
}

// printed keeps what a driver prints beside its answers.
type printed struct {
	mu   sync.Mutex
	text strings.Builder
}

func (p *printed) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.Write(b)
}

func (p *printed) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.String()
}
