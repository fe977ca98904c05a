package serve

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/coatcheck/coatcheck/internal/notice"
	"github.com/coatcheck/coatcheck/sessions"
	pb "github.com/coatcheck/coatcheck/sessions/api/sessionsv1"
	"github.com/coatcheck/coatcheck/sessions/api/sessionsv1/sessionsv1connect"
	"github.com/coatcheck/coatcheck/sessions/redisstore"
	"github.com/coatcheck/coatcheck/sessions/redisstore/redistest"
)

const oneWatcher = "callers:\n- {name: chat, token_file: TOKEN, rights: [watch, by_id]}\n"

// trackingRights are those that docs/near-cache.md adds.
var trackingRights = []string{"+client|tracking", "+subscribe", "+role", "&coatcheck:near"}

// watchSessions opens a stream by gRPC.
func watchSessions(t *testing.T, addr string, names ...*pb.SessionName) grpc.ServerStreamingClient[pb.WatchResponse] {
	t.Helper()
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	ctx, cancel := context.WithTimeout(metadata.AppendToOutgoingContext(context.Background(), "authorization", "Bearer "+apiToken), 5*time.Minute)
	t.Cleanup(cancel)
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, sessionsv1connect.SessionServiceWatchProcedure)
	if err != nil {
		t.Fatal(err)
	}
	x := &grpc.GenericClientStream[pb.WatchRequest, pb.WatchResponse]{ClientStream: stream}
	if err := x.SendMsg(&pb.WatchRequest{Sessions: names}); err != nil {
		t.Fatal(err)
	}
	if err := x.CloseSend(); err != nil {
		t.Fatal(err)
	}
	return x
}

func byKey(id sessions.ID) *pb.SessionName {
	return &pb.SessionName{Name: &pb.SessionName_Key{Key: string(id.Key())}}
}

func byID(id sessions.ID) *pb.SessionName {
	return &pb.SessionName{Name: &pb.SessionName_Id{Id: id.Reveal()}}
}

// hear returns the next message with ends, or the first one.
func hear(t *testing.T, r *running, stream grpc.ServerStreamingClient[pb.WatchResponse]) *pb.WatchResponse {
	t.Helper()
	m, err := stream.Recv()
	if err != nil {
		t.Fatalf("%v\n%s", err, r.log)
	}
	return m
}

func revokeSession(t *testing.T, server *redistest.Server, id sessions.ID) {
	t.Helper()
	client := server.Client()
	defer client.Close()
	m, err := sessions.NewManager(redisstore.New(client, redisstore.Config{}), sessions.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Revoke(t.Context(), id.Key()); err != nil {
		t.Fatal(err)
	}
}

// TestAPIWatch: the process tells of ends by gRPC and to curl, connects for that when there
// is a stream, has metrics of it, and ends its streams when it drains, at once.
func TestAPIWatch(t *testing.T) {
	t.Parallel() // it waits
	server := redistest.Start(t)
	admin := free(t)
	c, _ := apiAlone(t, server.Addr, oneWatcher, "admin: {listen: "+admin+"}")
	c.RedisUsername = user(t, server, "coatcheck-api", trackingRights...)
	r := launchAPI(t, c)
	direct := server.Client()
	defer direct.Close()
	tracking := func() bool {
		list, err := direct.Do(t.Context(), "client", "list", "type", "pubsub").Text()
		return err == nil && list != ""
	}
	if tracking() {
		t.Error("it tracks without a stream")
	}
	first, _ := signIn(t, server)
	second, _ := signIn(t, server)
	third, _ := signIn(t, server)
	stream := watchSessions(t, c.APIListen, byKey(first), byID(second), byID(third))
	if m := hear(t, r, stream); m.GetLive() != 3 {
		t.Fatalf("first: %v", m)
	}
	for !tracking() {
		time.Sleep(time.Millisecond)
	}
	revokeSession(t, server, second)
	if m := hear(t, r, stream); len(m.GetEnded()) != 1 || m.GetEnded()[0].GetIndex() != 1 || m.GetEnded()[0].GetHandle() != second.Key().Handle() {
		t.Errorf("told of %v", m)
	}
	inJSON := curlWatch(t, apiURL(c, "Watch"), `{"sessions": [{"id": "`+first.Reveal()+`"}, {"id": "`+second.Reveal()+`"}]}`)
	var got struct {
		Ended []struct {
			Index          int
			Handle, Reason string
		}
		Live int
	}
	if err := json.Unmarshal(inJSON(), &got); err != nil || got.Live != 1 || len(got.Ended) != 1 || got.Ended[0].Reason != "not_found" {
		t.Errorf("JSON: %+v, %v", got, err)
	}
	revokeSession(t, server, first)
	if err := json.Unmarshal(inJSON(), &got); err != nil || got.Live != 0 || len(got.Ended) != 1 || got.Ended[0].Handle != first.Key().Handle() {
		t.Errorf("JSON: %+v, %v", got, err)
	}
	hear(t, r, stream)
	for _, want := range []string{"coatcheck_api_watch_streams 1", "coatcheck_api_watch_sessions 3", "coatcheck_api_watch_tracked 1", `coatcheck_api_watch_ends_total{reason="not_found"} 4`} {
		_, text := get(t, "http://"+admin+"/metrics")
		for end := time.Now().Add(time.Minute); !strings.Contains(text, want); _, text = get(t, "http://"+admin+"/metrics") {
			if time.Now().After(end) {
				t.Fatalf("the metrics have no %s", want)
			}
		}
	}
	began := time.Now()
	r.stop()
	if _, err := stream.Recv(); status.Code(err) != codes.Unavailable {
		t.Errorf("when it drains: %v", err)
	}
	if err := <-r.ended; err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > 9*time.Second { // the grace is 10 s
		t.Errorf("it drained for %v", took)
	}
	log := r.log.String()
	if strings.Contains(log, first.Reveal()) || strings.Contains(log, second.Reveal()) || strings.Contains(log, "cut off") || strings.Contains(log, "NOPERM") {
		t.Errorf("the log: %s", log)
	}
}

// curlWatch opens a stream as curl can, and returns what reads its messages.
func curlWatch(t *testing.T, url, body string) func() []byte {
	t.Helper()
	frame := binary.BigEndian.AppendUint32([]byte{0}, uint32(len(body)))
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	t.Cleanup(cancel)
	q, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(string(frame)+body))
	if err != nil {
		t.Fatal(err)
	}
	q.Header.Set("Content-Type", "application/connect+json")
	q.Header.Set("Authorization", "Bearer "+apiToken)
	a, err := plainClient(t).Do(q)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.Body.Close() })
	return func() []byte {
		t.Helper()
		head := make([]byte, 5)
		if _, err := io.ReadFull(a.Body, head); err != nil {
			t.Fatal(err)
		}
		text := make([]byte, binary.BigEndian.Uint32(head[1:]))
		if _, err := io.ReadFull(a.Body, text); err != nil {
			t.Fatal(err)
		}
		return text
	}
}

// TestAPIWatchRights: a Redis user that may not have Redis tell of changes is said in a
// notice, and ends are told of later.
func TestAPIWatchRights(t *testing.T) {
	t.Parallel() // it waits
	server := redistest.Start(t)
	c, _ := apiAlone(t, server.Addr, oneWatcher)
	c.RedisUsername = user(t, server, "coatcheck-api")
	r := launchAPI(t, c)
	id, _ := signIn(t, server)
	stream := watchSessions(t, c.APIListen, byKey(id))
	if m := hear(t, r, stream); m.GetLive() != 1 {
		t.Fatalf("first: %v", m)
	}
	r.logs(t, `"notice":"`+string(notice.NearCacheOff)+`"`)
	revokeSession(t, server, id)
	began := time.Now()
	if m := hear(t, r, stream); len(m.GetEnded()) != 1 {
		t.Errorf("told of %v", m)
	}
	if took := time.Since(began); took > 30*time.Second {
		t.Errorf("told after %v", took)
	}
	if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("the end: %v", err)
	}
}

// TestAPIWatchLasts: a stream outlives the time limits of calls, over HTTP/2 and HTTP/1.1, and
// says so; one whose caller reads nothing at all, not even pings, ends.
func TestAPIWatchLasts(t *testing.T) {
	if os.Getenv("COATCHECK_FULL") != "1" {
		t.Skip("takes a minute: COATCHECK_FULL=1")
	}
	server := redistest.Start(t)
	admin := free(t)
	c, _ := apiAlone(t, server.Addr, oneWatcher, "admin: {listen: "+admin+"}")
	r := launchAPI(t, c)
	id, _ := signIn(t, server)
	deafWatch(t, c.APIListen, id)
	stream := watchSessions(t, c.APIListen, byKey(id))
	inJSON := curlWatch(t, apiURL(c, "Watch"), `{"sessions": [{"id": "`+id.Reveal()+`"}]}`)
	began := time.Now()
	for time.Since(began) < 40*time.Second {
		if m := hear(t, r, stream); m.GetLive() != 1 || len(m.GetEnded()) > 0 {
			t.Errorf("by gRPC: %v", m)
		}
		if text := string(inJSON()); !strings.Contains(text, `"live":1`) {
			t.Errorf("by HTTP/1.1: %s", text)
		}
	}
	for end := time.Now().Add(90 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		if _, text := get(t, "http://"+admin+"/metrics"); strings.Contains(text, "coatcheck_api_watch_streams 2\n") {
			break
		}
		if time.Now().After(end) {
			t.Fatal("a caller that reads nothing keeps its stream")
		}
	}
	t.Logf("a caller that reads nothing lost its stream after %v", time.Since(began))
	revokeSession(t, server, id)
	for {
		if m := hear(t, r, stream); len(m.GetEnded()) == 1 {
			break
		}
	}
}

// deafWatch opens a stream over HTTP/2, and reads nothing, as a process that hangs does.
func deafWatch(t *testing.T, addr string, id sessions.ID) {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	for _, h := range [][2]string{
		{":method", "POST"}, {":scheme", "http"}, {":authority", addr}, {":path", sessionsv1connect.SessionServiceWatchProcedure},
		{"content-type", "application/grpc"}, {"te", "trailers"}, {"authorization", "Bearer " + apiToken},
	} {
		_ = encoder.WriteField(hpack.HeaderField{Name: h[0], Value: h[1]})
	}
	body, err := proto.Marshal(&pb.WatchRequest{Sessions: []*pb.SessionName{byKey(id)}})
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.WriteString(conn, http2.ClientPreface)
	framer := http2.NewFramer(conn, conn)
	err = errors.Join(err, framer.WriteSettings(), framer.WriteSettingsAck(),
		framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndHeaders: true}),
		framer.WriteData(1, true, append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(body))), body...)))
	if err != nil {
		t.Fatal(err)
	}
}
