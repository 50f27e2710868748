package transfer

import (
	"os"
	"sync"
	"time"

	"github.com/virspawn/spawn/internal/descriptor"
	"golang.org/x/sys/unix"
)

// InitPoller makes Go's poller ready, once. The runtime does that by itself
// with the first file that needs it, but ends the process when there is no
// descriptor left for it.
func InitPoller() error {
	poller.mu.Lock()
	defer poller.mu.Unlock()
	if poller.ready {
		return nil
	}
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		return os.NewSyscallError("pipe2(O_CLOEXEC)", err)
	}
	descriptor.SetNonblock(p[0])
	defer descriptor.Close(p[1])
	// What the runtime opens: see that there is room for it.
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		descriptor.Close(p[0])
		return os.NewSyscallError("epoll_create1(EPOLL_CLOEXEC)", err)
	}
	event, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	descriptor.Close(epoll)
	if err != nil {
		descriptor.Close(p[0])
		return os.NewSyscallError("eventfd2(0, EFD_CLOEXEC|EFD_NONBLOCK)", err)
	}
	descriptor.Close(event)
	os.NewFile(uintptr(p[0]), "pipe").Close()
	poller.ready = true
	return nil
}

// pollerWait is how long a wait without Go's poller blocks its thread before it
// looks whether the file was closed.
const pollerWait = PipeWait / 10

// NewPipe makes a file of a pipe's end, which must not block, for Go's poller
// if that takes it.
func NewPipe(fd int, name string) Pipe {
	f := Pipe{File: os.NewFile(uintptr(fd), name)}
	if f.SetDeadline(time.Time{}) != nil {
		f.Await = AwaitBlocked
	}
	return f
}

// AwaitBlocked blocks the thread until there is something to read, or room to
// write, or pollerWait has passed.
func AwaitBlocked(f *os.File, write bool) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	events := int16(unix.POLLIN)
	if write {
		events = unix.POLLOUT
	}
	_ = conn.Control(func(fd uintptr) {
		timeout := unix.NsecToTimespec(int64(pollerWait))
		_, _ = unix.Ppoll([]unix.PollFd{{Fd: int32(fd), Events: events}}, &timeout, nil)
	})
	return nil // if it was closed, the next read will tell
}

var poller struct {
	mu    sync.Mutex
	ready bool // guarded by mu
}
