package api

import (
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/coatcheck/coatcheck/sessions"
)

// A Right is what a caller may do.
type Right string

// The rights. All but ByID and Touch are those of methods.
const (
	Get    Right = "get"
	Check  Right = "check"
	Touch  Right = "touch" // have Check keep a session alive
	Add    Right = "add"
	Revoke Right = "revoke" // sessions and users
	List   Right = "list"
	Watch  Right = "watch"
	ByID   Right = "by_id" // name sessions by their IDs
)

// Rights are all rights, in the order of the pages.
func Rights() []Right { return []Right{Get, Check, Touch, Add, Revoke, List, Watch, ByID} }

// The limits of a list of callers, in bytes where they are not counts. Tokens are compared by
// their hash and cannot be guessed one by one, so that 32 characters of chance are enough.
const (
	MinToken        = 32
	MaxToken        = 512
	MaxCallers      = 1000
	MaxCallerFields = 256
)

// A Caller is a service that may call.
type Caller struct {
	// Name is for the log: 1 to 64 of a-z, A-Z, 0-9, and . _ - inside.
	Name string
	// Certificate is a DNS name or a URI (a SPIFFE ID) in the client's certificate. Empty:
	// no certificate names this caller.
	Certificate string
	// Tokens name the caller, too: each alone, so that they can be replaced one after the
	// other. At least MinToken bytes of visible ASCII.
	Tokens []string
	// Rights are what it may do.
	Rights []Right
	// Fields are the application fields that it sees and, with the right [Add], adds.
	Fields []string
}

// may reports whether the caller has a right.
func (c *Caller) may(r Right) bool { return slices.Contains(c.Rights, r) }

// sees reports whether the caller may see every one of the fields.
func (c *Caller) sees(fields []string) bool {
	return !slices.ContainsFunc(fields, func(f string) bool { return !slices.Contains(c.Fields, f) })
}

// Validate names everything that is wrong with the caller. It repeats no token.
func (c Caller) Validate() error {
	var errs []error
	wrong := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if !validName(c.Name) {
		wrong("a name has 1 to 64 of a-z, A-Z, 0-9, and . _ - inside")
	}
	if c.Certificate == "" && len(c.Tokens) == 0 {
		wrong("it has neither a certificate nor a token, so that no client can be it")
	}
	for _, token := range c.Tokens {
		if err := ValidateToken(token); err != nil {
			errs = append(errs, err)
		}
	}
	if len(c.Rights) == 0 {
		wrong("it has no rights")
	}
	for _, r := range c.Rights {
		if !slices.Contains(Rights(), r) {
			wrong("%q is not one of the rights %s", r, rightNames())
		}
	}
	for _, f := range c.Fields {
		if err := sessions.ValidateFieldName(f); err != nil {
			errs = append(errs, err)
		}
	}
	if len(c.Fields) > MaxCallerFields {
		wrong("it has %d fields, more than %d", len(c.Fields), MaxCallerFields)
	}
	return errors.Join(errs...)
}

// ValidateToken reports what is wrong with a token, without repeating it.
func ValidateToken(token string) error {
	switch {
	case len(token) < MinToken || len(token) > MaxToken:
		return fmt.Errorf("a token has %d to %d characters, and this one %d", MinToken, MaxToken, len(token))
	case strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }):
		return errors.New("a token is visible ASCII without blanks")
	}
	return nil
}

func validName(name string) bool {
	inside := func(r rune) bool {
		return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("._-", r)
	}
	return name != "" && len(name) <= 64 && strings.Trim(name, "._-") == name && !strings.ContainsFunc(name, func(r rune) bool { return !inside(r) })
}

func rightNames() string {
	var names []string
	for _, r := range Rights() {
		names = append(names, string(r))
	}
	return strings.Join(names, ", ")
}

// Callers are the services that may call. They do not change, and are safe for concurrent
// use; [Server.SetCallers] takes up others.
type Callers struct {
	all          []Caller
	certificates map[string]*Caller // DNS names in lower case, and URIs
	tokens       map[[sha256.Size]byte]*Caller
}

// NewCallers returns the callers of a list, or names everything that is wrong with it: a
// caller that is not valid, and names, certificates and tokens that two have.
func NewCallers(list []Caller) (*Callers, error) {
	c := &Callers{all: slices.Clone(list), certificates: map[string]*Caller{}, tokens: map[[sha256.Size]byte]*Caller{}}
	var errs []error
	if len(list) == 0 {
		errs = append(errs, errors.New("no callers"))
	}
	if len(list) > MaxCallers {
		return nil, fmt.Errorf("%d callers, more than %d", len(list), MaxCallers)
	}
	names := map[string]bool{}
	for i := range c.all {
		caller := &c.all[i]
		errs = append(errs, about(caller.Name, i, caller.Validate()), about(caller.Name, i, c.enter(caller)))
		if names[caller.Name] {
			errs = append(errs, about(caller.Name, i, errors.New("another caller has this name")))
		}
		names[caller.Name] = true
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return c, nil
}

// enter makes the caller known by its credentials.
func (c *Callers) enter(caller *Caller) error {
	var errs []error
	if name := normalName(caller.Certificate); name != "" {
		if c.certificates[name] != nil {
			errs = append(errs, errors.New("another caller has this certificate"))
		}
		c.certificates[name] = caller
	}
	for _, token := range caller.Tokens {
		sum := sha256.Sum256([]byte(token))
		if of := c.tokens[sum]; of != nil && of != caller {
			errs = append(errs, errors.New("another caller has one of its tokens"))
		}
		c.tokens[sum] = caller
	}
	return errors.Join(errs...)
}

// about adds the caller to each line of an error.
func about(name string, index int, err error) error {
	if err == nil {
		return nil
	}
	if !validName(name) {
		name = fmt.Sprintf("number %d", index+1)
	}
	var errs []error
	for line := range strings.SplitSeq(err.Error(), "\n") {
		errs = append(errs, fmt.Errorf("caller %s: %s", name, line))
	}
	return errors.Join(errs...)
}

// normalName is a name in a certificate as it is compared: DNS names in lower case.
func normalName(name string) string {
	if isURI(name) {
		return name
	}
	return strings.ToLower(name)
}

// isURI reports whether a name is a URI, and no DNS name: those have no colon.
func isURI(name string) bool { return strings.Contains(name, ":") }

// Len is how many there are.
func (c *Callers) Len() int { return len(c.all) }

// Any reports whether a caller has one of the rights.
func (c *Callers) Any(rights ...Right) bool {
	return slices.ContainsFunc(c.all, func(caller Caller) bool { return slices.ContainsFunc(rights, caller.may) })
}

// AnyWithout reports whether a caller has one of the rights and lacks another one. With
// [ByID] as that, such a caller names sessions of another framework by their handles alone.
func (c *Callers) AnyWithout(lacking Right, rights ...Right) bool {
	return slices.ContainsFunc(c.all, func(caller Caller) bool { return !caller.may(lacking) && slices.ContainsFunc(rights, caller.may) })
}

// ofToken finds the caller of a token. The token's hash is what is compared, so that the time
// that it takes tells nothing of the tokens that there are.
func (c *Callers) ofToken(token string) *Caller { return c.tokens[sha256.Sum256([]byte(token))] }

// ofCertificate finds the caller of a verified certificate. A certificate with the names of
// two callers is none's: which of them calls is not known.
func (c *Callers) ofCertificate(leaf *x509.Certificate) (found *Caller) {
	// An authority may look at one kind of names alone.
	names := slices.DeleteFunc(slices.Clone(leaf.DNSNames), isURI)
	for _, uri := range leaf.URIs {
		if text := uri.String(); isURI(text) {
			names = append(names, text)
		}
	}
	for _, name := range names {
		caller := c.certificates[normalName(name)]
		if caller != nil && found != nil && caller != found {
			return nil
		}
		if caller != nil {
			found = caller
		}
	}
	return found
}
