package story

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// maxLine bounds a line, in bytes. A longer one is no line of ours, since each text of
// a client is cut before it is logged.
const maxLine = 1 << 20

// A Log is what was given to read: files, or standard input. It is read twice.
type Log struct{ parts []*part }

// A part is one file, pipe or other stream.
type part struct {
	name  string
	raw   io.Reader
	start int64    // where the log begins in raw
	again bool     // raw can be read again from there
	spool *os.File // else: the lines that the first pass has kept
	done  bool     // there has been a first pass
}

// Open opens the files, whose names may end in .gz. The name "-" and no name at all
// stand for standard input.
func Open(paths []string, stdin io.Reader) (*Log, error) {
	if len(paths) == 0 {
		paths = []string{"-"}
	}
	log := new(Log)
	for _, path := range paths {
		p := &part{name: path, raw: stdin}
		if path == "-" {
			p.name = "standard input"
		} else {
			file, err := os.Open(path)
			if err != nil {
				return nil, errors.Join(err, log.Close())
			}
			p.raw = file
		}
		log.parts = append(log.parts, p)
		if seeker, ok := p.raw.(io.Seeker); ok {
			start, err := seeker.Seek(0, io.SeekCurrent)
			p.start, p.again = start, err == nil
		}
	}
	return log, nil
}

// Close closes the files.
func (l *Log) Close() error {
	var errs []error
	for _, p := range l.parts {
		if file, ok := p.raw.(*os.File); ok && file != os.Stdin {
			errs = append(errs, file.Close())
		}
		if p.spool != nil {
			errs = append(errs, p.spool.Close())
		}
	}
	return errors.Join(errs...)
}

// each visits every line of every part: nil for one that is too long. What visit
// returns in the first pass says whether a later one must see the line again.
func (l *Log) each(ctx context.Context, visit func(line []byte) (keep bool)) error {
	for _, p := range l.parts {
		if err := p.each(ctx, visit); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
	}
	return nil
}

func (p *part) each(ctx context.Context, visit func([]byte) bool) error {
	first := !p.done
	p.done = true
	switch {
	case first && !p.again:
		return p.keep(ctx, visit)
	case p.spool != nil:
		if _, err := p.spool.Seek(0, io.SeekStart); err != nil {
			return err
		}
		return lines(ctx, p.spool, visit)
	case !first:
		if _, err := p.raw.(io.Seeker).Seek(p.start, io.SeekStart); err != nil {
			return err
		}
	}
	stream, err := p.plain()
	if err != nil {
		return err
	}
	return lines(ctx, stream, visit)
}

// plain is the part's text.
func (p *part) plain() (io.Reader, error) {
	if !strings.HasSuffix(p.name, ".gz") {
		return p.raw, nil
	}
	return gzip.NewReader(bufio.NewReader(p.raw))
}

// keep visits the lines of a pipe and keeps those that a later pass needs, in a file
// that has no name any more: nothing is left of it, however the program ends.
func (p *part) keep(ctx context.Context, visit func([]byte) bool) (err error) {
	if p.spool, err = os.CreateTemp("", "coatcheck-why-"); err != nil {
		return err
	}
	if err := os.Remove(p.spool.Name()); err != nil {
		return err
	}
	stream, err := p.plain()
	if err != nil {
		return err
	}
	out := bufio.NewWriter(p.spool)
	var failed error
	err = lines(ctx, stream, func(line []byte) bool {
		keep := visit(line)
		if keep && failed == nil {
			_, failed = out.Write(append(line, '\n'))
		}
		return keep
	})
	return errors.Join(err, failed, out.Flush())
}

// lines visits each line of a stream, without its end: nil for one that is too long.
func lines(ctx context.Context, stream io.Reader, visit func([]byte) bool) error {
	in := bufio.NewReaderSize(stream, 64<<10)
	for n := 0; ; n++ {
		if n%1024 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		line, err := readLine(in)
		if err == nil || line == nil || len(line) > 0 {
			visit(line)
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// readLine reads a line of any length, and returns nil for one that is too long. At
// the end of the stream the line before it may be empty.
func readLine(in *bufio.Reader) ([]byte, error) {
	line, err := in.ReadSlice('\n')
	if err == nil {
		return line[:len(line)-1], nil
	}
	long := append(make([]byte, 0, len(line)), line...)
	for size := len(line); errors.Is(err, bufio.ErrBufferFull); {
		line, err = in.ReadSlice('\n')
		if size += len(line); size > maxLine {
			long = nil
			continue
		}
		long = append(long, line...)
	}
	return bytes.TrimSuffix(long, []byte("\n")), err
}
