package envoyconfig

import (
	"bytes"
	"encoding/json"
	"fmt"

	"go.yaml.in/yaml/v3"
)

const clustersType = "envoy.admin.v3.ClustersConfigDump"

// A source is a list of clusters. In a config dump each stands in a message, under
// the field within.
type source struct {
	list   Value
	within string
}

func (c *Config) addClusters(list Value, within string) {
	if list.Exists() {
		c.clusters = append(c.clusters, &source{list, within})
	}
}

// Cluster finds a cluster by its name, and reports whether it is in what was read: the
// clusters of a control plane (CDS) stand in a config dump alone.
func (c *Config) Cluster(name string) (Value, bool) {
	for i := len(c.clusters) - 1; i >= 0; i-- {
		for _, item := range c.clusters[i].list.Items() {
			if within := c.clusters[i].within; within != "" {
				item = item.Get(within)
			}
			if item.Get("name").Text() != name {
				continue
			}
			if !item.unfold() {
				return Value{}, false
			}
			return item, true
		}
	}
	return Value{}, false
}

// rawTag marks a node that stands for text which is not decoded yet.
const rawTag = "!raw"

// outline decodes the clusters' part of a dump, but of each cluster only its name: a
// mesh has thousands, of which few are asked for.
func outline(part []byte) (Value, error) {
	var dump struct {
		Type    string         `json:"@type"`
		Static  []outlineEntry `json:"static_clusters"`
		Dynamic []outlineEntry `json:"dynamic_active_clusters"`
	}
	if err := json.Unmarshal(part, &dump); err != nil {
		return decodeJSON(part)
	}
	root := &yaml.Node{Kind: yaml.MappingNode, Content: []*yaml.Node{scalar("@type", "!!str"), scalar(dump.Type, "!!str")}}
	add := func(name string, entries []outlineEntry) {
		list := &yaml.Node{Kind: yaml.SequenceNode}
		for _, entry := range entries {
			list.Content = append(list.Content, &yaml.Node{Kind: yaml.MappingNode, Content: []*yaml.Node{scalar("cluster", "!!str"), entry.node()}})
		}
		root.Content = append(root.Content, scalar(name, "!!str"), list)
	}
	add("static_clusters", dump.Static)
	add("dynamic_active_clusters", dump.Dynamic)
	return Value{root}, nil
}

type outlineEntry struct {
	Cluster json.RawMessage `json:"cluster"`
}

// node holds the cluster's name, and its text for later.
func (e outlineEntry) node() *yaml.Node {
	var cluster struct {
		Name string `json:"name"`
	}
	if err := json.Unmarshal(e.Cluster, &cluster); err != nil {
		return scalar("null", "!!null")
	}
	return &yaml.Node{Kind: yaml.MappingNode, Tag: rawTag, Value: string(e.Cluster), Content: []*yaml.Node{scalar("name", "!!str"), scalar(cluster.Name, "!!str")}}
}

// unfold decodes a node of an outline in its place, and reports whether that is possible.
func (v Value) unfold() bool {
	if v.node.Tag != rawTag {
		return true
	}
	whole, err := decodeJSON(bytes.TrimSpace([]byte(v.node.Value)))
	if err != nil || !whole.Exists() {
		return false
	}
	*v.node = *whole.node
	return true
}

// versionOf is a SemanticVersion as people write it, or "".
func versionOf(v Value) string {
	if !v.Exists() {
		return ""
	}
	return fmt.Sprintf("%d.%d.%d", v.Get("major_number").Int(), v.Get("minor_number").Int(), v.Get("patch").Int())
}
