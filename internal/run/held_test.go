//go:build linux

package run_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/virspawn/spawn"
	"github.com/virspawn/spawn/internal/plan"
	"github.com/virspawn/spawn/internal/testkit"
	"golang.org/x/sys/unix"
)

// A child may not come to its program: it enters a directory that does not
// answer, or its new user stops it. That is its own affair: other commands go
// on, this process does, and a context bounds the call.

func init() {
	testkit.Helpers["held-children"] = heldChildren
	testkit.Helpers["stop-all"] = stopAll
	testkit.Helpers["stopped-children"] = stoppedChildren
}

// bound is how long a call may take whose context has ended: only what never
// returns takes so long.
const bound = 30 * time.Second

// within makes a call that must return.
func within(call func() error) error {
	done := make(chan error, 1)
	go func() { done <- call() }()
	select {
	case err := <-done:
		return err
	case <-time.After(bound):
		return errHangs
	}
}

var errHangs = errors.New("it hangs")

// callOf is startOf with a context.
func callOf(c *spawn.Command, ctx context.Context) error {
	if !testkit.Wanted(c).Handshake {
		return c.Run(ctx)
	}
	p, err := c.Start(ctx)
	if err != nil {
		return err
	}
	return errors.Join(p.HandshakeWait(ctx), p.HandshakeNotify(), p.Wait())
}

// others are commands that have nothing to do with one that is held.
func others(program string) map[string]*spawn.Command {
	c := func() *spawn.Command { return spawn.New(program) }
	all := map[string]*spawn.Command{
		"plain":                c(),
		"other ids":            testkit.OtherIDs(c()),
		"handshake":            testkit.OtherIDs(c()).RequireHandshake(),
		"SetCoredumpFilter":    c().SetCoredumpFilter(1),
		"SetOOMScoreAdj":       c().SetOOMScoreAdj(500),
		"SetParentDeathSignal": c().SetParentDeathSignal(unix.SIGKILL),
		"KillTree":             c().SetKillMode(spawn.KillTree),
		"a helper":             testkit.By(c(), plan.ChildAndHelper),
		"a copy":               testkit.WithoutStub(testkit.OtherIDs(c())),
	}
	if testkit.HasUserNamespaces() {
		all["user namespace"] = testkit.InUserNamespace(c())
	}
	return all
}

// goesOn reports whether this process and its other commands do.
func goesOn(program string) error {
	if err := within(func() error { runtime.GC(); return nil }); err != nil {
		return fmt.Errorf("garbage collection: %w", err)
	}
	for name, c := range others(program) {
		call := func() error { return callOf(c, context.Background()) }
		if err := within(call); err != nil {
			return fmt.Errorf("another command, %s: %w", name, err)
		}
	}
	return nil
}

func TestADirectoryThatDoesNotAnswerHoldsNobodyElse(t *testing.T) {
	testkit.NeedsClone(t)
	t.Setenv("GORACE", "atexit_sleep_ms=0")
	out, err := testkit.HelperCommand(t, "held-children", publicTiny(t)).CombinedOutput(context.Background())
	require.NoError(t, err, "%s", out)
	require.Equal(t, "good\n", string(out))
}

func heldChildren(args []string) int {
	h, err := testkit.NewHolder(unix.SYS_CHDIR)
	if err != nil {
		return testkit.Fail(err)
	}
	c := func() *spawn.Command {
		return spawn.New(args[0]).SetWorkingDirectory("/").SetGracePeriod(time.Second / 10)
	}
	kinds := map[string]*spawn.Command{
		"plain":             c(),
		"other ids":         testkit.OtherIDs(c()),
		"SetOOMScoreAdj":    c().SetOOMScoreAdj(500),
		"SetCoredumpFilter": c().SetCoredumpFilter(1),
		"KillTree":          c().SetKillMode(spawn.KillTree),
		"handshake":         c().RequireHandshake(),
		"a hook":            c().SetPreExecHook(hookNothing, ""),
		"a copy":            testkit.WithoutStub(testkit.OtherIDs(c())),
	}
	if testkit.HasUserNamespaces() {
		kinds["user namespace"] = testkit.InUserNamespace(c())
	}
	for name, c := range kinds {
		held, ended := false, make(chan struct{})
		ctx, cancel := context.WithCancel(context.Background())
		var said error
		err := h.Run(func() error {
			said = callOf(c, ctx)
			close(ended)
			return nil
		}, func(int, uint32) error {
			held = true
			err := goesOn(args[0])
			cancel()
			return errors.Join(err, within(func() error { <-ended; return nil }))
		})
		cancel()
		switch {
		case err != nil:
		case !held:
			err = errors.New("nobody was held")
		case said == nil:
			err = errors.New("the call has not failed")
		}
		if err == nil {
			err = within(func() error { return nothingLeft() })
		}
		if err != nil {
			return testkit.Fail(fmt.Errorf("%s: %w", name, err))
		}
	}
	fmt.Println("good")
	return 0
}

// nothingLeft waits until this process has no children.
func nothingLeft() error {
	for {
		var info unix.Siginfo
		if err := unix.Waitid(unix.P_ALL, 0, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT|unix.WALL, nil); err == unix.ECHILD {
			return nil
		}
		runtime.Gosched()
	}
}

// stopper is the user of the programs, who stops all of them.
const stopper = 54321

func TestAUserWhoStopsAllHisProcessesHoldsNobodyElse(t *testing.T) {
	testkit.NeedsRoot(t, "to start programs as another user")
	t.Setenv("GORACE", "atexit_sleep_ms=0")
	program := testkit.CopySelf(t)
	require.NoError(t, os.Chmod(program, 0o755))
	out, err := spawn.New(program, testkit.HelperPrefix+"stopped-children", program, publicTiny(t), fmt.Sprint(testkit.Rounds(200, 20))).
		CombinedOutput(context.Background())
	require.NoError(t, err, "%s", out)
	require.Equal(t, "good\n", string(out))
}

// stopAll stops all other processes of its user, until it is killed.
func stopAll([]string) int {
	fmt.Println("ready")
	for {
		_ = unix.Kill(-1, unix.SIGSTOP)
	}
}

func stoppedChildren(args []string) int {
	program, tiny := args[0], args[1]
	as := func(c *spawn.Command) *spawn.Command { return c.SetUID(stopper).SetGID(stopper) }
	attacker, err := testkit.StartLive(as(spawn.New(program, testkit.HelperPrefix+"stop-all").PipeStdout()))
	if err != nil {
		return testkit.Fail(err)
	}
	var rounds int
	if _, err := fmt.Sscan(args[2], &rounds); err != nil {
		return testkit.Fail(err)
	}
	stopped := 0
	for i := range rounds {
		c := as(spawn.New(tiny).SetGracePeriod(time.Millisecond))
		switch i % 4 {
		case 1:
			c.RequireHandshake()
		case 2:
			c = testkit.WithoutStub(c)
		case 3:
			c.SetKillMode(spawn.KillTree)
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second/20)
		err := within(func() error { return callOf(c, ctx) })
		cancel()
		if errors.Is(err, errHangs) {
			return testkit.Fail(fmt.Errorf("round %d: %w", i, err))
		}
		if err != nil {
			stopped++
		}
	}
	if stopped == 0 {
		return testkit.Fail(errors.New("the attack no longer works: no child was stopped"))
	}
	if err := goesOn(tiny); err != nil {
		return testkit.Fail(err)
	}
	if err := attacker.Abort(); err != nil {
		return testkit.Fail(err)
	}
	if err := within(nothingLeft); err != nil {
		return testkit.Fail(err)
	}
	fmt.Println("good")
	return 0
}
