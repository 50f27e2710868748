//go:build linux

package run_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/virspawn/spawn"
	"github.com/virspawn/spawn/internal/plan"
	"github.com/virspawn/spawn/internal/testkit"
	"golang.org/x/sys/unix"
)

func init() { testkit.Helpers["dumped-children"] = dumpedChildren }

// dumpingSignals are those whose default is a core dump.
var dumpingSignals = []unix.Signal{
	unix.SIGQUIT, unix.SIGILL, unix.SIGTRAP, unix.SIGABRT, unix.SIGBUS, unix.SIGFPE, unix.SIGSEGV, unix.SIGXCPU, unix.SIGXFSZ, unix.SIGSYS,
}

// Whoever may signal a child, and set its limits, could have it dump core in
// the moment before execve, when no signal is blocked any more. The core of one
// that shares the parent's memory would be the parent's.
func TestAttackByASignalThatDumpsCore(t *testing.T) {
	testkit.NeedsClone(t)
	if plan.HelperForced() {
		t.Skip("a helper is not in this process's memory")
	}
	t.Setenv("GORACE", "atexit_sleep_ms=0")
	out := testkit.OutputOf(t, testkit.HelperCommand(t, "dumped-children", publicTiny(t)).SetWorkingDirectory(t.TempDir()))
	if out == "no core\n" {
		t.Skip("needs a machine where programs dump core")
	}
	require.Equal(t, "good\n", out)
}

func dumpedChildren(args []string) int {
	var limit unix.Rlimit
	err := unix.Getrlimit(unix.RLIMIT_CORE, &limit)
	limit.Cur = limit.Max
	if err := errors.Join(err, unix.Setrlimit(unix.RLIMIT_CORE, &limit)); err != nil {
		return testkit.Fail(err)
	}
	p, err := spawn.New("/bin/sleep", "1000").Start(context.Background())
	if err == nil {
		err = p.Signal(unix.SIGQUIT)
	}
	if err != nil {
		return testkit.Fail(err)
	}
	if _ = p.Wait(); !p.Status().CoreDumped {
		fmt.Println("no core")
		return 0
	}
	h, err := testkit.NewHolder(unix.SYS_RT_SIGPROCMASK)
	if err != nil {
		return testkit.Fail(err)
	}
	for name, c := range map[string]*spawn.Command{
		"plain":     spawn.New(args[0]),
		"a filter":  spawn.New(args[0]).SetSeccompFilter(testkit.FilterOf(unix.SYS_REBOOT, unix.SECCOMP_RET_ERRNO, 1)),
		"by a stub": testkit.By(spawn.New(args[0]), plan.Stub),
		"by a copy": testkit.WithoutStub(testkit.By(spawn.New(args[0]), plan.Stub)),
	} {
		for _, sig := range dumpingSignals {
			calls := 0
			var said error
			err := h.Run(func() error { said = c.Run(context.Background()); return nil }, func(pid int, _ uint32) error {

				calls++
				return unix.Kill(pid, sig)
			})
			var exit *spawn.ExitError
			switch {
			case err != nil:
			case calls == 0:
				err = errors.New("nobody was held")
			case !errors.As(said, &exit) || exit.Status.Signal == 0 || exit.Status.CoreDumped:
				err = fmt.Errorf("it says: %v", said)
			}
			if err != nil {
				return testkit.Fail(fmt.Errorf("%s, %v: %w", name, sig, err))
			}
		}
	}
	fmt.Println("good")
	return 0
}
