//go:build linux

package run_test

import (
	"context"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/virspawn/spawn"
	"github.com/virspawn/spawn/internal/plan"
	"github.com/virspawn/spawn/internal/run"
	"github.com/virspawn/spawn/internal/testkit"
	"github.com/virspawn/spawn/internal/testkit/early"
)

func init() {
	testkit.Helpers["mute-stays"] = func([]string) int {
		_, _ = io.Copy(io.Discard, os.Stdin)
		return 0
	}
}

// withMaxMute makes this bound the one of a test.
func withMaxMute(t *testing.T, d time.Duration) time.Duration {
	before := *run.MaxMute
	*run.MaxMute = d
	t.Cleanup(func() { *run.MaxMute = before })
	return d
}

// requireMute checks that nothing was started, because the helper gave no sign.
func requireMute(t *testing.T, err error, after time.Duration) {
	t.Helper()
	requireNotStartedText(t, err, "helper", "it has given no sign of life within "+after.String())
}

// TestAHelperThatGivesNoSignIsAnError: another package's initialisation does
// not end. There is no context that would.
func TestAHelperThatGivesNoSignIsAnError(t *testing.T) {
	after := withMaxMute(t, 20*time.Millisecond)
	t.Setenv(early.Block, early.Always)
	testkit.ForSlowCalls(t, func(t *testing.T, call func(*spawn.Command, context.Context) (string, error)) {
		_, err := call(spawn.New("/bin/true").SetPreExecHook(testkit.HookFails, ""), context.Background())
		requireMute(t, err, after)
	})
	for name, c := range map[string]*spawn.Command{
		"a daemon":                  spawn.New("/bin/true").Daemonize().SetPreExecHook(testkit.HookFails, ""),
		"forked":                    testkit.By(spawn.New("/bin/true"), plan.ForkedHelper),
		"forked, a daemon":          testkit.By(spawn.New("/bin/true").Daemonize(), plan.ForkedHelper),
		"a handshake":               spawn.New("/bin/true").RequireHandshake().SetPreExecHook(testkit.HookFails, ""),
		"forked, handshake, daemon": testkit.By(spawn.New("/bin/true").RequireHandshake().Daemonize(), plan.ForkedHelper),
	} {
		t.Run(name, func(t *testing.T) {
			testkit.CheckLeaks(t)
			if strings.Contains(name, "handshake") {
				p, err := c.Start(context.Background())
				if err == nil {
					err = p.HandshakeWait(context.Background())
				}
				requireMute(t, err, after)
				return
			}
			_, err := c.Start(context.Background())
			requireMute(t, err, after)
		})
	}
	t.Run("forked, the second one", func(t *testing.T) {
		testkit.CheckLeaks(t)
		t.Setenv(early.Block, "+") // at the end of its argument
		_, err := testkit.By(spawn.New("/bin/true").Daemonize(), plan.ForkedHelper).Start(context.Background())
		requireMute(t, err, after)
	})
}

// TestAForkedHelperWhoseTimeIsOverEarlyIsAnError: nobody could signal it then,
// since its pid was not known.
func TestAForkedHelperWhoseTimeIsOverEarlyIsAnError(t *testing.T) {
	t.Setenv(early.Block, early.Always)
	for i := range testkit.Rounds(2000, 50) {
		after := withMaxMute(t, time.Duration(1+i%200)*10*time.Microsecond)
		for _, c := range []*spawn.Command{
			spawn.New("/bin/true").Daemonize().SetPreExecHook(testkit.HookFails, ""),
			testkit.By(spawn.New("/bin/true").Daemonize(), plan.ForkedHelper),
		} {
			_, err := c.Start(context.Background())
			requireMute(t, err, after)
			testkit.RequireNoChild(t)
		}
	}
}

// TestAHelperHasHalfAMinuteToBegin is the same with the bound that users have.
func TestAHelperHasHalfAMinuteToBegin(t *testing.T) {
	require.Equal(t, 30*time.Second, *run.MaxMute)
	if os.Getenv("SPAWN_TEST_LONG") == "" {
		t.Skip("takes half a minute: see .ci/full")
	}
	testkit.CheckLeaks(t)
	t.Setenv(early.Block, early.Always)
	err := spawn.New("/bin/true").SetPreExecHook(testkit.HookFails, "").Run(context.Background())
	requireMute(t, err, *run.MaxMute)
}

// TestAHelperThatGivesNoSignIsAnErrorThoughItHasStartedOthers: what another
// package's initialisation has started has the descriptors of the helper,
// and stays.
func TestAHelperThatGivesNoSignIsAnErrorThoughItHasStartedOthers(t *testing.T) {
	testkit.CheckLeaks(t)
	after := withMaxMute(t, 500*time.Millisecond)
	r, w := testkit.NewPipe(t)
	t.Setenv(early.Run, testkit.HelperPrefix+"mute-stays")
	t.Setenv("GORACE", "atexit_sleep_ms=0")
	ended := make(chan error, 1)
	go func() {
		ended <- spawn.New("/bin/true").SetStdin(r).SetPreExecHook(testkit.HookFails, "").Run(context.Background())
	}()
	select {
	case err := <-ended:
		requireMute(t, err, after)
	case <-time.After(after + 30*time.Second):
		t.Error("the call lasts as long as what was started")
	}
	require.NoError(t, w.Close())
}

// TestAHelperThatEndsBeforeItIsOneIsAnError: something else runs in its place,
// and ends.
func TestAHelperThatEndsBeforeItIsOneIsAnError(t *testing.T) {
	testkit.CheckLeaks(t)
	t.Setenv(early.Exit, "1")
	err := spawn.New("/bin/true").SetPreExecHook(testkit.HookFails, "").Run(context.Background())
	requireNotStartedText(t, err, "helper", "the child has ended before it was a helper: exit status 5")
}

// TestAHookMayTakeLongerThanAHelperToBegin: the bound is for its first sign.
func TestAHookMayTakeLongerThanAHelperToBegin(t *testing.T) {
	testkit.CheckLeaks(t)
	after := withMaxMute(t, 500*time.Millisecond)
	require.NoError(t, spawn.New("/bin/true").SetPreExecHook(hookTakes, (2*after).String()).Run(context.Background()))
}

var hookTakes = spawn.RegisterHook("takes", func(arg string) error {
	d, err := time.ParseDuration(arg)
	time.Sleep(d)
	return err
})

// TestTheTimerOfAHelperEndsWithIt: it looks at memory that is given back then.
func TestTheTimerOfAHelperEndsWithIt(t *testing.T) {
	testkit.NeedsClone(t)
	testkit.CheckLeaks(t)
	call := testkit.Call(testkit.By(spawn.New("/bin/true"), plan.ChildAndHelper))
	r, err := run.Prepare(context.Background(), call, plan.Piped)
	require.NoError(t, err)
	r.NewProcess()
	require.NoError(t, r.Clone())
	require.True(t, r.AwaitsSign())
	testkit.Eventually(t, "it has ended", r.Reap)
	r.GiveBack()
	require.False(t, r.AwaitsSign())
}
