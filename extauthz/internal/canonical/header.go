package canonical

// HasPrefix reports whether the normal form of name begins with prefix.
// The normal form is lower case with every byte outside a-z and 0-9 read as "-":
// a WSGI or PHP upstream sees one header in x-user-id, X_User_Id and x.user.id
// (CVE-2025-64484, CVE-2026-88011).
func HasPrefix(name []byte, prefix string) bool {
	if len(name) < len(prefix) {
		return false
	}
	for i := range len(prefix) {
		if normal(name[i]) != prefix[i] {
			return false
		}
	}
	return true
}

func normal(c byte) byte {
	switch {
	case 'a' <= c && c <= 'z', '0' <= c && c <= '9':
		return c
	case 'A' <= c && c <= 'Z':
		return c | 0x20
	}
	return '-'
}
