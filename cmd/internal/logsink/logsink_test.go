package logsink_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/coatcheck/coatcheck/cmd/internal/logsink"
	"github.com/coatcheck/coatcheck/internal/testtools/testleaks"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(testleaks.Patient(m)) }

func TestOrder(t *testing.T) {
	var out, want bytes.Buffer
	s := logsink.New(&out, 1000)
	line := make([]byte, 0, 100)
	for i := range 1000 {
		line = fmt.Appendf(line[:0], "line %d\n", i) // as slog does, the same bytes again
		want.Write(line)
		if n, err := s.Write(line); n != len(line) || err != nil {
			t.Fatal(n, err)
		}
	}
	s.Close(time.Minute)
	if out.String() != want.String() || s.Dropped() > 0 {
		t.Errorf("%d dropped, %d bytes of %d", s.Dropped(), out.Len(), want.Len())
	}
}

// stuck takes nothing until it is released.
type stuck struct{ release chan struct{} }

func (s stuck) Write(b []byte) (int, error) { <-s.release; return len(b), nil }

// TestStuck: no writer waits for a reader that is stuck, and what it misses is
// counted.
func TestStuck(t *testing.T) {
	w := stuck{make(chan struct{})}
	s := logsink.New(w, 10)
	begin := time.Now()
	for range 1000 {
		_, _ = s.Write([]byte(strings.Repeat("x", 100)))
	}
	if took := time.Since(begin); took > 20*time.Second {
		t.Errorf("1000 lines took %v", took)
	}
	if n := s.Dropped(); n < 989 || n > 990 { // ten in the queue, and perhaps one in the writer's hands
		t.Errorf("%d dropped", n)
	}
	begin = time.Now()
	s.Close(50 * time.Millisecond)
	if took := time.Since(begin); took > 20*time.Second {
		t.Errorf("closing took %v", took)
	}
	close(w.release)
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, errors.New("broken pipe") }

func TestBroken(t *testing.T) {
	s := logsink.New(broken{}, 10)
	_, _ = s.Write([]byte("x"))
	s.Close(time.Minute)
	if s.Dropped() != 1 {
		t.Errorf("%d dropped", s.Dropped())
	}
}
