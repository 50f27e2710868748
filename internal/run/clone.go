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
	r.undumpable = plan.Undumpable(r.Command, r.Options.Executor)
	if r.undumpable {
		dumpable.enter()
	}
	ch, err := r.newChild()
	if err != nil {
		r.leftMemory()
		return err
	}
	r.child = ch
	r.descendants, r.Tree = r.Tree, nil
	r.p.PID, r.handle.fd = ch.PID, ch.PIDFD
	if ch.PIDFD <= command.Stderr {
		// See descriptor.AboveStreams. Where there is no other number, this one
		// has to do.
		if n, err := unix.FcntlInt(uintptr(ch.PIDFD), unix.F_DUPFD_CLOEXEC, command.Stderr+1); err == nil {
			descriptor.Close(ch.PIDFD)
			r.handle.fd = n
		}
	}
	switch {
	case r.CloneOptions.OwnMemory && r.Helper == nil, r.p.Daemon:
		r.p.Starting = apart{}
	case r.Helper != nil:
		r.p.Starting = r.Helper
	case r.Mode != plan.Unwatched:
		r.p.Starting = &r.child
	}
	return nil
}

// apart is a child that was never in the parent's memory, or not the one that
// was cloned: that it has exec'ed is known only when the process's Starting
// is cleared.
type apart struct{}

// LeftMemory reports false: it is not known before the status pipe tells.
func (apart) LeftMemory() bool { return false }

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
	place := func(f func()) { f() }
	switch {
	case r.JoinedPID >= 0:
		place = func(f func()) {
			if joinErr := r.inPIDNamespace(f, &ch); joinErr != nil {
				err = joinErr
			}
		}
	case r.Command.Attributes.DeathSignal != 0:
		place = onImmortalThread
	}
	// The copy of the memory gets the flag as it is, and without the flag the
	// child's files in /proc are root's. Not where that does not matter: nobody
	// else may wait for a CLONE_VFORK.
	if r.CloneOptions.OwnMemory || r.CloneOptions.VFork && os.Geteuid() != 0 {
		dumpable.outside(func() { place(start) })
	} else {
		place(start)
	}
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
// thread that cloned them ends.
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
