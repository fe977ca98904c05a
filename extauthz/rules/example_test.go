package rules_test

import (
	"fmt"

	"github.com/coatcheck/coatcheck/extauthz/rules"
)

func ExampleCompile() {
	list, err := rules.Compile([]rules.Rule{
		{PathPrefix: "/admin", Policy: "admins"},
		{Hosts: []string{"*.shop.example"}, Methods: []string{"GET"}, Policy: "shoppers"},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	number, once := list.Find("GET", "de.shop.example", "/cart")
	fmt.Println(number, once)
	fmt.Println("rule 1 does not match the", list.Mismatch(1, "GET", "de.shop.example", "/cart"))
	// Output:
	// 2 true
	// rule 1 does not match the path
}

func ExampleList_Find() {
	list, err := rules.Compile([]rules.Rule{{Path: "/Büro", CaseInsensitive: true, Policy: "office"}})
	if err != nil {
		fmt.Println(err)
		return
	}
	find := func(list *rules.List, path string) { fmt.Println(list.Find("GET", "shop.example", path)) }
	find(list, "/büro")
	find(list, "/BÜRO") // programs differ in the letter case of Ü: two readings
	// Output:
	// 1 true
	// 0 false
}

func ExampleRule() {
	r := rules.Rule{Hosts: []string{"shop.example"}, PathTemplate: "/users/{id}", Methods: []string{"GET"}}
	fmt.Println(r)
	fmt.Println(r.Validate())
	fmt.Println(rules.Rule{Path: "/a/../b"}.Validate() != nil)
	// Output:
	// GET shop.example /users/{id}
	// <nil>
	// true
}

func ExampleRule_Covers() {
	all := rules.Rule{PathPrefix: "/users"}
	fmt.Println(all.Covers(rules.Rule{PathTemplate: "/users/{id}"}))
	// Output: true
}
