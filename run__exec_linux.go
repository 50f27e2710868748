package spawn

import (
	"os"
	"slices"
	"strings"
	"syscall"

	"github.com/virspawn/spawn/internal/helper"
	"golang.org/x/sys/unix"
)

// execute replaces this process: a thread of its own makes the calls of the program. What it changes of itself
// (descriptors, directory, umask, credentials) goes with it when a call fails; what it changed of the process, limits
// and ignored signals, is put back.
func execute(c runCall) error {
	told := false
	tell := func(path string) {
		if c.watcher != nil && !told {
			c.watcher.started(path, os.Getpid())
		}
		told = true
	}
	once := func() error { return execOnce(c, tell) }
	if c.command.session { // which is made only once
		return once()
	}
	return again(once)
}

func execOnce(c runCall, tell func(path string)) error {
	c.options.executor = direct
	r := &run{call: c}
	if err := r.make(c.command, c.streams, inPlace, c.options); err != nil {
		return err
	}
	defer r.release()
	tell(r.path)
	undo := r.saveProcess()
	r.undumpable = undumpable(r.cmd, direct)
	if r.undumpable {
		dumpable.enter()
	}
	failure := helper.Exec(r.prog)
	r.leftMemory()
	undo()
	return r.startError(failure)
}

// saveProcess returns a function that puts back what the program changes of the whole process.
func (r *run) saveProcess() (undo func()) {
	actions := map[syscall.Signal]sigaction{}
	for n := 1; n <= maxSignal; n++ {
		action := getAction(syscall.Signal(n))
		if action.handler == sigIgn || slices.Contains(r.cmd.attrs.ignored, n) {
			actions[syscall.Signal(n)] = action
		}
	}
	limits := map[int]unix.Rlimit{}
	for resource := range rlimitCount {
		var l unix.Rlimit
		if unix.Prlimit(0, resource, nil, &l) == nil {
			limits[resource] = l
		}
	}
	files := map[string]string{}
	for _, f := range r.procFiles {
		if text, err := os.ReadFile(f.path); err == nil {
			files[f.path] = f.base + strings.TrimSpace(string(text))
		}
	}
	return func() {
		for path, text := range files {
			_ = writeOnce(path, text) // a lower oom_score_adj may need a privilege
		}
		for resource, l := range limits {
			_ = unix.Prlimit(0, resource, &l, nil) // a hard limit may need a privilege to be raised
		}
		for sig, action := range actions {
			setAction(sig, action)
		}
	}
}
