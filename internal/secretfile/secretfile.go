// Package secretfile reads passwords from files, and keeps them out of what a
// program writes:
//
//	password, err := secretfile.Read(path)
//	known.Add(password)             // known is a Set
//	log.Print(known.Redact(text))
package secretfile

import (
	"fmt"
	"os"
	"strings"
)

// Read returns the password that a file holds, without the line feeds at its end.
// An empty file is an error. Errors name the file and never what it holds.
func Read(path string) (string, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	password := strings.TrimRight(string(content), "\r\n")
	if password == "" {
		return "", fmt.Errorf("%s is empty", path)
	}
	return password, nil
}
