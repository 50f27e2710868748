package testkit

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/virspawn/spawn"
	"golang.org/x/sys/unix"
)

// NewCgroup makes a directory of cgroup v2.
func NewCgroup(t testing.TB) string {
	t.Helper()
	NeedsRoot(t, "to make a cgroup")
	for line := range strings.Lines(ReadFile(t, "/proc/self/mountinfo")) {
		before, after, _ := strings.Cut(line, " - ")
		if !strings.HasPrefix(after, "cgroup2 ") {
			continue
		}
		dir, err := os.MkdirTemp(strings.Fields(before)[4], "spawn-test-")
		Needs(t, "a cgroup v2 directory to write to", err, fs.ErrPermission, unix.EROFS)
		t.Cleanup(func() {
			Eventually(t, "the cgroup is empty", func() bool { return os.Remove(dir) == nil })
		})
		return dir
	}
	t.Skip("needs a cgroup v2 file system")
	return ""
}

// OpenTerminal returns the program's side of a new terminal, and its name.
func OpenTerminal(t testing.TB) (*os.File, string) {
	t.Helper()
	NeedsTerminals(t)
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

// SleepFor starts a program that lives until it is killed, and returns it with
// a file that ends when it does.
func SleepFor(t testing.TB, c *spawn.Command) (*spawn.Process, *os.File) {
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

// PassPipe passes the end of a new pipe that the program writes to, for this
// run only, and returns the other end.
func PassPipe(t testing.TB, c *spawn.Command, fd int) *os.File {
	r, w := NewPipe(t)
	c.PassFDAs(w, fd, spawn.CloseParent)
	return r
}

// Grandchild is a script that leaves a process behind, which keeps the standard
// streams. Once there is a line to read from descriptor 3, that process writes
// to both outputs, and says on descriptor 4 that it still lives.
const Grandchild = `echo started >&4; { read x <&3; echo late; echo late >&2; echo alive >&4; } & echo early; exit 3`

// PublicDir returns a new directory that other users may enter.
func PublicDir(t testing.TB) string {
	dir := t.TempDir()
	require.NoError(t, os.Chmod(dir, 0o755))
	require.NoError(t, os.Chmod(filepath.Dir(dir), 0o755))
	return dir
}

// Fail ends a helper.
func Fail(err error) int {
	fmt.Fprintln(os.Stderr, err)
	return 1
}

// Waiting is a command whose program is up when it has written a line, and then
// waits for the end of its standard input. It has no descriptors but those that
// it was given.
func Waiting() *spawn.Command {
	return spawn.New("/bin/sh", "-c", "echo; read x; exit 0").PipeStdin().PipeStdout()
}

// Live starts a command made by Waiting, and returns when the program is up.
func Live(t testing.TB, c *spawn.Command) *spawn.Process {
	t.Helper()
	p, err := StartLive(c)
	require.NoError(t, err)
	return p
}

// StartLive is Live for a helper, which has no test.
func StartLive(c *spawn.Command) (*spawn.Process, error) {
	p, err := c.Start(context.Background())
	if err != nil {
		return nil, err
	}
	_, err = bufio.NewReader(p.Stdout()).ReadString('\n')
	return p, err
}

// Stop ends a process that was started by Live.
func Stop(t testing.TB, p *spawn.Process) {
	t.Helper()
	require.NoError(t, StopLive(p))
}

// StopLive is Stop for a helper, which has no test.
func StopLive(p *spawn.Process) error {
	return errors.Join(p.Stdin().Close(), p.Wait(), p.Stdout().Close())
}

// Rounds returns how often a test tries what goes wrong only now and then.
// It is short with -short, long with SPAWN_TEST_LONG in the environment, as
// .ci/full sets it, and a tenth of long otherwise.
func Rounds(long, short int) int {
	switch {
	case testing.Short():
		return short
	case os.Getenv("SPAWN_TEST_LONG") != "":
		return long
	}
	return max(short, long/10)
}

// Gated starts a command with a handshake and returns when it has stopped at
// its gate.
func Gated(t testing.TB, c *spawn.Command) *spawn.Process {
	t.Helper()
	p, err := c.RequireHandshake().Start(context.Background())
	require.NoError(t, err)
	require.NoError(t, p.HandshakeWait(context.Background()))
	return p
}

// handshakeKinds are the ways in which a child with a handshake is made: in the
// parent's memory, and in a copy of it.
func handshakeKinds() map[string]func(*spawn.Command) *spawn.Command {
	return map[string]func(*spawn.Command) *spawn.Command{
		"shared memory": func(c *spawn.Command) *spawn.Command { return c },
		"own memory":    func(c *spawn.Command) *spawn.Command { return OtherIDs(c) },
	}
}

// Shell returns a command that runs a script with arguments.
func Shell(script string, args ...string) *spawn.Command {
	return spawn.New("/bin/sh", append([]string{"-c", script, "sh"}, args...)...)
}

// DataFile writes data to a file and returns its path.
func DataFile(t testing.TB, data []byte) string {
	path := filepath.Join(t.TempDir(), "data")
	require.NoError(t, os.WriteFile(path, data, 0o644))
	return path
}

// Zeros is a reader without end.
type Zeros struct{}

// Read fills b with zeros.
func (Zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

// Lines collects what Lines yields.
func Lines(c *spawn.Command) (got []string, err error) {
	for line, e := range c.Lines(context.Background()) {
		if e != nil {
			err = e
			got = append(got, "ERROR"+line)
			continue
		}
		got = append(got, line)
	}
	return got, err
}

// Say returns a word for an error.
func Say(err error) string {
	switch {
	case err == nil:
		return "good"
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return "refused"
	}
	return err.Error()
}

// OutputOf returns what the program writes to its standard output.
func OutputOf(t testing.TB, c *spawn.Command) string {
	t.Helper()
	out, err := c.Output(context.Background())
	require.NoError(t, err)
	return string(out)
}

// AllKinds has the name of each kind in /proc/PID/ns.
var AllKinds = map[spawn.Namespace]string{
	spawn.TimeNamespace: "time", spawn.MountNamespace: "mnt", spawn.CgroupNamespace: "cgroup", spawn.UTSNamespace: "uts", spawn.IPCNamespace: "ipc",
	spawn.UserNamespace: "user", spawn.PIDNamespace: "pid", spawn.NetworkNamespace: "net",
}

// WaitingIn starts cat, or what else waits for the end of its input. The
// program is ended with the test, and must then succeed.
func WaitingIn(t testing.TB, c *spawn.Command) *spawn.Process {
	t.Helper()
	p, err := c.PipeStdin().Start(context.Background())
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, p.Stdin().Close())
		require.NoError(t, p.Wait())
	})
	return p
}

// LockedBy returns the process that has locked a file.
func LockedBy(t testing.TB, path string) int {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	require.NoError(t, err)
	defer f.Close()
	lock := unix.Flock_t{Type: unix.F_WRLCK}
	require.NoError(t, unix.FcntlFlock(f.Fd(), unix.F_OFD_GETLK, &lock))
	if lock.Type == unix.F_UNLCK {
		return 0
	}
	return int(lock.Pid)
}

// NewPipe returns a pipe that is closed when the test ends. What hangs in
// a Read fails in the end.
func NewPipe(t testing.TB) (r, w *os.File) {
	r, w, err := os.Pipe()
	require.NoError(t, err)
	require.NoError(t, r.SetReadDeadline(time.Now().Add(time.Minute)))
	t.Cleanup(func() {
		r.Close()
		w.Close()
	})
	return r, w
}

// ReadLine reads up to a line feed, and no further.
func ReadLine(t testing.TB, r io.Reader) string {
	t.Helper()
	var line []byte
	for b := make([]byte, 1); ; {
		_, err := io.ReadFull(r, b)
		require.NoError(t, err, "after %q", line)
		if b[0] == '\n' {
			return string(line)
		}
		line = append(line, b[0])
	}
}

// StartReady starts a script that says on its standard output when it is ready.
func StartReady(t testing.TB, c *spawn.Command) *spawn.Process {
	t.Helper()
	p, err := c.PipeStdout().Start(context.Background())
	require.NoError(t, err)
	t.Cleanup(func() { p.Stdout().Close() })
	require.Equal(t, "ready", ReadLine(t, p.Stdout()))
	return p
}

// Trap is a script that handles a signal, $1, with the commands in $2, and
// waits for it.
const Trap = `trap 'kill $s; '"$2" $1; sleep 1000 </dev/null >/dev/null 2>&1 3>&- 4>&- & s=$!; echo ready; wait $s; exit 99`

// IgnoreTERM is a script that can be ended by SIGKILL only.
const IgnoreTERM = `trap '' TERM; echo ready; exec sleep 1000`

// Allocated returns how many bytes f allocates.
func Allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// Nobody is the uid, and the gid, of an ordinary user without any rights.
const Nobody = 65534

// OtherIDs changes to other ids where this process can, or to its own; both
// count for the dumpable flag.
func OtherIDs(c *spawn.Command) *spawn.Command {
	if os.Geteuid() == 0 {
		return c.SetUID(Nobody).SetGID(Nobody)
	}
	return c.SetUID(os.Getuid()).SetGID(os.Getgid())
}

// InUserNamespace starts a command in a new user namespace, and in other new
// ones, in which this process's ids have the numbers that they have outside.
func InUserNamespace(c *spawn.Command, others ...spawn.Namespace) *spawn.Command {
	uid, gid := os.Geteuid(), os.Getegid()
	return c.SetNamespaces(append(others, spawn.UserNamespace)...).
		SetUIDMap(spawn.IDMap{ContainerID: uid, HostID: uid, Size: 1}).
		SetGIDMap(spawn.IDMap{ContainerID: gid, HostID: gid, Size: 1})
}

// CopySelf copies this test binary, as root's, to where every user can run it
// and a setuid bit counts.
func CopySelf(t *testing.T) string {
	dir, err := os.MkdirTemp("", "spawn")
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	require.NoError(t, os.Chmod(dir, 0o755))
	var fs unix.Statfs_t
	require.NoError(t, unix.Statfs(dir, &fs))
	if fs.Flags&unix.ST_NOSUID != 0 {
		t.Skipf("%s is mounted nosuid", dir)
	}
	if err := spawn.New("/bin/true").SetUID(Nobody).SetGID(Nobody).SetWorkingDirectory(dir).Run(context.Background()); err != nil {
		t.Skipf("other users cannot enter %s: %v", dir, err)
	}
	from, err := os.Open(Self(t))
	require.NoError(t, err)
	defer from.Close()
	to, err := os.Create(filepath.Join(dir, "program"))
	require.NoError(t, err)
	defer to.Close()
	_, err = io.Copy(to, from)
	require.NoError(t, err)
	return to.Name()
}
