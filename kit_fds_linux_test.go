package spawn

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// waiting is a command whose program is up when it has written a line, and then waits for the end of its standard input. It
// has no descriptors but those that it was given.
func waiting() *Command {
	return New("/bin/sh", "-c", "echo; read x; exit 0").PipeStdin().PipeStdout()
}

// live starts a command made by waiting, and returns when the program is up.
func live(t testing.TB, c *Command) *Process {
	t.Helper()
	p, err := startLive(c)
	require.NoError(t, err)
	return p
}

func startLive(c *Command) (*Process, error) {
	p, err := c.Start(context.Background())
	if err != nil {
		return nil, err
	}
	_, err = bufio.NewReader(p.Stdout()).ReadString('\n')
	return p, err
}

// stop ends a process that was started by live.
func stop(t testing.TB, p *Process) {
	t.Helper()
	require.NoError(t, stopLive(p))
}

func stopLive(p *Process) error {
	return errors.Join(p.Stdin().Close(), p.Wait(), p.Stdout().Close())
}

// readProc reads a file about a process.
func readProc(t testing.TB, pid int, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, name))
	require.NoError(t, err)
	return b
}

// inode says which file a descriptor refers to.
type inode struct{ dev, ino uint64 }

func inodeOf(t testing.TB, f *os.File) inode {
	t.Helper()
	var st unix.Stat_t
	require.NoError(t, unix.Fstat(fileNumber(f), &st))
	return inode{uint64(st.Dev), st.Ino}
}

func inodeAt(path string) (inode, error) {
	var st unix.Stat_t
	err := unix.Stat(path, &st)
	return inode{uint64(st.Dev), st.Ino}, err
}

// table returns what a live process's descriptors refer to.
func table(pid int) (map[int]inode, error) {
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	fds := map[int]inode{}
	for _, e := range entries {
		n, err := strconv.Atoi(e.Name())
		if err != nil {
			return nil, err
		}
		if fds[n], err = inodeAt(filepath.Join(dir, e.Name())); err != nil {
			return nil, err
		}
	}
	return fds, nil
}

func liveTable(t testing.TB, p *Process) map[int]inode {
	t.Helper()
	fds, err := table(p.PID())
	require.NoError(t, err)
	return fds
}

// requireTable starts a command made by waiting and checks that its program has exactly these descriptors, and the
// standard streams.
func requireTable(t testing.TB, c *Command, want map[int]inode) {
	t.Helper()
	p := live(t, c)
	defer stop(t, p)
	got := liveTable(t, p)
	require.Equal(t, fifo(t, p.Stdin()), got[0], "stdin")
	require.Equal(t, fifo(t, p.Stdout()), got[1], "stdout")
	all := map[int]inode{0: got[0], 1: got[1], 2: nullInode(t)}
	maps.Copy(all, want)
	require.Equal(t, all, got)
}

func fifo(t testing.TB, end any) inode { return inodeOf(t, end.(*pipeEnd).File) }

func nullInode(t testing.TB) inode {
	t.Helper()
	null, err := inodeAt(os.DevNull)
	require.NoError(t, err)
	return null
}

// memfd returns a file of its own with the lowest free number from min on.
func memfd(t testing.TB, name string, min int) *os.File {
	t.Helper()
	f, err := newMemfd(name, min)
	require.NoError(t, err)
	t.Cleanup(func() { f.Close() })
	return f
}

func newMemfd(name string, min int) (*os.File, error) {
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

// rounds returns how often a test tries what goes wrong only now and then: short
// with -short, long with SPAWN_TEST_LONG in the environment, as .ci/full sets it,
// and a fifth of long otherwise.
func rounds(long, short int) int {
	switch {
	case testing.Short():
		return short
	case os.Getenv("SPAWN_TEST_LONG") != "":
		return long
	}
	return max(short, long/5)
}

// openFlags returns the flags of a descriptor of a live process.
func openFlags(t testing.TB, p *Process, fd int) int {
	t.Helper()
	info := string(readProc(t, p.PID(), fmt.Sprintf("fdinfo/%d", fd)))
	m := regexp.MustCompile(`(?m)^flags:\s*([0-7]+)$`).FindStringSubmatch(info)
	require.NotNil(t, m, info)
	flags, err := strconv.ParseInt(m[1], 8, 64)
	require.NoError(t, err)
	return int(flags)
}

// withStreamsClosed runs a helper for every set of standard streams of its own to close.
func withStreamsClosed(t *testing.T, helper string) {
	t.Setenv("GORACE", "atexit_sleep_ms=0")
	for _, closed := range []string{"0", "1", "2", "01", "02", "12", "012"} {
		t.Run(closed, func(t *testing.T) {
			report := memfd(t, "report", 3)
			status, err := helperCommand(t, helper, closed).InheritStdio().PassFDAs(report, 100).RunStatus(context.Background())
			require.NoError(t, err)
			text, err := io.ReadAll(io.NewSectionReader(report, 0, 1<<20))
			require.NoError(t, err)
			require.True(t, status.Success(), "%v: %s", status, text)
		})
	}
}

// closeStreams closes what the argument names and returns where to report what is wrong.
func closeStreams(args []string) *os.File {
	if r, w, err := os.Pipe(); err == nil { // Go's poller must not take the numbers
		r.Close()
		w.Close()
	}
	for _, n := range args[0] {
		unix.Close(int(n - '0'))
	}
	return os.NewFile(100, "report")
}
