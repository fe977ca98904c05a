package api

import (
	"errors"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
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
	// Unknown fields are kept by nothing: a later one of the proto is ignored.
	if (proto.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(b, m.(proto.Message)) != nil {
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
	if (protojson.UnmarshalOptions{}).Unmarshal(b, m.(proto.Message)) != nil {
		return errUnreadable
	}
	return nil
}

// jsonOut writes false and 0, too: {"allowed": false} says more than {}.
var jsonOut = protojson.MarshalOptions{EmitDefaultValues: true}
