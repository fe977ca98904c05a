package api

import (
	"errors"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/coatcheck/coatcheck/sessions/api/internal/watching"
	pb "github.com/coatcheck/coatcheck/sessions/api/sessionsv1"
)

// errUnreadable stands for every error of a decoder: those of protojson quote the message, in
// which there may be a session ID.
var errUnreadable = errors.New("it is not a message of this method")

// Of the codecs, connect-go asks for the names that media types have.
const (
	protoName   = "proto"
	jsonName    = "json"
	jsonCharset = "json; charset=utf-8"
)

// A binaryCodec is connect-go's for protobuf, whose errors say nothing of the message.
type binaryCodec struct{}

func (binaryCodec) Name() string { return protoName }

func (binaryCodec) Marshal(m any) ([]byte, error) { return proto.Marshal(m.(proto.Message)) }

// MarshalAppend spares connect-go a copy.
func (binaryCodec) MarshalAppend(b []byte, m any) ([]byte, error) {
	return proto.MarshalOptions{}.MarshalAppend(b, m.(proto.Message))
}

func (binaryCodec) Unmarshal(b []byte, m any) error {
	to := m.(proto.Message)
	// Unknown fields are kept by nothing: a later one of the proto is ignored.
	if !fewValues(b, to) || (proto.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(b, to) != nil {
		return errUnreadable
	}
	return nil
}

// A textCodec is the same for JSON.
type textCodec struct{ name string }

func (c textCodec) Name() string { return c.name }

func (textCodec) Marshal(m any) ([]byte, error) { return jsonOut.Marshal(m.(proto.Message)) }

// MarshalAppend spares connect-go a copy.
func (textCodec) MarshalAppend(b []byte, m any) ([]byte, error) {
	return jsonOut.MarshalAppend(b, m.(proto.Message))
}

// Unmarshal refuses unknown fields: in JSON, which people write, one is a typing error, and a
// question that is left out would be another question.
func (textCodec) Unmarshal(b []byte, m any) error {
	to := m.(proto.Message)
	if !fewInJSON(b, to) || (protojson.UnmarshalOptions{}).Unmarshal(b, to) != nil {
		return errUnreadable
	}
	return nil
}

// jsonOut writes false and 0, too: {"allowed": false} says more than {}.
var jsonOut = protojson.MarshalOptions{EmitDefaultValues: true}

// maxValues bounds the values of a message. An empty name takes two bytes of a message, and forty
// times that once it is decoded: a hundred messages of such would take gigabytes.
const maxValues = 2048

// valuesOf is how many values a message may have: a name is two of them.
func valuesOf(m proto.Message) int {
	if _, ok := m.(*pb.WatchRequest); ok {
		return 2*watching.MaxPerStream + maxValues
	}
	return maxValues
}

// fewValues reports whether a message in binary form has no more values than it may have. What
// is malformed is left to the decoder, which meets it after the values before it.
func fewValues(b []byte, to proto.Message) bool {
	left := valuesOf(to)
	return len(b) <= 2*left || count(b, to.ProtoReflect().Descriptor(), &left)
}

func count(b []byte, of protoreflect.MessageDescriptor, left *int) bool {
	for len(b) > 0 {
		number, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return true
		}
		value := b[n:]
		if n = protowire.ConsumeFieldValue(number, kind, value); n < 0 {
			return true
		}
		b = value[n:]
		if *left--; *left < 0 {
			return false
		}
		field := of.Fields().ByNumber(number)
		if kind != protowire.BytesType || field == nil || field.Message() == nil {
			continue
		}
		if inner, _ := protowire.ConsumeBytes(value); !count(inner, field.Message(), left) {
			return false
		}
	}
	return true
}

// fewInJSON is fewValues for JSON, where each value has a comma or a bracket before it.
func fewInJSON(b []byte, to proto.Message) bool {
	left := valuesOf(to)
	if len(b) <= 2*left {
		return true
	}
	text, escaped := false, false
	for _, c := range b {
		switch {
		case escaped:
			escaped = false
		case text && c == '\\':
			escaped = true
		case c == '"':
			text = !text
		case !text && (c == ',' || c == '{' || c == '['):
			if left--; left < 0 {
				return false
			}
		}
	}
	return true
}
