package spawn

import (
	"fmt"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// sigContinue lets a stopped process go on.
const sigContinue = unix.SIGCONT

// Codes of a SIGCHLD. (waitid(2))
const (
	cldExited = 1
	cldKilled = 2
	cldDumped = 3
)

// reap takes the child's status if it has ended, and reports whether it has. Nobody can signal the child afterwards.
func (p *Process) reap() bool {
	r := waitResults.Get().(*waitResult)
	defer waitResults.Put(r)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.killMode != KillProcess && p.ending != nil && !p.killRest(r) {
		return false
	}
	err := p.waitid(r, 0)
	child := r.child()
	switch {
	case err != nil && p.daemon:
		if !p.daemonEnded() {
			return false
		}
		p.status = Status{ExitCode: -1} // only its parent is told more
	case err != nil:
		p.status = Status{ExitCode: -1}
		p.lost = fmt.Errorf("the status is lost, because other code of this process has waited for process %d: %w", p.pid, err)
	case child.pid == 0:
		return false
	default:
		p.status = newStatus(r.info.Code, child.status, &r.usage)
	}
	p.dead = true
	if p.kill != nil {
		p.kill.Stop()
	}
	return true
}

// killRest kills what a child, or a daemon, that has ended has left in its group or tree, and reports whether it has ended. A child is waited for
// only then: while it is a zombie its group cannot be another one, nor its pid another process's.
//
// Preconditions: p.mu is held.
func (p *Process) killRest(r *waitResult) (ended bool) {
	switch err := p.waitid(r, unix.WNOWAIT); {
	case err == nil && r.child().pid == 0, err != nil && p.daemon && !p.daemonEnded():
		return false
	case err == nil:
		_ = p.signalAll(unix.SIGKILL) // there may be nothing left
	case p.daemon && p.killMode == KillGroup:
		_ = p.signalGroup(unix.SIGKILL)
	}
	return true
}

// waitid asks for the child's end. The pid is 0 when it still lives.
func (p *Process) waitid(r *waitResult, options int) error {
	r.info = unix.Siginfo{}
	for {
		err := unix.Waitid(unix.P_PIDFD, p.handle.fd, &r.info, unix.WEXITED|unix.WNOHANG|unix.WALL|options, &r.usage)
		if err != unix.EINTR {
			return err
		}
	}
}

// endedBySignal reports whether a signal has ended the child, and leaves its status to be waited for.
func (p *Process) endedBySignal() bool {
	r := waitResults.Get().(*waitResult)
	defer waitResults.Put(r)
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.waitid(r, unix.WNOWAIT) == nil && r.child().pid != 0 && r.info.Code != cldExited
}

// waitBlocked blocks the thread until the child has ended.
func (p *Process) waitBlocked() {
	fds := []unix.PollFd{{Fd: int32(p.handle.fd), Events: unix.POLLIN}}
	for !p.reap() {
		_, _ = unix.Ppoll(fds, nil, nil) // EINTR at worst
	}
}

func newStatus(code, status int32, usage *unix.Rusage) Status {
	s := Status{
		UserTime:   time.Duration(usage.Utime.Nano()),
		SystemTime: time.Duration(usage.Stime.Nano()),
		MaxRSS:     int64(usage.Maxrss) << 10,
	}
	if code == cldExited {
		s.ExitCode = int(status)
		return s
	}
	s.ExitCode = -1
	s.Signal = syscall.Signal(status)
	s.CoreDumped = code == cldDumped
	return s
}

// signalAll signals what the kill mode says.
//
// Preconditions: p.mu is held and the child was not waited for.
func (p *Process) signalAll(sig syscall.Signal) error {
	switch {
	case p.dry != nil:
		return p.dry.deliver(sig)
	case p.tree != nil:
		return p.tree.signal(p, sig)
	case p.killMode == KillGroup:
		return p.signalGroupAndChild(sig)
	}
	return p.handle.signal(sig)
}

// signalGroupAndChild signals the child's group, and the child where it is in another. SIGKILL, which may come twice, and what leaves a group alone reach
// the child first: otherwise it could go on when those that it waits for have ended. What a daemon has left in its group can be
// signalled only before its end.
func (p *Process) signalGroupAndChild(sig syscall.Signal) error {
	if !p.daemon && (sig == unix.SIGKILL || !p.leadsGroup()) {
		err := p.handle.signal(sig)
		_ = p.signalGroup(sig) // there may be none
		return err
	}
	if p.signalGroup(sig) == nil && p.leadsGroup() {
		return nil
	}
	return p.handle.signal(sig)
}

// leadsGroup reports whether the child is in the group that it was made to lead. It may not yet have made it, or have left it.
func (p *Process) leadsGroup() bool {
	group, err := unix.Getpgid(p.pid)
	return err == nil && group == p.pid
}

func (p *Process) signalGroup(sig syscall.Signal) error {
	if p.daemon {
		return p.signalDaemonsGroup(sig)
	}
	return unix.Kill(-p.pid, sig)
}
