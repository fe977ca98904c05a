package envoyconfig

import (
	"errors"
	"fmt"
	"maps"
	"slices"
)

// Redacted stands in a config dump for what Envoy's API marks as sensitive: all values
// of context_extensions are. A plain file has the values.
const Redacted = "[redacted]"

// hide moves the keys of hidden values to Hidden.
func (w *Way) hide() {
	for _, key := range slices.Sorted(maps.Keys(w.Extensions)) {
		if w.Extensions[key] == Redacted {
			w.Extensions[key] = ""
			w.Hidden = append(w.Hidden, key)
		}
	}
}

// Reveal fills in the values that Envoy hides in its config dump, from what was found
// for the same request in a file with the same configuration. Its error says in what
// the two differ: then Envoy does not run the file as it is now, and the file's values
// say nothing.
func Reveal(ways, file []Way) ([]Way, error) {
	if len(ways) != len(file) {
		return nil, fmt.Errorf("there are %d ways for the request in Envoy, and %d in the file", len(ways), len(file))
	}
	out := slices.Clone(ways)
	for i := range out {
		if err := out[i].reveal(&file[i]); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (w *Way) reveal(file *Way) error {
	here, there := []string{w.Listener, w.Filter, w.VirtualHost, w.Route, w.If, w.WhyNot}, []string{file.Listener, file.Filter, file.VirtualHost, file.Route, file.If, file.WhyNot}
	if i := slices.Compare(here, there); i != 0 || w.Host != file.Host || w.Path != file.Path {
		return fmt.Errorf("in Envoy the request takes %s, and in the file %s", w.where(), file.where())
	}
	if len(file.Hidden) > 0 {
		return errors.New("both hide the values of context_extensions")
	}
	keys := slices.Sorted(maps.Keys(w.Extensions))
	if !slices.Equal(keys, slices.Sorted(maps.Keys(file.Extensions))) {
		return fmt.Errorf("on %s Envoy has other keys in context_extensions than the file", w.where())
	}
	for _, key := range keys {
		if !slices.Contains(w.Hidden, key) && w.Extensions[key] != file.Extensions[key] {
			return fmt.Errorf("on %s Envoy has another %s than the file", w.where(), clean(key))
		}
	}
	w.Extensions, w.Hidden = file.Extensions, nil
	return nil
}

// where names a way by what leads to it.
func (w *Way) where() string {
	if w.Route == "" {
		return "listener " + strictQuote(w.Listener) + " (" + w.WhyNot + ")"
	}
	return "listener " + strictQuote(w.Listener) + ", virtual host " + strictQuote(w.VirtualHost) + ", " + w.Route
}
