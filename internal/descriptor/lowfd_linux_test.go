package descriptor

import (
	"os"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// checkNumbers makes the test fail when it leaves descriptors behind.
func checkNumbers(t *testing.T) {
	t.Helper()
	before := openNumbers()
	t.Cleanup(func() { require.Equal(t, before, openNumbers()) })
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

// closeAll gives the block back.
func (l *Numbers) closeAll() {
	for _, fd := range l.free {
		if l.holds(fd) {
			Close(fd)
		}
	}
	if l.free != nil && l.holds(l.base) {
		Close(l.base)
	}
}

// lendable returns the numbers that can be lent, the next one first.
func (l *Numbers) lendable() (free []int) {
	for i := len(l.free) - 1; i >= 0; i-- {
		free = append(free, l.free[i])
	}
	return free
}

// The race detector sees it, where a number is lent before all are reserved:
// a start by a helper moves descriptors before it reserves any.
func TestNumbersAreReservedWhileOtherStartsBorrow(t *testing.T) {
	checkNumbers(t)
	for range 20 {
		var l Numbers
		var fds [8]int
		for i := range fds {
			fds[i] = high(t, 0)
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
}

// high returns a descriptor for what fd has open, with a number that is
// not low.
func high(t testing.TB, fd int) int {
	t.Helper()
	n, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, lowLimit)
	require.NoError(t, err)
	return n
}

// reserved returns a block of its own.
func reserved(t *testing.T) *Numbers {
	t.Helper()
	checkNumbers(t)
	l := new(Numbers)
	l.Reserve()
	require.Len(t, l.lendable(), 16)
	t.Cleanup(l.closeAll)
	return l
}

// inode returns what a number has open.
func inode(t testing.TB, fd int) uint64 {
	t.Helper()
	var st unix.Stat_t
	require.NoError(t, unix.Fstat(fd, &st))
	return st.Ino
}

// takeOver puts a file of its own under a number until the test ends, and
// returns which.
func takeOver(t *testing.T, n int) uint64 {
	t.Helper()
	fd, err := unix.MemfdCreate("other code's", unix.MFD_CLOEXEC)
	require.NoError(t, err)
	require.NoError(t, unix.Dup3(fd, n, unix.O_CLOEXEC))
	require.NoError(t, unix.Close(fd))
	t.Cleanup(func() { Close(n) })
	return inode(t, n)
}

// lend lends a number of the block.
func lend(t *testing.T, l *Numbers) int {
	t.Helper()
	n := l.Move(high(t, 0))
	require.Less(t, n, lowLimit)
	return n
}

func TestWhatHoldsTheNumbersIsNowhereAndCanDoNothing(t *testing.T) {
	l := reserved(t)
	for _, n := range append(l.lendable(), l.base) {
		require.ErrorIs(t, unix.Fchdir(n), unix.ENOTDIR)
		_, err := unix.Openat(n, "proc", unix.O_PATH|unix.O_CLOEXEC, 0)
		require.ErrorIs(t, err, unix.ENOTDIR)
		var b [1]byte
		_, err = unix.Write(n, b[:])
		require.ErrorIs(t, err, unix.EBADF)
		got, err := unix.Read(n, b[:])
		require.NoError(t, err)
		require.Zero(t, got)
		flags, err := unix.FcntlInt(uintptr(n), unix.F_GETFD, 0)
		require.NoError(t, err)
		require.Equal(t, unix.FD_CLOEXEC, flags)
	}
}

func TestANumberThatOtherCodeHasTakenOverIsNotLent(t *testing.T) {
	l := reserved(t)
	free := l.lendable()
	first := takeOver(t, free[0])
	Close(free[1])
	n := lend(t, l)
	require.Equal(t, free[2], n)
	require.Equal(t, first, inode(t, free[0]))
	require.False(t, IsOpen(free[1]))
	l.Release(n)
	require.Equal(t, free[2:], l.lendable())
}

func TestANumberThatOtherCodeHasTakenOverWhileItWasLentStaysItsOwn(t *testing.T) {
	l := reserved(t)
	taken, closed := lend(t, l), lend(t, l)
	theirs := takeOver(t, taken)
	Close(closed)
	free := l.lendable()
	l.Release(taken)
	l.Release(closed)
	require.Equal(t, theirs, inode(t, taken))
	require.False(t, IsOpen(closed))
	require.Equal(t, free, l.lendable())
}

// The number that the others are refilled from may be gone too. Another one
// stands in for it.
func TestTheBlockOutlivesItsBase(t *testing.T) {
	for name, gone := range map[string]func(*testing.T, int){
		"taken over": func(t *testing.T, base int) { takeOver(t, base) },
		"closed":     func(_ *testing.T, base int) { Close(base) },
	} {
		t.Run(name, func(t *testing.T) {
			l := reserved(t)
			base, held := l.base, inode(t, l.base)
			n := lend(t, l)
			gone(t, base)
			l.Release(n)
			require.Equal(t, held, inode(t, n), "held by what has always held it, and not by other code's file")
			require.Len(t, l.lendable(), 15)
			require.NotContains(t, l.lendable(), base)
			require.NotContains(t, l.lendable(), l.base)
		})
	}
}

func TestALibraryWithoutItsBlockWorksWithout(t *testing.T) {
	l := reserved(t)
	n := lend(t, l)
	for _, fd := range append(l.lendable(), l.base) {
		Close(fd)
	}
	l.Release(n)
	require.False(t, IsOpen(n))
	fd := high(t, 0)
	require.Equal(t, fd, l.Move(fd))
	l.Release(fd)
	require.False(t, IsOpen(fd))
	require.Empty(t, l.lendable())
}

func TestOpenNamesTheFile(t *testing.T) {
	checkNumbers(t)
	fd, err := Open("/nonexistent/a\n", unix.O_RDONLY)
	require.Equal(t, -1, fd)
	require.EqualError(t, err, `open("/nonexistent/a\n"): no such file or directory`)
	require.ErrorIs(t, err, os.ErrNotExist)
}
