package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// An image is a stage with the files of a folder.
type image struct {
	*stage
	context   string
	arch, tag string
	time      time.Time
}

// A description is the image's own JSON, whose hash is the image's ID.
type description struct {
	Created      time.Time     `json:"created"`
	Architecture string        `json:"architecture"`
	OS           string        `json:"os"`
	Config       configuration `json:"config"`
	RootFS       rootFS        `json:"rootfs"`
	History      []history     `json:"history"`
}

type rootFS struct {
	Type    string   `json:"type"`
	DiffIDs []string `json:"diff_ids"`
}

type history struct {
	Created   time.Time `json:"created"`
	CreatedBy string    `json:"created_by"`
}

// A manifest names the archive's files.
type manifest struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// writeFile writes the archive. A file that could not be written whole is not left.
func (i image) writeFile(path string) (err error) {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() {
		if closed := f.Close(); err == nil {
			err = closed
		}
		if err != nil {
			_ = os.Remove(path)
		}
	}()
	return i.write(f)
}

func (i image) write(w io.Writer) error {
	layer, err := i.layer()
	if err != nil {
		return err
	}
	config, err := json.Marshal(i.describe(layer))
	if err != nil {
		return err
	}
	compressed, err := compress(layer)
	if err != nil {
		return err
	}
	configName, layerName := digest(config)+".json", digest(layer)+".tar.gz"
	list, err := json.Marshal([]manifest{{Config: configName, RepoTags: []string{i.tag}, Layers: []string{layerName}}})
	if err != nil {
		return err
	}
	archive := tar.NewWriter(w)
	for _, part := range []struct {
		name    string
		content []byte
	}{{"manifest.json", append(list, '\n')}, {configName, config}, {layerName, compressed}} {
		if err := i.entry(archive, part.name, 0o644, part.content); err != nil {
			return err
		}
	}
	return archive.Close()
}

func (i image) describe(layer []byte) description {
	return description{
		Created: i.time, Architecture: i.arch, OS: "linux", Config: i.configuration,
		RootFS:  rootFS{"layers", []string{"sha256:" + digest(layer)}},
		History: []history{{i.time, "imagetar"}},
	}
}

// layer is a tar of the files. Owner, time and the name of the folder do not come from
// the machine; of the mode it is only whether it is a program.
func (i image) layer() ([]byte, error) {
	var b bytes.Buffer
	archive := tar.NewWriter(&b)
	for _, f := range i.files {
		path := filepath.Join(i.context, f.from)
		info, err := os.Stat(path)
		if err != nil {
			return nil, err
		}
		if !info.Mode().IsRegular() {
			return nil, fmt.Errorf("%s is not a file", path)
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		mode := int64(0o644)
		if info.Mode()&0o100 != 0 {
			mode = 0o755
		}
		if err := i.entry(archive, f.to, mode, content); err != nil {
			return nil, err
		}
	}
	err := archive.Close()
	return b.Bytes(), err
}

func (i image) entry(archive *tar.Writer, name string, mode int64, content []byte) error {
	header := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode, Size: int64(len(content)), ModTime: i.time, Format: tar.FormatUSTAR}
	if err := archive.WriteHeader(header); err != nil {
		return err
	}
	_, err := archive.Write(content)
	return err
}

// compress compresses without a name and a time in the header.
func compress(content []byte) ([]byte, error) {
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(content); err != nil {
		return nil, err
	}
	err = w.Close()
	return b.Bytes(), err
}

func digest(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}
