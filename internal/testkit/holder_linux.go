package testkit

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"

	"github.com/virspawn/spawn/internal/program"
	"golang.org/x/sys/unix"
)

// ChildCalls are the calls that a child makes between the clone and execve, and
// a helper of it. A Holder can hold a child at each of them.
var ChildCalls = []uint32{
	unix.SYS_CLOSE_RANGE, unix.SYS_CLOSE, unix.SYS_DUP3, unix.SYS_OPENAT, unix.SYS_EXECVEAT, unix.SYS_EXECVE, unix.SYS_PRCTL,
	unix.SYS_CAPSET, unix.SYS_CHDIR, unix.SYS_SETSID, unix.SYS_SETPGID, unix.SYS_SETNS, unix.SYS_UNSHARE, unix.SYS_MOUNT, unix.SYS_CHROOT,
	unix.SYS_PRLIMIT64, unix.SYS_WRITE, unix.SYS_READ, unix.SYS_RT_SIGACTION, unix.SYS_RT_SIGPROCMASK, unix.SYS_UMASK, unix.SYS_CLONE,
	unix.SYS_EXIT_GROUP, unix.SYS_KEYCTL, program.SysFcntl, program.SysSetgroups, program.SysSetresgid, program.SysSetresuid,
}

// Holder makes calls on a thread whose children are held at system calls of
// theirs. It is for a helper process: the thread stays as it is.
type Holder struct {
	listener int
	starts   chan func()
}

// NewHolder returns one that holds children at these system calls.
func NewHolder(calls ...uint32) (*Holder, error) {
	// The thread is held too, and may not let go of its processor then; nor may
	// anybody wait for it.
	runtime.GOMAXPROCS(8)
	debug.SetGCPercent(-1)
	h := &Holder{starts: make(chan func())}
	made := make(chan error)
	go func() {
		runtime.LockOSThread()
		fd, err := NotifyOf(calls...)
		h.listener = fd
		made <- err
		for start := range h.starts {
			start()
		}
	}()
	return h, <-made
}

// Run makes a call, and tells at of each process that is held meanwhile, and
// where. That one goes on when at has returned.
func (h *Holder) Run(start func() error, at func(pid int, call uint32) error) error {
	done := make(chan error, 1)
	h.starts <- func() { done <- start() }
	var errs []error
	for {
		fds := []unix.PollFd{{Fd: int32(h.listener), Events: unix.POLLIN}}
		switch n, err := unix.Poll(fds, 10); {
		case err == unix.EINTR:
			continue
		case err != nil:
			return err
		case n == 0:
			select {
			case err := <-done:
				return errors.Join(append(errs, err)...)
			default:
				continue
			}
		}
		n, err := receive(h.listener)
		if errors.Is(err, unix.ENOENT) { // killed
			continue
		}
		if err != nil {
			return err
		}
		if _, err := os.Stat(fmt.Sprintf("/proc/self/task/%d", n.pid)); err != nil {
			errs = append(errs, at(int(n.pid), n.call))
		}
		if err := goOn(h.listener, &n); err != nil && !errors.Is(err, unix.ENOENT) {
			return err
		}
	}
}
