package e2e_test

import (
	"bytes"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	extauthzv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_authz/v3"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/coatcheck/coatcheck/envoy/e2e/rig"
	"github.com/coatcheck/coatcheck/sessions"
)

// TestCookies: one session cookie authenticates, two do not, and other cookies reach
// the upstream unchanged.
func TestCookies(t *testing.T) {
	s := start(t, rig.Options{Patient: true})
	live, _ := login(t, manager(t, s, sessions.Config{}), ada)
	var latin, invalid strings.Builder
	for b := 0x80; b <= 0xff; b++ {
		latin.WriteRune(rune(b))
		invalid.WriteByte(byte(b))
	}
	huge := "huge=" + strings.Repeat("x", 58<<10)
	for _, test := range []struct {
		name   string
		lines  []string
		status int
		want   []string // the upstream's cookie lines
	}{
		{"between others", []string{"a=1; " + live + "; b=\"2\"; c"}, 200, []string{`a=1; b="2"; c`}},
		{"two lines", []string{"a=1", live}, 200, []string{"a=1"}},
		{"two lines, the other way", []string{live, "a=1; b=2"}, 200, []string{"a=1; b=2"}},
		{"twice on two lines", []string{live, live}, 401, nil},
		{"twice on one line", []string{live + "; " + live}, 401, nil},
		{"in quotes", []string{strings.Replace(live, "=", `="`, 1) + `"`}, 401, nil},
		{"foreign UTF-8", []string{"a=" + latin.String() + "; " + live}, 200, []string{"a=" + latin.String()}},
		{"foreign bytes", []string{"a=" + invalid.String() + "; " + live + "; b=2"}, 200, []string{"b=2"}},
		{"60 KB", []string{huge + "; " + live}, 200, []string{huge}},
	} {
		t.Run(test.name, func(t *testing.T) {
			var lines []string
			for _, line := range test.lines {
				lines = append(lines, "Cookie: "+line)
			}
			got := send(t, s, "GET /x", lines...).is(t, test.status)
			wantCookies(t, got, test.want...)
		})
	}
	t.Run("without ours nothing is touched", func(t *testing.T) {
		foreign := []string{"a=1;b=2 ;; c=" + invalid.String(), "d=4"}
		got := send(t, s, "GET /public", "Cookie: "+foreign[0], "Cookie: "+foreign[1]).is(t, 200)
		// JSON, in which the upstream answers, cannot hold the bytes.
		foreign[0] = strings.ToValidUTF8(foreign[0], "\uFFFD")
		got.sent.Headers["Cookie"][0] = strings.ReplaceAll(got.cookies()[0], strings.Repeat("\uFFFD", 128), "\uFFFD")
		wantCookies(t, got, foreign...)
	})
	t.Run("over Envoy's limit", func(t *testing.T) {
		if got := send(t, s, "GET /x", "Cookie: "+huge+huge+"; "+live); got.status != 431 {
			t.Errorf("status %d, want 431", got.status)
		}
	})
}

// joining is Envoy's default: the headers map, in which lines are joined.
func joining(b *bootstrapv3.Bootstrap) {
	rig.ChangeFilter(b, func(f *extauthzv3.ExtAuthz) { f.EncodeRawHeaders = false })
}

// TestJoinedCookies: without raw headers Envoy joins lines with commas, and a cookie
// behind a comma does not authenticate.
func TestJoinedCookies(t *testing.T) {
	s := start(t, rig.Options{Patient: true, Bootstrap: joining})
	live, _ := login(t, manager(t, s, sessions.Config{}), ada)
	for _, test := range []struct {
		name   string
		lines  []string
		status int
		want   []string
	}{
		{"one line", []string{"a=1; " + live + "; b=2"}, 200, []string{"a=1; b=2"}},
		{"on the second line", []string{"a=1", live}, 401, nil},
		{"twice", []string{"a=1; " + live, live}, 401, nil},
		{"once behind a comma", []string{"a=1; " + live + "; b=2," + live}, 401, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			var lines []string
			for _, line := range test.lines {
				lines = append(lines, "Cookie: "+line)
			}
			wantCookies(t, send(t, s, "GET /x", lines...).is(t, test.status), test.want...)
		})
	}
}

// TestPlantedCookie: a sibling domain can set a cookie of another name whose value
// holds ours behind a comma. It does not authenticate, in either form of the headers,
// and no upstream receives it as ours where Envoy joins lines. There it locks its
// victim out while it exists; with raw headers it has no effect.
func TestPlantedCookie(t *testing.T) {
	for _, form := range []struct {
		name   string
		change func(*bootstrapv3.Bootstrap)
		sent   func(planted string) string // what an upstream sees of a planted cookie
		signed int                         // the status of a victim who is signed in
		reason string                      // of the refusal of one who is not
	}{
		{"raw", nil, func(planted string) string { return planted }, 200, "no_cookie"},
		{"joined", joining, func(planted string) string { before, _, _ := strings.Cut(planted, ",__Host"); return before }, 401, "ambiguous_cookie"},
	} {
		t.Run(form.name, func(t *testing.T) {
			s := start(t, rig.Options{Patient: true, Bootstrap: form.change})
			m := manager(t, s, sessions.Config{})
			victim, _ := login(t, m, ada)
			attacker, _ := login(t, m, sessions.NewSession{UserID: "666"})
			send(t, s, "GET /x", "Cookie: "+attacker).is(t, 200) // as a cookie of its own it would sign in
			for _, planted := range []string{"a=1," + attacker, "a=," + attacker, `a="1,` + attacker + `"`, "," + attacker, "a=1 ," + attacker} {
				logged := len(s.Coatcheck.Output())
				send(t, s, "GET /x", "Cookie: "+planted).is(t, 401)
				waitFor(t, `"reason":"`+form.reason+`"`, func() string { return s.Coatcheck.Output()[logged:] })
				for _, route := range []string{"/optional", "/public"} {
					got := send(t, s, "GET "+route, "Cookie: b=2; "+planted+"; c=3").is(t, 200)
					if len(got.identity()) > 0 {
						t.Errorf("%s, %s: the upstream was sent %v", planted, route, got.identity())
					}
					want := "b=2; " + form.sent(planted) + "; c=3"
					wantCookies(t, got, strings.ReplaceAll(want, "; ;", ";"))
				}
				for _, both := range []string{victim + "; " + planted, planted + "; " + victim} {
					got := send(t, s, "GET /x", "Cookie: "+both).is(t, form.signed)
					if user := got.identity()["X-User-Id"]; user != "" && user != "42" {
						t.Errorf("%s: it signs %s in", planted, user)
					}
				}
			}
			for _, other := range []string{
				strings.Replace(attacker, "=", " =", 1), strings.Replace(attacker, "=", "\t=", 1), sessions.DefaultCookieName,
				"a=1, " + attacker, strings.ToLower(attacker), strings.ToUpper(sessions.DefaultCookieName) + "=x",
			} {
				logged := len(s.Coatcheck.Output())
				send(t, s, "GET /x", "Cookie: "+other).is(t, 401)
				waitFor(t, `"reason":"no_cookie"`, func() string { return s.Coatcheck.Output()[logged:] })
				got := send(t, s, "GET /x", "Cookie: "+other+"; "+victim).is(t, 200)
				if got.identity()["X-User-Id"] != "42" {
					t.Errorf("%s: it signs in %v", other, got.identity())
				}
				wantCookies(t, got, other)
			}
		})
	}
}

// TestCrumbs: HTTP/2 splits a Cookie header into crumbs (RFC 9113, section
// 8.2.3), which Envoy puts together again.
func TestCrumbs(t *testing.T) {
	s := start(t, rig.Options{Patient: true})
	live, _ := login(t, manager(t, s, sessions.Config{}), ada)
	for _, test := range []struct {
		name   string
		crumbs []string
		status string
	}{
		{"one of ours", []string{"a=1", live, "b=2"}, "200"},
		{"two of ours", []string{live, "a=1", live}, "401"},
		{"not ours", []string{"a=1", "b=2"}, "401"},
	} {
		t.Run(test.name, func(t *testing.T) {
			status, body := http2Get(t, s, test.crumbs)
			if status != test.status {
				t.Errorf("status %s, want %s", status, test.status)
			}
			if status == "200" && !bytes.Contains(body, []byte(`"a=1; b=2"`)) {
				t.Errorf("the upstream was sent %s", body)
			}
		})
	}
}

// http2Get sends a GET with each crumb as a field of its own.
func http2Get(t *testing.T, s *rig.Stack, crumbs []string) (status string, body []byte) {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	fields := []hpack.HeaderField{
		{Name: ":method", Value: "GET"}, {Name: ":scheme", Value: "http"},
		{Name: ":authority", Value: "shop.example"}, {Name: ":path", Value: "/x"},
	}
	for _, crumb := range crumbs {
		fields = append(fields, hpack.HeaderField{Name: "cookie", Value: crumb})
	}
	for _, field := range fields {
		_ = encoder.WriteField(field)
	}
	if _, err := conn.Write([]byte(http2.ClientPreface)); err != nil {
		t.Fatal(err)
	}
	framer := http2.NewFramer(conn, conn)
	framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	_ = framer.WriteSettings()
	_ = framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndStream: true, EndHeaders: true})
	for {
		frame, err := framer.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		switch frame := frame.(type) {
		case *http2.SettingsFrame:
			if !frame.IsAck() {
				_ = framer.WriteSettingsAck()
			}
		case *http2.MetaHeadersFrame:
			status = frame.PseudoValue("status")
		case *http2.DataFrame:
			body = slices.Concat(body, frame.Data())
		}
		if frame.Header().StreamID == 1 && frame.Header().Flags.Has(http2.FlagDataEndStream) {
			return status, body
		}
	}
}
