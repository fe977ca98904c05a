package pgtest

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
)

// Programs of PostgreSQL, and who runs them.
type programs struct {
	initdb, postgres string
	as               *syscall.Credential // nil: the user of this process
}

// find finds the programs, and tries whether they can be run.
func find() (programs, error) {
	var p programs
	var err error
	if p.initdb, p.postgres, err = locate(); err != nil {
		return p, err
	}
	if os.Getuid() == 0 {
		if p.as, err = unprivileged(); err != nil {
			return p, err
		}
	}
	for _, name := range []string{"postgres", "initdb"} {
		cmd := p.command(name, "/", "--version")
		if output, err := cmd.CombinedOutput(); err != nil {
			return p, fmt.Errorf("running %s as user %s: %w: %s (can that user read it? POSTGRES= names another directory)",
				cmd.Path, p.who(), err, bytes.TrimSpace(output))
		}
	}
	return p, nil
}

// locate returns the paths of initdb and postgres, links resolved: the way to a
// link may be closed to the user who runs them.
func locate() (initdb, postgres string, err error) {
	for _, dir := range directories() {
		initdb, err1 := filepath.EvalSymlinks(filepath.Join(dir, "initdb"))
		postgres, err2 := filepath.EvalSymlinks(filepath.Join(dir, "postgres"))
		if err1 == nil && err2 == nil {
			return initdb, postgres, nil
		}
		if dir == os.Getenv("POSTGRES") {
			return "", "", fmt.Errorf("POSTGRES=%s is no directory with initdb and postgres", dir)
		}
	}
	return "", "", errors.New("no PostgreSQL: run `make tools`, or name the directory of initdb and postgres with POSTGRES=")
}

// directories lists where the programs may be, the first choice first.
func directories() []string {
	if dir := os.Getenv("POSTGRES"); dir != "" {
		return []string{dir}
	}
	dirs := filepath.SplitList(os.Getenv("PATH"))
	installed, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	slices.SortFunc(installed, func(a, b string) int { return version(b) - version(a) })
	dirs = append(dirs, installed...)
	for dir, err := os.Getwd(); err == nil; dir = filepath.Dir(dir) {
		dirs = append(dirs, filepath.Join(dir, ".tools", "bin"))
		if dir == filepath.Dir(dir) {
			break
		}
	}
	return dirs
}

// version is the one of /usr/lib/postgresql/15/bin.
func version(bin string) int {
	n, _ := strconv.Atoi(filepath.Base(filepath.Dir(bin)))
	return n
}

// unprivileged is a user to run as in place of root.
func unprivileged() (*syscall.Credential, error) {
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
		gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
		if err1 == nil && err2 == nil && uid != 0 {
			return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
		}
	}
	return nil, errors.New("PostgreSQL does not run as root, and there is neither a user postgres nor nobody")
}

func (p programs) who() string {
	if p.as == nil {
		return strconv.Itoa(os.Getuid())
	}
	return strconv.FormatUint(uint64(p.as.Uid), 10)
}

// own gives a file to the user who runs the programs.
func (p programs) own(path string) error {
	if p.as == nil {
		return nil
	}
	return os.Chown(path, int(p.as.Uid), int(p.as.Gid))
}

// command is one of the programs, in a process group of its own, that ends with
// us: by SIGQUIT, which makes postgres end the processes of its connections.
func (p programs) command(name, dir string, args ...string) *exec.Cmd {
	path := p.postgres
	if name == "initdb" {
		path = p.initdb
	}
	cmd := exec.Command(path, args...)
	cmd.Dir = dir
	// initdb looks for postgres beside itself. Nothing else of our environment is
	// PostgreSQL's business.
	cmd.Env = []string{"PATH=/usr/bin:/bin", "LC_ALL=C", "TZ=UTC", "HOME=" + dir}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: p.as, Pdeathsig: syscall.SIGQUIT, Setpgid: true}
	return cmd
}
