//go:build linux

package run_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/virspawn/spawn"
	"github.com/virspawn/spawn/internal/command"
	"github.com/virspawn/spawn/internal/plan"
	"github.com/virspawn/spawn/internal/run"
	"github.com/virspawn/spawn/internal/testkit"
	"github.com/virspawn/spawn/internal/transfer"
	"golang.org/x/sys/unix"
)

func init() { testkit.Helpers["context-leave-group"] = leaveGroup }

// readyAt3 is like trap and says on descriptor 3 that it is ready.
var readyAt3 = strings.Replace(testkit.Trap, "echo ready", "echo ready >&3", 1)

func TestAContextThatHasEndedStartsNothing(t *testing.T) {
	cause := errors.New("the cause")
	past := time.Now().Add(-time.Hour)
	contexts := map[string]struct {
		make func() (context.Context, context.CancelFunc)
		is   []error
		text string
	}{
		"canceled": {func() (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(context.Background())
			cancel()
			return ctx, cancel
		}, []error{context.Canceled}, "context canceled"},
		"canceled with a cause": {func() (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancelCause(context.Background())
			cancel(cause)
			return ctx, func() {}
		}, []error{context.Canceled, cause}, "context canceled: the cause"},
		"deadline": {func() (context.Context, context.CancelFunc) {
			return context.WithDeadline(context.Background(), past)
		}, []error{context.DeadlineExceeded}, "context deadline exceeded"},
		"deadline with a cause": {func() (context.Context, context.CancelFunc) {
			return context.WithDeadlineCause(context.Background(), past, cause)
		}, []error{context.DeadlineExceeded, cause}, "context deadline exceeded: the cause"},
	}
	testkit.ForEachCall(t, func(t *testing.T, call func(*spawn.Command, context.Context) (string, error)) {
		for name, c := range contexts {
			ctx, cancel := c.make()
			defer cancel()
			ran := filepath.Join(t.TempDir(), "ran")
			_, err := call(testkit.Shell(`echo >"$1"`, ran), ctx)
			var start *spawn.StartError
			require.ErrorAs(t, err, &start, name)
			for _, is := range c.is {
				require.ErrorIs(t, err, is, name)
			}
			require.Equal(t, c.text, start.Err.Error(), name)
			require.NoFileExists(t, ran)
		}
	})
}

func TestTheEndOfTheContextAsksTheProgramToEndFirst(t *testing.T) {
	testkit.InBothWaits(t, func(t *testing.T) {
		testkit.ForEachCall(t, func(t *testing.T, call func(*spawn.Command, context.Context) (string, error)) {
			cause := errors.New("the cause")
			ctx, cancel := context.WithCancelCause(context.Background())
			defer cancel(nil)
			c := testkit.Shell(readyAt3, "TERM", "echo caught; exit 7").SetGracePeriod(time.Hour)
			ready := testkit.PassPipe(t, c, 3)
			out, err := testkit.During(call, c, ctx, func() {
				testkit.ReadLine(t, ready)
				cancel(cause)
			})
			require.ErrorIs(t, err, context.Canceled)
			require.ErrorIs(t, err, cause)
			testkit.RequireExit(t, err, 7)
			require.ErrorContains(t, err, "context canceled: the cause (exit status 7)")
			require.Equal(t, "caught\n", out)
		})
	})
}

func TestTheEndOfTheContextIsAnErrorAlsoWhereTheProgramThenSucceeds(t *testing.T) {
	testkit.ForEachCall(t, func(t *testing.T, call func(*spawn.Command, context.Context) (string, error)) {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		c := testkit.Shell(readyAt3, "TERM", "echo caught; exit 0")
		ready := testkit.PassPipe(t, c, 3)
		out, err := testkit.During(call, c, ctx, func() {
			testkit.ReadLine(t, ready)
			cancel()
		})
		require.ErrorIs(t, err, context.Canceled)
		testkit.RequireExit(t, err, 0)
		require.Equal(t, "caught\n", out)
	})
}

func TestTheEndOfTheContextKillsAfterTheGracePeriod(t *testing.T) {
	testkit.InBothWaits(t, func(t *testing.T) {
		testkit.ForEachCall(t, func(t *testing.T, call func(*spawn.Command, context.Context) (string, error)) {
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
			defer cancel()
			_, err := call(testkit.Shell(testkit.IgnoreTERM).SetGracePeriod(20*time.Millisecond), ctx)
			require.ErrorIs(t, err, context.DeadlineExceeded)
			var start *spawn.StartError
			if errors.As(err, &start) {
				// The machine is so slow that the program had not started
				// by then.
				return
			}
			if testkit.RequireAnySignal(t, err) == unix.SIGTERM {
				// The machine is as slow, and the program did not yet
				// ignore SIGTERM.
				return
			}
			testkit.RequireSignal(t, err, unix.SIGKILL)
		})
	})
}

func TestTheEndOfTheContextKillsAtOnceWithoutAGracePeriod(t *testing.T) {
	testkit.ForEachCall(t, func(t *testing.T, call func(*spawn.Command, context.Context) (string, error)) {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		c := testkit.Shell("echo ready >&3; exec sleep 1000").SetGracePeriod(0)
		ready := testkit.PassPipe(t, c, 3)
		_, err := testkit.During(call, c, ctx, func() {
			testkit.ReadLine(t, ready)
			cancel()
		})
		require.ErrorIs(t, err, context.Canceled)
		testkit.RequireSignal(t, err, unix.SIGKILL)
		require.ErrorContains(t, err, "context canceled (signal: killed)")
	})
}

func TestAContextThatEndsAfterTheProgramChangesNothing(t *testing.T) {
	testkit.CheckLeaks(t)
	ctx, cancel := context.WithCancel(context.Background())
	p, err := testkit.Shell("exit 3").Start(ctx)
	require.NoError(t, err)
	first := p.Wait()
	cancel()
	require.Same(t, first, p.Wait())
	testkit.RequireExit(t, first, 3)
}

// heldProgram is a program whose execve blocks for the time being: its file has
// a lease, which the child has to wait for. (F_SETLEASE in fcntl(2))
type heldProgram struct {
	path string
	file *os.File
}

func newHeldProgram(t testing.TB) *heldProgram {
	path := filepath.Join(t.TempDir(), "held")
	require.NoError(t, os.WriteFile(path, []byte("#!/bin/sh\necho out\n"), 0o755))
	f, err := os.Open(path)
	require.NoError(t, err)
	t.Cleanup(func() { f.Close() })
	if _, err := unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_WRLCK); err != nil {
		t.Skipf("no lease to be had on a file in %s: %v", filepath.Dir(path), err)
	}
	return &heldProgram{path, f}
}

// await waits until a child is in its execve.
func (h *heldProgram) await(t testing.TB) {
	t.Helper()
	testkit.Eventually(t, "a child is between clone and exec", func() bool {
		lease, err := unix.FcntlInt(h.file.Fd(), unix.F_GETLEASE, 0)
		require.NoError(t, err)
		return lease != unix.F_WRLCK
	})
}

// release lets the program run.
func (h *heldProgram) release(t testing.TB) {
	_, err := unix.FcntlInt(h.file.Fd(), unix.F_SETLEASE, unix.F_UNLCK)
	require.NoError(t, err)
}

func TestAProgramThatTakesLongToExecStillRuns(t *testing.T) {
	testkit.ForEachCall(t, func(t *testing.T, call func(*spawn.Command, context.Context) (string, error)) {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		h := newHeldProgram(t)
		out, err := testkit.During(call, spawn.New(h.path), ctx, func() {
			h.await(t)
			h.release(t)
		})
		require.NoError(t, err)
		require.Equal(t, "out\n", out)
	})
}

func TestAContextThatEndsBetweenCloneAndExec(t *testing.T) {
	for _, mode := range []spawn.KillMode{spawn.KillProcess, spawn.KillGroup, spawn.KillTree} {
		testkit.ForEachCall(t, func(t *testing.T, call func(*spawn.Command, context.Context) (string, error)) {
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			h := newHeldProgram(t)
			c := spawn.New(h.path).SetStdin(testkit.Zeros{}).SetKillMode(mode).SetGracePeriod(time.Hour)
			out, err := testkit.During(call, c, ctx, func() {
				h.await(t)
				cancel()
			})
			require.ErrorIs(t, err, context.Canceled)
			require.Empty(t, out)
			testkit.RequireNoChild(t)
		})
	}
}

func TestAStartThatIsStuckDoesNotHoldUpOthers(t *testing.T) {
	testkit.CheckLeaks(t)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	h := newHeldProgram(t)
	const stuck = run.MaxBlocked
	results := make(chan error, stuck)
	for range stuck {
		go func() {
			_, err := spawn.New(h.path).Start(ctx)
			results <- err
		}()
	}
	testkit.Eventually(t, "all are stuck", func() bool { return children(t) == stuck })
	h.await(t)
	others := make(chan error, 1)
	go func() {
		p, err := spawn.New("/bin/true").Start(context.Background())
		if err == nil {
			err = p.Wait()
		}
		others <- errors.Join(err, spawn.New("/bin/true").SetStdout(io.Discard).Run(context.Background()))
	}()
	var err error
	testkit.Eventually(t, "others are started", func() bool {
		select {
		case err = <-others:
			return true
		default:
			return false
		}
	})
	require.NoError(t, err)
	cancel()
	for range stuck {
		require.ErrorIs(t, <-results, context.Canceled)
	}
}

// children returns how many children this process has.
func children(t testing.TB) (n int) {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	require.NoError(t, err)
	for _, path := range stats {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		_, rest, _ := strings.Cut(string(text), ") ")
		if fields := strings.Fields(rest); fields[1] == strconv.Itoa(os.Getpid()) {
			n++
		}
	}
	return n
}

// startGrandchild returns the command and the ends of the pipes to
// the grandchild.
func startGrandchild(t testing.TB) (c *spawn.Command, to, from *os.File) {
	c = testkit.Shell(testkit.Grandchild)
	r, to := testkit.NewPipe(t)
	c.PassFDAs(r, 3, spawn.CloseParent)
	return c, to, testkit.PassPipe(t, c, 4)
}

func TestAGrandchildThatKeepsStderrDoesNotHoldUpTheCallAndSurvivesIt(t *testing.T) {
	testkit.InBothWaits(t, func(t *testing.T) {
		for name, run := range map[string]func(*spawn.Command) error{
			"Run":       func(c *spawn.Command) error { return c.Run(context.Background()) },
			"RunStatus": func(c *spawn.Command) error { _, err := c.RunStatus(context.Background()); return err },
			"a context": func(c *spawn.Command) error {
				ctx, cancel := context.WithCancel(context.Background())
				defer cancel()
				return c.Run(ctx)
			},
		} {
			t.Run(name, func(t *testing.T) {
				testkit.CheckLeaks(t)
				c, to, from := startGrandchild(t)
				err := run(c)
				require.Equal(t, "started", testkit.ReadLine(t, from))
				if name != "RunStatus" {
					testkit.RequireExit(t, err, 3)
				}
				_, err = io.WriteString(to, "go\n")
				require.NoError(t, err)
				require.Equal(t, "alive", testkit.ReadLine(t, from), "it was not ended by SIGPIPE")
			})
		}
	})
}

func TestAGrandchildThatKeepsStdoutIsWaitedForWhileTheContextLasts(t *testing.T) {
	testkit.InBothWaits(t, func(t *testing.T) {
		testkit.ForEachCall(t, func(t *testing.T, call func(*spawn.Command, context.Context) (string, error)) {
			c, to, from := startGrandchild(t)
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			out, err := testkit.During(call, c, ctx, func() {
				require.Equal(t, "started", testkit.ReadLine(t, from))
				testkit.WaitForNoChild(t)
				_, err := io.WriteString(to, "go\n")
				require.NoError(t, err)
			})
			testkit.RequireExit(t, err, 3)
			// CombinedOutput has another "late".
			require.True(t, strings.HasPrefix(out, "early\nlate\n"), out)
			require.Equal(t, "alive", testkit.ReadLine(t, from))
		})
	})
}

func TestAGrandchildThatKeepsStdoutDoesNotHoldUpTheCallOnceTheContextHasEnded(t *testing.T) {
	testkit.InBothWaits(t, func(t *testing.T) {
		testkit.ForSlowCalls(t, func(t *testing.T, call func(*spawn.Command, context.Context) (string, error)) {
			c, to, from := startGrandchild(t)
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			var canceled time.Time
			out, err := testkit.During(call, c, ctx, func() {
				require.Equal(t, "started", testkit.ReadLine(t, from))
				testkit.WaitForNoChild(t)
				canceled = time.Now()
				cancel()
			})
			require.GreaterOrEqual(t, time.Since(canceled), transfer.PipeWait, "it has waited for more output")
			require.ErrorIs(t, err, context.Canceled)
			testkit.RequireExit(t, err, 3)
			require.Equal(t, "early\n", out)
			require.NoError(t, to.Close()) // the grandchild ends
		})
	})
}

func TestPipesOfAProcessAreClosedOnceItAndItsContextHaveEnded(t *testing.T) {
	t.Run("started", func(t *testing.T) { testPipesAreClosed(t, (*spawn.Command).Start) })
	t.Run("with a handshake", func(t *testing.T) {
		testPipesAreClosed(t, func(c *spawn.Command, ctx context.Context) (*spawn.Process, error) {
			p, err := c.RequireHandshake().Start(ctx)
			if err == nil {
				err = p.HandshakeNotify()
			}
			return p, err
		})
	})
}

func testPipesAreClosed(t *testing.T, start func(*spawn.Command, context.Context) (*spawn.Process, error)) {
	testkit.CheckLeaks(t)
	c, to, from := startGrandchild(t)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	p, err := start(c.PipeStdout().PipeStderr(), ctx)
	require.NoError(t, err)
	require.Equal(t, "started", testkit.ReadLine(t, from))
	testkit.RequireExit(t, p.Wait(), 3)

	type result struct {
		err   error
		after time.Duration // the end of the context
	}
	results := make(chan result, 2)
	canceled := time.Now()
	cancel()
	for r, text := range map[io.Reader]string{p.Stdout(): "early\n", p.Stderr(): ""} {
		go func() {
			// What is there can still be read, unless this machine is so slow
			// that the pipes are closed by now.
			_, err := io.ReadFull(r, make([]byte, len(text)))
			if err == nil {
				_, err = r.Read(make([]byte, 1))
			}
			results <- result{err, time.Since(canceled)}
		}()
	}
	for range 2 {
		r := <-results
		require.ErrorIs(t, r.err, os.ErrClosed)
		require.GreaterOrEqual(t, r.after, transfer.PipeWait)
	}
	require.NoError(t, to.Close()) // the grandchild ends
}

func TestPipesOfAProcessStayOpenWhileItsContextLasts(t *testing.T) {
	testkit.CheckLeaks(t)
	c, to, from := startGrandchild(t)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	p, err := c.PipeStdout().PipeStderr().Start(ctx)
	require.NoError(t, err)
	testkit.RequireExit(t, p.Wait(), 3)
	_, err = io.WriteString(to, "go\n")
	require.NoError(t, err)
	require.Equal(t, "started", testkit.ReadLine(t, from))
	require.Equal(t, "alive", testkit.ReadLine(t, from))
	for r, want := range map[io.ReadCloser]string{p.Stdout(): "early\nlate\n", p.Stderr(): "late\n"} {
		out, err := io.ReadAll(r)
		require.NoError(t, err)
		require.Equal(t, want, string(out))
		require.NoError(t, r.Close())
	}
}

// watchedContext is a context that counts who waits for its end.
type watchedContext struct {
	context.Context
	watches, ever atomic.Int32
}

// Value hides the context inside from package context, which then
// calls AfterFunc.
func (c *watchedContext) Value(any) any { return nil }

// AfterFunc is what [context.AfterFunc] does.
func (c *watchedContext) AfterFunc(f func()) (stop func() bool) {
	c.watches.Add(1)
	c.ever.Add(1)
	inner := context.AfterFunc(c.Context, f)
	return func() bool {
		stopped := inner()
		if stopped {
			c.watches.Add(-1)
		}
		return stopped
	}
}

func TestWhatHasEndedStaysAttachedToNoContext(t *testing.T) {
	watch := func(t *testing.T, use func(ctx context.Context)) {
		t.Helper()
		inner, cancel := context.WithCancel(context.Background())
		defer cancel()
		ctx := &watchedContext{Context: inner}
		use(ctx)
		require.NotZero(t, ctx.ever.Load())
		require.Zero(t, ctx.watches.Load())
	}
	testkit.InBothWaits(t, func(t *testing.T) {
		testkit.ForEachCall(t, func(t *testing.T, call func(*spawn.Command, context.Context) (string, error)) {
			watch(t, func(ctx context.Context) {
				_, err := call(spawn.New("/bin/echo"), ctx)
				require.NoError(t, err)
			})
			watch(t, func(ctx context.Context) {
				_, err := call(testkit.Shell("exit 3"), ctx)
				testkit.RequireExit(t, err, 3)
			})
			watch(t, func(ctx context.Context) {
				_, err := call(spawn.New("/nonexistent/program"), ctx)
				require.ErrorIs(t, err, fs.ErrNotExist)
			})
		})
		for name, use := range map[string]func(p *spawn.Process){
			"pipes that are read to the end": func(p *spawn.Process) {
				for _, r := range []io.Reader{p.Stdout(), p.Stderr()} {
					_, err := io.ReadAll(r)
					require.NoError(t, err)
				}
				require.NoError(t, p.Wait())
			},
			"pipes that are closed": func(p *spawn.Process) {
				require.NoError(t, errors.Join(p.Stdout().Close(), p.Stderr().Close()))
				_ = p.Wait() // it may have died of SIGPIPE
			},
			"Abort": func(p *spawn.Process) {
				require.NoError(t, errors.Join(p.Abort(), p.Stdout().Close(), p.Stderr().Close()))
			},
		} {
			t.Run(name, func(t *testing.T) {
				testkit.CheckLeaks(t)
				watch(t, func(ctx context.Context) {
					p, err := testkit.Shell("echo out; echo error >&2").PipeStdout().PipeStderr().Start(ctx)
					require.NoError(t, err)
					use(p)
					t.Cleanup(func() {
						p.Stdout().Close()
						p.Stderr().Close()
					})
				})
			})
		}
		for name, use := range map[string]func(p *spawn.Process){
			"a terminal that is read to the end": func(p *spawn.Process) {
				_, err := io.ReadAll(p.PTY())
				require.NoError(t, err)
			},
			"a terminal that is closed": func(p *spawn.Process) { require.NoError(t, p.PTY().Close()) },
		} {
			t.Run(name, func(t *testing.T) {
				testkit.NeedsTerminals(t)
				testkit.CheckLeaks(t)
				watch(t, func(ctx context.Context) {
					p, err := testkit.Shell("echo out").SetPTY(24, 80).Start(ctx)
					require.NoError(t, err)
					t.Cleanup(func() { p.PTY().Close() })
					use(p)
					_ = p.Wait() // it may have died of SIGHUP
				})
			})
		}
	})
}

// family is a script with a grandchild. Both keep descriptor 3 open, and
// neither minds SIGTERM where $1 says so.
const family = `$1; { echo ready >&4; exec sleep 1000 4>&-; } & wait; exit 5`

func TestKillGroupEndsGrandchildrenToo(t *testing.T) {
	for name, first := range map[string]string{
		"that end on SIGTERM": ":", "that ignore it, and so does the child": "trap '' TERM", "that ignore it": "trap 'exit 7' TERM",
	} {
		t.Run(name, func(t *testing.T) {
			testkit.ForEachCall(t, func(t *testing.T, call func(*spawn.Command, context.Context) (string, error)) {
				ctx, cancel := context.WithCancel(context.Background())
				defer cancel()
				c := testkit.Shell(strings.Replace(family, "$1", first, 1)).SetKillMode(spawn.KillGroup)
				if strings.Contains(name, "child") {
					c.SetGracePeriod(20 * time.Millisecond)
				} else {
					c.SetGracePeriod(time.Hour)
				}
				alive, ready := testkit.PassPipe(t, c, 3), testkit.PassPipe(t, c, 4)
				_, err := testkit.During(call, c, ctx, func() {
					require.Equal(t, "ready", testkit.ReadLine(t, ready))
					cancel()
				})
				require.ErrorIs(t, err, context.Canceled)
				_, err = alive.Read(make([]byte, 1))
				require.ErrorIs(t, err, io.EOF, "both have ended")
			})
		})
	}
}

func TestKillGroupMakesTheChildLeadAGroup(t *testing.T) {
	testkit.CheckLeaks(t)
	for _, c := range []*spawn.Command{
		spawn.New("/bin/cat").SetKillMode(spawn.KillGroup), spawn.New("/bin/cat").SetProcessGroup(), spawn.New("/bin/cat").SetKillMode(spawn.KillGroup).SetSession(),
	} {
		p, err := c.PipeStdin().Start(context.Background())
		require.NoError(t, err)
		group, err := unix.Getpgid(p.PID())
		require.NoError(t, err)
		require.Equal(t, p.PID(), group)
		session, err := unix.Getsid(p.PID())
		require.NoError(t, err)
		require.Equal(t, testkit.Wanted(c).Session, session == p.PID())
		require.NoError(t, p.Abort())
		testkit.RequireSignal(t, p.Wait(), unix.SIGTERM)
		require.NoError(t, p.Stdin().Close())
	}
}

// leaveGroup has members in the group that it leads, which ignore SIGTERM and
// keep descriptor 3, and goes to its parent's group. It ends when the first
// one does that a signal to the group reaches, the newest: the others give it
// time to.
func leaveGroup([]string) int {
	member := exec.Command("/bin/sh", "-c", `trap "" TERM; exec 6>&1 >/dev/null
		n=0; while [ $n -lt 200 ]; do read x <&4 6>&- & n=$((n+1)); done
		{ echo ready >&6; read x; } <&4 & exec 6>&-; wait`)
	block, keep, err := os.Pipe()
	if err != nil {
		return testkit.Fail(err)
	}
	member.ExtraFiles = []*os.File{os.NewFile(3, "alive"), block, keep}
	out, err := member.StdoutPipe()
	if err == nil {
		err = member.Start()
	}
	if err == nil {
		_, err = out.Read(make([]byte, 100))
	}
	if err == nil {
		var group int
		if group, err = unix.Getpgid(os.Getppid()); err == nil {
			err = unix.Setpgid(0, group)
		}
	}
	if err != nil {
		return testkit.Fail(err)
	}
	fmt.Println("left")
	_, _ = unix.Read(int(out.(*os.File).Fd()), make([]byte, 1))
	return 0
}

func TestKillGroupEndsAChildThatHasLeftTheGroupItLed(t *testing.T) {
	t.Run("SIGTERM", func(t *testing.T) { endChildThatHasLeft(t, time.Hour, unix.SIGTERM) })
	t.Run("SIGKILL", func(t *testing.T) {
		for range testkit.Rounds(20, 2) {
			// Two or so of these fail if the group is signalled before
			// the child.
			endChildThatHasLeft(t, 0, unix.SIGKILL)
		}
	})
}

func endChildThatHasLeft(t *testing.T, grace time.Duration, want unix.Signal) {
	testkit.CheckLeaks(t)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	c := testkit.HelperCommand(t, "context-leave-group").SetKillMode(spawn.KillGroup).SetGracePeriod(grace).PipeStdout()
	alive := testkit.PassPipe(t, c, 3)
	p, err := c.Start(ctx)
	require.NoError(t, err)
	defer p.Stdout().Close()
	require.Equal(t, "left", testkit.ReadLine(t, p.Stdout()))
	cancel()
	testkit.RequireSignal(t, p.Wait(), want)
	_, err = alive.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF, "the members have ended")
}

// The child may end at any moment while this process asks whether it has: its
// status must not be taken before what is left of its group is killed.
func TestKillGroupEndsGrandchildrenWheneverTheStatusIsTaken(t *testing.T) {
	commands := map[string]func(*spawn.Command) *spawn.Command{"child": func(c *spawn.Command) *spawn.Command { return c }}
	if signalsGroupsByPidfd(t) {
		commands["daemon"] = (*spawn.Command).Daemonize
	}
	for name, with := range commands {
		t.Run(name, func(t *testing.T) {
			testkit.CheckLeaks(t)
			for range 10 { // the first few would do
				c := with(testkit.Shell(`(trap '' TERM; echo ready >&4; exec sleep 1000 4>&-) & wait`)).SetKillMode(spawn.KillGroup).SetGracePeriod(time.Hour)
				alive, ready := testkit.PassPipe(t, c, 3), testkit.PassPipe(t, c, 4)
				call := testkit.Call(c)
				call.Streams, call.Options.Executor = command.Streams{}, plan.Automatic
				r, err := run.CloneChild(context.Background(), call, plan.Watched)
				require.NoError(t, err)
				r.HandOver()
				require.NoError(t, r.WaitExec())
				require.Equal(t, "ready", testkit.ReadLine(t, ready))
				go func() { _ = r.Process().Abort() }()
				for !r.Reap() { // as often as it can
				}
				r.CloseHandle()
				_, err = alive.Read(make([]byte, 1))
				require.ErrorIs(t, err, io.EOF, "both have ended")
			}
		})
	}
}

func TestKillProcessLeavesTheChildsGroupAlone(t *testing.T) {
	testkit.ForEachCall(t, func(t *testing.T, call func(*spawn.Command, context.Context) (string, error)) {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		c := testkit.Shell(`{ exec >&- 2>&-; echo ready >&4; read x <&3; echo alive >&4; } & wait`).SetProcessGroup()
		r, to := testkit.NewPipe(t)
		from := testkit.PassPipe(t, c.PassFDAs(r, 3), 4)
		_, err := testkit.During(call, c, ctx, func() {
			require.Equal(t, "ready", testkit.ReadLine(t, from))
			cancel()
		})
		require.ErrorIs(t, err, context.Canceled)
		testkit.RequireSignal(t, err, unix.SIGTERM)
		_, err = io.WriteString(to, "go\n")
		require.NoError(t, err)
		require.Equal(t, "alive", testkit.ReadLine(t, from))
	})
}

func TestAStoppedGroupIsEnded(t *testing.T) {
	testkit.CheckLeaks(t)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	c := testkit.Shell(strings.Replace(family, "$1", ":", 1)).SetKillMode(spawn.KillGroup).SetGracePeriod(time.Hour)
	alive, ready := testkit.PassPipe(t, c, 3), testkit.PassPipe(t, c, 4)
	p, err := c.Start(ctx)
	require.NoError(t, err)
	require.Equal(t, "ready", testkit.ReadLine(t, ready))
	require.NoError(t, unix.Kill(-p.PID(), unix.SIGSTOP))
	testkit.Eventually(t, "the child has stopped", func() bool { return testkit.ProcessState(p.PID()) == 'T' })
	cancel()
	err = p.Wait()
	require.ErrorIs(t, err, context.Canceled)
	testkit.RequireSignal(t, err, unix.SIGTERM)
	_, err = alive.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF, "both have ended")
}
