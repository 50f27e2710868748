//go:build linux

package plan_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/virspawn/spawn"
	"github.com/virspawn/spawn/internal/plan"
	"github.com/virspawn/spawn/internal/testkit"
	"golang.org/x/sys/unix"
)

func TestSetNoNewPrivsSetsTheFlag(t *testing.T) {
	fields, err := testkit.StatusOf(testkit.CatStatus().SetNoNewPrivs())
	require.NoError(t, err)
	require.Equal(t, "1", strings.TrimSpace(fields["NoNewPrivs"]))
	fields, err = testkit.StatusOf(testkit.CatStatus())
	require.NoError(t, err)
	require.Equal(t, "0", strings.TrimSpace(fields["NoNewPrivs"]))
}

func TestTheFilterConfinesTheProgram(t *testing.T) {
	t.Setenv("GORACE", "atexit_sleep_ms=0")
	filter := testkit.FilterOf(unix.SYS_MKDIRAT, unix.SECCOMP_RET_ERRNO|uint32(unix.EXDEV), 50)
	require.Len(t, filter, 50)
	c := testkit.HelperCommand(t, "mkdirat", t.TempDir())
	out, err := c.Clone().SetSeccompFilter(filter).Output(context.Background())
	require.NoError(t, err)
	require.Equal(t, unix.EXDEV.Error(), string(out))
	fields, err := testkit.StatusOf(testkit.CatStatus().SetSeccompFilter(filter))
	require.NoError(t, err)
	require.Equal(t, "2", strings.TrimSpace(fields["Seccomp"]))
	require.Equal(t, "1", strings.TrimSpace(fields["NoNewPrivs"]))
	out, err = c.Output(context.Background())
	require.NoError(t, err)
	require.Equal(t, "made", string(out))
}

func TestAFilterThatKillsInExecveEndsTheChildOnly(t *testing.T) {
	require.Equal(t, 1, testkit.DumpableFlag())
	filter := testkit.FilterOf(unix.SYS_EXECVE, unix.SECCOMP_RET_KILL_PROCESS, 0)
	var limit unix.Rlimit
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_CORE, &limit))
	// The program would dump core.
	c := spawn.New("/bin/true").SetSeccompFilter(filter).SetRlimit(unix.RLIMIT_CORE, limit.Max, limit.Max)
	for range 20 {
		status, err := c.SetWorkingDirectory(t.TempDir()).RunStatus(context.Background())
		require.NoError(t, err)
		require.Equal(t, syscall.SIGSYS, status.Signal)
		require.False(t, status.CoreDumped, "it would have been this process's core")
		require.Equal(t, 1, testkit.DumpableFlag())
	}
}

// A program that lasts is waited for in another way, which gives back the
// memory of its start too.
func TestALongProgramUnderAFilterLeavesNothing(t *testing.T) {
	testkit.CheckLeaks(t)
	c := spawn.New("/bin/sleep", "0.3").SetSeccompFilter(testkit.FilterOf(unix.SYS_REBOOT, unix.SECCOMP_RET_ERRNO, 1))
	require.NoError(t, c.Run(context.Background()))
}

func TestBadFiltersAreErrors(t *testing.T) {
	testkit.CheckLeaks(t)
	var bad *spawn.CallError
	for _, n := range []int{0, 4097} {
		err := spawn.New("/bin/true").SetSeccompFilter(make([]unix.SockFilter, n)).Run(context.Background())
		require.True(t, errors.As(err, &bad), "%v", err)
		require.EqualError(t, err, fmt.Sprintf("spawn: SetSeccompFilter: %d instructions; want 1 to 4096", n))
	}
	var start *spawn.StartError
	err := spawn.New("/bin/true").SetSeccompFilter([]unix.SockFilter{{Code: 0xffff}}).Run(context.Background())
	require.ErrorAs(t, err, &start)
	require.ErrorIs(t, err, unix.EINVAL)
	require.True(t, strings.HasPrefix(start.Op, "seccomp(SECCOMP_SET_MODE_FILTER, 0, {len=1, filter="), start.Op)
	require.Equal(t, 1, testkit.DumpableFlag())
}

func TestTheLongestFilterIsTaken(t *testing.T) {
	require.NoError(t, spawn.New("/bin/true").SetSeccompFilter(testkit.FilterOf(unix.SYS_REBOOT, unix.SECCOMP_RET_ERRNO, 4096)).Run(context.Background()))
}

// A setuid-root file gives an ordinary user root by os/exec, and not by spawn
// with no_new_privs.
func TestASetuidFileGivesNothingUnderNoNewPrivs(t *testing.T) {
	testkit.NeedsRoot(t, "to make a setuid file")
	t.Setenv("GORACE", "atexit_sleep_ms=0")
	program := testkit.CopySelf(t)
	require.NoError(t, unix.Chmod(program, 0o4755))
	theirs := exec.Command(program, testkit.HelperPrefix+"euid")
	theirs.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: testkit.Nobody, Gid: testkit.Nobody}}
	dumpable := testkit.DumpableFlag()
	out, err := theirs.Output()
	require.NoError(t, err)
	require.Equal(t, "0", string(out))
	testkit.SetDumpableFlag(uintptr(dumpable)) // which os/exec has cleared
	ours := spawn.New(program, testkit.HelperPrefix+"euid").SetUID(testkit.Nobody).SetGID(testkit.Nobody)
	out, err = ours.Clone().SetNoNewPrivs().Output(context.Background())
	require.NoError(t, err)
	require.Equal(t, "65534", string(out))

	// Without it, an empty bounding set leaves root nothing.
	out, err = spawn.New(program, testkit.HelperPrefix+"caps").SetUID(testkit.Nobody).SetGID(testkit.Nobody).ClearCaps().Output(context.Background())
	require.NoError(t, err)
	require.Equal(t, "0: 0", string(out))
}

func init() {
	testkit.Helpers["euid"] = func([]string) int {
		_, _ = os.Stdout.WriteString(strconv.Itoa(os.Geteuid()))
		return 0
	}
	testkit.Helpers["caps"] = func([]string) int {
		permitted, _ := plan.OwnCaps()
		fmt.Printf("%d: %x", os.Geteuid(), permitted)
		return 0
	}
	testkit.Helpers["mkdirat"] = func(args []string) int {
		if err := unix.Mkdirat(unix.AT_FDCWD, args[0]+"/new", 0o700); err != nil {
			fmt.Print(err)
			return 0
		}
		fmt.Print("made")
		return 0
	}
}

// memoryFlags prints what the kernel keeps of this process's memory:
// PR_GET_MDWE, PR_GET_THP_DISABLE, and whether memory can be had that is
// written and executed.
func memoryFlags([]string) int {
	mdwe, err := unix.PrctlRetInt(unix.PR_GET_MDWE, 0, 0, 0, 0)
	noHugepages, thpErr := unix.PrctlRetInt(unix.PR_GET_THP_DISABLE, 0, 0, 0, 0)
	b, mapErr := unix.Mmap(-1, 0, 1, unix.PROT_READ|unix.PROT_WRITE|unix.PROT_EXEC, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if mapErr == nil {
		_ = unix.Munmap(b)
	}
	fmt.Println(mdwe, err, noHugepages, thpErr, mapErr)
	return 0
}

func init() { testkit.Helpers["memory-flags"] = memoryFlags }

// needsMDWE skips a test before Linux 6.3.
func needsMDWE(t testing.TB) {
	_, err := unix.PrctlRetInt(unix.PR_GET_MDWE, 0, 0, 0, 0)
	testkit.Needs(t, "PR_SET_MDWE of Linux 6.3", err, unix.EINVAL)
}

func TestAProgramWithoutMemoryToWriteAndExecute(t *testing.T) {
	needsMDWE(t)
	testkit.CheckLeaks(t)
	for name, how := range map[string]plan.Executor{
		"direct": plan.Automatic, "by a helper": plan.ChildAndHelper, "by a forked helper": plan.ForkedHelper,
	} {
		t.Run(name, func(t *testing.T) {
			if how == plan.ChildAndHelper {
				testkit.NeedsClone(t)
			}
			c := testkit.HelperCommand(t, "memory-flags").SetMemoryDenyWriteExecute()
			out, err := testkit.By(c, how).Output(context.Background())
			require.NoError(t, err)
			require.Equal(t, "1 <nil> 0 <nil> permission denied\n", string(out))
		})
	}
	// This process has not got it, nor the next one.
	mdwe, err := unix.PrctlRetInt(unix.PR_GET_MDWE, 0, 0, 0, 0)
	require.NoError(t, err)
	require.Zero(t, mdwe)
	out, err := testkit.HelperCommand(t, "memory-flags").Output(context.Background())
	require.NoError(t, err)
	require.Equal(t, "0 <nil> 0 <nil> <nil>\n", string(out))
}

func TestAKernelWithoutMemoryProtectionFailsTheStart(t *testing.T) {
	if _, err := unix.PrctlRetInt(unix.PR_GET_MDWE, 0, 0, 0, 0); err == nil {
		t.Skip("needs a kernel before Linux 6.3")
	}
	err := spawn.New("/bin/true").SetMemoryDenyWriteExecute().Run(context.Background())
	require.ErrorIs(t, err, unix.EINVAL)
	require.ErrorContains(t, err, "prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN)")
}
