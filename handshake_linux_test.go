package spawn_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/virspawn/spawn"
	"github.com/virspawn/spawn/internal/descriptor"
	"github.com/virspawn/spawn/internal/plan"
	"github.com/virspawn/spawn/internal/testkit"
	"golang.org/x/sys/unix"
)

func init() {
	testkit.Helpers["parent-of-gated"] = parentOfGated
	testkit.Helpers["many-gated"] = manyGated
}

func TestAtTheGateEverythingIsApplied(t *testing.T) {
	testkit.ForEachHandshake(t, func(t *testing.T, with func(*spawn.Command) *spawn.Command) {
		dir := testkit.PublicDir(t)
		ran := filepath.Join(dir, "ran")
		require.NoError(t, os.Chmod(dir, 0o777))
		c := with(testkit.Shell(`echo >"$1"`, ran)).SetMaxCoreSize(0).SetUmask(0o27).SetWorkingDirectory(dir).SetSession().SetIgnoredSignals(unix.SIGHUP)
		p := testkit.Gated(t, c)

		limits := testkit.ProcText(t, p, "limits")
		require.Regexp(t, `Max core file size +0 +0 `, limits)
		status := testkit.ProcText(t, p, "status")
		require.Equal(t, "0027", testkit.StatusField(status, "Umask"))
		require.Equal(t, "0000000000000001", testkit.StatusField(status, "SigIgn"))
		require.Equal(t, fmt.Sprintf("%[1]d\t%[1]d\t%[1]d\t%[1]d", uidOf(c)), testkit.StatusField(status, "Uid"))
		session, err := unix.Getsid(p.PID())
		require.NoError(t, err)
		require.Equal(t, p.PID(), session)
		if os.Geteuid() == 0 { // nobody else may look at it
			wd, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", p.PID()))
			require.NoError(t, err)
			require.Equal(t, dir, wd)
			exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", p.PID()))
			require.NoError(t, err)
			// with nothing of this process
			want := "/memfd:spawn-stub (deleted)"
			if by := os.Getenv("SPAWN_EXECUTOR"); !plan.CanClone() || by == "helper" || by == "copy" || strings.Contains(t.Name(), "helper") {
				want = testkit.Self(t)
			}
			require.Equal(t, want, exe)
		}
		require.NoFileExists(t, ran)

		require.NoError(t, p.HandshakeNotify())
		require.NoError(t, p.Wait())
		require.FileExists(t, ran)
		require.NoError(t, p.HandshakeWait(context.Background()), "also afterwards")
	})
}

// uidOf returns the child's uid.
func uidOf(c *spawn.Command) int {
	if testkit.Wanted(c).IDs.SetUID {
		return testkit.Wanted(c).IDs.UID
	}
	return os.Getuid()
}

func TestANotificationMayComeBeforeTheWait(t *testing.T) {
	testkit.ForEachHandshake(t, func(t *testing.T, with func(*spawn.Command) *spawn.Command) {
		p, err := with(spawn.New("/bin/true")).RequireHandshake().Start(context.Background())
		require.NoError(t, err)
		require.NoError(t, p.HandshakeNotify())
		require.NoError(t, p.HandshakeWait(context.Background()))
		require.NoError(t, p.Wait())
	})
}

func TestAFailureBeforeTheGateComesFromHandshakeWait(t *testing.T) {
	testkit.ForEachHandshake(t, func(t *testing.T, with func(*spawn.Command) *spawn.Command) {
		p, err := with(spawn.New("/bin/cat")).PipeStdin().PipeStdout().SetWorkingDirectory("/nonexistent").RequireHandshake().Start(context.Background())
		require.NoError(t, err)
		err = p.HandshakeWait(context.Background())
		testkit.RequireNotStarted(t, err, `chdir("/nonexistent")`, os.ErrNotExist)
		require.Equal(t, `chdir("/nonexistent")`, testkit.RequireNeverRan(t, p).Op)
		require.Equal(t, err, p.HandshakeNotify())

		rest, err := io.ReadAll(p.Stdout())
		require.NoError(t, err)
		require.Empty(t, rest)
		require.NoError(t, p.Stdout().Close())
		require.NoError(t, p.Stdin().Close())
	})
}

func TestAFailureOfExecveComesFromHandshakeNotify(t *testing.T) {
	testkit.ForEachHandshake(t, func(t *testing.T, with func(*spawn.Command) *spawn.Command) {
		p := testkit.Gated(t, with(spawn.New("/nonexistent")))
		testkit.RequireNotStarted(t, p.HandshakeNotify(), `execve("/nonexistent")`, os.ErrNotExist)
		testkit.RequireNeverRan(t, p)
	})
}

func TestAChildThatIsNotNotifiedEnds(t *testing.T) {
	ends := map[string]struct {
		end  func(t *testing.T, p *spawn.Process, cancel func())
		want string
	}{
		"Wait":    {func(t *testing.T, p *spawn.Process, _ func()) { require.Error(t, p.Wait()) }, "Wait was called before HandshakeNotify"},
		"Abort":   {func(t *testing.T, p *spawn.Process, _ func()) { require.NoError(t, p.Abort()) }, "aborted"},
		"context": {func(_ *testing.T, _ *spawn.Process, cancel func()) { cancel() }, context.Canceled.Error()},
		"SIGKILL": {func(t *testing.T, p *spawn.Process, _ func()) { require.NoError(t, p.Signal(unix.SIGKILL)) }, "before HandshakeNotify: signal: killed"},
		"SIGSTOP": {func(t *testing.T, p *spawn.Process, _ func()) {
			require.NoError(t, p.Signal(unix.SIGSTOP))
			require.NoError(t, p.Abort())
		}, "aborted"},
	}
	testkit.ForEachHandshake(t, func(t *testing.T, with func(*spawn.Command) *spawn.Command) {
		for name, e := range ends {
			t.Run(name, func(t *testing.T) {
				dir := testkit.PublicDir(t)
				require.NoError(t, os.Chmod(dir, 0o777))
				ran := filepath.Join(dir, "ran")
				ctx, cancel := context.WithCancel(context.Background())
				defer cancel()
				s := "untouched"
				p, err := with(testkit.Shell(`echo >"$1"`, ran)).SetOutputBuffer(&s).RequireHandshake().Start(ctx)
				require.NoError(t, err)
				require.NoError(t, p.HandshakeWait(ctx))
				e.end(t, p, cancel)
				require.ErrorContains(t, testkit.RequireNeverRan(t, p), e.want)
				require.Empty(t, s)
				require.NoFileExists(t, ran)
			})
		}
	})
}

func TestAStoppedChildGoesOnWhereItWas(t *testing.T) {
	testkit.ForEachHandshake(t, func(t *testing.T, with func(*spawn.Command) *spawn.Command) {
		p := testkit.Gated(t, with(spawn.New("/bin/true")))
		require.NoError(t, p.Signal(unix.SIGSTOP))
		testkit.Eventually(t, "the child stops", func() bool {
			return strings.HasPrefix(testkit.StatusField(testkit.ProcText(t, p, "status"), "State"), "T")
		})
		require.NoError(t, p.Signal(unix.SIGCONT))
		require.NoError(t, p.HandshakeNotify())
		require.NoError(t, p.Wait())
	})
}

func TestASignalAtTheGateIsForTheProgram(t *testing.T) {
	testkit.ForEachHandshake(t, func(t *testing.T, with func(*spawn.Command) *spawn.Command) {
		for _, sig := range []unix.Signal{unix.SIGTERM, unix.SIGQUIT} {
			// A core dump before Linux 5.16 ended all who shared the memory.
			p := testkit.Gated(t, with(spawn.New("/bin/cat")).PipeStdin().SetMaxCoreSize(0))
			require.NoError(t, p.Signal(sig))
			require.NoError(t, p.HandshakeNotify())
			require.Equal(t, sig, testkit.RequireAnySignal(t, p.Wait()))
			require.NoError(t, p.Stdin().Close())
		}
	})
}

func TestAHandshakeWithoutOneIsAnError(t *testing.T) {
	testkit.CheckLeaks(t)
	p, err := spawn.New("/bin/true").Start(context.Background())
	require.NoError(t, err)
	require.EqualError(t, p.HandshakeWait(context.Background()), "spawn: HandshakeWait: the command has no RequireHandshake")
	require.EqualError(t, p.HandshakeNotify(), "spawn: HandshakeNotify: the command has no RequireHandshake")
	require.NoError(t, p.Wait())

	p = testkit.Gated(t, spawn.New("/bin/true"))
	require.NoError(t, p.HandshakeNotify())
	require.EqualError(t, p.HandshakeNotify(), "spawn: HandshakeNotify: the child was notified already")
	require.NoError(t, p.Wait())

	c := spawn.New("/bin/true").RequireHandshake()
	_, statusErr := c.RunStatus(context.Background())
	_, outputErr := c.Output(context.Background())
	_, combinedErr := c.CombinedOutput(context.Background())
	_, linesErr := testkit.Lines(c)
	for method, err := range map[string]error{
		"Run": c.Run(context.Background()), "RunStatus": statusErr, "Output": outputErr, "CombinedOutput": combinedErr, "Lines": linesErr, "Exec": c.Exec(),
		"Records": recordsError(c), "RunRegex": matchAll(c),
	} {
		require.EqualError(t, err, "spawn: "+method+": RequireHandshake needs a Process to shake hands with; use Start")
	}
}

func TestHandshakeWaitEndsWithItsContext(t *testing.T) {
	testkit.CheckLeaks(t)
	held := make(chan struct{})
	goOn := make(chan struct{})
	listener := make(chan int)
	started := make(chan *spawn.Process)
	r, _ := testkit.NewPipe(t)
	c := spawn.New("/bin/true").SetWorkingDirectory("/").PassFDAs(r, 3, spawn.CloseParent).RequireHandshake()
	go func() {
		runtime.LockOSThread() // the filter stays with the thread, which ends
		fd, err := testkit.NotifyOf(unix.SYS_CHDIR)
		if err != nil {
			t.Error(err)
		}
		listener <- fd
		p, err := c.Start(context.Background())
		if err != nil {
			t.Error(err)
		}
		started <- p
	}()
	fd := <-listener
	defer unix.Close(fd)
	answered := make(chan error)
	go func() {
		answered <- testkit.Answer(fd, func(int) {
			close(held)
			<-goOn
		})
	}()
	<-held // before its gate
	p := <-started
	next, _ := testkit.NewPipe(t)
	// For the next run, and none of this one's business.
	c.PassFDAs(next, 4, spawn.CloseParent)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	require.ErrorIs(t, p.HandshakeWait(ctx), context.Canceled)
	close(goOn)
	require.NoError(t, <-answered)
	require.NoError(t, p.HandshakeWait(context.Background()), "the child has stayed")
	require.NoError(t, p.HandshakeWait(ctx), "it is there")
	require.NoError(t, p.HandshakeNotify())
	require.NoError(t, p.Wait())
	require.Equal(t, -1, descriptor.Of(r))
	require.NotEqual(t, -1, descriptor.Of(next))
}

func TestStreamsAndDescriptorsWithAHandshake(t *testing.T) {
	testkit.ForEachHandshake(t, func(t *testing.T, with func(*spawn.Command) *spawn.Command) {
		var out bytes.Buffer
		var errs string
		f, err := os.Open(os.DevNull)
		require.NoError(t, err)
		c := with(testkit.Shell(`cat; readlink /proc/self/fd/9 >&2`)).SetStdin(strings.NewReader("text")).SetStdout(&out).SetErrorBuffer(&errs)
		c.PassFDAs(f, 9, spawn.CloseParent)
		p := testkit.Gated(t, c)
		require.Equal(t, -1, descriptor.Of(f), "the child has it")
		require.NoError(t, p.HandshakeNotify())
		require.NoError(t, p.Wait())
		require.Equal(t, "text", out.String())
		require.Equal(t, "/dev/null\n", errs)

		f, err = os.Open(os.DevNull)
		require.NoError(t, err)
		require.Error(t, func() error {
			_, err := spawn.New("no-such-program").PassFDAs(f, 9, spawn.CloseParent).RequireHandshake().Start(context.Background())
			return err
		}())
		require.Equal(t, -1, descriptor.Of(f))
	})
}

// TestChildrenAtTheirGatesHoldNothingOfEachOther: while others wait, the end of
// a pipe is seen as soon as the one child that has it ends.
func TestChildrenAtTheirGatesHoldNothingOfEachOther(t *testing.T) {
	testkit.ForEachHandshake(t, func(t *testing.T, with func(*spawn.Command) *spawn.Command) {
		var ps []*spawn.Process
		for range 5 {
			ps = append(ps, testkit.Gated(t, with(spawn.New("/bin/cat")).PipeStdin().PipeStdout()))
		}
		holders := map[string]int{} // of pipes: one child each
		for _, p := range ps {
			if os.Geteuid() != 0 { // who may look at a process of another user
				break
			}
			dir := fmt.Sprintf("/proc/%d/fd", p.PID())
			open, err := os.ReadDir(dir)
			require.NoError(t, err)
			for _, fd := range open {
				if file := testkit.Readlink(t, filepath.Join(dir, fd.Name())); strings.HasPrefix(file, "pipe:") {
					require.Zero(t, holders[file], "the other child with %s", file)
					holders[file] = p.PID()
				}
			}
			if !plan.HelperForced() && plan.CanClone() {
				// A helper has besides: the program, its report, what the Go
				// runtime needs.
				require.Len(t, open, 5, "three streams, the status pipe and the gate")
			}
		}
		for i, p := range ps {
			if i%2 == 0 {
				require.NoError(t, p.Abort())
			} else {
				require.NoError(t, p.HandshakeNotify())
				_, err := p.Stdin().Write([]byte("text"))
				require.NoError(t, err)
				require.NoError(t, p.Stdin().Close())
				require.NoError(t, p.Wait())
			}
			_, err := io.ReadAll(p.Stdout())
			require.NoError(t, err)
			require.NoError(t, p.Stdout().Close())
			p.Stdin().Close()
		}
	})
}

// TestAChildAtItsGateHoldsUpNobody: neither children that change credentials
// nor those with a copy of the memory.
func TestAChildAtItsGateHoldsUpNobody(t *testing.T) {
	testkit.CheckLeaks(t)
	flag := testkit.DumpableFlag()
	var ps []*spawn.Process
	for _, c := range []*spawn.Command{testkit.OtherIDs(spawn.New("/bin/true")), spawn.New("/bin/true").SetOOMScoreAdj(1000), spawn.New("/bin/true"), spawn.New("/bin/true").SetCoredumpFilter(1)} {
		ps = append(ps, testkit.Gated(t, c))
		require.NoError(t, testkit.OtherIDs(spawn.New("/bin/true")).Run(context.Background()))
		require.NoError(t, spawn.New("/bin/true").SetCoredumpFilter(1).Run(context.Background()))
		require.NoError(t, spawn.New("/bin/true").SetOOMScoreAdj(1000).Run(context.Background()))
		require.Equal(t, flag, testkit.DumpableFlag())
		runtime.GC() // which waits for every thread that runs Go code
	}
	for _, p := range ps {
		require.NoError(t, p.HandshakeNotify())
		require.NoError(t, p.Wait())
	}
}

func TestAProcessForgottenAtItsGateLeavesNoZombie(t *testing.T) {
	testkit.CheckLeaks(t)
	ctx, cancel := context.WithCancel(context.Background())
	for range 10 {
		_, err := spawn.New("/bin/true").RequireHandshake().Start(ctx)
		require.NoError(t, err)
	}
	runtime.GC()
	cancel()
	testkit.WaitForNoChild(t)
}

// parentOfGated starts children that must never run, one after the other until
// it is killed, and prints a line for each.
func parentOfGated(args []string) int {
	alive := os.NewFile(3, "alive")
	for {
		c := spawn.New("/bin/touch", args[0]).RequireHandshake().PassFDAs(alive, 3)
		if len(args) > 1 {
			c = testkit.OtherIDs(c)
		}
		if _, err := c.Start(context.Background()); err != nil {
			return testkit.Fail(err)
		}
		fmt.Println()
	}
}

// TestChildrenDieAtTheirGatesWithTheirParent kills the parent at random moments
// and waits for the end of all that it has started.
func TestChildrenDieAtTheirGatesWithTheirParent(t *testing.T) {
	testkit.CheckLeaks(t)
	dir := testkit.PublicDir(t)
	require.NoError(t, os.Chmod(dir, 0o777))
	ran := filepath.Join(dir, "ran")
	for i := range testkit.Rounds(1000, 60) {
		args := []string{ran}
		if i%4 == 0 {
			args = append(args, "own memory")
		}
		p, alive := testkit.SleepFor(t, testkit.HelperCommand(t, "parent-of-gated", args...).InheritStdio().PipeStdout())
		lines := bufio.NewReader(p.Stdout())
		for range rand.IntN(10) {
			_, err := lines.ReadString('\n')
			require.NoError(t, err)
		}
		for range rand.IntN(1000) {
			runtime.Gosched()
		}
		require.NoError(t, p.Signal(unix.SIGKILL))
		// Each child keeps it open as long as it lives.
		_, err := alive.Read(make([]byte, 1))
		require.ErrorIs(t, err, io.EOF)
		require.NoFileExists(t, ran)
		require.Equal(t, unix.SIGKILL, testkit.RequireAnySignal(t, p.Wait()))
		require.NoError(t, p.Stdout().Close())
		require.NoError(t, alive.Close())
	}
}

// manyGated has children at their gates at once, started one after the other
// or all at once, and prints its largest number of threads. The runtime keeps
// a thread that it has made, so the last look sees them all.
func manyGated(args []string) int {
	together, with := args[0] != "in turn", func(c *spawn.Command) *spawn.Command { return c }
	switch args[0] {
	case "with hooks":
		with = func(c *spawn.Command) *spawn.Command { return c.SetPreExecHook(testkit.HookRuns, "") }
	case "daemons":
		with = (*spawn.Command).Daemonize
	}
	n, err := strconv.Atoi(args[1])
	if err != nil {
		return testkit.Fail(err)
	}
	ps := make([]*spawn.Process, n)
	errs := make(chan error, n)
	for i := range ps {
		start := func() {
			var err error
			ps[i], err = with(spawn.New("/bin/true")).RequireHandshake().Start(context.Background())
			errs <- err
		}
		if together {
			go start()
		} else {
			start()
		}
	}
	for range ps {
		if err := <-errs; err != nil {
			return testkit.Fail(err)
		}
	}
	for _, p := range ps {
		if err := p.HandshakeWait(context.Background()); err != nil {
			return testkit.Fail(err)
		}
	}
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return testkit.Fail(err)
	}
	for _, p := range ps {
		if err := p.HandshakeNotify(); err != nil {
			return testkit.Fail(err)
		}
		if err := p.Wait(); err != nil {
			return testkit.Fail(err)
		}
	}
	fmt.Print(len(tasks))
	return 0
}

func TestAThousandChildrenAtTheirGatesTakeFewThreads(t *testing.T) {
	// Many starts, helpers or daemons at once leave the processors to none
	// of this process's threads, which then take long for any call, and the
	// runtime makes more: that they are far fewer than starts is all that can
	// be said.
	thousand, some := testkit.Rounds(1000, 100), testkit.Rounds(200, 50)
	for how, test := range map[string]struct{ children, threads int }{
		"in turn": {thousand, 40}, "at once": {thousand, thousand / 2}, "with hooks": {some, some * 4 / 5}, "daemons": {some, some * 4 / 5},
	} {
		t.Run(how, func(t *testing.T) {
			if plan.HelperForced() && how != "in turn" || !plan.CanClone() && how == "at once" {
				t.Skip("1,000 helpers at once")
			}
			testkit.CheckLeaks(t)
			n := test.children
			if !plan.CanClone() { // a helper takes some megabytes
				n /= 10
			}
			if testing.Short() {
				n /= 5
			}
			out, err := testkit.HelperCommand(t, "many-gated", how, strconv.Itoa(n)).Output(context.Background())
			require.NoError(t, err)
			var threads int
			_, err = fmt.Sscan(string(out), &threads)
			require.NoError(t, err)
			t.Log(threads, "threads")
			require.LessOrEqual(t, threads, test.threads)
		})
	}
}
