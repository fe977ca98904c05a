package doctor

import (
	"path"
	"slices"
	"strings"

	"github.com/coatcheck/coatcheck/cmd/internal/config"
	"github.com/coatcheck/coatcheck/internal/envoyconfig"
)

// The findings of two configurations that do not fit.
const (
	ConfigRedisDiffers   ID = "CONFIG_REDIS_DIFFERS"
	ConfigSettingsDiffer ID = "CONFIG_SETTINGS_DIFFER"
)

var configurationRules = []Rule{
	{ConfigRedisDiffers, Error, "login and checks use another Redis", "Sign-in succeeds, and then each request is 401 `not_found`: the checks look where login does not write.", "Coatcheck, `redis.addresses` and `redis.database`", "give both the same addresses and the same database"},
	{ConfigSettingsDiffer, Error, "login and checks disagree on sessions or their cookie", "Login sets a cookie, or makes sessions, that the checks do not take.", "Coatcheck, `docs/configuration.md`", "give both the same values"},
}

// podParts are the processes of Coatcheck in the manifests.
func (m *manifests) podParts() []part {
	var parts []part
	for _, o := range m.workloads() {
		c := coatcheckContainer(o)
		if !c.Exists() {
			continue
		}
		p := part{at: o.at(c), workload: o}
		variables, complete := podVariables(c)
		folder := m.configMapOf(o, c)
		data := folder.root.Get("data")
		file := flagOf(c.Get("args"), "--config")
		text := data.Entry(path.Base(file))
		if file != "" && !text.Exists() || !complete {
			continue // it is not all there, so that nothing can be said of it
		}
		if text.Exists() {
			p.at = place{folder.document, text}
		}
		p.config, p.err = config.Parse([]byte(text.Text()), variables)
		if p.err == nil && p.config.PolicyFile != "" {
			if v := data.Entry(path.Base(p.config.PolicyFile)); v.Exists() {
				policies := []byte(v.Text())
				p.policies = &policies
			}
		}
		parts = append(parts, p)
	}
	return parts
}

// podVariables are a container's COATCHECK_ variables. It reports whether all have a
// value that can be seen.
func podVariables(c envoyconfig.Value) (variables []string, complete bool) {
	for _, v := range c.Get("env").Items() {
		name := v.Get("name").Text()
		switch {
		case !strings.HasPrefix(name, "COATCHECK_"):
		case v.Get("valueFrom").Exists():
			if !strings.Contains(name, "PASSWORD") && !strings.Contains(name, "DSN") {
				return nil, false
			}
		default:
			variables = append(variables, name+"="+v.Get("value").Text())
		}
	}
	return variables, !c.Get("envFrom").Exists()
}

// flagOf is the value of a flag in a list of arguments.
func flagOf(args envoyconfig.Value, flag string) string {
	list := args.Texts()
	for i, arg := range list {
		if value, ok := strings.CutPrefix(arg, flag+"="); ok {
			return value
		}
		if arg == flag && i+1 < len(list) {
			return list[i+1]
		}
	}
	return ""
}

// configMapOf is the ConfigMap in which a container finds its --config, and an empty
// one where that was not read.
func (m *manifests) configMapOf(o *object, c envoyconfig.Value) *object {
	folder := path.Dir(flagOf(c.Get("args"), "--config"))
	for _, mount := range c.Get("volumeMounts").Items() {
		if path.Clean(mount.Get("mountPath").Text()) != folder {
			continue
		}
		for _, volume := range o.spec.Get("template", "spec", "volumes").Items() {
			if volume.Get("name").Text() != mount.Get("name").Text() {
				continue
			}
			for _, candidate := range m.of("", "ConfigMap") {
				if candidate.name == volume.Get("configMap", "name").Text() && candidate.namespace == o.namespace {
					return candidate
				}
			}
		}
	}
	return &object{document: new(document)}
}

// composeParts are the processes of Coatcheck in a compose file, as far as variables
// configure them.
func composeParts(d *document) []part {
	var parts []part
	for _, service := range d.root.Get("services").Entries() {
		if !isCoatcheck(service.Get("image").Text()) || service.Get("profiles").Exists() {
			continue
		}
		var variables []string
		for name, value := range service.Get("environment").Entries() {
			if strings.HasPrefix(name, "COATCHECK_") {
				variables = append(variables, name+"="+value.Text())
			}
		}
		for _, arg := range service.Get("command").Texts() {
			if arg == "--listen=" { // a variable cannot say that
				variables = append(variables, "")
			}
		}
		if flagOf(service.Get("command"), "--config") != "" {
			continue
		}
		p := part{at: d.at(service)}
		if p.config, p.err = config.Parse(nil, variables); p.err == nil && slices.Contains(variables, "") {
			p.config.Listen = ""
		}
		parts = append(parts, p)
	}
	return parts
}

// pairs compares the checks' configurations with login's.
func (n *notebook) pairs(checks, logins []part) {
	for _, c := range checks {
		for _, l := range logins {
			if c.config == l.config {
				continue
			}
			for _, text := range redisDifferences(c, l) {
				n.add(ConfigRedisDiffers, l.at, "%s", text)
			}
			for _, text := range c.config.Settings().Differences(l.config.Settings()) {
				n.add(ConfigSettingsDiffer, l.at, "%s", text)
			}
		}
	}
}
