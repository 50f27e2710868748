package spawn

import (
	"os"

	"golang.org/x/sys/unix"
)

// polled returns what poll(2) says of the file without waiting: which of these events there are, and POLLHUP or POLLERR.
func polled(f *os.File, events int16) int16 {
	fds := []unix.PollFd{{Fd: int32(fileNumber(f)), Events: events}}
	_, _ = unix.Poll(fds, 0) // EINTR at worst, and there is nothing
	return fds[0].Revents
}
