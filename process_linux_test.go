package spawn_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/virspawn/spawn"
	"github.com/virspawn/spawn/internal/testkit"
	"golang.org/x/sys/unix"
)

func init() {
	testkit.Helpers["process-busy"] = beBusy
	testkit.Helpers["process-touch"] = touchMemory
	testkit.Helpers["process-host"] = hostThatReaps
	testkit.Helpers["process-many"] = manyChildren
	// Otherwise each helper that was built with the race detector ends with
	// a pause of a second.
	os.Setenv("GORACE", strings.TrimSpace("atexit_sleep_ms=0 "+os.Getenv("GORACE")))
}

func TestWaitReturnsTheSameToEveryoneBeforeAndAfterTheEnd(t *testing.T) {
	testkit.InBothWaits(t, func(t *testing.T) {
		testkit.CheckLeaks(t)
		p, err := testkit.Shell("cat; exit 3").PipeStdin().Start(context.Background())
		require.NoError(t, err)
		require.Equal(t, spawn.Status{ExitCode: -1}, p.Status(), "nothing is known yet")
		results := make(chan error)
		for range 16 {
			go func() { results <- p.Wait() }()
		}
		select {
		case <-p.Done():
			t.Error("Done is closed while the program runs")
		case err := <-results:
			t.Errorf("Wait returned %v while the program runs", err)
		default:
		}
		require.NoError(t, p.Stdin().Close())
		first := p.Wait()
		testkit.RequireExit(t, first, 3)
		for range 16 {
			require.Same(t, first, <-results)
		}
		require.Same(t, first, p.Wait())
		<-p.Done()
		require.Equal(t, 3, p.Status().ExitCode)
	})
}

func TestPIDIsThatOfTheProgram(t *testing.T) {
	testkit.CheckLeaks(t)
	var s string
	p, err := testkit.Shell("echo $$").SetOutputBuffer(&s).Start(context.Background())
	require.NoError(t, err)
	require.NoError(t, p.Wait())
	require.Equal(t, strconv.Itoa(p.PID())+"\n", s)
}

func TestSignalReachesTheProgram(t *testing.T) {
	testkit.InBothWaits(t, func(t *testing.T) {
		testkit.CheckLeaks(t)
		p := testkit.StartReady(t, testkit.Shell(testkit.Trap, "USR1", "echo caught; exit 5"))
		require.NoError(t, p.Signal(unix.Signal(0)), "it lives")
		require.NoError(t, p.Signal(unix.SIGUSR1))
		require.Equal(t, "caught", testkit.ReadLine(t, p.Stdout()))
		testkit.RequireExit(t, p.Wait(), 5)
	})
}

func TestSignalAfterTheEndIsErrProcessDone(t *testing.T) {
	testkit.CheckLeaks(t)
	p, err := spawn.New("/bin/true").Start(context.Background())
	require.NoError(t, err)
	require.NoError(t, p.Wait())
	require.ErrorIs(t, p.Signal(unix.SIGTERM), os.ErrProcessDone)
	require.ErrorIs(t, p.Signal(os.Interrupt), os.ErrProcessDone)
}

// notASignal is an os.Signal that is no number.
type notASignal struct{}

func (notASignal) Signal()        {}
func (notASignal) String() string { return "no signal" }

func TestSignalRefusesWhatIsNoSignal(t *testing.T) {
	testkit.CheckLeaks(t)
	p, err := spawn.New("/bin/cat").PipeStdin().Start(context.Background())
	require.NoError(t, err)
	for _, sig := range []os.Signal{notASignal{}, nil, syscall.Signal(-1), syscall.Signal(65), syscall.Signal(1 << 20)} {
		require.ErrorContains(t, p.Signal(sig), "is not a signal")
	}
	require.NoError(t, p.Stdin().Close())
	require.NoError(t, p.Wait())
}

func TestAbortLetsTheProgramEndByItself(t *testing.T) {
	testkit.InBothWaits(t, func(t *testing.T) {
		testkit.CheckLeaks(t)
		p := testkit.StartReady(t, testkit.Shell(testkit.Trap, "TERM", "echo caught; exit 7").SetGracePeriod(time.Hour))
		require.NoError(t, p.Abort())
		select {
		case <-p.Done():
		default:
			t.Error("Abort returned before the end")
		}
		require.Equal(t, "caught", testkit.ReadLine(t, p.Stdout()))
		exit := testkit.RequireExit(t, p.Wait(), 7)
		require.NoError(t, exit.Err, "the caller knows that it was aborted")
	})
}

func TestAbortKillsAfterTheGracePeriod(t *testing.T) {
	testkit.InBothWaits(t, func(t *testing.T) {
		testkit.CheckLeaks(t)
		p := testkit.StartReady(t, testkit.Shell(testkit.IgnoreTERM).SetGracePeriod(20*time.Millisecond))
		require.NoError(t, p.Abort())
		testkit.RequireSignal(t, p.Wait(), unix.SIGKILL)
	})
}

func TestAbortWithoutAGracePeriodKillsAtOnce(t *testing.T) {
	testkit.CheckLeaks(t)
	p := testkit.StartReady(t, testkit.Shell("echo ready; exec sleep 1000").SetGracePeriod(0))
	require.NoError(t, p.Abort())
	testkit.RequireSignal(t, p.Wait(), unix.SIGKILL)
}

func TestAbortIsForAnyNumberOfCallersAndTimes(t *testing.T) {
	testkit.InBothWaits(t, func(t *testing.T) {
		testkit.CheckLeaks(t)
		p := testkit.StartReady(t, testkit.Shell(testkit.IgnoreTERM).SetGracePeriod(20*time.Millisecond))
		results := make(chan error)
		for range 16 {
			go func() { results <- p.Abort() }()
		}
		for range 16 {
			require.NoError(t, <-results)
		}
		testkit.RequireSignal(t, p.Wait(), unix.SIGKILL)
		require.NoError(t, p.Abort(), "after the end")
		testkit.RequireSignal(t, p.Wait(), unix.SIGKILL)
	})
}

func TestAbortAfterTheEndChangesNothing(t *testing.T) {
	testkit.CheckLeaks(t)
	for _, mode := range []spawn.KillMode{spawn.KillProcess, spawn.KillGroup, spawn.KillTree} {
		p, err := testkit.Shell("exit 3").SetKillMode(mode).Start(context.Background())
		require.NoError(t, err)
		testkit.RequireExit(t, p.Wait(), 3)
		require.NoError(t, p.Abort())
		testkit.RequireExit(t, p.Wait(), 3)
	}
}

func TestAbortDoesNotWaitForAGrandchild(t *testing.T) {
	testkit.CheckLeaks(t)
	alive, w := testkit.NewPipe(t)
	var s string
	c := testkit.Shell("sleep 1000 3>&4 & echo $! >&3; exit 0").SetOutputBuffer(&s)
	ready, readyW := testkit.NewPipe(t)
	c.PassFDAs(readyW, 3, spawn.CloseParent).PassFDAs(w, 4, spawn.CloseParent)
	p, err := c.Start(context.Background())
	require.NoError(t, err)
	pid := killAtEnd(t, testkit.ReadLine(t, ready))
	testkit.WaitForNoChild(t)
	select {
	case <-p.Done():
		t.Error("the grandchild may still write to standard output")
	default:
	}
	require.NoError(t, p.Abort())
	require.NoError(t, p.Wait(), "the program has exited with code 0")
	require.NoError(t, unix.Kill(pid, 0), "the grandchild lives")
	require.NoError(t, unix.Kill(pid, unix.SIGKILL))
	_, err = alive.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF)
}

// killAtEnd kills the process, a grandchild, when the test ends. It returns
// its pid.
func killAtEnd(t testing.TB, line string) int {
	pid, err := strconv.Atoi(line)
	require.NoError(t, err)
	t.Cleanup(func() { _ = unix.Kill(pid, unix.SIGKILL) })
	return pid
}

func TestStatusTellsExitCodesFromSignals(t *testing.T) {
	testkit.CheckLeaks(t)
	for script, want := range map[string]string{
		"exit 0":        "exit status 0",
		"exit 1":        "exit status 1",
		"exit 255":      "exit status 255",
		"kill -TERM $$": "signal: terminated",
		"kill -KILL $$": "signal: killed",
		"kill -USR2 $$": "signal: user defined signal 2",
	} {
		p, err := testkit.Shell(script).Start(context.Background())
		require.NoError(t, err)
		err = p.Wait()
		require.Equal(t, want, p.Status().String())
		require.False(t, p.Status().CoreDumped)
		require.Equal(t, want == "exit status 0", p.Status().Success())
		require.Equal(t, want == "exit status 0", err == nil)
	}
}

func TestAProcessShowsItsProgramAndItsState(t *testing.T) {
	testkit.CheckLeaks(t)
	p, err := spawn.New("/bin/cat", "-", "a b").AddSecretArg("hush").AddSecretEnv("S", "quiet").PipeStdin().Start(context.Background())
	require.NoError(t, err)
	shown := fmt.Sprintf("/bin/cat - 'a b' *** (pid %d): ", p.PID())
	require.Equal(t, shown+"running", p.String())
	require.Equal(t, "["+shown+"running]", fmt.Sprint([]any{p}), "where it is one of others")
	require.NoError(t, p.Signal(syscall.SIGKILL))
	require.Error(t, p.Wait())
	require.NoError(t, p.Stdin().Close())
	require.Equal(t, shown+"signal: killed", fmt.Sprint(p))

	for notify, want := range map[bool]string{true: "exit status 0", false: "never ran"} {
		p, err = spawn.New("/bin/true").RequireHandshake().Start(context.Background())
		require.NoError(t, err)
		shown = fmt.Sprintf("/bin/true (pid %d): ", p.PID())
		require.Equal(t, shown+"waiting for HandshakeNotify", p.String())
		if notify {
			require.NoError(t, p.HandshakeNotify())
		} else {
			require.NoError(t, p.Abort())
		}
		<-p.Done()
		require.Equal(t, shown+want, p.String())
	}
}

func TestStatusSaysWhetherCoreWasDumped(t *testing.T) {
	pattern, err := os.ReadFile("/proc/sys/kernel/core_pattern")
	require.NoError(t, err)
	if bytes.ContainsAny(pattern, "|/") {
		t.Skipf("the kernel does not write core dumps to the working directory: core_pattern is %q", pattern)
	}
	var limit unix.Rlimit
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_CORE, &limit))
	if limit.Max < 1<<20 {
		t.Skipf("the hard limit RLIMIT_CORE is %d", limit.Max)
	}
	testkit.CheckLeaks(t)
	dir := t.TempDir()
	crash := func(size uint64) *spawn.Command {
		return testkit.Shell("kill -ABRT $$").SetWorkingDirectory(dir).SetMaxCoreSize(size)
	}
	err = crash(limit.Max).Run(context.Background())
	require.True(t, testkit.RequireSignal(t, err, unix.SIGABRT).Status.CoreDumped)
	require.ErrorContains(t, err, "signal: aborted (core dumped)")

	err = crash(0).Run(context.Background())
	require.False(t, testkit.RequireSignal(t, err, unix.SIGABRT).Status.CoreDumped)
}

// beBusy uses processor time until this process has used args[0] of it, both as
// user and as system.
func beBusy(args []string) int {
	want, err := time.ParseDuration(args[0])
	if err != nil {
		return 1
	}
	var usage unix.Rusage
	for time.Duration(usage.Utime.Nano()) < want || time.Duration(usage.Stime.Nano()) < want {
		for range 1000 {
			_ = unix.Getppid()
		}
		if unix.Getrusage(unix.RUSAGE_SELF, &usage) != nil {
			return 1
		}
	}
	return 0
}

func TestStatusHasTheProcessorTime(t *testing.T) {
	testkit.CheckLeaks(t)
	const least = 10 * time.Millisecond
	status, err := testkit.HelperCommand(t, "process-busy", least.String()).RunStatus(context.Background())
	require.NoError(t, err)
	require.GreaterOrEqual(t, status.UserTime, least)
	require.GreaterOrEqual(t, status.SystemTime, least)
	require.Less(t, status.UserTime, time.Hour)
	require.Less(t, status.SystemTime, time.Hour)
}

// touchMemory uses args[0] bytes of memory and prints the peak of what this
// process has used, in bytes.
func touchMemory(args []string) int {
	n, err := strconv.Atoi(args[0])
	if err != nil {
		return 1
	}
	b := make([]byte, n)
	for i := 0; i < n; i += 4096 {
		b[i] = 1
	}
	fmt.Println(peakMemory())
	runtime.KeepAlive(b)
	return 0
}

// peakMemory returns the peak memory of this process, in bytes. (VmHWM in
// proc_pid_status(5))
func peakMemory() int64 {
	text, _ := os.ReadFile("/proc/self/status")
	_, rest, _ := strings.Cut(string(text), "VmHWM:")
	var kib int64
	_, _ = fmt.Sscan(rest, &kib)
	return kib << 10
}

func TestStatusHasThePeakMemoryInBytes(t *testing.T) {
	testkit.CheckLeaks(t)
	const touched = 64 << 20
	var s string
	status, err := testkit.HelperCommand(t, "process-touch", strconv.Itoa(touched)).SetOutputBuffer(&s).RunStatus(context.Background())
	require.NoError(t, err)
	own, err := strconv.ParseInt(strings.TrimSpace(s), 10, 64)
	require.NoError(t, err)
	require.Greater(t, own, int64(touched))
	const slack = 32 << 20
	require.Greater(t, status.MaxRSS, own-slack)
	// A child begins on this process's memory, which the kernel takes
	// into account.
	require.Less(t, status.MaxRSS, max(own, peakMemory())+slack)
}

func TestPipesOfAProcessAreADialogue(t *testing.T) {
	testkit.InBothWaits(t, func(t *testing.T) {
		testkit.CheckLeaks(t)
		p, err := testkit.Shell(`while read x; do echo "out $x"; echo "err $x" >&2; done`).
			PipeStdin().PipeStdout().PipeStderr().Start(context.Background())
		require.NoError(t, err)
		for i := range 100 {
			_, err := fmt.Fprintln(p.Stdin(), i)
			require.NoError(t, err)
			require.Equal(t, fmt.Sprint("out ", i), testkit.ReadLine(t, p.Stdout()))
			require.Equal(t, fmt.Sprint("err ", i), testkit.ReadLine(t, p.Stderr()))
		}
		require.NoError(t, p.Stdin().Close())
		require.NoError(t, p.Wait())
		for _, r := range []io.ReadCloser{p.Stdout(), p.Stderr()} {
			rest, err := io.ReadAll(r)
			require.NoError(t, err)
			require.Empty(t, rest)
			require.NoError(t, r.Close())
		}
	})
}

func TestEndsOfPipesAreNilWithoutPipes(t *testing.T) {
	testkit.CheckLeaks(t)
	p, err := spawn.New("/bin/true").Start(context.Background())
	require.NoError(t, err)
	// Interfaces that hold a nil pointer would not do.
	require.True(t, p.Stdin() == nil)
	require.True(t, p.Stdout() == nil)
	require.True(t, p.Stderr() == nil)
	require.NoError(t, p.Wait())
}

func TestOutputLeftInAPipeCanBeReadAfterWait(t *testing.T) {
	testkit.CheckLeaks(t)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	for _, ctx := range []context.Context{context.Background(), ctx} {
		p, err := testkit.Shell("echo out; echo err >&2").PipeStdout().PipeStderr().Start(ctx)
		require.NoError(t, err)
		require.NoError(t, p.Wait())
		require.Equal(t, "out", testkit.ReadLine(t, p.Stdout()))
		require.Equal(t, "err", testkit.ReadLine(t, p.Stderr()))
		require.NoError(t, p.Stdout().Close())
		require.NoError(t, p.Stderr().Close())
	}
}

func TestWritingToAProgramThatHasEndedIsEPIPE(t *testing.T) {
	testkit.CheckLeaks(t)
	p, err := spawn.New("/bin/true").PipeStdin().Start(context.Background())
	require.NoError(t, err)
	require.NoError(t, p.Wait())
	_, err = io.WriteString(p.Stdin(), "text")
	require.ErrorIs(t, err, unix.EPIPE)
	require.NoError(t, p.Stdin().Close())
}

func TestAForgottenProcessLeavesNothing(t *testing.T) {
	testkit.CheckLeaks(t)
	before := testkit.OpenFDs(t)
	for range 20 {
		_, err := testkit.Shell("echo text >&2").PipeStderr().SetInput([]byte("text")).Start(context.Background())
		require.NoError(t, err)
	}
	testkit.WaitForNoChild(t)
	testkit.Eventually(t, "the garbage collector closes the pipes", func() bool {
		runtime.GC()
		return slices.Equal(testkit.OpenFDs(t), before)
	})
}

func TestAStoppedChildIsEnded(t *testing.T) {
	testkit.InBothWaits(t, func(t *testing.T) {
		testkit.CheckLeaks(t)
		p, err := spawn.New("/bin/sleep", "1000").SetGracePeriod(time.Hour).Start(context.Background())
		require.NoError(t, err)
		require.NoError(t, p.Signal(unix.SIGSTOP))
		testkit.Eventually(t, "the child has stopped", func() bool { return testkit.ProcessState(p.PID()) == 'T' })
		require.NoError(t, p.Abort())
		testkit.RequireSignal(t, p.Wait(), unix.SIGTERM)
	})
}

// A host program that waits for every child itself, by the disposition of
// SIGCHLD or by a loop around wait4.
var hosts = map[string]func(){
	"ignores SIGCHLD": func() { testkit.IgnoreSignal(unix.SIGCHLD) },
	"calls wait4":     func() { go reapForever(0) },
	"calls wait4 all": func() { go reapForever(unix.WALL) },
}

// reapForever takes the status of every child, as soon as there is one.
func reapForever(options int) {
	for {
		if _, err := unix.Wait4(-1, nil, options, nil); err == unix.ECHILD {
			runtime.Gosched()
		}
	}
}

func TestAHostThatWaitsForEveryChildGetsAClearErrorAndNoHang(t *testing.T) {
	rounds := 20
	if testing.Short() {
		rounds = 5
	}
	for host := range hosts {
		t.Run(host, func(t *testing.T) {
			testkit.CheckLeaks(t)
			// For a hang.
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			out, err := testkit.HelperCommand(t, "process-host", host, strconv.Itoa(rounds)).Output(ctx)
			require.NoError(t, err)
			require.Equal(t, "good\n", string(out))
		})
	}
}

// hostThatReaps runs programs while something else takes their status, in most
// cases before the library does.
func hostThatReaps(args []string) int {
	rounds, err := strconv.Atoi(args[1])
	if err != nil {
		return 1
	}
	hosts[args[0]]()
	always := args[0] == "ignores SIGCHLD"
	for range rounds {
		if err := useHost(always); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	fmt.Println("good")
	return 0
}

// useHost runs programs in each way. The status must be lost where always says
// so, and may be lost elsewhere.
func useHost(always bool) error {
	ctx := context.Background()
	lost := func(err error) bool {
		var exit *spawn.ExitError
		return errors.Is(err, unix.ECHILD) && errors.As(err, &exit) && exit.Status.ExitCode == -1 && exit.Status.Signal == 0 &&
			strings.Contains(err.Error(), "other code of this process has waited for process")
	}
	check := func(what string, err error) error {
		if lost(err) || !always && err == nil {
			return nil
		}
		return fmt.Errorf("%s: unexpected error %v", what, err)
	}
	if err := check("Run", spawn.New("/bin/true").Run(ctx)); err != nil {
		return err
	}
	out, err := testkit.Shell("echo out").Output(ctx)
	if err := check("Output", err); err != nil || string(out) != "out\n" {
		return fmt.Errorf("Output: %q %w", out, err)
	}
	var b bytes.Buffer
	if err := check("SetStdout", testkit.Shell("cat").SetStdin(strings.NewReader("in")).SetStdout(&b).Run(ctx)); err != nil || b.String() != "in" {
		return fmt.Errorf("SetStdout: %q %w", b.String(), err)
	}
	if err := spawn.New("/nonexistent/program").Run(ctx); !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("missing program: %w", err)
	}
	if _, err := spawn.New("/nonexistent/program").Start(ctx); !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("missing program: %w", err)
	}
	for _, mode := range []spawn.KillMode{spawn.KillProcess, spawn.KillGroup, spawn.KillTree} {
		p, err := spawn.New("/bin/sleep", "1000").SetKillMode(mode).Start(ctx)
		if err != nil {
			return err
		}
		if err := p.Abort(); err != nil {
			return fmt.Errorf("Abort: %w", err)
		}
		var exit *spawn.ExitError
		if err := p.Wait(); !lost(err) && (always || !errors.As(err, &exit) || exit.Status.Signal != unix.SIGTERM) {
			return fmt.Errorf("Abort: %w", err)
		}
	}

	// One of which the status is lost for sure.
	p, err := spawn.New("/bin/cat").PipeStdin().Start(ctx)
	if err != nil {
		return err
	}
	testkit.Running(p).Mu.Lock() // the library takes the status under this lock
	err = p.Stdin().Close()
	for {
		var info unix.Siginfo
		if unix.Waitid(unix.P_PID, p.PID(), &info, unix.WEXITED|unix.WNOWAIT|unix.WALL, nil) == unix.ECHILD {
			break
		}
	}
	testkit.Running(p).Mu.Unlock()
	if err := p.Wait(); !lost(err) {
		return fmt.Errorf("Wait: unexpected error %v", err)
	}
	if err := p.Signal(unix.SIGTERM); !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("Signal: unexpected error %v", err)
	}
	return err
}

// door holds children back: each reads from r until w is closed, after it has
// written a line to started.
type door struct{ r, w, startedR, startedW *os.File }

func newDoor(t testing.TB) *door {
	var g door
	g.r, g.w = testkit.NewPipe(t)
	g.startedR, g.startedW = testkit.NewPipe(t)
	return &g
}

// hold makes a script wait at the door before it goes on.
func (g *door) hold(script string) *spawn.Command {
	return testkit.Shell("echo >&3; read x; "+script).SetStdin(g.r).PassFDAs(g.startedW, 3)
}

// await waits until n children stand at the door.
func (g *door) await(t testing.TB, n int) {
	_, err := io.CopyN(io.Discard, g.startedR, int64(n))
	require.NoError(t, err)
}

// open lets all children go on.
func (g *door) open(t testing.TB) { require.NoError(t, g.w.Close()) }

func TestHundredsOfChildrenAtOnce(t *testing.T) {
	testkit.CheckLeaks(t)
	n := 240
	if testing.Short() {
		n = 64
	}
	g := newDoor(t)
	ctx := context.Background()
	var wg sync.WaitGroup
	for i := range n {
		c := g.hold(fmt.Sprintf("echo out %d; echo err %d >&2; exit %d", i, i, i%2*3))
		wg.Add(1)
		go func() {
			defer wg.Done()
			var s string
			var b bytes.Buffer
			var err error
			switch i / 2 % 5 {
			case 0:
				var out []byte
				out, err = c.Output(ctx)
				s = string(out)
			case 1:
				err = c.SetOutputBuffer(&s).Run(ctx)
			case 2:
				err = c.SetStdout(&b).Run(ctx)
				s = b.String()
			case 3:
				var p *spawn.Process
				if p, err = c.SetOutputBuffer(&s).Start(ctx); err == nil {
					err = p.Wait()
				}
			case 4:
				for line, e := range c.Lines(ctx) {
					if e == nil {
						s += line + "\n"
					}
					err = e
				}
			}
			if s != fmt.Sprintf("out %d\n", i) {
				t.Errorf("output %q of child %d", s, i)
			}
			var exit *spawn.ExitError
			switch {
			case i%2 == 0 && err == nil:
			case i%2 == 1 && errors.As(err, &exit) && exit.Status.ExitCode == 3:
			default:
				t.Errorf("error of child %d: %v", i, err)
			}
		}()
	}
	g.await(t, n)
	testkit.Eventually(t, "no wait blocks a thread", func() bool { return testkit.WaitsThatBlock() == 0 })
	g.open(t)
	wg.Wait()
}

func TestAWaitThatLastsIsParkedAndStillTakesTheOutput(t *testing.T) {
	large := testkit.Pattern(1 << 20)
	file := testkit.DataFile(t, large)
	for _, late := range []string{"small", "large", "none"} {
		t.Run(late, func(t *testing.T) {
			testkit.CheckLeaks(t)
			script := map[string]string{
				"small": "echo out; echo err >&2; exit 3",
				"large": "cat " + file + "; echo err >&2; exit 3",
				"none":  "exec >&-; echo err >&2; exit 3",
			}[late]
			want := map[string]string{"small": "out\n", "large": string(large)}[late]
			g := newDoor(t)
			type result struct {
				out []byte
				err error
			}
			run := make(chan result)
			go func() {
				out, err := g.hold(script).Output(context.Background())
				run <- result{out, err}
			}()
			var s, e string
			p, err := g.hold(script).SetOutputBuffer(&s).SetErrorBuffer(&e).Start(context.Background())
			require.NoError(t, err)
			g.await(t, 2)
			testkit.Eventually(t, "no wait blocks a thread", func() bool { return testkit.WaitsThatBlock() == 0 })
			g.open(t)

			r := <-run
			exit := testkit.RequireExit(t, r.err, 3)
			require.Equal(t, "err\n", string(exit.Stderr))
			requireSame(t, []byte(want), string(r.out), "Output")
			testkit.RequireExit(t, p.Wait(), 3)
			requireSame(t, []byte(want), s, "SetOutputBuffer")
			require.Equal(t, "err\n", e)
		})
	}
}

func TestThousandsOfChildrenTakeFewThreads(t *testing.T) {
	n := testkit.Rounds(4000, 400)
	var files unix.Rlimit
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &files))
	if files.Cur < uint64(n)+100 {
		t.Skipf("RLIMIT_NOFILE is %d", files.Cur)
	}
	reader := testkit.WaitingProgram(t)
	testkit.CheckLeaks(t)
	// In a process of its own, whose threads are not those of other tests.
	out, err := testkit.HelperCommand(t, "process-many", reader, strconv.Itoa(n)).Output(context.Background())
	require.NoError(t, err)
	threads, err := strconv.Atoi(string(out))
	require.NoError(t, err)
	t.Logf("%d children, %d threads", n, threads)
	require.LessOrEqual(t, threads, 40)
}

// manyChildren starts children that are all alive at once, waits for each
// in a goroutine of its own, and prints the highest number of threads of
// this process.
func manyChildren(args []string) int {
	n, err := strconv.Atoi(args[1])
	if err != nil {
		return 1
	}
	r, w, err := os.Pipe()
	if err != nil {
		return 1
	}
	most := 0
	count := func() {
		if tasks, err := os.ReadDir("/proc/self/task"); err == nil {
			most = max(most, len(tasks))
		}
	}
	c := spawn.New(args[0]).SetStdin(r)
	var failed atomic.Int32
	var wg sync.WaitGroup
	for i := range n {
		p, err := c.Start(context.Background())
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		wg.Add(1)
		go func() {
			defer wg.Done()
			if p.Wait() != nil {
				failed.Add(1)
			}
		}()
		if i%100 == 0 {
			count()
		}
	}
	count()
	w.Close()
	wg.Wait()
	count()
	if failed.Load() > 0 {
		fmt.Fprintln(os.Stderr, failed.Load(), "children failed")
		return 1
	}
	fmt.Print(most)
	return 0
}
