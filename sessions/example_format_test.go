package sessions_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/coatcheck/coatcheck/sessions"
	framework "github.com/coatcheck/coatcheck/sessions/foreign" // as foreign is a name of these tests
)

// A tinyFormat is for a framework which keeps {"user":"..."} at "tiny:" and the ID,
// and puts the ID behind "t." into a cookie. A use has a session last half an hour.
type tinyFormat struct{ cookie sessions.Cookie }

func (f tinyFormat) Read(h sessions.CookieHeader) (sessions.ID, error) {
	value, err := f.cookie.Value(h) // of the one cookie, or an error
	if err != nil {
		return sessions.ID{}, err
	}
	return f.Parse(value)
}

func (tinyFormat) Parse(value string) (sessions.ID, error) {
	id, ok := strings.CutPrefix(value, "t.")
	if !ok || len(id) > sessions.MaxForeignID {
		return sessions.ID{}, sessions.ErrMalformed
	}
	return sessions.ForeignID(id)
}

func (f tinyFormat) Cut(h sessions.CookieHeader) (string, bool) { return f.cookie.CutValue(h) }

func (f tinyFormat) Lookalikes(h sessions.CookieHeader) []string {
	return f.cookie.LookalikesOf(h, func(value string) bool { return strings.HasPrefix(value, "t.") })
}

func (tinyFormat) Place() sessions.Place { return sessions.Place{Prefix: "tiny:"} }

func (tinyFormat) Decode(r sessions.ForeignRecord, _ []string) (found sessions.ForeignSession, err error) {
	var record struct{ User string }
	if json.Unmarshal(r.Value, &record) != nil {
		return found, fmt.Errorf("%w: it is not JSON", sessions.ErrBroken)
	}
	if record.User == "" {
		return found, sessions.ErrNotFound // a key that exists is not a login
	}
	return sessions.ForeignSession{Session: &sessions.Session{UserID: record.User}, Lifetime: 30 * time.Minute}, nil
}

func (tinyFormat) ValidateField(name string) error {
	return fmt.Errorf("field %q: such sessions have none", name)
}

func (tinyFormat) Fields(sessions.ForeignRecord) map[string]string { return nil }

// oneRecord is a store with one session; redisstore has the real one.
type oneRecord struct{ id sessions.ID }

func (s oneRecord) Fetch(_ context.Context, id sessions.ID) (sessions.ForeignRecord, error) {
	if id != s.id {
		return sessions.ForeignRecord{}, sessions.ErrNotFound
	}
	value := []byte(`{"user":"42"}`)
	value = value[:min(len(value), sessions.MaxForeignRecord+1)] // of one that is too long, no more is needed
	return sessions.ForeignRecord{Value: value, TTL: 29*time.Minute + 55*time.Second}, nil
}
func (oneRecord) Extend(context.Context, sessions.ID, time.Duration) error { return nil }
func (s oneRecord) Find(context.Context, string, int) ([]sessions.ID, error) {
	return []sessions.ID{s.id}, nil
}

// A framework's sessions become those of Coatcheck by a format.
func ExampleFormat() {
	var format sessions.Format = tinyFormat{sessions.Cookie{Name: "tiny"}}
	if err := format.Place().Validate(); err != nil {
		panic(err)
	}
	id, err := format.Read(sessions.CookieHeader{Lines: []string{"theme=dark; tiny=t.secret-of-the-browser"}})
	if err != nil {
		panic(err)
	}
	found, err := framework.New(oneRecord{id}, format, framework.Config{})
	if err != nil {
		panic(err)
	}
	defer found.Close()
	session, err := found.Touch(context.Background(), id)
	fmt.Println(session.UserID, session.Key.Handle(), id, err)
	fmt.Println(sessions.ValidateHandle(session.Key.Handle()))
	// Output:
	// 42 Tb27_Secqoh5 [session ID] <nil>
	// <nil>
}
