package spawn_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/virspawn/spawn"
	"github.com/virspawn/spawn/internal/descriptor"
	"github.com/virspawn/spawn/internal/plan"
	"github.com/virspawn/spawn/internal/testkit"
	"golang.org/x/sys/unix"
)

func init() {
	testkit.Helpers["fds-exec"] = execWithDescriptors
	testkit.Helpers["fds-no-streams"] = startWithoutStreams
	testkit.Helpers["fds-inherit-closed"] = inheritClosedStreams
	testkit.Helpers["fds-lock-owner"] = printLockOwner
}

// openMany opens n descriptors, every other one without close-on-exec.
func openMany(t testing.TB, n int) {
	t.Helper()
	for i := range n {
		fd, err := unix.Open(os.DevNull, unix.O_RDWR|i%2*unix.O_CLOEXEC, 0)
		require.NoError(t, err)
		t.Cleanup(func() { unix.Close(fd) })
	}
}

// manyDescriptors is as many as a test may open.
func manyDescriptors(t testing.TB) int {
	var l unix.Rlimit
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &l))
	n := testkit.Rounds(6000, 1500)
	if uint64(n)+500 > l.Cur {
		t.Skipf("the limit of open descriptors is %d; the test needs %d", l.Cur, n+500)
	}
	return n
}

func TestAChildHasTheStandardStreamsAndNothingElse(t *testing.T) {
	testkit.CheckLeaks(t)
	openMany(t, 100)
	var fds [2]int
	require.NoError(t, unix.Pipe(fds[:]))
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	require.NoError(t, err)
	defer func() {
		for _, fd := range append(fds[:], pair[:]...) {
			unix.Close(fd)
		}
	}()
	testkit.RequireTable(t, testkit.Waiting(), nil)
	f := testkit.Memfd(t, "f", 3)
	testkit.RequireTable(t, testkit.Waiting().SetStderr(f), map[int]testkit.Inode{2: testkit.InodeOf(t, f)})
}

func TestDescriptorsOpenedByOtherThreadsDuringTheStartDoNotReachTheChild(t *testing.T) {
	testkit.CheckLeaks(t)
	stopOpening, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		var open []int
		for {
			// Without close-on-exec.
			fd, err := unix.Open(os.DevNull, unix.O_RDONLY, 0)
			if err == nil {
				open = append(open, fd)
			}
			select {
			case <-stopOpening:
				for _, fd := range open {
					unix.Close(fd)
				}
				return
			default:
			}
			if len(open) == 50 {
				for _, fd := range open {
					unix.Close(fd)
				}
				open = open[:0]
			}
		}
	}()
	defer func() { close(stopOpening); <-done }()
	for range testkit.Rounds(100, 10) {
		testkit.RequireTable(t, testkit.Waiting(), nil)
	}
}

// lsLine is a line of ls -l about a descriptor.
var lsLine = regexp.MustCompile(` (\d+) -> (.*)`)

// lsCommand is a command whose program prints its own descriptors by ls -l. The
// shell has opened none of its own.
func lsCommand() *spawn.Command { return spawn.New("/bin/sh", "-c", "ls -l /proc/$$/fd; :") }

func parseLs(out []byte) map[int]string {
	fds := map[int]string{}
	for _, m := range lsLine.FindAllSubmatch(out, -1) {
		n, _ := strconv.Atoi(string(m[1])) // digits
		fds[n] = string(m[2])
	}
	return fds
}

func TestOutputsChildHasTheStandardStreamsAndWhatWasPassed(t *testing.T) {
	testkit.CheckLeaks(t)
	openMany(t, 30)
	out, err := lsCommand().Output(context.Background())
	require.NoError(t, err)
	fds := parseLs(out)
	require.ElementsMatch(t, []int{0, 1, 2}, slices.Collect(maps.Keys(fds)))
	require.Equal(t, os.DevNull, fds[0])
	require.Contains(t, fds[1], "pipe:")
	require.Contains(t, fds[2], "pipe:", "the end of stderr is kept for the error")

	a, b := testkit.Memfd(t, "a", 40), testkit.Memfd(t, "b", 40)
	out, err = lsCommand().PassFDAs(a, descriptor.Of(b)).PassFDAs(b, descriptor.Of(a)).Output(context.Background())
	require.NoError(t, err)
	fds = parseLs(out)
	require.Len(t, fds, 5)
	require.Equal(t, "/memfd:b (deleted)", fds[descriptor.Of(a)])
	require.Equal(t, "/memfd:a (deleted)", fds[descriptor.Of(b)])
}

func TestAProgramThatReplacesThisProcessHasWhatAChildWouldHave(t *testing.T) {
	testkit.CheckLeaks(t)
	t.Setenv("GORACE", "atexit_sleep_ms=0")
	out, err := testkit.HelperCommand(t, "fds-exec").CombinedOutput(context.Background())
	require.NoError(t, err, "%s", out)
	fds := parseLs(out)
	require.Equal(t, os.DevNull, fds[0])
	require.Contains(t, fds[1], "pipe:")
	require.Equal(t, fds[1], fds[2])
	delete(fds, 0)
	delete(fds, 1)
	delete(fds, 2)
	require.Equal(t, map[int]string{
		40: "/memfd:b (deleted)", 41: "/memfd:c (deleted)", 42: "/memfd:a (deleted)", 43: "/memfd:a (deleted)",
	}, fds)
}

// execWithDescriptors replaces itself by a program that prints its descriptors.
func execWithDescriptors([]string) int {
	c := lsCommand().SetStdout(os.Stdout).MergeStderr()
	for i, name := range []string{"a", "b", "c"} {
		f, err := testkit.NewMemfd(name, 40+i)
		if err != nil || descriptor.Of(f) != 40+i {
			return 2
		}
		c.PassFDAs(f, 40+(i+2)%3)
		if i == 0 {
			c.PassFDAs(f, 43)
		}
	}
	// Without close-on-exec.
	if _, err := unix.Open(os.DevNull, unix.O_RDONLY, 0); err != nil {
		return 3
	}
	fmt.Fprintln(os.Stderr, c.Exec())
	return 4
}

func TestPassFDKeepsTheNumber(t *testing.T) {
	testkit.CheckLeaks(t)
	f, g := testkit.Memfd(t, "f", 3), testkit.Memfd(t, "g", 200)
	c := testkit.Waiting()
	require.Equal(t, descriptor.Of(f), c.PassFD(f))
	require.Equal(t, descriptor.Of(f), c.PassFD(f), "twice is as once")
	require.Equal(t, descriptor.Of(g), c.PassFD(g))
	testkit.RequireTable(t, c, map[int]testkit.Inode{descriptor.Of(f): testkit.InodeOf(t, f), descriptor.Of(g): testkit.InodeOf(t, g)})
	// The same once more.
	testkit.RequireTable(t, c, map[int]testkit.Inode{descriptor.Of(f): testkit.InodeOf(t, f), descriptor.Of(g): testkit.InodeOf(t, g)})
}

func TestPassFDAsGivesTheNumber(t *testing.T) {
	testkit.CheckLeaks(t)
	f, g, h := testkit.Memfd(t, "f", 30), testkit.Memfd(t, "g", 30), testkit.Memfd(t, "h", 30)
	nf, ng, nh := descriptor.Of(f), descriptor.Of(g), descriptor.Of(h)
	F, G, H := testkit.InodeOf(t, f), testkit.InodeOf(t, g), testkit.InodeOf(t, h)
	for name, c := range map[string]struct {
		c    *spawn.Command
		want map[int]testkit.Inode
	}{
		"another number":     {testkit.Waiting().PassFDAs(f, 5), map[int]testkit.Inode{5: F}},
		"the same number":    {testkit.Waiting().PassFDAs(f, nf), map[int]testkit.Inode{nf: F}},
		"two numbers":        {testkit.Waiting().PassFDAs(f, 5).PassFDAs(f, 6).PassFDAs(f, nf), map[int]testkit.Inode{5: F, 6: F, nf: F}},
		"a swap":             {testkit.Waiting().PassFDAs(f, ng).PassFDAs(g, nf), map[int]testkit.Inode{ng: F, nf: G}},
		"a cycle":            {testkit.Waiting().PassFDAs(f, ng).PassFDAs(g, nh).PassFDAs(h, nf), map[int]testkit.Inode{ng: F, nh: G, nf: H}},
		"a cycle and a copy": {testkit.Waiting().PassFDAs(f, ng).PassFDAs(g, nf).PassFDAs(f, 5).PassFDAs(g, 6), map[int]testkit.Inode{ng: F, nf: G, 5: F, 6: G}},
		"a chain":            {testkit.Waiting().PassFDAs(f, ng).PassFDAs(g, nh).PassFDAs(h, 5), map[int]testkit.Inode{ng: F, nh: G, 5: H}},
		"a chain backwards":  {testkit.Waiting().PassFDAs(h, 5).PassFDAs(g, nh).PassFDAs(f, ng), map[int]testkit.Inode{ng: F, nh: G, 5: H}},
		"over each other and a stream": {
			testkit.Waiting().PassFDAs(f, ng).PassFDAs(g, nf).SetStderr(f), map[int]testkit.Inode{ng: F, nf: G, 2: F},
		},
		"a stream of this process": {testkit.Waiting().PassFDAs(os.Stdin, 5), map[int]testkit.Inode{5: testkit.InodeOf(t, os.Stdin)}},
	} {
		t.Run(name, func(t *testing.T) { testkit.RequireTable(t, c.c, c.want) })
	}
}

func TestHighNumbersArePassed(t *testing.T) {
	testkit.CheckLeaks(t)
	n := manyDescriptors(t)
	f := testkit.Memfd(t, "f", n)
	require.GreaterOrEqual(t, descriptor.Of(f), n)
	F := testkit.InodeOf(t, f)
	testkit.RequireTable(t, testkit.Waiting().PassFDAs(f, 5), map[int]testkit.Inode{5: F})
	testkit.RequireTable(t, testkit.Waiting().PassFDAs(f, n+10).PassFDAs(f, 3).SetStderr(f), map[int]testkit.Inode{n + 10: F, 3: F, 2: F})
	// SetMaxFiles is about what the program opens itself
	c := testkit.Waiting().SetMaxFiles(20).PassFDAs(f, 30)
	c.PassFD(f)
	testkit.RequireTable(t, c, map[int]testkit.Inode{30: F, descriptor.Of(f): F})
}

func TestANumberAboveTheLimitIsAnErrorThatNamesTheCall(t *testing.T) {
	testkit.CheckLeaks(t)
	var l unix.Rlimit
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &l))
	f := testkit.Memfd(t, "f", 3)
	err := spawn.New("/bin/true").PassFDAs(f, int(l.Cur)).Run(context.Background())
	var start *spawn.StartError
	require.ErrorAs(t, err, &start)
	require.ErrorIs(t, err, unix.EBADF)
	if plan.CanClone() {
		require.Equal(t, fmt.Sprintf("dup3(%d, %d, 0)", descriptor.Of(f), l.Cur), start.Op)
	} else {
		require.Equal(t, `fork and execve("/proc/self/exe")`, start.Op)
	}
}

func TestAProcessWithThousandsOfDescriptorsStartsPrograms(t *testing.T) {
	testkit.CheckLeaks(t)
	n := manyDescriptors(t)
	openMany(t, n)
	f := testkit.Memfd(t, "f", 3)
	require.Greater(t, descriptor.Of(f), n/2)
	testkit.RequireTable(t, testkit.Waiting(), nil)
	testkit.RequireTable(t, testkit.Waiting().PassFDAs(f, 3).SetStderr(f), map[int]testkit.Inode{2: testkit.InodeOf(t, f), 3: testkit.InodeOf(t, f)})
	for range 3 {
		var stderr string
		out, err := spawn.New("/bin/sh", "-c", "cat; echo error >&2").SetInput([]byte("input")).SetErrorBuffer(&stderr).Output(context.Background())
		require.NoError(t, err)
		require.Equal(t, "input", string(out))
		require.Equal(t, "error\n", stderr)
	}
	// More children at once than there are low numbers in reserve.
	var all []*spawn.Process
	for range 12 {
		all = append(all, testkit.Live(t, testkit.Waiting()))
	}
	for _, p := range all {
		require.Len(t, testkit.LiveTable(t, p), 3)
		testkit.Stop(t, p)
	}
}

func TestPassedFilesStayAsTheyAreInThisProcess(t *testing.T) {
	testkit.CheckLeaks(t)
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer r.Close()
	defer w.Close()
	r.Fd() // makes it blocking, as the passing does
	w.Fd()
	f := testkit.Memfd(t, "f", 50)
	_, err = f.WriteString("0123456789")
	require.NoError(t, err)
	_, err = f.Seek(4, io.SeekStart)
	require.NoError(t, err)
	inherited, err := unix.Open(os.DevNull, unix.O_RDONLY, 0)
	require.NoError(t, err)
	defer unix.Close(inherited)
	before := flagsAndOffsets(t)

	for range 3 {
		c := testkit.Waiting().PassFDAs(f, 60).PassFDAs(r, 61).SetStderr(w)
		c.PassFD(r)
		c.PassFD(f)
		testkit.Stop(t, testkit.Live(t, c))
		require.NoError(t, spawn.New("/bin/true").PassFDAs(f, descriptor.Of(r)).PassFDAs(r, descriptor.Of(f)).SetStdin(r).SetStdout(w).Run(context.Background()))
		require.Error(t, spawn.New("/nonexistent").PassFDAs(f, 60).PassFDAs(r, 61).SetStderr(w).Run(context.Background()))
		require.NoError(t, spawn.New("/bin/true").InheritStdio().Run(context.Background()))
	}
	require.Equal(t, before, flagsAndOffsets(t))
}

// flagsAndOffsets returns the descriptor flags, status flags and offsets of all
// of this process's descriptors.
func flagsAndOffsets(t testing.TB) map[string][3]int64 {
	t.Helper()
	all := map[string][3]int64{}
	for _, s := range testkit.OpenFDs(t) {
		number, file, _ := strings.Cut(s, " ")
		if filepath.Base(file) == "testlog.txt" {
			// To which package testing writes as it goes.
			continue
		}
		fd, err := strconv.Atoi(number)
		require.NoError(t, err)
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
		require.NoError(t, err)
		status, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
		require.NoError(t, err)
		offset, err := unix.Seek(fd, 0, io.SeekCurrent)
		if err != nil {
			offset = -1 // a pipe
		}
		all[s] = [3]int64{int64(flags), int64(status), offset}
	}
	return all
}

func TestAPassedFileBlocks(t *testing.T) {
	testkit.CheckLeaks(t)
	r, w, err := os.Pipe() // for Go's poller
	require.NoError(t, err)
	defer r.Close()
	defer w.Close()
	p := testkit.Live(t, testkit.Waiting().PassFDAs(r, 50).SetStderr(w))
	defer testkit.Stop(t, p)
	require.Zero(t, testkit.OpenFlags(t, p, 50)&unix.O_NONBLOCK)
	require.Zero(t, testkit.OpenFlags(t, p, 2)&unix.O_NONBLOCK)
}

func TestNothingThatTheLibraryOpensIsInheritable(t *testing.T) {
	testkit.CheckLeaks(t)
	before := flagsAndOffsets(t)
	p := testkit.Live(t, testkit.Waiting().PipeStderr())
	defer testkit.Stop(t, p)
	defer p.Stderr().Close()
	opened := 0
	for s, x := range flagsAndOffsets(t) {
		if _, old := before[s]; !old || strings.HasSuffix(s, " /") {
			// The reserved numbers are older.
			require.Equal(t, int64(unix.FD_CLOEXEC), x[0], s)
			opened++
		}
	}
	require.GreaterOrEqual(t, opened, 4, "three pipes and a pidfd")
}

func TestLocksOfThisProcessSurviveTheStarts(t *testing.T) {
	testkit.CheckLeaks(t)
	t.Setenv("GORACE", "atexit_sleep_ms=0")
	path := filepath.Join(t.TempDir(), "locked")
	f, err := os.Create(path)
	require.NoError(t, err)
	defer f.Close()
	require.Equal(t, "0", lockOwner(t, path))
	lock := unix.Flock_t{Type: unix.F_WRLCK}
	require.NoError(t, unix.FcntlFlock(uintptr(descriptor.Of(f)), unix.F_SETLK, &lock))
	me := strconv.Itoa(os.Getpid())
	require.Equal(t, me, lockOwner(t, path))

	for range 3 {
		require.NoError(t, spawn.New("/bin/true").Run(context.Background()))
		require.NoError(t, spawn.New("/bin/true").SetStdin(f).PassFDAs(f, 50).Run(context.Background()))
		require.Error(t, spawn.New("/nonexistent").PassFDAs(f, 50).Run(context.Background()))
		c := testkit.Waiting().PassFDAs(f, 51)
		c.PassFD(f)
		testkit.Stop(t, testkit.Live(t, c))
	}
	require.Equal(t, me, lockOwner(t, path))
}

// lockOwner returns the process id of the owner of a lock on the file, as
// another process sees it; 0 without a lock.
func lockOwner(t *testing.T, path string) string {
	t.Helper()
	out, err := testkit.HelperCommand(t, "fds-lock-owner", path).Output(context.Background())
	require.NoError(t, err)
	return string(out)
}

func printLockOwner(args []string) int {
	f, err := os.OpenFile(args[0], os.O_RDWR, 0)
	if err != nil {
		return 2
	}
	lock := unix.Flock_t{Type: unix.F_WRLCK}
	if err := unix.FcntlFlock(f.Fd(), unix.F_GETLK, &lock); err != nil {
		return 3
	}
	if lock.Type == unix.F_UNLCK {
		lock.Pid = 0
	}
	fmt.Print(lock.Pid)
	return 0
}

func TestAFileThatWasClosedBeforeTheStartIsAnError(t *testing.T) {
	testkit.CheckLeaks(t)
	for name, register := range map[string]func(c *spawn.Command, f *os.File){
		"PassFD":   func(c *spawn.Command, f *os.File) { c.PassFD(f) },
		"PassFDAs": func(c *spawn.Command, f *os.File) { c.PassFDAs(f, 50) },
		"stdin":    func(c *spawn.Command, f *os.File) { c.SetStdin(f) },
		"stdout":   func(c *spawn.Command, f *os.File) { c.SetStdout(f) },
		"stderr":   func(c *spawn.Command, f *os.File) { c.SetStderr(f) },
	} {
		f := testkit.Memfd(t, "the-file", 3)
		c := spawn.New("/bin/true")
		register(c, f)
		require.NoError(t, f.Close())
		err := c.Run(context.Background())
		var start *spawn.StartError
		require.ErrorAs(t, err, &start, name)
		require.ErrorIs(t, err, os.ErrClosed, name)
		require.ErrorContains(t, err, "the-file", name)
	}
}

func TestCloseParentClosesTheFileWhenTheRunningCallReturns(t *testing.T) {
	testkit.CheckLeaks(t)
	ctx := context.Background()
	ended, cancel := context.WithCancel(ctx)
	cancel()
	for name, run := range map[string]func(c *spawn.Command) error{
		"Run":            func(c *spawn.Command) error { return c.Run(ctx) },
		"RunStatus":      func(c *spawn.Command) error { _, err := c.RunStatus(ctx); return err },
		"Output":         func(c *spawn.Command) error { _, err := c.Output(ctx); return err },
		"CombinedOutput": func(c *spawn.Command) error { _, err := c.CombinedOutput(ctx); return err },
		"Lines":          func(c *spawn.Command) error { return lastError(c) },
		"Records":        func(c *spawn.Command) error { return recordsError(c) },
		"RunRegex":       func(c *spawn.Command) error { return matchAll(c) },
		"Start":          func(c *spawn.Command) error { p, err := c.Start(ctx); return errors.Join(err, p.Wait()) },
		"no program":     func(c *spawn.Command) error { testkit.Wanted(c).Name = "/nonexistent"; return c.Run(ctx) },
		"no program, Start": func(c *spawn.Command) error {
			testkit.Wanted(c).Name = "/nonexistent"
			_, err := c.Start(ctx)
			return err
		},
		"no program, Lines":        func(c *spawn.Command) error { testkit.Wanted(c).Name = "/nonexistent"; return lastError(c) },
		"no program, Exec":         func(c *spawn.Command) error { testkit.Wanted(c).Name = "/nonexistent"; return c.Exec() },
		"a context that has ended": func(c *spawn.Command) error { return c.Run(ended) },
		"a bad call":               func(c *spawn.Command) error { return c.SetUmask(-1).Run(ctx) },
		"a bad call, Start":        func(c *spawn.Command) error { _, err := c.SetUmask(-1).Start(ctx); return err },
		"a bad call, Output":       func(c *spawn.Command) error { _, err := c.SetUmask(-1).Output(ctx); return err },
		"a bad call, Lines":        func(c *spawn.Command) error { return lastError(c.SetUmask(-1)) },
		"a bad call, RunRegex":     func(c *spawn.Command) error { return matchAll(c.SetUmask(-1)) },
		"a bad call, Exec":         func(c *spawn.Command) error { return c.SetUmask(-1).Exec() },
		"a pipe that is refused":   func(c *spawn.Command) error { return c.PipeStdout().Run(ctx) },
		"a stream that is taken":   func(c *spawn.Command) error { _, err := c.SetStdout(io.Discard).Output(ctx); return err },
		"a stream Lines refuses":   func(c *spawn.Command) error { return lastError(c.SetStdout(io.Discard)) },
		"a stream Exec refuses":    func(c *spawn.Command) error { return c.SetStdout(io.Discard).Exec() },
	} {
		t.Run(name, func(t *testing.T) {
			f, g, kept := testkit.Memfd(t, "f", 40), testkit.Memfd(t, "g", 40), testkit.Memfd(t, "kept", 40)
			c := spawn.New("/bin/true").PassFDAs(f, 50, spawn.CloseParent).PassFDAs(kept, 51)
			c.PassFD(g)
			c.PassFD(g, spawn.CloseParent)
			_, err := c.Explain()
			require.NoError(t, err)
			require.True(t, descriptor.IsOpen(descriptor.Of(f)), "Explain runs nothing")
			ran := strings.HasPrefix(name, "a ") || strings.HasPrefix(name, "no ")
			err = run(c)
			require.Equal(t, ran, err != nil, "%v", err)
			require.Equal(t, -1, descriptor.Of(f))
			require.Equal(t, -1, descriptor.Of(g))
			require.NotEqual(t, -1, descriptor.Of(kept))
		})
	}
}

func TestACommandWithCloseParentRunsOnce(t *testing.T) {
	testkit.CheckLeaks(t)
	c := spawn.New("/bin/true").PassFDAs(testkit.Memfd(t, "f", 3), 50, spawn.CloseParent)
	require.NoError(t, c.Run(context.Background()))
	require.ErrorIs(t, c.Run(context.Background()), os.ErrClosed)
}

func TestTheChildReadsWhatWasGivenToSetSendBuffer(t *testing.T) {
	testkit.CheckLeaks(t)
	for _, size := range []int{0, 1, 4096, 65536, 65537, 1 << 20} {
		data := bytes.Repeat([]byte("0123456789abcdef"), size/16+1)[:size]
		c := spawn.New("/bin/cat")
		fd := c.SetSendBuffer(data)
		require.Greater(t, fd, 2)
		require.Less(t, fd, 1024)
		require.False(t, descriptor.IsOpen(fd))
		c.AddArgf("/proc/self/fd/%d", fd)
		for range 2 {
			out, err := c.Output(context.Background())
			require.NoError(t, err)
			require.True(t, bytes.Equal(data, out), "%d bytes of %d", len(out), size)
		}
	}
}

func TestSeveralSendBuffersHaveNumbersOfTheirOwn(t *testing.T) {
	testkit.CheckLeaks(t)
	for _, count := range []int{2, 20} {
		c, want := spawn.New("/bin/cat"), ""
		for i := range count {
			data := fmt.Sprintf("buffer %d\n", i) + strings.Repeat("x", i*7000)
			c.AddArgf("/proc/self/fd/%d", c.SetSendBuffer([]byte(data)))
			want += data
		}
		out, err := c.Output(context.Background())
		require.NoError(t, err)
		require.Equal(t, want, string(out))
	}
}

func TestASendBufferThatIsNotReadIsNoError(t *testing.T) {
	testkit.CheckLeaks(t)
	for _, size := range []int{1, 1 << 20} {
		for _, c := range []*spawn.Command{spawn.New("/bin/true"), spawn.New("/bin/sh", "-c", "exec head -c 100 /proc/self/fd/$0")} {
			c.AddArg(strconv.Itoa(c.SetSendBuffer(make([]byte, size))))
			require.NoError(t, c.Run(context.Background()))
			p, err := c.Start(context.Background())
			require.NoError(t, err)
			require.NoError(t, p.Wait())
		}
	}
}

func TestASendBufferIsAPipeWhoseOtherEndTheChildDoesNotHave(t *testing.T) {
	testkit.CheckLeaks(t)
	c := testkit.Waiting()
	fd := c.SetSendBuffer(make([]byte, 1<<20))
	p := testkit.Live(t, c)
	defer testkit.Stop(t, p)
	require.Len(t, testkit.LiveTable(t, p), 4)
	require.Zero(t, testkit.OpenFlags(t, p, fd)&(unix.O_ACCMODE|unix.O_NONBLOCK|unix.O_CLOEXEC), "it reads, and blocks")
}

func TestASendBufferWithoutAFreeNumberIsAnError(t *testing.T) {
	testkit.CheckLeaks(t)
	manyDescriptors(t) // or skip
	f := testkit.Memfd(t, "f", 3)
	c := spawn.New("/bin/true")
	for fd := 3; fd < 1024; fd++ {
		if !descriptor.IsOpen(fd) {
			c.PassFDAs(f, fd)
		}
	}
	require.Equal(t, -1, c.SetSendBuffer(nil))
	require.EqualError(t, c.Run(context.Background()), "spawn: SetSendBuffer: no number below 1024 is free")
}

func TestAProcessWithoutStandardStreamsGivesItsChildrenProperOnes(t *testing.T) {
	testkit.CheckLeaks(t)
	testkit.WithStreamsClosed(t, "fds-no-streams")
}

func startWithoutStreams(args []string) int {
	report := testkit.CloseStreams(args)
	if err := checkWithoutStreams(); err != nil {
		fmt.Fprintln(report, err)
		return 1
	}
	return 0
}

func checkWithoutStreams() error {
	f, err := testkit.NewMemfd("f", 40)
	if err != nil {
		return err
	}
	want, err := testkit.InodeAt(fmt.Sprintf("/proc/self/fd/%d", descriptor.Of(f)))
	if err != nil {
		return err
	}
	null, err := testkit.InodeAt(os.DevNull)
	if err != nil {
		return err
	}
	for range 3 {
		c := testkit.Waiting().PassFDAs(f, 50)
		send := c.SetSendBuffer([]byte("data"))
		p, err := testkit.StartLive(c)
		if err != nil {
			return err
		}
		fds, err := testkit.Table(p.PID())
		if err != nil {
			return err
		}
		if err := testkit.StopLive(p); err != nil {
			return err
		}
		if len(fds) != 5 || fds[0] == fds[1] || fds[2] != null || fds[50] != want {
			return fmt.Errorf("the child has %v", fds)
		}
		if _, ok := fds[send]; !ok {
			return fmt.Errorf("no send buffer in %v", fds)
		}
		out, err := spawn.New("/bin/cat").SetInput([]byte("input")).Output(context.Background())
		if err != nil || string(out) != "input" {
			return fmt.Errorf("%q, %w", out, err)
		}
		if err := spawn.New("/nonexistent").Run(context.Background()); !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("no program: %w", err)
		}
	}
	return nil
}

func TestAStandardStreamThatThisProcessDoesNotHaveCannotBeInherited(t *testing.T) {
	testkit.CheckLeaks(t)
	testkit.WithStreamsClosed(t, "fds-inherit-closed")
}

func inheritClosedStreams(args []string) int {
	report := testkit.CloseStreams(args)
	var running []*spawn.Process
	for range 3 {
		err := spawn.New("/bin/true").InheritStdio().Run(context.Background())
		if !errors.Is(err, unix.EBADF) {
			links, _ := filepath.Glob("/proc/self/fd/[012]")
			for _, link := range links {
				to, _ := os.Readlink(link)
				fmt.Fprintln(report, link, to)
			}
			fmt.Fprintf(report, "not refused: %v\n", err)
			return 1
		}
		// What the library opens must not take the number.
		p, err := testkit.StartLive(testkit.Waiting())
		if err != nil {
			fmt.Fprintln(report, err)
			return 1
		}
		running = append(running, p)
	}
	for _, p := range running {
		if err := testkit.StopLive(p); err != nil {
			fmt.Fprintln(report, err)
			return 1
		}
	}
	return 0
}

// TestNothingThatAThreadInCOpensLeaks builds a program with such a thread, from
// source: the tests themselves need no C compiler.
func TestNothingThatAThreadInCOpensLeaks(t *testing.T) {
	const source = "./testdata/leaky"
	for _, path := range []string{source, "go.mod"} {
		if _, err := os.Stat(path); err != nil {
			t.Skip("the source is not here: ", err)
		}
	}
	goTool, err := exec.LookPath("go")
	if err != nil {
		t.Skip("there is no go command: ", err)
	}
	cc, err := exec.Command(goTool, "env", "CC").Output()
	require.NoError(t, err)
	if words := strings.Fields(string(cc)); len(words) == 0 {
		t.Skip("there is no C compiler")
	} else if _, err := exec.LookPath(words[0]); err != nil {
		t.Skip("there is no C compiler: ", err)
	}
	testkit.CheckLeaks(t)
	dir := t.TempDir()
	leaky, marker := filepath.Join(dir, "leaky"), filepath.Join(dir, "marker")
	require.NoError(t, os.WriteFile(marker, nil, 0o600))
	build := exec.Command(goTool, "build", "-o", leaky, source)
	build.Env = append(os.Environ(), "CGO_ENABLED=1")
	out, err := build.CombinedOutput()
	require.NoError(t, err, "%s", out)

	text, err := spawn.New(leaky, marker).Output(context.Background())
	require.NoError(t, err)
	leaked := map[string]int{}
	for line := range strings.Lines(string(text)) {
		name, n, _ := strings.Cut(strings.TrimSpace(line), ": ")
		leaked[name], err = strconv.Atoi(n)
		require.NoError(t, err, "%s", line)
	}
	require.Positive(t, leaked["opened"])
	require.Positive(t, leaked["os/exec"], "or the thread does not do what it is for")
	delete(leaked, "opened")
	delete(leaked, "os/exec")
	require.Equal(t, map[string]int{"Output": 0, "Start": 0, "handshake": 0}, leaked)
}

// FuzzDescriptors passes files under random numbers and looks at what the child
// really has. Of the input, the first byte says where standard error goes and
// how many files there are; the next ones give their numbers; then each pair of
// bytes passes a file under a number, or under the number of a file.
func FuzzDescriptors(f *testing.F) {
	const byNumber, byFile = 0, 128
	for _, seed := range [][]byte{
		{},
		{0, 0, 0, byNumber + 5},
		{3, 0, 0, 0, byNumber, 1, byNumber + 1, 2, byNumber + 2},
		{1, 30, 31, 0, byFile + 1, 1, byFile}, // a swap
		// A cycle.
		{2, 30, 31, 32, 0, byFile + 1, 1, byFile + 2, 2, byFile},
		// Two.
		{3, 40, 41, 42, 43, 0, byFile + 1, 1, byFile, 2, byFile + 3, 3, byFile + 2},
		// Copies too.
		{16 + 2, 9, 9, 9, 0, byFile + 1, 1, byFile + 2, 2, byFile, 0, 1, 1, 2, 2, 3},
		// Stderr too.
		{32 + 1, 60, 3, 1, byFile, 0, byFile, 0, byNumber + 1, 0, byNumber + 2, 1, 3, 1, 4},
		{48 + 3, 1, 2, 3, 4, 3, byFile, 2, byFile + 1, 1, byFile + 2, 0, byFile + 3, 0, 63, 1, 62, 2, 61},
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		if len(in) > 200 {
			t.Skip("too long")
		}
		next := func() int {
			if len(in) == 0 {
				return 0
			}
			b := in[0]
			in = in[1:]
			return int(b)
		}
		first := next()
		var files []*os.File
		for i := range 1 + first%4 {
			files = append(files, testkit.Memfd(t, fmt.Sprint(i), 3+next()%64))
		}
		c, want := testkit.Waiting(), map[int]testkit.Inode{}
		switch first >> 4 % 4 {
		case 1:
			c.SetStderr(files[0])
			want[2] = testkit.InodeOf(t, files[0])
		case 2:
			c.SetStderr(files[len(files)-1])
			want[2] = testkit.InodeOf(t, files[len(files)-1])
		case 3:
			c.SetStderr(os.Stdin)
			want[2] = testkit.InodeOf(t, os.Stdin)
		}
		for len(in) >= 2 {
			file, to := files[next()%len(files)], next()
			if to >= byFile {
				to = descriptor.Of(files[to%len(files)])
			} else {
				to = 3 + to%64
			}
			if _, taken := want[to]; !taken {
				c.PassFDAs(file, to)
				want[to] = testkit.InodeOf(t, file)
			}
		}
		testkit.RequireTable(t, c, want)
		for _, file := range files {
			require.NoError(t, file.Close()) // still this process's
		}
	})
}
