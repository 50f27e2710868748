//go:build linux

package run_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/virspawn/spawn"
	"github.com/virspawn/spawn/internal/plan"
	"github.com/virspawn/spawn/internal/testkit"
	"golang.org/x/sys/unix"
)

func init() { testkit.Helpers["killed-children"] = killedChildren }

// A child may be killed at any of its calls: by the kernel for want of memory,
// or by its new user. As for a program, its end is a signal's, unless it is
// known that the program cannot have run.
func TestAChildThatIsKilledAtAnyOfItsCallsLeavesNothing(t *testing.T) {
	testkit.NeedsClone(t)
	t.Setenv("GORACE", "atexit_sleep_ms=0")
	out, err := testkit.HelperCommand(t, "killed-children", publicTiny(t), fmt.Sprint(testkit.Rounds(2, 1))).CombinedOutput(context.Background())
	require.NoError(t, err, "%s", out)
	require.Equal(t, "good\n", string(out))
}

func killedChildren(args []string) int {
	h, err := testkit.NewHolder(testkit.ChildCalls...)
	if err != nil {
		return testkit.Fail(err)
	}
	tiny := func() *spawn.Command { return spawn.New(args[0]).SetWorkingDirectory("/") }
	kinds := map[string]*spawn.Command{
		"plain":          tiny().SetUmask(0).SetSession().SetMaxCoreSize(0),
		"other ids":      testkit.OtherIDs(tiny()),
		"handshake":      tiny().RequireHandshake(),
		"tree":           tiny().SetKillMode(spawn.KillTree),
		"copy":           testkit.WithoutStub(testkit.OtherIDs(tiny())),
		"copy, gate":     testkit.WithoutStub(testkit.OtherIDs(tiny()).RequireHandshake()),
		"helper":         testkit.By(tiny(), plan.ChildAndHelper),
		"hook":           tiny().SetPreExecHook(hookNothing, ""),
		"hook, gate":     testkit.OtherIDs(tiny()).SetPreExecHook(hookNothing, "").RequireHandshake(),
		"user namespace": testkit.InUserNamespace(tiny()),
	}
	if !testkit.HasUserNamespaces() {
		delete(kinds, "user namespace")
	}
	if args[1] == "1" { // they make many calls
		delete(kinds, "helper")
		delete(kinds, "hook")
	}
	for name, c := range kinds {
		if err := killEach(h, startOf(c), args[1] == "1"); err != nil {
			return testkit.Fail(fmt.Errorf("%s: %w", name, err))
		}
	}
	fmt.Println("good")
	return 0
}

// killEach kills the child of a start at its calls: of those that come several
// times in turn at some, and a short one of all that come several times.
func killEach(h *testkit.Holder, start func() error, short bool) error {
	var calls []uint32
	count := func(_ int, call uint32) error { calls = append(calls, call); return nil }
	for range 2 { // what is there once and for all is there then
		calls = nil
		if err := h.Run(start, count); err != nil {
			return fmt.Errorf("without a kill: %w", err)
		}
	}
	if len(calls) < 10 {
		return fmt.Errorf("only %d calls", len(calls))
	}
	open, goroutines := testkit.OpenNumbers(), runtime.NumGoroutine()
	killed := map[uint32]bool{}
	for i, call := range calls {
		if i > 0 && i%23 != 0 && (call == calls[i-1] || short && killed[call]) {
			continue
		}
		killed[call] = true
		step, killedIn := -1, -1
		var said error
		err := h.Run(func() error { said = start(); return nil }, func(pid int, call uint32) error {
			if step++; step == i {
				killedIn = int(call)
				return unix.Kill(pid, unix.SIGKILL)
			}
			return nil
		})
		switch {
		case killedIn < 0: // a helper does not always make as many calls
			continue
		case killedIn == unix.SYS_EXIT_GROUP && said == nil: // has forked
		case !endedByKill(said):
			err = errors.Join(err, fmt.Errorf("it says: %v", said))
		}
		for end := time.Now().Add(10 * time.Second); ; {
			left := testkit.LeftBehind(open, true)
			if n := runtime.NumGoroutine(); left == nil && n > goroutines {
				left = fmt.Errorf("%d goroutines, before: %d", n, goroutines)
			}
			if left == nil {
				break
			}
			if time.Now().After(end) {
				err = errors.Join(err, left)
				break
			}
		}
		if err != nil {
			return fmt.Errorf("killed at call %d of %d, which is %d: %w", i, len(calls), killedIn, err)
		}
	}
	return nil
}

// endedByKill reports whether an error is that of a program which was killed,
// or which could not be started.
func endedByKill(err error) bool {
	var exit *spawn.ExitError
	var start *spawn.StartError
	switch {
	case errors.As(err, &start):
		return start.Op != "" && start.Path != ""
	case errors.As(err, &exit):
		return exit.Status.Signal == unix.SIGKILL
	}
	return false
}
