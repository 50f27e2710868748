package spawn

import (
	"context"
	"os"
	"slices"
	"strings"
	"syscall"

	"github.com/virspawn/spawn/internal/helper"
	"golang.org/x/sys/unix"
)

// exec replaces this process: a thread of its own makes the calls of the program. What it changes of itself
// (descriptors, directory, umask, credentials) goes with it when a call fails; what it changed of the process, limits
// and ignored signals, is put back.
func (c *Command) exec() error {
	if c.session { // which is made only once
		return c.execOnce()
	}
	return again(c.execOnce)
}

func (c *Command) execOnce() error {
	pl, err := c.prepare(context.Background(), c.streams, inPlace)
	if err != nil {
		return err
	}
	defer pl.release()
	if c.observed == nil || !c.observed.started {
		c.observed.start(pl.path, os.Getpid())
	}
	undo := pl.saveProcess()
	pl.undumpable = c.undumpable()
	if pl.undumpable {
		dumpable.enter()
	}
	failure := helper.Exec(pl.prog)
	pl.leftMemory()
	undo()
	return pl.startError(failure)
}

// saveProcess returns a function that puts back what the program changes of the whole process.
func (pl *plan) saveProcess() (undo func()) {
	actions := map[syscall.Signal]sigaction{}
	for n := 1; n <= maxSignal; n++ {
		action := getAction(syscall.Signal(n))
		if action.handler == sigIgn || slices.Contains(pl.cmd.attrs.ignored, n) {
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
	for _, f := range pl.procFiles {
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
