package extauthz

import (
	"fmt"
	"testing"

	"github.com/coatcheck/coatcheck/sessions"
)

// manyRules are n rules of every kind, of which only the last matches
// browser's request: the worst that a list of n can be asked.
func manyRules(n int) PolicySet {
	p := PolicySet{Policies: []Policy{{Name: "staff", AnyRole: []string{"staff"}}}, Default: "staff"}
	for i := range n {
		rule := Rule{Policy: "staff"}
		switch i % 4 {
		case 0:
			rule.Path = fmt.Sprintf("/api/items/%d", i)
		case 1:
			rule.PathPrefix = fmt.Sprintf("/api/area-%d", i)
		case 2:
			rule.PathTemplate = fmt.Sprintf("/api/{id}/things-%d", i)
		case 3:
			rule.Hosts, rule.Methods = []string{fmt.Sprintf("s%d.example", i)}, []string{"GET"}
		}
		if i == n-1 {
			rule = Rule{PathPrefix: "/api", Hosts: []string{"shop.example"}, Methods: []string{"GET"}, Policy: "staff"}
		}
		p.Rules = append(p.Rules, rule)
	}
	return p
}

// BenchmarkCheckRules is BenchmarkCheck's live session with n rules; "none" has no
// policies, and 0 a default alone.
func BenchmarkCheckRules(b *testing.B) {
	text := browser(b, sessions.DefaultCookieName+"="+fuzzID.Reveal(), nil)
	for _, n := range []int{-1, 0, 1, 100, 1000} {
		server, err := New(oneSession{fuzzID}, Config{})
		if err != nil {
			b.Fatal(err)
		}
		name := "none"
		if n >= 0 {
			name = fmt.Sprint(n)
			if err := server.SetPolicies(manyRules(n)); err != nil {
				b.Fatal(err)
			}
		}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				server.checkWire(b.Context(), text).Free()
			}
		})
	}
}

// spreadRules are n rules over as many areas, as a gateway before many services
// has them; only the last matches browser's request.
func spreadRules(n int) PolicySet {
	p := manyRules(n)
	for i := range n - 1 {
		host, path := []string{fmt.Sprintf("s%d.example", i%50)}, fmt.Sprintf("/area-%d", i)
		p.Rules[i] = []Rule{
			{Hosts: host, PathPrefix: path, Policy: "staff"}, {PathTemplate: path + "/{id}/edit", Policy: "staff"},
			{Hosts: host, Path: path, Methods: []string{"GET", "POST"}, Policy: "staff"},
		}[i%3]
	}
	return p
}

// BenchmarkMatch is the search for the policy alone.
func BenchmarkMatch(b *testing.B) {
	server, err := New(oneSession{fuzzID}, Config{})
	if err != nil {
		b.Fatal(err)
	}
	for name, p := range map[string]PolicySet{
		"1": manyRules(1), "100": manyRules(100), "1000": manyRules(1000), "1000 spread": spreadRules(1000),
	} {
		policies, err := p.compile(server.bare)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			r := request{http: true, method: "GET", host: "shop.example", path: "/api/items?page=2"}
			for b.Loop() {
				if chosen, _ := policies.choose(&r, "", PathsSafe); chosen.rule == nil {
					b.Fatal("no rule matched")
				}
			}
		})
	}
}
