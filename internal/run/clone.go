//go:build linux

package run

import (
	"os"
	"runtime"
	"strconv"
	"sync"

	"github.com/virspawn/spawn/internal/child"
	"github.com/virspawn/spawn/internal/command"
	"github.com/virspawn/spawn/internal/descriptor"
	"github.com/virspawn/spawn/internal/plan"
	"golang.org/x/sys/unix"
)

// clone makes the child.
func (r *run) clone() error {
	if err := r.ownPTY(); err != nil {
		return err
	}
	if err := r.WriteImage(); err != nil {
		return err
	}
	ch, err := r.newChild()
	if err != nil {
		return err
	}
	r.child = ch
	r.descendants, r.Tree = r.Tree, nil
	r.p.PID = ch.PID
	r.handle = handle{fd: ch.PIDFD, pid: int32(ch.PID)}
	if ch.PIDFD <= command.Stderr {
		// See descriptor.AboveStreams. Where there is no other number, this one
		// has to do.
		if n, err := unix.FcntlInt(uintptr(ch.PIDFD), unix.F_DUPFD_CLOEXEC, command.Stderr+1); err == nil {
			descriptor.Close(ch.PIDFD)
			r.handle.fd = n
		}
	}
	switch {
	case r.Helper != nil:
		r.p.Starting = r.Helper
		r.expectSign(1)
	case r.Options.Executor == plan.Direct:
		r.p.Starting = &r.child
	default:
		r.p.Starting = (*apart)(r)
	}
	return nil
}

// newChild clones the child.
func (r *run) newChild() (ch child.Child, err error) {
	start := func() {
		if r.Options.Executor == plan.ForkedHelper {
			ch, err = r.forkHelper()
			return
		}
		c, failure := child.Start(r.Program, r.CloneOptions)
		ch, err = c, nil
		if failure != nil {
			err = &command.StartError{Op: failure.Call, Path: r.Path, Err: failure.Errno}
			if r.isRefusal(failure.Errno) {
				err = refused{err}
			}
		}
	}
	if r.Command.Attributes.DeathSignal == 0 {
		start()
		return ch, err
	}
	runtime.LockOSThread() // which is looked at
	defer runtime.UnlockOSThread()
	caller := thisThread()
	onImmortalThread(func() {
		if err = sameThread("SetParentDeathSignal", caller); err == nil {
			start()
		}
	})
	return ch, err
}

// ownPTY gives the terminal to the program's user. It comes when there is to be
// a child, and not where it is only explained.
func (r *run) ownPTY() error {
	if r.PTY.File == nil {
		return nil
	}
	if uid, ok := userOutside(r.Command); ok && uid != os.Geteuid() {
		if err := unix.Fchown(r.PTYEnd, uid, -1); err != nil {
			return r.Failed(os.NewSyscallError("fchown("+strconv.Itoa(r.PTYEnd)+", "+strconv.Itoa(uid)+", -1)", err))
		}
	}
	return nil
}

// userOutside returns the user that the program is to have, as seen from the
// parent, if that is another one and known.
func userOutside(c *command.Command) (uid int, ok bool) {
	n := &c.Namespaces
	switch {
	case !c.IDs.SetUID || n.Joins(unix.CLONE_NEWUSER):
		return 0, false
	case n.Fresh&unix.CLONE_NEWUSER == 0:
		return c.IDs.UID, true
	}
	for _, m := range n.UIDMaps {
		if in := c.IDs.UID - m.ContainerID; in >= 0 && in < m.Size {
			return m.HostID + in, true
		}
	}
	return 0, false // and the child will not get it
}

// immortal is a thread that never ends, for children that get a signal when the
// thread that cloned them ends. (PR_SET_PDEATHSIG in prctl(2))
//
// The calling thread would do where it never ends. But whether its goroutine is
// locked to it cannot be known, nor when that ends, and the thread with it: the
// runtime says neither. A thread that is made as the calling one is, with all
// that confines it, would have to be made without the runtime, and stay for
// ever, one for each caller.
var immortal struct {
	once  sync.Once
	calls chan func()
}

// onImmortalThread calls f on that thread.
func onImmortalThread(f func()) {
	immortal.once.Do(func() {
		immortal.calls = make(chan func())
		go func() {
			runtime.LockOSThread()
			for call := range immortal.calls {
				call()
			}
		}()
	})
	done := make(chan struct{})
	immortal.calls <- func() {
		defer close(done)
		f()
	}
	<-done
}
