package main

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"github.com/redis/go-redis/v9"
	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/genproto/googleapis/rpc/status"

	"github.com/coatcheck/coatcheck/sessions"
)

// naive is what a program of an afternoon does: GET, EXPIRE, JSON, and three headers. It
// has no deadline, no absolute timeout, and clears no header of a client.
type naive struct {
	authv3.UnimplementedAuthorizationServer
	redis *redis.Client
}

// naiveSession is a value in Redis.
type naiveSession struct {
	UserID   string   `json:"user_id"`
	Username string   `json:"username"`
	Roles    []string `json:"roles"`
}

const naivePrefix = "naive:"

// Check answers with the three headers, or 401.
func (n naive) Check(ctx context.Context, r *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	key := naivePrefix + cookieValue(r.GetAttributes().GetRequest().GetHttp(), sessions.DefaultCookieName)
	text, err := n.redis.Get(ctx, key).Bytes()
	if errors.Is(err, redis.Nil) {
		return unauthorized(), nil
	} else if err != nil {
		return nil, err
	}
	if err := n.redis.Expire(ctx, key, 30*time.Minute).Err(); err != nil {
		return nil, err
	}
	var s naiveSession
	if err := json.Unmarshal(text, &s); err != nil {
		return nil, err
	}
	return allowed("x-user-id", s.UserID, "x-user-name", s.Username, "x-user-roles", strings.Join(s.Roles, ",")), nil
}

func serveNaive(args []string) error {
	addresses, err := parseStand(args)
	if err != nil {
		return err
	}
	return addresses.serve(naive{redis: addresses.client()})
}

// signInNaive gives the naive server the same sessions.
func signInNaive(ctx context.Context, client *redis.Client, ids []string) error {
	text, err := json.Marshal(naiveSession{UserID: "user-1", Username: "Ada Lovelace", Roles: []string{"staff", "buyer", "editor"}})
	if err != nil {
		return err
	}
	pipe := client.Pipeline()
	for _, id := range ids {
		pipe.Set(ctx, naivePrefix+id, text, 30*time.Minute)
	}
	_, err = pipe.Exec(ctx)
	return err
}

// cookieValue is the value of a cookie, in either form of Envoy's headers; empty: there is none.
func cookieValue(r *authv3.AttributeContext_HttpRequest, name string) string {
	line := r.GetHeaders()["cookie"]
	for _, header := range r.GetHeaderMap().GetHeaders() {
		if header.GetKey() == "cookie" {
			line = string(header.GetRawValue())
		}
	}
	cookies, err := http.ParseCookie(line)
	if err != nil {
		return ""
	}
	for _, c := range cookies {
		if c.Name == name {
			return c.Value
		}
	}
	return ""
}

// allowed is an OK with headers: names and values in turn.
func allowed(headers ...string) *authv3.CheckResponse {
	ok := new(authv3.OkHttpResponse)
	for i := 0; i < len(headers); i += 2 {
		ok.Headers = append(ok.Headers, &corev3.HeaderValueOption{
			Header:       &corev3.HeaderValue{Key: headers[i], Value: headers[i+1]},
			AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
		})
	}
	return &authv3.CheckResponse{Status: &status.Status{}, HttpResponse: &authv3.CheckResponse_OkResponse{OkResponse: ok}}
}

func unauthorized() *authv3.CheckResponse {
	return &authv3.CheckResponse{
		Status: &status.Status{Code: int32(code.Code_UNAUTHENTICATED)},
		HttpResponse: &authv3.CheckResponse_DeniedResponse{DeniedResponse: &authv3.DeniedHttpResponse{
			Status: &typev3.HttpStatus{Code: typev3.StatusCode_Unauthorized},
		}},
	}
}
