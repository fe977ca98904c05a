package api

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/memstore"
)

// A spy is a manager that tells what it was asked to do. Its sessions never change, so that
// each run of the fuzzer finds the same.
type spy struct {
	*sessions.Manager
	slid, changed, listed bool
	read                  []string
}

func (s *spy) Fetch(ctx context.Context, key sessions.Key, f sessions.Fetch) (*sessions.Session, time.Duration, error) {
	s.slid, s.read = s.slid || f.Slide, append(s.read, f.Fields...)
	return s.Manager.Fetch(ctx, key, f)
}
func (s *spy) Add(context.Context, sessions.Key, map[string]string) error {
	s.changed = true
	return nil
}
func (s *spy) Revoke(context.Context, sessions.Key) error      { s.changed = true; return nil }
func (s *spy) RevokeUser(context.Context, string) (int, error) { s.changed = true; return 1, nil }
func (s *spy) RevokeOthers(context.Context, sessions.Key) (int, error) {
	s.changed = true
	return 1, nil
}
func (s *spy) List(ctx context.Context, user string) ([]*sessions.Session, int, error) {
	s.listed = true
	return s.Manager.List(ctx, user)
}

// FuzzRequest sends any bytes, with any headers, as a caller with any rights. The oracle: no
// panic; what the caller may not do does not happen; an answer has data of a session only if
// the caller may read one, and never a field that it may not see; no part of the ID comes back.
func FuzzRequest(f *testing.F) {
	manager, err := sessions.NewManager(memstore.New(memstore.Config{}), sessions.Config{})
	if err != nil {
		f.Fatal(err)
	}
	id, session, err := manager.Create(context.Background(), sessions.NewSession{
		UserID: userID, Username: username, Roles: []string{role, "staff"}, Address: "192.0.2.77",
		Fields: map[string]string{secretField: secretValue, "cart": "three apples"},
	})
	if err != nil {
		f.Fatal(err)
	}
	paths := slices.Sorted(func(yield func(string) bool) {
		for path := range methods {
			if !yield(path) {
				return
			}
		}
	})
	for i, body := range requestsOf(string(session.Key), id.Reveal()) {
		for m := range paths {
			f.Add(uint8(m), uint8(0xff), uint8(i%6), "", []byte(body))
			f.Add(uint8(m), uint8(1<<(i%8)), uint8(i%2), "", []byte(body))
		}
	}
	f.Add(uint8(0), uint8(0xff), uint8(2), "1S", []byte("\x00\x00\x00\x00\x02\x0a\x00"))
	types := []string{"application/json", "application/proto", "application/grpc", "application/grpc-web+json", "application/connect+proto", "application/grpc+json"}
	f.Fuzz(func(t *testing.T, method, rights, contentType uint8, header string, body []byte) {
		who := Caller{Name: "fuzz", Tokens: []string{token("fuzz")}, Fields: []string{"cart", "theme"}}
		for i, r := range Rights() {
			if rights&(1<<i) != 0 {
				who.Rights = append(who.Rights, r)
			}
		}
		callers := &Callers{tokens: map[[32]byte]*Caller{}, certificates: map[string]*Caller{}}
		if err := callers.enter(&who); err != nil {
			t.Fatal(err)
		}
		to := &spy{Manager: manager}
		server, err := New(to, Config{Callers: callers, Decide: decideByPath, MaxMessageBytes: 64 << 10})
		if err != nil {
			t.Fatal(err)
		}
		path := paths[int(method)%len(paths)]
		q := httptest.NewRequest(http.MethodPost, path, bytes.NewReader(body))
		q.ProtoMajor = 2
		q.Header.Set("Content-Type", types[int(contentType)%len(types)])
		q.Header.Set("Authorization", "Bearer "+token("fuzz"))
		for name, value := range map[string]string{"Grpc-Timeout": header, "Connect-Timeout-Ms": header, "Grpc-Encoding": header} {
			if header != "" && int(method)%3 == len(name)%3 {
				q.Header[name] = []string{value}
			}
		}
		w := httptest.NewRecorder()
		_, handler := server.Handler()
		handler.ServeHTTP(w, q)
		judge(t, &who, methods[path], to, answerOf(w), id)
	})
}

// answerOf is all that a client gets.
func answerOf(w *httptest.ResponseRecorder) string {
	var all bytes.Buffer
	_ = w.Result().Header.Write(&all)
	_ = w.Result().Trailer.Write(&all)
	return all.String() + w.Body.String()
}

// judge is the oracle of FuzzRequest.
func judge(t *testing.T, who *Caller, m method, to *spy, answer string, id sessions.ID) {
	t.Helper()
	if (to.slid || to.changed || to.listed || to.read != nil) && !who.may(m.right) {
		t.Errorf("%s without the right %s did something: %+v", m.name, m.right, to)
	}
	if to.slid && (m.name != "Check" || !who.may(Touch)) {
		t.Errorf("%s with %v slid a session", m.name, who.Rights)
	}
	if to.changed && m.right != Add && m.right != Revoke || to.listed && m.right != List {
		t.Errorf("%s did what another method does: %+v", m.name, to)
	}
	if slices.Contains(to.read, secretField) && m.name != "Check" {
		t.Errorf("%s read a field that the caller may not see", m.name)
	}
	for _, secret := range []string{secretValue, "192.0.2.77", id.Reveal()} {
		if strings.Contains(answer, secret) {
			t.Errorf("%s with %v: the answer has %q: %q", m.name, who.Rights, secret, answer)
		}
	}
	reads := m.right == Get || m.right == Check || m.right == List
	if strings.Contains(answer, username) && (!reads || !who.may(m.right)) {
		t.Errorf("%s with %v: the answer has data: %q", m.name, who.Rights, answer)
	}
	if strings.Contains(answer, "internal") && strings.Contains(answer, "bug") {
		t.Errorf("%s met a bug: %q", m.name, answer)
	}
}
