package policyfile

import (
	"fmt"
	"iter"
	"net/url"
	"slices"
	"strings"
	"unicode"

	"github.com/coatcheck/coatcheck/extauthz"
	"github.com/coatcheck/coatcheck/extauthz/rules"
)

// A bypass is a way to write a request so that the rule meant for it does not match,
// while the upstream may take it for the same request.
type bypass struct {
	twins func(r ruleSource, q probe) []probe
	meant func(by extauthz.Rule, twin probe) bool // the rule that takes it names it on purpose; nil: no rule can
	why   string                                  // with the request that the rule matches
	cure  string
}

// A probe is a request in normal form.
type probe struct{ method, host, path string }

var bypasses = []bypass{
	{
		twins: slashTwins,
		why:   "many upstreams take it for %s",
		cure:  "write path_prefix, or optional_slash: true (false says that the upstreams tell the two apart)",
	}, {
		twins: caseTwins,
		why:   "upstreams that ignore letter case take it for %s",
		cure:  "write case_insensitive: true (false says that the upstreams tell the two apart)",
	}, {
		twins: headTwins, meant: namesMethod,
		why:  "upstreams answer it as %s",
		cure: "add HEAD to the methods",
	}, {
		twins: methodTwins, meant: namesMethod,
		why:  "an upstream may answer it as %s",
		cure: "name the methods that need less in a rule before this one, and leave methods out of this one",
	}, {
		twins: hostTwins, meant: namesHosts,
		why:  "where Envoy leads other hosts to this upstream, it is %s",
		cure: "set a strict default_policy, and name the hosts that need less in rules",
	},
}

func slashTwins(r ruleSource, q probe) []probe {
	if r.optionalSlash.saidNo() {
		return nil
	}
	return []probe{{q.method, q.host, otherSlash(q.path)}}
}

func caseTwins(r ruleSource, q probe) []probe {
	upper, lower := strings.ToUpper(q.path), strings.ToLower(q.path)
	if r.caseInsensitive.saidNo() || upper == lower {
		return nil
	}
	return []probe{{q.method, q.host, upper}, {q.method, q.host, lower}}
}

func headTwins(r ruleSource, q probe) []probe {
	if q.method != "GET" || len(r.Methods) == 0 {
		return nil
	}
	return []probe{{"HEAD", q.host, q.path}}
}

// methodTwins are requests with methods that the rule does not list. A rule that lists
// a reading method guards more than writing, so that every other method counts; a rule
// for writing methods leaves reading to other rules.
func methodTwins(r ruleSource, q probe) []probe {
	if len(r.Methods) == 0 {
		return nil
	}
	others := []string{"POST", "PUT", "PATCH", "DELETE"}
	if slices.Contains(r.Methods, "GET") || slices.Contains(r.Methods, "HEAD") {
		others = append(others, "OPTIONS", "PROPFIND")
		if !slices.Contains(r.Methods, "GET") {
			others = append(others, "GET")
		}
	}
	var twins []probe
	for _, method := range others {
		twins = append(twins, probe{method, q.host, q.path})
	}
	return twins
}

func namesMethod(by extauthz.Rule, twin probe) bool { return slices.Contains(by.Methods, twin.method) }

// hostTwins are requests for a host that no rule lists, and for the name that a
// wildcard does not match.
func hostTwins(r ruleSource, q probe) []probe {
	if len(r.Hosts) == 0 {
		return nil
	}
	twins := []probe{{q.method, unlisted, q.path}}
	for _, host := range r.Hosts {
		if bare, wild := strings.CutPrefix(host, "*."); wild {
			twins = append(twins, probe{q.method, bare, q.path})
		}
	}
	return twins
}

func namesHosts(by extauthz.Rule, _ probe) bool { return len(by.Hosts) > 0 }

// unlisted is a host that no rule lists: the domain is reserved (RFC 2606).
const unlisted = "other.invalid"

// A search finds the policies of requests.
type search struct {
	source   *source
	rules    *rules.List
	policies map[string]extauthz.Policy
	hosts    []string // that rules name, to try other rules with
	methods  []string // likewise
	paths    []string // likewise
}

// bypassed warns of each rule that a client could bypass, once for each way, with a
// request that falls to a policy that requires less.
func (f *File) bypassed(s *source) error {
	list, err := rules.Compile(f.Policies.Rules)
	if err != nil {
		return err
	}
	look := newSearch(s, list)
	warned := make([]int, len(bypasses))
	for i, r := range s.rules {
		policy := look.policies[r.Policy]
		if (extauthz.Policy{Session: "none"}).AtLeast(policy) {
			continue // it admits every request
		}
		samples := look.samples(r, i+1)
		for j, b := range bypasses {
			sample, twin, to, found := look.slip(b, r, i+1, samples)
			if !found {
				continue
			}
			if warned[j]++; warned[j] <= enoughWarnings {
				f.warn(r.line, "this rule lets %s past, to policy %s by %s: %s; %s", r.shown(twin), to.Policy, to.where(), fmt.Sprintf(b.why, r.shown(sample)), b.cure)
			} else if warned[j] == enoughWarnings+1 {
				f.warn(r.line, "this rule and perhaps further ones let a request past likewise: %s", b.cure)
			}
		}
	}
	return nil
}

// enoughWarnings bounds how many rules are named for one way around them.
const enoughWarnings = 50

func newSearch(s *source, list *rules.List) *search {
	look := &search{source: s, rules: list, policies: make(map[string]extauthz.Policy), hosts: []string{unlisted}, methods: []string{"GET", "HEAD", "POST", "DELETE"}}
	for _, p := range s.named {
		look.policies[p.Name] = p.Policy
	}
	for _, r := range s.rules {
		for _, host := range hostSamples(r.Hosts) {
			look.hosts = appendNew(look.hosts, host)
		}
		for _, method := range r.Methods {
			look.methods = appendNew(look.methods, method)
		}
	}
	for _, r := range s.rules {
		for _, path := range pathSamples(r.Rule) {
			look.paths = appendNew(look.paths, path)
		}
	}
	return look
}

// few bounds the names of other rules that a rule is tried with.
const few = 16

func appendNew(list []string, text string) []string {
	if len(list) >= few || slices.Contains(list, text) {
		return list
	}
	return append(list, text)
}

// A taker is what decides a request: a rule, or default_policy with line 0.
type taker struct {
	extauthz.Rule
	line int
}

func (t taker) where() string {
	if t.line == 0 {
		return "default_policy"
	}
	return fmt.Sprintf("the rule on line %d", t.line)
}

// slip returns the first twin of a sample that falls to a policy which requires less
// than the rule of that number.
func (look *search) slip(b bypass, r ruleSource, number int, samples []probe) (sample, twin probe, to taker, found bool) {
	for _, sample = range samples {
		for _, twin = range b.twins(r, sample) {
			by, once := look.rules.Find(twin.method, twin.host, twin.path)
			if !once || look.meant(b, r, number, sample, twin, by) {
				continue // refused, or intended
			}
			if to = look.taker(by); !look.policies[to.Policy].AtLeast(look.policies[r.Policy]) {
				return sample, twin, to, true
			}
		}
	}
	return probe{}, probe{}, taker{}, false
}

func (look *search) taker(number int) taker {
	if number == 0 {
		return taker{Rule: extauthz.Rule{Policy: look.source.defaultPolicy}}
	}
	r := look.source.rules[number-1]
	return taker{r.Rule, r.line}
}

// meant reports whether the rule that takes a twin, if there is one, exists to take it:
// it names what differs, or it is an exception that stands before a rule for
// everything around it.
func (look *search) meant(b bypass, r ruleSource, number int, sample, twin probe, by int) bool {
	if by == 0 {
		return false
	}
	exception := by < number && sample.path != pathSamples(r.Rule)[0]
	return exception || b.meant != nil && b.meant(look.source.rules[by-1].Rule, twin)
}

// samples are requests that the rule of that number decides: for each of its hosts and
// methods and for some that other rules name, with its own path and with the paths of
// other rules. Their number is bounded so that a file of thousands of rules is read in
// about a second.
func (look *search) samples(r ruleSource, number int) []probe {
	hosts, methods := slices.Concat(hostSamples(r.Hosts), look.hosts), r.Methods
	if len(methods) == 0 {
		methods = look.methods
	}
	enough := max(len(hosts), min(256, 20_000/len(look.source.rules)))
	tries := 16 * enough
	var samples []probe
	for _, path := range slices.Concat(pathSamples(r.Rule), look.paths) {
		for q := range probes(methods, hosts, spellings(path)) {
			if tries--; len(samples) >= enough || tries < 0 {
				return samples
			}
			if look.rules.Mismatch(number, q.method, q.host, q.path) != "" || slices.Contains(samples, q) {
				continue
			}
			if got, once := look.rules.Find(q.method, q.host, q.path); once && got == number {
				samples = append(samples, q)
			}
		}
	}
	return samples
}

// probes are all combinations of the parts.
func probes(methods, hosts, paths []string) iter.Seq[probe] {
	return func(yield func(probe) bool) {
		for _, path := range paths {
			for _, method := range methods {
				for _, host := range hosts {
					if !yield(probe{method, host, path}) {
						return
					}
				}
			}
		}
	}
}

// hostSamples are hosts that the patterns match, each of them by one or two.
func hostSamples(patterns []string) []string {
	var hosts []string
	for _, pattern := range patterns {
		below, wild := strings.CutPrefix(pattern, "*")
		if wild {
			hosts = append(hosts, "any"+below, "any.any"+below)
		} else {
			hosts = append(hosts, pattern)
		}
	}
	return hosts
}

// pathSamples are decoded paths that the rule matches: the shortest, and one below it.
func pathSamples(r extauthz.Rule) []string {
	text := r.Path + r.PathPrefix + r.PathTemplate
	below := r.Path == "" && r.PathTemplate == ""
	if text == "" {
		text = "/"
	}
	segments := strings.Split(text, "/")
	for i, segment := range segments {
		decoded, err := url.PathUnescape(segment)
		switch isParameter := r.PathTemplate != "" && strings.HasPrefix(segment, "{"); {
		case isParameter && strings.HasSuffix(segment, "...}"):
			segments, below = segments[:i], true
		case isParameter:
			segments[i] = "0"
		case err == nil:
			segments[i] = decoded
		}
	}
	path := strings.Join(segments, "/")
	if !below {
		return []string{path}
	}
	deeper := strings.TrimSuffix(path, "/") + "/0"
	if path == "" {
		path = "/"
	}
	return []string{path, deeper}
}

// spellings are a path and other paths that upstreams may take for it.
func spellings(path string) []string {
	return []string{path, otherSlash(path), strings.ToUpper(path), strings.ToLower(path)}
}

// otherSlash is the path with a slash added at its end, or removed.
func otherSlash(path string) string {
	if shorter, cut := strings.CutSuffix(path, "/"); cut {
		return max(shorter, "/")
	}
	return path + "/"
}

// shown is a request of the rule as people write it: with the host if the rule names
// hosts.
func (r ruleSource) shown(q probe) string {
	host := ""
	if len(r.Hosts) > 0 {
		host = q.host
	}
	return q.method + " " + host + strings.Map(func(c rune) rune {
		if unicode.IsPrint(c) {
			return c
		}
		return unicode.ReplacementChar
	}, q.path)
}
