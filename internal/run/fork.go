//go:build linux

package run

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/virspawn/spawn/internal/command"
	"github.com/virspawn/spawn/internal/descriptor"
	"github.com/virspawn/spawn/internal/plan"
	"github.com/virspawn/spawn/internal/process"
	"golang.org/x/sys/unix"
)

// meetForked makes the process that the child forks, if there is to be one, the
// process of this run. Where it cannot, gateErr or the child's report says why,
// and there is no process left, or one was given up and left is true.
func (r *run) meetForked() (met, left bool) {
	if !r.Forks() {
		return true, false
	}
	if !r.waitForStart(func(timeout time.Duration) bool { return waitReadable(r.handle.fd, timeout) }) {
		return false, true
	}
	status := r.reapFirstParent()
	r.drainStatus()
	pid := r.Forked()
	_, failed := r.failure()
	err := r.openForked(pid)
	switch {
	case err == nil:
		return true, false
	case err == errLeft:
		return false, true
	case pid != 0 && err != errNoFork:
		// The child's report, if any, says that it was not let go on.
		r.gateErr = r.Failed(err)
		return false, false
	}
	if pid == 0 {
		// The gate was then closed, and if anything has failed since then, it
		// is for that.
		err = fmt.Errorf("the child that was to fork the program ended: %s", status)
	} else {
		_, failed = r.failure()
	}
	if !failed {
		r.gateErr = &command.StartError{Op: "fork", Path: r.Path, Err: err}
	}
	return false, false
}

// hasMet reports whether the process of this run is the one that the program is
// to run in.
func (r *run) hasMet() bool { return !r.Forks() || int(r.handle.pid) != r.child.PID }

// reapFirstParent takes the first parent's status.
func (r *run) reapFirstParent() (status process.Status) {
	r.p.Mu.Lock()
	defer r.p.Mu.Unlock()
	res := waitResults.Get().(*waitResult)
	defer waitResults.Put(res)
	status.ExitCode = -1
	if r.handle.waitid(res, 0) == nil {
		status = newStatus(res.info.Code, res.child().status, &res.usage)
	}
	r.handle.reaped = true // also where other code has waited for it
	return status
}

// openForked makes the process that was forked the process of this run, or
// waits for its end.
func (r *run) openForked(pid int) error {
	// unknown ends a process by its gate, if there is one.
	unknown := func() error {
		r.CloseGate()
		if !r.waitForStart(func(timeout time.Duration) bool { return r.listenFor(timeout, -1, nothing) }) {
			return errLeft
		}
		return errNoFork
	}
	if pid == 0 {
		// A helper may have forked it, and was killed before it could tell.
		return unknown()
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if err == nil {
		fd, err = descriptor.AboveStreams(fd)
	}
	if err != nil {
		// The error is ECHILD for a daemon, unless it is this process's
		// child now.
		ended := func(time.Duration) bool { return (&handle{fd: -1, pid: int32(pid)}).hasWaited() }
		if unknown() == errLeft || !r.waitForStart(ended) {
			return errLeft
		}
		if err == unix.ESRCH {
			return errNoFork // whose parent has waited for it
		}
		return os.NewSyscallError(fmt.Sprintf("pidfd_open(%d, 0)", pid), err)
	}
	h := handle{fd: fd, pid: int32(pid), foreign: r.Command.Daemon}
	if !h.foreign && !h.isOurs() {
		// Who may trace the process may have written the pid of another one.
		h.close()
		return unknown()
	}
	if r.Options.Executor == plan.ForkedHelper {
		r.expectSign(2)
	}
	answered := r.awaitAnswer(&h)
	if !answered && r.waitForStart(func(timeout time.Duration) bool { return waitReadable(fd, timeout) && h.hasWaited() }) {
		h.close()
		return errNoFork
	}
	r.p.Mu.Lock()
	defer r.p.Mu.Unlock()
	r.handle.close()
	r.p.PID, r.handle = pid, h
	r.p.EndAgain()
	if r.mute { // its time was over before this process could be signalled
		_ = r.handle.signal(unix.SIGKILL)
	}
	if !answered {
		return errLeft
	}
	return nil
}

var (
	errNoFork = errors.New("the process ended before its program")
	errLeft   = errors.New("the process was given up")
)

// awaitAnswer lets the process go on and reports whether it has answered, or
// has ended or was given up.
func (r *run) awaitAnswer(h *handle) bool {
	_, _ = unix.Write(r.GateW, []byte{1}) // EPIPE when it has ended
	answered := func() bool { return r.heard.readies > 0 || r.heard.failed }
	r.waitForStart(func(timeout time.Duration) bool {
		if r.listenFor(timeout, h.fd, answered) {
			return true
		}
		r.p.Mu.Lock()
		defer r.p.Mu.Unlock()
		if r.p.Killed || r.mute {
			// It may be stopped, but it is there: it would have answered
			// or ended.
			_ = h.signal(unix.SIGKILL)
		}
		return false
	})
	return r.heard.readies > 0 && !r.heard.failed
}
