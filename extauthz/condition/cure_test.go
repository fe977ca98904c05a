package condition_test

import (
	"strings"
	"testing"

	"github.com/coatcheck/coatcheck/extauthz/condition"
)

// TestCures: what people write who know another language is named as CEL has it.
func TestCures(t *testing.T) {
	const equality, words = "equality is written ==", "and, or, not are written &&, ||, !"
	for text, want := range map[string]string{
		`session.age < 5m`:                         `a duration is written duration("5m")`,
		`session.age<30s && true`:                  `a duration is written duration("30s")`,
		`session.age < 1.5h`:                       `a duration is written duration("1.5h")`,
		`session.username = "x"`:                   equality,
		`session.username="x"`:                     equality,
		`session.username === "x"`:                 equality,
		`session.username = "x" && session.age<5m`: equality,
		`request.path <> "/a"`:                     "inequality is written !=",
		`1 == 1 and 2 == 2`:                        words,
		`1 == 1 OR 2 == 2`:                         words,
		`not true`:                                 words,
		`session.username == ‘x’`:                  `text stands in straight quotes, " or '`,
		`session.roles.contains("a")`:              `an element of a list is found with in, as in "admin" in session.roles`,
	} {
		if _, err := condition.Compile(text); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "column ") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
	for _, text := range []string{ // wrong in another way
		`session.role == "a = b and 5m"`, `request.path == '5m' + session.x`, `session.age <= duration("5m") && x`, `session.fields["not"] != 'a' && y`,
		`1 >= 2 && z`, `request.headers["x-5m"] == "a" && q`,
	} {
		if _, err := condition.Compile(text); err == nil || strings.Contains(err.Error(), "written") {
			t.Errorf("%s: %v, want no cure", text, err)
		}
	}
}
