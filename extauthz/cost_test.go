package extauthz

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

func onWire(n protowire.Number, parts ...[]byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(nil, n, protowire.BytesType), bytes.Join(parts, nil))
}

func extensionOnWire(key, value string) []byte {
	return onWire(1, onWire(10, onWire(1, []byte(key)), onWire(2, []byte(value))))
}

func headerOnWire(name, value string) []byte {
	return onWire(1, onWire(1, []byte(name)), onWire(3, []byte(value)))
}

func mapHeaderOnWire(name, value string) []byte {
	return onWire(3, onWire(1, []byte(name)), onWire(2, []byte(value)))
}

// largest is what grpc.max_message_bytes lets in.
const largest = 256 << 10

// repeated makes parts until they fill a message.
func repeated(part func(i int) []byte) []byte {
	var b []byte
	for i := 0; len(b) < largest-2048; i++ {
		b = append(b, part(i)...)
	}
	return b
}

// costly are messages of the allowed size, of every kind that makes a part of the
// server work: an attacker has one of them each.
func costly() map[string][]byte {
	cookie := "__Host-session=" + fuzzID.Reveal()
	request := func(method, path, host string, headers ...[]byte) []byte {
		return onWire(1, onWire(4, onWire(2, append([][]byte{onWire(2, []byte(method)), onWire(4, []byte(path)), onWire(5, []byte(host))}, headers...)...)))
	}
	lines := func(part func(i int) []byte) []byte {
		return request("GET", "/gold", "a", onWire(13, headerOnWire("cookie", cookie), repeated(part)))
	}
	maps := func(part func(i int) []byte) []byte {
		return request("POST", "/gold", "a", mapHeaderOnWire("cookie", cookie), repeated(part))
	}
	long := func(s string) string { return strings.Repeat(s, (largest-1024)/len(s)) }
	one := func(name, value string) []byte {
		return request("POST", "/gold", "a", onWire(13, headerOnWire("cookie", cookie), headerOnWire(name, value)))
	}
	word := "x" + fuzzID.Reveal()
	messages := map[string][]byte{
		"managed names":              lines(func(i int) []byte { return headerOnWire(fmt.Sprintf("x-user-%d", i), "") }),
		"one managed name":           lines(func(int) []byte { return headerOnWire("x-user-id", "") }),
		"managed names in the map":   maps(func(i int) []byte { return mapHeaderOnWire(fmt.Sprintf("x-user-%d", i), "") }),
		"aliases of one name":        lines(func(i int) []byte { return headerOnWire(fmt.Sprintf("X_%08b.%d", i&255, i), "") }),
		"a long managed name":        one("x-user-"+long("a"), "1"),
		"Origin lines":               lines(func(int) []byte { return headerOnWire("origin", "a") }),
		"long Origin lines":          lines(func(int) []byte { return headerOnWire("origin", strings.Repeat("a", 1000)) }),
		"an Origin":                  one("origin", "https://"+long("a.")),
		"an Origin of colons":        one("origin", "https://"+long(":")),
		"an Origin of percent signs": one("origin", "https://"+long("%41")),
		"lines that conditions read": lines(func(int) []byte { return headerOnWire("x-plan", "a") }),
		"Accept lines":               lines(func(int) []byte { return headerOnWire("accept", "a") }),
		"Accept":                     one("accept", long("a/b;q=0.1,")),
		"Accept of parameters":       one("accept", "a/b"+long(";q=")),
		"Accept of commas":           one("accept", long(",")),
		"upgrade lines":              lines(func(int) []byte { return headerOnWire("upgrade", "a") }),
		"cookie lines":               lines(func(int) []byte { return headerOnWire("cookie", "a") }),
		"session cookies":            lines(func(int) []byte { return headerOnWire("cookie", cookie) }),
		"pairs":                      one("cookie", long("a=b;")),
		"pairs of nothing":           one("cookie", long(";")),
		"commas in cookies":          maps(func(int) []byte { return mapHeaderOnWire("cookie", cookie+long(",")) })[:largest],
		"session pairs":              one("cookie", long(cookie+";")),
		"session pairs in the map":   request("GET", "/gold", "a", mapHeaderOnWire("cookie", long(cookie+","))),
		"pairs that are no UTF-8":    one("cookie", long("\xff;")),
		"credentials":                lines(func(int) []byte { return headerOnWire("authorization", "Bearer a") }),
		"a long credential":          one("authorization", long("Bearer ")),
		"empty headers":              lines(func(int) []byte { return headerOnWire("", "") }),
		"empty entries":              request("GET", "/", "a", repeated(func(int) []byte { return []byte{0x1a, 0} })),
		"origins of the map":         maps(func(int) []byte { return mapHeaderOnWire("origin", "a") }),
		"names of the map":           maps(func(i int) []byte { return mapHeaderOnWire(fmt.Sprint("x-plan", i%3), "a") }),
		"a path":                     request("GET", "/"+long("a"), "a"),
		"a path of slashes":          request("GET", "/"+long("a/"), "a"),
		"a path of escapes":          request("GET", "/"+long("%C3%B6"), "a"),
		"a path of dots":             request("GET", "/"+long("./"), "a"),
		"a path of blanks":           request("GET", "/a"+long("%E2%80%8B"), "a"),
		"a path of parameters":       append(request("GET", "/a"+long(";x=1"), "a"), extensionOnWire("coatcheck.paths", "parameters")...),
		"a path of ideal words":      request("GET", "/"+long(word+"/"), "a"),
		"a query":                    request("GET", "/?"+long("%"), "a"),
		"a method":                   request(long("A"), "/", "a"),
		"a host":                     request("GET", "/", long("a.")),
		"a host in A-labels":         request("GET", "/", long("xn--a.")),
		"a host of brackets":         request("GET", "/", "["+long(":")+"]"),
		"request IDs":                one("x-request-id", long(word+"/")),
		"a request ID of bytes":      one("x-request-id", long("\xff")),
		"keys":                       append(request("GET", "/", "a"), repeated(func(i int) []byte { return extensionOnWire(fmt.Sprint(i), "") })...),
		"one key":                    append(request("GET", "/", "a"), repeated(func(int) []byte { return extensionOnWire("coatcheck.session", "none") })...),
		"roles":                      append(request("GET", "/", "a"), extensionOnWire("coatcheck.roles", long("a,"))...),
		"a long role":                append(request("GET", "/", "a"), extensionOnWire("coatcheck.roles", long("\xff"))...),
		"a long policy":              append(request("GET", "/", "a"), extensionOnWire("coatcheck.policy", long(word+" "))...),
		"a long value":               append(request("GET", "/", "a"), extensionOnWire("coatcheck.session", long(word+" "))...),
		"requests":                   repeated(func(int) []byte { return request("GET", "/", "a") }),
		"deep groups":                bytes.Repeat([]byte{0x0b}, largest),
		"noise":                      bytes.Repeat([]byte{0xff}, largest),
	}
	for name, m := range messages {
		messages[name] = m[:min(len(m), largest)]
	}
	return messages
}

// TestCostOfMessages: no message of the allowed size takes long: 2 ms of CPU, for
// which the best of five runs stands, and ten times as much on a busy machine.
func TestCostOfMessages(t *testing.T) {
	const bound = 2 * time.Millisecond
	most, which := time.Duration(0), ""
	for kind, server := range costServers(t) {
		for name, message := range costly() {
			best := time.Hour
			for range 5 {
				start := time.Now()
				server.checkWire(t.Context(), message).Free()
				best = min(best, time.Since(start))
			}
			if best > most {
				most, which = best, kind+", "+name
			}
			if best > bound {
				t.Logf("%s, %s: %v", kind, name, best)
			}
			if best > 10*bound && !raceEnabled {
				t.Errorf("%s, %s: %v", kind, name, best)
			}
		}
	}
	t.Logf("at most %v, for %s", most, which)
}

// costServers work as hard as servers can: they log every decision, and have
// policies and rules or have none.
func costServers(t *testing.T) map[string]*Server {
	servers := make(map[string]*Server)
	for _, name := range []string{"plain", "policies"} {
		server, err := New(oneSession{fuzzID}, Config{
			LoginURL: "/login", Bearer: true, Log: LogConfig{Decisions: LogAll, FaultsPerSecond: 1 << 20}, Logger: slog.New(slog.NewJSONHandler(new(bytes.Buffer), nil)),
		})
		if err == nil && name == "policies" {
			err = server.SetPolicies(fuzzPolicies)
		}
		if err != nil {
			t.Fatal(err)
		}
		servers[name] = server
	}
	return servers
}
