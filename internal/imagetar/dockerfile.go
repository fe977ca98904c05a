package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// A stage is what a Dockerfile says of an image.
type stage struct {
	files []file // in the order of the Dockerfile
	configuration
}

// A file is copied into the image.
type file struct{ from, to string } // to without the first slash

// A configuration says how the image is run. Its JSON is the image specification's.
type configuration struct {
	User         string
	ExposedPorts map[string]struct{} `json:",omitempty"`
	Entrypoint   []string
	Cmd          []string     `json:",omitempty"`
	Healthcheck  *healthcheck `json:",omitempty"`
	Labels       map[string]string
}

type healthcheck struct {
	Test                           []string
	Interval, Timeout, StartPeriod time.Duration `json:",omitempty"`
	Retries                        int           `json:",omitempty"`
}

// parse reads the stage of a Dockerfile. values are those of its ARGs, over their
// defaults; each must be one that the Dockerfile asks for.
func parse(text, target string, values map[string]string) (*stage, error) {
	s := &stage{configuration: configuration{Labels: make(map[string]string), ExposedPorts: make(map[string]struct{})}}
	asked := make(map[string]bool)
	var inside, found bool
	for _, line := range instructions(text) {
		name, rest, _ := strings.Cut(line, " ")
		rest = strings.TrimSpace(rest)
		switch {
		case name == "FROM":
			base, as, _ := strings.Cut(rest, " AS ")
			inside = as == target
			if inside && base != "scratch" {
				return nil, fmt.Errorf("%s is FROM %s, not FROM scratch", target, base)
			}
			found = found || inside
		case name == "ARG":
			argument(rest, values, asked)
		case inside:
			expanded := os.Expand(rest, func(name string) string { return values[name] })
			if err := s.add(name, expanded); err != nil {
				return nil, fmt.Errorf("%s: %w", line, err)
			}
		}
	}
	if !found {
		return nil, fmt.Errorf("there is no stage %s", target)
	}
	for name := range values {
		if !asked[name] {
			return nil, fmt.Errorf("it has no ARG %s", name)
		}
	}
	return s, nil
}

// argument notes an ARG, whose default counts if there is no value.
func argument(rest string, values map[string]string, asked map[string]bool) {
	name, byDefault, ok := strings.Cut(rest, "=")
	asked[name] = true
	if _, given := values[name]; ok && !given {
		values[name] = byDefault
	}
}

// instructions are the lines without comments, those that a backslash continues as one.
func instructions(text string) []string {
	var lines []string
	continued := false
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		part, more := strings.CutSuffix(line, "\\")
		if continued {
			lines[len(lines)-1] += " " + strings.TrimSpace(part)
		} else {
			lines = append(lines, strings.TrimSpace(part))
		}
		continued = more
	}
	return lines
}

// add adds an instruction.
func (s *stage) add(name, rest string) (err error) {
	switch name {
	case "COPY":
		return s.copy(strings.Fields(rest))
	case "LABEL":
		return s.label(rest)
	case "USER":
		s.User = rest
	case "EXPOSE":
		for _, port := range strings.Fields(rest) {
			s.ExposedPorts[port+"/tcp"] = struct{}{}
		}
	case "HEALTHCHECK":
		s.Healthcheck, err = parseHealthcheck(rest)
	case "ENTRYPOINT":
		err = list(rest, &s.Entrypoint)
	case "CMD":
		err = list(rest, &s.Cmd)
	default:
		err = errors.New("unknown instruction")
	}
	return err
}

func (s *stage) copy(paths []string) error {
	if len(paths) != 2 || strings.HasPrefix(paths[0], "-") || !strings.HasPrefix(paths[1], "/") || strings.HasSuffix(paths[1], "/") {
		return errors.New("must be a file and an absolute path")
	}
	s.files = append(s.files, file{paths[0], paths[1][1:]})
	return nil
}

// label reads NAME="VALUE" pairs.
func (s *stage) label(rest string) error {
	for rest != "" {
		name, quoted, ok := strings.Cut(rest, "=")
		value, err := strconv.QuotedPrefix(quoted)
		if !ok || err != nil {
			return errors.New(`must be NAME="VALUE"`)
		}
		rest = strings.TrimSpace(quoted[len(value):])
		if s.Labels[name], err = strconv.Unquote(value); err != nil {
			return err
		}
	}
	return nil
}

// parseHealthcheck reads options and CMD with a list.
func parseHealthcheck(rest string) (*healthcheck, error) {
	options, command, ok := strings.Cut(rest, "CMD ")
	if !ok {
		return nil, errors.New("must have CMD")
	}
	h := &healthcheck{Test: []string{"CMD"}}
	for _, option := range strings.Fields(options) {
		name, value, _ := strings.Cut(option, "=")
		if err := h.set(name, value); err != nil {
			return nil, err
		}
	}
	var program []string
	err := list(command, &program)
	h.Test = append(h.Test, program...)
	return h, err
}

func (h *healthcheck) set(name, value string) (err error) {
	switch name {
	case "--interval":
		h.Interval, err = time.ParseDuration(value)
	case "--timeout":
		h.Timeout, err = time.ParseDuration(value)
	case "--start-period":
		h.StartPeriod, err = time.ParseDuration(value)
	case "--retries":
		h.Retries, err = strconv.Atoi(value)
	default:
		err = fmt.Errorf("unknown option %s", name)
	}
	return err
}

// list reads a JSON list: the other form would need a shell, which is not there.
func list(text string, into *[]string) error {
	if err := json.Unmarshal([]byte(text), into); err != nil || len(*into) == 0 {
		return errors.New("must be a JSON list of strings")
	}
	return nil
}
