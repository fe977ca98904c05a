package doctor

import (
	"context"
	"fmt"
	"slices"

	"github.com/coatcheck/coatcheck/cmd/internal/config"
	"github.com/coatcheck/coatcheck/cmd/internal/policyfile"
	"github.com/coatcheck/coatcheck/extauthz"
	"github.com/coatcheck/coatcheck/internal/envoyconfig"
)

// A Deployment is what the operator says beside what is read.
type Deployment struct {
	// Checks is the configuration of checks; nil for the one in the manifests, or else
	// for the defaults. Its policy file is read.
	Checks *config.Config
	// Login is the configuration of a login in another process; nil if it is not known.
	Login *config.Config
	// EnvoyVersion is such as 1.40.0; "" where only a config dump or an image says it.
	EnvoyVersion string
	// Service is the name of the cluster, the provider or the backend by which Coatcheck
	// is asked; "" for those with coatcheck in their names, or else for all.
	Service string
}

// A Doctor examines one deployment. It is not safe for concurrent use.
type Doctor struct {
	deployment Deployment
	sources    int
	documents  []*document
	envoys     []*document
	composes   []*document
	manifests  manifests
}

// A Report is what was found.
type Report struct {
	Findings []Finding `json:"findings"`
	// Sources is how many files or other texts were read.
	Sources int `json:"sources"`
	// Left is how many findings there were beyond those that are listed.
	Left int `json:"left,omitempty"`
}

// New makes a doctor that has read nothing.
func New(d Deployment) *Doctor { return &Doctor{deployment: d} }

// Worst reports whether a finding is as bad as s, or worse.
func (r Report) Worst(s Severity) bool {
	return r.Left > 0 || slices.ContainsFunc(r.Findings, func(f Finding) bool { return f.Severity.AtLeast(s) })
}

// Examine looks at everything that was read. Its error is that the operator's own
// configuration, or its policy file, cannot be used.
func (d *Doctor) Examine(ctx context.Context) (Report, error) {
	n := new(notebook)
	parts := d.manifests.podParts()
	for _, doc := range d.composes {
		parts = append(parts, composeParts(doc)...)
	}
	mine, err := d.ours(parts)
	if err != nil {
		return Report{}, err
	}
	d.versions(n)
	k := &kubernetes{notebook: n, ours: mine, manifests: &d.manifests, service: d.deployment.Service}
	k.own(parts)
	k.istio(ctx)
	k.gateway(ctx)
	n.pairs(d.sides(parts))
	for _, doc := range d.envoys {
		c, err := envoyconfig.FromValue(doc.root)
		if err != nil {
			return Report{}, fmt.Errorf("%s: %w", doc.file, err)
		}
		e := &envoy{notebook: n, ours: mine, ctx: ctx, doc: doc, config: c, service: d.deployment.Service, alone: len(d.envoys) == 1}
		e.examine()
	}
	return Report{Findings: n.findings(), Sources: d.sources, Left: n.left}, nil
}

// ours is the configuration of checks: the operator's, or else the one that was read, or
// else the defaults.
func (d *Doctor) ours(parts []part) (*ours, error) {
	if c := d.deployment.Checks; c != nil {
		var policies *extauthz.PolicySet
		if c.PolicyFile != "" {
			f, err := policyfile.Load(c.PolicyFile, c.ExtAuthz())
			if err != nil {
				return nil, config.About(policyfile.Mistakes(c.PolicyFile, err), "policy_file")
			}
			policies = &f.Policies
		}
		return newOurs(c, true, policies)
	}
	for _, p := range parts {
		if p.err != nil || p.config.Listen == "" {
			continue
		}
		var policies *extauthz.PolicySet
		if p.policies != nil {
			policies, _ = policiesOf(p.config, *p.policies)
		}
		return newOurs(p.config, false, policies)
	}
	c, err := config.Parse(nil, nil)
	if err != nil {
		return nil, err
	}
	o, err := newOurs(c, false, nil)
	if err == nil {
		o.policies = nil // of a policy file nothing is known
	}
	return o, err
}

// sides are the configurations of checks and of login that belong together.
func (d *Doctor) sides(parts []part) (checks, logins []part) {
	whole := place{document: &document{file: "--login-config"}}
	for _, p := range parts {
		switch {
		case p.err != nil:
		case p.config.ServesLogin():
			logins = append(logins, p)
		default:
			checks = append(checks, p)
		}
	}
	if d.deployment.Checks != nil {
		checks = []part{{at: whole, config: d.deployment.Checks}}
	}
	if d.deployment.Login != nil {
		logins = []part{{at: whole, config: d.deployment.Login}}
	}
	return checks, logins
}

// versions looks at the versions of Envoy that the operator and images name.
func (d *Doctor) versions(n *notebook) {
	checkVersion(n, place{document: &document{file: "--envoy-version"}}, d.deployment.EnvoyVersion)
	for _, doc := range d.documents {
		if doc.root.IsConfig() {
			continue
		}
		n.images(doc, doc.root, 32)
	}
}
