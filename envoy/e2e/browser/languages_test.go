package browser_test

import (
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// TestLanguages looks at every page in each language but English, as a browser whose user
// prefers it: it is whole, and says so in that language.
func TestLanguages(t *testing.T) {
	for _, l := range []struct {
		tag, accept, user                            string
		wrong, missing, roles, sessions, out, refuse string
	}{
		{"de", "de-AT,de,en", "rosa", "Benutzername oder Passwort ist falsch.", "Diese Seite gibt es nicht.", "Rollen: staff", "Wo Sie angemeldet sind", "Sie sind abgemeldet.", "Diese Anfrage kam von einer anderen Website und wurde abgelehnt."},
		{"pt", "pt-BR,pt,en-US", "nuno", "Nome de usuário ou senha incorretos.", "Esta página não existe.", "Funções: staff", "Sessões abertas", "A sessão foi encerrada.", "Esta solicitação veio de outro site e foi recusada."},
		{"es", "es-419,es", "olga", "El nombre de usuario o la contraseña no son correctos.", "Esta página no existe.", "Roles: staff", "Dónde ha iniciado sesión", "Ha cerrado la sesión.", "Esta solicitud procede de otro sitio y se ha rechazado."},
		{"fr", "fr-CA,fr", "paul", "Nom d’utilisateur ou mot de passe incorrect.", "Cette page n’existe pas.", "Rôles\u202f: staff", "Vos sessions ouvertes", "Votre session est fermée.", "Cette requête vient d’un autre site et a été refusée."},
	} {
		t.Run(l.tag, func(t *testing.T) {
			b := open(t, shop(t), chromedp.Flag("accept-lang", l.accept))
			is := func(status, want int64, text, picture string) {
				t.Helper()
				b.shows(status, want, text)
				if lang := value[string](b, "document.documentElement.lang"); lang != l.tag {
					t.Errorf("%s: the language is %q", picture, lang)
				}
				if page := b.reads("body"); strings.ContainsAny(page, "{}") {
					t.Errorf("%s: a value is missing: %s", picture, page)
				}
				b.look(picture + "-" + l.tag)
				switch picture + "-" + l.tag {
				case "wrong-de", "throttled-es":
					b.kept(picture+"-"+l.tag, "light", 390)
				case "account-pt", "missing-fr":
					b.kept(picture+"-"+l.tag, "dark", 390)
				case "sessions-de", "sign-in-pt":
					b.kept(picture+"-"+l.tag, "light", 1280)
				}
			}
			is(b.visit("/orders"), 200, "/orders", "sign-in")
			is(b.signIn(l.user, "wrong"), 401, l.wrong, "wrong")
			is(b.visit("/.auth/nothing"), 404, l.missing, "missing")
			is(b.visit("/.auth"), 200, "", "base")
			for range 5 {
				b.signIn("unknown-"+l.tag, "wrong")
			}
			is(b.signIn("unknown-"+l.tag, "wrong"), 429, "", "throttled")
			b.shows(b.signIn(l.user, password), 200, "X-User-Id")
			b.visit("/.auth/login?rd=/orders")
			is(200, 200, "staff", "account")
			if facts := spoken(b); !strings.Contains(facts, l.roles) {
				t.Errorf("the account page says %q", facts)
			}
			for _, userAgent := range []string{firefox, safari, firefox, "Go-http-client/1.1"} {
				signInElsewhere(t, shop(t), l.user, userAgent)
			}
			is(b.visit("/.auth/sessions"), 200, l.sessions, "sessions")
			is(b.press(theOther), 200, "", "ended-one")
			is(b.press(`button[name="others"]`), 200, "", "ended-others")
			is(b.visit("/.auth/logout"), 200, "", "logout")
			is(b.press("button:not(.quiet)"), 200, l.out, "signed-out")
			b.visit("http://evil.localhost:" + evil(t, b.front) + "/")
			is(b.press("#login button"), 403, l.refuse, "refused")
		})
	}
}

// spoken is the list of facts with the punctuation that the stylesheet adds.
func spoken(b *browser) string {
	b.Helper()
	return value[string](b, `[...document.querySelectorAll("dl div")].map(row =>
		row.children[0].textContent + getComputedStyle(row.children[0], "::after").content.slice(1, -1) + " " + row.children[1].textContent).join("; ")`)
}
