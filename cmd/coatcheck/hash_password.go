package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/coatcheck/coatcheck/sessions/login"
	"github.com/coatcheck/coatcheck/sessions/login/passwords"
)

func hashPasswordCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "hash-password",
		Short: "Make the hash of a password, for a users file or a table",
		Long: `Make the hash of a password, for a users file or a table: argon2id, in a PHC string.

At a terminal it asks for the password twice and does not show it. Otherwise it reads
one line from standard input. A password does not belong on the command line, where
every process could read it.`,
		Example: "  coatcheck hash-password\n  coatcheck hash-password <password.txt",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			password, err := newPassword(cmd)
			if err != nil {
				return err
			}
			hash, err := passwords.HashPassword(password)
			if err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), hash)
			advise(cmd.ErrOrStderr(), password)
			return nil
		},
	}
}

// The length in characters of a password that is the only factor, by OWASP ASVS 5.0,
// 6.2.1, and NIST SP 800-63B-4, section 3.1.1.2.
const (
	leastPassword   = 8
	advisedPassword = 15
)

// advise warns of a short password, whose hash is still good for tests.
func advise(w io.Writer, password string) {
	if n := utf8.RuneCountInString(password); n < leastPassword {
		fmt.Fprintf(w, "coatcheck: warning: the password has fewer than %d characters, which is too short for people; %d or more are advised\n", leastPassword, advisedPassword)
	} else if n < advisedPassword {
		fmt.Fprintf(w, "coatcheck: %d characters or more are advised where the password is the only factor\n", advisedPassword)
	}
}

// newPassword asks for a password at a terminal, or reads it.
func newPassword(cmd *cobra.Command) (string, error) {
	var password string
	var err error
	if file, ok := cmd.InOrStdin().(*os.File); ok && term.IsTerminal(int(file.Fd())) {
		password, err = askTwice(cmd.Context(), file, cmd.ErrOrStderr())
	} else {
		password, err = readLine(cmd.InOrStdin())
	}
	if err == nil && !utf8.ValidString(password) {
		err = errors.New("the password is not UTF-8, so it could not be typed into a login page")
	}
	return password, err
}

// readLine reads the only line, without its end. A second line is an error, because it
// may be a part of the password or a second password, which would be lost silently.
func readLine(r io.Reader) (string, error) {
	const end = len("\r\n")
	text, err := io.ReadAll(io.LimitReader(r, login.MaxPassword+int64(end)+1))
	if err != nil {
		return "", fmt.Errorf("reading the password: %w", err)
	}
	line, rest, _ := strings.Cut(string(text), "\n")
	if rest != "" {
		return "", errors.New("standard input holds more than one line")
	}
	return strings.TrimSuffix(line, "\r"), nil
}

func askTwice(ctx context.Context, terminal *os.File, prompts io.Writer) (string, error) {
	first, err := askUnseen(ctx, terminal, prompts, "Password: ")
	if err != nil {
		return "", err
	}
	again, err := askUnseen(ctx, terminal, prompts, "The same again: ")
	if err == nil && first != again {
		err = errors.New("the two passwords differ")
	}
	return first, err
}

// askUnseen reads a line that the terminal does not show. A signal ends it, because the
// terminal must show again what is typed after the program.
func askUnseen(ctx context.Context, terminal *os.File, prompts io.Writer, prompt string) (string, error) {
	if ctx.Err() != nil {
		return "", errors.New("interrupted")
	}
	fd := int(terminal.Fd())
	before, err := term.GetState(fd)
	if err != nil {
		return "", fmt.Errorf("the terminal: %w", err)
	}
	fmt.Fprint(prompts, prompt)
	defer fmt.Fprintln(prompts)
	type answer struct {
		line []byte
		err  error
	}
	answers := make(chan answer, 1)
	go func() { line, err := term.ReadPassword(fd); answers <- answer{line, err} }()
	select {
	case a := <-answers:
		if a.err != nil {
			return "", fmt.Errorf("reading the password: %w", a.err)
		}
		return string(a.line), nil
	case <-ctx.Done():
		_ = term.Restore(fd, before)
		return "", errors.New("interrupted")
	}
}
