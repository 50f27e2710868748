package spawn

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"

	"github.com/virspawn/spawn/internal/child"
	"golang.org/x/sys/unix"
)

// ownMemory reports whether the child must not share this process's memory, because of what it does to state that belongs to
// the memory, or because the kernel allows it only to a process with memory of its own.
func (c *Command) ownMemory() bool {
	const kinds = UserNamespace | TimeNamespace
	switch a := &c.attrs; {
	case c.executor == forkedHelper:
		return false
	case c.namespaces.fresh&kinds != 0, c.namespaces.joins(kinds):
		return true
	case c.executor != direct: // a helper does the rest when it has memory of its own
		return false
	case a.setCoredumpFilter:
		return true
	case a.setOOMScoreAdj && (c.daemon || c.hasPart()): // which this process cannot do while it waits for the child
		return true
	case c.handshake && (a.setOOMScoreAdj || c.endangersMemory()): // which would hold up this process's threads, or other children
		return true
	case a.setOOMScoreAdj && os.Geteuid() != 0:
		return c.endangersMemory() // while this process is not dumpable, the child's files in /proc are root's
	}
	return false
}

func (pl *plan) checkNamespaces() error {
	n := &pl.cmd.namespaces
	if !pl.cmd.daemon { // which gets them when it is forked
		pl.options.Namespaces = uint64(n.fresh)
	}
	pl.options.OwnMemory = pl.cmd.ownMemory()
	if pl.cmd.executor == forkedHelper && n.joins(UserNamespace|TimeNamespace) {
		return &badCall{"JoinNamespace", fmt.Errorf("no child can be cloned here, and a helper has threads, which may not join a user or time namespace: %w", errors.ErrUnsupported)}
	}
	for _, j := range n.joined {
		fd, err := dupFile(j.file)
		if err != nil {
			return &StartError{Op: "JoinNamespace", Path: pl.path, Err: err}
		}
		pl.childEnds = append(pl.childEnds, fd)
		switch {
		case j.kind != PIDNamespace:
			pl.joined = append(pl.joined, keptNamespace{j.kind, pl.fds.keep(fd)})
		case pl.cmd.daemon:
			pl.daemonPIDNS = pl.fds.keep(fd)
		default:
			pl.joinedPID = fd
		}
	}
	return nil
}

// keptNamespace is a namespace to join, by its place in placement.kept.
type keptNamespace struct {
	kind Namespace
	kept int
}

// dupFile returns a descriptor of this package's for what f has open.
func dupFile(f *os.File) (fd int, err error) {
	conn, err := f.SyscallConn()
	if err != nil {
		return -1, err
	}
	var dupErr error
	if conn.Control(func(n uintptr) { fd, dupErr = unix.FcntlInt(n, unix.F_DUPFD_CLOEXEC, stderr+1) }) != nil {
		return -1, os.ErrClosed
	}
	if dupErr != nil {
		return -1, dupErr
	}
	return low.move(fd), nil
}

// joinNamespaces comes after the descriptors have their numbers.
func (pl *plan) joinNamespaces() {
	if pl.cmd.executor == forkedHelper && pl.cmd.namespaces.joins(MountNamespace) { // which a process may whose directory and root no thread shares
		pl.prog.Add(unix.SYS_UNSHARE, unix.CLONE_FS)
	}
	for _, j := range pl.joined {
		pl.prog.Add(unix.SYS_SETNS, pl.fds.keptFD(j.kept), uintptr(j.kind))
	}
	if pl.cmd.namespaces.fresh&MountNamespace != 0 {
		pl.prog.Add(unix.SYS_MOUNT, 0, pl.prog.CString("/"), 0, unix.MS_REC|unix.MS_SLAVE, 0)
	}
}

// startChild clones the child.
func (pl *plan) startChild() (ch child.Child, err error) {
	start := func() {
		if pl.cmd.executor == forkedHelper {
			ch, err = pl.forkHelper()
			return
		}
		c, failure := child.Start(pl.prog, pl.options)
		ch, err = c, nil
		if failure != nil {
			err = &StartError{Op: failure.Call, Path: pl.path, Err: failure.Errno}
			if pl.isRefusal(failure.Errno) {
				err = refused{err}
			}
		}
	}
	place := func(f func()) { f() }
	switch {
	case pl.joinedPID >= 0:
		place = func(f func()) {
			if joinErr := pl.inPIDNamespace(f, &ch); joinErr != nil {
				err = joinErr
			}
		}
	case pl.cmd.attrs.deathSignal != 0:
		place = onImmortalThread
	}
	// The copy of the memory gets the flag as it is, and without the flag the child's files in /proc are root's. Not where that does not
	// matter: nobody else may wait for a CLONE_VFORK.
	if pl.options.OwnMemory || pl.options.VFork && os.Geteuid() != 0 {
		dumpable.outside(func() { place(start) })
	} else {
		place(start)
	}
	return ch, err
}

// inPIDNamespace calls start on a thread whose children are born in the pid namespace that the command joins. That stays so, and
// therefore the thread ends; but a signal for the end of the parent would come with the end of the thread, so where the child wants
// that one, the thread waits for its end.
func (pl *plan) inPIDNamespace(start func(), ch *child.Child) error {
	result := make(chan error)
	go func() {
		runtime.LockOSThread() // without an unlock, the thread ends with the goroutine
		if err := unix.Setns(pl.joinedPID, unix.CLONE_NEWPID); err != nil {
			result <- &StartError{Op: "setns(" + strconv.Itoa(pl.joinedPID) + ", CLONE_NEWPID)", Path: pl.path, Err: err}
			return
		}
		start()
		pid := ch.PID
		var pidfd int
		var err error
		if pid > 0 && pl.cmd.attrs.deathSignal != 0 {
			pidfd, err = unix.FcntlInt(uintptr(ch.PIDFD), unix.F_DUPFD_CLOEXEC, stderr+1)
		}
		result <- nil
		if pidfd > 0 && err == nil {
			waitEnd(pidfd)
			closeFD(pidfd)
		}
	}()
	return <-result
}

// waitEnd blocks the thread until a process has ended.
func waitEnd(pidfd int) {
	fds := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
	for fds[0].Revents == 0 {
		if _, err := unix.Ppoll(fds, nil, nil); err != nil && err != unix.EINTR {
			return
		}
	}
}

// writeMaps writes the maps of the child's user namespace.
func (pl *plan) writeMaps(pid int) error {
	n := &pl.cmd.namespaces
	proc := "/proc/" + strconv.Itoa(pid) + "/"
	files := []struct{ name, text string }{
		{"uid_map", mapText(n.uidMaps)},
		{"setgroups", ""},
		{"gid_map", mapText(n.gidMaps)},
	}
	if len(n.gidMaps) > 0 && n.deniesSetgroups() {
		files[1].text = "deny"
	}
	for _, f := range files {
		if f.text == "" {
			continue
		}
		if err := writeOnce(proc+f.name, f.text); err != nil {
			return &StartError{Op: "write " + strconv.Quote(f.text) + " to " + proc + f.name, Path: pl.path, Err: err}
		}
	}
	return nil
}

// deniesSetgroups reports whether groups cannot be set in the new user namespace.
func (n *namespaces) deniesSetgroups() bool {
	return n.fresh&UserNamespace != 0 && os.Geteuid() != 0
}

// writeOnce writes to a file of /proc, which takes all in one write or nothing.
func writeOnce(path, text string) error {
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer closeFD(fd)
	_, err = unix.Write(fd, []byte(text))
	return err
}
