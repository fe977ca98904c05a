package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/coatcheck/coatcheck/internal/secretfile"
	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/foreign"
)

// formatCoatcheck is the value of session.format for sessions that Coatcheck makes.
const formatCoatcheck = "coatcheck"

// A format is another program's way of keeping sessions: a row of [formats].
type format struct {
	name string // the value of session.format; its keys stand below session.NAME
	// made says by what an application makes the sessions, for the reference.
	made string
	// cookieName and cookieKeep are the defaults of cookie.name and cookie.keep.
	cookieName string
	cookieKeep bool
	// settings makes those of one configuration.
	settings func() formatSettings
}

// formatSettings are the settings of one format, with what is made of them. The cookie is
// the value of cookie.name.
type formatSettings interface {
	keys() []key
	// validate names everything that is wrong with them.
	validate() []error
	// validateField says why no record can have an application field of that name.
	validateField(name string) error
	// open reads the secrets. Its errors repeat none.
	open(cookie string) (*Format, error)
	// unsigned is the format with a secret that no application has, for what reads no cookie.
	// It is nil for settings that validate refuses.
	unsigned(cookie string) sessions.Format
}

// A Format is what session.format names where another program makes the sessions.
type Format struct {
	sessions.Format
	Reading foreign.Config
	// SecretFile has the secrets, InUse is what it held, and Use takes what it holds after a
	// change into use.
	SecretFile string
	InUse      []byte
	Use        func(text []byte) error
	// Slides reports whether a use moves the end of a session.
	Slides bool
}

// ReadSecrets reads a file of secrets as other files with passwords are read.
func ReadSecrets(path string) ([]byte, error) {
	text, err := secretfile.Read(path)
	return []byte(text), err
}

// formatKeys are about sessions that another program makes.
func (c *Config) formatKeys() []key {
	names, makers := []string{formatCoatcheck}, []string(nil)
	for _, f := range formats {
		names, makers = append(names, f.name), append(makers, "with "+f.made)
	}
	keys := []key{{name: "session.format", value: choice(&c.SessionFormat, formatCoatcheck, names...), common: true,
		usage: "who makes the sessions: Coatcheck, or an application " + strings.Join(makers, ", or ") + ", whose " +
			"sessions are read as they are"}}
	for _, f := range formats {
		keys = append(keys, c.settingsOf(f).keys()...)
	}
	return keys
}

// adopted says in a usage what the formats make of a default.
func adopted(of func(*format) (value string)) (usage string) {
	for _, f := range formats {
		usage += fmt.Sprintf("; with session.format %s it is %s unless it is set", f.name, of(f))
	}
	return usage
}

// settingsOf are the settings of a format, also of one that is not in use.
func (c *Config) settingsOf(f *format) formatSettings {
	if c.formats == nil {
		c.formats = make(map[string]formatSettings, len(formats))
	}
	if c.formats[f.name] == nil {
		c.formats[f.name] = f.settings()
	}
	return c.formats[f.name]
}

// foreign is the format of the sessions, nil where they are Coatcheck's own.
func (c *Config) foreign() *format {
	if i := slices.IndexFunc(formats, func(f *format) bool { return f.name == c.SessionFormat }); i >= 0 {
		return formats[i]
	}
	return nil
}

// OnlyReads returns an error for what Coatcheck cannot do with the sessions of another
// program, nil where they are its own. It says what to do instead.
func (c *Config) OnlyReads(what, instead string) error {
	if c.foreign() == nil {
		return nil
	}
	return About(fmt.Errorf("it is %s: the application makes these sessions, and Coatcheck only reads them, so it cannot %s; %s", c.SessionFormat, what, instead), "session.format")
}

// adoptFormat gives keys that were not given the defaults that the format needs: the
// cookie's name is the framework's, and the application behind Envoy needs its cookie.
func (c *Config) adoptFormat(given func(name string) bool) {
	f := c.foreign()
	if f == nil {
		return
	}
	if !given("cookie.name") {
		c.CookieName = f.cookieName
	}
	if !given("cookie.keep") {
		c.CookieKeep = f.cookieKeep
	}
}

// Format opens the format of sessions that another program makes; nil: they are
// Coatcheck's own. It reads the secrets. Its error repeats none.
func (c *Config) Format() (*Format, error) {
	if f := c.foreign(); f != nil {
		return c.settingsOf(f).open(c.CookieName)
	}
	return nil, nil
}

// unsigned is the format for what reads no cookie, such as the check of a policy file. It is
// nil for Coatcheck's own sessions, and for a configuration that validate refuses.
func (c *Config) unsigned() sessions.Format {
	if f := c.foreign(); f != nil {
		return c.settingsOf(f).unsigned(c.CookieName)
	}
	return nil
}

// validateFormat is about the format in use, and what does not go with it.
func (c *Config) validateFormat() (errs []error) {
	if f := c.foreign(); f != nil {
		errs = append(c.settingsOf(f).validate(), c.validateFieldNames(f)...)
		errs = append(errs, c.inapplicable()...)
	}
	return append(errs, c.formatless()...)
}

func (c *Config) validateFieldNames(f *format) (errs []error) {
	for _, field := range c.fields() {
		errs = append(errs, About(c.settingsOf(f).validateField(field.Field), "headers.fields"))
	}
	return errs
}

func needed(value, why string) error {
	if value == "" {
		return errors.New(why)
	}
	return nil
}

// inapplicable names the keys that were changed and that Coatcheck cannot follow for
// sessions of another program. An operator who sets a limit must not believe that it holds.
func (c *Config) inapplicable() (errs []error) {
	const ends = "the application alone decides when its sessions end, and Coatcheck cannot enforce another limit on them"
	reasons := map[string]string{ //nolint:gosec // names of keys
		"session.idle_timeout": ends, "session.absolute_timeout": ends, "session.idle_step": ends,
		"session.max_per_user": "the application signs its users in, and how many sessions a user has is not known",
		"session.count_every":  "only Coatcheck's own sessions can be counted",
		"near_cache.enabled":   "Redis tells of changes to Coatcheck's own sessions alone, so that those of the application are read for each check",
		"bearer":               "session IDs of the application come in its cookie",
	}
	for _, name := range changed(c.keys()) {
		if why := reasons[name]; why != "" {
			errs = append(errs, About(fmt.Errorf("it has no meaning with session.format %s: %s", c.SessionFormat, why), name))
		}
	}
	return errs
}

// formatless refuses keys of formats that are not in use.
func (c *Config) formatless() (errs []error) {
	for _, f := range formats {
		if f == c.foreign() {
			continue
		}
		for _, name := range changed(c.settingsOf(f).keys()) {
			errs = append(errs, About(errors.New("it needs session.format "+f.name), name))
		}
	}
	return errs
}

// changed are the names of the keys whose value is not the default.
func changed(keys []key) (names []string) {
	standard := make(map[string]string)
	for _, k := range new(Config).keys() {
		_ = k.value.set(k.value.fallback)
		standard[k.name] = fmt.Sprint(k.value.get())
	}
	for _, k := range keys {
		if fmt.Sprint(k.value.get()) != standard[k.name] {
			names = append(names, k.name)
		}
	}
	return names
}
