package spawn

import (
	"os"

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
	if err := setWindowSize(fd, size.rows, size.cols); err != nil {
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
	pl.fds.tty, pl.ptyEnd = pl.fds.keep(end), end
	return nil
}

const ptmx = "/dev/ptmx"
