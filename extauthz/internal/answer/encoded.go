package answer

import (
	"sync"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

const (
	// usualSize holds the answer to a usual request. gRPC pools no smaller buffers than
	// of 1 KiB, and would leave one to the garbage collector.
	usualSize = 4 << 10
	// maxKept bounds a buffer that is used again: one large answer must not occupy memory
	// for good.
	maxKept = 32 << 10
)

// An Encoded is an answer in the bytes that go to Envoy. Its memory is used again once
// gRPC has sent them: what gRPC was given is not to be touched afterwards, as gRPC says
// of every message (stats.OutPayload).
//
// To a codec that does not know this type it is a message like any other.
type Encoded struct {
	bytes []byte
	given bool // to gRPC, which gives it back
	slice [1]mem.Buffer

	message *authv3.CheckResponse // for other codecs, made when one asks
}

var pool = sync.Pool{New: func() any { return &Encoded{bytes: make([]byte, 0, usualSize)} }}

// Encode writes a, whose texts must be UTF-8 ([Answer.Valid]).
func Encode(a *Answer) *Encoded {
	e := pool.Get().(*Encoded)
	e.bytes = a.AppendTo(e.bytes[:0])
	return e
}

// Give gives the bytes to gRPC, which frees them when they are sent: e is not to be used
// afterwards. Should a codec ask again before that, it gets a copy.
func (e *Encoded) Give() mem.BufferSlice {
	if e.given {
		return mem.BufferSlice{mem.SliceBuffer(append([]byte(nil), e.bytes...))}
	}
	e.given = true
	e.slice[0] = mem.NewBuffer(&e.bytes, e)
	return e.slice[:]
}

// Put is called by gRPC's buffer when its last reader has freed it. With Get it makes an
// Encoded the mem.BufferPool of its own bytes.
func (e *Encoded) Put(*[]byte) {
	if cap(e.bytes) > maxKept {
		return
	}
	e.given, e.slice[0], e.message = false, nil, nil
	pool.Put(e)
}

// Get is never called, because gRPC does not take memory from here.
func (*Encoded) Get(length int) *[]byte {
	b := make([]byte, length)
	return &b
}

// ProtoReflect makes e a message of protobuf.
func (e *Encoded) ProtoReflect() protoreflect.Message {
	if e.message == nil {
		e.message = new(authv3.CheckResponse)
		_ = proto.Unmarshal(e.bytes, e.message) // cannot fail: AppendTo wrote them
	}
	return e.message.ProtoReflect()
}

// String says nothing of the answer: by the time that a trace of gRPC's is read, e may
// be another one.
func (*Encoded) String() string { return "CheckResponse" }
