package helper

import (
	"runtime"
	"syscall"

	"github.com/virspawn/spawn/internal/program"
	"golang.org/x/sys/unix"
)

// Exec runs p, which ends in execve, on a thread of its own, and returns
// only when an op has failed, or check, which is called there first. That
// thread then ends: what CLONE_FS and CLOSE_RANGE_UNSHARE have made its own
// (descriptors, directory, umask) ends with it, and so do its credentials and
// its signal mask. Limits, dispositions, session and group are the process's.
func Exec(p *program.Program, check func() error) (f program.Failure, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		// Without an unlock, the thread ends with the goroutine.
		runtime.LockOSThread()
		if unix.Gettid() != unix.Getpid() {
			if err = check(); err == nil {
				f = Run(p)
			}
			return
		}
		// The main thread cannot end, and /proc/self shows it. While this
		// goroutine keeps it, another gets another.
		f, err = Exec(p, check)
		runtime.UnlockOSThread()
	}()
	<-done
	return f, err
}

// Run makes the calls of p, none of which is a hook, one after the other on the
// current thread, until one fails or p ends.
func Run(p *program.Program) program.Failure { return runOps(p, 0, nil) }

// runOps is Run from a call on, with a function that is called before each
// call, and reports whether it has made it.
func runOps(p *program.Program, first int, before func(i int) (done bool)) program.Failure {
	for i := first; i < p.Len(); i++ {
		if before != nil && before(i) {
			continue
		}
		op := p.At(i)
		call := syscall.RawSyscall6
		if op.Nr == unix.SYS_READ {
			// It is that of the gate, which may last: else the runtime's
			// monitor would wake up all the time.
			call = syscall.Syscall6
		}
		r, _, errno := call(op.Nr, op.Args[0], op.Args[1], op.Args[2], op.Args[3], op.Args[4], op.Args[5])
		switch {
		case errno == unix.EINTR && op.Flags&program.Retry != 0:
			i--
			continue
		case errno == 0 && op.Flags&program.Store != 0:
			p.StoreResult(i, r)
		}
		if errno != 0 || op.Flags&program.Expect != 0 && r != op.Expect {
			if op.Flags&program.Ignore == 0 {
				return program.Failure{Op: i, Errno: errno}
			}
			continue
		}
		if op.Flags&program.Leave != 0 && r != 0 {
			unix.Exit(0)
		}
	}
	return program.Failure{Op: p.Len()}
}
