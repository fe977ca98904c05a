package serve

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/coatcheck/coatcheck/cmd/internal/config"
	"github.com/coatcheck/coatcheck/cmd/internal/usersource"
	"github.com/coatcheck/coatcheck/sessions/login/passwords"
	"github.com/coatcheck/coatcheck/sessions/redisstore/redistest"
)

const password = "correct horse battery staple"

// writeUsers writes a users file with one user, replacing it at a stroke.
func writeUsers(t *testing.T, path, name string) {
	t.Helper()
	hash, err := passwords.HashPassword(password)
	if err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf("- {id: \"42\", username: %s, password_hash: %q, roles: [staff]}\n", name, hash)
	if err := os.WriteFile(path+".next", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".next", path); err != nil {
		t.Fatal(err)
	}
}

// withLogin configures login pages for ada.
func withLogin(t *testing.T, redis string, more ...string) (c *config.Config, users string) {
	t.Helper()
	users = filepath.Join(t.TempDir(), "users.yaml")
	writeUsers(t, users, "ada")
	more = append(more, "login: {listen: "+free(t)+", users_file: "+users+"}", "admin: {listen: "+free(t)+"}")
	return configure(t, redis, more...), users
}

// post signs in and returns the status and the cookie.
func post(t *testing.T, c *config.Config, name, password string) (status int, cookie string) {
	t.Helper()
	body := fmt.Sprintf(`{"username": %q, "password": %q}`, name, password)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+c.LoginListen+"/.auth/login", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	transport := new(http.Transport)
	defer transport.CloseIdleConnections()
	response, err := transport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	_, _ = io.Copy(io.Discard, response.Body)
	for _, set := range response.Cookies() {
		cookie = set.Name + "=" + set.Value
	}
	return response.StatusCode, cookie
}

// TestLogin: a check admits the user who has signed in, and the users are the ones in
// the present file.
func TestLogin(t *testing.T) {
	t.Parallel() // it waits
	server := redistest.Start(t)
	c, users := withLogin(t, server.Addr, "listen: "+free(t))
	r := start(t, c)
	status, cookie := post(t, c, "ada", password)
	if status != 200 || r.check(t, cookie) != 200 {
		t.Errorf("signing in: %d, %q", status, cookie)
	}
	if status, cookie := post(t, c, "ada", "wrong"); status != 401 || cookie != "" {
		t.Errorf("a wrong password: %d", status)
	}
	writeUsers(t, users, "grace")
	awaits(t, c.AdminListen, `coatcheck_reloads_total{result="ok",source="users"} 1`)
	if status, _ := post(t, c, "grace", password); status != 200 {
		t.Errorf("a new user: %d", status)
	}
	if err := os.WriteFile(users, []byte("- {id: 42}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	awaits(t, c.AdminListen, `coatcheck_reload_failing{source="users"} 1`)
	if status, _ := post(t, c, "grace", password); status != 200 {
		t.Errorf("with a broken file: %d", status)
	}
	server.Kill()
	if status, _ := post(t, c, "grace", password); status != 503 {
		t.Errorf("without Redis: %d", status)
	}
	r.stop()
	if err := <-r.ended; err != nil {
		t.Error(err)
	}
	for _, secret := range []string{password, strings.TrimPrefix(cookie, "__Host-session="), redistest.Password} {
		if strings.Contains(r.log.String(), secret) {
			t.Errorf("the log holds %s:\n%s", secret, r.log)
		}
	}
}

// TestLoginAlone: without an address for checks there is no gRPC listener, and
// readiness is the admin listener's to tell.
func TestLoginAlone(t *testing.T) {
	t.Parallel() // it waits
	server := redistest.Start(t)
	c, _ := withLogin(t, server.Addr, "listen: ''")
	c.Drain = longDrain
	r := launch(t, c)
	ready := func() int { status, _ := get(t, "http://"+c.AdminListen+"/readyz"); return status }
	awaitListener(t, c.LoginListen)                                        // which is opened last
	if err := syscall.Kill(syscall.Getpid(), syscall.SIGHUP); err != nil { // which does not end the process
		t.Fatal(err)
	}
	if status, _ := post(t, c, "ada", password); status != 200 || ready() != 200 {
		t.Errorf("signing in: %d, ready: %d", status, ready())
	}
	r.stop()
	awaitNotReady(t, c.AdminListen)
	if status, _ := post(t, c, "ada", password); status != 200 {
		t.Errorf("while draining: %d", status)
	}
	if err := <-r.ended; err != nil {
		t.Error(err)
	}
}

// TestLoginMistakes: what keeps login from being of use ends the start.
func TestLoginMistakes(t *testing.T) {
	t.Parallel() // it waits
	server := redistest.Start(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for name, test := range map[string]struct {
		change func(*config.Config)
		want   string
	}{
		"no such file":   {func(c *config.Config) { c.Users[usersource.UsersFile] = "nowhere.yaml" }, "nowhere.yaml"},
		"port taken":     {func(c *config.Config) { c.LoginListen = taken.Addr().String() }, "login.listen"},
		"base path":      {func(c *config.Config) { c.LoginBasePath = "auth" }, "base path"},
		"unknown text":   {func(c *config.Config) { c.LoginTexts = []string{"usrname=Name"} }, "usrname"},
		"proxy":          {func(c *config.Config) { c.LoginTrustedHops, c.LoginTrustedProxies = 1, []string{"envoy"} }, "login.trusted_proxies"},
		"certificate":    {func(c *config.Config) { c.LoginTLS.CertFile, c.LoginTLS.KeyFile = "none.pem", "none.key" }, "login.tls.cert_file"},
		"no text":        {func(c *config.Config) { c.LoginTexts = []string{"usrname"} }, "login.texts"},
		"language":       {func(c *config.Config) { c.LoginLanguage = "de_DE" }, "de_DE"},
		"languages":      {func(c *config.Config) { c.LoginLanguages = []string{"it"} }, "there are some in en, de"},
		"no such logo":   {func(c *config.Config) { c.LoginLogoFile = "logo.svg" }, "login.logo_file"},
		"origin":         {func(c *config.Config) { c.LoginReturnOrigins = []string{"app.example.com"} }, "app.example.com"},
		"colour":         {func(c *config.Config) { c.LoginAccent = "green" }, "green"},
		"no such folder": {func(c *config.Config) { c.LoginTemplates = "nowhere" }, "nowhere"},
	} {
		t.Run(name, func(t *testing.T) {
			c, _ := withLogin(t, server.Addr, "listen: "+free(t))
			test.change(c)
			if err := Run(t.Context(), c, io.Discard); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v, want %q", err, test.want)
			}
		})
	}
}
