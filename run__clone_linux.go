package spawn

import (
	"os"
	"runtime"
	"strconv"
	"sync"

	"github.com/virspawn/spawn/internal/child"
	"golang.org/x/sys/unix"
)

// clone makes the child.
func (r *run) clone() error {
	if err := r.ownPTY(); err != nil {
		return err
	}
	if err := r.writeImage(); err != nil {
		return err
	}
	r.undumpable = undumpable(r.cmd, r.opts.executor)
	if r.undumpable {
		dumpable.enter()
	}
	ch, err := r.newChild()
	if err != nil {
		r.leftMemory()
		return err
	}
	r.child = ch
	r.descendants, r.tree = r.tree, nil
	r.p.pid, r.handle.fd = ch.PID, ch.PIDFD
	if ch.PIDFD <= stderr { // see aboveStreams; where there is no other number, this one has to do
		if n, err := unix.FcntlInt(uintptr(ch.PIDFD), unix.F_DUPFD_CLOEXEC, stderr+1); err == nil {
			closeFD(ch.PIDFD)
			r.handle.fd = n
		}
	}
	switch {
	case r.options.OwnMemory && r.helper == nil, r.p.daemon:
		r.p.starting = apart{}
	case r.helper != nil:
		r.p.starting = r.helper
	case r.mode != unwatched:
		r.p.starting = &r.child
	}
	return nil
}

// apart is a child that was never in this process's memory, or not the one that was cloned: that it has exec'ed is known only when
// Process.starting is cleared.
type apart struct{}

func (apart) LeftMemory() bool { return false }

// newChild clones the child.
func (r *run) newChild() (ch child.Child, err error) {
	start := func() {
		if r.opts.executor == forkedHelper {
			ch, err = r.forkHelper()
			return
		}
		c, failure := child.Start(r.prog, r.options)
		ch, err = c, nil
		if failure != nil {
			err = &startFailure{Op: failure.Call, Path: r.path, Err: failure.Errno}
			if r.isRefusal(failure.Errno) {
				err = refused{err}
			}
		}
	}
	place := func(f func()) { f() }
	switch {
	case r.joinedPID >= 0:
		place = func(f func()) {
			if joinErr := r.inPIDNamespace(f, &ch); joinErr != nil {
				err = joinErr
			}
		}
	case r.cmd.attrs.deathSignal != 0:
		place = onImmortalThread
	}
	// The copy of the memory gets the flag as it is, and without the flag the child's files in /proc are root's. Not where that does not
	// matter: nobody else may wait for a CLONE_VFORK.
	if r.options.OwnMemory || r.options.VFork && os.Geteuid() != 0 {
		dumpable.outside(func() { place(start) })
	} else {
		place(start)
	}
	return ch, err
}

// ownPTY gives the terminal to the program's user. It comes when there is to be a child, and not where it is only explained.
func (r *run) ownPTY() error {
	if r.pty.File == nil {
		return nil
	}
	if uid, ok := userOutside(r.cmd); ok && uid != os.Geteuid() {
		if err := unix.Fchown(r.ptyEnd, uid, -1); err != nil {
			return r.failed(os.NewSyscallError("fchown("+strconv.Itoa(r.ptyEnd)+", "+strconv.Itoa(uid)+", -1)", err))
		}
	}
	return nil
}

// userOutside returns the user that the program is to have, as seen from this process, if that is another one and known.
func userOutside(c *wanted) (uid int, ok bool) {
	n := &c.namespaces
	switch {
	case !c.ids.setUID || n.joins(unix.CLONE_NEWUSER):
		return 0, false
	case n.fresh&unix.CLONE_NEWUSER == 0:
		return c.ids.uid, true
	}
	for _, m := range n.uidMaps {
		if in := c.ids.uid - m.ContainerID; in >= 0 && in < m.Size {
			return m.HostID + in, true
		}
	}
	return 0, false // and the child will not get it
}

// immortal is a thread that never ends, for children that get a signal when the thread that cloned them ends.
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
