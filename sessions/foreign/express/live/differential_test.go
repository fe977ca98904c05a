package live_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestDifferential: of a thousand cookies and records that are a little wrong, Coatcheck
// allows none by which the application knows no user, and never another user than the
// application's.
func TestDifferential(t *testing.T) {
	for name, apps := range map[string][]int{"own": {0, 7}, "passport": {2}, "prefixed": {0}, "rolling": {0}} {
		for _, i := range apps {
			t.Run(fmt.Sprint(name, " ", i), func(t *testing.T) { v := theSite(t, name); newDiffer(t, v, v.apps[i]).run(1000) })
		}
	}
}

// A differ asks Coatcheck and the application the same.
type differ struct {
	*testing.T
	*site
	app      *app
	random   *rand.Rand
	people   [2]person
	records  [2]string
	allowed  int // by both
	narrower int // known to the application, and refused
}

func newDiffer(t *testing.T, v *site, a *app) *differ {
	d := &differ{T: t, site: v, app: a, random: rand.New(rand.NewPCG(16, uint64(len(a.name))))}
	for i, query := range []string{ada, "uid=7&name=bob&roles=user"} {
		d.people[i] = v.signIn(t, a, query)
		d.records[i] = v.value(t, d.people[i])
	}
	return d
}

func (d *differ) run(times int) {
	for _, record := range d.odd() {
		d.compare(d.people[0].cookie, record)
	}
	for i := range times {
		cookie, record := d.people[0].cookie, d.records[0]
		if i%2 == 0 {
			cookie = d.cookie()
		} else {
			record = d.mutate(record, d.records[1], recordParts)
		}
		d.compare(cookie, record)
	}
	d.Logf("of %d, both know the user of %d; the application alone, of %d", times, d.allowed, d.narrower)
	if d.allowed < times/50 {
		d.Errorf("Coatcheck allowed only %d of %d: the test would see no difference", d.allowed, times)
	}
}

// compare sets the record of the first user, and asks Coatcheck and then the application,
// which gives a record without an end one, and may write it anew.
func (d *differ) compare(cookie, record string) {
	d.set(d, d.people[0].key, record, time.Hour)
	d.set(d, d.people[1].key, d.records[1], time.Hour)
	w := send(d, d.URL, d.app.name, "GET /echo", cookie)
	if d.value(d, d.people[0]) != record {
		d.Errorf("Coatcheck changed the value %q", record)
	}
	known := d.app.ask(d, "GET /me", cookie).user(d)
	switch w.status {
	case http.StatusOK:
		d.allowed++
		if got := w.told(d); known == "" || got != known {
			d.Errorf("Coatcheck allows the user %q, and to the application it is %q\ncookie %q\nrecord %q", got, known, cookie, record)
		}
	case http.StatusUnauthorized:
		if known != "" {
			d.narrower++
		}
	default:
		d.Errorf("%d: %s\ncookie %q\nrecord %q", w.status, w.body, cookie, record)
	}
}

// cookie is the Cookie header of the first user, changed.
func (d *differ) cookie() string {
	header := d.mutate(d.people[0].cookie, d.people[1].cookie, cookieParts)
	// What no client of HTTP can send.
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if r < ' ' && r != '\t' || r == 0x7f { // a line break would make a second header
			return -1
		}
		return r
	}, header))
}

var (
	cookieParts = []string{"; ", ";", "=", "%", `"`, "connect.sid=", "shop.sid=", "s:", "s%3A", ".", "j:", ",", " ", "%00", "%25", "%2E", "+", "%2B", "%2F", "/", "a=b; ", "é", "\xff", "\t"}
	recordParts = []string{
		`"user":`, `"userId":`, `"passport":`, `{"userId":7}`, `{"user":7}`, `"`, "{", "}", "[", "]", ":", ",", "0", "9", ".", "e", "E1", "-", "null", "true", "1e0", " ", "\\", "\\u0000", "\\ud800", "\\u0034", "é", "\xff", "\x00", "\n",
		`"USER":{"userId":7},`, `"user":{"userId":7},`, `"passport":{"user":7},`, `"Passport":{"user":7},`, `"__proto__":{"user":{"userId":7}},`, `"cookie":{},`, `"cookie":null,`, `"id":7,`,
	}
)

// mutate changes a text in one to three places.
func (d *differ) mutate(text, other string, parts []string) string {
	for range 1 + d.random.IntN(3) {
		at := d.random.IntN(len(text) + 1)
		end := min(len(text), at+d.random.IntN(6))
		switch d.random.IntN(8) {
		case 0:
			text = text[:at] + text[end:]
		case 1:
			text = text[:at] + parts[d.random.IntN(len(parts))] + text[at:]
		case 2:
			text = text[:at] + parts[d.random.IntN(len(parts))] + text[end:]
		case 3:
			text = text[:at] + string(rune(' '+d.random.IntN(95))) + text[end:]
		case 4:
			text = text[:at] + other[min(at, len(other)):]
		case 5:
			text = text[:at] + text[at:end] + text[at:]
		case 6: // at a seam, where most changes still make a record
			if i := strings.IndexAny(text[at:], ",{;"); i >= 0 {
				text = text[:at+i+1] + parts[d.random.IntN(len(parts))] + text[at+i+1:]
			}
		default:
			text = swapped(text, at, d.random)
		}
	}
	return text
}

// swapped has the case of one letter, or one digit, changed.
func swapped(text string, at int, random *rand.Rand) string {
	for i := at; i < len(text); i++ {
		switch c := text[i]; {
		case c >= '0' && c <= '9':
			return text[:i] + fmt.Sprint(random.IntN(10)) + text[i+1:]
		case c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z':
			return text[:i] + string(rune(c^0x20)) + text[i+1:]
		}
	}
	return text
}

// odd are records in which a JavaScript program and another may read two users.
func (d *differ) odd() (records []string) {
	one := d.records[0]
	for _, value := range []string{
		"42.0", "4.2e1", "-0", "0", "-1", "1e21", "123456789012345678901234567890", "9007199254740993", "0.1", "1e400", "5e-324", "true", "false", "[42]", "{}", `{"valueOf":42}`, `""`, `" "`, `"42"`, `"\u0034\u0032"`, `"a\u0000b"`, `"\ud800"`, `"\ud83d\ude00"`, `"é"`, `"e\u0301"`, `"a,b"`, `"%41"`, `"a\nb"`, `"\u2028"`,
		"\"\xff\"", "\"\xc3\xa9\"", "\"\xed\xa0\x80\"", `"` + strings.Repeat("a", 256) + `"`, `"` + strings.Repeat("a", 257) + `"`, `"` + strings.Repeat("é", 129) + `"`, "042", "+42", "0x2a", "42,", "NaN", "Infinity", "\u00a042", "\ufeff42",
	} {
		records = append(records, strings.Replace(one, ":42", ":"+value, 1))
	}
	for _, more := range recordParts {
		records = append(records, strings.Replace(one, "{", "{"+more, 1), strings.TrimSuffix(one, "}")+","+strings.TrimSuffix(more, ",")+"}")
	}
	return append(records, "\ufeff"+one, " "+one+"\n", "\u00a0"+one, one+"\x00", strings.ReplaceAll(one, "user", "USER"), strings.ReplaceAll(one, "userId", "userid"), strings.ReplaceAll(one, "user", `us\u0065r`))
}
