package load

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/coatcheck/coatcheck/envoy/faults/history"
	"github.com/coatcheck/coatcheck/extauthz"
)

// A target is a replica of Coatcheck, with connections as of two Envoys.
type target struct {
	conns [2]*grpc.ClientConn
	next  atomic.Uint32
	away  atomic.Bool // it is ending, or has ended, and gets no checks
}

// patience is the longest time to an answer: beyond it the check has failed.
const patience = 5 * time.Second

func dial(address string) (*target, error) {
	t := new(target)
	for i := range t.conns {
		conn, err := grpc.NewClient("passthrough:///"+address,
			grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithDisableRetry(), grpc.WithDisableServiceConfig(),
			grpc.WithConnectParams(grpc.ConnectParams{
				Backoff:           backoff.Config{BaseDelay: 20 * time.Millisecond, Multiplier: 1.5, MaxDelay: 200 * time.Millisecond},
				MinConnectTimeout: time.Second,
			}),
			grpc.WithDefaultCallOptions(grpc.ForceCodecV2(codec{})))
		if err != nil {
			return nil, errors.Join(err, t.close())
		}
		t.conns[i] = conn
	}
	return t, nil
}

func (t *target) close() error {
	var errs []error
	for _, conn := range t.conns {
		if conn != nil {
			errs = append(errs, conn.Close())
		}
	}
	return errors.Join(errs...)
}

// check sends one message. It reports false where the caller has given the check up.
func (t *target) check(ctx context.Context, message []byte) (history.Answer, bool) {
	conn := t.conns[t.next.Add(1)%uint32(len(t.conns))]
	var response authv3.CheckResponse
	err := conn.Invoke(ctx, authv3.Authorization_Check_FullMethodName, message, &response)
	switch code := status.Code(err); {
	case err == nil:
		return answerOf(&response), true
	case code == codes.Canceled || code == codes.DeadlineExceeded:
		return history.Answer{Verdict: history.Failed}, ctx.Value(givenUp{}) == nil
	}
	return history.Answer{Verdict: history.Failed}, true
}

// givenUp marks the context of a check that its caller gives up soon.
type givenUp struct{}

// answerOf reads an answer as Envoy does: an OK is an allow, with identity or without.
func answerOf(r *authv3.CheckResponse) history.Answer {
	if r.GetStatus().GetCode() == int32(codes.OK) {
		return allowOf(r.GetOkResponse())
	}
	switch r.GetDeniedResponse().GetStatus().GetCode() {
	case 401, 302:
		return history.Answer{Verdict: history.Unauthenticated}
	case 403:
		return history.Answer{Verdict: history.Forbidden}
	case 503:
		return history.Answer{Verdict: history.Unavailable}
	}
	return history.Answer{Verdict: history.Odd}
}

// allowOf reads the identity of an allow; without one the request is anonymous.
func allowOf(ok *authv3.OkHttpResponse) history.Answer {
	a := history.Answer{Verdict: history.Anonymous}
	for _, option := range ok.GetHeaders() {
		value := option.GetHeader().GetValue()
		switch option.GetHeader().GetKey() {
		case extauthz.DefaultHeaderPrefix + "id":
			a.User, a.Verdict = value, history.Allowed
		case extauthz.DefaultHeaderPrefix + "session":
			a.Key = value
		case extauthz.DefaultHeaderPrefix + planField:
			a.Plan = value
		case extauthz.DefaultHeaderPrefix + markField:
			a.Mark = value
		}
	}
	return a
}
