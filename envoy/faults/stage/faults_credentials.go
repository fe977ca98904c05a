package stage

import (
	"context"
	"crypto/rand"
	"errors"
	random "math/rand/v2"
	"time"
)

// credentials are changes of the user, the password and the rights of Coatcheck.
var credentials = []Fault{
	{
		Name: "acl-rotate", Rows: []string{"F16"}, On: everywhere,
		What: "The password is rotated as the manual says: Redis takes both, the file gets the new one, Redis forgets the old one.",
		For:  time.Second, Bound: time.Second, Inject: rotated,
	},
	{
		Name: "acl-abrupt", Rows: []string{"F16"}, On: everywhere,
		What: "The password is changed at Redis, and connections are ended; the file gets it 1.5 s later.",
		For:  1500 * time.Millisecond, Bound: time.Second, Inject: changed(true),
	},
	{
		Name: "acl-changed", Rows: []string{"F16"}, On: everywhere,
		What: "The password is changed at Redis, and connections live on; those that are new are refused until the file has it.",
		For:  1500 * time.Millisecond, Bound: time.Second, Inject: changed(false),
	},
	{
		Name: "acl-flap", Rows: []string{"F16"}, On: everywhere, Part: true,
		What: "The password at Redis is another one for 0.1 s, the right one for as long, and again; connections are ended meanwhile.",
		For:  2 * time.Second, Bound: time.Second, Inject: flapping,
	},
	{
		Name: "acl-right", Rows: []string{"F16", "F27"}, On: everywhere,
		What: "The user loses a right that each check needs (PEXPIREAT or HMGET).",
		For:  1500 * time.Millisecond, Bound: time.Second, Inject: withoutRight,
	},
	{
		Name: "acl-off", Rows: []string{"F16"}, On: everywhere,
		What: "The user is switched off; Redis ends its connections.",
		For:  1500 * time.Millisecond, Bound: time.Second, Inject: switchedOff,
	},
	{
		Name: "password-file", Rows: []string{"F16", "F24"}, On: everywhere,
		What: "The password file is empty while connections are ended.",
		For:  1500 * time.Millisecond, Bound: time.Second, Inject: fileEmptied,
	},
}

// rotated never refuses a password that Coatcheck may present.
func rotated(ctx context.Context, s *Stage, _ *random.Rand) (func() error, error) {
	next, before := rand.Text(), s.secrets.password
	var u undoing
	u.add(func() error { // the end of the rotation
		s.secrets.password = next
		return errors.Join(s.alter(context.Background(), "<"+before), s.accept(next))
	})
	if err := s.alter(ctx, ">"+next); err != nil {
		return nil, errors.Join(err, s.restoreUser())
	}
	return u.or(s.present(next))
}

// changed has Redis take another password alone, and the file hold it from the healing on.
func changed(ends bool) injection {
	return func(ctx context.Context, s *Stage, _ *random.Rand) (func() error, error) {
		next, before := rand.Text(), s.secrets.password
		if err := s.alter(ctx, ">"+next, "<"+before); err != nil {
			return nil, errors.Join(err, s.restoreUser())
		}
		if ends {
			s.endConnections(ctx)
		}
		return func() error {
			s.secrets.password = next
			return errors.Join(s.accept(next), s.present(next))
		}, nil
	}
}

// endConnections ends all of Coatcheck's, at every node that lives.
func (s *Stage) endConnections(ctx context.Context) {
	for _, n := range s.nodes {
		if n.alive {
			_ = n.killConnections(ctx)
		}
	}
}

func flapping(_ context.Context, s *Stage, _ *random.Rand) (func() error, error) {
	stop := repeat(100*time.Millisecond, func(ctx context.Context) {
		_ = s.alter(ctx, ">"+rand.Text(), "<"+s.secrets.password)
		s.endConnections(ctx)
		time.Sleep(100 * time.Millisecond)
		_ = s.alter(context.WithoutCancel(ctx), ">"+s.secrets.password)
	})
	return func() error { return errors.Join(stop(), s.restoreUser()) }, nil
}

// altered changes the user until the healing.
func (s *Stage) altered(ctx context.Context, rules ...string) (func() error, error) {
	if err := s.alter(ctx, rules...); err != nil {
		return nil, errors.Join(err, s.restoreUser())
	}
	return s.restoreUser, nil
}

func withoutRight(ctx context.Context, s *Stage, r *random.Rand) (func() error, error) {
	return s.altered(ctx, []string{"-pexpireat", "-hmget"}[r.IntN(2)])
}

// switchedOff ends connections by hand: older servers leave them.
func switchedOff(ctx context.Context, s *Stage, _ *random.Rand) (func() error, error) {
	heal, err := s.altered(ctx, "off")
	if err == nil {
		s.endConnections(ctx)
	}
	return heal, err
}

func fileEmptied(ctx context.Context, s *Stage, _ *random.Rand) (func() error, error) {
	if err := replace(s.secrets.file, ""); err != nil {
		return nil, err
	}
	s.endConnections(ctx)
	return func() error { return s.present(s.secrets.password) }, nil
}
