package pgusers_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/coatcheck/coatcheck/internal/testtools/testleaks"
	"github.com/coatcheck/coatcheck/sessions/login"
	"github.com/coatcheck/coatcheck/sessions/login/passwords"
	"github.com/coatcheck/coatcheck/sessions/login/pgusers"
	"github.com/coatcheck/coatcheck/sessions/login/pgusers/pgtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(testleaks.Patient(m)) }

// schema is what many applications have: users, groups, roles that come by
// membership in a group or directly, and a login role that may do little.
const schema = `
CREATE TABLE users (
	id bigint PRIMARY KEY, username text NOT NULL, email text, tenant text, floor int, disabled boolean NOT NULL DEFAULT false,
	password_hash varchar(200), badge uuid DEFAULT '6f1b8a52-0000-4000-8000-000000000001');
CREATE UNIQUE INDEX ON users (lower(username));
CREATE TABLE groups (id int PRIMARY KEY, name text NOT NULL UNIQUE);
CREATE TABLE roles (id int PRIMARY KEY, name text NOT NULL UNIQUE);
CREATE TABLE memberships (user_id bigint REFERENCES users, group_id int REFERENCES groups, PRIMARY KEY (user_id, group_id));
CREATE TABLE group_roles (group_id int REFERENCES groups, role_id int REFERENCES roles, PRIMARY KEY (group_id, role_id));
CREATE TYPE kind AS ENUM ('staff', 'admin');
INSERT INTO users (id, username, tenant, floor, password_hash) VALUES
	(42, 'Ada', 'acme', 3, '$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4'),
	(43, 'Grace', 'acme', NULL, '$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW'),
	(44, 'Gone', 'acme', 1, '!'), (45, 'Single sign-on', NULL, 1, NULL), (9007199254740993, 'Übelmann', 'a "b" {c}, \d', 1, 'x');
UPDATE users SET disabled = username = 'Gone';
INSERT INTO groups VALUES (1, 'engineering'), (2, 'board');
INSERT INTO roles VALUES (1, 'staff'), (2, 'admin'), (3, 'auditor'), (4, 'a "b" {c}, \d');
INSERT INTO memberships VALUES (42, 1), (42, 2), (9007199254740993, 1);
INSERT INTO group_roles VALUES (1, 1), (1, 2), (2, 2), (2, 4);
CREATE ROLE coatcheck LOGIN PASSWORD 'first-canary';
GRANT SELECT ON users, groups, roles, memberships, group_roles TO coatcheck;
`

const (
	adaHash = "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4"

	query = `
SELECT u.id, u.username, u.password_hash AS hash,
       array_agg(DISTINCT r.name) AS roles,
       jsonb_build_object('tenant', u.tenant, 'floor', u.floor) AS attributes
FROM users u
LEFT JOIN memberships m ON m.user_id = u.id
LEFT JOIN group_roles g ON g.group_id = m.group_id
LEFT JOIN roles r ON r.id = g.role_id
WHERE lower(u.username) = lower($1) AND NOT u.disabled
GROUP BY u.id`

	renewQuery = `UPDATE users SET password_hash = $1 WHERE id = $2 AND password_hash = $3`
)

// A house is a server with the schema in a database.
type house struct {
	*testing.T
	*pgtest.Server
}

func newHouse(t *testing.T) house {
	h := house{t, pgtest.Start(t)}
	h.sql(schema)
	return h
}

func (h house) sql(text string) { h.Helper(); h.Exec(h.T, "postgres", text) }

func (h house) hash(username string) string {
	return h.Value(h.T, "postgres", "SELECT password_hash FROM users WHERE username = '"+username+"'")
}

// config is one that works.
func (h house) config() pgusers.Config {
	return pgusers.Config{DSN: h.URL("coatcheck", "first-canary", "postgres"), Query: query, Timeout: 30 * time.Second}
}

func (h house) open(c pgusers.Config) pgusers.Source {
	h.Helper()
	s, err := pgusers.New(c)
	if err != nil {
		h.Fatal(err)
	}
	h.Cleanup(s.Close)
	return s
}

// finds returns the account, or fails the test.
func (h house) finds(s pgusers.Source, username string) passwords.Account {
	h.Helper()
	a, err := s.Find(h.Context(), username)
	if err != nil {
		h.Errorf("%q: %v", username, err)
	}
	return a
}

// says checks what an error tells, and that it tells no more.
func (h house) says(err error, parts ...string) {
	h.Helper()
	if err == nil {
		h.Error("no error")
		return
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			h.Errorf("%q is not in: %v", part, err)
		}
	}
	for _, secret := range []string{"canary", "c29t"} {
		if strings.Contains(err.Error(), secret) || strings.Contains(fmt.Sprintf("%+v %#v", err, err), secret) {
			h.Errorf("%q is in: %v", secret, err)
		}
	}
}

func TestFind(t *testing.T) {
	h := newHouse(t)
	s := h.open(h.config())
	if err := s.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	odd := `a "b" {c}, \d`
	for _, test := range []struct {
		username, id, shown string
		roles               []string
		attributes          map[string]string
	}{
		{"Ada", "42", "Ada", []string{odd, "admin", "staff"}, map[string]string{"tenant": "acme", "floor": "3"}},
		{"ADA", "42", "Ada", []string{odd, "admin", "staff"}, map[string]string{"tenant": "acme", "floor": "3"}},
		{"grace", "43", "Grace", nil, map[string]string{"tenant": "acme"}},
		{"single sign-on", "45", "Single sign-on", nil, map[string]string{"floor": "1"}},
		{"übelmann", "9007199254740993", "Übelmann", []string{"admin", "staff"}, map[string]string{"tenant": odd, "floor": "1"}},
	} {
		if strings.HasPrefix(test.username, "ü") {
			test.username = "Übelmann" // lower() knows ASCII alone with the locale C
		}
		a := h.finds(s, test.username)
		slices.Sort(a.Roles)
		if a.ID != test.id || a.Username != test.shown || !slices.Equal(a.Roles, test.roles) || !maps.Equal(a.Attributes, test.attributes) {
			t.Errorf("%s is %+v", test.username, a)
		}
	}
	if a := h.finds(s, "ada"); a.Hash != adaHash {
		t.Errorf("ada's hash is %s", a.Hash)
	}
	if a := h.finds(s, "single sign-on"); a.Hash != "" {
		t.Errorf("a NULL became the hash %s", a.Hash)
	}
	if _, renews := passwords.Source(s).(passwords.Renewer); renews {
		t.Error("without a query it renews hashes")
	}
}

// TestNoUser: any text that is typed is a username and nothing else; what
// PostgreSQL cannot hold is no user's.
func TestNoUser(t *testing.T) {
	h := newHouse(t)
	h.sql("CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0")
	h.Exec(t, "latin", "CREATE TABLE users (id int, username text, hash text); INSERT INTO users VALUES (1, 'Ü', 'x'); GRANT SELECT ON users TO coatcheck")
	s := h.open(h.config())
	c := h.config()
	c.DSN = h.URL("coatcheck", "first-canary", "latin")
	c.Query = "SELECT id, username, hash FROM users WHERE username = $1"
	latin := h.open(c)
	for _, username := range []string{
		"", "unknown", "Gone", "ada ", "%", "_", "42", "a\x00da", "ada\x00", "\xff\xfe", "ad\xc0\x80", "\ufeffada", "ада", "漢字",
		"' OR '1'='1", "'; DROP TABLE users; --", "$1", `\`, `ada'--`, "ada\n", strings.Repeat("a", 256), strings.Repeat("a", 1<<20),
	} {
		for name, source := range map[string]pgusers.Source{"UTF8": s, "LATIN1": latin} {
			if a, err := source.Find(t.Context(), username); !errors.Is(err, passwords.ErrNoUser) {
				t.Errorf("%s: %.40q is %+v, %v", name, username, a, err)
			}
		}
	}
	if a := h.finds(latin, "Ü"); a.ID != "1" {
		t.Errorf("Ü is %+v", a)
	}
	if h.finds(s, "ada").ID != "42" {
		t.Error("ada is gone")
	}
}

// TestColumns: which types a query may return.
func TestColumns(t *testing.T) {
	h := newHouse(t)
	for columns, want := range map[string]string{
		"hash, username, id":                                             "[] map[]",
		"id, username, hash, NULL::text[] AS roles":                      "[] map[]",
		"id, username, hash, '{}'::text[] AS roles":                      "[] map[]",
		"id, username, hash, array['a','b c','NULL'] AS roles":           "[a b c NULL] map[]",
		"id, username, hash, array['staff','admin']::kind[] roles":       "[staff admin] map[]",
		"id, username, hash, array[1,2] AS roles":                        "[1 2] map[]",
		`id, username, hash, '["a",null,"b"]'::json AS roles`:            "[a b] map[]",
		`id, username, hash, '["a"]'::jsonb AS roles`:                    "[a] map[]",
		`id, username, hash, 'null'::jsonb AS roles`:                     "[] map[]",
		`id, username, hash, NULL::jsonb AS attributes`:                  "[] map[]",
		`id, username, hash, 'null'::jsonb AS attributes`:                "[] map[]",
		`id, username, hash, '{"a":"ä\"","b":null}'::json AS attributes`: "[] map[a:ä\"]",
		`id, username, hash, '{"a":[1],"b":true}'::jsonb attributes`:     "[] map[a:[1] b:true]",
	} {
		c := h.config()
		c.Query = "SELECT " + columns + " FROM (SELECT badge AS id, username::varchar, password_hash::char(200) AS hash FROM users WHERE username = $1) AS u"
		s := h.open(c)
		if err := s.Check(t.Context()); err != nil {
			t.Errorf("%s: %v", columns, err)
		}
		a := h.finds(s, "Ada")
		if got := fmt.Sprint(a.Roles, a.Attributes); got != want || a.ID != "6f1b8a52-0000-4000-8000-000000000001" || a.Hash != adaHash {
			t.Errorf("%s: %+v", columns, a)
		}
	}
	for columns, want := range map[string]string{
		`id, username, hash, '{"a":1}'::json AS roles`:  "roles is neither an array nor a JSON array of texts",
		`id, username, hash, '[1]'::json AS roles`:      "roles is neither",
		`id, username, hash, '[1]'::json AS attributes`: "attributes is not a JSON object",
		`id, NULL AS username, hash`:                    "NULL or empty",
		`'' AS id, username, hash`:                      "NULL or empty",
	} {
		c := h.config()
		c.Query = "SELECT " + columns + " FROM (SELECT id, username, password_hash AS hash FROM users WHERE username = $1) AS u"
		_, err := h.open(c).Find(t.Context(), "Ada")
		h.says(err, want)
		if errors.Is(err, passwords.ErrNoUser) {
			t.Errorf("%s: a fault became an unknown user", columns)
		}
	}
}

// TestCheck: a query that cannot work is told from a database that does not, and
// says why.
func TestCheck(t *testing.T) {
	h := newHouse(t)
	h.sql(`CREATE TABLE hidden (id int, username text, hash text); CREATE TABLE fixed (id int, username char(20), hash text); GRANT SELECT ON fixed TO coatcheck`)
	for query, want := range map[string]string{
		"SELECT 1 AS id WHERE $1 = ''":                                                                    "no column named username, hash",
		"SELECT id, username, password_hash FROM users WHERE username = $1":                               "no column named hash",
		"SELECT id, id, username, password_hash AS hash FROM users WHERE username = $1":                   `two columns named "id"`,
		"SELECT id, username, password_hash AS hash, tenant FROM users WHERE username = $1":               `a column named "tenant"; the columns are id, username`,
		"SELECT id, username, password_hash AS hash, tenant AS roles FROM users WHERE username = $1":      "roles is neither an array",
		"SELECT id, username, password_hash AS hash, tenant AS attributes FROM users WHERE username = $1": "attributes is not json",
		"SELECT id, username, password_hash AS hash FROM users WHERE username = 'Ada'":                    "0 parameters",
		"SELECT id, username, password_hash AS hash FROM users WHERE username = $1 AND tenant = $2":       "2 parameters",
		"SELECT id, username, password_hash AS hash FROM users WHERE id = $1":                             "invalid input syntax for type bigint",
		"SELECT id, username, password_hash AS hash FROM users WHERE username <> $1":                      "a username that no user has",
		"SELECT id, username, password_hash AS hash FROM users WHERE username ILIKE $1":                   "a pattern",
		"SELECT id, username, password_hash AS hash FROM users WHERE lower(username) LIKE lower($1)":      "a pattern",
		"SELECT id, username, password_hash AS hash FROM users WHERE username SIMILAR TO $1":              "a pattern",
		"SELECT id, username, password_hash AS hash FROM users WHERE username ~* ('^' || $1 || '$')":      "a pattern",
		// Of a whole table no more is read than the first row.
		"SELECT n AS id, 'Ada' AS username, 'x' AS hash FROM (SELECT generate_series(1, 1000000000) AS n) AS whole WHERE 'Ada' LIKE $1": "a pattern",
		"SELECT id, username, hash FROM fixed WHERE username = $1":                                                                      "char(n)",
		"SELECT id, username, hash FROM hidden WHERE username = $1":                                                                     "permission denied for table hidden",
		"SELECT id, username, hash FROM userz WHERE username = $1":                                                                      `"userz" does not exist`,
		"SELEKT":              "syntax error",
		"SELECT $1; SELECT 2": "multiple commands",
	} {
		c := h.config()
		c.Query = query
		err := h.open(c).Check(t.Context())
		h.says(err, want)
		if !errors.Is(err, pgusers.ErrQuery) {
			t.Errorf("%s: %v is no ErrQuery", query, err)
		}
	}
	c := h.config()
	c.Query = "SELECT id, username, hash FROM fixed WHERE username = $1::text"
	if err := h.open(c).Check(t.Context()); err != nil {
		t.Errorf("the cure for char(n): %v", err)
	}
	for query, want := range map[string]string{
		renewQuery: "permission denied for table users",
		"UPDATE users SET password_hash = $1 WHERE id = $2":      "2 parameters",
		"UPDATE users SET hash = $1 WHERE id = $2 AND hash = $3": `"hash" does not exist`,
	} {
		c := h.config()
		c.RenewQuery = query
		err := h.open(c).Check(t.Context())
		h.says(err, want, "renew query")
		if !errors.Is(err, pgusers.ErrQuery) {
			t.Errorf("%s: %v is no ErrQuery", query, err)
		}
	}
}

func TestManyRows(t *testing.T) {
	h := newHouse(t)
	c := h.config()
	c.Query = "SELECT id, username, password_hash AS hash FROM users WHERE tenant = $1"
	_, err := h.open(c).Find(t.Context(), "acme")
	h.says(err, "more than one row")
	if errors.Is(err, passwords.ErrNoUser) {
		t.Error("a fault became an unknown user")
	}
}

// TestTypedInNoError: people type passwords into the field of the username, and
// PostgreSQL quotes them: changed, in part, and in the quotes of its language.
func TestTypedInNoError(t *testing.T) {
	h := newHouse(t)
	h.sql(`CREATE FUNCTION strict(name text) RETURNS text LANGUAGE plpgsql AS $f$
BEGIN
	IF name LIKE 'CANARY%' THEN RAISE EXCEPTION 'ungültige Eingabe: »%«', name; END IF;
	RETURN name;
END $f$`)
	for where, code := range map[string]string{
		"id = $1::text::bigint":                        "22P02",
		"id = lower($1)::bigint":                       "22P02",
		"id = trim($1)::bigint":                        "22P02",
		"id = split_part($1, '@', 2)::bigint":          "22P02",
		"badge = $1::text::uuid":                       "22P02",
		"username = strict($1)":                        "P0001",
		"$1::text::regclass IS NOT NULL":               "42P01",
		"pg_has_role($1::text::name, 'app', 'MEMBER')": "42704",
	} {
		c := h.config()
		c.Query = "SELECT id, username, password_hash AS hash FROM users WHERE " + where
		_, err := h.open(c).Find(t.Context(), "CANARY-1@CANARY-2 ")
		if h.says(err, code, "SQLSTATE"); !errors.Is(err, pgusers.ErrQuery) && code != "P0001" {
			t.Errorf("%s: %v is no ErrQuery", where, err)
		}
		if strings.Contains(strings.ToLower(fmt.Sprint(err)), "canary") {
			t.Errorf("%s: %v", where, err)
		}
	}
	c := h.config() // what holds no value stays
	c.Query = "SELECT id, username, hash FROM userz WHERE username = $1"
	_, err := h.open(c).Find(t.Context(), "Ada")
	h.says(err, `relation "userz" does not exist`)
}

// TestRenew: a hash is replaced if it is the one that was checked, and never
// those of several users.
func TestRenew(t *testing.T) {
	h := newHouse(t)
	h.sql("GRANT UPDATE (password_hash) ON users TO coatcheck")
	c := h.config()
	c.RenewQuery = renewQuery
	s := h.open(c)
	for range 2 { // the check itself changes nothing
		if err := s.Check(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	p, err := passwords.New(s, passwords.Config{})
	if err != nil {
		t.Fatal(err)
	}
	for username, password := range map[string]string{"Ada": "password", "Grace": "U*U"} {
		for range 2 {
			if _, err := p.Authenticate(t.Context(), username, password); err != nil {
				t.Errorf("%s: %v", username, err)
			}
			if hash := h.hash(username); !strings.HasPrefix(hash, "$argon2id$v=19$m=19456,") {
				t.Errorf("%s: the hash is %s", username, hash)
			}
		}
	}
	renewer := s.(passwords.Renewer)
	ada := h.finds(s, "ada")
	other := ada
	other.Hash = adaHash // of before
	if err := renewer.Renew(t.Context(), other, "changed"); err != nil || h.hash("Ada") != ada.Hash {
		t.Errorf("a former hash: %v", err)
	}
	if err := renewer.Renew(t.Context(), ada, strings.Repeat("canary", 50)); err == nil {
		t.Error("varchar(200) took 300 characters")
	} else {
		h.says(err, "too long")
	}
	h.sql("ALTER TABLE users ADD CHECK (password_hash NOT LIKE '%refused%')")
	h.says(renewer.Renew(t.Context(), ada, "refused-canary-canary-canary-canary-canary"), "violates check constraint")

	c.RenewQuery = "UPDATE users SET password_hash = $1 WHERE $2 <> '' AND $3 <> ''"
	many := h.open(c).(passwords.Renewer)
	h.says(many.Renew(t.Context(), ada, "changed"), "more than one row")
	if h.hash("Ada") != ada.Hash || h.hash("Grace") == "changed" {
		t.Error("several users have another hash")
	}
}

// TestOutage: a database that is away is a fault, and is used again as soon as
// it is back; no user has to sign in twice for it.
func TestOutage(t *testing.T) {
	h := newHouse(t)
	c := h.config()
	c.Timeout = 30 * time.Second
	s := h.open(c)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() { h.finds(s, "ada") })
	}
	all.Wait()
	if err := h.Restart(); err != nil { // with every connection of the pool lost
		t.Fatal(err)
	}
	for range 8 {
		all.Go(func() { h.finds(s, "ada") })
	}
	all.Wait()

	h.Kill()
	for _, err := range []error{second(s.Find(t.Context(), "ada")), second(s.Find(t.Context(), "unknown")), s.Check(t.Context())} {
		h.says(err, "user database")
		if errors.Is(err, passwords.ErrNoUser) || errors.Is(err, pgusers.ErrQuery) {
			t.Errorf("away: %v", err)
		}
	}
	if err := h.Restart(); err != nil {
		t.Fatal(err)
	}
	h.finds(s, "ada")

	begin := time.Now()
	if err := h.Pause(); err != nil {
		t.Fatal(err)
	}
	c.Timeout = 300 * time.Millisecond
	_, err := h.open(c).Find(t.Context(), "ada")
	if err := h.Resume(); err != nil {
		t.Fatal(err)
	}
	if h.says(err, "user database"); !errors.Is(err, context.DeadlineExceeded) || time.Since(begin) > 30*time.Second {
		t.Errorf("a database that hangs, after %v: %v", time.Since(begin), err)
	}
	h.finds(s, "ada")
}

// TestDeadHost: of several hosts one takes connections and does not answer. The first user
// signs in all the same, by the next host.
func TestDeadHost(t *testing.T) {
	h := newHouse(t)
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer dead.Close()
	c := h.config()
	c.DSN, c.Timeout = strings.Replace(c.DSN, h.Addr, dead.Addr().String()+","+h.Addr, 1), 2*time.Second
	h.finds(h.open(c), "ada")
}

func second[T any](_ T, err error) error { return err }

// TestSlowQuery: it is given up, by the server, too, and the next one is served.
func TestSlowQuery(t *testing.T) {
	h := newHouse(t)
	c := h.config()
	c.Timeout, c.MaxConns = 3*time.Second, 1
	c.Query = `SELECT id, username, password_hash AS hash FROM users, pg_sleep(CASE $1 WHEN 'Ada' THEN 600 ELSE 0 END) WHERE username = $1`
	s := h.open(c)
	begin := time.Now()
	_, err := s.Find(t.Context(), "Ada")
	if h.says(err, "user database"); errors.Is(err, passwords.ErrNoUser) || time.Since(begin) > 40*time.Second {
		t.Errorf("after %v: %v", time.Since(begin), err)
	}
	h.finds(s, "Grace")
	const sleeping = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'coatcheck' AND state = 'active'"
	for range 1200 {
		if h.Value(t, "postgres", sleeping) == "0" {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	if n := h.Value(t, "postgres", sleeping); n != "0" {
		t.Errorf("%s queries still run", n)
	}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(100*time.Millisecond, cancel)
	if _, err := s.Find(ctx, "Ada"); !errors.Is(err, context.Canceled) {
		t.Errorf("whose browser has gone: %v", err)
	}
}

// TestPasswordFile: a new connection takes the password that is in the file
// then, and no error repeats one.
func TestPasswordFile(t *testing.T) {
	h := newHouse(t)
	c := h.config()
	c.DSN = h.URL("coatcheck", "", "postgres")
	c.PasswordFile = filepath.Join(t.TempDir(), "password")
	s := h.open(c)
	h.says(second(s.Find(t.Context(), "ada")), "password file", "no such file")
	write := func(text string) {
		if err := os.WriteFile(c.PasswordFile, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("\n")
	h.says(second(s.Find(t.Context(), "ada")), "is empty")
	write("wrong-canary\n")
	h.says(second(s.Find(t.Context(), "ada")), "password authentication failed")
	write("first-canary\n")
	h.finds(s, "ada")
	h.sql("ALTER ROLE coatcheck PASSWORD 'second-canary'; SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'coatcheck'")
	write("second-canary")
	h.finds(s, "ada")
}

func TestNewRefuses(t *testing.T) {
	h := house{T: t}
	for dsn, want := range map[string]string{
		"postgres://u:canary@h:port/db":                                           "the DSN",
		"postgres://u:can%ary@h/db":                                               "the DSN",
		"host=h password=canary sslmode=none":                                     "sslmode is invalid",
		"host=h password='canary x' sslrootcert=/none/ca.pem sslmode=verify-full": "/none/ca.pem",
		"postgres://u:canary@h/db?sslmode=verify-full&sslrootcert=/none/canary":   "unable to read CA file",
		"canary": "the DSN",
		"postgres://h/db?password=canary&pool_max_conns=canary": "",
	} {
		_, err := pgusers.New(pgusers.Config{DSN: dsn, Query: query})
		h.says(err, "user database: ", want)
	}
	_, err := pgusers.New(pgusers.Config{DSN: "postgres://u:canary@h/db"})
	h.says(err, "there is no query")
}

// TestDefaults: what is left out of the DSN can be found in PostgreSQL's terms.
func TestDefaults(t *testing.T) {
	h := newHouse(t)
	c := h.config()
	c.Timeout = 0
	c.Query = `SELECT 1 AS id, current_setting('application_name') AS username, current_setting('statement_timeout') AS hash WHERE $1 = 'Ada'`
	if a := h.finds(h.open(c), "Ada"); a.Username != "coatcheck" || a.Hash != "2s" {
		t.Errorf("the settings are %+v", a)
	}
	c.DSN += "&" + url.Values{"application_name": {"mine"}, "statement_timeout": {"500"}}.Encode()
	if a := h.finds(h.open(c), "Ada"); a.Username != "mine" || a.Hash != "500ms" {
		t.Errorf("the settings are %+v", a)
	}
}

// TestBusyBeforeASlowDatabase: logins wait for their turn before they ask the
// database, so that some of many logins are busy, whose attempts are given back, and no login
// waits for a connection until the database counts as away.
func TestBusyBeforeASlowDatabase(t *testing.T) {
	h := newHouse(t)
	c := h.config()
	c.MaxConns, c.Timeout = 4, 30*time.Second
	c.Query = "WITH slow AS MATERIALIZED (SELECT pg_sleep(0.3)) SELECT id, username, password_hash AS hash FROM users, slow WHERE lower(username) = lower($1)"
	passwords, err := passwords.New(h.open(c), passwords.Config{
		Params: passwords.HashParams{Memory: 64, Passes: 1}, Limit: login.LimiterConfig{Concurrent: 4, Queue: 16, Wait: time.Second},
	})
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	var busy, refused atomic.Int32
	for i := range 100 {
		all.Go(func() {
			switch _, err := passwords.Authenticate(t.Context(), []string{"Ada", "unknown"}[i%2], "wrong"); {
			case errors.Is(err, login.ErrBusy):
				busy.Add(1)
			case errors.Is(err, login.ErrBadCredentials):
				refused.Add(1)
			default:
				t.Errorf("neither busy nor refused: %v", err)
			}
		})
	}
	all.Wait()
	t.Logf("%d were refused, %d busy", refused.Load(), busy.Load())
	if refused.Load() < 4 || busy.Load() < 50 {
		t.Errorf("%d were refused, %d busy", refused.Load(), busy.Load())
	}
}
