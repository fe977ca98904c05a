package browser_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	"go.uber.org/goleak"

	"github.com/coatcheck/coatcheck/envoy/e2e/rig"
	"github.com/coatcheck/coatcheck/internal/testtools"
	"github.com/coatcheck/coatcheck/sessions/login/passwords"
	"github.com/coatcheck/coatcheck/sessions/login/pgusers/pgtest"
)

var (
	binary   string         // coatcheck, built once
	chromium string         // the browser's program
	database *pgtest.Server // has the users
	shared   *rig.Stack     // once a test has asked for it
)

// pictures is where screenshots are written to.
const pictures = "screenshots"

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "coatcheck-browser-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	status := 1
	if err = prepare(dir); err == nil {
		status = m.Run()
	}
	if shared != nil {
		shared.Close()
	}
	if database != nil {
		database.Close()
	}
	if err = errors.Join(err, goleak.Find()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return status
}

// prepare starts what the tests share.
func prepare(dir string) (err error) {
	if chromium, err = testtools.Program("chromium", "CHROMIUM"); err != nil {
		return err
	}
	if err = os.MkdirAll(pictures, 0o755); err != nil {
		return err
	}
	binary = filepath.Join(dir, "coatcheck")
	if err := rig.Build(binary); err != nil {
		return err
	}
	database, err = pgtest.New()
	return err
}

// password is the password of all users.
const password = "correct horse, battery"

// schema is how users often stand in a database. Each test has a user of its
// own, so that none sees another's sessions.
const schema = `
CREATE TABLE users (
	id bigint PRIMARY KEY, username text NOT NULL, password_hash text, tenant text, disabled boolean NOT NULL DEFAULT false);
CREATE UNIQUE INDEX ON users (lower(username));
CREATE TABLE groups (id int PRIMARY KEY, name text NOT NULL UNIQUE);
CREATE TABLE roles (id int PRIMARY KEY, name text NOT NULL UNIQUE);
CREATE TABLE memberships (user_id bigint REFERENCES users, group_id int REFERENCES groups, PRIMARY KEY (user_id, group_id));
CREATE TABLE group_roles (group_id int REFERENCES groups, role_id int REFERENCES roles, PRIMARY KEY (group_id, role_id));
INSERT INTO users (id, username, password_hash, tenant)
	SELECT 41 + n, name, '{hash}', 'acme' FROM
	unnest(ARRAY['Ada Löwe', 'Ben', 'Cleo', 'Dora', 'Emil', 'Fay', 'Gus', 'Hal', 'Ida', 'Jo', 'Kim', 'Lea', 'Max', 'Nuno', 'Olga', 'Paul', 'Rosa']) WITH ORDINALITY AS list(name, n);
INSERT INTO groups VALUES (1, 'engineering'), (2, 'board');
INSERT INTO roles VALUES (1, 'staff'), (2, 'admin');
INSERT INTO memberships SELECT id, 1 FROM users;
INSERT INTO memberships VALUES (42, 2);
INSERT INTO group_roles VALUES (1, 1), (2, 1), (2, 2);
CREATE ROLE coatcheck LOGIN PASSWORD 'reads-users';
GRANT SELECT ON users, groups, roles, memberships, group_roles TO coatcheck;
`

const query = `
SELECT u.id, u.username, u.password_hash AS hash,
       array_agg(DISTINCT r.name) AS roles,
       jsonb_build_object('tenant', u.tenant) AS attributes
FROM users u
LEFT JOIN memberships m ON m.user_id = u.id
LEFT JOIN group_roles g ON g.group_id = m.group_id
LEFT JOIN roles r ON r.id = g.role_id
WHERE lower(u.username) = lower($1) AND NOT u.disabled
GROUP BY u.id`

var hired sync.Once

// hire fills the database.
func hire(t *testing.T) {
	t.Helper()
	hired.Do(func() {
		hash, err := passwords.HashPassword(password)
		if err != nil {
			t.Fatal(err)
		}
		database.Exec(t, "postgres", strings.ReplaceAll(schema, "{hash}", hash))
	})
}

// shop is the stack of those tests that break nothing.
func shop(t *testing.T) *rig.Stack {
	t.Helper()
	if shared == nil {
		hire(t)
		s, err := newStack(nil)
		if err != nil {
			t.Fatal(err)
		}
		shared = s
	}
	return shared
}

// newStack runs everything but the database, with further arguments for
// coatcheck serve, and perhaps a change of Envoy's configuration.
func newStack(change func(*bootstrapv3.Bootstrap), arguments ...string) (*rig.Stack, error) {
	return rig.Start(rig.Options{
		Bootstrap: change,
		Coatcheck: binary,
		Patient:   true,
		Environment: append(rig.Credentials(rig.LoginUser),
			"COATCHECK_LOGIN_POSTGRES_DSN="+database.URL("coatcheck", "reads-users", "postgres")),
		Arguments: append([]string{
			"--login-help-url", "/help", "--login-password-url", "/account/password",
			"--login-postgres-query", query, "--login-trusted-hops", "1", "--login-trusted-proxies", "127.0.0.1", "--login-url", "/.auth/login", "--headers-fields", "tenant",
		}, arguments...),
	})
}

// start runs a stack until the test ends.
func start(t *testing.T, arguments ...string) *rig.Stack {
	t.Helper()
	return startBehind(t, nil, arguments...)
}

// startBehind is start, behind an Envoy of another configuration.
func startBehind(t *testing.T, change func(*bootstrapv3.Bootstrap), arguments ...string) *rig.Stack {
	t.Helper()
	hire(t)
	s, err := newStack(change, arguments...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// front is the address that browsers go to: to them everything at localhost is
// as good as HTTPS, and a name shows what an address cannot, a cookie that is
// this host's alone.
func front(s *rig.Stack) string {
	return strings.Replace(s.URL, "127.0.0.1", "shop.localhost", 1)
}
