package spawn

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// The race detector sees it, where a number is lent before all are reserved: a start by a helper moves descriptors before it reserves any.
func TestNumbersAreReservedWhileOtherStartsBorrow(t *testing.T) {
	checkLeaks(t)
	for range 20 {
		var l lowNumbers
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
				fds[i] = l.move(fds[i])
				l.reserve()
				l.release(fds[i])
			}()
		}
		starts.Wait()
		l.closeAll()
	}
}
