package express_test

import (
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/foreign/express"
)

// BenchmarkFormat is what a check costs beside Redis: the cookie with its signature, and
// the record.
func BenchmarkFormat(b *testing.B) {
	r := recordings(b)[2] // with a name, roles and fields
	f := format(b, r.config())
	h := sessions.CookieHeader{Lines: []string{"theme=dark; " + r.Cookie}}
	record := sessions.ForeignRecord{Value: []byte(r.Value), TTL: time.Minute}
	b.Run("cookie", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := f.Read(h); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("record", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := f.Decode(record, []string{"tenant"}); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("forged cookie", func(b *testing.B) {
		h := sessions.CookieHeader{Lines: []string{"sid=" + express.Signed("0123456789abcdefghijklmnopqrstuv", "guess")}}
		b.ReportAllocs()
		for b.Loop() {
			if _, err := f.Read(h); err == nil {
				b.Fatal("it is taken")
			}
		}
	})
}
