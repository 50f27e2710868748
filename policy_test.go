package spawn_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/virspawn/spawn"
	"github.com/virspawn/spawn/internal/descriptor"
	"github.com/virspawn/spawn/internal/testkit"
)

var errForbidden = errors.New("forbidden")

// forbidAll is a policy.
func forbidAll(*spawn.Command) error { return errForbidden }

// requireForbidden requires the error of a policy.
func requireForbidden(t *testing.T, err error, path, name string) {
	t.Helper()
	require.ErrorIs(t, err, errForbidden, name)
	var start *spawn.StartError
	require.ErrorAs(t, err, &start, name)
	require.Equal(t, spawn.StartError{Op: "SetPolicy", Path: path, Err: errForbidden}, *start, name)
}

func TestPolicyRefusesDryRunsInEveryWay(t *testing.T) {
	checkDryLeaks(t)
	restore := spawn.SetPolicy(forbidAll)
	ctx := testkit.Dry(func(*spawn.DryRunCall) { t.Error("called") })
	for name, run := range testkit.Ways {
		n := observe(t)
		requireForbidden(t, run(ctx, spawn.New(testkit.Missing)), testkit.Missing, name)
		require.Equal(t, "fail", n.told(), name)
		require.ErrorIs(t, n.fails[0].Err, errForbidden)
	}
	restoreDry := spawn.SetDryRun(func(*spawn.DryRunCall) { t.Error("called") })
	requireForbidden(t, spawn.New(testkit.Missing).Exec(), testkit.Missing, "Exec")
	restoreDry()
	restore()
	require.NoError(t, spawn.New(testkit.Missing).Run(testkit.Dry(testkit.Says("", "", 0))))
}

func TestPolicySeesTheCommand(t *testing.T) {
	called := 0
	defer spawn.SetPolicy(func(c *spawn.Command) error {
		called++
		require.Equal(t, testkit.Missing, c.Path())
		require.Equal(t, []string{"zero", "a b", "hidden"}, c.Args())
		require.Equal(t, []string{"A=1", "S=quiet"}, c.Env())
		require.Equal(t, "/x", c.Dir())
		require.Equal(t, "A=1 S=*** "+testkit.Missing+" 'a b' ***", c.String())
		return nil
	})()
	c := spawn.New(testkit.Missing, "a b").AddSecretArg("hidden").SetArgv0("zero").AddEnv("A", "1").AddSecretEnv("S", "quiet").SetWorkingDirectory("/x")
	for name, run := range testkit.Ways {
		called = 0
		err := run(testkit.Dry(testkit.Says("", "", 0)), c)
		if started := (*testkit.NotAStart)(nil); errors.As(err, &started) {
			err = started.Err
		}
		require.NoError(t, err, name)
		require.Equal(t, 1, called, name)
	}
	require.Equal(t, os.Environ(), spawn.New(testkit.Missing).Env())
	require.Equal(t, []string{testkit.Missing}, spawn.New(testkit.Missing).Args())
	require.Empty(t, spawn.New(testkit.Missing).Dir())
}

func TestPolicyChangesWhatRunsAndNotTheCallersCommand(t *testing.T) {
	var kept *spawn.Command
	restore := spawn.SetPolicy(func(c *spawn.Command) error {
		kept = c.AddArg("more").AddEnv("B", "2")
		return nil
	})
	defer restore() // also when the test fails
	c := spawn.New(testkit.Missing, "one").AddEnv("A", "1")
	var got *spawn.DryRunCall
	ctx := testkit.Dry(func(d *spawn.DryRunCall) { got, d.ExitCode = d, 1 })
	for range 2 {
		require.ErrorContains(t, c.Run(ctx), "spawn: "+testkit.Missing+" one more: exit status 1")
		require.Equal(t, []string{testkit.Missing, "one", "more"}, got.Args)
		require.Equal(t, []string{"A=1", "B=2"}, got.Env)
	}
	ctx = testkit.Dry(func(d *spawn.DryRunCall) { kept.AddArg("too late"); got = d })
	require.NoError(t, c.Run(ctx))
	require.Equal(t, []string{testkit.Missing, "one", "more"}, got.Args)
	restore()
	require.Equal(t, "A=1 "+testkit.Missing+" one", c.String())
}

// meddler is a log handler that does something when it is asked whether it
// logs, which is after the policy and before the start.
type meddler struct {
	slog.Handler
	do func()
}

func (m meddler) Enabled(context.Context, slog.Level) bool { m.do(); return false }

func TestPolicyHasNoHandInTheCommandLater(t *testing.T) {
	var kept *spawn.Command
	defer spawn.SetPolicy(func(c *spawn.Command) error {
		kept = c.AddArg("more").SetNoNewPrivs()
		return nil
	})()
	meddled := 0
	l := slog.New(meddler{slog.Default().Handler(), func() {
		meddled++
		*kept = *spawn.New("other", "late").AddEnv("LATE", "1").SetWorkingDirectory("/late")
	}})
	for name, run := range testkit.Ways {
		meddled = 0
		var got *spawn.DryRunCall
		_ = run(testkit.Dry(func(d *spawn.DryRunCall) { got = d }), spawn.New(testkit.Missing, "one").ClearEnv().SetLogger(l))
		require.Equal(t, 1, meddled, name)
		require.Equal(t, testkit.Missing, got.Path, name)
		require.Equal(t, []string{testkit.Missing, "one", "more"}, got.Args, name)
		require.Empty(t, got.Env, name)
		require.Empty(t, got.Dir, name)
	}
}

func TestPolicyWithABadCallRefuses(t *testing.T) {
	defer spawn.SetPolicy(func(c *spawn.Command) error { c.SetUmask(-1); return nil })()
	c := spawn.New(testkit.Missing)
	for name, run := range testkit.Ways {
		require.EqualError(t, run(testkit.Dry(func(*spawn.DryRunCall) { t.Error("called") }), c),
			`spawn: cannot start "no-such-program": SetPolicy: spawn: SetUmask: the mask -01 is not in 0 to 0777`, name)
	}
	require.NoError(t, testkit.FirstFail(c))
}

func TestPolicyIsNotAskedAboutWhatCannotRun(t *testing.T) {
	defer spawn.SetPolicy(func(*spawn.Command) error { t.Error("asked"); return nil })()
	ended, cancel := context.WithCancel(testkit.Dry(nil))
	cancel()
	for name, run := range testkit.Ways {
		require.ErrorContains(t, run(testkit.Dry(nil), spawn.New(testkit.Missing).SetUmask(-1)), "SetUmask", name)
		require.ErrorIs(t, run(ended, spawn.New(testkit.Missing)), context.Canceled, name)
		require.ErrorContains(t, run(context.Background(), spawn.New(testkit.Missing)), "search in PATH", name)
	}
}

// endedOnce is a context that has ended the first time that it is asked, and
// then has not.
type endedOnce struct {
	context.Context
	asked *atomic.Int32
}

func (c endedOnce) Err() error {
	if c.asked.Add(1) == 1 {
		return context.Canceled
	}
	return nil
}

func TestACommandOfWhichThePolicyWasNotAskedDoesNotRun(t *testing.T) {
	defer spawn.SetPolicy(func(*spawn.Command) error { t.Error("asked"); return nil })()
	for name, run := range testkit.Ways {
		f := testkit.TempFile(t, "")
		ctx := endedOnce{testkit.Dry(func(*spawn.DryRunCall) { t.Error("called") }), new(atomic.Int32)}
		require.ErrorIs(t, run(ctx, spawn.New(testkit.Missing).PassFDAs(f, 5, spawn.CloseParent)), context.Canceled, name)
		require.Negative(t, descriptor.Of(f), name)
	}
}

func TestPolicyThatRefusesOrPanicsClosesTheFiles(t *testing.T) {
	checkDryLeaks(t)
	for what, policy := range map[string]func(*spawn.Command) error{
		"refuses": forbidAll,
		"panics":  func(*spawn.Command) error { panic("of the policy") },
	} {
		for name, run := range testkit.Ways {
			f := testkit.TempFile(t, "")
			c := spawn.New(testkit.Missing)
			c.PassFDAs(f, 5, spawn.CloseParent)
			restore := spawn.SetPolicy(policy)
			func() {
				defer func() { require.Equal(t, what == "panics", recover() != nil, name) }()
				_ = run(testkit.Dry(func(*spawn.DryRunCall) { t.Error("called") }), c)
			}()
			restore()
			require.Negative(t, descriptor.Of(f), "%s, %s", what, name)
		}
	}
}

func TestPolicyIsAskedByManyAtOnce(t *testing.T) {
	defer spawn.SetPolicy(func(c *spawn.Command) error {
		c.SetUmask(0o077).AddArg("more")
		return nil
	})()
	c := spawn.New(testkit.Missing, "one")
	ctx := testkit.Dry(func(d *spawn.DryRunCall) { d.Stdout = strings.Join(d.Args, " ") })
	var wg sync.WaitGroup
	for range 20 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			out, err := c.Output(ctx)
			if err != nil || string(out) != testkit.Missing+" one more" {
				t.Errorf("%q %v", out, err)
			}
		}()
	}
	wg.Wait()
}

func TestPolicyIsPutBack(t *testing.T) {
	ctx := testkit.Dry(testkit.Says("", "", 0))
	restore := spawn.SetPolicy(forbidAll)
	restoreNil := spawn.SetPolicy(nil)
	require.NoError(t, spawn.New(testkit.Missing).Run(ctx))
	restoreNil()
	require.ErrorIs(t, spawn.New(testkit.Missing).Run(ctx), errForbidden)
	restore()
	require.NoError(t, spawn.New(testkit.Missing).Run(ctx))
}
