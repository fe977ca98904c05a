package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/coatcheck/coatcheck/sessions/login"
	"github.com/coatcheck/coatcheck/sessions/login/passwords"
	"github.com/coatcheck/coatcheck/sessions/login/userfile"
)

// hashPassword runs the command with something at its standard input.
func hashPassword(t *testing.T, ctx context.Context, stdin io.Reader, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	root := hashPasswordCommand()
	root.SilenceErrors, root.SilenceUsage = true, true
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(&out)
	root.SetErr(&errs)
	if err := root.ExecuteContext(ctx); err != nil {
		status = 1
		fmt.Fprintln(&errs, err)
	}
	if text := out.String() + errs.String(); strings.Contains(text, "canary") {
		t.Errorf("the password was printed: %s", text)
	}
	return status, out.String(), errs.String()
}

// opens tells whether the password belongs to what was printed.
func opens(t *testing.T, printed, password string) {
	t.Helper()
	path := t.TempDir() + "/users.yaml"
	text := "- {id: 1, username: ada, password_hash: '" + strings.TrimSuffix(printed, "\n") + "'}"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	users, err := userfile.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	checked, err := passwords.New(users, passwords.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := checked.Authenticate(t.Context(), "ada", password); err != nil {
		t.Errorf("%q: %v", password, err)
	}
}

func TestHashPasswordFromInput(t *testing.T) {
	longest := strings.Repeat("x", login.MaxPassword)
	for input, password := range map[string]string{
		"canary\n": "canary", "canary": "canary", "canary\r\n": "canary", " canary \n": " canary ", "cänary\n": "cänary", longest + "\r\n": longest,
	} {
		status, out, errs := hashPassword(t, t.Context(), strings.NewReader(input))
		if short := utf8.RuneCountInString(password) < 15; status != 0 || (errs != "") != short || strings.Count(out, "\n") != 1 {
			t.Fatalf("%q: status %d, %s%s", input, status, out, errs)
		}
		opens(t, out, password)
	}
	for input, want := range map[string]string{
		"": "empty", "\n": "empty", "\r\n": "empty", "canary\ncanary": "more than one line", "\n\n": "more than one line", "canary\xff\n": "not UTF-8",
		longest + "x": "longer than 1024 bytes", longest + "x\n": "longer than 1024 bytes", strings.Repeat("x", 1<<20): "longer than 1024 bytes",
	} {
		if status, out, errs := hashPassword(t, t.Context(), strings.NewReader(input)); status == 0 || out != "" || !strings.Contains(errs, want) {
			t.Errorf("%.20q: status %d, %s%s", input, status, out, errs)
		}
	}
	if status, _, errs := hashPassword(t, t.Context(), strings.NewReader("x"), "canary"); status == 0 || !strings.Contains(errs, "takes no arguments") {
		t.Errorf("a password as an argument: %s", errs)
	}
}

// TestHashPasswordAdvises: a short password is hashed all the same, with a warning
// below 8 characters and advice below 15. Characters are counted, not bytes.
func TestHashPasswordAdvises(t *testing.T) {
	for password, want := range map[string]string{
		"x": "warning", "1234567": "warning", "ééééééé": "warning", "12345678": "15 characters or more", "12345678901234": "15 characters or more",
		"éééééééé": "15 characters or more", "123456789012345": "", "correct horse battery": "",
	} {
		status, out, errs := hashPassword(t, t.Context(), strings.NewReader(password+"\n"))
		if status != 0 || !strings.HasPrefix(out, "$argon2id$") || (errs == "") != (want == "") || !strings.Contains(errs, want) ||
			strings.Contains(errs, "warning") != (want == "warning") || strings.Contains(errs, password) && want == "" {
			t.Errorf("%q: status %d, %q, %q", password, status, out, errs)
		}
	}
}

// A terminal is a pseudo-terminal with a typist.
type terminal struct {
	*testing.T
	person, program *os.File

	mu    sync.Mutex
	shown strings.Builder
}

func newTerminal(t *testing.T) *terminal {
	person, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	fd := int(person.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	tt := &terminal{T: t, person: person, program: program}
	read := make(chan struct{})
	go func() { defer close(read); _, _ = io.Copy(tt, person) }()
	t.Cleanup(func() { _ = program.Close(); <-read; _ = person.Close() })
	return tt
}

// Write takes what the terminal shows.
func (tt *terminal) Write(p []byte) (int, error) {
	tt.mu.Lock()
	defer tt.mu.Unlock()
	return tt.shown.Write(p)
}

func (tt *terminal) sees() string {
	tt.mu.Lock()
	defer tt.mu.Unlock()
	return tt.shown.String()
}

func (tt *terminal) echoes() bool {
	state, err := unix.IoctlGetTermios(int(tt.program.Fd()), unix.TCGETS)
	if err != nil {
		tt.Fatal(err)
	}
	return state.Lflag&unix.ECHO != 0
}

// wait waits for something, patiently.
func (tt *terminal) wait(what string, is func() bool) {
	tt.Helper()
	for range 12_000 {
		if is() {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	tt.Fatalf("%s does not come; the terminal shows %q", what, tt.sees())
}

// types waits for a prompt and types a line behind it.
func (tt *terminal) types(prompt, line string) {
	tt.Helper()
	tt.wait(prompt, func() bool { return strings.HasSuffix(tt.sees(), prompt) && !tt.echoes() })
	if _, err := io.WriteString(tt.person, line+"\n"); err != nil {
		tt.Fatal(err)
	}
}

// run runs the command at the terminal while the typist types.
func (tt *terminal) run(ctx context.Context, typing func()) (stdout string, err error) {
	tt.Helper()
	var out bytes.Buffer
	cmd := hashPasswordCommand()
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.SetArgs(nil)
	cmd.SetIn(tt.program)
	cmd.SetOut(&out)
	cmd.SetErr(tt.program)
	ended := make(chan error, 1)
	go func() { ended <- cmd.ExecuteContext(ctx) }()
	typing()
	err = <-ended
	if strings.Contains(tt.sees(), "canary") {
		tt.Errorf("the terminal shows %q", tt.sees())
	}
	tt.wait("the echo", tt.echoes)
	return out.String(), err
}

func TestHashPasswordAtTerminal(t *testing.T) {
	tt := newTerminal(t)
	out, err := tt.run(t.Context(), func() {
		tt.types("Password: ", "canary word")
		tt.types("The same again: ", "canary word")
	})
	if err != nil {
		t.Fatal(err)
	}
	opens(t, out, "canary word")

	out, err = tt.run(t.Context(), func() {
		tt.types("Password: ", "canary")
		tt.types("The same again: ", "Canary")
	})
	if err == nil || !strings.Contains(err.Error(), "differ") || out != "" {
		t.Errorf("two different ones: %v, %s", err, out)
	}
}

// TestHashPasswordInterrupted: the terminal shows again what is typed.
func TestHashPasswordInterrupted(t *testing.T) {
	tt := newTerminal(t)
	ctx, cancel := context.WithCancel(t.Context())
	_, err := tt.run(ctx, func() {
		tt.wait("the prompt", func() bool { return strings.HasSuffix(tt.sees(), "Password: ") && !tt.echoes() })
		cancel()
	})
	if err == nil || err.Error() != "interrupted" {
		t.Errorf("got %v", err)
	}
	// What still reads in the background ends with the process; here, with a line.
	if _, err := io.WriteString(tt.person, "\n"); err != nil {
		t.Fatal(err)
	}
}
