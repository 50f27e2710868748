package descriptor

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// closeAll gives the block back.
func (l *Numbers) closeAll() {
	for _, fd := range l.free {
		Close(fd)
	}
	if l.free != nil {
		Close(l.base)
	}
}

// openNumbers returns the descriptors of this process that a test may use.
func openNumbers() (open []int) {
	for fd := range 1024 {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil {
			open = append(open, fd)
		}
	}
	return open
}

// The race detector sees it, where a number is lent before all are reserved:
// a start by a helper moves descriptors before it reserves any.
func TestNumbersAreReservedWhileOtherStartsBorrow(t *testing.T) {
	before := openNumbers()
	for range 20 {
		var l Numbers
		var fds [8]int
		for i := range fds {
			fd, err := unix.FcntlInt(0, unix.F_DUPFD_CLOEXEC, lowLimit)
			require.NoError(t, err)
			fds[i] = fd
		}
		var starts sync.WaitGroup
		for i := range fds {
			starts.Add(1)
			go func() {
				defer starts.Done()
				fds[i] = l.Move(fds[i])
				l.Reserve()
				l.Release(fds[i])
			}()
		}
		starts.Wait()
		l.closeAll()
	}
	require.Equal(t, before, openNumbers())
}
