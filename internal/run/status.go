//go:build linux

package run

import (
	"errors"
	"os"
	"time"

	"github.com/virspawn/spawn/internal/descriptor"
	"github.com/virspawn/spawn/internal/plan"
	"github.com/virspawn/spawn/internal/program"
	"github.com/virspawn/spawn/internal/transfer"
	"golang.org/x/sys/unix"
)

// heard is what a child has said by its status pipe: see plan.SaysReady.
type heard struct {
	rest    []byte // begins with the first byte of a report that is not whole
	report  program.Report
	readies int32 // how often it has said that it is there
	failed  bool  // the report is there
	silent  bool  // nobody has the other end any more
}

// hear takes what was read.
func (h *heard) hear(b []byte) {
	h.rest = append(h.rest, b...)
	for len(h.rest) > 0 {
		n := 1
		if h.rest[0] == plan.SaysReady {
			h.readies++
		} else {
			if n = len(h.report); len(h.rest) < n {
				return
			}
			if !h.failed { // a later one is because of the first
				copy(h.report[:], h.rest)
			}
			h.failed = true
		}
		h.rest = h.rest[n:]
	}
}

// readStatus reads once from the status pipe.
func (r *run) readStatus() {
	var b [64]byte
	n, err := unix.Read(r.StatusR, b[:])
	switch {
	case err == unix.EINTR || err == unix.EAGAIN:
	case n <= 0:
		r.heard.silent = true
	default:
		r.heard.hear(b[:n])
	}
}

// listenFor reads from the status pipe until done, or until nothing more can
// come, but no longer than the timeout, and reports whether that is so. Nothing
// more comes when the process of the pidfd, if that is not -1, has ended,
// whoever else may have the other end of the pipe.
func (r *run) listenFor(timeout time.Duration, pidfd int, done func() bool) bool {
	// A negative number is passed over.
	fds := [2]unix.PollFd{{Fd: int32(r.StatusR), Events: unix.POLLIN}, {Fd: int32(pidfd), Events: unix.POLLIN}}
	deadline := time.Now().Add(timeout)
	for reads := 0; ; reads++ {
		if r.heard.silent || done() {
			return true
		}
		if reads >= maxReads && !time.Now().Before(deadline) {
			return false
		}
		left := unix.NsecToTimespec(max(0, int64(time.Until(deadline))))
		ready, err := unix.Ppoll(fds[:], &left, nil)
		switch {
		case err == unix.EINTR:
		case ready <= 0:
			return false
		case fds[0].Revents != 0:
			r.readStatus()
		default:
			return true
		}
	}
}

// maxReads is more than all that a child says takes. Who has got hold of its
// end may say more.
const maxReads = 64

// nothing is for listenFor: it is done when nothing more can come.
func nothing() bool { return false }

// drainStatus reads what a child that has ended has left in the status pipe.
func (r *run) drainStatus() {
	if r.StatusR >= 0 {
		r.listenFor(0, -1, nothing)
	}
}

// closeStatus closes the status pipe.
func (r *run) closeStatus() {
	r.p.Mu.Lock()
	defer r.p.Mu.Unlock()
	r.p.Starting = nil // which looks at it
	if r.StatusR >= 0 {
		descriptor.Close(r.StatusR)
		r.StatusR = -1
	}
}

// openStatus gives the status pipe to Go's poller.
func (r *run) openStatus() {
	r.p.Mu.Lock()
	defer r.p.Mu.Unlock()
	if r.StatusF.File == nil {
		descriptor.SetNonblock(r.StatusR)
		r.StatusF = transfer.NewPipe(r.StatusR, "pipe")
		r.StatusR = -1
		if await := r.StatusF.Await; await != nil {
			r.StatusF.Await = func(f *os.File, write bool) error {
				if r.p.GivenUp() || waitReadable(r.handle.fd, 0) {
					return os.ErrDeadlineExceeded
				}
				return await(f, write)
			}
		}
	}
}

// parkStatus reads from the status pipe, without a thread, until done, until
// nothing more can come, or until the child has been given up. Nothing more
// comes when the child has ended, whoever else may have the other end of
// the pipe.
func (r *run) parkStatus(done func() bool) {
	r.openStatus()
	defer r.watchEnd()()
	var b [64]byte
	for !r.heard.silent && !done() && !r.p.GivenUp() {
		n, err := r.StatusF.Read(b[:])
		r.heard.hear(b[:n])
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded) && waitReadable(r.handle.fd, 0):
			r.takeLast()
		case !errors.Is(err, os.ErrDeadlineExceeded):
			r.heard.silent = err != nil
		}
	}
}

// takeLast reads what a child that has ended has left in the status pipe.
func (r *run) takeLast() {
	r.heard.silent = true
	conn, err := r.StatusF.SyscallConn()
	if err != nil {
		return
	}
	_ = conn.Control(func(fd uintptr) {
		var b [64]byte
		for range maxReads {
			n, err := unix.Read(int(fd), b[:])
			if err != unix.EINTR && n <= 0 {
				return
			}
			r.heard.hear(b[:max(n, 0)])
		}
	})
}

// watchEnd makes a read of the status pipe return, by a deadline, when the
// child has ended, until stop is called.
func (r *run) watchEnd() (stop func()) {
	r.p.Mu.Lock()
	defer r.p.Mu.Unlock()
	f, over := r.handle.pollable(), make(chan struct{})
	go func() {
		defer close(over)
		conn, err := f.SyscallConn()
		if err == nil {
			err = conn.Read(func(fd uintptr) bool { return waitReadable(int(fd), 0) })
		}
		if err == nil {
			_ = r.StatusF.SetReadDeadline(past)
		}
	}()
	return func() {
		_ = f.SetReadDeadline(past)
		<-over
		r.p.Mu.Lock()
		defer r.p.Mu.Unlock()
		if !r.p.GivenUp() {
			_ = f.SetReadDeadline(time.Time{})
		}
	}
}

// past is a deadline that makes those who wait return.
var past = time.Unix(1, 0)

// apart is a run whose child has a memory of its own.
type apart run

// LeftMemory reports whether the program runs, or the child has ended: then
// nobody has the status pipe's other end.
//
// Preconditions: p.Mu is held.
func (a *apart) LeftMemory() (left bool) {
	r := (*run)(a)
	if !r.child.LeftMemory() {
		return false
	}
	r.CloseStatusEnd()
	if r.StatusF.File == nil {
		return r.StatusR >= 0 && hasNoWriter(r.StatusR)
	}
	if conn, err := r.StatusF.SyscallConn(); err == nil {
		_ = conn.Control(func(fd uintptr) { left = hasNoWriter(int(fd)) })
	}
	return left
}

// hasNoWriter reports whether nobody has the other end of a status pipe, in
// which there is no report.
func hasNoWriter(fd int) bool {
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	_, err := unix.Poll(fds, 0)
	if err != nil || fds[0].Revents&unix.POLLHUP == 0 {
		return false
	}
	// What is yet to be read may be that the child was there.
	unread, err := unix.IoctlGetInt(fd, unix.TIOCINQ)
	return err == nil && unread < len(program.Report{})
}
