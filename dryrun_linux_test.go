package spawn_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/virspawn/spawn"
	"github.com/virspawn/spawn/internal/testkit"
	"golang.org/x/sys/unix"
)

func init() {
	// Runs a program in every way, in a dry run or for real, and prints how
	// many page faults children have had. Of a process that has had no child
	// that is none.
	testkit.Helpers["dry-children"] = func(args []string) int {
		if args[0] == "dry" {
			spawn.SetDryRun(func(d *spawn.DryRunCall) { d.Stdout = "a\n" })
		}
		ctx := context.Background()
		for _, run := range testkit.Ways {
			_ = run(ctx, spawn.New("/bin/true"))
		}
		if p, err := spawn.New("/bin/cat").RequireHandshake().Start(ctx); err == nil {
			_ = p.HandshakeNotify()
			_ = p.Wait()
		}
		if args[0] == "dry" {
			_ = spawn.New("/bin/true").Exec()
		}
		var info unix.Siginfo
		if err := unix.Waitid(unix.P_ALL, 0, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT|unix.WALL, nil); err != unix.ECHILD {
			return 1
		}
		var usage unix.Rusage
		if err := unix.Getrusage(unix.RUSAGE_CHILDREN, &usage); err != nil {
			return 2
		}
		fmt.Print(usage.Minflt)
		return 0
	}
}

func TestDryRunClonesNothing(t *testing.T) {
	faults := func(how string) string {
		out, err := testkit.HelperCommand(t, "dry-children", how).Output(context.Background())
		require.NoError(t, err)
		return string(out)
	}
	require.Equal(t, "0", faults("dry"))
	require.NotEqual(t, "0", faults("real"), "the count shows children")
}

// onlyThreads returns a filter that kills a process that makes another one.
// Threads are not processes.
func onlyThreads() []unix.SockFilter {
	const (
		load  = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
		equal = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		set   = unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K
		ret   = unix.BPF_RET | unix.BPF_K
		flags = 16 // where the first argument is
	)
	f := []unix.SockFilter{
		{Code: load},
		{Code: equal, K: unix.SYS_CLONE3, Jf: 1},
		// The flags of clone3 cannot be seen; whoever meets that calls clone.
		{Code: ret, K: unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)},
		{Code: equal, K: unix.SYS_CLONE, Jf: 4},
		{Code: load, K: flags},
		{Code: set, K: unix.CLONE_THREAD, Jf: 1},
		{Code: ret, K: unix.SECCOMP_RET_ALLOW},
		{Code: ret, K: unix.SECCOMP_RET_KILL_PROCESS},
	}
	if runtime.GOARCH == "amd64" { // others have no fork and no vfork
		for nr := uint32(57); nr <= 58; nr++ {
			f = append(f, unix.SockFilter{Code: equal, K: nr, Jf: 1}, unix.SockFilter{Code: ret, K: unix.SECCOMP_RET_KILL_PROCESS})
		}
	}
	return append(f, unix.SockFilter{Code: ret, K: unix.SECCOMP_RET_ALLOW})
}

// All dry runs of this package, but for those that compare with real runs,
// once more. They are without capabilities, without programs in PATH, and in
// a process that is killed when it makes another one.
func TestNothingOfADryRunNeedsAProcess(t *testing.T) {
	confined := func(args ...string) *spawn.Command {
		c := spawn.New(testkit.Self(t), args...).SetSeccompFilter(onlyThreads()).AddEnv("PATH", "/nonexistent").AddEnv("GORACE", "atexit_sleep_ms=0")
		if os.Geteuid() == 0 {
			c.ClearCaps()
		}
		return c
	}
	err := confined(testkit.HelperPrefix+"dry-children", "real").Run(context.Background())
	testkit.RequireSignal(t, err, unix.SIGSYS) // the filter does what is said

	out, err := confined("-test.v", "-test.run=^TestDryRun", "-test.skip=^TestDryRun(ClonesNothing|EndsAsARealRunDoes)$").Output(context.Background())
	require.NoErrorf(t, err, "%s", out)
	require.Greater(t, strings.Count(string(out), "\n--- PASS: TestDryRun"), 30, "%s", out)
}

func TestDryRunFailsAsARealRunDoes(t *testing.T) {
	for name, bad := range testkit.BadWholes(t) {
		for way, run := range testkit.Ways {
			dryErr := run(testkit.Dry(func(*spawn.DryRunCall) { t.Error("called") }), bad())
			realErr := run(context.Background(), withProgram(bad()))
			require.Equal(t, strings.ReplaceAll(realErr.Error(), "/bin/true", testkit.Missing), dryErr.Error(), "%s, %s", name, way)
		}
	}
	exec := func(c *spawn.Command) string { return c.Exec().Error() }
	for _, bad := range []func() *spawn.Command{
		func() *spawn.Command { return spawn.New("/bin/true").SetNamespaces(spawn.NetworkNamespace) },
		func() *spawn.Command { return spawn.New("/bin/true").SetCgroup("/sys/fs/cgroup/x") },
		func() *spawn.Command { return spawn.New("/bin/true").SetInput(make([]byte, 1<<20)) },
		func() *spawn.Command { return spawn.New("/bin/true").PipeStdout() },
		func() *spawn.Command { return spawn.New("/bin/true").RequireHandshake() },
	} {
		want := exec(bad())
		restore := spawn.SetDryRun(func(*spawn.DryRunCall) { t.Error("called") })
		require.Equal(t, want, exec(bad()))
		restore()
	}
}

// withProgram changes the program to one that is there. A program that is not
// is reported first; that is what a dry run does without.
func withProgram(c *spawn.Command) *spawn.Command {
	if testkit.Wanted(c).Attributes.Chroot == "" {
		testkit.Wanted(c).Name = "/bin/true"
	}
	return c
}

// What a shell does, and a function that says the same, end alike in every way
// to run them.
func TestDryRunEndsAsARealRunDoes(t *testing.T) {
	for script, fn := range map[string]spawn.DryRunFunc{
		"printf 'a\\nb'; echo c >&2; exit 3": testkit.Says("a\nb", "c\n", 3),
		"exit 0":                             testkit.Says("", "", 0),
		"echo x >&2; kill -KILL $$":          func(d *spawn.DryRunCall) { d.Stderr, d.Signal = "x\n", syscall.SIGKILL },
		"read a; echo $a $a":                 func(d *spawn.DryRunCall) { a := strings.TrimSpace(d.Stdin()); d.Stdout = a + " " + a + "\n" },
	} {
		var real, dried [4]string
		for i, ctx := range []context.Context{context.Background(), testkit.Dry(fn)} {
			result := [...]*[4]string{&real, &dried}[i]
			c := func() *spawn.Command { return testkit.Shell(script).SetInput([]byte("in\n")) }
			note := func(n int, a ...any) { result[n] = fmt.Sprintf("%q", fmt.Sprint(a...)) }
			out, err := c().Output(ctx)
			note(0, string(out), err)
			var s string
			status, err := c().SetOutputBuffer(&s).MergeStderr().RunStatus(ctx)
			note(1, s, status.ExitCode, status.Signal, err)
			s = ""
			for line, err := range c().Lines(ctx) {
				s += fmt.Sprint(line, err, ";")
			}
			note(2, s)
			p, err := c().Start(ctx)
			require.NoError(t, err)
			note(3, p.Wait())
		}
		require.Equal(t, real, dried, script)
	}
}

func TestRunRealRunsTheProgram(t *testing.T) {
	testkit.CheckLeaks(t)
	ctx := testkit.Dry(func(d *spawn.DryRunCall) { d.RunReal() })
	var s string
	err := testkit.Shell("cat; echo err >&2; exit 3").SetInput([]byte("in ")).SetOutputBuffer(&s).Run(ctx)
	require.ErrorContains(t, err, "exit status 3: err")
	require.Equal(t, "in ", s)
	out, err := testkit.Shell("echo 1; echo 2 >&2; echo 3").CombinedOutput(ctx)
	require.NoError(t, err)
	require.Equal(t, "1\n2\n3\n", string(out))
	require.ErrorIs(t, spawn.New(testkit.Missing).Run(ctx), unix.ENOENT)
	_, err = spawn.New(testkit.Missing).Start(ctx)
	require.ErrorIs(t, err, unix.ENOENT)

	p, err := testkit.Shell("trap 'exit 5' USR1; echo ready; while :; do sleep 0.01; done").Start(ctx)
	require.NoError(t, err)
	// The shell may not have come to its trap, and the signal then ends it:
	// either shows that it has got the signal.
	require.NoError(t, p.Signal(syscall.SIGUSR1))
	require.Error(t, p.Wait())
	require.Contains(t, []spawn.Status{{ExitCode: 5}, {ExitCode: -1, Signal: syscall.SIGUSR1}}, p.Status())

	p, err = spawn.New("/bin/cat").PipeStdin().PipeStdout().RequireHandshake().Start(ctx)
	require.NoError(t, err)
	go func() { _ = p.HandshakeNotify() }()
	_, err = p.Stdin().Write([]byte("through"))
	require.NoError(t, err)
	require.NoError(t, p.Stdin().Close())
	b := make([]byte, 7)
	_, err = p.Stdout().Read(b)
	require.NoError(t, err)
	require.Equal(t, "through", string(b))
	require.NoError(t, p.Wait())
	require.NoError(t, p.Stdout().Close())

	p, err = spawn.New("/bin/sleep", "1000").Start(ctx)
	require.NoError(t, err)
	require.NoError(t, p.Abort())
	require.Equal(t, syscall.SIGTERM, p.Status().Signal)
}

func TestDryRunExplainsWhatCannotBeHere(t *testing.T) {
	path := filepath.Join(t.TempDir(), "missing", "pid")
	require.NoError(t, spawn.New(testkit.Missing).SetPidFile(path).SetUID(4242).SetGID(4242).Run(testkit.Dry(func(d *spawn.DryRunCall) {
		text, err := d.Explain()
		require.NoError(t, err)
		require.Contains(t, text, "4242")
		require.Contains(t, text, path)
		require.Contains(t, text, "execve(\""+testkit.Missing)
	})))
	_, err := os.Stat(filepath.Dir(path))
	require.ErrorIs(t, err, os.ErrNotExist)
}
