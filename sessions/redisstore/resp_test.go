package redisstore

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/coatcheck/coatcheck/sessions"
)

// plainly is a second reading of RESP3, in few words, for texts that are all there. It
// returns what is behind the reply.
func plainly(in string, depth int) (r reply, rest string, ok bool) {
	line, rest, found := strings.Cut(in, "\r\n")
	if !found || line == "" || strings.Contains(line, "\n") || len(line)+2 > maxReplyLine {
		return reply{}, "", false
	}
	r = reply{kind: line[0], text: line[1:]}
	if strings.IndexByte("+-:,#(", r.kind) >= 0 {
		return r, rest, true
	}
	if r.kind == '_' {
		r.null = true
		return r, rest, true
	}
	n, err := strconv.Atoi(r.text)
	r.text = ""
	each := map[byte]int{'*': 1, '~': 1, '>': 1, '%': 2, '|': 2}[r.kind]
	switch {
	case err != nil || each == 0 && strings.IndexByte("$=!", r.kind) < 0:
		return reply{}, "", false
	case n == -1:
		r.null = true
		return r, rest, true
	case n < 0:
		return reply{}, "", false
	case each == 0:
		return plainBulk(r, n, rest)
	case n > maxReplyList || depth >= maxReplyDepth:
		return reply{}, "", false
	}
	for range n * each {
		var value reply
		if value, rest, ok = plainly(rest, depth+1); !ok {
			return reply{}, "", false
		}
		r.list = append(r.list, value)
	}
	return r, rest, true
}

func plainBulk(r reply, n int, rest string) (reply, string, bool) {
	if n > maxReplyText || len(rest) < n+2 || rest[n:n+2] != "\r\n" {
		return reply{}, "", false
	}
	r.text, rest = rest[:n], rest[n+2:]
	switch r.kind {
	case '=':
		_, r.text, _ = strings.Cut(r.text, ":")
	case '!':
		r.kind = '-'
	}
	return r, rest, true
}

var respSeeds = []string{
	"+OK\r\n", "-ERR no\r\n", ":12\r\n", "$3\r\nabc\r\n", "$-1\r\n", "*-1\r\n", "_\r\n", "*2\r\n$1\r\na\r\n:1\r\n", "%1\r\n+a\r\n#t\r\n", "=7\r\ntxt:abc\r\n", "!5\r\nERR x\r\n",
	">2\r\n$10\r\ninvalidate\r\n*1\r\n$9\r\nsession:a\r\n", ">2\r\n$10\r\ninvalidate\r\n_\r\n", "|1\r\n+ttl\r\n:5\r\n+OK\r\n", "$1\r\nab\r\n", "$3\r\nab\r\n", "$999999999999\r\n", "*1048577\r\n",
	"*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n:1\r\n", "\r\n", "+a\nb\r\n", "*+1\r\n:1\r\n", "~1\r\n,1.5\r\n", "(1234\r\n", "%-1\r\n", "$-2\r\n", "*1\r\n", ">0\r\n",
}

// FuzzFrames holds the reading of RESP3 to a plain one: both take the same texts, and
// for the same, also a byte at a time; and no reply takes more memory than its bytes
// warrant.
func FuzzFrames(f *testing.F) {
	for _, seed := range respSeeds {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		source := bufio.NewReader(bytes.NewReader(in))
		got, err := frames{source}.read(0)
		slow, slowErr := frames{bufio.NewReaderSize(iotest.OneByteReader(bytes.NewReader(in)), 16)}.read(0)
		if (err == nil) != (slowErr == nil) || err == nil && !reflect.DeepEqual(got, slow) {
			t.Fatalf("%q: at once %v, %v; by bytes %v, %v", in, got, err, slow, slowErr)
		}
		want, rest, ok := plainly(string(in), 0)
		switch {
		case ok != (err == nil):
			t.Fatalf("%q: %v, %v; a plain reading %v, %v", in, got, err, want, ok)
		case err != nil && !errors.Is(err, errNoReply) && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF):
			t.Fatalf("%q: the error is %v", in, err)
		case !ok:
			return
		case !reflect.DeepEqual(got, want):
			t.Fatalf("%q: %v, want %v", in, got, want)
		}
		behind, err := io.ReadAll(source)
		if err != nil || string(behind) != rest {
			t.Fatalf("%q: it leaves %q, want %q, %v", in, behind, rest, err)
		}
		if replies, text := size(got); replies > len(in)/3 || text > len(in) {
			t.Fatalf("%q: %d replies with %d bytes", in, replies, text)
		}
	})
}

func size(r reply) (replies, text int) {
	replies, text = 1, len(r.text)
	for _, value := range r.list {
		n, m := size(value)
		replies, text = replies+n, text+m
	}
	return replies, text
}

// toldTo notes what a Listener is told.
type toldTo struct{ keys []string }

func (l *toldTo) Invalidate(key sessions.Key) { l.keys = append(l.keys, string(key)) }
func (*toldTo) Alive(time.Time)               {}
func (*toldTo) Flush(string)                  {}

// FuzzPushes: for any bytes that a server sends on a tracking connection, the reading of it ends
// with an error, which says that changes may have been missed; and until then every key
// of an invalidation was told, in its order, and nothing else.
func FuzzPushes(f *testing.F) {
	for _, seed := range respSeeds {
		f.Add([]byte(seed))
		f.Add([]byte(">2\r\n$10\r\ninvalidate\r\n*2\r\n$9\r\nsession:a\r\n$9\r\nsession:b\r\n" + seed))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		var told toldTo
		c := &trackingConn{answers: make(chan []reply, 1), frames: frames{bufio.NewReader(bytes.NewReader(in))}}
		c.asked.Store(1)
		if err := c.read(&told); err == nil {
			t.Fatalf("%q: the reading ends without a reason", in)
		}
		if want := invalidated(string(in)); !slices.Equal(told.keys, want) {
			t.Fatalf("%q: told of %q, want %q", in, told.keys, want)
		}
	})
}

// invalidated are the keys that a text tells of, until its first fault: what is no reply,
// an error, a second answer, a push that says that all is gone.
func invalidated(in string) (keys []string) {
	for answers := 0; ; {
		r, rest, ok := plainly(in, 0)
		if !ok {
			return keys
		}
		in = rest
		switch {
		case r.kind == '|':
		case r.kind == '-':
			return keys
		case r.kind != '>':
			if answers++; answers > 1 {
				return keys
			}
		case r.first() != "invalidate" || len(r.list) < 2:
		case r.list[1].null:
			return keys
		default:
			for _, key := range r.list[1].list {
				keys = append(keys, key.text)
			}
		}
	}
}

// FuzzNodes: of any answers to CLUSTER INFO and CLUSTER NODES no node is a master that
// the answer does not call one, none is without slots, and the one that answers is among
// them.
func FuzzNodes(f *testing.F) {
	const line = "07c37dfeb235213a872192d90877d0cd55635b91 127.0.0.1:30004@31004,host myself,master - 0 1426238317239 4 connected 0-5460"
	for _, seed := range []string{
		line, line + "\n" + strings.ReplaceAll(line, "07c3", "08c3"), strings.Replace(line, "master", "slave", 1), line + " [5461->-08c3]", line + " [5461-<-08c3]",
		strings.TrimSuffix(line, " 0-5460"), strings.Replace(line, "myself,master", "master,fail", 1), "a b myself,master", "",
	} {
		f.Add("cluster_state:ok", seed)
		f.Add("cluster_state:fail", seed)
	}
	f.Fuzz(func(t *testing.T, info, nodes string) {
		id, masters, err := readNodes([]reply{{text: info}, {text: nodes}})
		if err != nil {
			if id != "" || masters != nil && !errors.Is(err, errNoMaster) {
				t.Fatalf("%q: %v with %q %v", nodes, err, id, masters)
			}
			return
		}
		if !strings.Contains(info, "cluster_state:ok") || !masters[id] {
			t.Fatalf("%q %q: %q of %v", info, nodes, id, masters)
		}
		for master := range masters {
			if !slices.ContainsFunc(strings.Split(nodes, "\n"), func(line string) bool {
				f := strings.Fields(line)
				if len(f) < 9 || f[0] != master {
					return false
				}
				flags := strings.Split(f[2], ",")
				return slices.Contains(flags, "master") && !slices.Contains(flags, "fail")
			}) {
				t.Fatalf("%q: %q is no master with slots", nodes, master)
			}
		}
	})
}

// FuzzKeyspace: a number of keys is one that a line of the database has, and never
// negative.
func FuzzKeyspace(f *testing.F) {
	for _, seed := range []string{"# Keyspace\r\ndb0:keys=5,expires=5,avg_ttl=0\r\n", "# Keyspace\r\n", "", "# Keyspace\ndb0:keys=-1", "# Keyspace\ndb0:keys=", "# Keyspace\ndb1:keys=3\ndb10:keys=4,subexpiry=0\n"} {
		f.Add(seed, 0)
		f.Add(seed, 1)
	}
	f.Fuzz(func(t *testing.T, info string, database int) {
		n, err := keysIn(info, database)
		switch {
		case err != nil && n != 0, n < 0:
			t.Fatalf("%q: %d keys, %v", info, n, err)
		case n > 0 && !strings.Contains(strings.ReplaceAll(info, "+", ""), "db"+strconv.Itoa(database)+":keys="):
			t.Fatalf("%q: %d keys in database %d", info, n, database)
		}
	})
}
