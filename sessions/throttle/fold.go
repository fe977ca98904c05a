package throttle

import (
	"strings"
	"unicode"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"
)

// Fold returns one text for all spellings that a user source might take for the
// same name: it drops letter case, width and ligatures, accents and strokes, blanks and
// invisible characters. It takes for one what PostgreSQL's lower, citext and unaccent do,
// and a collation that ignores accents, because an alias with counters of its own
// would give free attempts.
//
// Two names that fold to one text share their counters, also where a source takes them
// for two accounts. A failure at the one then counts against the other, which costs an
// attacker no more than to type the other name. So letters fold, and the signs of which
// programs make one another as people type; but no others, because a.b and ab are
// often two people.
func Fold(username string) string {
	bare := strip(norm.NFKD.String(username))
	// Fold swaps the cases of Cherokee; up and down again makes one of them.
	folded := strings.ToLower(strings.ToUpper(cases.Fold().String(bare)))
	return plain.Replace(strip(norm.NFKD.String(folded)))
}

func strip(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.In(r, unicode.Mn, unicode.Cf, unicode.Cc, unicode.White_Space) {
			return -1
		}
		return r
	}, s)
}

// alike are the letters that Unicode does not decompose, in lower case, behind the text
// that unaccent or the root collation (UCA, first level) takes for the same; and the
// apostrophes and dashes that keyboards write for those of ASCII.
var alike = [][2]string{
	{"a", "ᴀᶏⱥ"}, {"b", "ƀƃɓʙᴃᵬᶀ"}, {"c", "ƈȼɕᴄꞓ"}, {"d", "ðđƌȡɖɗᴅᴆᵭᶁᶑꝱꝺ"}, {"e", "ɇɛᴇᶒᶓⱸ"}, {"f", "ƒᵮᶂꜰꝼ"},
	{"g", "ǥɠɡɢʛᵹᶃꞡ"}, {"h", "ħɦɧʜⱨ"}, {"i", "ɨɩɪᵻᶖ"}, {"j", "ȷɉɟʝᴊ"}, {"k", "ƙᴋᶄⱪꝁꝃꝅꞣ"}, {"l", "łƚȴɫɬɭʟᴌᶅⱡꝇꝉꝲ"},
	{"m", "ɱᴍᵯᶆꝳ"}, {"n", "ŋƞȵɲɳɴᵰᶇꝴꞑꞥ"}, {"o", "øᴏⱺꝋꝍ"}, {"p", "ƥᴘᵱᵽᶈꝑꝓꝕ"}, {"q", "ĸʠꝗꝙ"}, {"r", "ɍɼɽɾʀᵲᵳᶉꝵꝶꞃꞧ"},
	{"s", "ȿʂᵴᶊẜẝꜱꞅꞩ"}, {"t", "ŧƫƭȶʈᴛᵵⱦꝷꞇ"}, {"u", "ʉᴜᵾᶙ"}, {"v", "ʋᴠᶌỽⱱⱴꝟ"}, {"w", "ᴡⱳ"}, {"x", "ᶍ"}, {"y", "ƴɏʏỿ"}, {"z", "ƶȥɀʐʑᴢᵶᶎⱬ"},
	{"aa", "ꜳ"}, {"ae", "æᴁ"}, {"ao", "ꜵ"}, {"au", "ꜷ"}, {"av", "ꜹꜻ"}, {"ay", "ꜽ"}, {"db", "ȸ"}, {"dz", "ʣʥ"}, {"hv", "ƕ"}, {"ll", "ỻ"},
	{"ls", "ʪ"}, {"lz", "ʫ"}, {"oe", "œɶ"}, {"oi", "ƣ"}, {"oo", "ꝏ"}, {"qp", "ȹ"}, {"th", "þᵺꝥꝧ"}, {"ts", "ƾʦ"}, {"tz", "ꜩ"}, {"ue", "ᵫ"},
	{"vy", "ꝡ"}, {"zw", "ƍ"}, {"'", "ʹʻʼʽʾˈ‘’‛′＇"}, {"-", "‐‑‒–—―−"},
}

var plain = func() *strings.Replacer {
	var pairs []string
	for _, row := range alike {
		for _, r := range row[1] {
			pairs = append(pairs, string(r), row[0])
		}
	}
	return strings.NewReplacer(pairs...)
}()
