package redisstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"math/big"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/coatcheck/coatcheck/internal/secretfile"
	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/redisstore/internal/lane"
)

// A scripted connection answers a greeting, and then sends a text and ends.
type scripted struct{ text, pending []byte }

func (s *scripted) Write(b []byte) (int, error) {
	if strings.Contains(strings.ToLower(string(b)), "\r\nhello\r\n") {
		s.pending = append(s.pending, "%0\r\n"...)
	} else {
		s.pending, s.text = append(s.pending, s.text...), nil
	}
	return len(b), nil
}

func (s *scripted) Read(b []byte) (n int, err error) {
	if n = copy(b, s.pending); n == 0 {
		return 0, io.EOF
	}
	s.pending = s.pending[n:]
	return n, nil
}

func (*scripted) Close() error                     { return nil }
func (*scripted) LocalAddr() net.Addr              { return nowhere{} }
func (*scripted) RemoteAddr() net.Addr             { return nowhere{} }
func (*scripted) SetDeadline(time.Time) error      { return nil }
func (*scripted) SetReadDeadline(time.Time) error  { return nil }
func (*scripted) SetWriteDeadline(time.Time) error { return nil }

// FuzzTouch: of any bytes that Redis sends for a touch, what a lane takes for an answer
// go-redis takes for the same, though they share no code; and neither makes a session of
// replies that are of another kind.
func FuzzTouch(f *testing.F) {
	for _, seed := range []string{
		":1\r\n*3\r\n$1\r\n1\r\n$2\r\n42\r\n$-1\r\n:7200000\r\n", ":0\r\n*3\r\n_\r\n_\r\n_\r\n:-2\r\n", ":0\r\n-WRONGTYPE x\r\n:5\r\n", "-NOPERM x\r\n*3\r\n_\r\n_\r\n_\r\n:5\r\n", "-MOVED 1 a:1\r\n-MOVED 1 a:1\r\n-MOVED 1 a:1\r\n",
		":0\r\n*3\r\n+1\r\n:42\r\n#t\r\n:5\r\n", ":0\r\n*2\r\n$1\r\n1\r\n$2\r\n42\r\n:5\r\n", ":0\r\n*4\r\n$1\r\n1\r\n$2\r\n42\r\n_\r\n_\r\n:5\r\n", ":0\r\n*3\r\n_\r\n_\r\n_\r\n$1\r\n5\r\n", ":1\r\n*3\r\n$1\r\n1\r\n$2\r\n42\r\n$-1\r\n:-1\r\n+",
		":0\r\n:-1\r\n:5\r\n", ":0\r\n*2147483647\r\n", ":0\r\n*3\r\n$2147483647\r\n", "+1\r\n", "%99999999\r\n",
		":0\r\n%1\r\n$1\r\nv\r\n$1\r\n1\r\n:5\r\n", "+OK\r\n*3\r\n_\r\n_\r\n_\r\n:5\r\n", ":0\r\n*-1\r\n:5\r\n", "_\r\n_\r\n_\r\n", ":1\r\n*3\r\n$1\r\n1\r\n$2\r\n42\r\n$-1\r\n:9223372036854775807\r\n", ":0\r\n*3\r\n$0\r\n\r\n_\r\n_\r\n:-3\r\n",
	} {
		f.Add([]byte(seed))
	}
	names := []string{"v", "user_id", "cart"}
	key := sessions.NewID().Key()
	f.Fuzz(func(t *testing.T, in []byte) {
		l := lane.New(&scripted{text: slices.Clone(in)}, time.Second)
		defer l.Close()
		got, left, err := l.Touch(t.Context(), key, time.UnixMilli(1), names)
		client := redis.NewClient(&redis.Options{
			Dialer:   func(context.Context, string, string) (net.Conn, error) { return &scripted{text: slices.Clone(in)}, nil },
			PoolSize: 1, MaxRetries: -1, DialerRetries: 1, DisableIdentity: true, MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
		})
		defer func() { _ = client.Close() }()
		(&nodes{known: new(secretfile.Set)}).add(client)
		want, wantLeft, wantErr := (&Store{client: client}).touch(t.Context(), key, time.UnixMilli(1), names)
		if wantErr == nil && (len(want) > len(names) || wantLeft > sessions.MaxTimeout) {
			t.Fatalf("%q: go-redis makes %q of it, for %v", in, want, wantLeft)
		}
		switch {
		case errors.Is(err, lane.ErrAgain): // go-redis decides
		case err == nil && (wantErr != nil || !maps.Equal(got, want) || left != wantLeft):
			t.Fatalf("%q: %q for %v, and by go-redis %q for %v, %v", in, got, left, want, wantLeft, wantErr)
		case err != nil && !same(err, wantErr, sessions.ErrNotFound, sessions.ErrBroken):
			t.Fatalf("%q: %v, and by go-redis %v", in, err, wantErr)
		}
	})
}

// FuzzDigest: a score is a digest, which is written as it was read, or none.
func FuzzDigest(f *testing.F) {
	for _, seed := range []float64{0, 1, -1, 0.5, 5.5, 1<<53 - 1, 1 << 53, 1<<53 + 2, math.MaxFloat64, math.SmallestNonzeroFloat64, math.Inf(1), math.Inf(-1), math.NaN(), math.Copysign(0, -1)} {
		f.Add(seed)
	}
	most := new(big.Int).Lsh(big.NewInt(1), 53)
	f.Fuzz(func(t *testing.T, score float64) {
		got := digestOf(score)
		if math.IsNaN(score) || math.IsInf(score, 0) {
			if got != 0 {
				t.Fatalf("%v is %d", score, got)
			}
			return
		}
		want, exact := big.NewFloat(score).Int(nil)
		if exact != big.Exact || want.Sign() < 0 || want.Cmp(most) >= 0 {
			want = new(big.Int)
		}
		if want.Uint64() != got {
			t.Fatalf("%v is %d, want %v", score, got, want)
		}
		if again, err := strconv.ParseFloat(strconv.FormatUint(got, 10), 64); err != nil || digestOf(again) != got {
			t.Fatalf("%d is written and read as %v, %v", got, again, err)
		}
	})
}

// FuzzMembers: what others write into the listing of a user names no session, unless it is
// the hash part of a key.
func FuzzMembers(f *testing.F) {
	hash := sessions.NewID().Key().Hash()
	for _, seed := range []string{"", hash, hash + "\n" + hash, sessions.KeyPrefix + hash, hash + "=", " " + hash, hash[1:] + "\n" + hash, hash[:42] + "B", strings.Repeat("*", 43)} {
		f.Add(seed)
	}
	form := regexp.MustCompile(`\A[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]\z`)
	f.Fuzz(func(t *testing.T, text string) {
		members := strings.Split(text, "\n")
		var want []sessions.Key
		for _, member := range members {
			if form.MatchString(member) {
				want = append(want, sessions.Key("session:"+member))
			}
		}
		if got := keysOf(members); !slices.Equal(got, want) {
			t.Fatalf("%q: %q, want %q", text, got, want)
		}
	})
}

// FuzzInfo: of INFO each field is there that a regular expression finds, and no other.
func FuzzInfo(f *testing.F) {
	for _, seed := range []string{
		"# Memory\r\nmaxmemory_policy:noeviction\r\n", "aof_enabled:0\nconnected_slaves:1\r\nmin_slaves_good_slaves:0", "", ":", "a:\r\na:b:c\r\n", "\r\n # x:y\n", "slave0:ip=::1,port=1,state=online\r\n", "a\x00:\xff\n", "\u00a0a:b\u2028",
	} {
		f.Add(seed)
	}
	line := regexp.MustCompile(`\A([^:]*):((?s).*)\z`)
	f.Fuzz(func(t *testing.T, text string) {
		want := make(map[string]string)
		for part := range strings.SplitSeq(text, "\n") {
			if found := line.FindStringSubmatch(strings.TrimSpace(part)); found != nil {
				want[found[1]] = found[2]
			}
		}
		if got := infoOf(text); !maps.Equal(got, want) {
			t.Fatalf("%q: %q, want %q", text, got, want)
		}
	})
}

// FuzzFailure: an error that Redis replies with has one of the causes, the same when it is
// wrapped; and where it repeats a password, what is said of it does not, but for replies
// whose text is known.
func FuzzFailure(f *testing.F) {
	for _, seed := range []string{
		"ERR unknown command 'auth', with args beginning with: 'hunter2'", "WRONGPASS hunter2", "NOPERM this user has no permissions to run the 'time' command", "EXECABORT Transaction discarded because of: OOM command not allowed", "MOVED 1 a:1", "READONLY",
		"ERR max number of clients reached", "", "ERR The user executing the script can't run this command", "hunter2", "LOADING", "redis: nil", "UNKILLABLE x", "ERR \"hun\\\"ter2\"",
	} {
		f.Add(seed, "hunter2")
		f.Add(seed, `hun"ter2`)
	}
	f.Fuzz(func(t *testing.T, text, password string) {
		s := secretsOf(password)
		reply := replyError(text)
		hid := s.hideOne(t, reply)
		wrapped := s.hideOne(t, fmt.Errorf("asking: %w", reply))
		cause, openedBy := CauseOf(hid)
		again, _ := CauseOf(wrapped)
		if !slices.ContainsFunc(Causes(), func(i CauseInfo) bool { return i.Cause == cause }) && !isAnswer(hid) || cause != again || openedBy != "" {
			t.Fatalf("%q: the cause is %q, and wrapped %q", text, cause, again)
		}
		if !Answered(hid) || !Answered(wrapped) {
			t.Fatalf("%q is no answer", text)
		}
		if password == "" || !strings.Contains(text, password) || fixed(text) {
			return
		}
		for _, err := range []error{hid, wrapped} {
			if said := strings.TrimPrefix(err.Error(), errSecret.Error()); strings.Contains(said, password) {
				t.Fatalf("%q: said is %q", text, err)
			}
		}
	})
}
