package spawn_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/virspawn/spawn"
	"github.com/virspawn/spawn/internal/descriptor"
	"github.com/virspawn/spawn/internal/process"
	"github.com/virspawn/spawn/internal/testkit"
	"golang.org/x/sys/unix"
)

func init() {
	testkit.Helpers["observed-exec"] = func(args []string) int {
		spawn.SetObserver(&noted{onStart: func(e spawn.StartEvent) {
			fmt.Println("started", e.Path, e.PID == os.Getpid(), e.Exec)
		}})
		fmt.Println(spawn.New(args[0], "became it").Exec())
		return 1
	}
	// Whoever recovers: a panic of an observer ends the process.
	testkit.Helpers["observer-panics"] = func(args []string) int {
		defer func() { _ = recover() }()
		fail := func() { panic("of the observer") }
		n := &noted{onExit: func(spawn.ExitEvent) { fail() }}
		if args[0] == "start" {
			n = &noted{onStart: func(spawn.StartEvent) { fail() }}
		}
		spawn.SetObserver(n)
		_ = spawn.New("/bin/true").Run(context.Background())
		return 0
	}
}

func TestObserverIsToldInEveryWay(t *testing.T) {
	testkit.CheckLeaks(t)
	ctx := context.Background()
	for name, run := range testkit.Ways {
		n := observe(t)
		_ = run(ctx, testkit.Shell("echo $$ >&2; exit 3").AddEnv("PATH", "/bin").AddSecretEnv("TOKEN", "hidden"))
		start, exit := requireRun(t, n, name)
		require.False(t, start.DryRun, name)
		require.Equal(t, "/bin/sh", start.Path, name)
		require.True(t, strings.HasPrefix(start.Command, "/bin/sh -c "), start.Command)
		require.Equal(t, 3, exit.Status.ExitCode, name)
		var failed *spawn.ExitError
		require.ErrorAs(t, exit.Err, &failed, name)
		if len(failed.Stderr) > 0 {
			require.Equal(t, fmt.Sprintln(start.PID), string(failed.Stderr), name)
		}

		n = observe(t)
		_ = run(ctx, spawn.New("true"))
		start, exit = requireRun(t, n, name)
		require.Contains(t, start.Path, "/true", "as found in PATH")
		require.NoError(t, exit.Err, name)
	}
}

func TestObserverIsToldOfFailuresOfTheKernel(t *testing.T) {
	testkit.CheckLeaks(t)
	ctx := context.Background()
	for name, run := range testkit.Ways {
		for what, c := range map[string]*spawn.Command{
			"not found":   spawn.New(testkit.Missing),
			"execve":      spawn.New("/dev/null"),
			"directory":   spawn.New("/bin/true").SetWorkingDirectory("/no/such/directory"),
			"pipe of own": spawn.New("/bin/true").SetWorkingDirectory("/no/such/directory").SetPidFile(t.TempDir() + "/pid"),
		} {
			n := observe(t)
			err := run(ctx, c)
			require.Error(t, err)
			require.Equal(t, "fail", n.told(), "%s, %s", name, what)
			require.Equal(t, err, n.fails[0].Err, "%s, %s", name, what)
		}
	}
}

// The kernel refuses a text file that is open for writing; each run
// tries again.
func TestObserverIsToldOnceOfAProgramThatStaysBusy(t *testing.T) {
	testkit.CheckLeaks(t)
	f, err := os.OpenFile(t.TempDir()+"/busy", os.O_CREATE|os.O_WRONLY, 0o700)
	require.NoError(t, err)
	defer f.Close()
	_, err = io.WriteString(f, "#!/bin/sh\n")
	require.NoError(t, err)
	n := observe(t)
	require.ErrorIs(t, spawn.New(f.Name()).Run(context.Background()), unix.ETXTBSY)
	require.Equal(t, "fail", n.told())
}

func TestObserverIsToldOfTheStartWhenTheProgramRuns(t *testing.T) {
	testkit.CheckLeaks(t)
	defer spawn.SetObserver(&noted{onStart: func(e spawn.StartEvent) { _ = unix.Kill(e.PID, unix.SIGKILL) }})()
	for name, run := range testkit.Ways {
		if err := run(context.Background(), spawn.New("/bin/sleep", "1000")); name != "RunStatus" {
			require.ErrorContains(t, err, "signal: killed", name)
		}
	}
}

func TestObserverOfAHandshake(t *testing.T) {
	testkit.CheckLeaks(t)
	ctx := context.Background()
	n := observe(t)
	p, err := spawn.New("/bin/true").RequireHandshake().Start(ctx)
	require.NoError(t, err)
	require.NoError(t, p.HandshakeWait(ctx))
	require.Empty(t, n.told(), "the program does not run yet")
	require.NoError(t, p.HandshakeNotify())
	require.True(t, strings.HasPrefix(n.told(), "start"), n.told())
	require.NoError(t, p.Wait())
	start, _ := requireRun(t, n, "")
	require.Equal(t, p.PID(), start.PID)

	n = observe(t)
	p, err = spawn.New("/bin/true").RequireHandshake().Start(ctx)
	require.NoError(t, err)
	require.NoError(t, p.Abort())
	require.Equal(t, "fail", n.told())
	require.Equal(t, p.Wait(), n.fails[0].Err)

	n = observe(t)
	p, err = spawn.New("/dev/null").RequireHandshake().Start(ctx)
	require.NoError(t, err)
	require.NoError(t, p.HandshakeWait(ctx))
	require.ErrorIs(t, p.HandshakeNotify(), unix.EACCES)
	require.Equal(t, "fail", n.told())
	require.Error(t, p.Wait())
	require.Equal(t, "fail", n.told())
}

func TestObserverIsToldOfTheEndOfAForgottenProcess(t *testing.T) {
	testkit.CheckLeaks(t)
	ended := make(chan spawn.ExitEvent, 2)
	n := &noted{onExit: func(e spawn.ExitEvent) { ended <- e }}
	_, err := testkit.Shell("exit 4").SetObserver(n).Start(context.Background())
	require.NoError(t, err)
	require.Equal(t, 4, (<-ended).Status.ExitCode)
	require.Equal(t, "start exit", n.told())
}

func TestObserverIsToldOnceByManyAtOnce(t *testing.T) {
	testkit.CheckLeaks(t)
	n := observe(t)
	c := spawn.New("/bin/true")
	var wg sync.WaitGroup
	for range 50 {
		wg.Add(1)
		go func() { defer wg.Done(); _ = c.Run(context.Background()) }()
	}
	wg.Wait()
	started, ended := map[uint64]spawn.StartEvent{}, map[uint64]bool{}
	for _, e := range n.starts {
		started[e.ID] = e
	}
	for _, e := range n.exits {
		require.Equal(t, started[e.ID], e.StartEvent)
		ended[e.ID] = true
	}
	require.Len(t, started, 50)
	require.Len(t, ended, 50)
	require.Len(t, n.order, 100)
}

// What is held up is who waits, and not what the kernel has of the child.
func TestObserverThatBlocksHoldsUpWaitOnly(t *testing.T) {
	testkit.CheckLeaks(t)
	told, goOn := make(chan struct{}), make(chan struct{})
	p, err := spawn.New("/bin/true").SetObserver(&noted{onExit: func(spawn.ExitEvent) { close(told); <-goOn }}).Start(context.Background())
	require.NoError(t, err)
	<-told
	require.False(t, process.IsClosed(p.Done()))
	require.ErrorIs(t, p.Signal(syscall.SIGTERM), os.ErrProcessDone)
	testkit.RequireNoChild(t)
	close(goOn)
	require.NoError(t, p.Wait())
}

func TestObserverThatBlocksDoesNotHoldUpTheEndOfTheContext(t *testing.T) {
	testkit.CheckLeaks(t)
	ctx, cancel := context.WithCancel(context.Background())
	n := &noted{onStart: func(e spawn.StartEvent) {
		cancel()
		f, err := os.Open(fmt.Sprintf("/proc/%d/stat", e.PID))
		if err != nil {
			t.Error(err)
			return
		}
		defer f.Close()
		testkit.Eventually(t, "a zombie", func() bool {
			// It is reaped when the observer returns.
			var b [64]byte
			n, _ := f.ReadAt(b[:], 0)
			return strings.Contains(string(b[:n]), ") Z ")
		})
	}}
	require.ErrorIs(t, spawn.New("/bin/sleep", "1000").SetObserver(n).Run(ctx), context.Canceled)
	requireRun(t, n, "")
}

func TestObserverOfExec(t *testing.T) {
	ctx := context.Background()
	out, err := testkit.HelperCommand(t, "observed-exec", "/bin/echo").Output(ctx)
	require.NoError(t, err)
	require.Equal(t, "started /bin/echo true true\n", string(out), "Exec leaves /dev/null for what nothing was said about")
	out, _ = testkit.HelperCommand(t, "observed-exec", "/dev/null").Output(ctx)
	require.Contains(t, string(out), "started /dev/null true true\nspawn: cannot start \"/dev/null\": execve")

	n := observe(t)
	require.Error(t, spawn.New(testkit.Missing).Exec())
	require.Equal(t, "fail", n.told())
	n = observe(t)
	require.ErrorIs(t, spawn.New("/dev/null").Exec(), unix.EACCES)
	require.Equal(t, "start fail", n.told())
	require.Equal(t, n.starts[0].ID, n.fails[0].ID)
}

func TestObserverThatPanicsEndsThisProcess(t *testing.T) {
	for _, when := range []string{"start", "exit"} {
		status, err := testkit.HelperCommand(t, "observer-panics", when).RunStatus(context.Background())
		require.NoError(t, err)
		require.Equal(t, 2, status.ExitCode, when)
	}
}

func TestObserverIsNotToldOfExplainAndRunReal(t *testing.T) {
	n := observe(t)
	_, err := spawn.New("/bin/true").Explain()
	require.NoError(t, err)
	require.Empty(t, n.told())
	require.NoError(t, spawn.New("/bin/true").Run(testkit.Dry(func(d *spawn.DryRunCall) { d.RunReal() })))
	start, _ := requireRun(t, n, "the dry run only")
	require.True(t, start.DryRun)
}

func TestLoggerSaysDurationAndStatus(t *testing.T) {
	var b bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&b, &slog.HandlerOptions{Level: slog.LevelDebug}))
	err := testkit.Shell("kill -KILL $$").AddSecretArg("hidden").SetLogger(logger).Run(context.Background())
	require.Error(t, err)
	require.Regexp(t, `(?s)^time=\S+ level=DEBUG msg="program started" command=".*\*\*\*" path=/bin/sh pid=[1-9]\d*
time=\S+ level=DEBUG msg="program exited" command=".*\*\*\*" path=/bin/sh pid=[1-9]\d* duration=[1-9]\S+s status="signal: killed"
$`, b.String())
	require.NotContains(t, b.String(), "hidden")
}

// BenchmarkObserved is Run with an observer that does nothing and with a logger
// that writes nowhere, against Run without.
func BenchmarkObserved(b *testing.B) {
	tiny := testkit.TinyProgram(b)
	for name, set := range map[string]func(*spawn.Command){
		"Observer": func(c *spawn.Command) { c.SetObserver(&discards{}) },
		"Logger": func(c *spawn.Command) {
			c.SetLogger(slog.New(slog.NewTextHandler(io.Discard, &slog.HandlerOptions{Level: slog.LevelDebug})))
		},
	} {
		b.Run(name, func(b *testing.B) {
			testkit.Compare(b, testkit.RunOurs(tiny), func() error {
				c := testkit.BySpawn(tiny)
				set(c)
				return c.Run(context.Background())
			})
		})
	}
}

// discards is an observer that does nothing.
type discards struct{}

func (discards) CommandStarted(context.Context, spawn.StartEvent) {}
func (discards) CommandExited(context.Context, spawn.ExitEvent)   {}
func (discards) CommandFailed(context.Context, spawn.FailEvent)   {}

func TestPolicyRefusesInEveryWay(t *testing.T) {
	testkit.CheckLeaks(t)
	defer spawn.SetPolicy(forbidAll)()
	mark := filepath.Join(t.TempDir(), "mark")
	ctx := context.Background()
	c := func() *spawn.Command { return testkit.Shell(`echo ran > "$0"`).AddArg(mark) }
	for name, run := range testkit.Ways {
		requireForbidden(t, run(ctx, c()), "/bin/sh", name)
	}
	_, err := c().RequireHandshake().Start(ctx)
	requireForbidden(t, err, "/bin/sh", "handshake")
	requireForbidden(t, c().Exec(), "/bin/sh", "Exec")
	_, err = c().Explain()
	requireForbidden(t, err, "/bin/sh", "Explain")
	_, err = os.Stat(mark)
	require.ErrorIs(t, err, os.ErrNotExist, "nothing ran")
}

func TestPolicySetsWhatRuns(t *testing.T) {
	testkit.CheckLeaks(t)
	ctx := context.Background()
	const attribute = "prctl(PR_SET_NO_NEW_PRIVS, 1"
	c := testkit.Shell("grep NoNewPrivs /proc/self/status; umask")
	restore := spawn.SetPolicy(func(c *spawn.Command) error { c.SetNoNewPrivs().SetUmask(0o27); return nil })
	text, err := c.Explain()
	require.NoError(t, err)
	require.Contains(t, text, attribute)
	out, err := c.Output(ctx)
	require.NoError(t, err)
	require.Equal(t, "NoNewPrivs:\t1\n0027\n", string(out))
	var s string
	p, err := c.Clone().SetOutputBuffer(&s).RequireHandshake().Start(ctx)
	require.NoError(t, err)
	require.NoError(t, p.HandshakeNotify())
	require.NoError(t, p.Wait())
	require.Equal(t, "NoNewPrivs:\t1\n0027\n", s)
	restore()
	text, err = c.Explain()
	require.NoError(t, err)
	require.NotContains(t, text, attribute)
}

// script makes an executable file that prints its own path, and returns
// its path.
func script(t *testing.T, dir, name string) string {
	path := filepath.Join(dir, name)
	require.NoError(t, os.MkdirAll(dir, 0o755))
	require.NoError(t, os.WriteFile(path, []byte("#!/bin/sh\necho \"$0\"\n"), 0o755))
	return path
}

func TestPolicySeesThePathThatIsExecuted(t *testing.T) {
	testkit.CheckLeaks(t)
	dir := t.TempDir()
	first, second := filepath.Join(dir, "first"), filepath.Join(dir, "second")
	want := script(t, first, "prog")
	script(t, second, "prog")
	var seen string
	defer spawn.SetPolicy(func(c *spawn.Command) error {
		seen = c.Path()
		// What the caller of another goroutine might do, or the owner of
		// a directory.
		return os.Setenv("PATH", second+":/bin")
	})()
	t.Setenv("PATH", "")
	for name, run := range testkit.Ways {
		require.NoError(t, os.Setenv("PATH", first+":"+second+":/bin"))
		n := observe(t)
		_ = run(context.Background(), spawn.New("prog"))
		start, _ := requireRun(t, n, name)
		require.Equal(t, want, start.Path)
		require.Equal(t, want, seen, name)
	}
	require.NoError(t, os.Setenv("PATH", first+":"+second+":/bin"))
	out, err := spawn.New("prog").Output(context.Background())
	require.NoError(t, err)
	require.Equal(t, want+"\n", string(out))
	require.Equal(t, "prog", spawn.New("prog").Path())
}

func TestPolicySeesARelativePathFromHere(t *testing.T) {
	testkit.CheckLeaks(t)
	dir := t.TempDir()
	t.Chdir(dir)
	here, err := os.Getwd()
	require.NoError(t, err)
	script(t, filepath.Join(dir, "bin"), "prog")
	want := here + "/bin/../bin/prog"
	for _, policy := range []func(*spawn.Command){
		func(*spawn.Command) {},
		func(c *spawn.Command) { c.SetWorkingDirectory("/") },
		func(*spawn.Command) { require.NoError(t, os.Chdir("/")) },
	} {
		require.NoError(t, os.Chdir(here))
		restore := spawn.SetPolicy(func(c *spawn.Command) error {
			require.Equal(t, want, c.Path())
			policy(c)
			return nil
		})
		out, err := spawn.New("bin/../bin/prog").Output(context.Background())
		restore()
		require.NoError(t, err)
		require.Equal(t, want+"\n", string(out))
	}
}

func TestPolicyIsAskedAgainByRunReal(t *testing.T) {
	testkit.CheckLeaks(t)
	var seen []string
	defer spawn.SetPolicy(func(c *spawn.Command) error {
		seen = append(seen, c.Path())
		if strings.HasPrefix(c.Path(), "/") && strings.HasSuffix(c.Path(), "/false") {
			return errForbidden
		}
		return nil
	})()
	ctx := testkit.Dry(func(d *spawn.DryRunCall) { d.RunReal() })
	require.NoError(t, spawn.New("true").Run(ctx))
	require.Len(t, seen, 2)
	require.Equal(t, "true", seen[0])
	require.Regexp(t, "^/.*/true$", seen[1])
	require.ErrorIs(t, spawn.New("false").Run(ctx), errForbidden)
}

func TestExplainUnderAPolicyClosesNothing(t *testing.T) {
	f := testkit.TempFile(t, "")
	c := spawn.New("/bin/true")
	c.PassFDAs(f, 5, spawn.CloseParent)
	restore := spawn.SetPolicy(func(*spawn.Command) error { return nil })
	_, err := c.Explain()
	require.NoError(t, err)
	restore()
	defer spawn.SetPolicy(forbidAll)()
	_, err = c.Explain()
	require.ErrorIs(t, err, errForbidden)
	require.GreaterOrEqual(t, descriptor.Of(f), 0)
}

func init() {
	testkit.Helpers["exec-under-policy"] = func([]string) int {
		spawn.SetPolicy(func(c *spawn.Command) error { c.SetNoNewPrivs(); return nil })
		fmt.Println(spawn.New("/bin/grep", "NoNewPrivs", "/proc/self/status").InheritStdio().Exec())
		return 1
	}
}

func TestPolicySetsWhatExecRuns(t *testing.T) {
	out, err := testkit.HelperCommand(t, "exec-under-policy").Output(context.Background())
	require.NoError(t, err)
	require.Equal(t, "NoNewPrivs:\t1\n", string(out))
}
