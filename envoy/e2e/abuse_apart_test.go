package e2e_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// In the long form Coatcheck has a processor for itself, and the attackers are a process
// that shares the others with Envoy, Redis and the clients, which go before it. What these
// clients feel is then what an attack does to Coatcheck, as with attackers on machines of
// their own, and not that they and the attackers share a machine.

// apart gives Coatcheck the first processor, and the others to all other processes of the
// test. A machine with one is shared.
func apart(t *testing.T, coatcheck int) {
	t.Helper()
	if runtime.NumCPU() < 2 {
		t.Log("one processor, which the attackers share with Coatcheck")
		return
	}
	var all, first unix.CPUSet
	must(t, unix.SchedGetaffinity(0, &all))
	others := all
	for cpu := range len(all) * 64 {
		if all.IsSet(cpu) {
			first.Set(cpu)
			others.Clear(cpu)
			break
		}
	}
	for _, pid := range children(t) {
		if pid == coatcheck {
			pin(t, pid, &first)
		} else {
			pin(t, pid, &others)
		}
	}
	pin(t, os.Getpid(), &others)
	t.Cleanup(func() { pin(t, os.Getpid(), &all) })
}

// pin has all threads of a process run on these processors.
func pin(t *testing.T, pid int, processors *unix.CPUSet) {
	t.Helper()
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid))
	must(t, err)
	for _, thread := range threads {
		tid, err := strconv.Atoi(filepath.Base(thread))
		must(t, err)
		if err := unix.SchedSetaffinity(tid, processors); err != nil && err != unix.ESRCH {
			t.Fatal(err)
		}
	}
}

// children are the processes that this one has started.
func children(t *testing.T) (pids []int) {
	t.Helper()
	files, err := filepath.Glob("/proc/self/task/*/children")
	must(t, err)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // the thread has ended
		}
		for _, word := range strings.Fields(string(text)) {
			pid, err := strconv.Atoi(word)
			must(t, err)
			pids = append(pids, pid)
		}
	}
	return pids
}

// attackVariable has the test binary attack and do nothing else: the attack, the address of
// the door, what a peer has there, and for how long.
const attackVariable = "ATTACK"

// byOthers has another process attack, for some seconds at least.
func (attack attack) byOthers(t *testing.T, d door) {
	t.Helper()
	c := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestAttacker$", "-test.v")
	c.Env = append(os.Environ(), attackVariable+"="+strings.Join([]string{attack.name, d.addr, strconv.FormatBool(d.encrypted), d.keys}, "|"))
	if out, err := c.CombinedOutput(); err != nil {
		t.Errorf("%s: %v\n%s", attack.name, err, out)
	}
}

// TestAttacker is the process of [attack.byOthers]. By itself it does nothing.
func TestAttacker(t *testing.T) {
	words := strings.Split(os.Getenv(attackVariable), "|")
	if len(words) != 4 {
		return
	}
	goBehind(t)
	lists := slices.Concat(grpcAttacks, handshakeAttacks, tlsAttacks, httpAttacks, loginAttacks, adminAttacks)
	i := slices.IndexFunc(lists, func(a attack) bool { return a.name == words[0] })
	lists[i].repeatedly(t, door{words[1], words[2] == "true", words[3]})
}

// goBehind has all threads of this process, and those that they start, run when no other
// process wants to.
func goBehind(t *testing.T) {
	t.Helper()
	threads, err := filepath.Glob("/proc/self/task/*")
	must(t, err)
	for _, thread := range threads {
		tid, err := strconv.Atoi(filepath.Base(thread))
		must(t, err)
		must(t, unix.SchedSetAttr(tid, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_IDLE}, 0))
	}
}

// repeatedly attacks for some seconds.
func (attack attack) repeatedly(t *testing.T, d door) {
	begin := time.Now()
	for attack.run(t, d); time.Since(begin) < 4*time.Second && !t.Failed(); {
		attack.run(t, d)
	}
}
