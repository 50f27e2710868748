//go:build linux

package plan

import (
	"os"

	"github.com/virspawn/spawn/internal/descriptor"
	"github.com/virspawn/spawn/internal/transfer"
	"golang.org/x/sys/unix"
)

// openPTY opens both ends of the terminal, the program's for its session and
// its streams.
func (pl *Plan) openPTY() error {
	size := pl.Command.Attributes.PTY
	if size == nil {
		return nil
	}
	// Without O_NOCTTY the end for the program would become the parent's
	// terminal, where it has none.
	const flags = unix.O_RDWR | unix.O_NOCTTY | unix.O_CLOEXEC
	fd, err := unix.Open(ptmx, flags|unix.O_NONBLOCK, 0)
	if err == nil {
		fd, err = descriptor.AboveStreams(fd)
	}
	if err != nil {
		return pl.Failed(os.NewSyscallError("open("+ptmx+")", err))
	}
	pl.PTY = transfer.NewPipe(fd, ptmx)
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		return pl.Failed(os.NewSyscallError("ioctl(TIOCSPTLCK)", err))
	}
	if err := descriptor.SetWindowSize(fd, size.Rows, size.Cols); err != nil {
		return pl.Failed(os.NewSyscallError("ioctl(TIOCSWINSZ)", err))
	}
	// Not by name: that may be another terminal's where /dev/pts is another
	// mount than /dev/ptmx.
	n, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.TIOCGPTPEER, flags)
	if errno != 0 {
		return pl.Failed(os.NewSyscallError("ioctl(TIOCGPTPEER)", errno))
	}
	if pl.PTYEnd, pl.fds.tty, err = pl.keepNew(int(n), nil); err != nil {
		return pl.Failed(err)
	}
	return nil
}

const ptmx = "/dev/ptmx"
