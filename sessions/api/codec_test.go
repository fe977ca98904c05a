package api

import (
	"runtime"
	"strconv"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/api/internal/watching"
	pb "github.com/coatcheck/coatcheck/sessions/api/sessionsv1"
)

// TestManyValues: a message of many values that take two bytes each is refused before it takes
// many times its size, and one that may be sent is not.
func TestManyValues(t *testing.T) {
	type codec interface {
		Marshal(any) ([]byte, error)
		Unmarshal([]byte, any) error
	}
	inside := func(number protowire.Number, value string) string {
		return string(protowire.AppendString(protowire.AppendTag(nil, number, protowire.BytesType), value))
	}
	empty := strings.Repeat("\x0a\x00", 400_000)
	for name, test := range map[string]struct {
		codec codec
		to    proto.Message
		text  string
	}{
		"sessions":           {binaryCodec{}, new(pb.WatchRequest), empty},
		"sessions, cut off":  {binaryCodec{}, new(pb.WatchRequest), empty + "\x0a\x7f"},
		"fields":             {binaryCodec{}, new(pb.GetRequest), strings.Repeat("\x12\x00", 400_000)},
		"roles":              {binaryCodec{}, new(pb.CheckRequest), inside(2, empty)},
		"headers":            {binaryCodec{}, new(pb.CheckRequest), inside(4, strings.Repeat("\x22\x00", 400_000))},
		"a policy's headers": {binaryCodec{}, new(pb.CheckRequest), inside(3, inside(2, strings.Repeat("\x22\x00", 400_000)))},
		"fields to add":      {binaryCodec{}, new(pb.AddFieldsRequest), strings.Repeat("\x12\x00", 400_000)},
		"questions":          {binaryCodec{}, new(pb.CheckRequest), strings.Repeat("\x12\x00", 400_000)},
		"JSON sessions":      {textCodec{jsonName}, new(pb.WatchRequest), `{"sessions":[` + strings.Repeat("{},", 300_000) + "{}]}"},
		"JSON fields":        {textCodec{jsonName}, new(pb.GetRequest), `{"fields":["\"",` + strings.Repeat(`"",`, 300_000) + `""]}`},
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		err := test.codec.Unmarshal([]byte(test.text), test.to)
		runtime.ReadMemStats(&after)
		if took := (after.TotalAlloc - before.TotalAlloc) / uint64(len(test.text)); err == nil || took > 3 {
			t.Errorf("%s: it took %d times its size: %v", name, took, err)
		}
	}
	most := new(pb.WatchRequest)
	for range watching.MaxPerStream {
		most.Sessions = append(most.Sessions, byKey(sessions.NewID().Key()))
	}
	question := &pb.CheckRequest{Session: byKey(sessions.NewID().Key()), Question: &pb.CheckRequest_Roles{Roles: new(pb.Roles)}}
	added := &pb.AddFieldsRequest{Fields: map[string]string{"cart": strings.Repeat(`{"a":[],`, 10_000)}}
	for i := range 500 {
		question.GetRoles().AnyOf = append(question.GetRoles().AnyOf, "role-"+strconv.Itoa(i))
	}
	for i := range maxFields - 1 {
		question.Fields = append(question.Fields, strconv.Itoa(i))
		added.Fields[strconv.Itoa(i)] = "1"
	}
	for _, c := range []codec{binaryCodec{}, textCodec{jsonName}} {
		for _, m := range []proto.Message{most, question, added} {
			text, err := c.Marshal(m)
			if err != nil {
				t.Fatal(err)
			}
			got := m.ProtoReflect().New().Interface()
			if err := c.Unmarshal(text, got); err != nil || !proto.Equal(got, m) {
				t.Errorf("%T in %d bytes by %T: %v", m, len(text), c, err)
			}
		}
	}
}
