//go:build amd64 || arm64

// Package child runs a program in a new process that shares the caller's memory
// until it execs, or has a copy of it.
//
// # The rules in the child
//
// From the clone to execve the new process runs on the caller's memory, beside
// all its threads, and its thread register is that of the thread that cloned
// it. So the child
//
//   - runs the few instructions in child_*.s and nothing else: no Go code, no
//     stack but for a signal that would dump core (see Die), no lock;
//   - writes only to the frame and to the words that an op stores to, all in
//     the program's own memory;
//   - has every signal blocked, and all handlers gone (CLONE_CLEAR_SIGHAND),
//     so that no handler of the parent's can run in it. Where clone3 is
//     missing the handlers are still there, but blocked: a program resets all
//     dispositions before its last op but one unblocks the signals;
//   - shares the table of descriptors until its first op replaces it, and
//     changes nothing in it before;
//   - ends in execve or exit_group and never returns.
//
// The clone is without CLONE_VFORK, so the caller's thread goes on at once.
// Whether a child may share the memory at all is decided by package plan.
//
// # The stub
//
// The same loop, in a process whose memory holds nothing else, is a stub:
// [Code] and [Frame] are what package stub makes an executable of.
package child

import (
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/virspawn/spawn/internal/program"
	"golang.org/x/sys/unix"
)

// Flags of the clone. CLONE_FILES makes the clone's cost independent of
// the number of open descriptors; the first op must be a close_range with
// CLOSE_RANGE_UNSHARE.
//
// The exit signal is 0 until execve, that of a stub too, makes it SIGCHLD: a
// child that fails before sends no SIGCHLD, and a wait4(-1) elsewhere in the
// process cannot take it away.
const (
	commonFlags = unix.CLONE_PIDFD
	sharedFlags = commonFlags | unix.CLONE_VM | unix.CLONE_FILES | unix.CLONE_CHILD_CLEARTID
)

// flags returns the flags for clone; clone3 takes CLONE_CLEAR_SIGHAND besides.
func (o Options) flags() uint64 {
	flags := o.Namespaces | sharedFlags
	if o.OwnMemory {
		flags = o.Namespaces | commonFlags
	}
	return flags
}

// clone3Only reports whether clone cannot do what is asked for.
func (o Options) clone3Only() bool { return o.Cgroup != 0 || o.Namespaces&unix.CLONE_NEWTIME != 0 }

// Available reports whether there is assembly for this processor.
const Available = true

// stackSize is room for a signal's frame, with the largest of processors'
// states (some 11 KiB of AMX).
const stackSize = 64 << 10

// stack is that of all children: they push nothing, and what the kernel puts
// there for the handler Die nobody reads.
var stack = sync.OnceValues(func() (uintptr, error) {
	b, err := unix.Mmap(-1, 0, stackSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE)
	if err != nil {
		return 0, err
	}
	return addressOf(b), nil
})

// Size is the room that Start takes in a program's memory.
const Size = 1024

// noClone3 is set once the kernel has said that it has no clone3 with
// these flags.
var noClone3 atomic.Bool

// Child is a process that was cloned.
type Child struct {
	PID   int
	PIDFD int // close-on-exec; the caller closes it
	frame *frame
}

// LeftMemory reports whether the child has left this address space, by exec or
// by its end: the program can then be freed. An exec can no longer fail then,
// but may take some microseconds more, until /proc shows the new program. It
// must not be called after that.
func (c *Child) LeftMemory() bool { return c.frame == nil || c.frame.leftMemory() }

// Wait blocks the thread until LeftMemory is true, but not for long beyond the
// timeout, and returns it. It must not be called after it has returned true.
func (c *Child) Wait(timeout time.Duration) bool {
	for deadline := time.Now().Add(timeout); !c.LeftMemory(); {
		left := time.Until(deadline)
		if left <= 0 {
			return false
		}
		c.frame.wait(unix.NsecToTimespec(int64(left)))
	}
	return true
}

// Start clones a process that runs p. A failure of an op is reported in p's
// memory and on the descriptor of p.SetStatus.
//
// p must not change and must not be freed until the process has left this
// address space: see LeftMemory; the end of file on the other end of a status
// pipe proves it too, and comes later. The caller waits for the process
// with __WALL.
//
// Linux 5.4 and later (clone3: 5.5).
func Start(p *program.Program, o Options) (Child, *Error) {
	f := newFrame(p)
	f.block = ^uint64(0)
	f.first, f.end = p.Layout()
	f.report = p.ReportTo()
	f.inside = inside
	word, pidfd := f.addresses()
	stack, err := stack()
	if err != nil {
		errno, _ := err.(syscall.Errno)
		return Child{}, &Error{"mmap", errno}
	}

	if !noClone3.Load() || o.clone3Only() {
		args, addr := newCloneArgs(p)
		*args = cloneArgs{
			flags:     o.flags() | unix.CLONE_CLEAR_SIGHAND,
			pidfd:     uint64(pidfd),
			childTID:  uint64(word),
			stack:     uint64(stack),
			stackSize: stackSize,
		}
		size := uintptr(cloneArgsSize0)
		if o.Cgroup != 0 {
			args.flags |= unix.CLONE_INTO_CGROUP
			args.cgroup, size = uint64(o.Cgroup), cloneArgsSize
		}
		f.call = [6]uintptr{unix.SYS_CLONE3, addr, size}
		pid, errno := result(clone(f))
		switch {
		case errno == 0:
			return o.child(pid, f), nil
		case !o.clone3Only() && (errno == unix.ENOSYS || errno == unix.EINVAL && o.Namespaces == 0):
			// Too old a kernel, or a seccomp policy that says so.
			noClone3.Store(true)
		}
		// With EPERM it may be a seccomp policy that predates clone3, perhaps
		// this thread's only.
		if o.clone3Only() || errno != unix.ENOSYS && errno != unix.EINVAL && errno != unix.EPERM {
			return Child{}, &Error{"clone3({flags=" + program.CloneFlags(args.flags) + "}, " + strconv.Itoa(int(size)) + ")", errno}
		}
	}
	flags := o.flags()
	f.call = cloneCall(uintptr(flags), stack+stackSize, pidfd, word)
	pid, errno := result(clone(f))
	if errno != 0 {
		return Child{}, &Error{"clone(" + program.CloneFlags(flags) + ")", errno}
	}
	return o.child(pid, f), nil
}

func (o Options) child(pid int, f *frame) Child {
	c := Child{PID: pid, PIDFD: int(f.pidfd)}
	if !o.OwnMemory {
		c.frame = f
	}
	return c
}

// result splits the raw result of a system call.
func result(r uintptr) (int, syscall.Errno) {
	if r > ^uintptr(4095) {
		return -1, syscall.Errno(-r)
	}
	return int(r), 0
}

// Code returns the code of a stub whose frame is at the address frame: it is
// entered at its first byte, can stand at any address, and needs no stack.
func Code(frame uint32) []byte { return append(entry(frame), code()...) }

var code = sync.OnceValue(loopCode)

// Frame returns the frame of a stub: the addresses of its first op, of the
// end of the list, and of where to report to, as of program.ReportTo.
func Frame(first, end, report uintptr) []byte {
	return frameBytes(&frame{first: first, end: end, report: report})
}
