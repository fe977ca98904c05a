package doctor

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/coatcheck/coatcheck/cmd/internal/config"
	"github.com/coatcheck/coatcheck/cmd/internal/policyfile"
	"github.com/coatcheck/coatcheck/extauthz"
	"github.com/coatcheck/coatcheck/internal/envoyconfig"
	"github.com/coatcheck/coatcheck/sessions"
)

// ours is what the rest is compared with: the configuration of checks, and its policies.
type ours struct {
	*config.Config
	known    bool // it is this deployment's, and not the defaults
	policies *extauthz.PolicySet
	server   *extauthz.Server
}

// newOurs makes it of a configuration. Policies are nil where they are not known.
func newOurs(c *config.Config, known bool, policies *extauthz.PolicySet) (*ours, error) {
	o := &ours{Config: c, known: known, policies: policies}
	var err error
	if o.server, err = extauthz.New((*sessions.Manager)(nil), c.ExtAuthz()); err != nil {
		return nil, err
	}
	if policies == nil && c.PolicyFile == "" {
		o.policies = new(extauthz.PolicySet)
	}
	if o.policies != nil {
		err = o.server.SetPolicies(*o.policies)
	}
	return o, err
}

// managed are the names of the headers that Coatcheck sets.
func (o *ours) managed() []string {
	prefix := o.HeaderPrefix
	names := []string{prefix + "id", prefix + "name", prefix + "roles", prefix + "session"}
	for _, field := range o.ExtAuthz().Fields {
		names = append(names, field.Header)
	}
	return names
}

// spellings are names that some upstream takes for managed ones, and one that an
// upstream could believe though Coatcheck never sets it.
func (o *ours) spellings() []string {
	var names []string
	for _, name := range append(o.managed(), o.HeaderPrefix+"email") {
		first := strings.Replace(name, "-", "_", 1)
		names = append(names, name, strings.ReplaceAll(name, "-", "_"), strings.ReplaceAll(name, "-", "."), first)
	}
	return names
}

// isIdentity reports whether a header is one of Coatcheck's, in any spelling.
func (o *ours) isIdentity(name string) bool {
	normal := strings.Map(func(r rune) rune {
		switch {
		case 'A' <= r && r <= 'Z':
			return r - 'A' + 'a'
		case 'a' <= r && r <= 'z', '0' <= r && r <= '9':
			return r
		}
		return '-'
	}, name)
	return strings.HasPrefix(normal, o.HeaderPrefix) && normal != "x-user-agent"
}

// needs are the request headers by which Coatcheck decides and answers, but for cookie:
// those of its policies, or where they are not known, those that it needs without any. Of
// sec-fetch- they are those that it reads, because Envoy Gateway's list has whole names.
func (o *ours) needs() []string {
	var policies extauthz.PolicySet
	if o.policies != nil {
		policies = *o.policies
	}
	names := policies.RequestHeaders()
	if o.Bearer {
		names = append(names, "authorization")
	}
	names = slices.DeleteFunc(names, func(name string) bool { return name == "cookie" || name == "sec-fetch-" })
	return append(names, "sec-fetch-dest", "sec-fetch-mode", "sec-fetch-site")
}

// unseen are those of them that a list hides.
func (o *ours) unseen(hides func(name string) bool) []string {
	return slices.DeleteFunc(o.needs(), func(name string) bool { return !hides(name) })
}

// answersIn is the time after which Coatcheck has answered.
func (o *ours) answersIn() time.Duration { return o.Timeout }

// judge says what Coatcheck makes of a route's context_extensions: the finding's ID, ""
// if they are good, and why. It is the code of a check.
func (o *ours) judge(ctx context.Context, extensions map[string]string, badRoute, noPolicy ID) (ID, string) {
	shown := make(map[string]string)
	for key, value := range extensions {
		switch {
		case key == "coatcheck.policy" && (value == envoyconfig.Redacted || o.policies == nil):
			continue
		case value == envoyconfig.Redacted:
			value = plausible[key]
		}
		shown[key] = value
	}
	request := policyfile.Request{Method: "GET", Host: "doctor.example", Path: "/"}
	e, err := o.server.Explain(ctx, request.CheckRequest(shown), extauthz.WithSession(nil, nil))
	switch {
	case err != nil:
		return "", ""
	case e.Reason == extauthz.BadRoute:
		return badRoute, e.Error
	case e.Reason == extauthz.UnknownPolicy:
		return noPolicy, e.Error
	}
	return "", ""
}

// plausible are good values, for those that a dump hides.
var plausible = map[string]string{"coatcheck.session": "required", "coatcheck.roles": "hidden", "coatcheck.paths": "safe"}

// messageRoom is what a CheckRequest holds beside headers and body: addresses, names,
// and the framing of each header.
const messageRoom = 16 << 10

// largest is the largest CheckRequest, in bytes, that Envoy sends with these limits of
// headers and body. The path can be as long as all headers, and is sent twice.
func largest(headerKiB, body int64) int64 {
	return 2*min(headerKiB, 1<<20)<<10 + min(body, 1<<40) + messageRoom
}

// policiesOf reads the policies of a configuration from a text at hand.
func policiesOf(c *config.Config, text []byte) (*extauthz.PolicySet, error) {
	f, err := policyfile.Parse(text, c.ExtAuthz())
	if err != nil {
		return nil, errors.New("the policy file cannot be used; see coatcheck config check --policies FILE")
	}
	return &f.Policies, nil
}
