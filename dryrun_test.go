package spawn_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/virspawn/spawn"
	"github.com/virspawn/spawn/internal/process"
	"github.com/virspawn/spawn/internal/testkit"
	"github.com/virspawn/spawn/internal/transfer"
)

// These tests need no program, no privilege and no Linux.

// untilEnded is a program that writes a line and runs until it is ended.
func untilEnded(c *spawn.DryRunCall) {
	c.Stdout = "ready\n"
	c.Flush()
	<-c.Context().Done()
}

// checkDryLeaks makes the test fail when it leaves behind a goroutine or
// a descriptor.
func checkDryLeaks(t *testing.T) {
	if r, w, err := os.Pipe(); err == nil { // Go's poller stays
		r.Close()
		w.Close()
	}
	runtime.GC()
	goroutines, fds := runtime.NumGoroutine(), countFDs()
	t.Cleanup(func() {
		testkit.Eventually(t, "no goroutine left", func() bool { return runtime.NumGoroutine() <= goroutines })
		require.Equal(t, fds, countFDs(), "descriptors")
	})
}

// countFDs counts this process's descriptors, where the system tells.
func countFDs() int {
	entries, _ := os.ReadDir("/dev/fd")
	return len(entries)
}

func TestDryRunSaysWhatWouldHaveRun(t *testing.T) {
	checkDryLeaks(t)
	t.Setenv("SPAWN_TEST_PASSED", "p")
	c := spawn.New(testkit.Missing, "-m", "no").AddArgf("%d", 5).AddSecretArg("hush").SetArgv0("zero").
		AddEnv("A", "1").AddSecretEnv("S", "quiet").AddEnvPassAllowSUID("SPAWN_TEST_PASSED").AddEnvPassBlockSUID("SPAWN_TEST_UNSET", "else").
		SetWorkingDirectory("/no/such/directory").SetInput([]byte("input\n")).SetUID(4242).SetGID(4242)
	fd := c.SetSendBuffer([]byte("sent"))
	called := 0
	err := c.Run(testkit.Dry(func(d *spawn.DryRunCall) {
		called++
		require.Equal(t, testkit.Missing, d.Path)
		require.Equal(t, []string{"zero", "-m", "no", "5", "hush"}, d.Args)
		require.Equal(t, []string{"A=1", "S=quiet", "SPAWN_TEST_PASSED=p", "SPAWN_TEST_UNSET=else"}, d.Env)
		require.Equal(t, "/no/such/directory", d.Dir)
		require.Equal(t, "input\n", d.Stdin())
		require.Equal(t, "input\n", d.Stdin(), "again")
		require.Equal(t, map[int][]byte{fd: []byte("sent")}, d.Buffers)
		require.Equal(t, c.String(), d.String())
		require.NotContains(t, d.String(), "hush")
		for i := range d.Args {
			require.Equal(t, i == 4, d.SecretArg(i), d.Args[i])
		}
		for i := range d.Env {
			require.Equal(t, i == 1, d.SecretEnv(i), d.Env[i])
			require.Equal(t, i >= 2, d.PassedEnv(i), d.Env[i])
		}
	}))
	require.NoError(t, err)
	require.Equal(t, 1, called)
}

func TestDryRunHasTheWholeEnvironmentWhereNothingWasSaid(t *testing.T) {
	t.Setenv("SPAWN_TEST_PASSED", "p")
	require.NoError(t, spawn.New(testkit.Missing).Run(testkit.Dry(func(d *spawn.DryRunCall) {
		require.Equal(t, os.Environ(), d.Env)
		require.True(t, d.PassedEnv(0))
		require.Empty(t, d.Dir)
		require.Empty(t, d.Stdin())
		require.Nil(t, d.Buffers)
	})))
	require.NoError(t, spawn.New(testkit.Missing).ClearEnv().Run(testkit.Dry(func(d *spawn.DryRunCall) { require.Empty(t, d.Env) })))
}

func TestDryRunHasTheVariablesOfSockets(t *testing.T) {
	f := testkit.TempFile(t, "")
	var pid int
	env := make(chan []string, 1)
	p, err := spawn.New(testkit.Missing).AddEnv("LISTEN_FDS", "replaced").AddListenFD(f, "web").Start(testkit.Dry(func(d *spawn.DryRunCall) { env <- d.Env }))
	require.NoError(t, err)
	pid = p.PID()
	require.Equal(t, []string{"LISTEN_FDS=1", "LISTEN_FDNAMES=web", fmt.Sprintf("LISTEN_PID=%d", pid)}, <-env)
	require.NoError(t, p.Wait())
}

func TestDryRunShowsACommandAsItWasWhenItStarted(t *testing.T) {
	c := spawn.New(testkit.Missing, "a")
	line, go1 := make(chan string), make(chan bool)
	p, err := c.Start(testkit.Dry(func(d *spawn.DryRunCall) {
		d.Flush()
		<-go1
		line <- d.String()
	}))
	require.NoError(t, err)
	c.AddArg("b")
	go1 <- true
	require.Equal(t, testkit.Missing+" a", <-line)
	require.NoError(t, p.Wait())
}

func content(t *testing.T, f *os.File) string {
	b, err := os.ReadFile(f.Name())
	require.NoError(t, err)
	return string(b)
}

func TestDryRunReadsInputOfEveryKindInFull(t *testing.T) {
	checkDryLeaks(t)
	long := string(testkit.Pattern(1 << 20))
	for name, set := range map[string]func(*spawn.Command) *spawn.Command{
		"data":   func(c *spawn.Command) *spawn.Command { return c.SetInput([]byte(long)) },
		"reader": func(c *spawn.Command) *spawn.Command { return c.SetStdin(strings.NewReader(long)) },
		"file":   func(c *spawn.Command) *spawn.Command { return c.SetStdin(testkit.TempFile(t, long)) },
	} {
		var got string
		require.NoError(t, set(spawn.New(testkit.Missing)).Run(testkit.Dry(func(d *spawn.DryRunCall) { got = d.Stdin() })), name)
		require.True(t, long == got, name)
	}
	for name, set := range map[string]func(*spawn.Command) *spawn.Command{
		"default":   func(c *spawn.Command) *spawn.Command { return c },
		"nil":       func(c *spawn.Command) *spawn.Command { return c.SetStdin(nil) },
		"inherited": func(c *spawn.Command) *spawn.Command { return c.InheritStdio() },
	} {
		require.NoError(t, set(spawn.New(testkit.Missing)).Run(testkit.Dry(func(d *spawn.DryRunCall) { require.Empty(t, d.Stdin(), name) })), name)
	}
}

func TestDryRunReadsAReaderOnlyIfAsked(t *testing.T) {
	r := strings.NewReader("text")
	require.NoError(t, spawn.New(testkit.Missing).SetStdin(r).Run(testkit.Dry(testkit.Says("", "", 0))))
	require.Equal(t, 4, r.Len())
}

func TestDryRunReportsTheErrorOfAReader(t *testing.T) {
	checkDryLeaks(t)
	broken := errors.New("broken")
	err := spawn.New(testkit.Missing).SetStdin(io.MultiReader(strings.NewReader("text"), failingReader{broken})).
		Run(testkit.Dry(func(d *spawn.DryRunCall) { require.Equal(t, "text", d.Stdin()) }))
	require.ErrorIs(t, err, broken)
	require.EqualError(t, err, "spawn: no-such-program: stdin: broken (exit status 0)")
}

func TestDryRunFillsStreamsOfEveryKind(t *testing.T) {
	checkDryLeaks(t)
	ctx := testkit.Dry(testkit.Says("out\n", "err\n", 3))
	failed := func(err error, tail string) {
		t.Helper()
		var exit *spawn.ExitError
		require.ErrorAs(t, err, &exit)
		require.Equal(t, spawn.ExitError{Command: testkit.Missing, Status: spawn.Status{ExitCode: 3}, Stderr: exit.Stderr}, *exit)
		require.Equal(t, tail, string(exit.Stderr))
	}

	out, err := spawn.New(testkit.Missing).Output(ctx)
	require.Equal(t, "out\n", string(out))
	failed(err, "err\n")

	out, err = spawn.New(testkit.Missing).CombinedOutput(ctx)
	require.Equal(t, "out\nerr\n", string(out))
	failed(err, "")

	var s, e string
	failed(spawn.New(testkit.Missing).SetOutputBuffer(&s).SetErrorBuffer(&e).Run(ctx), "err\n")
	require.Equal(t, []string{"out\n", "err\n"}, []string{s, e})
	failed(spawn.New(testkit.Missing).SetOutputBuffer(&s).SetErrorBuffer(&s).Run(ctx), "")
	require.Equal(t, "out\nerr\n", s)
	failed(spawn.New(testkit.Missing).SetOutputBuffer(&s).MergeStderr().Run(ctx), "")
	require.Equal(t, "out\nerr\n", s)

	var w, w2 bytes.Buffer
	failed(spawn.New(testkit.Missing).SetStdout(&w).SetStderr(&w2).Run(ctx), "")
	require.Equal(t, []string{"out\n", "err\n"}, []string{w.String(), w2.String()})
	w.Reset()
	failed(spawn.New(testkit.Missing).SetStdout(&w).SetStderr(&w).Run(ctx), "")
	require.Equal(t, "out\nerr\n", w.String())

	f, f2 := testkit.TempFile(t, ""), testkit.TempFile(t, "")
	failed(spawn.New(testkit.Missing).SetStdout(f).SetStderr(f2).Run(ctx), "")
	require.Equal(t, []string{"out\n", "err\n"}, []string{content(t, f), content(t, f2)})
	failed(spawn.New(testkit.Missing).SetStdout(f).MergeStderr().Run(ctx), "")
	require.Equal(t, "out\nout\nerr\n", content(t, f))

	failed(spawn.New(testkit.Missing).Run(ctx), "err\n")
	failed(spawn.New(testkit.Missing).SetStdout(nil).SetStderr(nil).Run(ctx), "")
	failed(spawn.New(testkit.Missing).MergeStderr().Run(ctx), "")
	status, err := spawn.New(testkit.Missing).RunStatus(ctx)
	require.NoError(t, err)
	require.Equal(t, spawn.Status{ExitCode: 3}, status)
}

func TestDryRunWritesToThisProcessesOwnStreams(t *testing.T) {
	stdout, stderr := os.Stdout, os.Stderr
	defer func() { os.Stdout, os.Stderr = stdout, stderr }()
	os.Stdout, os.Stderr = testkit.TempFile(t, ""), testkit.TempFile(t, "")
	require.NoError(t, spawn.New(testkit.Missing).InheritStdio().Run(testkit.Dry(testkit.Says("out", "err", 0))))
	require.Equal(t, []string{"out", "err"}, []string{content(t, os.Stdout), content(t, os.Stderr)})
	os.Stderr.Close()
	err := spawn.New(testkit.Missing).InheritStdio().Run(testkit.Dry(testkit.Says("", "", 0)))
	require.EqualError(t, err, `spawn: cannot start "no-such-program": inherit stderr: `+syscall.EBADF.Error())
}

func TestDryRunKeepsTheOrderOfFlushes(t *testing.T) {
	ctx := testkit.Dry(func(d *spawn.DryRunCall) {
		d.Stderr = "1 "
		d.Flush()
		require.Empty(t, d.Stderr)
		d.Stdout, d.Stderr = "2 ", "3 "
		d.Flush()
		d.Stdout = "4"
	})
	out, err := spawn.New(testkit.Missing).CombinedOutput(ctx)
	require.NoError(t, err)
	require.Equal(t, "1 2 3 4", string(out))
}

func TestDryRunKeepsTheEndOfStandardErrorOnly(t *testing.T) {
	long := string(testkit.Pattern(1 << 20))
	var exit *spawn.ExitError
	require.ErrorAs(t, spawn.New(testkit.Missing).Run(testkit.Dry(testkit.Says("", long, 1))), &exit)
	require.True(t, long[len(long)-transfer.TailSize:] == string(exit.Stderr))
	require.EqualError(t, spawn.New(testkit.Missing).Run(testkit.Dry(testkit.Says("", "a\nlast\n", 1))), "spawn: no-such-program: exit status 1: last")
}

func TestDryRunReportsTheErrorOfAWriter(t *testing.T) {
	checkDryLeaks(t)
	broken := errors.New("broken")
	for name, c := range map[string]*spawn.Command{
		"stdout": spawn.New(testkit.Missing).SetStdout(failingWriter{broken}).SetStderr(nil),
		"stderr": spawn.New(testkit.Missing).SetStderr(failingWriter{broken}),
	} {
		err := c.Run(testkit.Dry(testkit.Says("a", "b", 0)))
		require.ErrorIs(t, err, broken)
		require.EqualError(t, err, "spawn: no-such-program: "+name+": broken (exit status 0)")
	}
	f := testkit.TempFile(t, "")
	readOnly, err := os.Open(f.Name())
	require.NoError(t, err)
	defer readOnly.Close()
	require.ErrorContains(t, spawn.New(testkit.Missing).SetStdout(readOnly).Run(testkit.Dry(testkit.Says("a", "", 0))), "stdout: write ")
}

type failingReader struct{ err error }

func (r failingReader) Read([]byte) (int, error) { return 0, r.err }

type failingWriter struct{ err error }

func (w failingWriter) Write([]byte) (int, error) { return 0, w.err }

func TestDryRunEndsAsTheFunctionSays(t *testing.T) {
	status, err := spawn.New(testkit.Missing).RunStatus(testkit.Dry(func(d *spawn.DryRunCall) { d.Signal = syscall.SIGSEGV }))
	require.NoError(t, err)
	require.Equal(t, spawn.Status{ExitCode: -1, Signal: syscall.SIGSEGV}, status)
	require.ErrorContains(t, spawn.New(testkit.Missing).Run(testkit.Dry(func(d *spawn.DryRunCall) { d.Signal = syscall.SIGSEGV })), "signal: ")
	for _, code := range []int{-1, 256} {
		var start *spawn.StartError
		require.ErrorAs(t, spawn.New(testkit.Missing).Run(testkit.Dry(testkit.Says("", "", code))), &start)
		require.ErrorContains(t, start, "is not in 0 to 255")
	}
	require.NoError(t, spawn.New(testkit.Missing).Run(testkit.Dry(testkit.Says("", "", 0))))
}

func TestANilContextPanicsBeforeAnythingStarts(t *testing.T) {
	checkDryLeaks(t)
	defer spawn.SetDryRun(func(*spawn.DryRunCall) { t.Error("called") })()
	n := observe(t)
	var none context.Context
	for name, run := range testkit.Ways {
		require.PanicsWithValue(t, "spawn: nil Context", func() { _ = run(none, spawn.New(testkit.Missing)) }, name)
	}
	require.PanicsWithValue(t, "spawn: nil Context", func() { _ = spawn.Run(none, testkit.Missing) })
	require.PanicsWithValue(t, "spawn: nil Context", func() { _ = (&spawn.Process{}).HandshakeWait(none) })
	require.Empty(t, n.told())
}

func TestDryRunCannotStartIfTheFunctionSaysSo(t *testing.T) {
	checkDryLeaks(t)
	for name, run := range testkit.Ways {
		given := &spawn.StartError{Op: "execve(x)", Path: "x", Err: syscall.ENOEXEC}
		err := run(testkit.Dry(func(d *spawn.DryRunCall) { d.Err = given }), spawn.New(testkit.Missing))
		require.Equal(t, error(given), err, name)

		err = run(testkit.Dry(func(d *spawn.DryRunCall) { d.Err = fs.ErrNotExist; d.Stdout = "lost" }), spawn.New(testkit.Missing))
		var start *spawn.StartError
		require.ErrorAs(t, err, &start, name)
		require.Equal(t, spawn.StartError{Op: "start", Path: testkit.Missing, Err: fs.ErrNotExist}, *start, name)
	}
	status, err := spawn.New(testkit.Missing).RunStatus(testkit.Dry(func(d *spawn.DryRunCall) { d.Err = fs.ErrNotExist }))
	require.Error(t, err)
	require.Equal(t, spawn.Status{ExitCode: -1}, status)
}

func TestDryRunThatCannotStartAfterItHasStartedIsWaitsError(t *testing.T) {
	checkDryLeaks(t)
	p, err := spawn.New(testkit.Missing).Start(testkit.Dry(func(d *spawn.DryRunCall) { d.Flush(); d.Err = fs.ErrNotExist }))
	require.NoError(t, err)
	var start *spawn.StartError
	require.ErrorAs(t, p.Wait(), &start)
	require.ErrorIs(t, start, fs.ErrNotExist)
	require.Equal(t, spawn.Status{ExitCode: -1}, p.Status())
}

func TestDryRunWhoseFunctionEndsItsGoroutineCannotStart(t *testing.T) {
	checkDryLeaks(t)
	for name, run := range testkit.Ways {
		var start *spawn.StartError
		require.ErrorAs(t, run(testkit.Dry(func(*spawn.DryRunCall) { runtime.Goexit() }), spawn.New(testkit.Missing)), &start, name)
		require.EqualError(t, start.Err, "the DryRunFunc has ended its goroutine")
	}
}

func TestDryRunOfABadCommandFails(t *testing.T) {
	checkDryLeaks(t)
	never := testkit.Dry(func(*spawn.DryRunCall) { t.Error("called") })
	for want, bad := range badCommands(t, "") {
		for way, run := range testkit.Ways {
			require.EqualError(t, run(never, bad), "spawn: "+want, way)
		}
	}
	for name, bad := range testkit.BadWholes(t) {
		for way, run := range testkit.Ways {
			err := run(never, bad())
			require.Error(t, err, "%s, %s", name, way)
			require.False(t, errors.As(err, new(*testkit.NotAStart)), "%s, %s", name, way)
		}
	}
	require.EqualError(t, spawn.New(testkit.Missing).PipeStdin().Run(never), "spawn: Run: PipeStdin needs Start")
	require.ErrorContains(t, spawn.New(testkit.Missing).RequireHandshake().Run(never), "use Start")
	_, err := spawn.New(testkit.Missing).SetStdout(io.Discard).Output(never)
	require.ErrorContains(t, err, "directed elsewhere")
}

func TestDryRunYieldsLinesAsTheyCome(t *testing.T) {
	checkDryLeaks(t)
	seen := make(chan bool)
	ctx := testkit.Dry(func(d *spawn.DryRunCall) {
		d.Stdout = "one\n"
		d.Flush()
		<-seen // before this goes on
		d.Stdout = "two\nthree"
	})
	var lines []string
	for line, err := range spawn.New(testkit.Missing).Lines(ctx) {
		require.NoError(t, err)
		if len(lines) == 0 {
			seen <- true
		}
		lines = append(lines, line)
	}
	require.Equal(t, []string{"one", "two", "three"}, lines)

	var last error
	for _, err := range spawn.New(testkit.Missing).Lines(testkit.Dry(testkit.Says("one\n", "why\n", 2))) {
		last = err
	}
	require.EqualError(t, last, "spawn: no-such-program: exit status 2: why")
}

func TestDryRunYieldsRecords(t *testing.T) {
	checkDryLeaks(t)
	ctx := testkit.Dry(testkit.Says("a\nb\x00\x00c", "why\n", 2))
	var got []string
	for record, err := range spawn.New(testkit.Missing).Records(ctx, 0) {
		if err != nil {
			record = err.Error()
		}
		got = append(got, record)
	}
	require.Equal(t, []string{"a\nb", "", "c", "spawn: no-such-program: exit status 2: why"}, got)
}

func TestDryRunGivesGroupsToRunRegexAsTheyCome(t *testing.T) {
	checkDryLeaks(t)
	seen := make(chan bool)
	ctx := testkit.Dry(func(d *spawn.DryRunCall) {
		d.Stdout = "a=1\nnone\n"
		d.Flush()
		<-seen // before this goes on
		d.Stdout, d.Stderr, d.ExitCode = "b=", "why\n", 3
	})
	var got [][]string
	err := spawn.New(testkit.Missing).RunRegex(ctx, regexp.MustCompile("^([a-z])=([0-9])?$"), func(groups []string) error {
		if got = append(got, groups); len(got) == 1 {
			seen <- true
		}
		return nil
	})
	require.EqualError(t, err, "spawn: no-such-program: exit status 3: why")
	require.Equal(t, [][]string{{"a=1", "a", "1"}, {"b=", "b", ""}}, got)
}

func TestDryRunIsEndedByAnErrorOfTheFunctionOfRunRegex(t *testing.T) {
	checkDryLeaks(t)
	mine := errors.New("enough")
	ended := make(chan error, 1)
	ctx := testkit.Dry(func(d *spawn.DryRunCall) { untilEnded(d); ended <- d.Context().Err() })
	err := spawn.New(testkit.Missing).RunRegex(ctx, testkit.AnyLine, func([]string) error { return mine })
	require.ErrorIs(t, err, mine)
	require.EqualError(t, err, "spawn: no-such-program: enough (signal: terminated)")
	require.ErrorIs(t, <-ended, context.Canceled)
}

func TestDryRunIsEndedByLeavingItsLines(t *testing.T) {
	checkDryLeaks(t)
	ended := make(chan error, 1)
	for line := range spawn.New(testkit.Missing).Lines(testkit.Dry(func(d *spawn.DryRunCall) { untilEnded(d); ended <- d.Context().Err() })) {
		require.Equal(t, "ready", line)
		break
	}
	require.ErrorIs(t, <-ended, context.Canceled)
}

func TestDryRunIsAProcess(t *testing.T) {
	checkDryLeaks(t)
	end := make(chan bool)
	p, err := spawn.New(testkit.Missing).PipeStdout().PipeStderr().Start(testkit.Dry(func(d *spawn.DryRunCall) {
		d.Stdout = "a"
		d.Flush()
		<-end
		d.Stdout, d.Stderr, d.ExitCode = "b", "c", 4
	}))
	require.NoError(t, err)
	require.Greater(t, p.PID(), 1<<22, "no process of Linux has such a pid")
	require.False(t, process.IsClosed(p.Done()))
	require.Equal(t, spawn.Status{ExitCode: -1}, p.Status())
	require.NoError(t, p.Signal(syscall.Signal(0)))
	b := make([]byte, 1)
	_, err = io.ReadFull(p.Stdout(), b)
	require.NoError(t, err)
	require.Equal(t, "a", string(b), "while the program runs")
	end <- true
	<-p.Done()
	require.EqualError(t, p.Wait(), "spawn: no-such-program: exit status 4")
	require.Equal(t, p.Wait(), p.Wait())
	require.Equal(t, spawn.Status{ExitCode: 4}, p.Status())
	require.ErrorIs(t, p.Signal(syscall.SIGTERM), os.ErrProcessDone)
	require.NoError(t, p.Abort())
	rest, err := io.ReadAll(p.Stdout())
	require.NoError(t, err)
	require.Equal(t, "b", string(rest))
	rest, err = io.ReadAll(p.Stderr())
	require.NoError(t, err)
	require.Equal(t, "c", string(rest))
	require.NoError(t, p.Stdout().Close())
	require.NoError(t, p.Stderr().Close())
	require.Nil(t, p.Stdin())
	require.ErrorContains(t, p.HandshakeNotify(), "no RequireHandshake")
}

func TestDryRunsHavePidsOfTheirOwn(t *testing.T) {
	var pids []int
	for range 3 {
		p, err := spawn.New(testkit.Missing).Start(testkit.Dry(testkit.Says("", "", 0)))
		require.NoError(t, err)
		require.NoError(t, p.Wait())
		require.NotContains(t, pids, p.PID())
		pids = append(pids, p.PID())
	}
}

func TestDryRunWritesMoreThanAPipeHolds(t *testing.T) {
	checkDryLeaks(t)
	long := string(testkit.Pattern(1 << 20))
	p, err := spawn.New(testkit.Missing).PipeStdout().PipeStderr().Start(testkit.Dry(testkit.Says(long, long, 0)))
	require.NoError(t, err)
	for _, r := range []io.ReadCloser{p.Stderr(), p.Stdout()} {
		// The order that is not the program's.
		b, err := io.ReadAll(r)
		require.NoError(t, err)
		require.True(t, long == string(b))
		require.NoError(t, r.Close())
	}
	require.NoError(t, p.Wait())
}

func TestDryRunWhoseReaderGoesAwayDiesOfSIGPIPE(t *testing.T) {
	checkDryLeaks(t)
	p, err := spawn.New(testkit.Missing).PipeStdout().Start(testkit.Dry(testkit.Says(string(testkit.Pattern(1<<20)), "", 0)))
	require.NoError(t, err)
	require.NoError(t, p.Stdout().Close())
	require.Error(t, p.Wait())
	require.Equal(t, syscall.SIGPIPE, p.Status().Signal)
}

func TestDryRunReadsAPipeUntilItIsClosed(t *testing.T) {
	checkDryLeaks(t)
	got := make(chan string, 1)
	p, err := spawn.New(testkit.Missing).PipeStdin().Start(testkit.Dry(func(d *spawn.DryRunCall) { got <- d.Stdin() }))
	require.NoError(t, err)
	_, err = io.WriteString(p.Stdin(), "one ")
	require.NoError(t, err)
	require.False(t, process.IsClosed(p.Done()))
	_, err = io.WriteString(p.Stdin(), "two")
	require.NoError(t, err)
	require.NoError(t, p.Stdin().Close())
	require.NoError(t, p.Wait())
	require.Equal(t, "one two", <-got)
}

func TestDryRunAnswersBeforeItHasReadAll(t *testing.T) {
	checkDryLeaks(t)
	p, err := spawn.New(testkit.Missing).PipeStdin().PipeStdout().Start(testkit.Dry(func(d *spawn.DryRunCall) {
		b := make([]byte, 2)
		for {
			if _, err := io.ReadFull(d.Input(), b); err != nil {
				return
			}
			d.Stdout = strings.ToUpper(string(b))
			d.Flush()
		}
	}))
	require.NoError(t, err)
	for _, s := range []string{"ab", "cd"} {
		_, err = io.WriteString(p.Stdin(), s)
		require.NoError(t, err)
		b := make([]byte, 2)
		_, err = io.ReadFull(p.Stdout(), b)
		require.NoError(t, err)
		require.Equal(t, strings.ToUpper(s), string(b))
	}
	require.NoError(t, p.Stdin().Close())
	require.NoError(t, p.Wait())
	require.NoError(t, p.Stdout().Close())
}

func TestDryRunTakesAllThatIsWrittenToItsPipe(t *testing.T) {
	checkDryLeaks(t)
	p, err := spawn.New(testkit.Missing).PipeStdin().Start(testkit.Dry(testkit.Says("", "", 0)))
	require.NoError(t, err)
	require.NoError(t, p.Wait())
	_, err = p.Stdin().Write(testkit.Pattern(1 << 20))
	require.NoError(t, err)
	require.NoError(t, p.Stdin().Close())
}

func TestDryRunWithAPipeMayFailToStart(t *testing.T) {
	checkDryLeaks(t)
	p, err := spawn.New(testkit.Missing).PipeStdin().PipeStdout().PipeStderr().Start(testkit.Dry(func(d *spawn.DryRunCall) { d.Err = fs.ErrNotExist }))
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.Nil(t, p)
}

func TestDryRunIsEndedBySignalsThatEndAProgram(t *testing.T) {
	checkDryLeaks(t)
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL, syscall.SIGHUP, syscall.SIGSEGV} {
		p, err := spawn.New(testkit.Missing).Start(testkit.Dry(untilEnded))
		require.NoError(t, err)
		require.NoError(t, p.Signal(sig))
		<-p.Done()
		require.Equal(t, spawn.Status{ExitCode: -1, Signal: sig}, p.Status())
		var exit *spawn.ExitError
		require.ErrorAs(t, p.Wait(), &exit)
		require.NoError(t, exit.Err)
	}
	p, err := spawn.New(testkit.Missing).Start(testkit.Dry(untilEnded))
	require.NoError(t, err)
	require.NoError(t, p.Abort())
	require.EqualError(t, p.Wait(), "spawn: no-such-program: signal: "+syscall.SIGTERM.String())
	p, err = spawn.New(testkit.Missing).SetGracePeriod(0).Start(testkit.Dry(untilEnded))
	require.NoError(t, err)
	require.NoError(t, p.Abort())
	require.Equal(t, syscall.SIGKILL, p.Status().Signal)
	require.Error(t, p.Signal(fakeSignal{}), "not a signal")
}

type fakeSignal struct{}

func (fakeSignal) Signal()        {}
func (fakeSignal) String() string { return "fake" }

func TestDryRunMayHandleSignals(t *testing.T) {
	checkDryLeaks(t)
	p, err := spawn.New(testkit.Missing).Start(testkit.Dry(func(d *spawn.DryRunCall) {
		signals := d.Signals()
		require.Equal(t, os.Signal(syscall.SIGHUP), <-signals)
		require.Equal(t, os.Signal(syscall.SIGTERM), <-signals)
		d.ExitCode = 7
	}))
	require.NoError(t, err)
	require.NoError(t, p.Signal(syscall.SIGHUP))
	require.NoError(t, p.Signal(syscall.SIGTERM))
	<-p.Done()
	require.Equal(t, spawn.Status{ExitCode: 7}, p.Status())
}

func TestDryRunThatIgnoresSIGTERMGetsSIGKILLAfterTheGracePeriod(t *testing.T) {
	checkDryLeaks(t)
	over := make(chan bool)
	defer close(over)
	p, err := spawn.New(testkit.Missing).SetGracePeriod(time.Millisecond).Start(testkit.Dry(func(d *spawn.DryRunCall) {
		d.Signals()
		<-over // whatever comes
	}))
	require.NoError(t, err)
	require.NoError(t, p.Abort())
	require.Equal(t, syscall.SIGKILL, p.Status().Signal)
}

func TestDryRunEndsWithItsContext(t *testing.T) {
	checkDryLeaks(t)
	cause := errors.New("enough")
	over := make(chan bool) // for functions that do not look at their context
	defer close(over)
	for name, fn := range map[string]spawn.DryRunFunc{
		"looks at its context":         untilEnded,
		"does not look at its context": func(d *spawn.DryRunCall) { d.Stdout = "ready\n"; d.Flush(); <-over },
	} {
		for way, run := range testkit.Ways {
			what := name + ", " + way
			ctx, cancel := context.WithCancelCause(context.Background())
			err := run(spawn.WithDryRun(ctx, func(d *spawn.DryRunCall) {
				if way == "Start" {
					d.Flush() // otherwise it has not started
				}
				cancel(cause)
				fn(d)
			}), spawn.New(testkit.Missing))
			var start *testkit.NotAStart
			if errors.As(err, &start) {
				err = start.Err
			}
			require.ErrorIs(t, err, context.Canceled, what)
			require.ErrorIs(t, err, cause, what)
			if way != "Lines" && way != "Records" && way != "RunRegex" {
				// The pipe of these may be closed before they have started.
				var exit *spawn.ExitError
				require.ErrorAs(t, err, &exit, what)
				require.Equal(t, spawn.Status{ExitCode: -1, Signal: syscall.SIGTERM}, exit.Status, what)
			}
		}
	}
}

func TestDryRunOfRunIsRunningFromTheStart(t *testing.T) {
	checkDryLeaks(t)
	ctx, cancel := context.WithCancel(context.Background())
	status, err := spawn.New(testkit.Missing).RunStatus(spawn.WithDryRun(ctx, func(d *spawn.DryRunCall) { cancel(); <-d.Context().Done() }))
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, spawn.Status{ExitCode: -1, Signal: syscall.SIGTERM}, status)
}

func TestDryRunEndsWithItsContextBeforeItHasStarted(t *testing.T) {
	checkDryLeaks(t)
	ctx, cancel := context.WithCancel(context.Background())
	over := make(chan bool)
	_, err := spawn.New(testkit.Missing).PipeStdin().PipeStdout().Start(spawn.WithDryRun(ctx, func(*spawn.DryRunCall) { cancel(); <-over }))
	require.EqualError(t, err, `spawn: cannot start "no-such-program": start: context canceled`)
	close(over)
	for name, run := range testkit.Ways {
		err = run(spawn.WithDryRun(ctx, func(*spawn.DryRunCall) { t.Error("called") }), spawn.New(testkit.Missing))
		require.EqualError(t, err, `spawn: cannot start "no-such-program": start: context canceled`, name)
	}
}

func TestDryRunIsEndedWhileItReadsOrWrites(t *testing.T) {
	checkDryLeaks(t)
	r, w := io.Pipe() // a reader and a writer that block
	for name, c := range map[string]*spawn.Command{
		"reader":      spawn.New(testkit.Missing).SetStdin(r),
		"pipe":        spawn.New(testkit.Missing).PipeStdin(),
		"writer":      spawn.New(testkit.Missing).SetStdout(w),
		"pipe output": spawn.New(testkit.Missing).PipeStdout(),
	} {
		ctx, cancel := context.WithCancel(context.Background())
		p, err := c.Start(spawn.WithDryRun(ctx, func(d *spawn.DryRunCall) {
			d.Flush()
			d.Stdin()
			d.Stdout = string(testkit.Pattern(1 << 20))
		}))
		require.NoError(t, err, name)
		// Most likely it reads or writes by then.
		time.AfterFunc(10*time.Millisecond, cancel)
		require.ErrorIs(t, p.Wait(), context.Canceled, name)
		for _, e := range testkit.Running(p).Pipes {
			if e != nil {
				e.Close()
			}
		}
	}
	r.Close()
}

func TestDryRunShakesHands(t *testing.T) {
	checkDryLeaks(t)
	ctx := context.Background()
	var ran atomic.Bool
	p, err := spawn.New(testkit.Missing).RequireHandshake().Start(testkit.Dry(func(d *spawn.DryRunCall) { ran.Store(true); d.ExitCode = 5 }))
	require.NoError(t, err)
	require.NoError(t, p.HandshakeWait(ctx))
	require.NoError(t, p.HandshakeWait(ctx))
	require.False(t, ran.Load())
	require.NoError(t, p.HandshakeNotify())
	require.True(t, ran.Load())
	require.ErrorContains(t, p.HandshakeNotify(), "notified already")
	require.ErrorContains(t, p.Wait(), "exit status 5")
	require.NoError(t, p.HandshakeWait(ctx))

	p, err = spawn.New(testkit.Missing).RequireHandshake().Start(testkit.Dry(func(d *spawn.DryRunCall) { d.Err = fs.ErrNotExist }))
	require.NoError(t, err)
	require.NoError(t, p.HandshakeWait(ctx))
	err = p.HandshakeNotify()
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.Equal(t, err, p.Wait())
	require.Equal(t, err, p.HandshakeWait(ctx))
}

func TestDryRunAtItsGateEndsWithoutRunning(t *testing.T) {
	checkDryLeaks(t)
	ctx, cancel := context.WithCancel(context.Background())
	never := spawn.WithDryRun(ctx, func(*spawn.DryRunCall) { t.Error("called") })
	for want, end := range map[string]func(*spawn.Process){
		"start: Wait was called before HandshakeNotify": func(p *spawn.Process) { _ = p.Wait() },
		"start: aborted": func(p *spawn.Process) { require.NoError(t, p.Abort()) },
		"handshake: the child ended before HandshakeNotify: signal: " + syscall.SIGKILL.String(): func(p *spawn.Process) { require.NoError(t, p.Signal(syscall.SIGKILL)) },
		"start: context canceled": func(*spawn.Process) { cancel() },
	} {
		if want == "start: context canceled" {
			continue // last
		}
		requireEndAtGate(t, never, want, end)
	}
	requireEndAtGate(t, never, "start: context canceled", func(*spawn.Process) { cancel() })
}

func requireEndAtGate(t *testing.T, ctx context.Context, want string, end func(*spawn.Process)) {
	t.Helper()
	p, err := spawn.New(testkit.Missing).RequireHandshake().PipeStdin().Start(ctx)
	require.NoError(t, err)
	end(p)
	<-p.Done()
	require.ErrorContains(t, p.Wait(), want)
	require.Equal(t, p.Wait(), p.HandshakeWait(context.Background()))
	require.Error(t, p.HandshakeNotify())
	require.Equal(t, spawn.Status{ExitCode: -1}, p.Status())
	require.NoError(t, p.Stdin().Close())
}

func TestDryRunGetsSignalsThatCameAtItsGateWhenItRuns(t *testing.T) {
	checkDryLeaks(t)
	p, err := spawn.New(testkit.Missing).RequireHandshake().Start(testkit.Dry(untilEnded))
	require.NoError(t, err)
	require.NoError(t, p.Signal(syscall.SIGTERM))
	require.NoError(t, p.HandshakeWait(context.Background()))
	require.False(t, process.IsClosed(p.Done()))
	require.NoError(t, p.HandshakeNotify())
	require.ErrorContains(t, p.Wait(), syscall.SIGTERM.String())
}

func TestDryRunWritesNoPidFile(t *testing.T) {
	dir := t.TempDir()
	ctx := testkit.Dry(func(d *spawn.DryRunCall) { _, _ = d.Explain() })
	for _, path := range []string{filepath.Join(dir, "pid"), filepath.Join(dir, "missing", "pid")} {
		p, err := spawn.New(testkit.Missing).SetPidFile(path).Start(ctx)
		require.NoError(t, err)
		require.NoError(t, p.Wait())
		require.NoError(t, spawn.New(testkit.Missing).SetPidFile(path).Run(ctx))
	}
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, entries)
}

func TestDryRunClosesFilesThatItWasGiven(t *testing.T) {
	for name, run := range testkit.Ways {
		for outcome, ctx := range map[string]context.Context{
			"runs": testkit.Dry(testkit.Says("", "", 0)), "fails": testkit.Dry(func(d *spawn.DryRunCall) { d.Err = fs.ErrNotExist }),
		} {
			kept, given := testkit.TempFile(t, ""), testkit.TempFile(t, "")
			_ = run(ctx, spawn.New(testkit.Missing).PassFDAs(kept, 5).PassFDAs(given, 6, spawn.CloseParent))
			require.ErrorIs(t, given.Close(), os.ErrClosed, "%s %s", name, outcome)
			require.NoError(t, kept.Close(), name)
		}
	}
}

func TestDryRunOfExecReturns(t *testing.T) {
	const tooLong = ": 65537 bytes do not fit into a pipe (64 KiB)"
	f := testkit.TempFile(t, "")
	restore := spawn.SetDryRun(func(d *spawn.DryRunCall) { d.Stdout = d.Stdin() + d.Args[1] })
	require.NoError(t, spawn.New(testkit.Missing, "a").SetInput([]byte("in ")).SetStdout(f).Exec())
	require.Equal(t, "in a", content(t, f))
	require.ErrorContains(t, spawn.New(testkit.Missing).SetStdout(io.Discard).Exec(), "spawn: Exec: stdout goes to a writer of this process, which Exec replaces")
	require.EqualError(t, spawn.New(testkit.Missing).SetInput(make([]byte, 64<<10+1)).Exec(), "spawn: Exec: SetInput"+tooLong)
	require.NoError(t, spawn.New(testkit.Missing, "a").SetInput(make([]byte, 64<<10)).Exec())
	c := spawn.New(testkit.Missing)
	c.SetSendBuffer(make([]byte, 64<<10+1))
	require.EqualError(t, c.Exec(), "spawn: Exec: SetSendBuffer"+tooLong)
	require.ErrorContains(t, spawn.New(testkit.Missing).SetNamespaces(spawn.NetworkNamespace).Exec(), "namespaces are for a child")
	require.ErrorContains(t, spawn.New("").Exec(), "empty")
	restore()
	defer spawn.SetDryRun(testkit.Says("", "", 3))()
	require.ErrorContains(t, spawn.New(testkit.Missing).Exec(), "exit status 3")
	defer spawn.SetDryRun(func(d *spawn.DryRunCall) { d.Err = fs.ErrPermission })()
	require.ErrorAs(t, spawn.New(testkit.Missing).Exec(), new(*spawn.StartError))
}

func TestDryRunOfTheContextWins(t *testing.T) {
	var calls []string
	named := func(name string) spawn.DryRunFunc { return func(*spawn.DryRunCall) { calls = append(calls, name) } }
	run := func(ctx context.Context) { require.NoError(t, spawn.New(testkit.Missing).Run(ctx)) }
	ctx := context.Background()
	restore := spawn.SetDryRun(named("process"))
	run(ctx)
	restoreInner := spawn.SetDryRun(named("inner"))
	run(ctx)
	run(spawn.WithDryRun(ctx, named("context")))
	run(spawn.WithDryRun(spawn.WithDryRun(ctx, named("context")), named("nearer")))
	require.Error(t, spawn.New(testkit.Missing).Run(spawn.WithDryRun(ctx, nil)), "a real run")
	restoreInner()
	run(ctx)
	restore()
	require.Error(t, spawn.New(testkit.Missing).Run(ctx), "a real run")
	require.Equal(t, []string{"process", "inner", "context", "nearer", "process"}, calls)
	run(spawn.WithDryRun(ctx, named("context")))
	defer spawn.SetDryRun(nil)()
	require.Error(t, spawn.New(testkit.Missing).Run(ctx), "a real run")
}

func TestDryRunsOfParallelTestsDoNotSeeEachOther(t *testing.T) {
	checkDryLeaks(t)
	var all sync.WaitGroup
	for i := range 20 {
		all.Add(1)
		go func() {
			defer all.Done()
			want := fmt.Sprint(i)
			ctx := testkit.Dry(func(d *spawn.DryRunCall) { d.Stdout = want + d.Args[1] })
			for range 20 {
				out, err := spawn.New(testkit.Missing, want).Output(ctx)
				if err != nil || string(out) != want+want {
					t.Errorf("%d: %q, %v", i, out, err)
				}
			}
		}()
	}
	all.Wait()
}

func TestDryRunExplainsOnLinuxOnly(t *testing.T) {
	require.NoError(t, spawn.New(testkit.Missing, "a").AddSecretArg("hush").Run(testkit.Dry(func(d *spawn.DryRunCall) {
		text, err := d.Explain()
		if runtime.GOOS != "linux" {
			require.ErrorIs(t, err, errors.ErrUnsupported)
			return
		}
		require.NoError(t, err)
		require.Contains(t, text, `execve("no-such-program", ["no-such-program", "a", "***"]`)
	})))
}

// A signal right after Start does not come between: the program handles signals
// as soon as it is seen to run.
func TestDryRunHandlesSignalsFromItsStartOn(t *testing.T) {
	checkDryLeaks(t)
	ctx := testkit.Dry(func(d *spawn.DryRunCall) {
		<-d.Signals()
		d.ExitCode = 7
	})
	for range 2000 {
		p, err := spawn.New(testkit.Missing).Start(ctx)
		require.NoError(t, err)
		require.NoError(t, p.Signal(syscall.SIGTERM))
		_ = p.Wait()
		require.Equal(t, 7, p.Status().ExitCode, p.Status())
	}
}

// BenchmarkDryRunOff measures what a run pays for a dry run that is off:
// without any, and with a context of some other test's in the process.
func BenchmarkDryRunOff(b *testing.B) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()
	for name, any := range map[string]bool{"never": false, "elsewhere": true} {
		b.Run(name, func(b *testing.B) {
			old := spawn.AnyDryContext.Swap(any)
			defer spawn.AnyDryContext.Store(old)
			for range b.N {
				if spawn.InDryRun(ctx) {
					b.Fatal("on")
				}
			}
		})
	}
}

func BenchmarkDryRun(b *testing.B) {
	ctx := testkit.Dry(testkit.Says("out\n", "", 0))
	for range b.N {
		if _, err := spawn.New(testkit.Missing).Output(ctx); err != nil {
			b.Fatal(err)
		}
	}
}

func TestDryRunServesAPTY(t *testing.T) {
	p, err := spawn.New(testkit.Missing).SetPTY(24, 80).Start(testkit.Dry(func(d *spawn.DryRunCall) {
		d.Stdout = "name? "
		d.Flush()
		name, _ := bufio.NewReader(d.Input()).ReadString('\n')
		d.Stdout, d.Stderr, d.ExitCode = "hello "+name, "rest: "+d.Stdin(), 3
	}))
	require.NoError(t, err)
	prompt := make([]byte, 6)
	_, err = io.ReadFull(p.PTY(), prompt)
	require.NoError(t, err)
	require.Equal(t, "name? ", string(prompt))
	_, err = io.WriteString(p.PTY(), "x\n\x04ignored")
	require.NoError(t, err)
	require.NoError(t, p.Resize(1, 2))
	rest, err := io.ReadAll(p.PTY())
	require.NoError(t, err)
	require.Equal(t, "hello x\nrest: ", string(rest))
	var exit *spawn.ExitError
	require.ErrorAs(t, p.Wait(), &exit)
	require.Equal(t, 3, exit.Status.ExitCode)
	_, err = p.PTY().Write([]byte("x"))
	require.ErrorIs(t, err, syscall.EIO)
	require.NoError(t, p.PTY().Close())
	require.ErrorIs(t, p.Resize(1, 2), os.ErrClosed)
	_, err = p.PTY().Write([]byte("x"))
	require.ErrorIs(t, err, os.ErrClosed)
}

func TestDryRunOnAPTYWithStreamsElsewhere(t *testing.T) {
	var out string
	p, err := spawn.New(testkit.Missing).SetPTY(0, 0).SetInput([]byte("data")).SetOutputBuffer(&out).SetStderr(nil).
		Start(testkit.Dry(func(d *spawn.DryRunCall) { d.Stdout, d.Stderr = d.Stdin(), "lost" }))
	require.NoError(t, err)
	shown, err := io.ReadAll(p.PTY())
	require.NoError(t, err)
	require.Empty(t, shown)
	require.NoError(t, p.Wait())
	require.Equal(t, "data", out)
	require.NoError(t, p.PTY().Close())
}

func TestDryRunIsHungUpOn(t *testing.T) {
	p, err := spawn.New(testkit.Missing).SetPTY(0, 0).Start(testkit.Dry(func(d *spawn.DryRunCall) {
		d.Flush()
		<-d.Context().Done()
	}))
	require.NoError(t, err)
	require.NoError(t, p.PTY().Close())
	var exit *spawn.ExitError
	require.ErrorAs(t, p.Wait(), &exit)
	require.Equal(t, syscall.SIGHUP, exit.Status.Signal)
}
