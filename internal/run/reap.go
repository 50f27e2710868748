//go:build linux

package run

import (
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/virspawn/spawn/internal/command"
	"github.com/virspawn/spawn/internal/process"
	"golang.org/x/sys/unix"
)

// Codes of a SIGCHLD. (waitid(2))
const (
	cldExited = 1
	cldKilled = 2
	cldDumped = 3
)

// reap takes the child's status if it has ended, and reports whether it has.
// Nobody can signal the child afterwards.
func (r *run) reap() bool {
	res := waitResults.Get().(*waitResult)
	defer waitResults.Put(res)
	r.p.Mu.Lock()
	defer r.p.Mu.Unlock()
	if r.Command.KillMode != command.KillProcess && r.p.Ending != nil && !r.killRest(res) {
		return false
	}
	status := process.Unknown
	switch err := r.handle.waitid(res, 0); {
	case err == nil && res.child().pid == 0:
		return false
	case err == nil:
		status = newStatus(res.info.Code, res.child().status, &res.usage)
	case err == unix.ECHILD && !r.p.Daemon:
		r.lost = fmt.Errorf("the status is lost, because other code of this process has waited for process %d: %w", r.p.PID, err)
	case !waitReadable(r.handle.fd, 0):
		return false
	case !r.p.Daemon: // only the daemon's parent is told more
		r.lost = fmt.Errorf("the status is lost: %w", os.NewSyscallError("waitid", err))
	}
	r.p.Buried(status)
	return true
}

// killRest kills what a child, or a daemon, that has ended has left in its
// group or tree, and reports whether it has ended. A child is waited for only
// then: while it is a zombie its group cannot be another one, nor its pid
// another process's.
//
// Preconditions: r.p.Mu is held.
func (r *run) killRest(res *waitResult) (ended bool) {
	switch err := r.handle.waitid(res, unix.WNOWAIT); {
	case err == nil && res.child().pid == 0, err != nil && r.p.Daemon && !r.daemonEnded():
		return false
	case err == nil:
		_ = r.SignalAll(unix.SIGKILL) // there may be nothing left
	case r.p.Daemon && r.Command.KillMode == command.KillGroup:
		_ = r.signalGroup(unix.SIGKILL)
	}
	return true
}

// endedBySignal reports whether a signal has ended the child, and leaves its
// status to be waited for.
func (r *run) endedBySignal() bool {
	res := waitResults.Get().(*waitResult)
	defer waitResults.Put(res)
	r.p.Mu.Lock()
	defer r.p.Mu.Unlock()
	return r.handle.waitid(res, unix.WNOWAIT) == nil && res.child().pid != 0 && res.info.Code != cldExited
}

// newStatus makes a status of what waitid(2) says.
func newStatus(code, number int32, usage *unix.Rusage) process.Status {
	s := process.Status{
		UserTime:   time.Duration(usage.Utime.Nano()),
		SystemTime: time.Duration(usage.Stime.Nano()),
		MaxRSS:     int64(usage.Maxrss) << 10,
	}
	if code == cldExited {
		s.ExitCode = int(number)
		return s
	}
	s.ExitCode = -1
	s.Signal = syscall.Signal(number)
	s.CoreDumped = code == cldDumped
	return s
}

// SignalAll signals what the kill mode says.
// Preconditions: r.p.Mu is held and the child was not waited for.
func (r *run) SignalAll(sig syscall.Signal) error {
	switch {
	case r.descendants != nil:
		return r.descendants.Signal(r, sig)
	case r.Command.KillMode == command.KillGroup:
		return r.signalGroupAndChild(sig)
	}
	return r.handle.signal(sig)
}

// signalGroupAndChild signals the child's group, and the child where it is in
// another. SIGKILL, which may come twice, and what leaves a group alone reach
// the child first: otherwise it could go on when those that it waits for have
// ended. What a daemon has left in its group can be signalled only before
// its end.
func (r *run) signalGroupAndChild(sig syscall.Signal) error {
	if !r.p.Daemon && (sig == unix.SIGKILL || !r.leadsGroup()) {
		err := r.handle.signal(sig)
		_ = r.signalGroup(sig) // there may be none
		return err
	}
	if r.signalGroup(sig) == nil && r.leadsGroup() {
		return nil
	}
	return r.handle.signal(sig)
}

// leadsGroup reports whether the child is in the group that it was made to
// lead. It may not yet have made it, or have left it.
func (r *run) leadsGroup() bool {
	group, err := unix.Getpgid(r.p.PID)
	return err == nil && group == r.p.PID
}

// signalGroup signals the group of the child or the daemon.
func (r *run) signalGroup(sig syscall.Signal) error {
	switch {
	case r.handle.reaped: // its number may be another's
		return os.ErrProcessDone
	case r.p.Daemon:
		return r.signalDaemonsGroup(sig)
	}
	return unix.Kill(-r.p.PID, sig)
}
