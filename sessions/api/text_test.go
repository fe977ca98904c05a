package api

import (
	"context"
	"testing"

	"connectrpc.com/connect"

	"github.com/coatcheck/coatcheck/sessions"
	pb "github.com/coatcheck/coatcheck/sessions/api/sessionsv1"
)

// TestWhatOthersWrote: programs of other languages write records, too, and any bytes in their
// fields. What a message cannot hold is said, by each protocol, and is no bug; what is not
// asked for does no harm.
func TestWhatOthersWrote(t *testing.T) {
	s := newStand(t, nil)
	client := s.redis.Client()
	defer client.Close()
	if err := client.HSet(context.Background(), string(s.key), "theme", "\x1f\x8b\xff", sessions.FieldCreatedAt, "0000-01-01T00:00:00Z").Err(); err != nil {
		t.Fatal(err)
	}
	for name, options := range map[string][]connect.ClientOption{"json": {connect.WithProtoJSON()}, "grpc": {connect.WithGRPC()}} {
		c := s.as("all", options...)
		if got := must(t, c.Get, &pb.GetRequest{Session: byKey(s.key), Fields: []string{"cart"}}).GetSession(); got.GetFields()["cart"] == "" || got.GetCreatedAt() != nil {
			t.Errorf("%s: %v", name, got)
		}
		_, err := ask(t, c.Get, &pb.GetRequest{Session: byKey(s.key), Fields: []string{"cart", "theme"}})
		wantCode(t, name+": Get", err, connect.CodeUnimplemented)
		_, err = ask(t, c.Check, &pb.CheckRequest{Session: byKey(s.key), Question: anyOf("staff"), Fields: []string{"theme"}})
		wantCode(t, name+": Check", err, connect.CodeUnimplemented)
	}
}
