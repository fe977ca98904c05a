package passwords

import (
	"fmt"
	"strings"
	"testing"

	"github.com/coatcheck/coatcheck/sessions/login"
)

// What other programs made: the first three are of the reference implementation
// of argon2 (src/test.c), the bcrypt ones of crypt_blowfish (wrapper.c).
var foreignHashes = []struct{ hash, password string }{
	{"$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc", "password"},
	{"$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4", "password"},
	{"$argon2id$v=19$m=256,t=2,p=2$c29tZXNhbHQ$bQk8UB/VmZZF4Oo79iDXuL5/0ttZwg2f/5U52iv1cDc", "password"},
	{"$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW", "U*U"},
	{"$2y$05$CCCCCCCCCCCCCCCCCCCCC.VGOzA784oUp/Z0DY336zx7pLYAy0lwK", "U*U*"},
	{"$2b$05$XXXXXXXXXXXXXXXXXXXXXOAcXxm9kjPGEMsLznoKqmqw7tc8WCx4a", "U*U*U"},
}

func TestForeignHashes(t *testing.T) {
	for _, f := range foreignHashes {
		h, err := parseHash(f.hash)
		if err != nil {
			t.Errorf("%s: %v", f.hash, err)
			continue
		}
		if !h.matches(f.password) {
			t.Errorf("%s does not match %q", f.hash, f.password)
		}
		if h.matches(f.password+"x") || h.matches("") {
			t.Errorf("%s matches another password", f.hash)
		}
	}
}

func TestHashPassword(t *testing.T) {
	longest := strings.Repeat("é", login.MaxPassword/2)
	for _, password := range []string{"x", "correct horse", longest, "\x00\xff"} {
		text, err := HashPassword(password)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(text, "$argon2id$v=19$m=19456,t=2,p=1$") {
			t.Errorf("%s has not the default costs", text)
		}
		h, err := parseHash(text)
		if err != nil {
			t.Fatal(err)
		}
		if !h.matches(password) || h.matches(password[1:]+"y") {
			t.Errorf("the hash of %.10q does not tell it from another one", password)
		}
		if h.weakerThan(HashParams{}.orDefault()) {
			t.Error("a new hash is weaker than the default")
		}
	}
	if again, _ := HashPassword("x"); again == must(HashPassword("x")) {
		t.Error("two hashes of one password are the same")
	}
	for _, password := range []string{"", longest + "x"} {
		if _, err := HashPassword(password); err == nil {
			t.Errorf("%d bytes became a hash", len(password))
		}
	}
}

func must(text string, err error) string {
	if err != nil {
		panic(err)
	}
	return text
}

// refusedHashes are some that look like hashes.
func refusedHashes() []string {
	const salt, sum = "c29tZXNhbHQ", "nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4"
	list := []string{
		"", "!", "password", "$argon2i$v=19$m=256,t=2,p=1$" + salt + "$" + sum, "$argon2id$", "$2b$", "$1$abc$def",
		"$argon2id$m=256,t=2,p=1$" + salt + "$" + sum,
		"$argon2id$v=19$m=256,t=2,p=1$" + salt,
		"$argon2id$v=19$m=256,t=2,p=1$" + salt + "$" + sum + "$",
		"$argon2id$v=19$m=256,t=2,p=1$" + salt + "$" + sum + "\n",
		"$argon2id$v=19$m=256,t=2,p=1$" + salt[:4] + "\n" + salt[4:] + "$" + sum,
		"$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHR$" + sum, // spare bits
		"$argon2id$v=19$m=256,t=2,p=1$c29tZQ$" + sum,      // four bytes of salt
		"$argon2id$v=19$m=256,t=2,p=1$" + salt + "$c29tZXNhbHQ",
		"$argon2id$v=19$m=256,t=2,p=1$" + salt + "$" + strings.Repeat("A", 88),
		"$argon2id$v=19$m=256,t=2,p=1$" + strings.Repeat("A", 88) + "$" + sum,
		"$argon2id$v=19$m=256,t=2,p=1$" + salt + "$" + strings.Repeat("A", 1<<20),
		"$2x$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW",
		"$2b$5$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW$",
		"$2b$+5$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW",
		"$2b$03$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW",
		"$2b$17$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW",
		"$2b$05$CCCCCCCCCCCCCCCCCCCC=.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW",
		"$2b$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOe",
	}
	for _, params := range []string{
		"v=16$m=256,t=2,p=1", "v=19$m=256,p=1,t=2", "v=19$m=0256,t=2,p=1", "v=19$m=+256,t=2,p=1", "v=19$m=-1,t=2,p=1",
		"v=19$m=131073,t=2,p=1", "v=19$m=4294967297,t=2,p=1", "v=19$m=256,t=0,p=1", "v=19$m=256,t=17,p=1",
		"v=19$m=256,t=2,p=0", "v=19$m=256,t=2,p=17", "v=19$m=256,t=2,p=257", "v=19$m=15,t=2,p=2", "v=19$m=256,t=2,p=1,data=AAAA",
		"v=19$m= 256,t=2,p=1", "v=19$m=256,t=2", "$",
	} {
		list = append(list, "$argon2id$"+params+"$"+salt+"$"+sum)
	}
	return list
}

func TestParseHashRefuses(t *testing.T) {
	for _, text := range refusedHashes() {
		h, err := parseHash(text)
		if err == nil {
			t.Errorf("%.100q became %v", text, h)
		} else if strings.Contains(err.Error(), "c29t") || strings.Contains(err.Error(), "CCCC") {
			t.Errorf("the error quotes the hash: %v", err)
		}
	}
}

// TestWeaker: OWASP's choices are as good as each other.
func TestWeaker(t *testing.T) {
	std := HashParams{}.orDefault()
	for _, test := range []struct {
		stored HashParams
		weaker bool
	}{
		{std, false}, {HashParams{46 << 10, 1, 1}, false}, {HashParams{64 << 10, 3, 4}, false},
		{HashParams{19 << 10, 1, 1}, true}, {HashParams{4 << 10, 2, 1}, true},
		{HashParams{4 << 10, 16, 1}, true}, // much time, and too little memory
	} {
		if got := (argon2idHash{HashParams: test.stored}).weakerThan(std); got != test.weaker {
			t.Errorf("%+v: weaker is %v", test.stored, got)
		}
	}
	small := HashParams{64, 1, 1}
	if (argon2idHash{HashParams: small}).weakerThan(small) {
		t.Error("a hash is weaker than its own costs")
	}
}

// FuzzHash: no text of a source makes reading panic; what is read
// costs no more than it may, and is spelled in one way.
func FuzzHash(f *testing.F) {
	for _, h := range foreignHashes {
		f.Add(h.hash)
	}
	for _, text := range refusedHashes() {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		kinds, kindsErr := parseKinds(text)
		for _, k := range kinds {
			if _, err := parseHash(dummy(k).(fmt.Stringer).String()); kindsErr != nil || err != nil || k.Bytes() > 128<<20 || k.bcrypt > 16 || k.argon2id.Passes > 16 {
				t.Errorf("%q holds the kind %v: %v, %v", text, k, kindsErr, err)
			}
		}
		parsed, err := parseHash(text)
		if err == nil && (len(kinds) != 1 || kinds[0] != parsed.kind()) {
			t.Errorf("%q is of the kind %v, not of %v", text, parsed.kind(), kinds)
		}
		switch h := parsed.(type) {
		case nil:
			if err == nil {
				t.Fatal("neither a hash nor an error")
			}
		case bcryptHash:
			if string(h) != text || text[4:6] > "16" {
				t.Errorf("%q was read as %q", text, h)
			}
			if text[4:6] == "04" {
				h.matches("password")
			}
		case argon2idHash:
			if h.String() != text || h.Memory > 128<<10 || h.Passes > 16 || h.Lanes > 16 || len(h.salt) > 64 || len(h.sum) > 64 {
				t.Errorf("%q was read as %v", text, h)
			}
			if h.Memory*h.Passes < 4<<10 {
				h.matches("password")
			}
		}
	})
}
