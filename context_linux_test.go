package spawn

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
	"golang.org/x/sys/unix"
)

func init() { helpers["context-leave-group"] = leaveGroup }

// readyAt3 is like trap and says on descriptor 3 that it is ready.
var readyAt3 = strings.Replace(trap, "echo ready", "echo ready >&3", 1)

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
	forEachCall(t, func(t *testing.T, call func(*Command, context.Context) (string, error)) {
		for name, c := range contexts {
			ctx, cancel := c.make()
			defer cancel()
			ran := filepath.Join(t.TempDir(), "ran")
			_, err := call(shell(`echo >"$1"`, ran), ctx)
			var start *StartError
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
	inBothWaits(t, func(t *testing.T) {
		forEachCall(t, func(t *testing.T, call func(*Command, context.Context) (string, error)) {
			cause := errors.New("the cause")
			ctx, cancel := context.WithCancelCause(context.Background())
			defer cancel(nil)
			c := shell(readyAt3, "TERM", "echo caught; exit 7").SetGracePeriod(time.Hour)
			ready := passPipe(t, c, 3)
			out, err := during(call, c, ctx, func() {
				readLine(t, ready)
				cancel(cause)
			})
			require.ErrorIs(t, err, context.Canceled)
			require.ErrorIs(t, err, cause)
			requireExit(t, err, 7)
			require.ErrorContains(t, err, "context canceled: the cause (exit status 7)")
			require.Equal(t, "caught\n", out)
		})
	})
}

func TestTheEndOfTheContextIsAnErrorAlsoWhereTheProgramThenSucceeds(t *testing.T) {
	forEachCall(t, func(t *testing.T, call func(*Command, context.Context) (string, error)) {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		c := shell(readyAt3, "TERM", "echo caught; exit 0")
		ready := passPipe(t, c, 3)
		out, err := during(call, c, ctx, func() {
			readLine(t, ready)
			cancel()
		})
		require.ErrorIs(t, err, context.Canceled)
		requireExit(t, err, 0)
		require.Equal(t, "caught\n", out)
	})
}

func TestTheEndOfTheContextKillsAfterTheGracePeriod(t *testing.T) {
	inBothWaits(t, func(t *testing.T) {
		forEachCall(t, func(t *testing.T, call func(*Command, context.Context) (string, error)) {
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
			defer cancel()
			_, err := call(shell(ignoreTERM).SetGracePeriod(20*time.Millisecond), ctx)
			require.ErrorIs(t, err, context.DeadlineExceeded)
			var start *StartError
			if errors.As(err, &start) { // on a machine so slow that it had not started by then
				return
			}
			if requireAnySignal(t, err) == unix.SIGTERM { // the same, and it did not yet ignore SIGTERM
				return
			}
			requireSignal(t, err, unix.SIGKILL)
		})
	})
}

func TestTheEndOfTheContextKillsAtOnceWithoutAGracePeriod(t *testing.T) {
	forEachCall(t, func(t *testing.T, call func(*Command, context.Context) (string, error)) {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		c := shell("echo ready >&3; exec sleep 1000").SetGracePeriod(0)
		ready := passPipe(t, c, 3)
		_, err := during(call, c, ctx, func() {
			readLine(t, ready)
			cancel()
		})
		require.ErrorIs(t, err, context.Canceled)
		requireSignal(t, err, unix.SIGKILL)
		require.ErrorContains(t, err, "context canceled (signal: killed)")
	})
}

func TestAContextThatEndsAfterTheProgramChangesNothing(t *testing.T) {
	checkLeaks(t)
	ctx, cancel := context.WithCancel(context.Background())
	p, err := shell("exit 3").Start(ctx)
	require.NoError(t, err)
	first := p.Wait()
	cancel()
	require.Same(t, first, p.Wait())
	requireExit(t, first, 3)
}

// heldProgram is a program whose execve blocks for the time being: its file has a lease, which the child has to wait for.
// (F_SETLEASE in fcntl(2))
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
	eventually(t, "a child is between clone and exec", func() bool {
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
	forEachCall(t, func(t *testing.T, call func(*Command, context.Context) (string, error)) {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		h := newHeldProgram(t)
		out, err := during(call, New(h.path), ctx, func() {
			h.await(t)
			h.release(t)
		})
		require.NoError(t, err)
		require.Equal(t, "out\n", out)
	})
}

func TestAContextThatEndsBetweenCloneAndExec(t *testing.T) {
	for _, mode := range []KillMode{KillProcess, KillGroup, KillTree} {
		forEachCall(t, func(t *testing.T, call func(*Command, context.Context) (string, error)) {
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			h := newHeldProgram(t)
			c := New(h.path).SetStdin(zeros{}).SetKillMode(mode).SetGracePeriod(time.Hour)
			out, err := during(call, c, ctx, func() {
				h.await(t)
				cancel()
			})
			require.ErrorIs(t, err, context.Canceled)
			require.Empty(t, out)
			requireNoChild(t)
		})
	}
}

func TestAStartThatIsStuckDoesNotHoldUpOthers(t *testing.T) {
	checkLeaks(t)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	h := newHeldProgram(t)
	const stuck = maxBlocked
	results := make(chan error, stuck)
	for range stuck {
		go func() {
			_, err := New(h.path).Start(ctx)
			results <- err
		}()
	}
	eventually(t, "all are stuck", func() bool { return children(t) == stuck })
	h.await(t)
	others := make(chan error, 1)
	go func() {
		p, err := New("/bin/true").Start(context.Background())
		if err == nil {
			err = p.Wait()
		}
		others <- errors.Join(err, New("/bin/true").SetStdout(io.Discard).Run(context.Background()))
	}()
	var err error
	eventually(t, "others are started", func() bool {
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

// startGrandchild returns the command and the ends of the pipes to the grandchild.
func startGrandchild(t testing.TB) (c *Command, to, from *os.File) {
	c = shell(grandchild)
	r, to := newPipe(t)
	c.PassFDAs(r, 3, CloseParent)
	return c, to, passPipe(t, c, 4)
}

func TestAGrandchildThatKeepsStderrDoesNotHoldUpTheCallAndSurvivesIt(t *testing.T) {
	inBothWaits(t, func(t *testing.T) {
		for name, run := range map[string]func(*Command) error{
			"Run":       func(c *Command) error { return c.Run(context.Background()) },
			"RunStatus": func(c *Command) error { _, err := c.RunStatus(context.Background()); return err },
			"a context": func(c *Command) error {
				ctx, cancel := context.WithCancel(context.Background())
				defer cancel()
				return c.Run(ctx)
			},
		} {
			t.Run(name, func(t *testing.T) {
				checkLeaks(t)
				c, to, from := startGrandchild(t)
				err := run(c)
				require.Equal(t, "started", readLine(t, from))
				if name != "RunStatus" {
					requireExit(t, err, 3)
				}
				_, err = io.WriteString(to, "go\n")
				require.NoError(t, err)
				require.Equal(t, "alive", readLine(t, from), "it was not ended by SIGPIPE")
			})
		}
	})
}

func TestAGrandchildThatKeepsStdoutIsWaitedForWhileTheContextLasts(t *testing.T) {
	inBothWaits(t, func(t *testing.T) {
		forEachCall(t, func(t *testing.T, call func(*Command, context.Context) (string, error)) {
			c, to, from := startGrandchild(t)
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			out, err := during(call, c, ctx, func() {
				require.Equal(t, "started", readLine(t, from))
				waitForNoChild(t)
				_, err := io.WriteString(to, "go\n")
				require.NoError(t, err)
			})
			requireExit(t, err, 3)
			require.True(t, strings.HasPrefix(out, "early\nlate\n"), out) // CombinedOutput has another "late"
			require.Equal(t, "alive", readLine(t, from))
		})
	})
}

func TestAGrandchildThatKeepsStdoutDoesNotHoldUpTheCallOnceTheContextHasEnded(t *testing.T) {
	inBothWaits(t, func(t *testing.T) {
		forEachCall(t, func(t *testing.T, call func(*Command, context.Context) (string, error)) {
			c, to, from := startGrandchild(t)
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			var canceled time.Time
			out, err := during(call, c, ctx, func() {
				require.Equal(t, "started", readLine(t, from))
				waitForNoChild(t)
				canceled = time.Now()
				cancel()
			})
			require.GreaterOrEqual(t, time.Since(canceled), pipeWait, "it has waited for more output")
			require.ErrorIs(t, err, context.Canceled)
			requireExit(t, err, 3)
			require.Equal(t, "early\n", out)
			require.NoError(t, to.Close()) // the grandchild ends
		})
	})
}

func TestPipesOfAProcessAreClosedOnceItAndItsContextHaveEnded(t *testing.T) {
	t.Run("started", func(t *testing.T) { testPipesAreClosed(t, (*Command).Start) })
	t.Run("with a handshake", func(t *testing.T) {
		testPipesAreClosed(t, func(c *Command, ctx context.Context) (*Process, error) {
			p, err := c.RequireHandshake().Start(ctx)
			if err == nil {
				err = p.HandshakeNotify()
			}
			return p, err
		})
	})
}

func testPipesAreClosed(t *testing.T, start func(*Command, context.Context) (*Process, error)) {
	checkLeaks(t)
	c, to, from := startGrandchild(t)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	p, err := start(c.PipeStdout().PipeStderr(), ctx)
	require.NoError(t, err)
	require.Equal(t, "started", readLine(t, from))
	requireExit(t, p.Wait(), 3)

	type result struct {
		err   error
		after time.Duration // the end of the context
	}
	results := make(chan result, 2)
	canceled := time.Now()
	cancel()
	for r, text := range map[io.Reader]string{p.Stdout(): "early\n", p.Stderr(): ""} {
		go func() {
			// What is there can still be read, unless this machine is so slow that the pipes are closed by now.
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
		require.GreaterOrEqual(t, r.after, pipeWait)
	}
	require.NoError(t, to.Close()) // the grandchild ends
}

func TestPipesOfAProcessStayOpenWhileItsContextLasts(t *testing.T) {
	checkLeaks(t)
	c, to, from := startGrandchild(t)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	p, err := c.PipeStdout().PipeStderr().Start(ctx)
	require.NoError(t, err)
	requireExit(t, p.Wait(), 3)
	_, err = io.WriteString(to, "go\n")
	require.NoError(t, err)
	require.Equal(t, "started", readLine(t, from))
	require.Equal(t, "alive", readLine(t, from))
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

// Value hides the context inside from package context, which then calls AfterFunc.
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
	inBothWaits(t, func(t *testing.T) {
		forEachCall(t, func(t *testing.T, call func(*Command, context.Context) (string, error)) {
			watch(t, func(ctx context.Context) {
				_, err := call(New("/bin/echo"), ctx)
				require.NoError(t, err)
			})
			watch(t, func(ctx context.Context) {
				_, err := call(shell("exit 3"), ctx)
				requireExit(t, err, 3)
			})
			watch(t, func(ctx context.Context) {
				_, err := call(New("/nonexistent/program"), ctx)
				require.ErrorIs(t, err, fs.ErrNotExist)
			})
		})
		for name, use := range map[string]func(p *Process){
			"pipes that are read to the end": func(p *Process) {
				for _, r := range []io.Reader{p.Stdout(), p.Stderr()} {
					_, err := io.ReadAll(r)
					require.NoError(t, err)
				}
				require.NoError(t, p.Wait())
			},
			"pipes that are closed": func(p *Process) {
				require.NoError(t, errors.Join(p.Stdout().Close(), p.Stderr().Close()))
				_ = p.Wait() // it may have died of SIGPIPE
			},
			"Abort": func(p *Process) { require.NoError(t, errors.Join(p.Abort(), p.Stdout().Close(), p.Stderr().Close())) },
		} {
			t.Run(name, func(t *testing.T) {
				checkLeaks(t)
				watch(t, func(ctx context.Context) {
					p, err := shell("echo out; echo error >&2").PipeStdout().PipeStderr().Start(ctx)
					require.NoError(t, err)
					use(p)
					t.Cleanup(func() {
						p.Stdout().Close()
						p.Stderr().Close()
					})
				})
			})
		}
		for name, use := range map[string]func(p *Process){
			"a terminal that is read to the end": func(p *Process) {
				_, err := io.ReadAll(p.PTY())
				require.NoError(t, err)
			},
			"a terminal that is closed": func(p *Process) { require.NoError(t, p.PTY().Close()) },
		} {
			t.Run(name, func(t *testing.T) {
				needTerminals(t)
				checkLeaks(t)
				watch(t, func(ctx context.Context) {
					p, err := shell("echo out").SetPTY(24, 80).Start(ctx)
					require.NoError(t, err)
					t.Cleanup(func() { p.PTY().Close() })
					use(p)
					_ = p.Wait() // it may have died of SIGHUP
				})
			})
		}
	})
}

// family is a script with a grandchild. Both keep descriptor 3 open, and neither minds SIGTERM where $1 says so.
const family = `$1; { echo ready >&4; exec sleep 1000 4>&-; } & wait; exit 5`

func TestKillGroupEndsGrandchildrenToo(t *testing.T) {
	for name, first := range map[string]string{
		"that end on SIGTERM": ":", "that ignore it, and so does the child": "trap '' TERM", "that ignore it": "trap 'exit 7' TERM",
	} {
		t.Run(name, func(t *testing.T) {
			forEachCall(t, func(t *testing.T, call func(*Command, context.Context) (string, error)) {
				ctx, cancel := context.WithCancel(context.Background())
				defer cancel()
				c := shell(strings.Replace(family, "$1", first, 1)).SetKillMode(KillGroup)
				if strings.Contains(name, "child") {
					c.SetGracePeriod(20 * time.Millisecond)
				} else {
					c.SetGracePeriod(time.Hour)
				}
				alive, ready := passPipe(t, c, 3), passPipe(t, c, 4)
				_, err := during(call, c, ctx, func() {
					require.Equal(t, "ready", readLine(t, ready))
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
	checkLeaks(t)
	for _, c := range []*Command{
		New("/bin/cat").SetKillMode(KillGroup), New("/bin/cat").SetProcessGroup(), New("/bin/cat").SetKillMode(KillGroup).SetSession(),
	} {
		p, err := c.PipeStdin().Start(context.Background())
		require.NoError(t, err)
		group, err := unix.Getpgid(p.PID())
		require.NoError(t, err)
		require.Equal(t, p.PID(), group)
		session, err := unix.Getsid(p.PID())
		require.NoError(t, err)
		require.Equal(t, wantedOf(c).session, session == p.PID())
		require.NoError(t, p.Abort())
		requireSignal(t, p.Wait(), unix.SIGTERM)
		require.NoError(t, p.Stdin().Close())
	}
}

// leaveGroup has members in the group that it leads, which ignore SIGTERM and keep descriptor 3, and goes to its parent's group. It ends when
// the first one does that a signal to the group reaches, the newest: the others give it time to.
func leaveGroup([]string) int {
	member := exec.Command("/bin/sh", "-c", `trap "" TERM; exec 6>&1 >/dev/null
		n=0; while [ $n -lt 200 ]; do read x <&4 6>&- & n=$((n+1)); done
		{ echo ready >&6; read x; } <&4 & exec 6>&-; wait`)
	block, keep, err := os.Pipe()
	if err != nil {
		return fail(err)
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
		return fail(err)
	}
	fmt.Println("left")
	_, _ = unix.Read(int(out.(*os.File).Fd()), make([]byte, 1))
	return 0
}

func TestKillGroupEndsAChildThatHasLeftTheGroupItLed(t *testing.T) {
	t.Run("SIGTERM", func(t *testing.T) { endChildThatHasLeft(t, time.Hour, unix.SIGTERM) })
	t.Run("SIGKILL", func(t *testing.T) {
		for range rounds(20, 2) { // of which two or so fail if the group is signalled before the child
			endChildThatHasLeft(t, 0, unix.SIGKILL)
		}
	})
}

func endChildThatHasLeft(t *testing.T, grace time.Duration, want unix.Signal) {
	checkLeaks(t)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	c := helperCommand(t, "context-leave-group").SetKillMode(KillGroup).SetGracePeriod(grace).PipeStdout()
	alive := passPipe(t, c, 3)
	p, err := c.Start(ctx)
	require.NoError(t, err)
	defer p.Stdout().Close()
	require.Equal(t, "left", readLine(t, p.Stdout()))
	cancel()
	requireSignal(t, p.Wait(), want)
	_, err = alive.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF, "the members have ended")
}

// The child may end at any moment while this process asks whether it has: its status must not be taken before what is left of its group is killed.
func TestKillGroupEndsGrandchildrenWheneverTheStatusIsTaken(t *testing.T) {
	commands := map[string]func(*Command) *Command{"child": func(c *Command) *Command { return c }}
	if signalsGroupsByPidfd(t) {
		commands["daemon"] = (*Command).Daemonize
	}
	for name, with := range commands {
		t.Run(name, func(t *testing.T) {
			checkLeaks(t)
			for range 10 { // the first few would do
				c := with(shell(`(trap '' TERM; echo ready >&4; exec sleep 1000 4>&-) & wait`)).SetKillMode(KillGroup).SetGracePeriod(time.Hour)
				alive, ready := passPipe(t, c, 3), passPipe(t, c, 4)
				call := callOf(c)
				call.streams, call.options.executor = streams{}, automatic
				r, err := cloneChild(context.Background(), call, watched)
				require.NoError(t, err)
				r.handOver()
				require.NoError(t, r.waitExec())
				require.Equal(t, "ready", readLine(t, ready))
				go func() { _ = r.process().abort() }()
				for !r.reap() { // as often as it can
				}
				r.closeHandle()
				_, err = alive.Read(make([]byte, 1))
				require.ErrorIs(t, err, io.EOF, "both have ended")
			}
		})
	}
}

func TestKillProcessLeavesTheChildsGroupAlone(t *testing.T) {
	forEachCall(t, func(t *testing.T, call func(*Command, context.Context) (string, error)) {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		c := shell(`{ exec >&- 2>&-; echo ready >&4; read x <&3; echo alive >&4; } & wait`).SetProcessGroup()
		r, to := newPipe(t)
		from := passPipe(t, c.PassFDAs(r, 3), 4)
		_, err := during(call, c, ctx, func() {
			require.Equal(t, "ready", readLine(t, from))
			cancel()
		})
		require.ErrorIs(t, err, context.Canceled)
		requireSignal(t, err, unix.SIGTERM)
		_, err = io.WriteString(to, "go\n")
		require.NoError(t, err)
		require.Equal(t, "alive", readLine(t, from))
	})
}

func TestAStoppedGroupIsEnded(t *testing.T) {
	checkLeaks(t)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	c := shell(strings.Replace(family, "$1", ":", 1)).SetKillMode(KillGroup).SetGracePeriod(time.Hour)
	alive, ready := passPipe(t, c, 3), passPipe(t, c, 4)
	p, err := c.Start(ctx)
	require.NoError(t, err)
	require.Equal(t, "ready", readLine(t, ready))
	require.NoError(t, unix.Kill(-p.PID(), unix.SIGSTOP))
	eventually(t, "the child has stopped", func() bool { return processState(p.PID()) == 'T' })
	cancel()
	err = p.Wait()
	require.ErrorIs(t, err, context.Canceled)
	requireSignal(t, err, unix.SIGTERM)
	_, err = alive.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF, "both have ended")
}
