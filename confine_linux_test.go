package spawn

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// nativeArch is how a filter sees the calls of this architecture.
var nativeArch = map[string]uint32{
	"386":     unix.AUDIT_ARCH_I386,
	"amd64":   unix.AUDIT_ARCH_X86_64,
	"arm":     unix.AUDIT_ARCH_ARM,
	"arm64":   unix.AUDIT_ARCH_AARCH64,
	"riscv64": unix.AUDIT_ARCH_RISCV64,
}[runtime.GOARCH]

// onlyNative starts a filter that is about the numbers that calls have on this architecture. Programs of another one, as those of a 64-bit
// system are for a 32-bit test, may make any call.
func onlyNative() []unix.SockFilter {
	const offset = 4
	return []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: nativeArch, Jt: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
}

// filterOf returns a filter of n instructions that answers the system call nr with action, and allows the rest.
func filterOf(nr, action uint32, n int) []unix.SockFilter {
	const loadWord, jumpEqual, ret = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, unix.BPF_RET | unix.BPF_K
	f := onlyNative()
	for len(f) < n-4 {
		f = append(f, unix.SockFilter{Code: loadWord})
	}
	return append(f, unix.SockFilter{Code: loadWord},
		unix.SockFilter{Code: jumpEqual, K: nr, Jf: 1},
		unix.SockFilter{Code: ret, K: action},
		unix.SockFilter{Code: ret, K: unix.SECCOMP_RET_ALLOW})
}

func TestSetNoNewPrivsSetsTheFlag(t *testing.T) {
	fields, err := status(catStatus().SetNoNewPrivs())
	require.NoError(t, err)
	require.Equal(t, "1", strings.TrimSpace(fields["NoNewPrivs"]))
	fields, err = status(catStatus())
	require.NoError(t, err)
	require.Equal(t, "0", strings.TrimSpace(fields["NoNewPrivs"]))
}

func TestTheFilterConfinesTheProgram(t *testing.T) {
	t.Setenv("GORACE", "atexit_sleep_ms=0")
	filter := filterOf(unix.SYS_MKDIRAT, unix.SECCOMP_RET_ERRNO|uint32(unix.EXDEV), 50)
	require.Len(t, filter, 50)
	c := helperCommand(t, "mkdirat", t.TempDir())
	out, err := c.Clone().SetSeccompFilter(filter).Output(context.Background())
	require.NoError(t, err)
	require.Equal(t, unix.EXDEV.Error(), string(out))
	fields, err := status(catStatus().SetSeccompFilter(filter))
	require.NoError(t, err)
	require.Equal(t, "2", strings.TrimSpace(fields["Seccomp"]))
	require.Equal(t, "1", strings.TrimSpace(fields["NoNewPrivs"]))
	out, err = c.Output(context.Background())
	require.NoError(t, err)
	require.Equal(t, "made", string(out))
}

func TestAFilterThatKillsInExecveEndsTheChildOnly(t *testing.T) {
	require.Equal(t, 1, getDumpable())
	filter := filterOf(unix.SYS_EXECVE, unix.SECCOMP_RET_KILL_PROCESS, 0)
	var limit unix.Rlimit
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_CORE, &limit))
	c := New("/bin/true").SetSeccompFilter(filter).SetRlimit(unix.RLIMIT_CORE, limit.Max, limit.Max) // would dump core
	for range 20 {
		status, err := c.SetWorkingDirectory(t.TempDir()).RunStatus(context.Background())
		require.NoError(t, err)
		require.Equal(t, syscall.SIGSYS, status.Signal)
		require.Equal(t, 1, getDumpable())
	}
}

func TestBadFiltersAreErrors(t *testing.T) {
	checkLeaks(t)
	var bad *badCall
	for _, n := range []int{0, 4097} {
		err := New("/bin/true").SetSeccompFilter(make([]unix.SockFilter, n)).Run(context.Background())
		require.True(t, errors.As(err, &bad), "%v", err)
		require.ErrorContains(t, err, "SetSeccompFilter: ")
	}
	var start *StartError
	err := New("/bin/true").SetSeccompFilter([]unix.SockFilter{{Code: 0xffff}}).Run(context.Background())
	require.ErrorAs(t, err, &start)
	require.ErrorIs(t, err, unix.EINVAL)
	require.True(t, strings.HasPrefix(start.Op, "seccomp(SECCOMP_SET_MODE_FILTER, 0, {len=1, filter="), start.Op)
	require.Equal(t, 1, getDumpable())
}

func TestTheLongestFilterIsTaken(t *testing.T) {
	require.NoError(t, New("/bin/true").SetSeccompFilter(filterOf(unix.SYS_REBOOT, unix.SECCOMP_RET_ERRNO, maxFilter)).Run(context.Background()))
}

// A setuid-root file gives an ordinary user root by os/exec, and not by spawn with no_new_privs.
func TestASetuidFileGivesNothingUnderNoNewPrivs(t *testing.T) {
	needRoot(t, "to make a setuid file")
	t.Setenv("GORACE", "atexit_sleep_ms=0")
	program := copySelf(t)
	require.NoError(t, unix.Chmod(program, 0o4755))
	theirs := exec.Command(program, helperPrefix+"euid")
	theirs.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	dumpable := getDumpable()
	out, err := theirs.Output()
	require.NoError(t, err)
	require.Equal(t, "0", string(out))
	setDumpable(uintptr(dumpable)) // which os/exec has cleared
	ours := New(program, helperPrefix+"euid").SetUID(nobody).SetGID(nobody)
	out, err = ours.Clone().SetNoNewPrivs().Output(context.Background())
	require.NoError(t, err)
	require.Equal(t, "65534", string(out))

	// Without it, an empty bounding set leaves root nothing.
	out, err = New(program, helperPrefix+"caps").SetUID(nobody).SetGID(nobody).ClearCaps().Output(context.Background())
	require.NoError(t, err)
	require.Equal(t, "0: 0", string(out))
}

func init() {
	helpers["euid"] = func([]string) int {
		_, _ = os.Stdout.WriteString(strconv.Itoa(os.Geteuid()))
		return 0
	}
	helpers["caps"] = func([]string) int {
		permitted, _ := ownCaps()
		fmt.Printf("%d: %x", os.Geteuid(), permitted)
		return 0
	}
	helpers["mkdirat"] = func(args []string) int {
		if err := unix.Mkdirat(unix.AT_FDCWD, args[0]+"/new", 0o700); err != nil {
			fmt.Print(err)
			return 0
		}
		fmt.Print("made")
		return 0
	}
}
