//go:build linux

package plan_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/virspawn/spawn"
	"github.com/virspawn/spawn/internal/command"
	"github.com/virspawn/spawn/internal/plan"
	"github.com/virspawn/spawn/internal/testkit"
	"golang.org/x/sys/unix"
)

func init() {
	testkit.Helpers["keyring"] = func([]string) int {
		id, err := unix.KeyctlGetKeyringID(unix.KEY_SPEC_SESSION_KEYRING, true)
		if err != nil {
			return testkit.Fail(err)
		}
		fmt.Print(id)
		return 0
	}
	testkit.Helpers["parent-of-sleep"] = parentOfSleep
	testkit.Helpers["parent-of-frozen"] = parentOfFrozen
	testkit.Helpers["controlling-tty"] = controllingTTY
	testkit.Helpers["exec-attributes"] = execAttributes
}

func TestSetOOMScoreAdjIsTheProgramsAlone(t *testing.T) {
	testkit.CheckLeaks(t)
	own := testkit.ReadFile(t, "/proc/self/oom_score_adj")
	for name, c := range map[string]*spawn.Command{
		"alone":                spawn.New("/bin/cat"),
		"as another user":      testkit.OtherIDs(spawn.New("/bin/cat")),
		"in a user namespace":  testkit.InUserNamespace(spawn.New("/bin/cat")),
		"with a filter":        spawn.New("/bin/cat").SetSeccompFilter(testkit.FilterOf(unix.SYS_REBOOT, unix.SECCOMP_RET_ERRNO, 0)),
		"with a low limit":     spawn.New("/bin/cat").SetMaxFiles(4),
		"with another root":    spawn.New("/bin/cat").SetCoredumpFilter(0x7f),
		"with a death signal":  spawn.New("/bin/cat").SetParentDeathSignal(unix.SIGKILL),
		"with a pid namespace": testkit.InUserNamespace(spawn.New("/bin/cat"), spawn.PIDNamespace),
	} {
		t.Run(name, func(t *testing.T) {
			if testkit.Wanted(c).Namespaces.Fresh != 0 {
				testkit.NeedsUserNamespaces(t)
			}
			p := testkit.WaitingIn(t, c.SetOOMScoreAdj(987))
			require.Equal(t, "987", testkit.ProcText(t, p, "oom_score_adj"))
			require.Equal(t, own, testkit.ReadFile(t, "/proc/self/oom_score_adj"))
		})
	}
}

func TestSetCoredumpFilterIsTheProgramsAlone(t *testing.T) {
	testkit.CheckLeaks(t)
	own := testkit.ReadFile(t, "/proc/self/coredump_filter")
	p := testkit.WaitingIn(t, spawn.New("/bin/cat").SetCoredumpFilter(0x7f))
	require.Equal(t, "0000007f", testkit.ProcText(t, p, "coredump_filter"))
	require.Equal(t, own, testkit.ReadFile(t, "/proc/self/coredump_filter"))
	require.NotContains(t, own, "7f")
}

func TestAnOOMScoreIsLoweredWithThePrivilegeOnly(t *testing.T) {
	testkit.CheckLeaks(t)
	if permitted, _ := plan.OwnCaps(); permitted&(1<<unix.CAP_SYS_RESOURCE) != 0 {
		require.Equal(t, "-1000", testkit.ProcText(t, testkit.WaitingIn(t, testkit.OtherIDs(spawn.New("/bin/cat")).SetOOMScoreAdj(-1000)), "oom_score_adj"))
		require.Equal(t, "0", testkit.ReadFile(t, "/proc/self/oom_score_adj"))
		return
	}
	var start *spawn.StartError
	require.ErrorAs(t, spawn.New("/bin/true").SetOOMScoreAdj(-1000).Run(context.Background()), &start)
	require.Equal(t, `write(</proc/thread-self/oom_score_adj>, "-1000", 5) = 5`, start.Op)
	require.ErrorIs(t, start, unix.EACCES)
}

func TestSetPersonalityIsTheProgramsAlone(t *testing.T) {
	testkit.CheckLeaks(t)
	t.Setenv("GORACE", "atexit_sleep_ms=0")
	out, err := spawn.New("uname", "-m").SetPersonality(spawn.PersonalityLinux32).Output(context.Background())
	require.NoError(t, err)
	// On other processors the kernel tells its own, unless it was built for
	// 32-bit programs too.
	if want, ok := map[string]string{"386": "i686\n", "amd64": "i686\n", "arm64": "armv8l\n"}[runtime.GOARCH]; ok {
		require.Equal(t, want, string(out))
	}
	p := testkit.WaitingIn(t, spawn.New("/bin/cat").SetPersonality(spawn.PersonalityLinux32|spawn.PersonalityAddrNoRandomize))
	kept := "00040008"
	if runtime.GOARCH == "riscv64" { // where execve sets it
		kept = "00040000"
	}
	require.Equal(t, kept, testkit.ProcText(t, p, "personality"))
	require.Equal(t, testkit.ReadFile(t, "/proc/thread-self/personality"), "00000000")
}

func TestAPrivateKeyringIsNewAndTheUsers(t *testing.T) {
	// The keyring is the thread's, which ends with the test.
	runtime.LockOSThread()
	own, err := unix.KeyctlInt(unix.KEYCTL_JOIN_SESSION_KEYRING, 0, 0, 0, 0)
	testkit.Needs(t, "keyrings", err, errors.ErrUnsupported, unix.EPERM)
	t.Setenv("GORACE", "atexit_sleep_ms=0")
	keyring := func(c *spawn.Command) string {
		out, err := c.Output(context.Background())
		require.NoError(t, err)
		return string(out)
	}
	c := testkit.HelperCommand(t, "keyring")
	require.Equal(t, strconv.Itoa(own), keyring(c))
	require.Equal(t, strconv.Itoa(own), keyring(c.Clone().SetKeyring(spawn.KeyringInherit)))
	first, second := keyring(c.SetKeyring(spawn.KeyringPrivate)), keyring(c)
	require.NotContains(t, []string{strconv.Itoa(own), second, "0"}, first)
	again, err := unix.KeyctlGetKeyringID(unix.KEY_SPEC_SESSION_KEYRING, true)
	require.NoError(t, err)
	require.Equal(t, own, again)
}

func TestSetChrootIsTheRootDirectoryAndTheWorkingDirectory(t *testing.T) {
	testkit.NeedsRoot(t, "to change the root directory")
	testkit.CheckLeaks(t)
	root := t.TempDir()
	hello := testkit.HelloProgram(t)
	copyFile(t, hello, root+"/hello")
	require.NoError(t, os.Mkdir(root+"/below", 0o755))
	require.NoError(t, unix.Chmod(filepath.Dir(root), 0o755))
	require.NoError(t, unix.Chmod(root, 0o755))
	out, err := spawn.New("/hello").SetChroot(root).SetUID(testkit.Nobody).SetGID(testkit.Nobody).SetOOMScoreAdj(900).Output(context.Background())
	require.NoError(t, err)
	require.Equal(t, "hello\n", string(out))
	t.Chdir(filepath.Dir(root))
	for dir, c := range map[string]*spawn.Command{
		root:            spawn.New("/bin/cat").SetChroot("/").SetChroot(filepath.Base(root)),
		root + "/below": spawn.New("/bin/cat").SetChroot(root).SetWorkingDirectory("below"),
	} {
		copyFile(t, testkit.WaitingProgram(t), root+"/bin/cat")
		p := testkit.WaitingIn(t, c)
		proc := "/proc/" + strconv.Itoa(p.PID())
		require.Equal(t, root, testkit.Readlink(t, proc+"/root"))
		require.Equal(t, dir, testkit.Readlink(t, proc+"/cwd"))
	}
	requireStartError(t, spawn.New("/hello").SetChroot(root+"/none"), fmt.Sprintf("chroot(%q)", root+"/none"), unix.ENOENT)
}

func TestSetChrootNeedsAPrivilege(t *testing.T) {
	testkit.NeedsOrdinaryUser(t, "root may")
	testkit.CheckLeaks(t)
	requireStartError(t, spawn.New("/bin/true").SetChroot("/"), `chroot("/")`, unix.EPERM)
}

func copyFile(t testing.TB, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	require.NoError(t, err)
	require.NoError(t, os.MkdirAll(filepath.Dir(to), 0o755))
	_ = os.Remove(to)
	require.NoError(t, os.WriteFile(to, b, 0o755))
}

func TestTheChildIsBornInItsCgroup(t *testing.T) {
	dir := testkit.NewCgroup(t)
	testkit.CheckLeaks(t)
	for name, c := range map[string]*spawn.Command{
		"alone":               spawn.New("/bin/cat"),
		"as another user":     testkit.OtherIDs(spawn.New("/bin/cat")),
		"in a user namespace": testkit.InUserNamespace(spawn.New("/bin/cat")),
		"with a score":        spawn.New("/bin/cat").SetOOMScoreAdj(900),
		"by a forked helper":  testkit.By(spawn.New("/bin/cat"), plan.ForkedHelper),
	} {
		t.Run(name, func(t *testing.T) {
			if testkit.Wanted(c).Namespaces.Fresh != 0 {
				testkit.NeedsUserNamespaces(t)
			}
			p := testkit.WaitingIn(t, c.SetCgroup(dir))
			require.Contains(t, testkit.ProcText(t, p, "cgroup"), "0::"+"/")
			require.True(t, strings.HasSuffix(testkit.ProcText(t, p, "cgroup"), filepath.Base(dir)))
			require.Equal(t, strconv.Itoa(p.PID()), testkit.ReadFile(t, dir+"/cgroup.procs"))
		})
	}
	// Nothing of it happens elsewhere: born frozen, it never ran.
	require.NoError(t, os.WriteFile(dir+"/cgroup.freeze", []byte("1"), 0))
	for _, c := range []*spawn.Command{spawn.New("/bin/true"), testkit.By(spawn.New("/bin/true"), plan.ForkedHelper)} {
		ctx, cancel := context.WithCancel(context.Background())
		ran := make(chan error, 1)
		go func() { ran <- c.SetCgroup(dir).SetGracePeriod(0).Run(ctx) }()
		testkit.Eventually(t, "the child is there", func() bool { return testkit.ReadFile(t, dir+"/cgroup.procs") != "" })
		cancel()
		require.ErrorIs(t, <-ran, context.Canceled)
		testkit.Eventually(t, "the child is gone", func() bool { return testkit.ReadFile(t, dir+"/cgroup.procs") == "" })
	}
}

// TestANewCgroupNamespaceStartsAtTheChildsCgroup: there the program sees no
// cgroup but its own.
func TestANewCgroupNamespaceStartsAtTheChildsCgroup(t *testing.T) {
	testkit.NeedsRoot(t, "to make a namespace")
	dir := testkit.NewCgroup(t)
	testkit.CheckLeaks(t)
	c := spawn.New("/bin/cat", "/proc/self/cgroup").SetNamespaces(spawn.CgroupNamespace).SetCgroup(dir)
	for _, c := range []*spawn.Command{c, testkit.By(c, plan.ForkedHelper)} {
		require.Contains(t, "\n"+testkit.OutputOf(t, c), "\n0::/\n")
	}
}

func TestAControllingTerminalIsTheSessions(t *testing.T) {
	testkit.CheckLeaks(t)
	t.Setenv("GORACE", "atexit_sleep_ms=0")
	terminal, name := testkit.OpenTerminal(t)
	defer terminal.Close()
	for what, change := range map[string]func(*spawn.Command) *spawn.Command{
		"alone":                func(c *spawn.Command) *spawn.Command { return c },
		"with descriptors":     func(c *spawn.Command) *spawn.Command { c.PassFDAs(terminal, 3); return c },
		"as another user":      testkit.OtherIDs,
		"with a low limit":     func(c *spawn.Command) *spawn.Command { return c.SetRlimit(unix.RLIMIT_NOFILE, 20, 20) },
		"with a parent signal": func(c *spawn.Command) *spawn.Command { return c.SetParentDeathSignal(unix.SIGTERM) },
	} {
		t.Run(what, func(t *testing.T) {
			c := spawn.New("/bin/cat").SetControllingTTY(terminal)
			p := testkit.WaitingIn(t, change(c))
			fields := strings.Fields(testkit.ProcText(t, p, "stat"))
			require.Equal(t, strconv.Itoa(p.PID()), fields[5], "session")
			var stat unix.Stat_t
			require.NoError(t, unix.Stat(name, &stat))
			device := unix.Minor(stat.Rdev)&0xff | unix.Major(stat.Rdev)<<8 | (unix.Minor(stat.Rdev)&^0xff)<<12
			require.Equal(t, strconv.Itoa(int(device)), fields[6], "terminal")
			require.Equal(t, strconv.Itoa(p.PID()), fields[7], "foreground group")
		})
	}
	out, err := testkit.HelperCommand(t, "controlling-tty").SetControllingTTY(terminal).CombinedOutput(context.Background())
	require.NoError(t, err, "%s", out)
}

// controllingTTY opens its terminal.
func controllingTTY([]string) int {
	f, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return testkit.Fail(err)
	}
	return endHelper(f.Close())
}

func TestIgnoredSignalsAreExactlyThoseAskedFor(t *testing.T) {
	testkit.CheckLeaks(t)
	testkit.IgnoreSignal(unix.SIGUSR1)
	defer testkit.ResetSignal(unix.SIGUSR1)
	requireStatus(t, testkit.CatStatus(), map[string]string{"SigIgn": "0000000000000000"})
	requireStatus(t, testkit.CatStatus().SetIgnoredSignals(unix.SIGHUP, unix.SIGPIPE, syscall.Signal(64)), map[string]string{"SigIgn": "8000000000001001"})
	requireStatus(t, testkit.CatStatus().SetIgnoredSignals(unix.SIGHUP).SetIgnoredSignals(), map[string]string{"SigIgn": "0000000000000000"})
}

func TestTheParentDeathSignalDoesNotComeWithTheEndOfAThread(t *testing.T) {
	testkit.CheckLeaks(t)
	theirs := exec.Command("/bin/cat")
	theirs.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
	stdin, err := theirs.StdinPipe()
	require.NoError(t, err)
	defer stdin.Close()
	onThreadThatEnds(t, func() { err = theirs.Start() })
	require.NoError(t, err)
	var exit *exec.ExitError
	require.ErrorAs(t, theirs.Wait(), &exit)
	require.Equal(t, unix.SIGKILL, exit.Sys().(syscall.WaitStatus).Signal(), "os/exec's child is killed with the thread")

	commands := map[string]*spawn.Command{"alone": spawn.New("/bin/cat"), "another user": testkit.OtherIDs(spawn.New("/bin/cat"))}
	for name, c := range commands {
		var p *spawn.Process
		onThreadThatEnds(t, func() {
			p, err = c.SetParentDeathSignal(unix.SIGKILL).PipeStdin().PipeStdout().Start(context.Background())
		})
		require.NoError(t, err)
		_, err = io.WriteString(p.Stdin(), "alive\n")
		require.NoError(t, err)
		line, err := bufio.NewReader(p.Stdout()).ReadString('\n')
		require.NoError(t, err, name)
		require.Equal(t, "alive\n", line)
		require.NoError(t, p.Stdin().Close())
		require.NoError(t, p.Wait())
		require.NoError(t, p.Stdout().Close())
	}
}

// onThreadThatEnds calls f and returns when the thread has ended that has
// called it.
func onThreadThatEnds(t testing.TB, f func()) {
	tid := make(chan int)
	var call func()
	call = func() {
		// Without an unlock, the thread ends with the goroutine.
		runtime.LockOSThread()
		if unix.Gettid() != unix.Getpid() {
			f()
			tid <- unix.Gettid()
			return
		}
		// The main thread does not end. While this goroutine keeps it, another
		// gets another.
		done := make(chan struct{})
		go func() {
			defer close(done)
			call()
		}()
		<-done
		runtime.UnlockOSThread()
	}
	go call()
	task := "/proc/self/task/" + strconv.Itoa(<-tid)
	testkit.Eventually(t, "the thread has ended", func() bool {
		_, err := os.Stat(task)
		return err != nil
	})
}

// A process in a pid namespace that was joined is cloned by a thread which
// would otherwise end.
func TestTheParentDeathSignalDoesNotComeWithTheEndOfAThreadThatHasJoined(t *testing.T) {
	testkit.NeedsRoot(t, "to join namespaces")
	testkit.CheckLeaks(t)
	host := testkit.WaitingIn(t, spawn.New("/bin/cat").SetNamespaces(spawn.PIDNamespace))
	f, err := os.Open("/proc/" + strconv.Itoa(host.PID()) + "/ns/pid")
	require.NoError(t, err)
	defer f.Close()
	c := spawn.New("/bin/cat").JoinNamespace(spawn.PIDNamespace, f).SetParentDeathSignal(unix.SIGKILL).PipeStdin().PipeStdout()
	for range testkit.Rounds(100, 20) {
		// The thread may end before the child asks for the signal.
		p, err := c.Start(context.Background())
		require.NoError(t, err)
		_, err = io.WriteString(p.Stdin(), "alive\n")
		require.NoError(t, err)
		line, err := bufio.NewReader(p.Stdout()).ReadString('\n')
		require.NoError(t, err)
		require.Equal(t, "alive\n", line)
		require.NoError(t, p.Stdin().Close())
		require.NoError(t, p.Wait())
		require.NoError(t, p.Stdout().Close())
	}
}

// deathCommands are programs that get a signal when this process ends.
func deathCommands() map[string]*spawn.Command {
	c := spawn.New("sleep", "1000").SetParentDeathSignal(unix.SIGKILL)
	return map[string]*spawn.Command{
		"alone":         c,
		"another user":  testkit.OtherIDs(c.Clone()),
		"pid namespace": testkit.InUserNamespace(c.Clone(), spawn.PIDNamespace),
		"a score":       c.Clone().SetOOMScoreAdj(900),
	}
}

// parentOfSleep starts a program that gets SIGKILL when this process ends, says
// so, and waits.
func parentOfSleep(args []string) int {
	c := deathCommands()[args[0]]
	c.PassFDAs(os.NewFile(3, "alive"), 3)
	p, err := c.Start(context.Background())
	if err != nil {
		return testkit.Fail(err)
	}
	fmt.Println(p.PID())
	return endHelper(p.Wait())
}

func TestTheParentDeathSignalComesWithTheEndOfTheProcess(t *testing.T) {
	for name, c := range deathCommands() {
		t.Run(name, func(t *testing.T) {
			if testkit.Wanted(c).Namespaces.Fresh != 0 {
				testkit.NeedsUserNamespaces(t)
			}
			testkit.CheckLeaks(t)
			p, alive := testkit.SleepFor(t, testkit.HelperCommand(t, "parent-of-sleep", name).InheritStdio().PipeStdout())
			line, err := bufio.NewReader(p.Stdout()).ReadString('\n')
			require.NoError(t, err)
			require.NotEmpty(t, line)
			require.NoError(t, p.Signal(unix.SIGKILL))
			var exit *spawn.ExitError
			require.ErrorAs(t, p.Wait(), &exit)
			// The program keeps the other end open as long as it lives.
			_, err = alive.Read(make([]byte, 1))
			require.ErrorIs(t, err, io.EOF)
			require.NoError(t, p.Stdout().Close())
		})
	}
}

// parentOfFrozen starts a program in a cgroup that is frozen.
func parentOfFrozen(args []string) int {
	c := deathCommands()[args[0]]
	testkit.Wanted(c).Name, testkit.Wanted(c).Args = "/bin/sh", []command.Text{{Str: "-c"}, {Str: "echo ran >&3"}}
	c.PassFDAs(os.NewFile(3, "out"), 3)
	return endHelper(c.SetCgroup(args[1]).Run(context.Background()))
}

// The parent ends before the child has asked for the signal, which then
// never comes.
func TestAChildWhoseParentIsGoneNeverRunsTheProgram(t *testing.T) {
	for name, c := range deathCommands() {
		if testkit.Wanted(c).Attributes.SetOOMScoreAdj {
			continue // the parent waits for it without being able to end
		}
		t.Run(name, func(t *testing.T) {
			dir := testkit.NewCgroup(t)
			if testkit.Wanted(c).Namespaces.Fresh != 0 {
				testkit.NeedsUserNamespaces(t)
			}
			testkit.CheckLeaks(t)
			require.NoError(t, os.WriteFile(dir+"/cgroup.freeze", []byte("1"), 0))
			p, out := testkit.SleepFor(t, testkit.HelperCommand(t, "parent-of-frozen", name, dir).InheritStdio())
			testkit.Eventually(t, "the child is there", func() bool { return testkit.ReadFile(t, dir+"/cgroup.procs") != "" })
			require.NoError(t, p.Signal(unix.SIGKILL))
			require.Error(t, p.Wait())
			require.NoError(t, os.WriteFile(dir+"/cgroup.freeze", []byte("0"), 0))
			b, err := io.ReadAll(out)
			require.NoError(t, err)
			require.Empty(t, string(b))
		})
	}
}

func TestBadAttributesAreBadCalls(t *testing.T) {
	testkit.CheckLeaks(t)
	file, err := os.Open("/dev/null")
	require.NoError(t, err)
	defer file.Close()
	var unknown os.Signal
	for want, c := range map[string]*spawn.Command{
		"SetOOMScoreAdj: 1001 is not":                      spawn.New("x").SetOOMScoreAdj(1001),
		"SetOOMScoreAdj: -1001 is not":                     spawn.New("x").SetOOMScoreAdj(-1001),
		"SetCoredumpFilter: unknown bits 0x200 (valid: 0":  spawn.New("x").SetCoredumpFilter(0x201),
		"SetPersonality: 0xffffffff is":                    spawn.New("x").SetPersonality(0xffffffff),
		"SetKeyring: 7 is not a mode":                      spawn.New("x").SetKeyring(7),
		"SetChroot: the directory is empty":                spawn.New("x").SetChroot(""),
		"SetChroot: the directory \"a\\x00\"":              spawn.New("x").SetChroot("a\x00"),
		"SetChroot: the program \"true\" has no absolute":  spawn.New("true").SetChroot("/"),
		"SetChroot: the program \"./x\" has no absolute":   spawn.New("./x").SetChroot("/"),
		"SetCgroup: the directory is empty":                spawn.New("x").SetCgroup(""),
		"SetCgroup: open /nonexistent: no such file":       spawn.New("/bin/true").SetCgroup("/nonexistent"),
		"SetCgroup: / is not in a cgroup v2":               spawn.New("/bin/true").SetCgroup("/"),
		"SetCgroup: open /proc/self/status: not a dir":     spawn.New("/bin/true").SetCgroup("/proc/self/status"),
		"SetControllingTTY: the file is nil":               spawn.New("x").SetControllingTTY(nil),
		"SetControllingTTY: /dev/null is not a terminal":   spawn.New("/bin/true").SetControllingTTY(file),
		"SetIgnoredSignals: the signal 9 cannot":           spawn.New("x").SetIgnoredSignals(unix.SIGKILL),
		"SetIgnoredSignals: the signal 0 cannot":           spawn.New("x").SetIgnoredSignals(syscall.Signal(0)),
		"SetIgnoredSignals: <nil> is not":                  spawn.New("x").SetIgnoredSignals(unknown),
		"SetParentDeathSignal: 0 is not a signal":          spawn.New("x").SetParentDeathSignal(syscall.Signal(0)),
		"SetParentDeathSignal: signal 65 is not a signal":  spawn.New("x").SetParentDeathSignal(syscall.Signal(65)),
		"SetRunAmong: 0 is not a process":                  spawn.New("x").SetRunAmong(0),
		"SetRunAmong: the program is to run alone":         spawn.New("x").SetRunAlone().SetRunAmong(1),
		"SetRunAlone: the program is to run among those":   spawn.New("x").SetRunAmong(1).SetRunAlone(),
		"SetNice: the nice value 20":                       spawn.New("x").SetNice(20),
		"SetNice: the nice value -21":                      spawn.New("x").SetNice(-21),
		"SetScheduler: the priority 0":                     spawn.New("x").SetScheduler(spawn.Scheduler{Policy: spawn.SchedFIFO}),
		"SetScheduler: the policy has no priorities":       spawn.New("x").SetScheduler(spawn.Scheduler{Policy: spawn.SchedBatch, Priority: 1}),
		"SetScheduler: 4 is not a policy":                  spawn.New("x").SetScheduler(spawn.Scheduler{Policy: 4}),
		"SetScheduler: runtime, deadline and period are":   spawn.New("x").SetScheduler(spawn.Scheduler{Runtime: 1}),
		"SetScheduler: want 1.024µs <= runtime <=":         spawn.New("x").SetScheduler(spawn.Scheduler{Policy: spawn.SchedDeadline, Runtime: 1000, Deadline: 2000}),
		"SetCPUAffinity: there is no processor":            spawn.New("x").SetCPUAffinity(),
		"SetCPUAffinity: -1 is not":                        spawn.New("x").SetCPUAffinity(-1),
		"SetCPUAffinity: this machine has no processor 60": spawn.New("/bin/true").SetCPUAffinity(0, 60000),
		"SetNUMAPolicy: 7 is not":                          spawn.New("x").SetNUMAPolicy(7),
		"SetNUMAPolicy: the policy 2 needs":                spawn.New("x").SetNUMAPolicy(spawn.NUMABind),
		"SetNUMAPolicy: the policy 4 takes no":             spawn.New("x").SetNUMAPolicy(spawn.NUMALocal, 0),
		"SetNUMAPolicy: the policy 1 takes one":            spawn.New("x").SetNUMAPolicy(spawn.NUMAPreferred, 0, 1),
		"SetNUMAPolicy: 1024 is not":                       spawn.New("x").SetNUMAPolicy(spawn.NUMABind, 1024),
		"SetIOPriority: 0 is not a class":                  spawn.New("x").SetIOPriority(0, 0),
		"SetIOPriority: the class 2 has no level 8":        spawn.New("x").SetIOPriority(spawn.IOPriorityBestEffort, 8),
		"SetIOPriority: the class 3 has no level 1":        spawn.New("x").SetIOPriority(spawn.IOPriorityIdle, 1),
		"SetTimerSlack: the slack 0s":                      spawn.New("x").SetTimerSlack(0),
	} {
		err := c.Run(context.Background())
		require.ErrorContains(t, err, want)
		var bad *spawn.CallError
		require.True(t, errors.As(err, &bad), "%v", err)
	}
	err = spawn.New("x").SetScheduler(spawn.Scheduler{Policy: spawn.SchedDeadline, Runtime: 2e6, Deadline: 1e6}).Run(context.Background())
	require.EqualError(t, err, "spawn: SetScheduler: want 1.024µs <= runtime <= deadline <= period, not 2ms, 1ms, 0s")
	err = spawn.New("x").SetCoredumpFilter(0x400).Run(context.Background())
	require.EqualError(t, err, "spawn: SetCoredumpFilter: unknown bits 0x400 (valid: 0x1ff)")
	require.NoError(t, file.Close())
	require.ErrorIs(t, spawn.New("/bin/true").SetControllingTTY(file).Run(context.Background()), os.ErrClosed)
}

// execAttributes tries to replace this process, which fails, and looks at what
// it is afterwards.
func execAttributes([]string) int {
	look := func() string {
		var b strings.Builder
		for _, name := range []string{"oom_score_adj", "coredump_filter", "personality"} {
			text, err := os.ReadFile("/proc/self/" + name)
			fmt.Fprintf(&b, "%s: %s %v\n", name, text, err)
		}
		// Its file is the main thread's, and for that thread alone, or
		// a privileged process.
		slack, err := unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0)
		fmt.Fprintln(&b, "timer slack:", slack, err)
		fmt.Fprintln(&b, plan.GetAction(unix.SIGHUP).Handler, plan.GetAction(unix.SIGURG).Handler)
		return b.String()
	}
	before := look()
	err := spawn.New("/nonexistent").SetOOMScoreAdj(900).SetCoredumpFilter(1).SetPersonality(spawn.PersonalityLinux32).SetTimerSlack(1).
		SetIgnoredSignals(unix.SIGHUP, unix.SIGURG).SetNice(19).SetParentDeathSignal(unix.SIGTERM).Exec()
	if !errors.Is(err, unix.ENOENT) {
		return testkit.Fail(fmt.Errorf("Exec: %v", err))
	}
	if after := look(); after != before {
		return testkit.Fail(fmt.Errorf("before:\n%safter:\n%s", before, after))
	}
	c := spawn.New("/bin/cat", "/proc/self/oom_score_adj", "/proc/self/status").InheritStdio()
	return endHelper(c.SetOOMScoreAdj(900).SetIgnoredSignals(unix.SIGHUP).Exec())
}

func TestAttributesOfAProgramThatReplacesThisProcess(t *testing.T) {
	testkit.CheckLeaks(t)
	t.Setenv("GORACE", "atexit_sleep_ms=0")
	out, err := testkit.HelperCommand(t, "exec-attributes").CombinedOutput(context.Background())
	require.NoError(t, err, "%s", out)
	require.True(t, strings.HasPrefix(string(out), "900\n"), "%s", out)
	require.Equal(t, "0000000000000001", testkit.ParseStatus(out)["SigIgn"])
	// Refused before anything is looked up.
	require.ErrorContains(t, spawn.New("/bin/true").SetCgroup("/").Exec(), "Exec: a cgroup is for a child")
}

// While children with other credentials share the memory the parent is not
// dumpable, and then files in /proc of children are root's. That must not be in
// the way of those that write there, or whose maps the parent writes.
func TestManyAttributesAtOnceFromManyGoroutines(t *testing.T) {
	testkit.CheckLeaks(t)
	own := testkit.ReadFile(t, "/proc/self/oom_score_adj") + testkit.ReadFile(t, "/proc/self/coredump_filter")
	commands := []*spawn.Command{
		testkit.OtherIDs(spawn.New("/bin/true")).SetOOMScoreAdj(900).SetParentDeathSignal(unix.SIGKILL).SetNice(3),
		testkit.OtherIDs(spawn.New("/bin/true")),
		spawn.New("/bin/true").SetOOMScoreAdj(900),
		spawn.New("/bin/true").SetCoredumpFilter(1),
	}
	if testkit.HasUserNamespaces() {
		commands = append(commands, testkit.InUserNamespace(spawn.New("/bin/true")))
	}
	var wg sync.WaitGroup
	errs := make(chan error, 1000)
	for range testkit.Rounds(20, 4) {
		for _, c := range commands {
			wg.Add(2)
			go func() {
				defer wg.Done()
				if err := c.Run(context.Background()); err != nil {
					errs <- err
				}
			}()
			go func() {
				defer wg.Done()
				if err := c.Clone().SetWorkingDirectory("/none").Run(context.Background()); !errors.Is(err, unix.ENOENT) {
					errs <- fmt.Errorf("%v instead of ENOENT", err)
				}
			}()
		}
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		require.NoError(t, err)
	}
	require.Equal(t, own, testkit.ReadFile(t, "/proc/self/oom_score_adj")+testkit.ReadFile(t, "/proc/self/coredump_filter"))
	require.Equal(t, 1, testkit.DumpableFlag())
}

// endHelper ends a helper.
func endHelper(err error) int {
	if err != nil {
		return testkit.Fail(err)
	}
	return 0
}

func TestAProgramWithAndWithoutHugePages(t *testing.T) {
	testkit.CheckLeaks(t)
	before, err := unix.PrctlRetInt(unix.PR_GET_THP_DISABLE, 0, 0, 0, 0)
	require.NoError(t, err)
	for on, want := range map[bool]string{false: "1 <nil>", true: "0 <nil>"} {
		out, err := testkit.HelperCommand(t, "memory-flags").SetTransparentHugepages(on).Output(context.Background())
		require.NoError(t, err)
		require.Contains(t, string(out), " "+want+" ")
		after, err := unix.PrctlRetInt(unix.PR_GET_THP_DISABLE, 0, 0, 0, 0)
		require.NoError(t, err)
		require.Equal(t, before, after, "this process's own")
	}
}
