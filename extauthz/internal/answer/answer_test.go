package answer_test

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/coatcheck/coatcheck/extauthz/internal/answer"
)

// same holds the bytes of an answer to its generated message, and both to Valid.
func same(t *testing.T, a *answer.Answer) {
	t.Helper()
	generated, err := proto.Marshal(a.Message())
	if valid := err == nil; valid != a.Valid() {
		t.Fatalf("%+v: Valid is %v, and generated code says %v", a, a.Valid(), err)
	}
	if err != nil {
		return
	}
	got := new(authv3.CheckResponse)
	written := a.AppendTo([]byte("before"))
	if !bytes.HasPrefix(written, []byte("before")) {
		t.Fatalf("what was there is gone: %q", written)
	}
	written = written[len("before"):]
	if err := proto.Unmarshal(written, got); err != nil {
		t.Fatalf("%+v: generated code cannot read %q: %v", a, written, err)
	}
	if !proto.Equal(got, a.Message()) {
		t.Fatalf("%+v\nis on the wire %v\nand in the message %v", a, got, a.Message())
	}
	if len(written) != len(generated) {
		t.Fatalf("%+v: %d bytes, and %d of generated code", a, len(written), len(generated))
	}
}

// dice fall alike in every run.
type dice uint64

func (d *dice) IntN(n int) int {
	*d = *d*6364136223846793005 + 1442695040888963407
	return int(*d>>33) % n
}

// random makes answers of every shape: empty texts, long ones, and some that are not
// UTF-8.
func random(r *dice) *answer.Answer {
	text := func() string {
		switch r.IntN(12) {
		case 0:
			return ""
		case 1:
			return strings.Repeat("ö", r.IntN(9000))
		case 2:
			if r.IntN(8) == 0 {
				return "\xff"
			}
		}
		return strings.Repeat("x", r.IntN(140))
	}
	headers := func() (list []answer.Header) {
		for range r.IntN(5) {
			list = append(list, answer.Header{Name: text(), Value: text()})
		}
		return list
	}
	a := &answer.Answer{Set: headers()}
	for i, h := range headers() {
		a.Metadata = append(a.Metadata, answer.Header{Name: fmt.Sprint(i, h.Name), Value: h.Value})
	}
	if r.IntN(2) == 0 {
		a.Status, a.Code, a.Body = r.IntN(600), codes.Code(r.IntN(17)), text()
	}
	for range r.IntN(4) {
		a.Remove = append(a.Remove, text())
	}
	if a.Status != 0 {
		a.Remove = nil
	} else {
		a.Body = ""
	}
	return a
}

func TestWireIsMessage(t *testing.T) {
	same(t, new(answer.Answer))
	same(t, &answer.Answer{Status: 503, Code: codes.Unavailable, Metadata: []answer.Header{{}}})
	same(t, &answer.Answer{Set: []answer.Header{{Name: strings.Repeat("n", 200), Value: strings.Repeat("v", 70_000)}}, Status: -1})
	r := dice(1)
	n := 500
	if os.Getenv("COATCHECK_FULL") != "" {
		n = 20_000
	}
	for range n {
		same(t, random(&r))
	}
}

// FuzzWireIsMessage: of any texts, the bytes are what the generated message is.
func FuzzWireIsMessage(f *testing.F) {
	f.Add("x-user-id", "42", "x_user_id", "", "ok", 0, uint8(0))
	f.Add("www-authenticate", "Session", "", "Sign in to continue.\n", "no_cookie", 401, uint8(16))
	f.Add("a\xff", "", "\xff", "\xff", "\xff", 302, uint8(255))
	f.Add(strings.Repeat("n", 200), "v", "", "", "", -1, uint8(1))
	f.Fuzz(func(t *testing.T, name, value, remove, body, reason string, status int, code uint8) {
		a := &answer.Answer{
			Status: int(int32(status)), Code: codes.Code(code),
			Set:      []answer.Header{{Name: name, Value: value}, {Name: value, Value: name}},
			Metadata: []answer.Header{{Name: "reason", Value: reason}, {Name: "x" + name, Value: body}},
		}
		if a.Status == 0 {
			a.Remove = []string{remove, name}
		} else {
			a.Body = body
		}
		same(t, a)
	})
}

// TestEncodedOnce: answers at the same time share no memory while gRPC holds them, with
// any number of references, and each comes back once.
func TestEncodedOnce(t *testing.T) {
	var all sync.WaitGroup
	for worker := range 8 {
		all.Go(func() {
			for i := range 2000 {
				body := fmt.Sprint(worker, " ", i, strings.Repeat("x", i*7%5000))
				want := (&answer.Answer{Status: 403, Body: body}).AppendTo(nil)
				data := answer.Encode(&answer.Answer{Status: 403, Body: body}).Give()
				data.Ref() // as the writer of the connection does, which ends later
				read := make(chan bool)
				go func() {
					defer data.Free()
					read <- bytes.Equal(data.Materialize(), want)
				}()
				data.Free()
				if !<-read {
					t.Errorf("%s became another answer", body[:8])
					return
				}
			}
		})
	}
	all.Wait()
}

// TestEncodedIsMessage: other codecs can marshal an Encoded, and nothing prints what is
// in it.
func TestEncodedIsMessage(t *testing.T) {
	a := &answer.Answer{Status: 403, Code: codes.PermissionDenied, Body: "no"}
	e := answer.Encode(a)
	b, err := proto.Marshal(e)
	got := new(authv3.CheckResponse)
	if err != nil || proto.Unmarshal(b, got) != nil || !proto.Equal(got, a.Message()) {
		t.Errorf("%v, %v", got, err)
	}
	if text := fmt.Sprintf("%+v", e); text != "CheckResponse" {
		t.Errorf("it prints %s", text)
	}
	data := e.Give()
	defer func() {
		if recover() == nil {
			t.Error("it can be freed twice")
		}
	}()
	data.Free()
	data.Free()
}

func BenchmarkAnswer(b *testing.B) {
	a := &answer.Answer{
		Set:    []answer.Header{{Name: "x-user-id", Value: "42"}, {Name: "x-user-name", Value: "Ada"}, {Name: "x-user-roles", Value: "staff"}, {Name: "x-user-session", Value: "session:" + strings.Repeat("a", 43)}},
		Remove: []string{"cookie"}, Metadata: []answer.Header{{Name: "reason", Value: "ok"}, {Name: "session", Value: "aaaaaaaaaaaa"}},
	}
	b.Run("bytes", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			answer.Encode(a).Give().Free()
		}
	})
	b.Run("generated", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := proto.Marshal(a.Message()); err != nil {
				b.Fatal(err)
			}
		}
	})
}
