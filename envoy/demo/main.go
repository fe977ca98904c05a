// Command demo shows what Coatcheck does. It runs a real Redis, Coatcheck, Envoy
// with envoy.yaml, and an upstream that echoes each request. It signs a user in
// through login's own endpoint, and prints what to open in a browser and which lines
// to paste into a terminal. With -check it runs these lines itself.
package main

import (
	"context"
	"crypto/rand"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/coatcheck/coatcheck/envoy/e2e/rig"
	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/login/passwords"
)

func main() {
	check := flag.Bool("check", false, "run the printed lines and end, with status 0 if each does as it should")
	binary := flag.String("coatcheck", "", "the coatcheck binary; built if empty")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *binary, *check); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		stop()
		os.Exit(1)
	}
}

// policies are served, and read by coatcheck explain.
const policies = "envoy/demo/policies.yaml"

// A demo is what the lines to paste are about.
type demo struct {
	*rig.Stack
	binary   string // as the lines name it
	dir      string // for the files that the lines name
	id       sessionID
	password string
}

func run(ctx context.Context, binary string, check bool) error {
	if _, err := os.Stat(policies); err != nil {
		return fmt.Errorf("it runs in the folder of the repository: %w", err)
	}
	d := &demo{binary: binary, password: rand.Text()}
	if binary == "" {
		d.binary = "go run ./cmd/coatcheck"
	}
	defer d.close()
	if err := d.start(ctx, binary); err != nil {
		return err
	}
	d.describe()
	if check {
		return d.play(ctx)
	}
	d.print()
	select {
	case <-ctx.Done():
		fmt.Println("\nEnding all programs.")
		return nil
	case <-d.Envoy.Exited():
		return fmt.Errorf("envoy ended: %s", d.Envoy.Output())
	case <-d.Coatcheck.Exited():
		return fmt.Errorf("coatcheck ended: %s", d.Coatcheck.Output())
	}
}

// start runs all programs and signs the user in.
func (d *demo) start(ctx context.Context, binary string) (err error) {
	if d.dir, err = os.MkdirTemp("", "coatcheck-demo-"); err != nil {
		return err
	}
	log, err := os.OpenFile(d.log(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	users, err := usersFile(d.password)
	if err != nil {
		return err
	}
	if err := os.WriteFile(d.redisPassword(), []byte(rig.RedisPassword(rig.ManageUser)), 0o600); err != nil {
		return err
	}
	stack, err := rig.Start(rig.Options{
		Front: front(), Coatcheck: binary, Patient: true, Users: users, Log: log,
		Arguments: []string{"--headers-fields", "tenant", "--login-url", "/.auth/login", "--policy-file", policies},
	})
	if err != nil {
		return err
	}
	d.Stack = stack
	d.id, err = signIn(ctx, stack, d.password)
	return err
}

// close ends what start has started.
func (d *demo) close() {
	if d.Stack != nil {
		d.Close()
	}
	_ = os.RemoveAll(d.dir)
}

// log and redisPassword are files, so that no password stands in the history of a shell.
func (d *demo) log() string           { return filepath.Join(d.dir, "coatcheck.log") }
func (d *demo) redisPassword() string { return filepath.Join(d.dir, "redis-password") }

// front is the address of envoy.yaml, or empty for a free one if it is taken.
func front() string {
	const usual = "127.0.0.1:8000"
	listener, err := net.Listen("tcp", usual)
	if err != nil {
		fmt.Println("Port 8000 is taken, so Envoy listens on a free one.")
		return ""
	}
	_ = listener.Close()
	return usual
}

// usersFile is one user with a fresh password.
func usersFile(password string) (string, error) {
	hash, err := passwords.HashPassword(password)
	return fmt.Sprintf(`- id: "42"
  username: ada
  password_hash: %q
  roles: [staff]
  attributes: {tenant: acme}
`, hash), err
}

// A sessionID is the demo user's.
type sessionID struct{ sessions.ID }

func (id sessionID) cookie() string { return sessions.DefaultCookieName + "=" + id.Reveal() }

// name is the session's handle, in a form that cannot be read as a flag.
func (id sessionID) name() string {
	handle := id.Key().Handle()
	if strings.HasPrefix(handle, "-") {
		return sessions.KeyPrefix + handle
	}
	return handle
}

// signIn signs the user in as a program does, and gets the cookie that a browser
// would get.
func signIn(ctx context.Context, stack *rig.Stack, password string) (sessionID, error) {
	body := fmt.Sprintf(`{"username": "ada", "password": %q}`, password)
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, stack.URL+"/.auth/login", strings.NewReader(body))
	if err != nil {
		return sessionID{}, err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		return sessionID{}, err
	}
	defer func() { _ = response.Body.Close() }()
	for _, cookie := range response.Cookies() {
		if cookie.Name == sessions.DefaultCookieName {
			id, err := sessions.ParseID(cookie.Value)
			return sessionID{id}, err
		}
	}
	return sessionID{}, fmt.Errorf("the login answered %s", response.Status)
}
