package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"

	"github.com/coatcheck/coatcheck/envoy/e2e/rig"
)

// play looks at the addresses that are printed, runs the lines, and prints the results.
func (d *demo) play(ctx context.Context) error {
	var failed []error
	say := func(n int, title, outcome string, err error) {
		mark := "ok  "
		if err != nil {
			mark = "FAIL"
			outcome += ": " + err.Error()
			failed = append(failed, fmt.Errorf("step %d: %w", n, err))
		}
		fmt.Printf("%s  %d. %s\n      %s\n", mark, n, title, outcome)
	}
	for i, s := range story {
		outcome, err := d.run(ctx, s)
		say(i+1, s.title, outcome, err)
	}
	for i, page := range d.pages() {
		outcome, err := d.open(ctx, page[1])
		say(len(story)+i+1, page[0], outcome, err)
	}
	return errors.Join(append(failed, d.leaks())...)
}

// run runs a step as the reader would: by a shell, after the lines of preparation.
func (d *demo) run(ctx context.Context, s step) (outcome string, err error) {
	line := d.line(s)
	cmd := exec.CommandContext(ctx, "sh", "-c", strings.Join(append(d.preparation(), strings.Replace(line, "curl -i", "curl -sS -i", 1)), "\n"))
	out, err := cmd.CombinedOutput()
	if err != nil {
		return line, fmt.Errorf("%w: %s", err, out)
	}
	if s.command != nil {
		for _, part := range s.says {
			if !strings.Contains(string(out), part) {
				return line, fmt.Errorf("it does not say %q:\n%s", part, out)
			}
		}
		return line, nil
	}
	head, body, _ := strings.Cut(strings.ReplaceAll(string(out), "\r\n", "\n"), "\n\n")
	first, _, _ := strings.Cut(head, "\n")
	outcome = line + " -> " + strings.TrimPrefix(first, "HTTP/1.1 ")
	if !strings.HasPrefix(first, fmt.Sprint("HTTP/1.1 ", s.status)) {
		return outcome, fmt.Errorf("want %d", s.status)
	}
	if s.sees == nil {
		return outcome, nil
	}
	seen, err := s.upstream(body)
	return outcome + seen, err
}

// upstream compares the headers that the upstream received with the expected ones.
func (s step) upstream(body string) (string, error) {
	var echoed rig.Echoed
	if err := json.Unmarshal([]byte(body), &echoed); err != nil {
		return "", err
	}
	var seen []string
	for name, values := range echoed.Headers {
		if strings.HasPrefix(strings.ToLower(name), "x-user-") {
			seen = append(seen, strings.ToLower(name)+": "+strings.Join(values, ", "))
		}
	}
	slices.Sort(seen)
	if seen == nil {
		seen = []string{"no identity"}
	}
	for name, want := range s.sees {
		if got := strings.Join(echoed.Headers[name], ", "); got != want {
			return "", fmt.Errorf("the upstream saw %s: %q, want %q", name, got, want)
		}
	}
	return "; the upstream saw " + strings.Join(seen, ", "), nil
}

// open looks at an address that is printed. A browser without a session is sent to the
// login page, which is an answer, too.
func (d *demo) open(ctx context.Context, url string) (string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	request.Header.Set("Sec-Fetch-Mode", "navigate")
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		return url, err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	switch location := response.Header.Get("Location"); {
	case err != nil:
		return url, err
	case response.StatusCode >= 300 && response.StatusCode < 400 && strings.Contains(location, "/.auth/login"):
		return url + " -> the login page", nil
	case response.StatusCode != http.StatusOK:
		return url, fmt.Errorf("status %d", response.StatusCode)
	case strings.HasSuffix(url, "/metrics") && !strings.Contains(string(body), "coatcheck_checks_total"):
		return url, errors.New("it has no metrics of Coatcheck")
	}
	return url + " -> 200", nil
}

// leaks looks for what must stand in no line and in no log.
func (d *demo) leaks() error {
	log, err := os.ReadFile(d.log())
	if err != nil {
		return err
	}
	if !strings.Contains(string(log), `"msg":"check"`) || strings.Contains(string(log), d.id.Reveal()) || strings.Contains(string(log), d.password) {
		return errors.New("the log has no check, or an ID, or a password")
	}
	lines := d.preparation()
	for _, s := range story {
		lines = append(lines, d.line(s))
	}
	if strings.Contains(strings.Join(lines, "\n"), rig.RedisPassword(rig.ManageUser)) {
		return errors.New("a line to paste has the password of Redis")
	}
	return nil
}
