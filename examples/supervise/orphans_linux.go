package main

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/virspawn/spawn"
	"golang.org/x/sys/unix"
)

// family are the children of this process: programs, which package spawn waits
// for, and orphans. This process is a subreaper, so that a descendant whose
// parents have ended becomes its child. An orphan of a program that runs is
// left alone; that is one in the program's cgroup. (A program without a cgroup
// of its own is a subreaper itself, as [spawn.KillTree] says, and its orphans
// come here when it has ended.) Any other was left behind by a program that has
// ended, and is killed. (Its empty cgroup is removed when package spawn makes
// the next one.)
type family struct {
	// Says that there may be an orphan to wait for or to kill; buffered.
	ended chan os.Signal

	mu       sync.Mutex
	programs map[int]string // pid to cgroup
}

func newFamily() (*family, error) {
	if err := unix.Access("/proc/thread-self/children", unix.F_OK); err != nil {
		return nil, &os.PathError{Op: "access", Path: "/proc/thread-self/children", Err: err}
	}
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return nil, os.NewSyscallError("prctl(PR_SET_CHILD_SUBREAPER)", err)
	}
	return &family{ended: make(chan os.Signal, 1), programs: map[int]string{}}, nil
}

// start starts a program. There is no moment at which it could be taken for
// an orphan.
func (f *family) start(ctx context.Context, cmd *spawn.Command) (*spawn.Process, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p, err := cmd.Start(ctx)
	if err == nil {
		f.programs[p.PID()] = cgroup(strconv.Itoa(p.PID()))
	}
	return p, err
}

// forget is called when a program has ended and was waited for. What it has
// left behind is an orphan from now on.
func (f *family) forget(p *spawn.Process) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.programs, p.PID())
	select {
	case f.ended <- unix.SIGCHLD:
	default: // somebody will look anyway
	}
}

// tidy waits for orphans that have ended and kills those that were left behind.
func (f *family) tidy() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for again := true; again; {
		again = false
		for _, pid := range children() {
			if _, ok := f.programs[pid]; ok {
				continue
			}
			if waited, _ := unix.Wait4(pid, nil, unix.WNOHANG, nil); waited == pid {
				again = true // its children are here now
			} else if f.isLeftBehind(pid) {
				// Nobody else waits for it: the pid is its own.
				_ = unix.Kill(pid, unix.SIGKILL)
			}
		}
	}
}

// isLeftBehind reports whether an orphan is in no running program's cgroup.
//
// Preconditions: f.mu is held.
func (f *family) isLeftBehind(orphan int) bool {
	own, its := cgroup("self"), cgroup(strconv.Itoa(orphan))
	for _, of := range f.programs {
		if of != own && strings.HasPrefix(its+"/", of+"/") {
			return false
		}
	}
	return true
}

// killAll kills every child, and what becomes one by that, and waits for all.
// No program runs any more.
func (f *family) killAll() {
	for {
		for _, pid := range children() {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
		if _, err := unix.Wait4(-1, nil, 0, nil); err == unix.ECHILD {
			return
		}
	}
}

func children() (pids []int) {
	// The pattern is a good one.
	files, _ := filepath.Glob("/proc/self/task/*/children")
	for _, file := range files {
		// This fails when the thread has ended, which leaves its children to
		// another one.
		text, _ := os.ReadFile(file)
		for field := range strings.FieldsSeq(string(text)) {
			if pid, err := strconv.Atoi(field); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// cgroup returns the cgroup v2 of a process; "" where there is none.
func cgroup(pid string) string {
	text, _ := os.ReadFile(filepath.Join("/proc", pid, "cgroup"))
	for line := range strings.Lines(string(text)) {
		if path, ok := strings.CutPrefix(line, "0::"); ok {
			return strings.TrimSuffix(path, "\n")
		}
	}
	return ""
}
