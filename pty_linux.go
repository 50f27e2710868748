package spawn

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// openPTY opens both ends of the terminal, the program's for its session and its streams.
func (pl *plan) openPTY() error {
	size := pl.cmd.attrs.pty
	if size == nil {
		return nil
	}
	// Without O_NOCTTY the end for the program would become this process's terminal, where it has none.
	const flags = unix.O_RDWR | unix.O_NOCTTY | unix.O_CLOEXEC
	fd, err := unix.Open(ptmx, flags|unix.O_NONBLOCK, 0)
	if err == nil {
		fd, err = aboveStreams(fd)
	}
	if err != nil {
		return pl.failed(os.NewSyscallError("open("+ptmx+")", err))
	}
	pl.pty = newPipeFile(fd, ptmx)
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		return pl.failed(os.NewSyscallError("ioctl(TIOCSPTLCK)", err))
	}
	if err := setWindowSize(fd, *size); err != nil {
		return pl.failed(os.NewSyscallError("ioctl(TIOCSWINSZ)", err))
	}
	// Not by name: that may be another terminal's where /dev/pts is another mount than /dev/ptmx.
	n, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.TIOCGPTPEER, flags)
	if errno != 0 {
		return pl.failed(os.NewSyscallError("ioctl(TIOCGPTPEER)", errno))
	}
	end, err := aboveStreams(int(n))
	if err != nil {
		return pl.failed(err)
	}
	end = low.move(end)
	pl.childEnds = append(pl.childEnds, end)
	pl.tty, pl.ptyEnd = pl.fds.keep(end), end
	return nil
}

// ownPTY gives the terminal to the program's user. It comes when there is to be a child, and not where it is only explained.
func (pl *plan) ownPTY() error {
	if pl.pty.File == nil {
		return nil
	}
	if uid, ok := pl.cmd.userOutside(); ok && uid != os.Geteuid() {
		if err := unix.Fchown(pl.ptyEnd, uid, -1); err != nil {
			return pl.failed(os.NewSyscallError("fchown("+strconv.Itoa(pl.ptyEnd)+", "+strconv.Itoa(uid)+", -1)", err))
		}
	}
	return nil
}

const ptmx = "/dev/ptmx"

// newTerminal makes what the caller gets of this process's end. done is closed when the program has ended.
func newTerminal(f pipeFile, done <-chan struct{}) *terminal {
	t := &terminal{in: f, out: f, done: done}
	if f.await != nil { // then no deadline ends a Write
		t.in.await = func(f *os.File, write bool) error {
			if isClosed(done) {
				return os.ErrDeadlineExceeded
			}
			return awaitBlocked(f, write)
		}
	}
	return t
}

// userOutside returns the user that the program is to have, as seen from this process, if that is another one and known.
func (c *Command) userOutside() (uid int, ok bool) {
	n := &c.namespaces
	switch {
	case !c.ids.setUID || n.joins(UserNamespace):
		return 0, false
	case n.fresh&UserNamespace == 0:
		return c.ids.uid, true
	}
	for _, m := range n.uidMaps {
		if in := c.ids.uid - m.ContainerID; in >= 0 && in < m.Size {
			return m.HostID + in, true
		}
	}
	return 0, false // and the child will not get it
}

func setWindowSize(fd int, size ptySize) error {
	return unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: size.rows, Col: size.cols})
}
