package redisstore_test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/redisstore"
)

// asProgram is the variable with which TestMain runs beAsProgram in place of tests.
const asProgram = "REDISSTORE_AS_PROGRAM"

// TestQuiet: a program that only imports the package reads no line of go-redis's on its
// standard error, however often it cannot dial. The program is this one again, because
// TestMain sets a logger for the tests.
func TestQuiet(t *testing.T) {
	t.Parallel()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), asProgram+"=1")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil || !strings.Contains(out.String(), "refused: true") {
		t.Fatalf("%v: %s", err, out.String())
	}
	if strings.Contains(out.String(), "redis:") || strings.Contains(out.String(), "dial after") {
		t.Errorf("go-redis logs: %s", out.String())
	}
}

// beAsProgram fails to dial, a dozen times.
func beAsProgram() {
	client, err := redisstore.NewClient(redisstore.At("127.0.0.1:1"))
	if err != nil {
		panic(err)
	}
	defer client.Close()
	store := redisstore.New(client, redisstore.Config{})
	refused := false
	for range 12 {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		_, err = store.Read(ctx, nil, sessions.NewID().Key())
		cancel()
		refused = err != nil && !sessions.Absent(err)
	}
	if refused {
		os.Stdout.WriteString("refused: true\n")
	}
}
