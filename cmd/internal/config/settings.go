package config

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// agreed are the keys about sessions and their cookie on which login and checks must
// agree; ofLogin are those of which only login makes use. They hold no secret.
var (
	agreed  = []string{"bearer", "cookie.name", "session.absolute_timeout", "session.idle_step", "session.idle_timeout"}
	ofLogin = []string{"cookie.domain", "cookie.insecure", "session.max_per_user"}
)

// Settings are values by their keys: those in which all replicas of an installation
// should be alike.
type Settings map[string]string

// Settings are the ones that this configuration makes use of.
func (c *Config) Settings() Settings {
	s := make(Settings)
	for _, k := range c.keys() {
		if slices.Contains(agreed, k.name) || c.ServesLogin() && slices.Contains(ofLogin, k.name) {
			s[k.name] = fmt.Sprint(k.value.get())
		}
	}
	if f := c.foreign(); f != nil {
		s["session.format"] = f.name
		for _, k := range c.settingsOf(f).keys() {
			if k.value.kind != isFile { // which may be mounted anywhere
				s[k.name] = fmt.Sprint(k.value.get())
			}
		}
	}
	return s
}

// Fingerprint is a short text that is the same for equal settings. It covers those on
// which login and checks must agree, so that the two are compared, too; and those about
// the sessions of another program, where these are read.
func (s Settings) Fingerprint() string {
	h := sha256.New()
	names := agreed
	for _, name := range slices.Sorted(maps.Keys(s)) {
		if name == "session.format" || strings.HasPrefix(name, "session."+s["session.format"]+".") { // of another program's sessions
			names = append(names[:len(names):len(names)], name)
		}
	}
	for _, name := range names {
		fmt.Fprintf(h, "%s=%q\n", name, s[name])
	}
	return hex.EncodeToString(h.Sum(nil))[:12]
}

// left is the form in which login leaves its settings for the others.
type left struct {
	Fingerprint string   `json:"fingerprint"`
	Settings    Settings `json:"settings"`
}

// Encode is the text that [ReadSettings] reads.
func (s Settings) Encode() string {
	text, _ := json.Marshal(left{s.Fingerprint(), s}) // of strings alone
	return string(text)
}

// ReadSettings reads what a login has left, maybe one of another version: keys that are
// not known here do no harm.
func ReadSettings(text string) (Settings, error) {
	var l left
	if err := json.Unmarshal([]byte(text), &l); err != nil || len(l.Settings) == 0 {
		return nil, errors.New("it is not the settings of a login")
	}
	return l.Settings, nil
}

// maxValue bounds a value of another process in a line of the log, in bytes.
const maxValue = 64

// Differences says of each key that both have how the values differ, empty where they
// are alike.
func (s Settings) Differences(login Settings) []string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(s)) {
		if theirs, ok := login[name]; ok && theirs != s[name] {
			all = append(all, fmt.Sprintf("%s is %s here and %s at login", name, shown(s[name]), shown(theirs)))
		}
	}
	return all
}

// shown is a value on one line. A duration is 30m, and not 30m0s.
func shown(value string) string {
	value = cmp.Or(value, "empty")
	if short, ok := strings.CutSuffix(value, "m0s"); ok {
		value = short + "m"
		if short, ok := strings.CutSuffix(value, "h0m"); ok {
			value = short + "h"
		}
	}
	if len(value) > maxValue {
		value = value[:maxValue]
	}
	if quoted := strconv.Quote(value); quoted[1:len(quoted)-1] != value {
		return quoted
	}
	return value
}
