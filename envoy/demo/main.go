// Command demo shows what Coatcheck does. It runs a real Redis, Coatcheck, Envoy
// with envoy.yaml, and an upstream that echoes each request. It signs a user in
// through login's own endpoint, and prints what to open in a browser and which curl
// commands to try. With -check it sends these requests itself.
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
	"strings"
	"syscall"

	"github.com/coatcheck/coatcheck/envoy/e2e/rig"
	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/login/passwords"
)

func main() {
	check := flag.Bool("check", false, "send the requests and end, with status 0 if each answer is as expected")
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

func run(ctx context.Context, binary string, check bool) error {
	password := rand.Text()
	users, err := usersFile(password)
	if err != nil {
		return err
	}
	stack, err := rig.Start(rig.Options{
		Front: front(), Coatcheck: binary, Patient: true, Users: users,
		Arguments: []string{"--headers-fields", "tenant", "--login-url", "/.auth/login"},
	})
	if err != nil {
		return err
	}
	defer stack.Close()
	id, err := signIn(ctx, stack, password)
	if err != nil {
		return err
	}
	fmt.Printf("Envoy        %s  (envoy/envoy.yaml, admin %s)\n", stack.URL, stack.Admin)
	fmt.Printf("Coatcheck    %s\nRedis        %s\nupstream     http://%s  (echoes each request)\n\n", stack.Checks, stack.Redis.Addr, stack.Upstream.Addr)
	if check {
		return play(ctx, stack, id)
	}
	explain(stack, id, password, binary)
	select {
	case <-ctx.Done():
		fmt.Println("\nEnding all programs.")
		return nil
	case <-stack.Envoy.Exited():
		return fmt.Errorf("envoy ended: %s", stack.Envoy.Output())
	case <-stack.Coatcheck.Exited():
		return fmt.Errorf("coatcheck ended: %s", stack.Coatcheck.Output())
	}
}

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

// explain prints the steps for the reader to try.
func explain(stack *rig.Stack, id sessionID, password, binary string) {
	if binary == "" {
		binary = "go run ./cmd/coatcheck"
	}
	fmt.Printf("In a browser:   %s/   and sign in as ada, with the password %s\n", stack.URL, password)
	fmt.Printf("                %s/.auth/sessions   shows where ada is signed in\n\n", stack.URL)
	fmt.Printf("In a terminal:  ada (user 42, role staff) has signed in there, too\n\n  COOKIE='%s'\n\n", id.cookie())
	for _, step := range story {
		fmt.Printf("# %s\n  ", step.title)
		if step.revoke {
			fmt.Printf("%s \\\n    %s session revoke %s\n\n", strings.Join(stack.Environment(), " "), binary, id.name())
			continue
		}
		fmt.Print("curl -i")
		if step.signedIn {
			fmt.Print(` -b "$COOKIE"`)
		}
		for _, header := range step.headers {
			fmt.Printf(" -H '%s'", header)
		}
		fmt.Printf(" %s%s\n\n", stack.URL, step.path)
	}
	fmt.Print("Ctrl-C ends all programs.\n")
}
