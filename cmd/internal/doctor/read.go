package doctor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/coatcheck/coatcheck/internal/envoyconfig"
	"github.com/coatcheck/coatcheck/internal/strictyaml"
)

// What a doctor reads at most: bytes of one source and of all files of a folder, and
// files of a folder.
const (
	maxBytes = 64 << 20
	maxFiles = 10_000
)

// Read reads a source: a file, a folder with all below it, "-" for stdin, or the URL of
// Envoy's admin interface. Files of a folder that are no YAML or JSON by their names, or
// that hold nothing for the doctor, are passed over; of a source that is named, that is
// an error. Its errors repeat nothing of what was read.
func (d *Doctor) Read(ctx context.Context, source string, stdin io.Reader) error {
	if source == "-" {
		text, err := io.ReadAll(io.LimitReader(stdin, maxBytes+1))
		if err != nil {
			return errors.New("standard input cannot be read")
		}
		return d.readText(source, text, true)
	}
	if info, err := os.Stat(source); err == nil && info.IsDir() {
		return d.readFolder(source)
	}
	text, shown, err := envoyconfig.Read(ctx, source)
	if err != nil {
		return err
	}
	return d.readText(shown, text, true)
}

// readFolder reads what is below a folder, but for hidden folders.
func (d *Doctor) readFolder(folder string) error {
	left, files := maxBytes, 0
	found := len(d.documents)
	err := filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return fmt.Errorf("%s: it cannot be read", strictyaml.Quote(path))
		case entry.IsDir() && path != folder && strings.HasPrefix(entry.Name(), "."):
			return fs.SkipDir
		case !entry.Type().IsRegular() || !slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(path)):
			return nil
		}
		if files++; files > maxFiles {
			return fmt.Errorf("%s: it has over %d files", strictyaml.Quote(folder), maxFiles)
		}
		text, err := strictyaml.ReadFile(path, int64(left))
		if err != nil {
			return fmt.Errorf("%s: %w", strictyaml.Quote(path), err)
		}
		left -= len(text)
		return d.readText(path, text, false)
	})
	if err == nil && len(d.documents) == found {
		err = fmt.Errorf("%s: it has neither a configuration of Envoy nor manifests", strictyaml.Quote(folder))
	}
	return err
}

// readText reads the documents of a text. Where it is wanted, it must hold one that is
// known.
func (d *Doctor) readText(source string, text []byte, wanted bool) error {
	roots, err := envoyconfig.Documents(text)
	if err != nil {
		return fmt.Errorf("%s: %w", strictyaml.Quote(source), err)
	}
	d.sources++
	known := false
	for _, root := range roots {
		for _, one := range items(&document{file: source, root: root}) {
			known = d.take(one) || known
		}
	}
	if wanted && !known {
		return fmt.Errorf("%s: it is neither a configuration of Envoy, nor a config dump, nor manifests of Kubernetes", strictyaml.Quote(source))
	}
	return nil
}

// take sorts a document in, and reports whether it is of a kind that is known.
func (d *Doctor) take(doc *document) bool {
	o := newObject(doc)
	switch {
	case o != nil:
		d.manifests.objects = append(d.manifests.objects, o)
		d.inside(o)
	case doc.root.IsConfig():
		d.envoys = append(d.envoys, doc)
	case doc.root.Get("extension_providers").Exists():
		d.manifests.meshes = append(d.manifests.meshes, doc)
	case doc.root.Get("meshConfig", "extension_providers").Exists(): // of Istio's chart
		d.manifests.meshes = append(d.manifests.meshes, &document{file: doc.file, name: "meshConfig", root: doc.root.Get("meshConfig")})
	case doc.root.Get("services").Exists():
		d.composes = append(d.composes, doc)
	default:
		return false
	}
	d.documents = append(d.documents, doc)
	return true
}

// inside looks for configurations that an object holds: MeshConfig, and texts of a
// ConfigMap.
func (d *Doctor) inside(o *object) {
	if v := o.spec.Get("meshConfig"); o.kind == "IstioOperator" && v.Exists() {
		d.manifests.meshes = append(d.manifests.meshes, &document{file: o.file, name: o.document.name + ": spec.meshConfig", root: v})
	}
	if v := o.spec.Get("values", "meshConfig"); o.kind == "Istio" && v.Exists() { // of the Sail operator
		d.manifests.meshes = append(d.manifests.meshes, &document{file: o.file, name: o.document.name + ": spec.values.meshConfig", root: v})
	}
	if !o.is("", "ConfigMap") {
		return
	}
	for key, text := range o.root.Get("data").Entries() {
		isMesh := key == "mesh"
		if !isMesh && !strings.HasSuffix(key, ".yaml") && !strings.HasSuffix(key, ".json") {
			continue
		}
		root, err := text.Embedded()
		inner := &document{file: o.file, name: o.document.name + ": data[" + key + "]", root: root}
		switch {
		case err != nil: // not ours to complain about
		case isMesh:
			d.manifests.meshes = append(d.manifests.meshes, inner)
		case root.IsConfig():
			d.envoys = append(d.envoys, inner)
		}
	}
}
