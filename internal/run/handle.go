//go:build linux

package run

import (
	"bytes"
	"os"
	"strconv"
	"syscall"
	"time"

	"github.com/virspawn/spawn/internal/descriptor"
	"golang.org/x/sys/unix"
)

// handle is a pidfd, and the file by which Go's poller knows it, where one
// was needed.
//
// A policy may refuse what goes by a pidfd. Then the pid will do: that of
// a child is its own until this process has waited for it.
type handle struct {
	fd      int
	file    *os.File
	pid     int32
	foreign bool // no child of this process
	reaped  bool // somebody has waited for it
}

// signal sends a signal to the process.
//
// Preconditions: nobody waits for the process meanwhile.
func (h *handle) signal(sig syscall.Signal) error {
	if h.reaped {
		return os.ErrProcessDone
	}
	call, err := "pidfd_send_signal", unix.PidfdSendSignal(h.fd, sig, nil, 0)
	if err != nil && err != unix.ESRCH && !h.foreign && refusesSignals() {
		if h.isGone() {
			return os.ErrProcessDone
		}
		call, err = "kill", unix.Kill(int(h.pid), sig)
	}
	if err == unix.ESRCH {
		return os.ErrProcessDone
	}
	return os.NewSyscallError(call, err)
}

// refusesSignals reports whether pidfd_send_signal is refused to this thread,
// whatever the process: the kernel would say that there is no such descriptor.
func refusesSignals() bool { return unix.PidfdSendSignal(-1, 0, nil, 0) != unix.EBADF }

// isGone reports whether other code of this process has waited for the
// child, as far as /proc tells: its pid may be another process's then.
// (proc_pid_fdinfo(5))
func (h *handle) isGone() bool {
	text, err := os.ReadFile("/proc/self/fdinfo/" + strconv.Itoa(h.fd))
	return err == nil && bytes.Contains(text, []byte("\nPid:\t-1\n"))
}

// waitid asks for the end of the process, and returns at once. The pid is 0
// when it still lives. The error is ECHILD if it is no child, or no longer.
//
// Preconditions: nobody signals the process meanwhile.
func (h *handle) waitid(res *waitResult, options int) error {
	if h.reaped {
		return unix.ECHILD
	}
	options |= unix.WEXITED | unix.WNOHANG | unix.WALL
	for kind, id := unix.P_PIDFD, h.fd; ; {
		res.info = unix.Siginfo{}
		switch err := unix.Waitid(kind, id, &res.info, options, &res.usage); {
		case err == unix.EINTR:
		case err == nil || err == unix.ECHILD || kind == unix.P_PID:
			return err
		case h.isGone():
			return unix.ECHILD
		default: // refused
			kind, id = unix.P_PID, int(h.pid)
		}
	}
}

// isOurs reports whether this process is the parent of the process, and nobody
// has waited for it.
func (h *handle) isOurs() bool {
	res := waitResults.Get().(*waitResult)
	defer waitResults.Put(res)
	return h.waitid(res, unix.WNOWAIT) == nil
}

// hasWaited waits for a process that nobody else waits for or signals, and
// reports whether it has ended.
func (h *handle) hasWaited() bool {
	res := waitResults.Get().(*waitResult)
	defer waitResults.Put(res)
	return h.waitid(res, 0) != nil || res.child().pid != 0
}

func (h *handle) close() {
	if h.file != nil {
		h.file.Close()
	} else {
		descriptor.Close(h.fd)
	}
	h.fd, h.file = -1, nil
}

// pollable returns the handle as a file for Go's poller.
func (h *handle) pollable() *os.File {
	if h.file == nil {
		descriptor.SetNonblock(h.fd)
		h.file = os.NewFile(uintptr(h.fd), "pidfd")
	}
	return h.file
}

// waitReadable waits until fd can be read, or has no more writers, but no
// longer than the timeout, if that is not negative, and reports whether it can.
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
