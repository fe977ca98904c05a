package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"strings"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"github.com/redis/go-redis/v9"
)

// verifier is the bare server, but it verifies a JWT in a cookie. The difference to the
// bare server is what the verification costs a service in its place.
type verifier struct {
	authv3.UnimplementedAuthorizationServer
	signer signer
	denied *redis.Client // asked for each token, whether it was logged out; nil: not asked
}

const (
	tokenCookie  = "token"
	deniedPrefix = "denied:"
)

func (v verifier) Check(ctx context.Context, r *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	c, err := v.signer.verify(cookieValue(r.GetAttributes().GetRequest().GetHttp(), tokenCookie))
	if err != nil {
		return unauthorized(), nil //nolint:nilerr // a token that is not valid is an answer
	}
	if v.denied != nil {
		n, err := v.denied.Exists(ctx, deniedPrefix+c.ID).Result()
		if err != nil {
			return nil, err
		}
		if n > 0 {
			return unauthorized(), nil
		}
	}
	return allowed("x-user-id", c.Subject, "x-user-name", c.Username, "x-user-roles", strings.Join(c.Roles, ",")), nil
}

// serveVerifier serves, and writes a file of cookies with tokens that it will accept: so
// no key leaves the process.
func serveVerifier(args []string) error {
	if len(args) < 3 {
		return fmt.Errorf("usage: bench verifier ALGORITHM FILE yes|no [flags]")
	}
	addresses, err := parseStand(args[3:])
	if err != nil {
		return err
	}
	s, err := newSigner(args[0])
	if err != nil {
		return err
	}
	if err := writeTokens(args[1], s); err != nil {
		return err
	}
	v := verifier{signer: s}
	if args[2] == "yes" {
		v.denied = addresses.client()
	}
	return addresses.serve(v)
}

func writeTokens(path string, s signer) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	w := bufio.NewWriter(file)
	for i := range sessionCount {
		token, err := s.sign(fmt.Sprint("user-", i))
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "%s=%s\n", tokenCookie, token)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return file.Close()
}
