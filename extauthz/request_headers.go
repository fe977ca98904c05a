package extauthz

import "slices"

// RequestHeaders lists, sorted, the request headers by which a server with these
// policies decides and answers; "sec-fetch-" stands for all that begin so. Envoy's
// allowed_headers, where it is set, must let them through: of what it hides a server
// cannot know that it came. With [Config].Bearer authorization is one, too.
func (p PolicySet) RequestHeaders() []string {
	names := []string{"accept", "content-type", "cookie", "sec-fetch-", "traceparent", "x-request-id"}
	for _, policy := range p.Policies {
		if policy.Origins != nil {
			names = append(names, "origin", "upgrade")
		}
		if policy.Preflight {
			names = append(names, "origin", "access-control-request-method")
		}
		if policy.Condition != nil {
			names = append(names, policy.Condition.Headers()...)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}
