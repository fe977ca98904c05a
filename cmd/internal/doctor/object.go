package doctor

import (
	"slices"
	"strings"

	"github.com/coatcheck/coatcheck/internal/envoyconfig"
)

// An object is one of Kubernetes'.
type object struct {
	*document
	group, kind     string // gateway.networking.k8s.io, HTTPRoute; the core group is ""
	name, namespace string
	spec            envoyconfig.Value
}

// newObject reads what all objects have; nil for a document that is none.
func newObject(d *document) *object {
	version, kind := d.root.Get("apiVersion").Text(), d.root.Get("kind").Text()
	if version == "" || kind == "" {
		return nil
	}
	group, _, _ := strings.Cut(version, "/")
	if !strings.Contains(version, "/") {
		group = ""
	}
	meta := d.root.Get("metadata")
	o := &object{document: d, group: group, kind: kind, name: meta.Get("name").Text(), namespace: meta.Get("namespace").Text(), spec: d.root.Get("spec")}
	if o.namespace == "" {
		o.namespace = "default"
	}
	d.name = kind + " " + o.name
	return o
}

func (o *object) label(name string) string {
	return o.root.Get("metadata", "labels").Entry(name).Text()
}

func (o *object) is(group, kind string) bool { return o.group == group && o.kind == kind }

// items are the objects of a list, as kubectl get -o yaml prints it, or the document
// itself.
func items(d *document) []*document {
	if d.root.Get("kind").Text() != "List" {
		return []*document{d}
	}
	var found []*document
	for _, item := range d.root.Get("items").Items() {
		found = append(found, &document{file: d.file, root: item})
	}
	return found
}

// selects reports whether a selector chooses pods with these labels; an empty one chooses
// all.
func selects(selector envoyconfig.Value, labels envoyconfig.Value) bool {
	for key, value := range selector.Entries() {
		if labels.Entry(key).Text() != value.Text() {
			return false
		}
	}
	return true
}

// kubernetes is the examination of manifests.
type kubernetes struct {
	*notebook
	*ours
	*manifests
	service string
}

// manifests are all that was read.
type manifests struct {
	objects []*object
	meshes  []*document // MeshConfigs
}

// of are the objects of a kind.
func (m *manifests) of(group, kind string) []*object {
	var found []*object
	for _, o := range m.objects {
		if o.is(group, kind) {
			found = append(found, o)
		}
	}
	return found
}

// namespaceOf is the Namespace of that name, if it was read.
func (m *manifests) namespaceOf(name string) *object {
	for _, o := range m.of("", "Namespace") {
		if o.name == name {
			return o
		}
	}
	return nil
}

// workloads are the objects with a template of pods.
func (m *manifests) workloads() []*object {
	var found []*object
	for _, o := range m.objects {
		if o.group == "apps" && slices.Contains([]string{"Deployment", "StatefulSet", "DaemonSet"}, o.kind) {
			found = append(found, o)
		}
	}
	return found
}

// named are, of what has a name, those by whose names Coatcheck is asked: the one given,
// or those with coatcheck in them, or else all.
func named[T any](all []T, given string, name func(T) string) []T {
	var found []T
	for _, item := range all {
		if n := name(item); given != "" && n == given || given == "" && strings.Contains(n, "coatcheck") {
			found = append(found, item)
		}
	}
	if found == nil && given == "" {
		return all
	}
	return found
}
