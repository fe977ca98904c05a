package extauthz

// A pageText is what the page of a refusal says in one language. It never says why: the
// cause is for the operator, who finds it by the request's number.
type pageText struct {
	refusals [len(denials)]struct{ title, sentence string }
	number   string // before the number of the request

	signIn, another, again, back string // links
}

// pageTexts has every language of [page.Languages]. A policy's own sentence stands in for
// ours.
var pageTexts = map[string]*pageText{
	"en": {
		refusals: [...]struct{ title, sentence string }{
			anonymous:   {"Sign-in required", "Sign in to continue."},
			forbidden:   {"Access denied", "You may not do this."},
			badRequest:  {"Bad request", "The server cannot read this request. Check the address."},
			unavailable: {"Not available right now", "Try again in a moment."},
		},
		number: "Give this number to your administrator:",
		signIn: "Sign in", another: "Use another account", again: "Try again", back: "Back to the start page",
	},
	"de": {
		refusals: [...]struct{ title, sentence string }{
			anonymous:   {"Anmeldung erforderlich", "Melden Sie sich an, um fortzufahren."},
			forbidden:   {"Zugriff verweigert", "Sie sind dazu nicht berechtigt."},
			badRequest:  {"Ungültige Anfrage", "Der Server kann diese Anfrage nicht lesen. Prüfen Sie die Adresse."},
			unavailable: {"Vorübergehend nicht verfügbar", "Versuchen Sie es gleich noch einmal."},
		},
		number: "Geben Sie diese Nummer an Ihre Administration weiter:",
		signIn: "Anmelden", another: "Anderes Konto verwenden", again: "Erneut versuchen", back: "Zurück zur Startseite",
	},
	"pt": {
		refusals: [...]struct{ title, sentence string }{
			anonymous:   {"É preciso entrar", "Entre para continuar."},
			forbidden:   {"Acesso negado", "Você não tem permissão para fazer isso."},
			badRequest:  {"Requisição inválida", "O servidor não consegue ler esta requisição. Verifique o endereço."},
			unavailable: {"Temporariamente indisponível", "Tente novamente em instantes."},
		},
		number: "Informe este número ao administrador:",
		signIn: "Entrar", another: "Usar outra conta", again: "Tentar novamente", back: "Voltar à página inicial",
	},
	"es": {
		refusals: [...]struct{ title, sentence string }{
			anonymous:   {"Debe iniciar sesión", "Inicie sesión para continuar."},
			forbidden:   {"Acceso denegado", "No tiene permiso para hacer esto."},
			badRequest:  {"Solicitud no válida", "El servidor no puede leer esta solicitud. Compruebe la dirección."},
			unavailable: {"No disponible temporalmente", "Vuelva a intentarlo en unos instantes."},
		},
		number: "Indique este número a su administrador:",
		signIn: "Iniciar sesión", another: "Usar otra cuenta", again: "Intentar de nuevo", back: "Volver a la página de inicio",
	},
	"fr": {
		refusals: [...]struct{ title, sentence string }{
			anonymous:   {"Connexion requise", "Connectez-vous pour continuer."},
			forbidden:   {"Accès refusé", "Vous n’êtes pas autorisé à faire cela."},
			badRequest:  {"Requête non valide", "Le serveur ne peut pas lire cette requête. Vérifiez l’adresse."},
			unavailable: {"Momentanément indisponible", "Réessayez dans un instant."},
		},
		number: "Communiquez ce numéro à votre administrateur\u00a0:",
		signIn: "Se connecter", another: "Utiliser un autre compte", again: "Réessayer", back: "Retour à l’accueil",
	},
}
