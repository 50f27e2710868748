package testkit

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/virspawn/spawn"
	"github.com/virspawn/spawn/internal/descriptor"
	"github.com/virspawn/spawn/internal/process"
	"golang.org/x/sys/unix"
)

// OpenNumbers returns this process's descriptors, without opening one.
func OpenNumbers() (open []int) {
	for fd := range 1024 {
		if descriptor.IsOpen(fd) {
			open = append(open, fd)
		}
	}
	return open
}

// Inode says which file a descriptor refers to.
type Inode struct{ dev, ino uint64 }

// InodeOf returns which file f is.
func InodeOf(t testing.TB, f *os.File) Inode {
	t.Helper()
	var st unix.Stat_t
	require.NoError(t, unix.Fstat(descriptor.Of(f), &st))
	return Inode{uint64(st.Dev), st.Ino}
}

// InodeAt returns which file a path leads to.
func InodeAt(path string) (Inode, error) {
	var st unix.Stat_t
	err := unix.Stat(path, &st)
	return Inode{uint64(st.Dev), st.Ino}, err
}

// Table returns what a live process's descriptors refer to.
func Table(pid int) (map[int]Inode, error) {
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	fds := map[int]Inode{}
	for _, e := range entries {
		n, err := strconv.Atoi(e.Name())
		if err != nil {
			return nil, err
		}
		if fds[n], err = InodeAt(filepath.Join(dir, e.Name())); err != nil {
			return nil, err
		}
	}
	return fds, nil
}

// LiveTable returns what the descriptors of a program that runs refer to.
func LiveTable(t testing.TB, p *spawn.Process) map[int]Inode {
	t.Helper()
	fds, err := Table(p.PID())
	require.NoError(t, err)
	return fds
}

// fifo returns which pipe the caller's end of a stream is.
func fifo(t testing.TB, end any) Inode { return InodeOf(t, end.(*process.End).File) }

// nullInode returns which file /dev/null is.
func nullInode(t testing.TB) Inode {
	t.Helper()
	null, err := InodeAt(os.DevNull)
	require.NoError(t, err)
	return null
}

// Memfd returns a file of its own with the lowest free number from min on.
func Memfd(t testing.TB, name string, min int) *os.File {
	t.Helper()
	f, err := NewMemfd(name, min)
	require.NoError(t, err)
	t.Cleanup(func() { f.Close() })
	return f
}

// NewMemfd is Memfd for a helper, which has no test.
func NewMemfd(name string, min int) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	n, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, min)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(n), name), nil
}

// OpenFlags returns the flags of a descriptor of a live process.
func OpenFlags(t testing.TB, p *spawn.Process, fd int) int {
	t.Helper()
	info := string(ReadProc(t, p.PID(), fmt.Sprintf("fdinfo/%d", fd)))
	m := regexp.MustCompile(`(?m)^flags:\s*([0-7]+)$`).FindStringSubmatch(info)
	require.NotNil(t, m, info)
	flags, err := strconv.ParseInt(m[1], 8, 64)
	require.NoError(t, err)
	return int(flags)
}

// WithStreamsClosed runs a helper for every set of standard streams of its own
// to close.
func WithStreamsClosed(t *testing.T, helper string) {
	t.Setenv("GORACE", "atexit_sleep_ms=0")
	for _, closed := range []string{"0", "1", "2", "01", "02", "12", "012"} {
		t.Run(closed, func(t *testing.T) {
			report := Memfd(t, "report", 3)
			status, err := HelperCommand(t, helper, closed).InheritStdio().PassFDAs(report, 100).RunStatus(context.Background())
			require.NoError(t, err)
			text, err := io.ReadAll(io.NewSectionReader(report, 0, 1<<20))
			require.NoError(t, err)
			require.True(t, status.Success(), "%v: %s", status, text)
		})
	}
}

// CloseStreams closes what the argument names and returns where to report what
// is wrong.
func CloseStreams(args []string) *os.File {
	if r, w, err := os.Pipe(); err == nil {
		// Go's poller must not take the numbers.
		r.Close()
		w.Close()
	}
	for _, n := range args[0] {
		unix.Close(int(n - '0'))
	}
	return os.NewFile(100, "report")
}

// Polled returns what poll(2) says of the file without waiting: which of these
// events there are, and POLLHUP or POLLERR.
func Polled(f *os.File, events int16) int16 {
	fds := []unix.PollFd{{Fd: int32(descriptor.Of(f)), Events: events}}
	_, _ = unix.Poll(fds, 0) // EINTR at worst, and there is nothing
	return fds[0].Revents
}
