package spawntest

import (
	"context"
	"errors"
	"io/fs"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/virspawn/spawn"
)

func TestAScriptPlaysItsProgramsInOrder(t *testing.T) {
	ctx, script := New(t)
	script.Expect("one", "a").Stdout("out").Stderr("err")
	script.Expect("two").Stdin("input").Exit(3)
	script.Expect("two").Signal(syscall.SIGKILL)
	script.Expect("three").StartError(fs.ErrNotExist)
	script.Expect("four").Stdout("x").Do(func(c *spawn.DryRunCall) { c.Stdout += c.Path })

	out, err := spawn.New("one", "a").CombinedOutput(ctx)
	require.NoError(t, err)
	require.Equal(t, "outerr", string(out))
	status, err := spawn.New("two").SetInput([]byte("input")).RunStatus(ctx)
	require.NoError(t, err)
	require.Equal(t, 3, status.ExitCode)
	status, err = spawn.New("two").RunStatus(ctx)
	require.NoError(t, err)
	require.Equal(t, syscall.SIGKILL, status.Signal)
	require.ErrorIs(t, spawn.New("three").Run(ctx), fs.ErrNotExist)
	out, err = spawn.New("four").Output(ctx)
	require.NoError(t, err)
	require.Equal(t, "xfour", string(out))
}

func TestAnUnexpectedCallFailsTheTestAndTheCall(t *testing.T) {
	report := fake(func(tb testing.TB) {
		ctx, script := New(tb)
		script.Expect("ip", "link", Any, "up").Stdout("never")
		out, err := spawn.New("ip", "link", "eth0", "down").AddSecretArg("hush").Output(ctx)
		require.ErrorIs(t, err, errUnexpected)
		require.EqualError(t, err, `spawn: cannot start "ip": start: spawntest: the test does not expect this call: argument 3: expected up, got down`)
		require.Empty(t, out)
		require.Empty(t, tb.(*fakeTB).errors, "at its end")
		require.EqualError(t, spawn.New("rm", "-rf", "/").Run(ctx), `spawn: cannot start "rm": start: spawntest: the test does not expect this call`)
	})
	require.Equal(t, `spawntest: call 1 differs from what is expected
  expected: ip link <any> up  (HERE)
  called:   ip link eth0 down ***
  argument 3:
    expected up
    got      down
  argument 4: expected none, got ***
spawntest: call 2 is not expected
  called:   rm -rf /`, report)
}

func TestAMissingCallFailsTheTest(t *testing.T) {
	report := fake(func(tb testing.TB) {
		ctx, script := New(tb)
		script.Expect("sync")
		script.Expect("a b", "", Rest).Times(3)
		script.Expect("perhaps").AnyTimes()
		require.NoError(t, spawn.New("sync").Run(ctx))
		require.NoError(t, spawn.New("a b", "").Run(ctx))
	})
	require.Equal(t, `spawntest: a call is missing (called 1 of 3 times)
  expected: "a b" "" <any more>  (HERE)`, report)

	report = fake(func(tb testing.TB) {
		_, script := New(tb)
		script.Expect("sync")
		require.NoError(t, spawn.New("sync").Run(spawn.WithDryRun(t.Context(), func(*spawn.DryRunCall) {})))
	})
	require.Equal(t, `spawntest: a call is missing
  expected: sync  (HERE)
spawntest: no program was called in the context of this test: does the code under test get it?`, report)
}

func TestACallOutOfOrderFailsTheTestAndIsPlayed(t *testing.T) {
	calls := func(options ...Option) string {
		return fake(func(tb testing.TB) {
			ctx, script := New(tb, options...)
			script.Expect("one").Stdout("1")
			script.Expect("two").Stdout("2")
			for _, name := range []string{"two", "one"} {
				out, err := spawn.New(name).Output(ctx)
				require.NoError(t, err)
				require.Equal(t, map[string]string{"one": "1", "two": "2"}[name], string(out))
			}
		})
	}
	require.Equal(t, `spawntest: call 1 is out of order
  expected: one  (HERE)
  called:   two`, calls())
	require.Empty(t, calls(AnyOrder()))
}

// Of several expectations of a program it is compared with that which it was
// most likely meant for.
func TestAnUnexpectedCallIsComparedWithTheNearestExpectation(t *testing.T) {
	for call, want := range map[string]string{
		"git a b d":   "git a <any> c  (HERE)\n  called:   git a b d\n  argument 3:\n    expected c\n    got      d",
		"git a b":     "git a <any> c  (HERE)\n  called:   git a b\n  argument 3: expected c, there is none",
		"git z":       "git x  (HERE)\n  called:   git z\n  argument 1:\n    expected x\n    got      z",
		"git x y":     "git x  (HERE)\n  called:   git x y\n  argument 2: expected none, got y",
		"git a q e f": "git a q e  (HERE)\n  called:   git a q e f\n  argument 4: expected none, got f",
		"git":         "git x  (HERE)\n  called:   git\n  argument 1: expected x, there is none",
		"svn a b c d": "svn a x <any more>  (HERE)\n  called:   svn a b c d\n  argument 2:\n    expected x\n    got      b",
	} {
		report := fake(func(tb testing.TB) {
			ctx, script := New(tb, AnyOrder())
			script.Expect("svn", "a", "y")
			script.Expect("svn", "a", "x", Rest)
			script.Expect("hg", "a", "b", "d")
			script.Expect("git", "x")
			script.Expect("git", "a", Any, "c")
			script.Expect("git", "a", "q", "e")
			require.ErrorIs(t, spawn.New(strings.Fields(call)[0], strings.Fields(call)[1:]...).Run(ctx), errUnexpected)
		})
		require.True(t, strings.HasPrefix(report, "spawntest: call 1 differs from what is expected\n  expected: "+want+"\nspawntest: a call is missing"), report)
		require.Equal(t, 5, strings.Count(report, "a call is missing"), "it is not missing too")
	}
}

func TestOptionalCallsMayComeOrNot(t *testing.T) {
	ctx, script := New(t)
	script.Expect("sync").AnyTimes()
	script.Expect("mount")
	script.Expect("sync").Times(2)
	for _, name := range []string{"sync", "sync", "mount", "sync", "sync"} {
		require.NoError(t, spawn.New(name).Run(ctx), name)
	}
}

func TestWhatAProgramIsGivenIsCompared(t *testing.T) {
	report := fake(func(tb testing.TB) {
		ctx, script := New(tb, Hide("pin 1234"))
		script.Expect("x").Stdin("a\nb\n").Env("A", "1").Env("S", "s").Env("N", Any).NoEnv("B").Dir("/tmp").SendBuffer("key").Exit(7)
		c := spawn.New("x").AddEnv("A", "2").AddEnv("B", "pin 1234").AddSecretEnv("S", "hush").SetInput([]byte("a\npin 1234\n")).
			SetWorkingDirectory("/var")
		c.SetSendBuffer([]byte("other"))
		require.ErrorContains(t, c.Run(ctx), "exit status 7", "it is played all the same")
	})
	require.Equal(t, `spawntest: call 1 differs from what is expected
  expected: x  (HERE)
  called:   x
  variable A:
    expected 1
    got      2
  variable S: a secret, not as expected
  variable N: expected <any>, there is none
  variable B: expected none
  working directory:
    expected /tmp
    got      /var
  send buffer: none of 1 is as expected
  standard input, line 2:
    expected "b\n"
    got      "***\n"`, report)

	ctx, script := New(t)
	script.Expect("x", "a").Stdin(Contains("b")).Env("A", "1").NoEnv("B").Dir("/tmp").SendBuffer(Prefix("ke"))
	c := spawn.New("x", "a").AddEnv("A", "1").SetInput([]byte("abc")).SetWorkingDirectory("/tmp")
	c.SetSendBuffer([]byte("key"))
	require.NoError(t, c.Run(ctx))
}

func TestATextThatEndsEarlySaysSo(t *testing.T) {
	report := fake(func(tb testing.TB) {
		ctx, script := New(tb)
		script.Expect("x").Stdin("a\nb\n")
		require.NoError(t, spawn.New("x").SetInput([]byte("a\n")).Run(ctx))
	})
	require.Contains(t, report, "standard input, line 2:\n    expected \"b\\n\"\n    got      the end")
}

func TestMatchersMatch(t *testing.T) {
	even := Func("of even length", func(s string) bool { return len(s)%2 == 0 })
	for _, test := range []struct {
		m        Matcher
		good     string
		bad      []string
		wantText string
	}{
		{exact("a"), "a", []string{"", "aa"}, "a"},
		{exact("a b"), "a b", []string{"ab"}, `"a b"`},
		{Any, "", nil, "<any>"},
		{Regexp("a+|b"), "aa", []string{"aab", "xb", ""}, "<matching a+|b>"},
		{Prefix("ab"), "abc", []string{"a", "xab"}, `<beginning with "ab">`},
		{Contains("b"), "abc", []string{"ac"}, `<containing "b">`},
		{even, "ab", []string{"a"}, "<of even length>"},
	} {
		require.True(t, test.m.Match(test.good), test.m)
		for _, s := range test.bad {
			require.False(t, test.m.Match(s), "%s: %q", test.m, s)
		}
		require.Equal(t, test.wantText, test.m.String())
	}
	require.Panics(t, func() { Regexp("(") })
}

func TestAMistakeInAScriptPanics(t *testing.T) {
	_, script := New(t)
	require.PanicsWithValue(t, "spawntest: Expect: 1, a int, is neither a string nor a Matcher", func() { script.Expect("a", 1) })
	require.PanicsWithValue(t, "spawntest: Expect: the matcher Rest comes last among arguments, and nowhere else", func() { script.Expect(Rest, "a") })
	require.Panics(t, func() { (&Expectation{}).Stdin(nil) })
}

func TestAProgramThatRunsIsEndedWithTheTest(t *testing.T) {
	var p *spawn.Process
	report := fake(func(tb testing.TB) {
		ctx, script := New(tb)
		script.Expect("daemon").Stdout("ready\n").Runs()
		var err error
		p, err = spawn.New("daemon").PipeStdout().Start(ctx)
		require.NoError(t, err)
		b := make([]byte, 6)
		_, err = p.Stdout().Read(b)
		require.NoError(t, err)
		require.Equal(t, "ready\n", string(b))
	})
	require.Empty(t, report)
	require.ErrorIs(t, p.Wait(), context.Canceled)
	require.NoError(t, p.Stdout().Close())
}

func TestACallAfterTheTestFails(t *testing.T) {
	var ctx context.Context
	require.Empty(t, fake(func(tb testing.TB) {
		ctx, _ = New(tb)
		ctx = context.WithoutCancel(ctx)
	}))
	require.ErrorContains(t, spawn.New("late").Run(ctx), "the test is over")
}

func TestABadCommandIsNoCall(t *testing.T) {
	ctx, _ := New(t)
	require.ErrorContains(t, spawn.New("").Run(ctx), "New: ")
}

func TestCallsAtOnceAreAllPlayed(t *testing.T) {
	ctx, script := New(t, AnyOrder())
	const n = 50
	var all sync.WaitGroup
	for i := range n {
		name := strings.Repeat("x", i+1)
		script.Expect(name).Stdin(name).Stdout(name)
	}
	for i := range n {
		all.Add(1)
		go func() {
			defer all.Done()
			name := strings.Repeat("x", i+1)
			out, err := spawn.New(name).SetInput([]byte(name)).Output(ctx)
			if err != nil || string(out) != name {
				t.Errorf("%s: %q, %v", name, out, err)
			}
		}()
	}
	all.Wait()
}

func TestAStartErrorIsHandedOnAsItIs(t *testing.T) {
	ctx, script := New(t)
	want := &spawn.StartError{Op: "chdir(x)", Path: "x", Err: errors.New("no")}
	script.Expect("x").StartError(want)
	_, err := spawn.New("x").PipeStdin().Start(ctx)
	require.Equal(t, error(want), err)
}
