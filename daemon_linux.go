package spawn

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/virspawn/spawn/internal/program"
	"golang.org/x/sys/unix"
)

// A daemon is forked by the child that this process clones: the first parent. That one makes a session and takes its place among the descriptors; then
// it forks the daemon, which does the rest, and ends. The kernel writes the daemon's pid into the program's memory before the daemon does anything.
//
// Where only a helper can be started, that one is the first parent, and its daemon another helper that it starts to go on with the rest.
//
// A pid may be another process's by the time that it is used. So the daemon first waits at the gate, this process opens a pidfd and lets it go on, and the
// daemon answers: it was alive when the pidfd was opened.

// checkDaemon refuses a daemon that a helper cannot fork.
func (pl *plan) checkDaemon() error {
	c := pl.cmd
	if c.daemon && c.executor == forkedHelper && c.namespaces.fresh&UserNamespace != 0 {
		return &badCall{"Daemonize", fmt.Errorf("no child can be cloned here, and a helper makes no user namespace for a daemon: %w", errors.ErrUnsupported)}
	}
	return nil
}

// checkData refuses data that nobody would be left to write.
func (pl *plan) checkData() error {
	method := ""
	switch {
	case len(pl.jobs) == 0:
	case pl.mode == inPlace:
		method = "Exec"
	case pl.cmd.daemon:
		method = "Daemonize"
	}
	if method == "" {
		return nil
	}
	return &badCall{method, errors.New("more data to read than a pipe holds, and nobody would be left to write it")}
}

// doubleFork ends the first parent and goes on in the daemon, once this process knows it.
func (pl *plan) doubleFork() {
	if !pl.cmd.daemon {
		return
	}
	p := pl.prog
	if pl.daemonPIDNS >= 0 {
		p.Add(unix.SYS_SETNS, pl.fds.keptFD(pl.daemonPIDNS), unix.CLONE_NEWPID)
	}
	pl.forkDaemon()
	pl.awaitByte()
	pl.sayReady()
	pl.leadSessionOrGroup()
}

// forkDaemon adds the call that forks the daemon.
func (pl *plan) forkDaemon() {
	p := pl.prog
	if pl.cmd.executor == forkedHelper {
		p.AddOp(unix.SYS_CLONE, program.Leave, unix.CLONE_VM|unix.CLONE_VFORK|uintptr(pl.cmd.namespaces.fresh)) // as package syscall does
		return
	}
	pl.daemonPID = p.Words(0)
	flags := unix.CLONE_PARENT_SETTID | uintptr(pl.cmd.namespaces.fresh)
	if !pl.options.OwnMemory { // else there must be nobody in the daemon's memory when it joins a namespace
		flags |= unix.CLONE_VM
	}
	if flags&unix.CLONE_NEWTIME == 0 {
		p.AddOp(unix.SYS_CLONE, program.Leave, flags, 0, pl.daemonPID)
	} else { // for clone that bit is part of a signal's number
		args := p.Words(uint64(flags), 0, 0, uint64(pl.daemonPID), 0, 0, 0, 0)
		p.AddOp(unix.SYS_CLONE3, program.Leave, args, cloneArgsSize)
	}
}

// cloneArgsSize is the size of a struct clone_args as of Linux 5.3. (CLONE_ARGS_SIZE_VER0)
const cloneArgsSize = 64

// meetDaemon makes the daemon, if there is to be one, the process of p. Where it cannot, gateErr or the child's report says why, and there is
// no process left.
func (pl *plan) meetDaemon(p *Process) (met bool) {
	if !p.daemon {
		return true
	}
	waitForStart(func(timeout time.Duration) bool { return waitReadable(p.handle.fd, timeout) })
	pl.closeChildEnds() // the daemon has a table of its own
	pid, status := pl.reapFirstParent(p)
	_, failed := pl.failure()
	err := pl.openDaemon(p, pid)
	if err == nil {
		return true
	}
	if pid == 0 { // then the gate was closed, and if anything has failed since then, it is for that
		err = fmt.Errorf("the daemon's first parent ended: %s", status)
	} else {
		_, failed = pl.failure()
	}
	if !failed {
		pl.gateErr = &StartError{Op: "double fork", Path: pl.path, Err: err}
	}
	return false
}

// reapFirstParent takes the first parent's status and returns it with the pid of the daemon, 0 if there is none.
func (pl *plan) reapFirstParent(p *Process) (pid int, status Status) {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := waitResults.Get().(*waitResult)
	defer waitResults.Put(r)
	status.ExitCode = -1
	if p.waitid(r, 0) == nil {
		status = newStatus(r.info.Code, r.child().status, &r.usage)
	}
	if pl.cmd.executor == forkedHelper {
		return pl.helper.report.Daemon(), status
	}
	return int(binary.NativeEndian.Uint32(pl.prog.Bytes(pl.daemonPID, 4))), status
}

// openDaemon makes the daemon the process of p, or waits for its end.
func (pl *plan) openDaemon(p *Process, pid int) error {
	if pid == 0 {
		pl.closeGate() // which ends a daemon whose first parent was killed before it could tell of it
		waitForStart(func(timeout time.Duration) bool { return waitReadable(pl.statusR, timeout) })
		return errNoDaemon
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if err == nil {
		fd, err = aboveStreams(fd)
	}
	if err != nil {
		pl.closeGate() // which ends it
		waitReadable(pl.statusR, -1)
		_ = unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WALL, nil) // ECHILD, unless it is this process's child now
		if err == unix.ESRCH {
			return errNoDaemon // whose parent has waited for it
		}
		return os.NewSyscallError(fmt.Sprintf("pidfd_open(%d, 0)", pid), err)
	}
	if !pl.awaitAnswer(p, fd) {
		_ = unix.Waitid(unix.P_PIDFD, fd, nil, unix.WEXITED|unix.WALL, nil)
		closeFD(fd)
		return errNoDaemon
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	closeFD(p.handle.fd)
	p.pid, p.handle.fd = pid, fd
	if p.killed {
		_ = p.handle.signal(unix.SIGKILL) // there may be nothing left
	}
	return nil
}

var errNoDaemon = errors.New("the daemon ended before its program")

// awaitAnswer lets the daemon go on and reports whether it has answered, or has ended.
func (pl *plan) awaitAnswer(p *Process, pidfd int) bool {
	_, _ = unix.Write(pl.gateW, []byte{1}) // EPIPE when it has ended
	waitForStart(func(timeout time.Duration) bool {
		if waitReadable(pl.statusR, timeout) {
			return true
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.killed { // it is stopped, perhaps, but there: it would have answered or ended
			_ = unix.PidfdSendSignal(pidfd, unix.SIGKILL, nil, 0)
		}
		return false
	})
	return pl.readReady()
}

// waitReadable waits until fd can be read, or has no more writers, but no longer than the timeout, if that is not negative, and reports
// whether it can.
func waitReadable(fd int, timeout time.Duration) bool {
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	var left *unix.Timespec
	if timeout >= 0 {
		left = new(unix.Timespec)
		*left = unix.NsecToTimespec(int64(timeout))
	}
	for {
		n, err := unix.Ppoll(fds, left, nil)
		if err != unix.EINTR {
			return n > 0
		}
	}
}

// daemonEnded reports whether this is a daemon, and has ended.
func (p *Process) daemonEnded() bool { return p.daemon && waitReadable(p.handle.fd, 0) }

// signalDaemonsGroup signals the group of a daemon, which is not this process's child: its pid may be another's at any time.
//
// Preconditions: p.mu is held.
func (p *Process) signalDaemonsGroup(sig unix.Signal) error {
	const processGroup = 1 << 2 // PIDFD_SIGNAL_PROCESS_GROUP
	err := unix.PidfdSendSignal(p.handle.fd, sig, nil, processGroup)
	if err != unix.EINVAL {
		return err
	}
	// Before Linux 6.9. As long as the daemon has not been waited for the group is its own.
	if err := p.handle.signal(0); err != nil {
		return err
	}
	return unix.Kill(-p.pid, sig)
}
