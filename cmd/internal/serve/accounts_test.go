package serve

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/KimMachineGun/automemlimit/memlimit"

	"github.com/coatcheck/coatcheck/cmd/internal/config"
	"github.com/coatcheck/coatcheck/sessions/login/passwords"
	"github.com/coatcheck/coatcheck/sessions/redisstore/redistest"
)

// A person is one entry of a users file.
type person struct{ id, name, role string }

// writePeople writes a users file in which all users have the same password,
// replacing it at a stroke.
func writePeople(t *testing.T, path string, people ...person) {
	t.Helper()
	var text strings.Builder
	for _, p := range people {
		fmt.Fprintf(&text, "- {id: %q, username: %s, password_hash: %q, roles: [%s]}\n", p.id, p.name, hashOfPassword(t), p.role)
	}
	writeAtAStroke(t, path, text.String())
}

func writeAtAStroke(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path+".next", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".next", path); err != nil {
		t.Fatal(err)
	}
}

var passwordHash = sync.OnceValues(func() (string, error) { return passwords.HashPassword(password) })

// hashOfPassword is the same each time: another one is another password.
func hashOfPassword(t *testing.T) string {
	t.Helper()
	hash, err := passwordHash()
	if err != nil {
		t.Fatal(err)
	}
	return hash
}

// awaitStatus waits for a check to be answered so.
func awaitStatus(t *testing.T, r *running, cookie string, want int) {
	t.Helper()
	status := 0
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if status = r.check(t, cookie); status == want {
			return
		}
	}
	t.Errorf("the check answers %d, want %d\n%s", status, want, r.log)
}

// cookieOf signs in and returns the cookie.
func cookieOf(t *testing.T, c *config.Config, name string) string {
	t.Helper()
	status, cookie := post(t, c, name, password)
	if status != 200 {
		t.Fatalf("signing in as %s: %d", name, status)
	}
	return cookie
}

// TestClosedAccount: a session ends with its account and with its role, while
// login runs and while it does not. A broken file ends no session; a file that lacks more
// than half of the accounts ends sessions only by command.
func TestClosedAccount(t *testing.T) {
	t.Parallel() // it waits
	server := redistest.Start(t)
	c, users := withLogin(t, server.Addr, "listen: "+free(t))
	ada, grace, alan, joan := person{"1", "ada", "staff"}, person{"2", "grace", "staff"}, person{"3", "alan", "staff"}, person{"4", "joan", "staff"}
	writePeople(t, users, ada, grace, alan, joan)
	r := start(t, c)
	cookies := make(map[string]string)
	for _, p := range []person{ada, grace, alan, joan} {
		cookies[p.name] = cookieOf(t, c, p.name)
	}

	writePeople(t, users, grace, alan, joan)
	awaitStatus(t, r, cookies["ada"], 401)
	if status, _ := post(t, c, "ada", password); status != 401 {
		t.Errorf("signing in to a closed account: %d", status)
	}
	for _, name := range []string{"grace", "alan", "joan"} {
		if status := r.check(t, cookies[name]); status != 200 {
			t.Errorf("%s: %d", name, status)
		}
	}

	writeAtAStroke(t, users, "- {id: 2}\n")
	awaits(t, c.AdminListen, `coatcheck_reload_failing{source="users"} 1`)
	r.logs(t, "coatcheck session revoke --all --user ID")
	if status := r.check(t, cookies["alan"]); status != 200 {
		t.Errorf("a broken file: %d", status)
	}

	r.stop()
	if err := <-r.ended; err != nil {
		t.Fatal(err)
	}
	grace.role = "admin"
	writePeople(t, users, grace, alan, joan)
	r = start(t, c)
	awaitStatus(t, r, cookies["grace"], 401)
	for _, name := range []string{"alan", "joan"} {
		if status := r.check(t, cookies[name]); status != 200 {
			t.Errorf("after a start with a changed file, %s: %d", name, status)
		}
	}
	awaits(t, c.AdminListen, "coatcheck_login_accounts_unsettled 0")

	writePeople(t, users, joan)
	awaits(t, c.AdminListen, "coatcheck_login_accounts_unsettled 1")
	r.logs(t, "coatcheck session revoke --closed")
	if status := r.check(t, cookies["alan"]); status != 200 {
		t.Errorf("a file that lacks two of three: %d", status)
	}
	if status, _ := post(t, c, "alan", password); status != 401 {
		t.Errorf("login works by the new file: %d", status)
	}
}

// TestHashTooLarge: a users file with a hash that takes more memory than hashes
// may ends the start, and names the line and the key.
func TestHashTooLarge(t *testing.T) {
	server := redistest.Start(t)
	c, users := withLogin(t, server.Addr, "listen: "+free(t))
	c.LoginHashMemory = 64
	hash := "$argon2id$v=19$m=102400,t=2,p=8$" + strings.Repeat("A", 22) + "$" + strings.Repeat("A", 43)
	writeAtAStroke(t, users, "- {id: 1, username: ada, password_hash: '"+hash+"'}\n")
	err := Run(t.Context(), c, io.Discard)
	if err == nil || !strings.Contains(err.Error(), "line 1") || !strings.Contains(err.Error(), "login.hash_memory") {
		t.Errorf("the start: %v", err)
	}
}

func TestLeastMemory(t *testing.T) {
	of := func(bytes uint64, err error) memlimit.Provider { return func() (uint64, error) { return bytes, err } }
	unknown := of(0, errors.New("no limit"))
	for want, providers := range map[uint64][]memlimit.Provider{
		0: {unknown, of(0, nil)}, 5: {unknown, of(7, nil), of(5, nil), of(0, nil)}, 7: {of(7, nil), unknown},
	} {
		if got := leastMemory(providers...); got != want {
			t.Errorf("%d, want %d", got, want)
		}
	}
}
