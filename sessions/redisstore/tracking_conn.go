package redisstore

import (
	"bufio"
	"context"
	"errors"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/coatcheck/coatcheck/sessions"
)

// A tracking connection is read here and not by go-redis, whose connections are read when
// a command is sent on them, and whose PubSub connects anew by itself, before its caller
// knows that messages were lost. Here the order of messages and answers is known, and a
// loss is an end.

// trackingChannel is subscribed to, so that the connection is of the class pubsub: Redis
// bounds what it keeps for a client of this class that does not read, and for others it
// does not. Messages on it have no meaning.
const trackingChannel = "coatcheck:near"

// untrackable says that Redis answers, and will not track.
type untrackable struct {
	what    string   // never a text of the server's
	missing []string // rights
}

func (u untrackable) Error() string { return "redis will not track: " + u.what }

type trackingConn struct {
	net.Conn
	lease   time.Duration
	frames  frames
	asked   atomic.Int32 // questions at once
	answers chan []reply // to one ask
}

// patient reads for as long as a lease.
type patient struct{ *trackingConn }

func (p patient) Read(b []byte) (int, error) {
	if err := p.SetReadDeadline(time.Now().Add(p.lease)); err != nil {
		return 0, err
	}
	return p.Conn.Read(b)
}

// openTracking connects as the client does, and has the server track.
func openTracking(ctx context.Context, o *redis.Options, lease time.Duration, cluster bool) (*trackingConn, error) {
	if o.StreamingCredentialsProvider != nil {
		return nil, untrackable{what: "credentials that are streamed cannot be used"}
	}
	username, password, err := credentialsOf(ctx, o)
	if err != nil {
		return nil, err
	}
	raw, err := o.Dialer(ctx, o.Network, o.Addr)
	if err != nil {
		return nil, err
	}
	c := &trackingConn{Conn: raw, lease: lease, answers: make(chan []reply, 1)}
	c.frames = frames{bufio.NewReader(patient{c})}
	stop := context.AfterFunc(ctx, func() { _ = raw.Close() })
	defer stop()
	if err := c.begin(username, password, cluster); err != nil {
		_ = c.Close()
		return nil, err
	}
	return c, nil
}

// credentialsOf goes by the order of go-redis.
func credentialsOf(ctx context.Context, o *redis.Options) (username, password string, err error) {
	switch {
	case o.CredentialsProviderContext != nil:
		return o.CredentialsProviderContext(ctx)
	case o.CredentialsProvider != nil:
		username, password = o.CredentialsProvider()
		return username, password, nil
	}
	return o.Username, o.Password, nil
}

// begin speaks one command after the other, so that every right that is missing is known.
func (c *trackingConn) begin(username, password string, cluster bool) error {
	hello := []string{"HELLO", "3"}
	if password != "" {
		if username == "" {
			username = "default"
		}
		hello = append(hello, "AUTH", username, password)
	}
	r, err := c.call(hello...)
	switch {
	case err != nil:
		return err
	case r.is("WRONGPASS"), r.is("NOAUTH"):
		return untrackable{what: "the user or the password is refused"}
	case r.is("LOADING"), r.is("MASTERDOWN"):
		return loss{lost, errors.New("the server is not ready")}
	case r.kind == '-':
		return untrackable{what: "it does not speak RESP3"}
	}
	missing, refused, err := c.trackAll(cluster)
	switch {
	case err != nil:
		return err
	case len(missing) > 0:
		return untrackable{what: "rights are missing", missing: missing}
	case refused:
		return untrackable{what: "it does not know CLIENT TRACKING"}
	}
	return nil
}

// call is for the time before read.
func (c *trackingConn) call(args ...string) (reply, error) {
	if err := c.send(args...); err != nil {
		return reply{}, err
	}
	for {
		r, err := c.frames.next()
		if err != nil || r.kind != '>' || r.first() == "subscribe" {
			return r, err
		}
	}
}

func (c *trackingConn) send(args ...string) error {
	return c.write(command(nil, args...))
}

func (c *trackingConn) write(b []byte) error {
	if err := c.SetWriteDeadline(time.Now().Add(c.lease)); err != nil {
		return err
	}
	_, err := c.Write(b)
	return err
}

// command appends a command as Redis reads it.
func command(b []byte, args ...string) []byte {
	b = append(strconv.AppendInt(append(b, '*'), int64(len(args)), 10), "\r\n"...)
	for _, arg := range args {
		b = append(strconv.AppendInt(append(b, '$'), int64(len(arg)), 10), "\r\n"...)
		b = append(append(b, arg...), "\r\n"...)
	}
	return b
}

// ask sends questions, whose answers come on the channel answers together. The one before
// must have been answered.
func (c *trackingConn) ask(questions []string) error {
	var b []byte
	for _, q := range questions {
		b = command(b, strings.Fields(q)...)
	}
	c.asked.Store(int32(len(questions)))
	return c.write(b)
}

// read hands messages to l, and answers on, until the connection ends. Where an answer
// arrives, the messages before it have been handed on.
func (c *trackingConn) read(l Listener) error {
	var answer []reply
	for {
		r, err := c.frames.next()
		switch {
		case err != nil:
			return err
		case r.kind == '-':
			return loss{moved, errors.New("the server refuses a question")}
		case r.kind != '>':
			if answer = append(answer, r); len(answer) == int(c.asked.Load()) {
				select {
				case c.answers <- answer:
				default:
					return loss{lost, errors.New("more answers than questions")}
				}
				answer = nil
			}
			continue
		}
		if err := tell(l, r); err != nil {
			return err
		}
	}
}

// tell hands one message to l.
func tell(l Listener, r reply) error {
	if r.first() != "invalidate" || len(r.list) < 2 {
		return nil
	}
	if r.list[1].null {
		return loss{flushed, nil}
	}
	for _, key := range r.list[1].list {
		l.Invalidate(sessions.Key(key.text))
	}
	return nil
}
