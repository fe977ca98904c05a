package extauthz

import (
	"github.com/coatcheck/coatcheck/extauthz/internal/answer"
	"github.com/coatcheck/coatcheck/extauthz/internal/redact"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // the codec that Codec falls back to
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/emptypb"
)

// Codec returns the gRPC codec that is made for a server of [Register]:
//
//	grpc.NewServer(grpc.ForceServerCodecV2(extauthz.Codec()))
//
// It reads only what a check needs of a CheckRequest, and writes the answer without a
// generated message. Like the service with any other codec, it reads any bytes:
// generated code fails a whole message for one byte that is not UTF-8, and gRPC
// answers that with an error, which an Envoy with failure_mode_allow takes for an
// allow (CVE-2023-27488). Every other message is left to gRPC's own codec.
func Codec() encoding.CodecV2 { return codec{encoding.GetCodecV2("proto")} }

type codec struct{ encoding.CodecV2 }

// Marshal makes sure that a verdict arrives: an answer that cannot be sent would be
// an error to Envoy. What interceptors have seen is a generated message.
func (c codec) Marshal(v any) (data mem.BufferSlice, err error) {
	switch v := v.(type) {
	case *answer.Encoded:
		return v.Give(), nil
	case *authv3.CheckResponse:
		if data, err = c.marshal(v); err != nil {
			return c.marshal(lastResort().Message())
		}
		return data, nil
	}
	return c.marshal(v)
}

func (c codec) marshal(v any) (data mem.BufferSlice, err error) {
	defer survived(&err)
	return c.CodecV2.Marshal(v)
}

func (c codec) Unmarshal(data mem.BufferSlice, v any) (err error) {
	defer survived(&err)
	r, ok := v.(*reader)
	if !ok {
		return c.CodecV2.Unmarshal(data, v)
	}
	if r.keepRaw {
		r.raw = data.Materialize()
	}
	if len(data) == 1 {
		r.fromWire(data[0].ReadOnlyData())
	} else {
		r.fromWire(data.Materialize())
	}
	return nil
}

// survived makes an error of a panic, which gRPC would let end the process.
func survived(err *error) {
	if p := recover(); p != nil {
		*err = status.Error(codes.Internal, redact.Panic(p).Error())
	}
}

// ProtoReflect lets any codec of protobuf read a message into r: as one of no fields,
// all of whose bytes end as unknown fields, which no codec checks.
func (r *reader) ProtoReflect() protoreflect.Message {
	if r.unread == nil {
		r.unread = new(emptypb.Empty)
	}
	return r.unread.ProtoReflect()
}

// String says nothing of the request, as of the answer: what gRPC keeps of it for a trace
// holds a session ID, and is soon another check's.
func (*reader) String() string { return "CheckRequest" }

// fromOtherCodec fills r from the message that another codec than [Codec] has read.
func (r *reader) fromOtherCodec() {
	if r.unread == nil {
		return
	}
	b := r.unread.ProtoReflect().GetUnknown()
	if r.keepRaw {
		r.raw = b
	}
	r.fromWire(b)
}

// fromWire fills r from the bytes of a CheckRequest and does not keep them. The
// numbers below are those of envoy/service/auth/v3/attribute_context.proto.
func (r *reader) fromWire(b []byte) {
	if !eachField(b, r.checkRequest) {
		r.malformed = true
	}
	r.finish()
}

func (r *reader) checkRequest(n protowire.Number, v []byte) bool {
	return n != 1 || eachField(v, r.attributes)
}

func (r *reader) attributes(n protowire.Number, v []byte) bool {
	switch n {
	case 1: // source
		return !r.wanted.all || eachField(v, r.source)
	case 4: // request
		return eachField(v, r.attributesRequest)
	case 10: // context_extensions
		key, value, ok := entry(v)
		if ok {
			r.extension(key, value)
		}
		return ok && !r.overfull()
	}
	return true
}

// source reads an AttributeContext.Peer.
func (r *reader) source(n protowire.Number, v []byte) bool {
	switch n {
	case 1: // address
		return eachField(v, r.sourceAddress)
	case 4:
		r.principal = r.text(v)
	}
	return true
}

// sourceAddress reads a config.core.v3.Address; the last kind of address counts.
func (r *reader) sourceAddress(n protowire.Number, v []byte) bool {
	switch n {
	case 1: // socket_address
		return eachField(v, func(n protowire.Number, v []byte) bool {
			if n == 2 {
				r.address = r.text(v)
			}
			return true
		})
	case 2, 3: // pipe, envoy_internal_address
		r.address = ""
	}
	return true
}

func (r *reader) attributesRequest(n protowire.Number, v []byte) bool {
	if n != 2 {
		return true
	}
	r.http = true
	return eachField(v, r.httpRequest)
}

func (r *reader) httpRequest(n protowire.Number, v []byte) bool {
	switch n {
	case 2:
		r.method = r.text(v)
	case 3: // headers
		name, value, ok := entry(v)
		if ok {
			r.mapHeader(name, value)
		}
		return ok && !r.overfull()
	case 4:
		r.path = r.text(v)
	case 5:
		r.host = r.text(v)
	case 6:
		if r.wanted.all {
			r.scheme = r.text(v)
		}
	case 13: // header_map
		return eachField(v, r.headerMap)
	}
	return true
}

func (r *reader) headerMap(n protowire.Number, v []byte) bool {
	if n != 1 {
		return true
	}
	var name, value, raw []byte
	ok := eachField(v, func(n protowire.Number, v []byte) bool {
		switch n {
		case 1:
			name = v
		case 2:
			value = v
		case 3:
			raw = v
		}
		return true
	})
	if len(raw) > 0 {
		value = raw
	}
	if ok {
		r.header(name, value)
	}
	return ok && !r.overfull()
}

// entry reads the key and the value of a map's entry.
func entry(b []byte) (key, value []byte, ok bool) {
	ok = eachField(b, func(n protowire.Number, v []byte) bool {
		switch n {
		case 1:
			key = v
		case 2:
			value = v
		}
		return true
	})
	return key, value, ok
}

// eachField calls visit for each length-delimited field of a message, until it
// returns false, and reports whether the message was sound to the end. Every
// field read here is length-delimited; other fields are skipped, as proto.Unmarshal
// skips a known field of the wrong type.
func eachField(b []byte, visit func(n protowire.Number, v []byte) bool) bool {
	for len(b) > 0 {
		n, kind, size := protowire.ConsumeTag(b)
		if size < 0 {
			return false
		}
		b = b[size:]
		if kind != protowire.BytesType {
			if size = protowire.ConsumeFieldValue(n, kind, b); size < 0 {
				return false
			}
			b = b[size:]
			continue
		}
		v, size := protowire.ConsumeBytes(b)
		if size < 0 || !visit(n, v) {
			return false
		}
		b = b[size:]
	}
	return true
}
