// Package rules finds the first rule that matches a request by its host, path and
// method. Most users need one type and one function:
//
//	list, err := rules.Compile([]rules.Rule{{PathPrefix: "/admin", Policy: "admins"}})
//	number, once := list.Find("GET", "shop.example", "/admin/users") // 1, true
//
// The host and the path must be in normal form, as extauthz gives them to conditions.
// rule.go says what a rule is, pattern.go matches a path, fold.go ignores letter case.
// A list is searched by the first segment of the path (index.go), so that a gateway in
// front of many services does not try the rules of all.
package rules
