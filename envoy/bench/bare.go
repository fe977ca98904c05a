package main

import (
	"context"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/genproto/googleapis/rpc/status"
)

// bare is the simplest server: generated code, the defaults of gRPC and Go, and
// always the same answer.
type bare struct {
	authv3.UnimplementedAuthorizationServer
}

func (bare) Check(context.Context, *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	return &authv3.CheckResponse{
		Status:       &status.Status{},
		HttpResponse: &authv3.CheckResponse_OkResponse{OkResponse: &authv3.OkHttpResponse{}},
	}, nil
}

// serveBare is a program of its own.
func serveBare(args []string) error {
	addresses, err := parseStand(args)
	if err != nil {
		return err
	}
	return addresses.serve(bare{})
}
