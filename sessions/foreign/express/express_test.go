package express_test

import (
	"errors"
	"testing"

	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/foreign/express"
)

const (
	secret  = "keyboard cat"
	sid     = "kWWVZ_-LEE3_dZ7V7wRhQSrOpWxYXdh8"
	cookie  = "s%3AkWWVZ_-LEE3_dZ7V7wRhQSrOpWxYXdh8.n3%2BotGLnxah8Qzmw1yYm%2FcGKlmzNQGRodzSlVSAbp1s"
	passort = `{"cookie":{"originalMaxAge":null,"expires":null,"httpOnly":true,"path":"/"},"passport":{"user":42}}`
)

func TestRecorded(t *testing.T) {
	f, err := express.New(express.Config{Secrets: []string{"new", secret}, UserID: "passport.user"})
	if err != nil {
		t.Fatal(err)
	}
	id, err := f.Read(sessions.CookieHeader{Lines: []string{"a=b; connect.sid=" + cookie}})
	if err != nil || id.Reveal() != sid {
		t.Fatal(err)
	}
	found, err := f.Decode(sessions.ForeignRecord{Value: []byte(passort)}, nil)
	if err != nil || found.Session.UserID != "42" || found.Lifetime != express.DefaultTTL {
		t.Fatal(found, err)
	}
	if _, err := f.Parse("x" + cookie); !errors.Is(err, sessions.ErrMalformed) {
		t.Fatal(err)
	}
}
