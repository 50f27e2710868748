package spawn

import (
	"context"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// newCgroup makes a directory of cgroup v2.
func newCgroup(t testing.TB) string {
	t.Helper()
	needRoot(t, "to make a cgroup")
	for line := range strings.Lines(readFile(t, "/proc/self/mountinfo")) {
		before, after, _ := strings.Cut(line, " - ")
		if !strings.HasPrefix(after, "cgroup2 ") {
			continue
		}
		dir, err := os.MkdirTemp(strings.Fields(before)[4], "spawn-test-")
		needs(t, "a cgroup v2 directory to write to", err, fs.ErrPermission, unix.EROFS)
		t.Cleanup(func() {
			eventually(t, "the cgroup is empty", func() bool { return os.Remove(dir) == nil })
		})
		return dir
	}
	t.Skip("needs a cgroup v2 file system")
	return ""
}

// openTerminal returns the program's side of a new terminal, and its name.
func openTerminal(t testing.TB) (*os.File, string) {
	t.Helper()
	needTerminals(t)
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	require.NoError(t, err)
	t.Cleanup(func() { master.Close() })
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	require.NoError(t, err)
	require.NoError(t, unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0))
	name := "/dev/pts/" + strconv.Itoa(n)
	f, err := os.OpenFile(name, os.O_RDWR|unix.O_NOCTTY, 0)
	require.NoError(t, err)
	return f, name
}

// sleepFor starts a program that lives until it is killed, and returns it with a file that ends when it does.
func sleepFor(t testing.TB, c *Command) (*Process, *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	require.NoError(t, err)
	t.Cleanup(func() { r.Close() })
	c.PassFDAs(w, 3)
	p, err := c.Start(context.Background())
	require.NoError(t, err)
	require.NoError(t, w.Close())
	return p, r
}

// procText returns a file of a process's in /proc.
func procText(t testing.TB, p *Process, name string) string {
	t.Helper()
	return readFile(t, "/proc/"+strconv.Itoa(p.PID())+"/"+name)
}

func readFile(t testing.TB, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	return strings.TrimSpace(string(b))
}
