package spawn

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

var errForbidden = errors.New("forbidden")

// forbidAll is a policy.
func forbidAll(*Command) error { return errForbidden }

// requireForbidden requires the error of a policy.
func requireForbidden(t *testing.T, err error, path, name string) {
	t.Helper()
	require.ErrorIs(t, err, errForbidden, name)
	var start *StartError
	require.ErrorAs(t, err, &start, name)
	require.Equal(t, StartError{Op: "SetPolicy", Path: path, Err: errForbidden}, *start, name)
}

func TestPolicyRefusesDryRunsInEveryWay(t *testing.T) {
	checkDryLeaks(t)
	restore := SetPolicy(forbidAll)
	ctx := dry(func(*DryRunCall) { t.Error("called") })
	for name, run := range ways {
		n := observe(t)
		requireForbidden(t, run(ctx, New(missing)), missing, name)
		require.Equal(t, "fail", n.told(), name)
		require.ErrorIs(t, n.fails[0].Err, errForbidden)
	}
	restoreDry := SetDryRun(func(*DryRunCall) { t.Error("called") })
	requireForbidden(t, New(missing).Exec(), missing, "Exec")
	restoreDry()
	restore()
	require.NoError(t, New(missing).Run(dry(says("", "", 0))))
}

func TestPolicySeesTheCommand(t *testing.T) {
	called := 0
	defer SetPolicy(func(c *Command) error {
		called++
		require.Equal(t, missing, c.Path())
		require.Equal(t, []string{"zero", "a b", "hidden"}, c.Args())
		require.Equal(t, []string{"A=1", "S=quiet"}, c.Env())
		require.Equal(t, "/x", c.Dir())
		require.Equal(t, "A=1 S=*** "+missing+" 'a b' ***", c.String())
		return nil
	})()
	c := New(missing, "a b").AddSecretArg("hidden").SetArgv0("zero").AddEnv("A", "1").AddSecretEnv("S", "quiet").SetWorkingDirectory("/x")
	for name, run := range ways {
		called = 0
		err := run(dry(says("", "", 0)), c)
		if started := (*notAStart)(nil); errors.As(err, &started) {
			err = started.err
		}
		require.NoError(t, err, name)
		require.Equal(t, 1, called, name)
	}
	require.Equal(t, os.Environ(), New(missing).Env())
	require.Equal(t, []string{missing}, New(missing).Args())
	require.Empty(t, New(missing).Dir())
}

func TestPolicyChangesWhatRunsAndNotTheCallersCommand(t *testing.T) {
	var kept *Command
	restore := SetPolicy(func(c *Command) error {
		kept = c.AddArg("more").AddEnv("B", "2")
		return nil
	})
	defer restore() // also when the test fails
	c := New(missing, "one").AddEnv("A", "1")
	var got *DryRunCall
	ctx := dry(func(d *DryRunCall) { got, d.ExitCode = d, 1 })
	for range 2 {
		require.ErrorContains(t, c.Run(ctx), "spawn: "+missing+" one more: exit status 1")
		require.Equal(t, []string{missing, "one", "more"}, got.Args)
		require.Equal(t, []string{"A=1", "B=2"}, got.Env)
	}
	ctx = dry(func(d *DryRunCall) { kept.AddArg("too late"); got = d })
	require.NoError(t, c.Run(ctx))
	require.Equal(t, []string{missing, "one", "more"}, got.Args)
	restore()
	require.Equal(t, "A=1 "+missing+" one", c.String())
}

// meddler is a log handler that does something when it is asked whether it logs, which is after the policy and before the start.
type meddler struct {
	slog.Handler
	do func()
}

func (m meddler) Enabled(context.Context, slog.Level) bool { m.do(); return false }

func TestPolicyHasNoHandInTheCommandLater(t *testing.T) {
	var kept *Command
	defer SetPolicy(func(c *Command) error {
		kept = c.AddArg("more").SetNoNewPrivs()
		return nil
	})()
	meddled := 0
	l := slog.New(meddler{slog.Default().Handler(), func() {
		meddled++
		*kept = *New("other", "late").AddEnv("LATE", "1").SetWorkingDirectory("/late")
	}})
	for name, run := range ways {
		meddled = 0
		var got *DryRunCall
		_ = run(dry(func(d *DryRunCall) { got = d }), New(missing, "one").ClearEnv().SetLogger(l))
		require.Equal(t, 1, meddled, name)
		require.Equal(t, missing, got.Path, name)
		require.Equal(t, []string{missing, "one", "more"}, got.Args, name)
		require.Empty(t, got.Env, name)
		require.Empty(t, got.Dir, name)
	}
}

func TestPolicyWithABadCallRefuses(t *testing.T) {
	defer SetPolicy(func(c *Command) error { c.SetUmask(-1); return nil })()
	c := New(missing)
	for name, run := range ways {
		require.EqualError(t, run(dry(func(*DryRunCall) { t.Error("called") }), c),
			`spawn: cannot start "no-such-program": SetPolicy: spawn: SetUmask: the mask -01 is not in 0 to 0777`, name)
	}
	require.NoError(t, firstFailOf(c))
}

func TestPolicyIsNotAskedAboutWhatCannotRun(t *testing.T) {
	defer SetPolicy(func(*Command) error { t.Error("asked"); return nil })()
	ended, cancel := context.WithCancel(dry(nil))
	cancel()
	for name, run := range ways {
		require.ErrorContains(t, run(dry(nil), New(missing).SetUmask(-1)), "SetUmask", name)
		require.ErrorIs(t, run(ended, New(missing)), context.Canceled, name)
		require.ErrorContains(t, run(context.Background(), New(missing)), "search in PATH", name)
	}
}

func TestPolicyThatRefusesOrPanicsClosesTheFiles(t *testing.T) {
	checkDryLeaks(t)
	for what, policy := range map[string]func(*Command) error{
		"refuses": forbidAll,
		"panics":  func(*Command) error { panic("of the policy") },
	} {
		for name, run := range ways {
			f := tempFile(t, "")
			c := New(missing)
			c.PassFDAs(f, 5, CloseParent)
			restore := SetPolicy(policy)
			func() {
				defer func() { require.Equal(t, what == "panics", recover() != nil, name) }()
				_ = run(dry(func(*DryRunCall) { t.Error("called") }), c)
			}()
			restore()
			require.Negative(t, fileNumber(f), "%s, %s", what, name)
		}
	}
}

func TestPolicyIsAskedByManyAtOnce(t *testing.T) {
	defer SetPolicy(func(c *Command) error {
		c.SetUmask(0o077).AddArg("more")
		return nil
	})()
	c := New(missing, "one")
	ctx := dry(func(d *DryRunCall) { d.Stdout = strings.Join(d.Args, " ") })
	var wg sync.WaitGroup
	for range 20 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			out, err := c.Output(ctx)
			if err != nil || string(out) != missing+" one more" {
				t.Errorf("%q %v", out, err)
			}
		}()
	}
	wg.Wait()
}

func TestPolicyIsPutBack(t *testing.T) {
	ctx := dry(says("", "", 0))
	restore := SetPolicy(forbidAll)
	restoreNil := SetPolicy(nil)
	require.NoError(t, New(missing).Run(ctx))
	restoreNil()
	require.ErrorIs(t, New(missing).Run(ctx), errForbidden)
	restore()
	require.NoError(t, New(missing).Run(ctx))
}
