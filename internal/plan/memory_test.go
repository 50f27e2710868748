//go:build linux

package plan_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/virspawn/spawn"
	"github.com/virspawn/spawn/internal/child"
	"github.com/virspawn/spawn/internal/plan"
	"github.com/virspawn/spawn/internal/stub"
	"github.com/virspawn/spawn/internal/testkit"
	"golang.org/x/sys/unix"
)

func init() {
	testkit.Helpers["memory-denied"] = runWithoutStub
	testkit.Helpers["memory-bounding"] = runWithoutBounding
	testkit.Helpers["memory-saved"] = runWithSavedIDs
	testkit.Helpers["memory-says"] = func([]string) int { fmt.Println("the program"); return 0 }
}

// commandsOfTheirOwn are commands whose children are not this process for
// everybody else.
func commandsOfTheirOwn() map[string]*spawn.Command {
	c := func() *spawn.Command { return spawn.New("/bin/true") }
	return map[string]*spawn.Command{
		"SetGroups":                 c().SetGroups(),
		"SetUID":                    c().SetUID(os.Getuid()).SetGID(os.Getgid()),
		"ClearCaps":                 c().ClearCaps(),
		"SetBoundingCaps":           c().SetBoundingCaps(),
		"SetSecurebits":             c().SetSecurebits(1),
		"SetSELinuxLabel":           c().SetSELinuxLabel("a:b:c").SetMACOptional(),
		"SetKeyring":                c().SetKeyring(spawn.KeyringPrivate),
		"SetNamespaces":             c().SetNamespaces(spawn.NetworkNamespace),
		"SetCgroup":                 c().SetCgroup("/nonexistent"),
		"KillTree":                  c().SetKillMode(spawn.KillTree),
		"SetChroot":                 c().SetChroot("/"),
		"RequireHandshake":          c().RequireHandshake(),
		"SetPidFile":                c().SetPidFile("x"),
		"AddListenFD":               c().AddListenFD(os.Stdin, "name"),
		"Daemonize":                 c().Daemonize(),
		"SetOOMScoreAdj":            c().SetOOMScoreAdj(0),
		"SetCoredumpFilter":         c().SetCoredumpFilter(0),
		"SetTransparentHugepages":   c().SetTransparentHugepages(false),
		"SetMemoryDenyWriteExecute": c().SetMemoryDenyWriteExecute(),
		"SetSeccompFilter":          c().SetSeccompFilter(testkit.FilterOf(unix.SYS_REBOOT, unix.SECCOMP_RET_ERRNO, 0)),
	}
}

func TestOnlyThePlainCommandSharesTheMemory(t *testing.T) {
	plain := spawn.New("/bin/true", "x").AddEnv("A", "b").SetInput([]byte("x")).PassFDAs(os.Stdin, 5).SetWorkingDirectory("/").SetUmask(0).
		SetMaxFiles(10).SetSession().SetProcessGroup().SetKillMode(spawn.KillGroup).SetNice(1).SetNoNewPrivs().SetIgnoredSignals(unix.SIGPIPE).
		SetLandlock(spawn.Landlock{BestEffort: true}).SetParentDeathSignal(unix.SIGTERM).SetPersonality(0)
	require.Equal(t, !plan.CoreDumpEndsAll(), plan.SharesMemory(testkit.Wanted(plain)))
	for name, c := range commandsOfTheirOwn() {
		require.False(t, plan.SharesMemory(testkit.Wanted(c)), name)
	}
}

// TestExplainShowsTheWayOfAChild, and what is in front of the stub is about
// descriptors only.
func TestExplainShowsTheWayOfAChild(t *testing.T) {
	testkit.NeedsClone(t)
	const enter = `, "", ["spawn-stub"], [], AT_EMPTY_PATH)`
	for name, c := range commandsOfTheirOwn() {
		if name == "SetCgroup" || name == "SetPidFile" || strings.HasSuffix(name, "Label") || strings.HasSuffix(name, "Profile") {
			// it is not there, or where a security module runs not known
			continue
		}
		text, err := c.Explain()
		require.NoError(t, err, name)
		before, after, ok := strings.Cut(text, enter)
		require.True(t, ok, "%s: %s", name, text)
		for _, call := range testkit.CallNames(before) {
			require.Contains(t, []string{"close_range", "dup3", "openat", "fcntl", "execveat"}, call, name)
		}
		require.Contains(t, after, "\nprctl(PR_SET_DUMPABLE, 0)\n", name)
		require.NotContains(t, text, "CLONE_VFORK", name)
	}
	text, err := spawn.New("/bin/true").SetNoNewPrivs().Explain()
	require.NoError(t, err)
	require.Equal(t, plan.CoreDumpEndsAll(), strings.Contains(text, enter))
}

// TestWithoutAStubACopyDoesTheSame: where a policy refuses to execute a memfd,
// or to make one.
func TestWithoutAStubACopyDoesTheSame(t *testing.T) {
	testkit.NeedsClone(t)
	if plan.HelperForced() {
		t.Skip("a helper gets its program in a memfd")
	}
	testkit.CheckLeaks(t)
	for _, call := range []uint32{unix.SYS_EXECVEAT, unix.SYS_MEMFD_CREATE} {
		for _, errno := range []syscall.Errno{unix.EPERM, unix.EACCES, unix.ENOSYS} {
			out, err := testkit.HelperCommand(t, "memory-denied", fmt.Sprint(call), fmt.Sprint(int(errno))).CombinedOutput(context.Background())
			require.NoError(t, err, "%s", out)
			require.Equal(t, "good", string(out))
		}
	}
}

// memfdNoexec says whether a memfd can be executed. It is the pid namespace's.
const memfdNoexec = "/proc/sys/vm/memfd_noexec"

func TestWithoutAStubACopyDoesTheSameByTheSettingOfTheKernel(t *testing.T) {
	testkit.NeedsClone(t)
	testkit.NeedsRoot(t, "to set vm.memfd_noexec")
	if plan.HelperForced() {
		t.Skip("a helper is no stub")
	}
	if _, err := os.Stat(memfdNoexec); err != nil {
		t.Skip("needs Linux 6.3: ", err)
	}
	testkit.CheckLeaks(t)
	c := testkit.HelperCommand(t, "memory-denied", fmt.Sprint(unix.SYS_MEMFD_CREATE), "0").SetNamespaces(spawn.PIDNamespace, spawn.MountNamespace)
	out, err := c.CombinedOutput(context.Background())
	require.NoError(t, err, "%s", out)
	require.Equal(t, "good", string(out))
}

func TestWithoutAStubACopyDoesTheSameByASecurityModule(t *testing.T) {
	testkit.NeedsClone(t)
	if plan.HelperForced() {
		t.Skip("a helper is no stub")
	}
	c := testkit.HelperCommand(t, "memory-denied", fmt.Sprint(unix.SYS_EXECVEAT), "-1")
	if _, err := os.Stat("/sys/fs/selinux/enforce"); err == nil {
		testkit.NeedsLSM(t, "selinux")
		c.SetSELinuxLabel("system_u:system_r:nomemfd_t")
	} else {
		testkit.NeedsLSM(t, "apparmor")
		c.SetAppArmorProfile("spawn-no-memfd")
	}
	testkit.CheckLeaks(t)
	out, err := c.CombinedOutput(context.Background())
	require.NoError(t, err, "%s", out)
	require.Equal(t, "good", string(out))
}

// executesMemfd reports whether a memfd can be executed here.
func executesMemfd() (bool, error) {
	fd, err := stub.New()
	if err != nil {
		return false, nil
	}
	defer unix.Close(fd)
	if err := stub.Write(fd, child.Code(stub.Data), func(b []byte) []byte { return append(b, child.Frame(0, 0, 0)...) }); err != nil {
		return false, err
	}
	p, err := os.StartProcess(fmt.Sprintf("/proc/self/fd/%d", fd), []string{"stub"}, new(os.ProcAttr))
	if err != nil {
		return false, nil
	}
	_, err = p.Wait()
	return true, err
}

// runWithoutStub runs programs where a system call fails with an error, or, if
// that is 0, by the kernel's setting, or, if it is -1, by a security module.
func runWithoutStub(args []string) int {
	var call uint32
	var errno int
	_, err := fmt.Sscan(strings.Join(args, " "), &call, &errno)
	switch {
	case err == nil && errno < 0:
		if can, canErr := executesMemfd(); can || canErr != nil {
			err = fmt.Errorf("a memfd can be executed, or: %w", canErr)
		}
	case err == nil && errno == 0:
		err = errors.Join(unix.Mount("proc", "/proc", "proc", 0, ""), os.WriteFile(memfdNoexec, []byte("2"), 0))
	case err == nil:
		err = testkit.Deny(uint64(call), uint64(errno))
	}
	if err != nil {
		return testkit.Fail(err)
	}
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		return testkit.Fail(err)
	}
	defer os.RemoveAll(dir)
	for range 3 { // what is refused once is tried again
		got, err := testkit.StatusOf(testkit.OtherIDs(testkit.CatStatus()).SetOOMScoreAdj(500))
		if err != nil {
			return testkit.Fail(err)
		}
		if os.Getuid() == 0 && strings.Fields(got["Uid"])[0] != fmt.Sprint(testkit.Nobody) {
			return testkit.Fail(fmt.Errorf("uid %s", got["Uid"]))
		}
	}
	p, err := spawn.New("/bin/true").RequireHandshake().SetPidFile(dir + "/pid").SetKillMode(spawn.KillTree).Start(ctx)
	if err == nil {
		err = errors.Join(p.HandshakeWait(ctx), p.HandshakeNotify(), p.Wait())
	}
	if err != nil {
		return testkit.Fail(err)
	}
	daemon, err := spawn.New("/bin/sleep", "1000").Daemonize().Start(ctx)
	if err == nil {
		err = errors.Join(daemon.Abort())
		<-daemon.Done()
	}
	if err != nil {
		return testkit.Fail(err)
	}
	// What fails for a reason of its own says so.
	err = testkit.OtherIDs(spawn.New("/bin/true")).SetWorkingDirectory("/nonexistent").Run(ctx)
	var start *spawn.StartError
	if !errors.As(err, &start) || start.Op != `chdir("/nonexistent")` || !errors.Is(err, unix.ENOENT) {
		return testkit.Fail(fmt.Errorf("instead of chdir: %v", err))
	}
	text, err := spawn.New("/bin/true").ClearCaps().Explain()
	if err != nil {
		return testkit.Fail(err)
	}
	if call == unix.SYS_MEMFD_CREATE && (strings.Contains(text, "execveat") || os.Getuid() == 0 && !strings.HasPrefix(text, "prctl(PR_SET_DUMPABLE, 0)\n")) {
		return testkit.Fail(fmt.Errorf("explained: %s", text))
	}
	fmt.Print("good")
	return 0
}

// TestTheExecutableOfThisProcessIsMeant by its path in /proc: a stub has
// another one.
func TestTheExecutableOfThisProcessIsMeant(t *testing.T) {
	testkit.CheckLeaks(t)
	for _, path := range []string{"/proc/self/exe", "/proc/thread-self/exe"} {
		for name, c := range map[string]*spawn.Command{
			"plain":     spawn.New(path, testkit.HelperPrefix+"memory-says"),
			"of a stub": spawn.New(path, testkit.HelperPrefix+"memory-says").SetUID(os.Getuid()).SetGID(os.Getgid()),
			"handshake": spawn.New(path, testkit.HelperPrefix+"memory-says").RequireHandshake(),
		} {
			p, err := c.PipeStdout().Start(context.Background())
			require.NoError(t, err, name)
			if testkit.Wanted(c).Handshake {
				require.NoError(t, p.HandshakeNotify())
			}
			require.Equal(t, "the program", testkit.ReadLine(t, p.Stdout()), "%s, %s", name, path)
			require.NoError(t, p.Wait())
			require.NoError(t, p.Stdout().Close())
		}
	}
}

// TestWhatAStubWouldTakeFromAThreadStays: execve takes a capability that is not
// in the bounding set, and the saved ids.
func TestWhatAStubWouldTakeFromAThreadStays(t *testing.T) {
	testkit.NeedsClone(t)
	testkit.NeedsRoot(t, "to have something that is taken")
	if plan.HelperForced() {
		t.Skip("a helper is executed too, and loses them")
	}
	testkit.CheckLeaks(t)
	for _, helper := range []string{"memory-bounding", "memory-saved"} {
		require.Equal(t, "good", testkit.OutputOf(t, testkit.HelperCommand(t, helper)), helper)
	}
}

func runWithoutBounding([]string) int {
	runtime.LockOSThread()
	err := unix.Prctl(unix.PR_CAPBSET_DROP, unix.CAP_SETUID, 0, 0, 0)
	return saysWhoItIs(err, testkit.CatStatus().SetUID(testkit.Nobody).SetGID(testkit.Nobody), testkit.Nobody)
}

func runWithSavedIDs([]string) int {
	runtime.LockOSThread() // the ids are this thread's
	_, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, testkit.Nobody, testkit.Nobody, 0)
	var err error
	if errno != 0 {
		err = errno
	}
	return saysWhoItIs(err, testkit.CatStatus().SetUID(0).SetGID(0).KeepGroups(), 0)
}

// saysWhoItIs runs a command that is to run as a user.
func saysWhoItIs(err error, c *spawn.Command, uid int) int {
	if err != nil {
		return testkit.Fail(err)
	}
	got, err := testkit.StatusOf(c)
	if err == nil && strings.Fields(got["Uid"])[0] != fmt.Sprint(uid) {
		err = fmt.Errorf("uid %s", got["Uid"])
	}
	if err != nil {
		return testkit.Fail(err)
	}
	fmt.Print("good")
	return 0
}
