//go:build linux

package run_test

import (
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/virspawn/spawn"
	"github.com/virspawn/spawn/internal/plan"
	"github.com/virspawn/spawn/internal/program"
	"github.com/virspawn/spawn/internal/run"
	"github.com/virspawn/spawn/internal/stub"
	"github.com/virspawn/spawn/internal/testkit"
	"golang.org/x/sys/unix"
)

// Attacks by files of a namespace that a child joins, and by what is done to
// a child from outside while it waits.

func init() {
	testkit.Helpers["forged-loader"] = forgedLoader
	testkit.Helpers["forged-proc"] = func([]string) int { return waitWith(forgeProc()) }
	testkit.Helpers["own-forged-proc"] = ownForgedProc
	testkit.Helpers["forking-children"] = forkingChildren
}

// waitWith says that a namespace is as it should be, and keeps it.
func waitWith(err error) int {
	if err != nil {
		return testkit.Fail(err)
	}
	fmt.Println("ready")
	_, _ = os.Stdin.Read(make([]byte, 1))
	return 0
}

// mountsOf starts a helper in a mount namespace of its own, and returns the
// process and its namespace.
func mountsOf(t *testing.T, c *spawn.Command) (*spawn.Process, *os.File) {
	p := testkit.Live(t, c.SetNamespaces(spawn.MountNamespace).PipeStdin().PipeStdout().SetStderr(os.Stderr))
	t.Cleanup(func() { testkit.Stop(t, p) })
	f, err := os.Open(fmt.Sprintf("/proc/%d/ns/mnt", p.PID()))
	require.NoError(t, err)
	t.Cleanup(func() { f.Close() })
	return p, f
}

// forgedLoader mounts a program over others.
func forgedLoader(args []string) int {
	var errs []error
	for _, path := range args[1:] {
		errs = append(errs, unix.Mount(args[0], path, "", unix.MS_BIND, ""))
	}
	return waitWith(errors.Join(errs...))
}

// loaderOf returns the loader of a program; "" if it needs none.
func loaderOf(t *testing.T, program string) string {
	f, err := elf.Open(program)
	require.NoError(t, err)
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			b := make([]byte, p.Filesz)
			_, err := p.ReadAt(b, 0)
			require.NoError(t, err)
			return strings.TrimRight(string(b), "\x00")
		}
	}
	return ""
}

// A helper is executed with a namespace's files in reach. None of them may run
// as this process's user.
func TestAttackByTheLoaderOfAMountNamespaceThatIsJoined(t *testing.T) {
	testkit.NeedsRoot(t, "to mount")
	testkit.NeedsClone(t)
	loader := loaderOf(t, testkit.Self(t))
	if loader == "" {
		t.Skip("needs a test binary that needs a loader, as with the race detector")
	}
	cat := testkit.NeedsProgram(t, "cat")
	require.Equal(t, loader, loaderOf(t, cat))
	_, f := mountsOf(t, testkit.HelperCommand(t, "forged-loader", testkit.HelloProgram(t), loader))
	join := func(program string) *spawn.Command {
		return spawn.New(program).JoinNamespace(spawn.MountNamespace, f).SetUID(testkit.Nobody).SetGID(testkit.Nobody).ClearCaps().SetNoNewPrivs()
	}
	makePublic(t, testkit.HelloProgram(t))
	tiny := publicTiny(t)
	require.Equal(t, "hello\n", testkit.OutputOf(t, spawn.New(cat).JoinNamespace(spawn.MountNamespace, f)), "the attack no longer works")
	for name, c := range byEach(func() *spawn.Command { return join(tiny) }) {
		if !testkit.Wanted(c).Handshake {
			require.Empty(t, testkit.OutputOf(t, c), name)
		}
	}
}

// forgeProc covers /proc of this process's mount namespace.
func forgeProc() error {
	if err := unix.Mount("tmpfs", "/proc", "tmpfs", 0, ""); err != nil {
		return err
	}
	for _, dir := range []string{"/proc/self", "/proc/thread-self"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		for _, name := range []string{"oom_score_adj", "coredump_filter"} {
			if err := os.WriteFile(filepath.Join(dir, name), nil, 0o666); err != nil {
				return err
			}
		}
	}
	return nil
}

// The class of CVE-2019-16884: what is written to /proc must not go to files
// that a container has there.
func TestAttackByAForgedProc(t *testing.T) {
	testkit.NeedsRoot(t, "to mount")
	container, f := mountsOf(t, testkit.HelperCommand(t, "forged-proc"))
	forged := func() (text string) {
		for _, name := range []string{"self/oom_score_adj", "self/coredump_filter", "thread-self/oom_score_adj", "thread-self/coredump_filter"} {
			text += testkit.ReadFile(t, fmt.Sprintf("/proc/%d/root/proc/%s", container.PID(), name))
		}
		return text
	}
	waiting := publicWaiting(t)
	kinds := byEach(func() *spawn.Command {
		return spawn.New(waiting).JoinNamespace(spawn.MountNamespace, f).SetOOMScoreAdj(500).SetCoredumpFilter(1).PipeStdin()
	})
	if !plan.CanClone() {
		kinds = map[string]*spawn.Command{"by a helper": testkit.By(kinds["by a stub"], plan.ForkedHelper)}
	}
	for name, c := range kinds {
		p, err := c.Start(context.Background())
		require.NoError(t, err, name)
		if testkit.Wanted(c).Handshake {
			require.NoError(t, p.HandshakeWait(context.Background()))
			require.NoError(t, p.HandshakeNotify())
		}
		require.Equal(t, "500", testkit.ProcText(t, p, "oom_score_adj"), name)
		require.Equal(t, "00000001", testkit.ProcText(t, p, "coredump_filter"), name)
		require.Empty(t, forged(), name)
		require.NoError(t, p.Stdin().Close())
		require.NoError(t, p.Wait())
	}
	require.NoError(t, testkit.Shell("echo 500 >/proc/self/oom_score_adj").JoinNamespace(spawn.MountNamespace, f).Run(context.Background()))
	require.Equal(t, "500", forged(), "the attack no longer works")
}

// Where this process's own /proc is another file system, nothing can be
// written there.
func TestAttackByAForgedProcOfThisProcess(t *testing.T) {
	testkit.NeedsRoot(t, "to mount")
	testkit.NeedsClone(t)
	t.Setenv("GORACE", "atexit_sleep_ms=0")
	out, err := testkit.HelperCommand(t, "own-forged-proc", testkit.TinyProgram(t)).SetNamespaces(spawn.MountNamespace).CombinedOutput(context.Background())
	require.NoError(t, err, "%s", out)
	require.Equal(t, "good\n", string(out))
}

func ownForgedProc(args []string) int {
	c := func() *spawn.Command { return spawn.New(args[0]) }
	if err := c().SetOOMScoreAdj(500).SetCoredumpFilter(1).Run(context.Background()); err != nil {
		return testkit.Fail(err)
	}
	if err := forgeProc(); err != nil {
		return testkit.Fail(err)
	}
	for _, change := range []func(*spawn.Command) *spawn.Command{
		func(c *spawn.Command) *spawn.Command { return c.SetOOMScoreAdj(500) },
		func(c *spawn.Command) *spawn.Command { return c.SetCoredumpFilter(1) },
	} {
		for name, c := range map[string]*spawn.Command{
			"by a stub":   change(c()),
			"by a copy":   testkit.WithoutStub(change(c())),
			"by a helper": testkit.By(change(c()), plan.ChildAndHelper),
			"by a fork":   testkit.By(change(c()), plan.ForkedHelper),
		} {
			var start *spawn.StartError
			if err := c.Run(context.Background()); !errors.As(err, &start) {
				return testkit.Fail(fmt.Errorf("%s: %w", name, err))
			}
		}
	}
	for _, name := range []string{"/proc/self/oom_score_adj", "/proc/thread-self/oom_score_adj", "/proc/thread-self/coredump_filter"} {
		if b, err := os.ReadFile(name); err != nil || len(b) > 0 {
			return testkit.Fail(fmt.Errorf("%s: %s %w", name, b, err))
		}
	}
	fmt.Println("good")
	return 0
}

// breakable is where somebody sets a breakpoint.
//
//go:noinline
func breakable(n int) int { return n*n + 1 }

// What is done to a child that waits at its gate is done to it alone. A caller
// may well do that: the program then has it.
func TestWhatIsDoneToAChildAtItsGateIsNotDoneToThisProcess(t *testing.T) {
	testkit.NeedsRoot(t, "to write to a child")
	testkit.CheckLeaks(t)
	own := func() string {
		return testkit.ReadFile(t, "/proc/self/oom_score_adj") + " " + testkit.ReadFile(t, "/proc/self/coredump_filter")
	}
	before := own()
	require.NotEqual(t, "1000 00000000", before)
	secret := processSecret
	code := int64(reflect.ValueOf(breakable).Pointer())
	kinds := map[string]*spawn.Command{}
	for name, c := range byEach(func() *spawn.Command { return spawn.New("/bin/cat").RequireHandshake().PipeStdin() }) {
		kinds[name] = c
		kinds[name+", other ids"] = testkit.OtherIDs(c.Clone())
	}
	if !plan.CanClone() {
		kinds = map[string]*spawn.Command{"helper": spawn.New("/bin/cat").RequireHandshake().PipeStdin()}
	}
	for name, c := range kinds {
		p, err := c.Start(context.Background())
		require.NoError(t, err, name)
		require.NoError(t, p.HandshakeWait(context.Background()), name)
		proc := fmt.Sprintf("/proc/%d/", p.PID())
		require.NoError(t, os.WriteFile(proc+"oom_score_adj", []byte("1000"), 0), name)
		require.NoError(t, os.WriteFile(proc+"coredump_filter", []byte("0"), 0), name)
		mem, err := os.OpenFile(proc+"mem", os.O_RDWR, 0)
		require.NoError(t, err, name)
		// The memory of a stub has nothing there.
		_, _ = mem.WriteAt([]byte(strings.Repeat("\xcc", 16)), code)
		_, _ = mem.WriteAt([]byte("something else"), addressOfSecret())
		require.NoError(t, mem.Close())
		require.Equal(t, before, own(), name)
		require.Equal(t, secret, processSecret, name)
		require.Equal(t, 50, breakable(7), name)
		require.NoError(t, p.HandshakeNotify(), name)
		require.Equal(t, "1000", testkit.ProcText(t, p, "oom_score_adj"), name)
		require.NoError(t, p.Stdin().Close())
		require.NoError(t, p.Wait(), name)
	}
}

// Whoever may trace a child, or has got hold of its end of the status pipe, may
// write what a child would never say.
func TestAForgedReportIsAnError(t *testing.T) {
	testkit.NeedsClone(t)
	r, err := run.Prepare(context.Background(), testkit.Call(testkit.By(spawn.New("/bin/true"), plan.Stub)), plan.Watched)
	require.NoError(t, err)
	defer r.Release()
	for _, at := range []int{-1, r.Program.Len(), 1 << 30} {
		err := r.StartError(program.Failure{Op: at, Errno: unix.EPERM})
		require.ErrorContains(t, err, "somebody has changed it")
	}
}

// The pid of a process that a child has forked may be forged: a stranger is
// never taken for it.
func TestAForgedPidIsNotTakenForAChilds(t *testing.T) {
	p, err := spawn.New("/bin/cat").PipeStdin().Start(context.Background())
	require.NoError(t, err)
	defer func() { require.NoError(t, errors.Join(p.Stdin().Close(), p.Wait())) }()
	for pid, want := range map[int]bool{p.PID(): true, os.Getppid(): false} {
		fd, err := unix.PidfdOpen(pid, 0)
		require.NoError(t, err)
		require.Equal(t, want, run.IsOurs(pid, fd))
		require.NoError(t, unix.Close(fd))
	}
}

// TestWhatAStubForksHasAMemoryOfItsOwn, without the pid: it may be in the hands
// of others at once, while who forks it is still this process to everybody.
func TestWhatAStubForksHasAMemoryOfItsOwn(t *testing.T) {
	testkit.NeedsClone(t)
	kinds := map[string]*spawn.Command{
		"a daemon": spawn.New("/bin/true").Daemonize(),
		"times":    spawn.New("/bin/true").SetNamespaces(spawn.TimeNamespace),
		"users":    testkit.InUserNamespace(spawn.New("/bin/true")),
	}
	for name, c := range kinds {
		text, err := c.Explain()
		require.NoError(t, err, name)
		require.NotContains(t, text, "CLONE_VM", name)
		require.Regexp(t, `\nclose\(\d+\)\n(.*\n)*madvise\(0x[0-9a-f]+, \d+, MADV_DONTFORK\)\nclone`, text, name)
	}
}

// The group of a first parent that was waited for may be anybody's.
func TestNobodyIsSignalledByANumberThatWasGivenBack(t *testing.T) {
	testkit.NeedsClone(t)
	testkit.CheckLeaks(t)
	p, err := spawn.New("/bin/cat").PipeStdin().SetKillMode(spawn.KillGroup).Start(context.Background())
	require.NoError(t, err)
	r := run.ChildOf(testkit.Running(p))
	mu := &testkit.Running(p).Mu
	mu.Lock()
	r.SetReaped(true)
	for _, err := range []error{r.SignalGroup(unix.SIGKILL), r.SignalAll(unix.SIGKILL), r.Signal(unix.SIGKILL)} {
		require.ErrorIs(t, err, os.ErrProcessDone)
	}
	r.SetReaped(false)
	mu.Unlock()
	require.NoError(t, p.Stdin().Close())
	require.NoError(t, p.Wait())
}

// Who has got hold of a child's end of the status pipe may write without end,
// and holds up nobody: what is there is not read to its end.
func TestAFloodOfReportsIsNotReadToItsEnd(t *testing.T) {
	testkit.NeedsClone(t)
	for name, read := range map[string]func(r *run.Child){
		"before it is parked": (*run.Child).DrainStatus,
		"at the end":          func(r *run.Child) { r.OpenStatus(); r.TakeLast() },
	} {
		t.Run(name, func(t *testing.T) {
			testkit.CheckLeaks(t)
			from, to := testkit.NewPipe(t)
			_, err := to.Write(bytes.Repeat([]byte{plan.SaysReady}, 64<<10))
			require.NoError(t, err)
			r, err := run.Prepare(context.Background(), testkit.Call(testkit.By(spawn.New("/bin/true"), plan.Stub)), plan.Piped)
			require.NoError(t, err)
			defer r.Release()
			r.NewProcess()
			require.NoError(t, unix.Dup3(int(from.Fd()), r.StatusR, unix.O_CLOEXEC))
			read(r)
			left, err := unix.IoctlGetInt(int(from.Fd()), unix.TIOCINQ)
			require.NoError(t, err)
			require.NotZero(t, left)
			r.CloseStatus()
		})
	}
}

// TestWhatAStubForksSharesNothingWithIt: the first parent is held before its
// end, when both are there.
func TestWhatAStubForksSharesNothingWithIt(t *testing.T) {
	testkit.NeedsClone(t)
	testkit.NeedsRoot(t, "to compare processes")
	t.Setenv("GORACE", "atexit_sleep_ms=0")
	require.Equal(t, "good\n", testkit.OutputOf(t, testkit.HelperCommand(t, "forking-children", publicTiny(t))))
}

func forkingChildren(args []string) int {
	h, err := testkit.NewHolder(unix.SYS_EXIT_GROUP)
	if err != nil {
		return testkit.Fail(err)
	}
	kinds := map[string]*spawn.Command{"times": spawn.New(args[0]).SetNamespaces(spawn.TimeNamespace)}
	if testkit.HasUserNamespaces() {
		kinds["users"] = testkit.InUserNamespace(spawn.New(args[0]))
	}
	for name, c := range kinds {
		compared := 0
		err := h.Run(startOf(c), func(pid int, _ uint32) error {
			var errs []error
			for _, other := range threads(0) {
				stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", other))
				_, rest, _ := strings.Cut(string(stat), ") ")
				if f := strings.Fields(rest); other == pid || len(f) < 2 || f[1] != strconv.Itoa(os.Getpid()) {
					continue // whose parent is not this process
				}
				const memory = 1 // KCMP_VM
				same, _, errno := unix.Syscall6(unix.SYS_KCMP, uintptr(pid), uintptr(other), memory, 0, 0, 0)
				if errno != 0 {
					return os.NewSyscallError("kcmp", errno)
				}
				maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", other))
				if same == 0 || err != nil || !bytes.Contains(maps, []byte(fmt.Sprintf("%08x-%08x ", stub.ReportAt, stub.PIDAt()))) {
					errs = append(errs, fmt.Errorf("%s: same memory %v, error %v, or it has the page of the pid:\n%s", name, same == 0, err, maps))
				}
				compared++
			}
			return errors.Join(errs...)
		})
		if err == nil && compared == 0 {
			err = fmt.Errorf("%s: nobody was compared", name)
		}
		if err != nil {
			return testkit.Fail(err)
		}
	}
	fmt.Println("good")
	return 0
}
