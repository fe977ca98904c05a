package answer

import (
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/encoding/protowire"
)

// A field is the number of a field on the wire.
type field = protowire.Number

// The fields that an answer has, by their messages' protos.
const (
	responseStatus   field = 1 // envoy.service.auth.v3.CheckResponse
	responseDenied   field = 2
	responseOK       field = 3
	responseMetadata field = 4

	statusCode field = 1 // google.rpc.Status

	deniedStatus  field = 1 // envoy.service.auth.v3.DeniedHttpResponse
	deniedHeaders field = 2
	deniedBody    field = 3

	okHeaders field = 2 // envoy.service.auth.v3.OkHttpResponse
	okRemove  field = 5

	httpStatusCode field = 1 // envoy.type.v3.HttpStatus

	optionHeader field = 1 // envoy.config.core.v3.HeaderValueOption
	optionAction field = 3
	headerKey    field = 1 // envoy.config.core.v3.HeaderValue
	headerValue  field = 2

	structFields field = 1 // google.protobuf.Struct
	entryKey     field = 1
	entryValue   field = 2
	valueString  field = 3 // google.protobuf.Value
)

// Every field above has a number below 16, so that its tag takes one byte.
const tagSize = 1

// AppendTo appends the bytes of [Answer.Message] to b. A message comes behind its size,
// so each is measured before it is written.
func (a *Answer) AppendTo(b []byte) []byte {
	b = appendPrefix(b, responseStatus, sizeVarint(statusCode, uint64(a.Code)))
	b = appendVarint(b, statusCode, uint64(a.Code))
	if a.denied() {
		b = a.appendDenied(b)
	} else {
		b = a.appendOK(b)
	}
	return appendStruct(b, a.Metadata)
}

func (a *Answer) appendOK(b []byte) []byte {
	size := sizeOptions(a.Set)
	for _, name := range a.Remove {
		size += sizeMessage(len(name))
	}
	b = appendPrefix(b, responseOK, size)
	b = appendOptions(b, okHeaders, a.Set)
	for _, name := range a.Remove {
		b = append(appendPrefix(b, okRemove, len(name)), name...)
	}
	return b
}

func (a *Answer) appendDenied(b []byte) []byte {
	code := uint64(a.Status)
	status := sizeVarint(httpStatusCode, code)
	b = appendPrefix(b, responseDenied, sizeMessage(status)+sizeOptions(a.Set)+sizeText(a.Body))
	b = appendPrefix(b, deniedStatus, status)
	b = appendVarint(b, httpStatusCode, code)
	b = appendOptions(b, deniedHeaders, a.Set)
	return appendText(b, deniedBody, a.Body)
}

const overwrite = uint64(corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD)

// appendOptions writes headers as repeated HeaderValueOptions.
func appendOptions(b []byte, n field, set []Header) []byte {
	for _, h := range set {
		b = appendPrefix(b, n, sizeOption(h))
		b = appendPrefix(b, optionHeader, sizePair(h))
		b = appendText(b, headerKey, h.Name)
		b = appendText(b, headerValue, h.Value)
		b = appendVarint(b, optionAction, overwrite)
	}
	return b
}

func sizeOptions(set []Header) (size int) {
	for _, h := range set {
		size += sizeMessage(sizeOption(h))
	}
	return size
}

func sizeOption(h Header) int {
	return sizeMessage(sizePair(h)) + sizeVarint(optionAction, overwrite)
}

func sizePair(h Header) int { return sizeText(h.Name) + sizeText(h.Value) }

// appendStruct writes a google.protobuf.Struct of strings. An entry of a map and a
// choice of Value are written also where they are empty.
func appendStruct(b []byte, fields []Header) []byte {
	size := 0
	for _, f := range fields {
		size += sizeMessage(sizeEntry(f))
	}
	b = appendPrefix(b, responseMetadata, size)
	for _, f := range fields {
		b = appendPrefix(b, structFields, sizeEntry(f))
		b = append(appendPrefix(b, entryKey, len(f.Name)), f.Name...)
		b = appendPrefix(b, entryValue, sizeMessage(len(f.Value)))
		b = append(appendPrefix(b, valueString, len(f.Value)), f.Value...)
	}
	return b
}

func sizeEntry(f Header) int {
	return sizeMessage(len(f.Name)) + sizeMessage(sizeMessage(len(f.Value)))
}

// appendPrefix begins a field of so many bytes.
func appendPrefix(b []byte, n field, size int) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, n, protowire.BytesType), uint64(size))
}

// sizeMessage is what a field of so many bytes takes.
func sizeMessage(size int) int { return tagSize + protowire.SizeBytes(size) }

// appendText writes a string, unless it is empty: proto3 leaves zero values out.
func appendText(b []byte, n field, s string) []byte {
	if s == "" {
		return b
	}
	return append(appendPrefix(b, n, len(s)), s...)
}

func sizeText(s string) int {
	if s == "" {
		return 0
	}
	return sizeMessage(len(s))
}

// appendVarint writes a number, unless it is zero.
func appendVarint(b []byte, n field, v uint64) []byte {
	if v == 0 {
		return b
	}
	return protowire.AppendVarint(protowire.AppendTag(b, n, protowire.VarintType), v)
}

func sizeVarint(_ field, v uint64) int {
	if v == 0 {
		return 0
	}
	return tagSize + protowire.SizeVarint(v)
}
