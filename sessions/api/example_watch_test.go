package api_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"time"

	"connectrpc.com/connect"

	"github.com/coatcheck/coatcheck/sessions/api"
	"github.com/coatcheck/coatcheck/sessions/api/sessionsv1"
	"github.com/coatcheck/coatcheck/sessions/api/sessionsv1/sessionsv1connect"
)

// A service with WebSockets hears when a session has ended. The store tells of changes: in
// production that is Track of a *redisstore.Store.
func ExampleServer_Run() {
	manager, key := signedIn()
	callers, _ := api.NewCallers([]api.Caller{{Name: "chat", Tokens: []string{shopToken}, Rights: []api.Right{api.Watch}}})
	var tells api.Listener
	track := func(ctx context.Context, l api.Listener, _ time.Duration) {
		tells = l
		tells.Alive(time.Now())
		_ = manager.Revoke(ctx, key)
		tells.Invalidate(key)
		<-ctx.Done()
	}
	server, err := api.New(manager, api.Config{Callers: callers, Track: track, MaxWatched: api.DefaultMaxWatched})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, end := context.WithTimeout(context.Background(), time.Minute)
	defer end()
	go server.Run(ctx)
	mux := http.NewServeMux()
	mux.Handle(server.Handler())
	listener := httptest.NewServer(mux)
	defer listener.Close()

	client := sessionsv1connect.NewSessionServiceClient(listener.Client(), listener.URL)
	watch := connect.NewRequest(&sessionsv1.WatchRequest{Sessions: []*sessionsv1.SessionName{{Name: &sessionsv1.SessionName_Key{Key: string(key)}}}})
	watch.Header().Set("Authorization", "Bearer "+shopToken)
	stream, err := client.Watch(ctx, watch)
	if err != nil {
		fmt.Println(err)
		return
	}
	for stream.Receive() {
		for _, ended := range stream.Msg().GetEnded() {
			fmt.Println(ended.GetIndex(), ended.GetReason())
		}
	}
	fmt.Println(stream.Err())
	// Output:
	// 0 not_found
	// <nil>
}

func ExampleListener() {
	var l api.Listener
	fmt.Println(l == nil)
	// Output: true
}
