package load

import (
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/coatcheck/coatcheck/internal/testtools/testleaks"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(testleaks.Patient(m)) }

// TestParse: an answer counts once it is whole, and not before.
func TestParse(t *testing.T) {
	const answer = "HTTP/1.1 401 Unauthorized\r\ncontent-type: text/plain\r\ncontent-length: 5\r\n\r\nhello"
	for n := range len(answer) {
		if _, whole, err := parse([]byte(answer[:n])); whole || err != nil {
			t.Fatalf("the first %d bytes: whole %v, %v", n, whole, err)
		}
	}
	if status, whole, err := parse([]byte(answer)); status != 401 || !whole || err != nil {
		t.Errorf("the answer: %d, %v, %v", status, whole, err)
	}
	if status, whole, err := parse([]byte("HTTP/1.1 204 No Content\r\n\r\n")); status != 204 || !whole || err != nil {
		t.Errorf("an answer without a body: %d, %v, %v", status, whole, err)
	}
	for _, bad := range []string{"HTTP/1.1 abc\r\n\r\n", "x\r\n\r\n", "HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n"} {
		if _, _, err := parse([]byte(bad)); err == nil {
			t.Errorf("%q is an answer", bad)
		}
	}
}

// TestArrivals: the moments are in order, and about as many as the rate says.
func TestArrivals(t *testing.T) {
	const rate = 2000
	a, err := newArrivals(rate, 9*time.Second) // and one second more, for the last
	if err != nil {
		t.Fatal(err)
	}
	if !slices.IsSorted(a.at) {
		t.Error("the arrivals are not in order")
	}
	if n := len(a.at); n < 9*rate || n > 11*rate { // 14 standard deviations
		t.Errorf("%d arrivals in 10 s at %d a second", n, rate)
	}
	if a.due(a.begin) || !a.due(a.begin.Add(time.Minute)) {
		t.Error("an arrival is due at the wrong moment")
	}
}

func TestQuantile(t *testing.T) {
	times := make([]time.Duration, 101)
	for i := range times {
		times[i] = time.Duration(100 - i)
	}
	if p50, p99 := quantile(times, 0.5), quantile(times, 0.99); p50 != 50 || p99 != 99 {
		t.Errorf("p50 %v, p99 %v", p50, p99)
	}
}

// TestServeMistakes: a job that cannot run ends the generator with an error.
func TestServeMistakes(t *testing.T) {
	if err := Serve(strings.NewReader(`{"Address": "127.0.0.1:1", "Connections": 1}`), new(strings.Builder)); err == nil {
		t.Error("a job without a server has a result")
	}
	if err := Serve(strings.NewReader(""), new(strings.Builder)); err != nil {
		t.Errorf("the end of the input: %v", err)
	}
}
