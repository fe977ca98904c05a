package compose_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

// root is the repository's.
const root = "../../.."

// inside is the variable that says that this process is in namespaces of its own.
const inside = "COATCHECK_COMPOSE_INSIDE"

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestConfig: docker compose reads the file, and finds in it what we mean.
func TestConfig(t *testing.T) {
	p := newProject(t)
	p.compose(t, "config", "--quiet")
	if got, want := strings.Fields(p.compose(t, "config", "--services")), 5; len(got) != want {
		t.Errorf("the services are %q, want %d", got, want)
	}
	// The control: an unknown key is refused.
	p.replace(t, "docker-compose.yml", "restart: unless-stopped", "restarts: unless-stopped")
	if out, err := p.command("config", "--quiet").CombinedOutput(); err == nil || !strings.Contains(string(out), "restarts") {
		t.Errorf("an unknown key is accepted: %v %s", err, out)
	}
}

// TestUp: the file comes up, and does what it says.
func TestUp(t *testing.T) {
	switch {
	case os.Getenv(inside) != "":
		prepareNamespaces(t)
		play(t, startEngine(t))
	case os.Getenv("DOCKER_HOST") != "":
		play(t, newEngine(t, os.Getenv("DOCKER_HOST")))
	default:
		runInside(t)
	}
}

// runInside runs TestUp in a process with a network, mounts and process IDs of its own.
// As it is the first process there, the kernel ends every other one with it.
func runInside(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("only root can start an engine: run this as root, or name a running engine with DOCKER_HOST")
	}
	program, err := os.Executable()
	must(t, err)
	command := exec.CommandContext(t.Context(), program, "-test.run=^TestUp$", "-test.v=true")
	command.Env = append(os.Environ(), inside+"=1")
	command.Stdout, command.Stderr = os.Stdout, os.Stderr
	command.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID,
		Pdeathsig:  syscall.SIGKILL,
	}
	runtime.LockOSThread() // Pdeathsig means the thread that starts it
	defer runtime.UnlockOSThread()
	if err := command.Run(); err != nil {
		t.Fatal(err)
	}
}

// prepareNamespaces lets /proc show the processes in here, and turns loopback on.
func prepareNamespaces(t *testing.T) {
	t.Helper()
	must(t, unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
	must(t, unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""))
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	defer func() { _ = unix.Close(socket) }()
	loopback, err := unix.NewIfreq("lo")
	must(t, err)
	loopback.SetUint16(unix.IFF_UP)
	must(t, unix.IoctlIfreq(socket, unix.SIOCSIFFLAGS, loopback))
}

// tool is a program: the one that a variable names, else the one in .tools/bin, else
// the one on the PATH.
func tool(t *testing.T, name, variable string) string {
	t.Helper()
	path := os.Getenv(variable)
	if path == "" {
		path = filepath.Join(root, ".tools/bin", name)
	}
	path, err := filepath.Abs(path)
	must(t, err)
	if _, err := os.Stat(path); err == nil {
		return path
	}
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	t.Fatalf("there is no %s: make compose fetches it, or name one with %s=", path, variable)
	return ""
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
