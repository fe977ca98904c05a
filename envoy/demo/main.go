// Command demo shows what Coatcheck does: it runs a real Redis, Coatcheck, Envoy
// with envoy.yaml and an upstream that echoes what it is sent, makes a session,
// and prints the curl commands to try. With -check it plays them itself.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/coatcheck/coatcheck/envoy/internal/rig"
	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/redisstore/redistest"
)

func main() {
	check := flag.Bool("check", false, "play the story and end, with status 0 if all went as it should")
	binary := flag.String("coatcheck", "", "the coatcheck binary; built if not named")
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
	stack, err := rig.Start(rig.Options{
		Front: front(), Coatcheck: binary, Patient: true,
		Arguments: []string{"--headers-fields", "tenant"},
	})
	if err != nil {
		return err
	}
	defer stack.Close()
	ticket, err := login(stack)
	if err != nil {
		return err
	}
	fmt.Printf("Envoy        %s  (envoy/envoy.yaml, admin %s)\n", stack.URL, stack.Admin)
	fmt.Printf("Coatcheck    %s\nRedis        %s\nupstream     http://%s  (echoes what it is sent)\n\n", stack.Checks, stack.Redis.Addr, stack.Upstream.Addr)
	if check {
		return play(ctx, stack, ticket)
	}
	explain(stack, ticket, binary)
	select {
	case <-ctx.Done():
		fmt.Println("\nEnding all of it.")
		return nil
	case <-stack.Envoy.Exited():
		return fmt.Errorf("envoy ended: %s", stack.Envoy.Output())
	case <-stack.Coatcheck.Exited():
		return fmt.Errorf("coatcheck ended: %s", stack.Coatcheck.Output())
	}
}

// front is the address that envoy.yaml names, if nobody has it.
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

// A ticket is the demo user's session.
type ticket struct {
	ID     string `json:"id"`
	Handle string `json:"handle"`
}

func (t ticket) cookie() string { return sessions.DefaultCookieName + "=" + t.ID }

// name is the handle so that it cannot be taken for a flag.
func (t ticket) name() string {
	if strings.HasPrefix(t.Handle, "-") {
		return sessions.KeyPrefix + t.Handle
	}
	return t.Handle
}

// login makes a session as a login service would.
func login(stack *rig.Stack) (t ticket, err error) {
	out, err := stack.Command("", "session", "create", "--user-id", "42", "--username", "Ada Lovelace",
		"--role", "staff", "--field", "tenant=acme", "--output", "json")
	if err != nil {
		return t, err
	}
	return t, json.Unmarshal([]byte(out), &t)
}

// explain prints the story for a person to play.
func explain(stack *rig.Stack, t ticket, binary string) {
	if binary == "" {
		binary = "go run ./cmd/coatcheck"
	}
	fmt.Printf("Ada (user 42, role staff) is signed in. In another terminal:\n\n  TICKET='%s'\n\n", t.cookie())
	for _, step := range story {
		fmt.Printf("# %s\n  ", step.title)
		if step.revoke {
			fmt.Printf("%s \\\n    %s session revoke %s\n\n", strings.Join(stack.Environment(), " "), binary, t.name())
			continue
		}
		fmt.Print("curl -i")
		if step.ticket {
			fmt.Print(` -b "$TICKET"`)
		}
		for _, header := range step.headers {
			fmt.Printf(" -H '%s'", header)
		}
		fmt.Printf(" %s%s\n\n", stack.URL, step.path)
	}
	fmt.Printf("The Redis password is %s. Ctrl-C ends all of it.\n", redistest.Password)
}
