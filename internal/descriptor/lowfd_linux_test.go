package descriptor_test

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/virspawn/spawn/internal/descriptor"
	"github.com/virspawn/spawn/internal/testkit"
	"golang.org/x/sys/unix"
)

// The race detector sees it, where a number is lent before all are reserved:
// a start by a helper moves descriptors before it reserves any.
func TestNumbersAreReservedWhileOtherStartsBorrow(t *testing.T) {
	testkit.CheckLeaks(t)
	for range 20 {
		var l descriptor.Numbers
		var fds [8]int
		for i := range fds {
			fd, err := unix.FcntlInt(0, unix.F_DUPFD_CLOEXEC, descriptor.LowLimit)
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
		l.CloseAll()
	}
}
