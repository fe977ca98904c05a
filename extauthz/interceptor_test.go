package extauthz

import (
	"bytes"
	"context"
	"slices"
	"testing"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
)

// TestInterceptor: an interceptor of the program's gets the message that the
// generated handler would hand to it, and the check decides by what it passes on.
func TestInterceptor(t *testing.T) {
	server, err := New(oneSession{fuzzID}, Config{})
	if err != nil {
		t.Fatal(err)
	}
	var seen *authv3.CheckRequest
	var replaced any
	client := serving(t, server, grpc.UnaryInterceptor(func(ctx context.Context, message any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
		seen, _ = message.(*authv3.CheckRequest)
		if info.Server != server || info.FullMethod != authv3.Authorization_Check_FullMethodName {
			t.Errorf("%+v", info)
		}
		if replaced != nil {
			message = replaced
		}
		return next(ctx, message)
	}))
	reasonOfCheck := func() string {
		t.Helper()
		response, err := client.Check(t.Context(), browserCheck())
		if err != nil {
			t.Fatalf("an error is no verdict: %v", err)
		}
		return response.GetDynamicMetadata().GetFields()["reason"].GetStringValue()
	}
	if got := reasonOfCheck(); got != "ok" || seen.GetAttributes().GetRequest().GetHttp().GetPath() != "/x" {
		t.Errorf("%s, and the interceptor saw %v", got, seen)
	}
	other := browserCheck()
	other.GetAttributes().ContextExtensions = map[string]string{"coatcheck.session": "none"}
	if replaced = other; reasonOfCheck() != "public" {
		t.Error("what the interceptor passes on is not what is decided")
	}
	// A message of another type cannot be read: the check decides what arrived.
	if replaced = "x"; reasonOfCheck() != "ok" {
		t.Error("a message of another type")
	}
}

// verbatim sends bytes as they are.
type verbatim struct{ encoding.CodecV2 }

func (v verbatim) Marshal(m any) (mem.BufferSlice, error) {
	if b, ok := m.([]byte); ok {
		return mem.BufferSlice{mem.SliceBuffer(b)}, nil
	}
	return v.CodecV2.Marshal(m)
}

// TestInterceptorOfUnreadable: with an interceptor, too, bytes that the generated
// code cannot read are decided, and are not an error.
func TestInterceptorOfUnreadable(t *testing.T) {
	server, err := New(oneSession{fuzzID}, Config{})
	if err != nil {
		t.Fatal(err)
	}
	calls := 0
	conn := connected(t, server, grpc.UnaryInterceptor(func(ctx context.Context, message any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
		if m, ok := message.(*authv3.CheckRequest); !ok || m == nil {
			t.Errorf("the interceptor saw %T", message)
		}
		calls++
		return next(ctx, message)
	}))
	cookie := headerOnWire("cookie", "__Host-session="+fuzzID.Reveal())
	for want, message := range map[string][]byte{
		"ok":          onWire(1, onWire(4, onWire(2, onWire(2, []byte("GET")), onWire(4, []byte("/x")), onWire(5, []byte("a\xff")), onWire(13, cookie)))),
		"bad_request": {0xff},
	} {
		response := new(authv3.CheckResponse)
		err := conn.Invoke(t.Context(), authv3.Authorization_Check_FullMethodName, message, response, grpc.ForceCodecV2(verbatim{encoding.GetCodecV2("proto")}))
		if got := response.GetDynamicMetadata().GetFields()["reason"].GetStringValue(); err != nil || got != want {
			t.Errorf("%s, %v, want %s", got, err, want)
		}
	}
	if calls != 2 {
		t.Errorf("%d calls of the interceptor", calls)
	}
}

// TestInterceptorChangesUnreadable: a change to half a message cannot be decided by, and
// is not dropped either.
func TestInterceptorChangesUnreadable(t *testing.T) {
	server, err := New(oneSession{fuzzID}, Config{})
	if err != nil {
		t.Fatal(err)
	}
	message := onWire(1, onWire(10, onWire(1, []byte("coatcheck.session")), onWire(2, []byte("none"))), onWire(4, onWire(2, onWire(2, []byte("GET")), onWire(4, []byte("/x")), onWire(5, []byte("a\xff")))))
	response, err := handle(server, t.Context(), func(r any) error {
		return Codec().Unmarshal(mem.BufferSlice{mem.SliceBuffer(message)}, r)
	}, func(ctx context.Context, message any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
		message.(*authv3.CheckRequest).GetAttributes().ContextExtensions["coatcheck.session"] = "required"
		return next(ctx, message)
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := messageOf(t, response).GetDynamicMetadata().GetFields()["reason"].GetStringValue(); Reason(got) != BadRequest {
		t.Errorf("%s, want %s", got, BadRequest)
	}
}

// messageOf is the answer of handle as Envoy reads it.
func messageOf(t *testing.T, response any) *authv3.CheckResponse {
	t.Helper()
	data, err := Codec().Marshal(response)
	if err != nil {
		t.Fatal(err)
	}
	defer data.Free()
	m := new(authv3.CheckResponse)
	if err := Codec().Unmarshal(data, m); err != nil {
		t.Fatal(err)
	}
	return m
}

// TestInterceptorOfRepeatedKeys: generated code keeps one entry of a map's key, and the
// check sees all. An interceptor that changes nothing changes no verdict.
func TestInterceptorOfRepeatedKeys(t *testing.T) {
	server, err := New(oneSession{fuzzID}, Config{Bearer: true})
	if err != nil {
		t.Fatal(err)
	}
	repeated := func(n int, part []byte) []byte { return bytes.Repeat(part, n) }
	message := func(parts ...[]byte) []byte {
		http := slices.Concat([][]byte{onWire(2, []byte("GET")), onWire(4, []byte("/x")), onWire(5, []byte("a"))}, parts)
		return onWire(1, onWire(4, onWire(2, http...)))
	}
	cookie := mapHeaderOnWire("cookie", "__Host-session="+fuzzID.Reveal())
	for name, test := range map[string]struct {
		message []byte
		want    Reason
	}{
		"credentials": {message(repeated(2, mapHeaderOnWire("authorization", "Bearer "+fuzzID.Reveal()))), AmbiguousCookie},
		"lines":       {message(cookie, repeated(maxLines+1, mapHeaderOnWire("a", "b"))), BadRequest},
		"keys":        {append(message(cookie), repeated(maxKeys+1, extensionOnWire("coatcheck.session", "none"))...), BadRequest},
		"none":        {message(cookie), OK},
	} {
		decode := func(r any) error { return Codec().Unmarshal(mem.BufferSlice{mem.SliceBuffer(test.message)}, r) }
		for way, interceptor := range map[string]grpc.UnaryServerInterceptor{
			"without an interceptor": nil,
			"with an interceptor": func(ctx context.Context, message any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
				return next(ctx, message)
			},
		} {
			response, err := handle(server, t.Context(), decode, interceptor)
			if err != nil {
				t.Fatal(err)
			}
			got := messageOf(t, response).GetDynamicMetadata().GetFields()["reason"].GetStringValue()
			if Reason(got) != test.want {
				t.Errorf("%s, %s: %s, want %s", name, way, got, test.want)
			}
		}
	}
}
