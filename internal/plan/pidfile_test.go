//go:build linux

package plan_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/virspawn/spawn"
	"github.com/virspawn/spawn/internal/descriptor"
	"github.com/virspawn/spawn/internal/plan"
	"github.com/virspawn/spawn/internal/program"
	"github.com/virspawn/spawn/internal/testkit"
	"golang.org/x/sys/unix"
)

func init() {
	testkit.Helpers["killed-before-rename"] = securityHelper(killBeforeRename)
	testkit.Helpers["pid-file-without-streams"] = pidFileWithoutStreams
	testkit.Helpers["keeps-its-lock"] = keepItsLock
	testkit.Helpers["exec-with-pid-file"] = func(args []string) int {
		return testkit.Fail(spawn.New("/bin/cat").SetPidFile(args[0]).InheritStdio().Exec())
	}
}

func TestThePidFileIsTheChildsAndStaysLocked(t *testing.T) {
	for name, with := range map[string]func(*spawn.Command) *spawn.Command{
		"plain":         func(c *spawn.Command) *spawn.Command { return c },
		"other ids":     func(c *spawn.Command) *spawn.Command { return testkit.OtherIDs(c).SetWorkingDirectory("/") },
		"own memory":    func(c *spawn.Command) *spawn.Command { return c.SetCoredumpFilter(1) },
		"out of memory": func(c *spawn.Command) *spawn.Command { return c.SetOOMScoreAdj(1000) },
		"umask":         func(c *spawn.Command) *spawn.Command { return c.SetUmask(0o777) },
	} {
		t.Run(name, func(t *testing.T) {
			testkit.CheckLeaks(t)
			path := filepath.Join(t.TempDir(), "pid")
			p, err := with(spawn.New("/bin/cat")).PipeStdin().SetPidFile(path).Start(context.Background())
			require.NoError(t, err)
			testkit.RequirePidFile(t, path, p.PID(), p.PID())

			for _, err := range []error{spawn.New("/bin/true").SetPidFile(path).Run(context.Background()), spawn.New("/bin/true").SetPidFile(path).Exec()} {
				var start *spawn.StartError
				require.ErrorAs(t, err, &start)
				require.Equal(t, "pid file "+strconv.Quote(path), start.Op)
				require.ErrorIs(t, err, unix.EAGAIN)
				require.ErrorContains(t, err, fmt.Sprintf(": held by process %d: ", p.PID()))
			}
			testkit.RequirePidFile(t, path, p.PID(), p.PID())

			require.NoError(t, p.Stdin().Close())
			require.NoError(t, p.Wait())
			testkit.RequirePidFile(t, path, p.PID(), 0)

			q, err := with(spawn.New("/bin/cat")).PipeStdin().SetPidFile(path).Start(context.Background())
			require.NoError(t, err, "a stale one is taken over")
			testkit.RequirePidFile(t, path, q.PID(), q.PID())
			require.NoError(t, q.Stdin().Close())
			require.NoError(t, q.Wait())
		})
	}
}

func TestThePidFilesDescriptorTakesNobodysNumber(t *testing.T) {
	testkit.CheckLeaks(t)
	path := filepath.Join(t.TempDir(), "pid")
	a, b := twoSockets(t)
	other := testkit.Memfd(t, "other", 3)
	pass := testkit.Memfd(t, "pass", 7)
	for name, x := range map[string]struct {
		c    *spawn.Command
		want map[int]testkit.Inode // with the pid file's number
		n    int
	}{
		"alone": {testkit.Waiting().SetPidFile(path), map[int]testkit.Inode{}, 3},
		"sockets and files afterwards": {
			testkit.Waiting().SetPidFile(path).AddListenFD(a, "a").AddListenFD(b, "b").PassFDAs(other, 5),
			map[int]testkit.Inode{3: testkit.InodeOf(t, a), 4: testkit.InodeOf(t, b), 5: testkit.InodeOf(t, other)}, 6,
		},
		"a file before":  {testkit.Waiting().PassFDAs(other, 3).SetPidFile(path), map[int]testkit.Inode{3: testkit.InodeOf(t, other)}, 4},
		"a gap":          {testkit.Waiting().PassFDAs(other, 4).SetPidFile(path).PassFDAs(pass, 3), map[int]testkit.Inode{3: testkit.InodeOf(t, pass), 4: testkit.InodeOf(t, other)}, 5},
		"its own number": {passed(testkit.Waiting().SetPidFile(path), pass), map[int]testkit.Inode{descriptor.Of(pass): testkit.InodeOf(t, pass)}, 3},
	} {
		t.Run(name, func(t *testing.T) {
			p := testkit.Live(t, x.c)
			defer testkit.Stop(t, p)
			file, err := testkit.InodeAt(path)
			require.NoError(t, err)
			got := testkit.LiveTable(t, p)
			x.want[x.n] = file
			for n := range 3 {
				delete(got, n)
			}
			require.Equal(t, x.want, got)
			testkit.RequirePidFile(t, path, p.PID(), p.PID())
		})
	}
}

// passed passes a file under its own number.
func passed(c *spawn.Command, f *os.File) *spawn.Command {
	c.PassFD(f)
	return c
}

func TestAProcessWithoutStandardStreamsMakesPidFiles(t *testing.T) {
	testkit.CheckLeaks(t)
	testkit.WithStreamsClosed(t, "pid-file-without-streams")
}

func pidFileWithoutStreams(args []string) int {
	report := testkit.CloseStreams(args)
	dir, err := os.MkdirTemp("", "spawn")
	if err != nil {
		fmt.Fprintln(report, err)
		return 1
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "pid")
	for range 3 { // without and with a stale one
		out, err := spawn.New("/bin/cat", path).SetPidFile(path).Output(context.Background())
		if text, readErr := os.ReadFile(path); err != nil || readErr != nil || len(out) == 0 || string(out) != string(text) {
			fmt.Fprintf(report, "%q %v, %q %v\n", out, err, text, readErr)
			return 1
		}
	}
	return 0
}

func TestThePidIsTheOneThatThisProcessSees(t *testing.T) {
	testkit.NeedsUserNamespaces(t)
	for name, with := range listenKinds() {
		t.Run(name, func(t *testing.T) {
			testkit.CheckLeaks(t)
			path := filepath.Join(t.TempDir(), "pid")
			p := testkit.Live(t, with(t, testkit.Waiting()).SetPidFile(path))
			testkit.RequirePidFile(t, path, p.PID(), p.PID())
			testkit.Stop(t, p)
		})
	}
}

func TestThePidFileIsThereBeforeTheProgramRuns(t *testing.T) {
	testkit.CheckLeaks(t)
	path := filepath.Join(t.TempDir(), "pid")
	p := testkit.Gated(t, spawn.New("/bin/true").SetPidFile(path))
	testkit.RequirePidFile(t, path, p.PID(), p.PID())
	require.NoError(t, p.Abort())
	require.NoFileExists(t, path, "the program never ran")

	p = testkit.Gated(t, spawn.New("/bin/true").SetPidFile(path))
	require.NoError(t, p.HandshakeNotify())
	require.NoError(t, p.Wait())
	testkit.RequirePidFile(t, path, p.PID(), 0)

	out, err := testkit.Shell(`echo $$; cat "$1"`, path).SetPidFile(path).Output(context.Background())
	require.NoError(t, err)
	text := testkit.ReadFile(t, path) + "\n"
	require.Equal(t, text+text, string(out))
}

func TestAPidFileOfAProgramThatCannotStartIsRemoved(t *testing.T) {
	testkit.CheckLeaks(t)
	dir := t.TempDir()
	path := filepath.Join(dir, "pid")
	for _, c := range []*spawn.Command{spawn.New("/nonexistent/program"), spawn.New("/bin/true").SetWorkingDirectory("/nonexistent"), testkit.OtherIDs(spawn.New("/nonexistent/program"))} {
		require.ErrorIs(t, c.SetPidFile(path).Run(context.Background()), os.ErrNotExist)
		require.ErrorIs(t, c.Exec(), os.ErrNotExist)
		entries, err := os.ReadDir(dir)
		require.NoError(t, err)
		require.Empty(t, entries)
	}
	require.NoError(t, os.WriteFile(path, []byte("1\n"), 0o600))
	_, err := spawn.New("/bin/true").SetPidFile(path).Explain()
	require.NoError(t, err)
	require.Equal(t, "1", testkit.ReadFile(t, path))
}

func TestAPidFileThatCannotBeMade(t *testing.T) {
	testkit.CheckLeaks(t)
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
		err := spawn.New("/bin/true").SetPidFile(path).Run(context.Background())
		var start *spawn.StartError
		require.ErrorAs(t, err, &start, path)
		require.Equal(t, "pid file "+strconv.Quote(path), start.Op)
		require.ErrorContains(t, err, want)
	}
	require.EqualError(t, spawn.New("/bin/true").SetPidFile("").Run(context.Background()), `spawn: SetPidFile: "" is not the path of a file`)
	require.EqualError(t, spawn.New("/bin/true").SetPidFile("/run/").Run(context.Background()), `spawn: SetPidFile: "/run/" is not the path of a file`)
	require.ErrorContains(t, spawn.New("/bin/true").SetPidFile("a\x00b").Run(context.Background()), `spawn: SetPidFile: the path "a\x00b" has a NUL byte`)
}

func TestAnotherPathToAPidFileIsTakenAsTheKernelDoes(t *testing.T) {
	testkit.CheckLeaks(t)
	dir := t.TempDir()
	t.Chdir(dir)
	require.NoError(t, os.MkdirAll("real/sub", 0o700))
	require.NoError(t, os.Symlink("real/sub", "link"))
	for given, path := range map[string]string{
		"relative":                         filepath.Join(dir, "relative"),
		"./link/../pid":                    filepath.Join(dir, "real", "pid"),
		dir + "/link/../pid2":              filepath.Join(dir, "real", "pid2"),
		"link/" + strings.Repeat("n", 255): filepath.Join(dir, "real", "sub", strings.Repeat("n", 255)),
	} {
		p, err := spawn.New("/bin/cat").PipeStdin().SetPidFile(given).SetWorkingDirectory("/").Start(context.Background())
		require.NoError(t, err, given)
		require.Equal(t, strconv.Itoa(p.PID()), testkit.ReadFile(t, path))
		require.Equal(t, p.PID(), testkit.LockedBy(t, path))
		require.NoError(t, p.Stdin().Close())
		require.NoError(t, p.Wait())
	}
}

// nobodysPID is no process's: it is above the kernel's limit.
const nobodysPID = 1<<22 + 1

// writeStale makes a stale pid file with this mode.
func writeStale(t testing.TB, path string, pid int, mode os.FileMode) {
	t.Helper()
	require.NoError(t, os.WriteFile(path, fmt.Appendln(nil, pid), 0o600))
	require.NoError(t, os.Chmod(path, mode))
}

// lockAs locks a file for reading or writing, until the test ends or unlock is
// called, by a descriptor that may no more than that.
func lockAs(t testing.TB, path string, kind int16) (unlock func()) {
	t.Helper()
	flags := os.O_RDONLY
	if kind == unix.F_WRLCK {
		flags = os.O_WRONLY
	}
	f, err := os.OpenFile(path, flags, 0)
	require.NoError(t, err)
	require.NoError(t, unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: kind}))
	t.Cleanup(func() { f.Close() })
	return func() { require.NoError(t, f.Close()) }
}

// PWD may lead to the directory over a link that somebody else can exchange.
func TestNoPathIsTakenFromPWD(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(dir+"/real", 0o755))
	require.NoError(t, os.Symlink("real", dir+"/link"))
	t.Chdir(dir + "/real")
	t.Setenv("PWD", dir+"/link")
	wd, err := os.Getwd()
	require.NoError(t, err)
	require.Equal(t, dir+"/link", wd, "os: PWD counts")
	for _, c := range []*spawn.Command{spawn.New("/bin/true").SetPidFile("x"), spawn.New("./x").Daemonize()} {
		text, err := c.ClearEnv().Explain()
		require.NoError(t, err)
		require.Contains(t, text, dir+"/real/")
		require.NotContains(t, text, dir+"/link")
	}
}

// TestALockOfAnotherKindHoldsAPidFile: whoever has it, and whether it can
// be told, if it takes the right to write the file, or nobody else may read it.
func TestALockOfAnotherKindHoldsAPidFile(t *testing.T) {
	testkit.CheckLeaks(t)
	path := filepath.Join(t.TempDir(), "pid")
	for name, x := range map[string]struct {
		pid  int
		mode os.FileMode
		kind int16
	}{
		"private, for reading":                 {nobodysPID, 0o600, unix.F_RDLCK},
		"private, for writing":                 {nobodysPID, 0o600, unix.F_WRLCK},
		"public, for writing":                  {nobodysPID, 0o644, unix.F_WRLCK},
		"public, for reading, of a process":    {os.Getpid(), 0o644, unix.F_RDLCK},
		"of a group, for reading, of somebody": {1, 0o640, unix.F_RDLCK},
	} {
		t.Run(name, func(t *testing.T) {
			writeStale(t, path, x.pid, x.mode)
			unlock := lockAs(t, path, x.kind)
			err := spawn.New("/bin/true").SetPidFile(path).Run(context.Background())
			testkit.RequireNotStarted(t, err, "pid file "+strconv.Quote(path), unix.EAGAIN)
			require.ErrorContains(t, err, ": held by another process: ", "the pid in it says nothing: it may be of a stale one that is being replaced")
			require.Equal(t, strconv.Itoa(x.pid), testkit.ReadFile(t, path))
			entries, err := os.ReadDir(filepath.Dir(path))
			require.NoError(t, err)
			require.Len(t, entries, 1)
			unlock()
			require.NoError(t, spawn.New("/bin/true").SetPidFile(path).Run(context.Background()))
		})
	}
}

func TestAProcessKeepsTheLockOfItsOwnPidFile(t *testing.T) {
	testKeepsItsLock(t, t.TempDir())
}

// TestAProcessKeepsItsLockOnAnyFileSystem: stat(2) and /proc/locks name
// different devices where an overlay has layers of several file systems, and
// on btrfs.
func TestAProcessKeepsItsLockOnAnyFileSystem(t *testing.T) {
	testkit.NeedsRoot(t, "to mount")
	lower, err := os.MkdirTemp("/dev/shm", "spawn")
	testkit.Needs(t, "a second file system", err, fs.ErrNotExist)
	defer os.RemoveAll(lower)
	dir := t.TempDir()
	for _, name := range []string{"upper", "work", "merged"} {
		require.NoError(t, os.Mkdir(filepath.Join(dir, name), 0o755))
	}
	merged := filepath.Join(dir, "merged")
	options := fmt.Sprintf("lowerdir=%s,upperdir=%s/upper,workdir=%s/work", lower, dir, dir)
	testkit.Needs(t, "overlay", unix.Mount("overlay", merged, "overlay", 0, options), unix.ENODEV, unix.EPERM)
	defer func() { require.NoError(t, unix.Unmount(merged, 0)) }()
	testKeepsItsLock(t, merged)
}

func testKeepsItsLock(t *testing.T, dir string) {
	testkit.CheckLeaks(t)
	path := filepath.Join(dir, "pid")
	p := testkit.StartReady(t, testkit.HelperCommand(t, "keeps-its-lock", path).SetPidFile(path).PipeStdin())
	testkit.RequirePidFile(t, path, p.PID(), p.PID())
	require.NoError(t, p.Stdin().Close())
	require.NoError(t, p.Wait())
}

// keepItsLock tries to give a child the pid file that this process has locked.
func keepItsLock(args []string) int {
	for _, err := range []error{spawn.New("/bin/true").SetPidFile(args[0]).Run(context.Background()), spawn.New("/bin/true").SetPidFile(args[0]).Exec()} {
		if want := fmt.Sprintf(": held by process %d: ", os.Getpid()); err == nil || !strings.Contains(err.Error(), want) {
			return testkit.Fail(fmt.Errorf("%w, without %q", err, want))
		}
	}
	fmt.Println("ready")
	_, _ = os.Stdin.Read(make([]byte, 1))
	return 0
}

// TestAChildThatIsKilledBetweenLockAndNameLeavesNoFile: it has died as
// a program can, and this process cannot tell.
func TestAChildThatIsKilledBetweenLockAndNameLeavesNoFile(t *testing.T) {
	testkit.CheckLeaks(t)
	runSecurityHelper(t, "killed-before-rename")
}

func killBeforeRename() error {
	runtime.LockOSThread() // the filter is this thread's and its children's
	listener, err := testkit.NotifyOf(unix.SYS_RENAMEAT2)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "spawn")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "pid")
	for _, stale := range []bool{false, true} {
		if stale {
			if err := os.WriteFile(path, []byte("1\n"), 0o644); err != nil {
				return err
			}
		}
		for _, c := range []*spawn.Command{spawn.New("/bin/true"), spawn.New("/bin/true").SetCoredumpFilter(1)} {
			held := make(chan error, 1)
			go func() {
				err := testkit.Answer(listener, killAndWait)
				if errors.Is(err, unix.ENOENT) {
					// Nobody is there for the answer.
					err = nil
				}
				held <- err
			}()
			status, err := c.SetPidFile(path).RunStatus(context.Background())
			var start *spawn.StartError
			if plan.HelperForced() && errors.As(err, &start) && start.Op == "helper" {
				// The helper has seen that there was no program.
				err, status.Signal = nil, unix.SIGKILL
			}
			if err := errors.Join(err, <-held); err != nil {
				return err
			}
			if status.Signal != unix.SIGKILL {
				return fmt.Errorf("ended with %v", status)
			}
			entries, err := filepath.Glob(dir + "/.*")
			if err != nil || len(entries) > 0 {
				return fmt.Errorf("left: %v, %w", entries, err)
			}
			text, err := os.ReadFile(path)
			if stale != (err == nil) || stale && string(text) != "1\n" {
				return fmt.Errorf("the file: %q, %w", text, err)
			}
		}
	}
	return nil
}

// killAndWait kills a process and returns when it has ended.
func killAndWait(pid int) {
	if pidfd, err := unix.PidfdOpen(pid, 0); err == nil {
		_ = unix.PidfdSendSignal(pidfd, unix.SIGKILL, nil, 0) // it is alive
		_, _ = unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, -1)
		descriptor.Close(pidfd)
	}
}

// TestAPidFileGoesWithTheChildThatWaits: however it ends before its
// program runs.
func TestAPidFileGoesWithTheChildThatWaits(t *testing.T) {
	for name, end := range map[string]func(p *spawn.Process, cancel func()) error{
		"context": func(_ *spawn.Process, cancel func()) error { cancel(); return nil },
		"Abort":   func(p *spawn.Process, _ func()) error { return p.Abort() },
		"Wait":    func(p *spawn.Process, _ func()) error { _ = p.Wait(); return nil },
		"SIGKILL": func(p *spawn.Process, _ func()) error { return p.Signal(unix.SIGKILL) },
	} {
		t.Run(name, func(t *testing.T) {
			testkit.ForEachHandshake(t, func(t *testing.T, with func(*spawn.Command) *spawn.Command) {
				dir := t.TempDir()
				path := filepath.Join(dir, "pid")
				for _, stale := range []bool{false, true} {
					if stale {
						require.NoError(t, os.WriteFile(path, []byte("1\n"), 0o644))
					}
					ctx, cancel := context.WithCancel(context.Background())
					defer cancel()
					p, err := with(spawn.New("/bin/true")).SetPidFile(path).RequireHandshake().Start(ctx)
					require.NoError(t, err)
					require.NoError(t, p.HandshakeWait(context.Background()))
					testkit.RequirePidFile(t, path, p.PID(), p.PID())
					require.NoError(t, end(p, cancel))
					testkit.RequireNeverRan(t, p)
					entries, err := os.ReadDir(dir)
					require.NoError(t, err)
					require.Empty(t, entries)
				}
			})
		})
	}
}

// TestAPidFileThatOthersHaveReplacedIsNotRemoved: a command that fails has no
// right to it any more.
func TestAPidFileThatOthersHaveReplacedIsNotRemoved(t *testing.T) {
	testkit.CheckLeaks(t)
	path := filepath.Join(t.TempDir(), "pid")
	p := testkit.Gated(t, spawn.New("/bin/true").SetPidFile(path))
	require.NoError(t, os.Remove(path))
	q := testkit.Live(t, testkit.Waiting().SetPidFile(path))
	require.NoError(t, p.Abort())
	testkit.RequirePidFile(t, path, q.PID(), q.PID())
	testkit.Stop(t, q)
}

// TestAPidFileThatIsBeingTakenOverIsNotRemoved: who takes it over has locked
// it, and may give it another file's content any moment.
func TestAPidFileThatIsBeingTakenOverIsNotRemoved(t *testing.T) {
	testkit.CheckLeaks(t)
	path := filepath.Join(t.TempDir(), "pid")
	require.NoError(t, os.WriteFile(path, []byte("1\n"), 0o644))
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
	require.NoError(t, err)
	defer descriptor.Close(fd)
	ours := plan.PIDFileAt(path, fd)
	release, _, err := plan.LockStale(path)
	require.NoError(t, err)
	ours.RemoveIfOurs()
	require.FileExists(t, path)
	release()
	ours.RemoveIfOurs()
	require.NoFileExists(t, path)
}

func TestAPidFileInADirectoryThatCannotBeWritten(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root may write everywhere; see the read-only file system")
	}
	testkit.CheckLeaks(t)
	dir := t.TempDir()
	path := filepath.Join(dir, "pid")
	require.NoError(t, os.WriteFile(path, []byte("1\n"), 0o644))
	require.NoError(t, os.Chmod(dir, 0o555))
	op := "pid file " + strconv.Quote(path)
	testkit.RequireNotStarted(t, spawn.New("/bin/true").SetPidFile(path).Run(context.Background()), op, unix.EACCES)
	require.NoError(t, os.Chmod(dir, 0o755))
	require.NoError(t, os.Chmod(path, 0o444))
	testkit.RequireNotStarted(t, spawn.New("/bin/true").SetPidFile(path).Run(context.Background()), op, unix.EACCES)
	require.Equal(t, "1", testkit.ReadFile(t, path))
}

// mountTmpfs mounts a file system with these options, on a directory that
// it returns.
func mountTmpfs(t testing.TB, options string) string {
	dir := t.TempDir()
	testkit.Needs(t, "to mount a file system", unix.Mount("tmpfs", dir, "tmpfs", 0, options), unix.EPERM)
	t.Cleanup(func() { require.NoError(t, unix.Unmount(dir, 0)) })
	return dir
}

func TestAPidFileOnAFullOrReadOnlyFileSystem(t *testing.T) {
	dir := mountTmpfs(t, "size=4k,mode=0777")
	testkit.CheckLeaks(t)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "full"), make([]byte, 4096), 0o600))
	path := filepath.Join(dir, "pid")
	for _, c := range []*spawn.Command{spawn.New("/bin/true"), spawn.New("/bin/true").SetCoredumpFilter(1)} {
		err := c.SetPidFile(path).Run(context.Background())
		testkit.RequireNotStarted(t, err, "pid file "+strconv.Quote(path), unix.ENOSPC)
		entries, readErr := os.ReadDir(dir)
		require.NoError(t, readErr)
		require.Len(t, entries, 1)
	}
	require.NoError(t, unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""))
	testkit.RequireNotStarted(t, spawn.New("/bin/true").SetPidFile(path).Run(context.Background()), "pid file "+strconv.Quote(path), unix.EROFS)
}

// TestOneOfManyGetsThePidFile: whether there is a stale one or none.
func TestOneOfManyGetsThePidFile(t *testing.T) {
	testkit.CheckLeaks(t)
	path := filepath.Join(t.TempDir(), "pid")
	for i := range testkit.Rounds(100, 10) {
		if i%2 == 0 {
			require.NoError(t, os.RemoveAll(path))
		}
		requireOneOfMany(t, path, 0)
	}
}

// requireOneOfMany has several try to start with a pid file. At most one
// succeeds, and at least that many.
func requireOneOfMany(t *testing.T, path string, least int) {
	t.Helper()
	var wg sync.WaitGroup
	var mu sync.Mutex
	var held []*spawn.Process
	for range 8 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			p, err := spawn.New("/bin/cat").PipeStdin().SetPidFile(path).Start(context.Background())
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
	require.GreaterOrEqual(t, len(held), least)
	for _, p := range held {
		testkit.RequirePidFile(t, path, p.PID(), p.PID())
		require.NoError(t, p.Stdin().Close())
		require.NoError(t, p.Wait())
	}
}

func TestExecWritesAPidFile(t *testing.T) {
	testkit.CheckLeaks(t)
	path := filepath.Join(t.TempDir(), "pid")
	p, err := testkit.HelperCommand(t, "exec-with-pid-file", path).PipeStdin().PipeStdout().Start(context.Background())
	require.NoError(t, err)
	_, err = p.Stdin().Write([]byte("x"))
	require.NoError(t, err)
	_, err = p.Stdout().Read(make([]byte, 1)) // now it is cat
	require.NoError(t, err)
	testkit.RequirePidFile(t, path, p.PID(), p.PID())
	require.NoError(t, p.Stdin().Close())
	require.NoError(t, p.Wait())
	require.NoError(t, p.Stdout().Close())
}

// TestAProgramCannotWriteItsPidFile: others signal the pid that is in it.
func TestAProgramCannotWriteItsPidFile(t *testing.T) {
	for name, with := range map[string]func(*spawn.Command) *spawn.Command{
		"plain":         func(c *spawn.Command) *spawn.Command { return c },
		"daemon":        func(c *spawn.Command) *spawn.Command { return c.Daemonize() },
		"helper":        func(c *spawn.Command) *spawn.Command { return testkit.By(c, plan.ChildAndHelper) },
		"forked helper": func(c *spawn.Command) *spawn.Command { return testkit.By(c, plan.ForkedHelper) },
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(testkit.PublicDir(t), "pid")
			r, w := testkit.NewPipe(t)
			// By its descriptor, and by opening that anew.
			c := with(testkit.Shell(`echo 1 >&3; echo 1 >/proc/self/fd/3; echo done >&4`)).SetPidFile(path).PassFDAs(w, 4, spawn.CloseParent)
			confined := os.Geteuid() == 0
			if confined {
				c.SetUID(testkit.Nobody).SetGID(testkit.Nobody).ClearCaps().SetNoNewPrivs()
			} else {
				// its own file it may open
				testkit.Wanted(c).Args[1].Str = `echo 1 >&3; echo done >&4`
			}
			p, err := c.Start(context.Background())
			require.NoError(t, err)
			require.Equal(t, "done\n", testkit.ReadLine(t, r)+"\n")
			require.NoError(t, p.Wait())
			require.Equal(t, strconv.Itoa(p.PID()), testkit.ReadFile(t, path))
		})
	}
}

func TestADescriptorOfAPidFileIsForReadingAndItsLockExcludesWriters(t *testing.T) {
	testkit.CheckLeaks(t)
	path := filepath.Join(t.TempDir(), "pid")
	for name, start := range map[string]func() *spawn.Process{
		"Start": func() *spawn.Process { return testkit.Live(t, testkit.Waiting().SetPidFile(path)) },
		"Exec": func() *spawn.Process {
			p, err := testkit.HelperCommand(t, "exec-with-pid-file", path).PipeStdin().PipeStdout().Start(context.Background())
			require.NoError(t, err)
			_, err = p.Stdin().Write([]byte("\n"))
			require.NoError(t, err)
			require.Equal(t, "", testkit.ReadLine(t, p.Stdout()))
			return p
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := start()
			require.Equal(t, unix.O_RDONLY, testkit.OpenFlags(t, p, 3)&unix.O_ACCMODE)
			testkit.RequirePidFile(t, path, p.PID(), p.PID())
			// As others ask whether the file is taken: one byte, for writing.
			f, err := os.OpenFile(path, os.O_WRONLY, 0)
			require.NoError(t, err)
			defer f.Close()
			lock := unix.Flock_t{Type: unix.F_WRLCK, Len: 1}
			require.ErrorIs(t, unix.FcntlFlock(f.Fd(), unix.F_SETLK, &lock), unix.EAGAIN)
			require.NoError(t, unix.FcntlFlock(f.Fd(), unix.F_GETLK, &lock))
			require.Equal(t, [2]int{unix.F_RDLCK, p.PID()}, [2]int{int(lock.Type), int(lock.Pid)})
			require.NoError(t, p.Stdin().Close())
			require.NoError(t, p.Wait())
			require.NoError(t, p.Stdout().Close())
		})
	}
}

func init() {
	testkit.Helpers["locks-for-reading"] = lockForReading
	testkit.Helpers["starts-with-pid-file"] = func(args []string) int {
		fmt.Println(spawn.New("/bin/true").SetPidFile(args[0]).Run(context.Background()))
		return 0
	}
}

// lockForReading locks a file for reading, as anybody may who can read it.
func lockForReading(args []string) int {
	f, err := os.Open(args[0])
	if err == nil {
		err = unix.FcntlFlock(f.Fd(), unix.F_SETLK, &unix.Flock_t{Type: unix.F_RDLCK})
	}
	fmt.Println(testkit.Say(err))
	_, _ = os.Stdin.Read(make([]byte, 1))
	return 0
}

// stranger starts a process of another user that tries to lock a file for
// reading, and returns it with what came of that.
func stranger(t *testing.T, path string) (*spawn.Process, string) {
	t.Helper()
	program := testkit.CopySelf(t)
	require.NoError(t, os.Chmod(program, 0o755))
	p, err := spawn.New(program, testkit.HelperPrefix+"locks-for-reading", path).SetUID(testkit.Nobody).SetGID(testkit.Nobody).
		PipeStdin().PipeStdout().Start(context.Background())
	require.NoError(t, err)
	said := testkit.ReadLine(t, p.Stdout())
	t.Cleanup(func() {
		require.NoError(t, p.Stdin().Close())
		require.NoError(t, p.Wait())
		require.NoError(t, p.Stdout().Close())
	})
	return p, said
}

// TestAttackByALockOnAPidFile: whoever may only read the file would keep the
// service from starting.
func TestAttackByALockOnAPidFile(t *testing.T) {
	testkit.NeedsRoot(t, "to become another user")
	t.Setenv("GORACE", "atexit_sleep_ms=0")
	dir := testkit.PublicDir(t)

	path := filepath.Join(dir, "stale.pid")
	require.NoError(t, spawn.New("/bin/true").SetPidFile(path).Run(context.Background()))
	_, said := stranger(t, path)
	require.Equal(t, testkit.Say(unix.EACCES), said, "a file of this library")
	require.NoError(t, spawn.New("/bin/true").SetPidFile(path).Run(context.Background()))

	path = filepath.Join(dir, "public.pid")
	writeStale(t, path, nobodysPID, 0o644)
	attacker, said := stranger(t, path)
	require.Equal(t, testkit.Say(nil), said)
	require.Equal(t, attacker.PID(), testkit.LockedBy(t, path), "the attack as such works")
	require.NoError(t, spawn.New("/bin/true").SetPidFile(path).Run(context.Background()))

	// A program that runs is not taken for one that does not.
	path = filepath.Join(dir, "running.pid")
	p := testkit.Live(t, testkit.Waiting().SetPidFile(path))
	require.NoError(t, os.Chmod(path, 0o644))
	_, said = stranger(t, path)
	require.Equal(t, testkit.Say(nil), said)
	err := spawn.New("/bin/true").SetPidFile(path).Run(context.Background())
	require.ErrorIs(t, err, unix.EAGAIN)
	require.ErrorContains(t, err, fmt.Sprintf(": held by process %d: ", p.PID()))
	testkit.Stop(t, p)
	require.NoError(t, spawn.New("/bin/true").SetPidFile(path).Run(context.Background()))
}

func TestOneOfManyGetsAPidFileThatAStrangerHasLocked(t *testing.T) {
	testkit.CheckLeaks(t)
	path := filepath.Join(t.TempDir(), "pid")
	for range testkit.Rounds(50, 5) {
		writeStale(t, path, nobodysPID, 0o644)
		unlock := lockAs(t, path, unix.F_RDLCK)
		require.NoError(t, os.WriteFile(filepath.Join(filepath.Dir(path), ".pid.lock"), nil, 0o600), "left by a start that was killed")
		requireOneOfMany(t, path, 1)
		unlock()
		require.NoError(t, os.Remove(path))
	}
}

// TestTwoReplaceAFileThatAStrangerHasLockedOneAfterTheOther: whether the
// stranger comes or goes meanwhile.
func TestTwoReplaceAFileThatAStrangerHasLockedOneAfterTheOther(t *testing.T) {
	testkit.CheckLeaks(t)
	path := filepath.Join(t.TempDir(), "pid")
	writeStale(t, path, nobodysPID, 0o644)
	unlock := lockAs(t, path, unix.F_RDLCK)
	release, guarded, err := plan.LockStale(path)
	require.NoError(t, err)
	require.True(t, guarded)
	for range 2 {
		_, _, err = plan.LockStale(path)
		require.ErrorIs(t, err, unix.EAGAIN)
		unlock()
		unlock = func() {}
	}
	release()
	release, guarded, err = plan.LockStale(path)
	require.NoError(t, err)
	require.False(t, guarded, "there is no stranger any more")
	_, _, err = plan.LockStale(path)
	require.ErrorIs(t, err, unix.EAGAIN)
	release()
	entries, err := os.ReadDir(filepath.Dir(path))
	require.NoError(t, err)
	require.Len(t, entries, 1)
}

// duringCall calls f on a thread of its own, which is held at each such system
// call, and event once, while it is held at the first one where file is open.
func duringCall(t *testing.T, nr uint32, file string, f func() error, event func(path string)) error {
	t.Helper()
	type listening struct {
		fd  int
		err error
	}
	listener, result := make(chan listening), make(chan error, 1)
	ended, end := testkit.NewPipe(t)
	go func() {
		runtime.LockOSThread() // the filter stays with the thread, which ends
		fd, err := testkit.NotifyOf(nr)
		listener <- listening{fd, err}
		if err == nil {
			result <- f()
		}
		end.Close()
	}()
	l := <-listener
	testkit.Needs(t, "seccomp's notifications", l.err, unix.EINVAL, unix.EBUSY)
	defer unix.Close(l.fd)
	defer ended.Close()
	for happened := false; ; {
		fds := []unix.PollFd{{Fd: int32(l.fd), Events: unix.POLLIN}, {Fd: int32(descriptor.Of(ended)), Events: unix.POLLIN}}
		switch _, err := unix.Poll(fds, -1); {
		case err == unix.EINTR:
		case fds[0].Revents&unix.POLLIN != 0:
			require.NoError(t, testkit.Answer(l.fd, func(int) {
				for _, opened := range testkit.OpenFDs(t) {
					_, path, _ := strings.Cut(opened, " ")
					if is, _ := filepath.Match(file, path); is && !happened {
						happened = true
						event(path)
					}
				}
			}))
		default:
			require.True(t, happened)
			return <-result
		}
	}
}

// replaceFile puts another file in the place of one, as a start does.
func replaceFile(t *testing.T, path string, mode os.FileMode) {
	t.Helper()
	next := path + ".next"
	writeStale(t, next, nobodysPID, mode)
	require.NoError(t, os.Rename(next, path))
}

// TestAStaleFileThatIsReplacedBeforeItIsLockedGivesNoRight: that to replace the
// new one is another's.
func TestAStaleFileThatIsReplacedBeforeItIsLockedGivesNoRight(t *testing.T) {
	testkit.CheckLeaks(t)
	path := filepath.Join(t.TempDir(), "pid")
	writeStale(t, path, nobodysPID, 0o600)
	var release func()
	err := duringCall(t, uint32(program.SysFcntl), path, func() (err error) {
		release, _, err = plan.LockStale(path)
		return err
	}, func(string) { replaceFile(t, path, 0o600) })
	require.NoError(t, err)
	_, _, err = plan.LockStale(path)
	require.ErrorIs(t, err, unix.EAGAIN, "what is there now is locked")
	release()

	var unlock func()
	err = duringCall(t, uint32(program.SysFcntl), path, func() error {
		_, _, err := plan.LockStale(path)
		return err
	}, func(string) {
		replaceFile(t, path, 0o600)
		unlock = lockAs(t, path, unix.F_RDLCK)
	})
	require.ErrorIs(t, err, unix.EAGAIN, "the program of the other start runs")
	unlock()
}

// TestTheSecondFileOfAPublicOneGivesARightOnlyWhereItIs: whoever has had it has
// removed it, and another has made it anew.
func TestTheSecondFileOfAPublicOneGivesARightOnlyWhereItIs(t *testing.T) {
	testkit.CheckLeaks(t)
	path := filepath.Join(t.TempDir(), "pid")
	guard := filepath.Join(filepath.Dir(path), ".pid.lock")
	writeStale(t, path, nobodysPID, 0o644)
	unlock := lockAs(t, path, unix.F_RDLCK)
	defer unlock()

	var unlockGuard func()
	err := duringCall(t, uint32(program.SysFcntl), guard, func() error {
		_, _, err := plan.LockStale(path)
		return err
	}, func(string) {
		replaceFile(t, guard, 0o600)
		unlockGuard = lockAs(t, guard, unix.F_WRLCK)
	})
	require.ErrorIs(t, err, unix.EAGAIN)
	require.FileExists(t, guard)
	unlockGuard()

	release, guarded, err := plan.LockStale(path)
	require.NoError(t, err)
	require.True(t, guarded)
	replaceFile(t, guard, 0o600)
	release()
	require.FileExists(t, guard, "it is another's")
}

// TestAPidFileThatIsReplacedWhileItIsMadeIsAnError: the child would lock, and
// name, what somebody else has put there.
func TestAPidFileThatIsReplacedWhileItIsMadeIsAnError(t *testing.T) {
	testkit.CheckLeaks(t)
	dir := t.TempDir()
	path := filepath.Join(dir, "pid")
	err := duringCall(t, unix.SYS_FCHMOD, filepath.Join(dir, ".pid.*"), func() error {
		return spawn.New("/bin/true").SetPidFile(path).Run(context.Background())
	}, func(made string) { replaceFile(t, made, 0o600) })
	var start *spawn.StartError
	require.ErrorAs(t, err, &start)
	require.Equal(t, "pid file "+strconv.Quote(path), start.Op)
	require.ErrorContains(t, err, ": replaced by another process")
	require.NoFileExists(t, path)
}

// TestALockOfThisProcessOnAnotherFileHoldsNoPidFile: they are on the same
// file system.
func TestALockOfThisProcessOnAnotherFileHoldsNoPidFile(t *testing.T) {
	testkit.CheckLeaks(t)
	dir := t.TempDir()
	other, err := os.Create(filepath.Join(dir, "other"))
	require.NoError(t, err)
	defer other.Close()
	require.NoError(t, unix.FcntlFlock(other.Fd(), unix.F_SETLK, &unix.Flock_t{Type: unix.F_WRLCK}))
	path := filepath.Join(dir, "pid")
	writeStale(t, path, nobodysPID, 0o600)
	require.NoError(t, spawn.New("/bin/true").SetPidFile(path).Run(context.Background()))
}

// TestAPidOfAnotherNamespaceDecidesNothing: the pid in the file may be from
// there too.
func TestAPidOfAnotherNamespaceDecidesNothing(t *testing.T) {
	testkit.NeedsUserNamespaces(t)
	testkit.CheckLeaks(t)
	path := filepath.Join(t.TempDir(), "pid")
	writeStale(t, path, nobodysPID, 0o644)
	start := testkit.HelperCommand(t, "starts-with-pid-file", path).SetNamespaces(spawn.UserNamespace, spawn.PIDNamespace).
		SetUIDMap(spawn.IDMap{HostID: os.Geteuid(), Size: 1}).SetGIDMap(spawn.IDMap{HostID: os.Getegid(), Size: 1})
	outside, err := testkit.HelperCommand(t, "locks-for-reading", path).PipeStdin().PipeStdout().Start(context.Background())
	require.NoError(t, err)
	require.Equal(t, testkit.Say(nil), testkit.ReadLine(t, outside.Stdout()))
	require.Contains(t, testkit.OutputOf(t, start), ": held by another process: ")
	require.NoError(t, outside.Stdin().Close())
	require.NoError(t, outside.Wait())
	require.NoError(t, outside.Stdout().Close())
	require.Equal(t, "<nil>\n", testkit.OutputOf(t, start))
}
