// Command imagetar makes an image of a stage of a Dockerfile without Docker, and so
// that the same files give the same bytes:
//
//	imagetar -target coatcheck -arch arm64 -tag coatcheck:v0.1.0 -time 1795714463 \
//	    -arg VERSION=v0.1.0 -o coatcheck.image.tar
//
// Its output is what docker save writes (a docker-archive): docker load, podman load,
// kind load image-archive, ctr images import, skopeo and crane read it.
//
// A stage must be FROM scratch and have COPY of single files, ARG, LABEL, USER, EXPOSE,
// HEALTHCHECK, ENTRYPOINT and CMD, the last three as JSON lists. What it does not know
// is an error, so that the image never lacks what the Dockerfile says.
package main

import (
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"time"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "imagetar:", err)
		os.Exit(1)
	}
}

// arguments are NAME=VALUE, each from a flag -arg.
type arguments map[string]string

func (a arguments) String() string { return "" }

func (a arguments) Set(s string) error {
	name, value, ok := strings.Cut(s, "=")
	if !ok {
		return errors.New("must be NAME=VALUE")
	}
	a[name] = value
	return nil
}

func run(args []string) error {
	flags := flag.NewFlagSet("imagetar", flag.ContinueOnError)
	context := flags.String("context", ".", "folder with the Dockerfile and what it copies")
	target := flags.String("target", "", "stage of the Dockerfile")
	arch := flags.String("arch", "amd64", "architecture of the programs, as Go names it")
	tag := flags.String("tag", "", "NAME:TAG of the image")
	seconds := flags.Int64("time", 0, "time of the image and its files, in seconds since 1970")
	output := flags.String("o", "", "file to write")
	values := arguments{}
	flags.Var(values, "arg", "NAME=VALUE of an ARG; may be repeated")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *target == "" || *output == "" || !strings.Contains(*tag, ":") || flags.NArg() > 0 {
		return errors.New("-target, -o and -tag NAME:TAG are required, and there are no further arguments")
	}
	text, err := os.ReadFile(filepath.Join(*context, "Dockerfile"))
	if err != nil {
		return err
	}
	stage, err := parse(string(text), *target, maps.Clone(values))
	if err != nil {
		return fmt.Errorf("the Dockerfile: %w", err)
	}
	image := image{stage: stage, context: *context, arch: *arch, tag: *tag, time: time.Unix(*seconds, 0).UTC()}
	return image.writeFile(*output)
}
