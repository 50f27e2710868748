package spawn

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func init() {
	helpers["exec-with-pid-file"] = func(args []string) int { return fail(New("/bin/cat").SetPidFile(args[0]).InheritStdio().Exec()) }
}

// requirePidFile checks a pid file and who holds it; 0 is nobody.
func requirePidFile(t testing.TB, path string, pid, holder int) {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, fmt.Sprintln(pid), string(text))
	info, err := os.Lstat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o644), info.Mode())
	require.Equal(t, holder, lockedBy(t, path))
	entries, err := os.ReadDir(filepath.Dir(path))
	require.NoError(t, err)
	require.Len(t, entries, 1, "a temporary file is left")
}

// lockedBy returns the process that has locked a file.
func lockedBy(t testing.TB, path string) int {
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

func TestThePidFileIsTheChildsAndStaysLocked(t *testing.T) {
	for name, with := range map[string]func(*Command) *Command{
		"plain":         func(c *Command) *Command { return c },
		"other ids":     func(c *Command) *Command { return otherIDs(c).SetWorkingDirectory("/") },
		"own memory":    func(c *Command) *Command { return c.SetCoredumpFilter(1) },
		"out of memory": func(c *Command) *Command { return c.SetOOMScoreAdj(1000) },
		"umask":         func(c *Command) *Command { return c.SetUmask(0o777) },
	} {
		t.Run(name, func(t *testing.T) {
			checkLeaks(t)
			path := filepath.Join(t.TempDir(), "pid")
			p, err := with(New("/bin/cat")).PipeStdin().SetPidFile(path).Start(context.Background())
			require.NoError(t, err)
			requirePidFile(t, path, p.PID(), p.PID())

			for _, err := range []error{New("/bin/true").SetPidFile(path).Run(context.Background()), New("/bin/true").SetPidFile(path).Exec()} {
				var start *StartError
				require.ErrorAs(t, err, &start)
				require.Equal(t, "pid file "+strconv.Quote(path), start.Op)
				require.ErrorIs(t, err, unix.EAGAIN)
				require.ErrorContains(t, err, fmt.Sprintf(": held by process %d: ", p.PID()))
			}
			requirePidFile(t, path, p.PID(), p.PID())

			require.NoError(t, p.Stdin().Close())
			require.NoError(t, p.Wait())
			requirePidFile(t, path, p.PID(), 0)

			q, err := with(New("/bin/cat")).PipeStdin().SetPidFile(path).Start(context.Background())
			require.NoError(t, err, "a stale one is taken over")
			requirePidFile(t, path, q.PID(), q.PID())
			require.NoError(t, q.Stdin().Close())
			require.NoError(t, q.Wait())
		})
	}
}

func TestThePidFileIsThereBeforeTheProgramRuns(t *testing.T) {
	checkLeaks(t)
	path := filepath.Join(t.TempDir(), "pid")
	p := gated(t, New("/bin/true").SetPidFile(path))
	requirePidFile(t, path, p.PID(), p.PID())
	require.NoError(t, p.Abort())
	require.NoFileExists(t, path, "the program never ran")

	p = gated(t, New("/bin/true").SetPidFile(path))
	require.NoError(t, p.HandshakeNotify())
	require.NoError(t, p.Wait())
	requirePidFile(t, path, p.PID(), 0)

	out, err := shell(`echo $$; cat "$1"`, path).SetPidFile(path).Output(context.Background())
	require.NoError(t, err)
	text := readFile(t, path) + "\n"
	require.Equal(t, text+text, string(out))
}

func TestAPidFileOfAProgramThatCannotStartIsRemoved(t *testing.T) {
	checkLeaks(t)
	dir := t.TempDir()
	path := filepath.Join(dir, "pid")
	for _, c := range []*Command{New("/nonexistent/program"), New("/bin/true").SetWorkingDirectory("/nonexistent"), otherIDs(New("/nonexistent/program"))} {
		require.ErrorIs(t, c.SetPidFile(path).Run(context.Background()), os.ErrNotExist)
		require.ErrorIs(t, c.Exec(), os.ErrNotExist)
		entries, err := os.ReadDir(dir)
		require.NoError(t, err)
		require.Empty(t, entries)
	}
	require.NoError(t, os.WriteFile(path, []byte("1\n"), 0o600))
	_, err := New("/bin/true").SetPidFile(path).Explain()
	require.NoError(t, err)
	require.Equal(t, "1", readFile(t, path))
}

func TestAPidFileThatCannotBeMade(t *testing.T) {
	checkLeaks(t)
	dir := t.TempDir()
	link := filepath.Join(dir, "link")
	require.NoError(t, os.WriteFile(filepath.Join(dir, "target"), nil, 0o600))
	require.NoError(t, os.Symlink("target", link))
	fifo := filepath.Join(dir, "fifo")
	require.NoError(t, unix.Mkfifo(fifo, 0o600))
	for path, want := range map[string]string{
		"/nonexistent/pid":         "create /nonexistent/.pid.",
		"/proc/pid":                "create /proc/.pid.",
		dir:                        "is a directory",
		link:                       "too many levels of symbolic links",
		fifo:                       "not a regular file",
		"/dev/null":                "not a regular file",
		filepath.Join(link, "pid"): "not a directory",
	} {
		err := New("/bin/true").SetPidFile(path).Run(context.Background())
		var start *StartError
		require.ErrorAs(t, err, &start, path)
		require.Equal(t, "pid file "+strconv.Quote(path), start.Op)
		require.ErrorContains(t, err, want)
	}
	require.EqualError(t, New("/bin/true").SetPidFile("").Run(context.Background()), `spawn: SetPidFile: "" is not the path of a file`)
	require.EqualError(t, New("/bin/true").SetPidFile("/run/").Run(context.Background()), `spawn: SetPidFile: "/run/" is not the path of a file`)
	require.ErrorContains(t, New("/bin/true").SetPidFile("a\x00b").Run(context.Background()), `spawn: SetPidFile: the path "a\x00b" has a NUL byte`)
}

// mountTmpfs mounts a file system with these options, on a directory that it returns.
func mountTmpfs(t testing.TB, options string) string {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, options); err != nil {
		t.Skip("a file system cannot be mounted here: ", err)
	}
	t.Cleanup(func() { require.NoError(t, unix.Unmount(dir, 0)) })
	return dir
}

func TestAPidFileOnAFullOrReadOnlyFileSystem(t *testing.T) {
	dir := mountTmpfs(t, "size=4k,mode=0777")
	checkLeaks(t)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "full"), make([]byte, 4096), 0o600))
	path := filepath.Join(dir, "pid")
	for _, c := range []*Command{New("/bin/true"), New("/bin/true").SetCoredumpFilter(1)} {
		err := c.SetPidFile(path).Run(context.Background())
		requireNotStarted(t, err, "pid file "+strconv.Quote(path), unix.ENOSPC)
		entries, readErr := os.ReadDir(dir)
		require.NoError(t, readErr)
		require.Len(t, entries, 1)
	}
	require.NoError(t, unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""))
	requireNotStarted(t, New("/bin/true").SetPidFile(path).Run(context.Background()), "pid file "+strconv.Quote(path), unix.EROFS)
}

// TestOneOfManyGetsThePidFile: whether there is a stale one or none.
func TestOneOfManyGetsThePidFile(t *testing.T) {
	checkLeaks(t)
	path := filepath.Join(t.TempDir(), "pid")
	for i := range rounds(100, 10) {
		if i%2 == 0 {
			require.NoError(t, os.RemoveAll(path))
		}
		var wg sync.WaitGroup
		var mu sync.Mutex
		var held []*Process
		for range 8 {
			wg.Add(1)
			go func() {
				defer wg.Done()
				p, err := New("/bin/cat").PipeStdin().SetPidFile(path).Start(context.Background())
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					held = append(held, p)
				} else if !errors.Is(err, unix.EAGAIN) {
					t.Error(err)
				}
			}()
		}
		wg.Wait()
		require.LessOrEqual(t, len(held), 1)
		for _, p := range held {
			requirePidFile(t, path, p.PID(), p.PID())
			require.NoError(t, p.Stdin().Close())
			require.NoError(t, p.Wait())
		}
	}
}

func TestExecWritesAPidFile(t *testing.T) {
	checkLeaks(t)
	path := filepath.Join(t.TempDir(), "pid")
	p, err := helperCommand(t, "exec-with-pid-file", path).PipeStdin().PipeStdout().Start(context.Background())
	require.NoError(t, err)
	_, err = p.Stdin().Write([]byte("x"))
	require.NoError(t, err)
	_, err = p.Stdout().Read(make([]byte, 1)) // now it is cat
	require.NoError(t, err)
	requirePidFile(t, path, p.PID(), p.PID())
	require.NoError(t, p.Stdin().Close())
	require.NoError(t, p.Wait())
	require.NoError(t, p.Stdout().Close())
}
