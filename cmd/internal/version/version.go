// Package version says which build of Coatcheck runs, however it was built:
//
//	fmt.Println(version.Read()) // v1.2.3, revision 4595275b..., of 2026-11-26T17:20:00Z, go1.26.8
//
// What it says comes from the first of these that knows: the linker's flags of `make
// build` (.ci/build), the revision that git archive writes into archive.txt, and what
// the go command records of a checkout or of a module's version. A source without any
// of them, such as a copy without .git, makes a build of an unknown revision.
package version

import (
	_ "embed"
	"regexp"
	"runtime"
	"runtime/debug"
	"strings"
	"time"
)

// Set by -ldflags "-X ...", for a build whose source does not say it, such as a
// distribution's. The date is the commit's, so that two builds of one source are the
// same.
var version, revision, date string

// archive is replaced in a tar file that git archive makes, as GitHub does.
//
//go:embed archive.txt
var archive string

// Unknown stands for a version or a revision of which nothing is known.
const Unknown = "unknown"

// A Build is what is known of a build.
type Build struct {
	Version  string `json:"version"`        // a tag such as v1.2.3, or what the go command or git describe makes of the last one
	Revision string `json:"revision"`       // the commit; of a module's pseudo-version, its first 12 digits
	Date     string `json:"date,omitempty"` // the commit's, in RFC 3339 and UTC; empty: unknown
	Changed  bool   `json:"changed"`        // the source has changes that are in no commit
	Go       string `json:"go_version"`
}

// Read returns the Build of this program.
func Read() Build {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		info = new(debug.BuildInfo)
	}
	return read(info, archive)
}

func read(info *debug.BuildInfo, archive string) Build {
	b := Build{Go: runtime.Version()}
	b.know(version, revision, date)
	b.fromArchive(archive)
	b.fromCheckout(info)
	b.fromModule(info.Main.Version)
	b.Changed = b.Changed || strings.HasSuffix(b.Version, "dirty")
	b.know(Unknown, Unknown, "")
	return b
}

// know takes what is not known yet.
func (b *Build) know(version, revision, date string) {
	if b.Version == "" && version != "(devel)" {
		b.Version = version
	}
	if b.Revision == "" {
		b.Revision = revision
		if t, err := time.Parse(time.RFC3339, date); err == nil { // of this revision
			b.Date = t.UTC().Format(time.RFC3339)
		}
	}
}

// fromArchive reads "REVISION DATE [TAG]". It comes before a checkout, because an
// archive may be unpacked within that of another project.
func (b *Build) fromArchive(text string) {
	if fields := strings.Fields(text); len(fields) >= 2 && !strings.HasPrefix(text, "$") {
		b.know(strings.Join(fields[2:], ""), fields[0], fields[1])
	}
}

func (b *Build) fromCheckout(info *debug.BuildInfo) {
	settings := make(map[string]string)
	for _, s := range info.Settings {
		settings[s.Key] = s.Value
	}
	if revision := settings["vcs.revision"]; revision != "" && (b.Revision == "" || b.Revision == revision) {
		b.know(info.Main.Version, revision, settings["vcs.time"])
		b.Changed = settings["vcs.modified"] == "true"
	}
}

// pseudo is the end of a version that the go command makes of a commit without a tag.
var pseudo = regexp.MustCompile(`[.-](\d{14})-([0-9a-f]{12})(?:\+[a-z]+)?$`)

func (b *Build) fromModule(version string) {
	if b.Version == "" && b.Revision != "" {
		return // of an archive: the go command knows another project's
	}
	var revision, date string
	if parts := pseudo.FindStringSubmatch(version); parts != nil {
		revision = parts[2]
		if t, err := time.Parse("20060102150405", parts[1]); err == nil {
			date = t.Format(time.RFC3339)
		}
	}
	b.know(version, revision, date)
}

// String is the build in a line.
func (b Build) String() string {
	text := b.Version
	if text == Unknown {
		text = "unknown version"
	}
	if b.Revision == Unknown {
		text += ", unknown revision"
	} else {
		text += ", revision " + b.Revision
	}
	if b.Date != "" {
		text += ", of " + b.Date
	}
	if b.Changed {
		text += ", with changes"
	}
	return text + ", " + b.Go
}
