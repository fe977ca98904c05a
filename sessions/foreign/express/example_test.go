package express_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/internal/docstest"
	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/foreign/express"
)

func TestExamples(t *testing.T) {
	docstest.Examples(t, "sessions/foreign/express", "Format.Cut", "Format.Lookalikes", "Format.Parse", "Format.Place", "Format.Fields", "Format.ValidateField") // of sessions.Format
}

// The session that an application with passport has made.
func Example() {
	secrets, err := express.ReadSecrets([]byte("new secret\nkeyboard cat\n")) // of a file
	if err != nil {
		panic(err)
	}
	var format *express.Format
	format, err = express.New(express.Config{
		Cookie: express.DefaultCookie, Prefix: express.DefaultPrefix, TTL: express.DefaultTTL,
		Secrets: secrets, UserID: "passport.user",
	})
	if err != nil {
		panic(err)
	}
	id, err := format.Read(sessions.CookieHeader{Lines: []string{"connect.sid=s%3AhzA1Fb15vkgDrCT7hR96BFYnxz1WUJZZ.LVMRLdx4soba3Z2xqt0dNhj99qHh61FGbf5N5TWrKJM"}})
	if err != nil {
		panic(err)
	}
	found, err := format.Decode(sessions.ForeignRecord{
		Value: []byte(`{"cookie":{"originalMaxAge":null},"passport":{"user":42},"tenant":"acme"}`), TTL: 20 * time.Hour,
	}, []string{"tenant"})
	fmt.Println(found.Session.UserID, found.Session.Fields["tenant"], found.Lifetime, id, err)
	fmt.Println(format.SetSecrets(nil)) // a mistake, after which the former ones stay
	// Output:
	// 42 acme 24h0m0s [session ID] <nil>
	// there is no secret
}
