package envoyconfig

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/coatcheck/coatcheck/internal/strictyaml"
)

// maxSize bounds a configuration, in bytes: the dump of a large mesh has some ten
// million.
const maxSize = 64 << 20

// fetchTimeout bounds the answer of an admin interface, which writes a large dump in
// seconds.
const fetchTimeout = 30 * time.Second

// Load reads a configuration of at most 64 MiB from a file, or from Envoy's admin
// interface: http://127.0.0.1:9901 stands for its /config_dump. Its errors name the
// source, and repeat nothing of what it holds: an Envoy's configuration can hold keys.
func Load(ctx context.Context, source string) (*Config, error) {
	text, name, err := Read(ctx, source)
	if err != nil {
		return nil, err
	}
	config, err := Parse(text)
	if err != nil {
		return nil, strictyaml.Mistakes(name, err)
	}
	config.Source = name
	return config, nil
}

// Read returns the text that [Load] parses, and the source without a password.
func Read(ctx context.Context, source string) (text []byte, name string, err error) {
	name = shown(source)
	if text, err = read(ctx, source); err != nil {
		return nil, name, fmt.Errorf("%s: %w", name, err)
	}
	return text, name, nil
}

func read(ctx context.Context, source string) ([]byte, error) {
	if isURL(source) {
		return fetch(ctx, source)
	}
	return strictyaml.ReadFile(source, maxSize)
}

func isURL(source string) bool {
	scheme, _, ok := strings.Cut(source, "://")
	return ok && (scheme == "http" || scheme == "https")
}

// shown is a source without the password that a URL can hold.
func shown(source string) string {
	if !isURL(source) {
		return source
	}
	u, err := url.Parse(source)
	if err != nil { // then it is not known where a password ends
		scheme, _, _ := strings.Cut(source, "://")
		return scheme + "://..."
	}
	return u.Redacted()
}

// fetch asks an admin interface. It follows no redirect, because the interface sends
// none.
func fetch(ctx context.Context, source string) ([]byte, error) {
	u, err := url.Parse(source)
	if err != nil {
		return nil, errors.New("it is not a URL such as http://127.0.0.1:9901")
	}
	if strings.Trim(u.Path, "/") == "" {
		u.Path = "/config_dump"
	}
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, errors.New("it is not a URL such as http://127.0.0.1:9901")
	}
	transport := &http.Transport{DisableKeepAlives: true}
	client := &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	response, err := client.Do(request)
	if err != nil {
		return nil, causeOf(err)
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("it answered with status %d, and not with a config dump; is it Envoy's admin interface?", response.StatusCode)
	}
	text, err := io.ReadAll(io.LimitReader(response.Body, maxSize+1))
	switch {
	case err != nil:
		return nil, causeOf(err)
	case len(text) > maxSize:
		return nil, fmt.Errorf("it is larger than %d MiB", maxSize>>20)
	}
	return text, nil
}

// causeOf is an error of the client without the URL, which the caller names.
func causeOf(err error) error {
	var of *url.Error
	if errors.As(err, &of) {
		err = of.Err
	}
	if errors.Is(err, context.DeadlineExceeded) || os.IsTimeout(err) {
		return fmt.Errorf("no answer within %s", fetchTimeout)
	}
	return err
}
