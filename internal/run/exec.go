//go:build linux

package run

import (
	"os"
	"runtime"
	"slices"
	"strings"
	"syscall"

	"github.com/virspawn/spawn/internal/command"
	"github.com/virspawn/spawn/internal/helper"
	"github.com/virspawn/spawn/internal/plan"
	"golang.org/x/sys/unix"
)

// Exec replaces the calling process: a thread of its own makes the calls of the
// program. What that thread changes of itself (descriptors, directory, umask,
// credentials) goes with it when a call fails. What it changed of the process,
// limits and ignored signals, is put back.
func Exec(c Call) error {
	told := false
	tell := func(path string) {
		if c.Watcher != nil && !told {
			c.Watcher.Started(path, os.Getpid())
		}
		told = true
	}
	once := func() error { return execOnce(c, tell) }
	if c.Command.Session { // which is made only once
		return once()
	}
	return again(c.Command, once)
}

func execOnce(c Call, tell func(path string)) error {
	runtime.LockOSThread() // which is looked at
	defer runtime.UnlockOSThread()
	caller := thisThread()
	r := &run{call: c}
	if err := r.Make(c.Command, c.Streams, plan.InPlace, c.Options); err != nil {
		return err
	}
	defer r.Release()
	if err := r.lookAhead(); err != nil {
		return err
	}
	tell(r.Path)
	undo := r.saveProcess()
	goOn := stopTimers()
	failure, err := helper.Exec(r.Program, func() error { return sameThread("Exec", caller) })
	undo()
	goOn()
	if err != nil {
		return err
	}
	return r.startError(failure)
}

// saveProcess returns a function that puts back what the program changes of the
// whole process.
func (r *run) saveProcess() (undo func()) {
	actions := map[syscall.Signal]plan.Action{}
	for n := 1; n <= command.MaxSignal; n++ {
		action := plan.GetAction(syscall.Signal(n))
		if action.Handler == plan.SigIgn || slices.Contains(r.Command.Attributes.Ignored, n) {
			actions[syscall.Signal(n)] = action
		}
	}
	limits := map[int]unix.Rlimit{}
	for resource := range command.RlimitCount {
		var l unix.Rlimit
		if unix.Prlimit(0, resource, nil, &l) == nil {
			limits[resource] = l
		}
	}
	files := map[string]string{}
	for _, f := range r.ProcFiles {
		if text, err := os.ReadFile("/proc/" + f.Path); err == nil {
			files[f.Path] = f.Base + strings.TrimSpace(string(text))
		}
	}
	show := showMemory()
	noHugepages, err := unix.PrctlRetInt(unix.PR_GET_THP_DISABLE, 0, 0, 0, 0)
	return func() {
		show()
		if r.Command.Attributes.SetHugepages && err == nil {
			_ = unix.Prctl(unix.PR_SET_THP_DISABLE, uintptr(noHugepages), 0, 0, 0)
		}
		for path, text := range files {
			// A lower oom_score_adj may need a privilege.
			_ = writeOnce("/proc/"+path, text)
		}
		for resource, l := range limits {
			// A hard limit may need a privilege to be raised.
			_ = unix.Prlimit(0, resource, &l, nil)
		}
		for sig, action := range actions {
			plan.SetAction(sig, action)
		}
	}
}

// showMemory returns a function that makes this process dumpable again, if it
// was: it is not while a thread of it becomes another user or gives up
// capabilities. That function leaves it so where the process itself has changed
// its ids, which has the same effect.
func showMemory() (undo func()) {
	flag, uid, gid := getDumpable(), os.Geteuid(), os.Getegid()
	return func() {
		if flag == 1 && getDumpable() != 1 && os.Geteuid() == uid && os.Getegid() == gid {
			// 0 and 1 are always accepted.
			_ = unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0)
		}
	}
}

// getDumpable returns the flag; 0 where it cannot be read.
func getDumpable() int {
	flag, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	if err != nil {
		return 0
	}
	return flag
}
