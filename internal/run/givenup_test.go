//go:build linux

package run_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/virspawn/spawn"
	"github.com/virspawn/spawn/internal/descriptor"
	"github.com/virspawn/spawn/internal/plan"
	"github.com/virspawn/spawn/internal/program"
	"github.com/virspawn/spawn/internal/run"
	"github.com/virspawn/spawn/internal/testkit"
	"golang.org/x/sys/unix"
)

func init() {
	testkit.Helpers["givenup-become-root"] = becomeRoot
	testkit.Helpers["givenup-run-setuid"] = runSetuid
}

// becomeRoot is a setuid program that its user cannot signal any more. It says
// so on descriptor 3 and runs until its standard input ends.
func becomeRoot([]string) int {
	if err := unix.Setresuid(0, 0, 0); err != nil {
		return testkit.Fail(err)
	}
	_, _ = unix.Write(3, []byte("ready"))
	_, _ = io.Copy(io.Discard, os.Stdin)
	return 0
}

// runSetuid runs the program args[0] by the call args[1], and reports what that
// returns when its context ends, and what is left when the program has ended.
func runSetuid(args []string) int {
	descriptor.Low.Reserve() // once and for all
	if err := spawn.New("/bin/true").SetStdout(io.Discard).Run(context.Background()); err != nil {
		return testkit.Fail(err)
	}
	open := testkit.OpenNumbers()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	r, w, err := os.Pipe()
	ready, says, err2 := os.Pipe()
	if err := errors.Join(err, err2); err != nil {
		return testkit.Fail(err)
	}
	c := spawn.New(args[0], testkit.HelperPrefix+"givenup-become-root").SetStdin(r).PassFDAs(says, 3).SetGracePeriod(10 * time.Millisecond)
	_, err = testkit.During(testkit.Calls[args[1]], c, ctx, func() {
		var b [16]byte
		_, _ = ready.Read(b[:])
		cancel()
	})
	fmt.Println(err)
	var exit *spawn.ExitError
	fmt.Println(errors.As(err, &exit), errors.Is(err, context.Canceled), errors.Is(err, unix.EPERM), exit != nil && !exit.Status.Success())
	fmt.Println("alone:", testkit.LeftBehind(open, false) == nil)
	for _, f := range []*os.File{r, w, ready, says} { // w ends it
		f.Close()
	}
	for deadline := time.Now().Add(30 * time.Second); ; runtime.Gosched() {
		err := testkit.LeftBehind(open, true)
		if err == nil || time.Now().After(deadline) {
			fmt.Println("left:", err)
			return 0
		}
	}
}

// A setuid program that has changed all of its ids is not its user's to end.
func TestAProgramThatIsNotOursToEndIsGivenUp(t *testing.T) {
	testkit.NeedsRoot(t, "to make a setuid program")
	program := testkit.CopySelf(t)
	require.NoError(t, unix.Chmod(program, 0o4755))
	other := testkit.CopySelf(t)
	require.NoError(t, unix.Chmod(other, 0o755))
	for name := range testkit.Calls {
		if testkit.Rounds(2, 1) == 1 && !testkit.WaitsInItsOwnWay(name) {
			continue
		}
		t.Run(name, func(t *testing.T) {
			testkit.CheckLeaks(t)
			out, err := spawn.New(other, testkit.HelperPrefix+"givenup-run-setuid", program, name).AddEnv("GORACE", "atexit_sleep_ms=0").
				SetUID(testkit.Nobody).SetGID(testkit.Nobody).SetGroups().CombinedOutput(context.Background())
			require.NoError(t, err, "%s", out)
			text, rest, _ := strings.Cut(string(out), "\n")
			require.Contains(t, text, "context canceled; it runs on: pidfd_send_signal: operation not permitted (exit status unknown)")
			require.Equal(t, "true true true true\nalone: false\nleft: <nil>\n", rest)
		})
	}
}

const survives = "; it runs on: SIGKILL has not ended it"

// freezeReady freezes the program that has written its pid to a pipe.
func freezeReady(t testing.TB, f testkit.Freezer, ready io.Reader) {
	pid, err := strconv.Atoi(testkit.ReadLine(t, ready))
	require.NoError(t, err)
	require.NoError(t, f.Freeze(pid))
}

// sayPID is a program that writes its pid to descriptor 3 and runs.
func sayPID(t testing.TB) (c *spawn.Command, ready io.Reader) {
	c = testkit.Shell("trap '' TERM; echo some; echo $$ >&3; exec /bin/sleep 1000").SetGracePeriod(time.Millisecond)
	return c, testkit.PassPipe(t, c, 3)
}

func TestAFrozenProgramIsGivenUp(t *testing.T) {
	f := testkit.NewFreezer(t)
	testkit.GiveUpSoon(t)
	testkit.InBothWaits(t, func(t *testing.T) {
		testkit.ForSlowCalls(t, func(t *testing.T, call func(*spawn.Command, context.Context) (string, error)) {
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			c, ready := sayPID(t)
			out, err := testkit.During(call, c, ctx, func() {
				freezeReady(t, f, ready)
				cancel()
			})
			var exit *spawn.ExitError
			require.ErrorAs(t, err, &exit)
			require.ErrorIs(t, err, context.Canceled)
			require.EqualError(t, exit.Err, "context canceled"+survives)
			require.Equal(t, spawn.Status{ExitCode: -1}, exit.Status)
			require.Equal(t, "some\n", out)
			require.NoError(t, f.Thaw())
			testkit.WaitForNoChild(t)
		})
	})
}

// The freezer of version 2 does not keep SIGKILL waiting.
func TestAProgramFrozenInCgroupV2Ends(t *testing.T) {
	testkit.ForSlowCalls(t, func(t *testing.T, call func(*spawn.Command, context.Context) (string, error)) {
		dir := testkit.NewCgroup(t)
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		c, ready := sayPID(t)
		_, err := testkit.During(call, c, ctx, func() {
			require.NoError(t, os.WriteFile(dir+"/cgroup.procs", []byte(testkit.ReadLine(t, ready)), 0))
			require.NoError(t, os.WriteFile(dir+"/cgroup.freeze", []byte("1"), 0))
			testkit.Eventually(t, "it is frozen", func() bool { return strings.Contains(testkit.ReadFile(t, dir+"/cgroup.events"), "frozen 1") })
			cancel()
		})
		require.ErrorIs(t, err, context.Canceled)
		testkit.RequireSignal(t, err, unix.SIGKILL)
	})
}

func TestAProcessThatWasGivenUpCanStillBeSignalled(t *testing.T) {
	f := testkit.NewFreezer(t)
	testkit.GiveUpSoon(t)
	testkit.CheckLeaks(t)
	c, ready := sayPID(t)
	p, err := c.PipeStdin().Start(context.Background())
	require.NoError(t, err)
	freezeReady(t, f, ready)
	require.ErrorContains(t, p.Abort(), "SIGKILL has not ended it")
	<-p.Done()
	require.ErrorContains(t, p.Wait(), "aborted"+survives)
	require.Contains(t, p.String(), ": running")
	require.NoError(t, p.Signal(unix.SIGUSR1))
	require.NoError(t, p.Stdin().Close())
	require.NoError(t, f.Thaw())
	testkit.Eventually(t, "the end", func() bool { return errors.Is(p.Signal(unix.SIGUSR1), os.ErrProcessDone) })
	require.Equal(t, spawn.Status{ExitCode: -1}, p.Status(), "it has been said")
	require.ErrorIs(t, p.Abort(), p.Abort())
}

func TestLeavingTheLinesOfAFrozenProgramReturns(t *testing.T) {
	f := testkit.NewFreezer(t)
	testkit.GiveUpSoon(t)
	testkit.CheckLeaks(t)
	c, ready := sayPID(t)
	n := 0
	for _, err := range c.Lines(context.Background()) {
		require.NoError(t, err)
		freezeReady(t, f, ready)
		n++
		break
	}
	require.Equal(t, 1, n)
	mine := errors.New("mine")
	require.NoError(t, f.Thaw())
	testkit.WaitForNoChild(t)

	c, ready = sayPID(t)
	err := c.RunRegex(context.Background(), testkit.AnyLine, func([]string) error {
		freezeReady(t, f, ready)
		return mine
	})
	require.ErrorIs(t, err, mine)
	require.ErrorContains(t, err, "mine"+survives+" (exit status unknown)")
	require.NoError(t, f.Thaw())
	testkit.WaitForNoChild(t)
}

// heldAt calls functions on a thread whose children, and nobody else, wait in
// a system call for an answer that never comes.
type heldAt struct {
	listener int
	calls    chan func()
}

func holdAt(t testing.TB, nr uint32) *heldAt {
	h := &heldAt{calls: make(chan func())}
	ready := make(chan error)
	go func() {
		runtime.LockOSThread() // and ends with this goroutine
		var err error
		h.listener, err = testkit.NotifyOf(nr)
		ready <- err
		for f := range h.calls {
			f()
		}
	}()
	testkit.Needs(t, "seccomp's notifications", <-ready, unix.EINVAL, unix.EBUSY)
	t.Cleanup(func() {
		close(h.calls)
		unix.Close(h.listener)
	})
	return h
}

// run calls f on the thread, and event when its child is in the call.
func (h *heldAt) run(t testing.TB, f func() error, event func(pid int)) error {
	result := make(chan error, 1)
	h.calls <- func() { result <- f() }
	var err error
	answer := testkit.Answer(h.listener, func(pid int) {
		event(pid)
		err = <-result
	})
	require.ErrorIs(t, answer, unix.ENOENT, "the child has ended")
	return err
}

// stuckKinds are commands whose children get stuck before their programs run,
// each in another state.
func stuckKinds() map[string]*spawn.Command {
	base := spawn.New("/bin/true").SetWorkingDirectory("/tmp").SetGracePeriod(time.Hour)
	kinds := map[string]*spawn.Command{
		"shared memory": base.Clone(),
		"stub":          testkit.By(base.Clone(), plan.Stub),
		"copy":          testkit.WithoutStub(testkit.By(base.Clone(), plan.Stub)),
		"helper":        testkit.By(base.Clone(), plan.ChildAndHelper),
		"forked helper": testkit.By(base.Clone(), plan.ForkedHelper),
	}
	if !plan.CanClone() || plan.HelperForced() {
		kinds = map[string]*spawn.Command{"forked helper": kinds["forked helper"]}
	}
	return kinds
}

// callsOfStuck are the ways to run a command that never gets to its program.
var callsOfStuck = map[string]func(c *spawn.Command, ctx context.Context) error{
	"Run": func(c *spawn.Command, ctx context.Context) error { return c.Run(ctx) },
	"Start": func(c *spawn.Command, ctx context.Context) error {
		_, err := c.Start(ctx)
		return err
	},
	"Start of a daemon": func(c *spawn.Command, ctx context.Context) error {
		_, err := c.Daemonize().Start(ctx)
		return err
	},
	"a handshake": func(c *spawn.Command, ctx context.Context) error {
		p, err := c.RequireHandshake().Start(ctx)
		if err != nil {
			return err
		}
		<-p.Done()
		return errors.Join(p.Wait(), p.HandshakeNotify())
	},
}

// forStuck runs a test for all kinds of commands and calls; unless
// SPAWN_TEST_LONG is in the environment, for each kind and each call with one
// of the others only.
func forStuck(t *testing.T, f func(t *testing.T, h *heldAt, run func(ctx context.Context) error)) {
	kinds, calls := stuckKinds(), slices.Sorted(maps.Keys(callsOfStuck))
	for k, kind := range slices.Sorted(maps.Keys(kinds)) {
		c := kinds[kind]
		for n, name := range calls {
			if testkit.Rounds(2, 1) == 1 && len(kinds) > 1 && n != k%len(calls) {
				continue
			}
			call := callsOfStuck[name]
			t.Run(kind+", "+name, func(t *testing.T) {
				h := holdAt(t, unix.SYS_CHDIR)
				testkit.CheckLeaks(t)
				f(t, h, func(ctx context.Context) error { return call(c.Clone(), ctx) })
			})
		}
	}
}

// As on a directory that does not answer, or stopped by its new user.
func TestAChildThatIsStuckBeforeItsProgramIsKilledAtOnce(t *testing.T) {
	forStuck(t, func(t *testing.T, h *heldAt, run func(ctx context.Context) error) {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		err := h.run(t, func() error { return run(ctx) }, func(pid int) {
			require.NoError(t, unix.Kill(pid, unix.SIGSTOP))
			cancel()
		})
		start := testkit.RequireNotStarted(t, err, "start", context.Canceled)
		require.Equal(t, "context canceled", start.Err.Error())
		testkit.RequireNoChild(t)
	})
}

func TestAChildThatIsFrozenBeforeItsProgramIsGivenUp(t *testing.T) {
	f := testkit.NewFreezer(t)
	testkit.GiveUpSoon(t)
	forStuck(t, func(t *testing.T, h *heldAt, run func(ctx context.Context) error) {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		requireGivenUp(t, f, h, cancel, func() error { return run(ctx) })
	})
}

// requireGivenUp calls run, whose child is held, freezes that, and ends
// the context.
func requireGivenUp(t testing.TB, f testkit.Freezer, h *heldAt, cancel func(), run func() error) {
	err := h.run(t, func() error {
		err := run()
		return errors.Join(err, f.Thaw())
	}, func(pid int) {
		require.NoError(t, f.Freeze(pid))
		cancel()
	})
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorContains(t, err, "start: context canceled"+survives)
	var start *spawn.StartError
	require.ErrorAs(t, err, &start)
	testkit.WaitForNoChild(t)
}

// A child that shares this process's memory goes on with its program there when
// it is thawed.
func TestTheMemoryThatAFrozenChildSharesIsKeptForIt(t *testing.T) {
	testkit.NeedsClone(t)
	f := testkit.NewFreezer(t)
	testkit.GiveUpSoon(t)
	c := testkit.By(spawn.New("/bin/true").SetWorkingDirectory("/tmp").SetGracePeriod(time.Hour), plan.Direct)
	if !plan.SharesMemory(testkit.Wanted(c)) {
		t.Skip("needs Linux 5.16, where a child shares the memory")
	}
	for _, name := range []string{"Run", "Start"} {
		t.Run(name, func(t *testing.T) {
			h := holdAt(t, unix.SYS_CHDIR)
			testkit.CheckLeaks(t)
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			inUse := 0
			requireGivenUp(t, f, h, cancel, func() error {
				err := callsOfStuck[name](c.Clone(), ctx)
				inUse = int(program.InUse())
				return err
			})
			require.Equal(t, 1, inUse)
		})
	}
}

func TestAChildThatIsFrozenBeforeItForksIsGivenUp(t *testing.T) {
	f := testkit.NewFreezer(t)
	testkit.GiveUpSoon(t)
	for name, c := range stuckKinds() {
		t.Run(name, func(t *testing.T) {
			h := holdAt(t, unix.SYS_SETSID)
			testkit.CheckLeaks(t)
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			requireGivenUp(t, f, h, cancel, func() error { return callsOfStuck["Start of a daemon"](c, ctx) })
		})
	}
}

// openReport opens the child's end of the pipe by which it reports, as a
// process that other code has forked may hold it.
func openReport(t testing.TB, pid int) (held []*os.File) {
	dir := fmt.Sprintf("/proc/%d/fd/", pid)
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		target, err := os.Readlink(dir + e.Name())
		require.NoError(t, err)
		if !strings.HasPrefix(target, "pipe:") {
			continue
		}
		f, err := os.OpenFile(dir+e.Name(), os.O_WRONLY|unix.O_NONBLOCK, 0)
		require.NoError(t, err)
		held = append(held, f)
	}
	require.NotEmpty(t, held)
	return held
}

func TestTheEndOfAChildIsSeenWhoeverHoldsItsPipe(t *testing.T) {
	testkit.NeedsRoot(t, "to look into a child")
	for kind, c := range stuckKinds() {
		for name, start := range map[string]func(c *spawn.Command) error{
			"Start":       func(c *spawn.Command) error { return callsOfStuck["Start"](c, context.Background()) },
			"a handshake": func(c *spawn.Command) error { return callsOfStuck["a handshake"](c, context.Background()) },
			"a daemon":    func(c *spawn.Command) error { return callsOfStuck["Start of a daemon"](c, context.Background()) },
		} {
			if kind == "shared memory" && name == "Start" {
				continue // no pipe is needed
			}
			t.Run(kind+", "+name, func(t *testing.T) {
				h := holdAt(t, unix.SYS_CHDIR)
				testkit.CheckLeaks(t)
				var held []*os.File
				err := h.run(t, func() error { return start(c.Clone()) }, func(pid int) {
					held = openReport(t, pid)
					require.NoError(t, unix.Kill(pid, unix.SIGKILL))
				})
				for _, f := range held {
					f.Close()
				}
				if name == "a handshake" {
					require.ErrorContains(t, err, "signal: killed")
				}
			})
		}
	}
}

func TestTheEndOfAChildAtItsGateIsSeenWhoeverHoldsItsPipe(t *testing.T) {
	testkit.NeedsRoot(t, "to look into a child")
	for kind, c := range stuckKinds() {
		t.Run(kind, func(t *testing.T) {
			testkit.CheckLeaks(t)
			p := testkit.Gated(t, c)
			for _, f := range openReport(t, p.PID()) {
				defer f.Close()
			}
			require.NoError(t, p.Signal(unix.SIGKILL))
			require.ErrorContains(t, testkit.RequireNeverRan(t, p), "signal: killed")
		})
	}
}

// TestWhatAChildHasSaidBeforeItsEndIsHeard: its end is seen first, which ends
// the reads of its pipe.
func TestWhatAChildHasSaidBeforeItsEndIsHeard(t *testing.T) {
	testkit.NeedsClone(t)
	for name, with := range map[string]func(*spawn.Command) *spawn.Command{
		"stub": func(c *spawn.Command) *spawn.Command { return c },
		"copy": testkit.WithoutStub,
	} {
		t.Run(name, func(t *testing.T) {
			testkit.CheckLeaks(t)
			c := with(testkit.By(spawn.New("/nonexistent/program").RequireHandshake(), plan.Stub))
			r, err := run.Prepare(context.Background(), testkit.Call(c), plan.Piped)
			require.NoError(t, err)
			r.NewProcess()
			require.NoError(t, r.Clone())
			r.Meet()
			r.OpenStatus()
			p := r.Process()
			require.NoError(t, p.Gate.Notify())
			waitForZombie(t, p.PID)
			r.EndReads()
			testkit.RequireNotStarted(t, testkit.Public(r.PassGate()), `execve("/nonexistent/program")`, unix.ENOENT)
		})
	}
}

// waitForZombie waits for the end of a child, and leaves its status.
func waitForZombie(t testing.TB, pid int) {
	for {
		var info unix.Siginfo
		err := unix.Waitid(unix.P_PID, pid, &info, unix.WEXITED|unix.WNOWAIT|unix.WALL, nil)
		if err != unix.EINTR {
			require.NoError(t, err)
			return
		}
	}
}

// The end of the context then asks the program to end, as it would any other.
func TestAProgramRunsBeforeItsAnswerIsRead(t *testing.T) {
	testkit.NeedsClone(t)
	gated := func(_ *testing.T, c *spawn.Command) *spawn.Command { return c.RequireHandshake() }
	for name, prepare := range map[string]func(t *testing.T, c *spawn.Command) *spawn.Command{
		"forked":          func(t *testing.T, c *spawn.Command) *spawn.Command { return c.SetCgroup(testkit.NewCgroup(t)) },
		"by a stub":       func(t *testing.T, c *spawn.Command) *spawn.Command { return testkit.By(c, plan.Stub) },
		"at its gate":     gated,
		"at a copy's":     func(t *testing.T, c *spawn.Command) *spawn.Command { return testkit.WithoutStub(c.RequireHandshake()) },
		"at the poller's": gated,
	} {
		t.Run(name, func(t *testing.T) {
			testkit.CheckLeaks(t)
			c := prepare(t, testkit.Shell("echo ready >&3"))
			ready := testkit.PassPipe(t, c, 3)
			r, err := run.Prepare(context.Background(), testkit.Call(c), plan.Watched)
			require.NoError(t, err)
			r.NewProcess()
			require.NoError(t, r.Clone())
			switch p := r.Process(); {
			case name == "forked":
				// It has the other end of the status pipe until then.
				require.NoError(t, unix.Waitid(unix.P_PID, p.PID, nil, unix.WEXITED|unix.WNOWAIT|unix.WALL, nil))
				_, err = unix.Write(r.GateW, []byte{1})
				require.NoError(t, err)
			case p.Gate != nil:
				r.Meet()
				if name == "at the poller's" {
					r.OpenStatus()
				}
				require.NoError(t, p.Gate.Notify())
			}
			testkit.ReadLine(t, ready)
			p := r.Process()
			p.Mu.Lock()
			left := p.Starting.LeftMemory()
			p.Mu.Unlock()
			require.True(t, left)
			if name == "forked" {
				r.Meet()
			}
			require.NoError(t, r.Wait())
		})
	}
}
