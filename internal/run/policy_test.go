//go:build linux

package run_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/virspawn/spawn"
	"github.com/virspawn/spawn/internal/descriptor"
	"github.com/virspawn/spawn/internal/plan"
	"github.com/virspawn/spawn/internal/run"
	"github.com/virspawn/spawn/internal/testkit"
	"golang.org/x/sys/unix"
)

func init() {
	testkit.Helpers["policy-signal"] = endWithoutPidfds
	testkit.Helpers["policy-open"] = startWithoutPidfds
	testkit.Helpers["policy-reused"] = reusePID
}

// What a policy refuses of what goes by a pidfd: a system call, and the flags
// of its first argument.
var refusals = map[string][]uint64{
	"pidfd_send_signal": {unix.SYS_PIDFD_SEND_SIGNAL, 0},
	"waitid(P_PIDFD)":   {unix.SYS_WAITID, 1 << 1}, // P_ALL is 0, and P_PID 1
	"both":              {unix.SYS_PIDFD_SEND_SIGNAL, 0, unix.SYS_WAITID, 1 << 1},
}

// deny makes these calls fail with this errno, given as text.
func deny(refused []uint64, errno string) error {
	n, err := strconv.ParseUint(errno, 10, 16)
	for ; len(refused) > 0 && err == nil; refused = refused[2:] {
		err = testkit.DenyFlags(refused[0], refused[1], n)
	}
	return err
}

// endWithoutPidfds ends programs where a policy refuses args[0] with the errno
// args[1], and says how they have ended.
func endWithoutPidfds(args []string) int {
	if err := deny(refusals[args[0]], args[1]); err != nil {
		return testkit.Fail(err)
	}
	descriptor.Low.Reserve() // once and for all
	warm := spawn.New("/bin/true").SetStdout(io.Discard).Run(context.Background())
	open := testkit.OpenNumbers()
	fmt.Println(warm, spawn.New("/bin/false").Run(context.Background()))
	for _, mode := range []spawn.KillMode{spawn.KillProcess, spawn.KillGroup} {
		ctx, cancel := context.WithCancel(context.Background())
		c := testkit.Shell("echo; exec /bin/sleep 1000").SetKillMode(mode).SetGracePeriod(time.Hour)
		err := c.RunRegex(ctx, testkit.AnyLine, func([]string) error { cancel(); return nil })
		var exit *spawn.ExitError
		fmt.Println(errors.As(err, &exit) && exit.Status.Signal == unix.SIGTERM, errors.Is(err, context.Canceled))
	}
	p, err := spawn.New("/bin/cat").PipeStdin().Start(context.Background())
	if err != nil {
		return testkit.Fail(err)
	}
	fmt.Println(p.Signal(syscall.Signal(0)), p.Stdin().Close(), p.Wait(), p.Signal(unix.SIGTERM) == os.ErrProcessDone)
	p, err = spawn.New("/bin/true").RequireHandshake().SetUID(os.Getuid()).SetGID(os.Getgid()).Start(context.Background())
	if err != nil {
		return testkit.Fail(err)
	}
	fmt.Println(p.HandshakeWait(context.Background()), p.HandshakeNotify(), p.Wait())
	fmt.Println("left:", testkit.LeftBehind(open, true))
	return 0
}

// As the profile of Docker 19.03 does.
func TestAPolicyThatRefusesPidfdsDoesNotKeepProgramsFromBeingEnded(t *testing.T) {
	for name := range refusals {
		for _, errno := range []unix.Errno{unix.EPERM, unix.ENOSYS} {
			t.Run(name+", "+unix.ErrnoName(errno), func(t *testing.T) {
				testkit.CheckLeaks(t)
				out, err := testkit.HelperCommand(t, "policy-signal", name, strconv.Itoa(int(errno))).CombinedOutput(context.Background())
				require.NoError(t, err, "%s", out)
				require.Equal(t, "<nil> spawn: /bin/false: exit status 1\ntrue true\ntrue true\n<nil> <nil> <nil> true\n<nil> <nil> <nil>\nleft: <nil>\n", string(out))
			})
		}
	}
}

// reusePID has another process have the pid of a child that other code has
// waited for, as far as the library can tell, and says what becomes of that
// one where a policy refuses pidfds.
func reusePID([]string) int {
	if err := deny(refusals["both"], strconv.Itoa(int(unix.EPERM))); err != nil {
		return testkit.Fail(err)
	}
	child, err := spawn.New("/bin/sleep", "1000").Start(context.Background())
	if err != nil {
		return testkit.Fail(err)
	}
	other := exec.Command("/bin/cat")
	alive, err := other.StdinPipe()
	if err == nil {
		err = other.Start()
	}
	if err != nil {
		return testkit.Fail(err)
	}
	p := testkit.Running(child)
	p.Mu.Lock()
	err = unix.Kill(p.PID, unix.SIGKILL)
	if err == nil {
		_, err = unix.Wait4(p.PID, nil, 0, nil)
	}
	run.ChildOf(p).SetPID(other.Process.Pid)
	fmt.Println(err, p.Target.Signal(unix.SIGKILL) == os.ErrProcessDone)
	err = alive.Close() // which ends it
	var info unix.Siginfo
	fmt.Println(err, unix.Waitid(unix.P_PID, other.Process.Pid, &info, unix.WEXITED|unix.WNOWAIT, nil))
	p.Mu.Unlock()
	fmt.Println(errors.Is(child.Wait(), unix.ECHILD), child.Signal(unix.SIGKILL) == os.ErrProcessDone)
	// It has not been signalled, nor waited for.
	fmt.Println(other.Wait())
	return 0
}

func TestAPolicyThatRefusesPidfdsLeavesAProcessAloneThatHasAChildsPid(t *testing.T) {
	testkit.CheckLeaks(t)
	out, err := testkit.HelperCommand(t, "policy-reused").CombinedOutput(context.Background())
	require.NoError(t, err, "%s", out)
	require.Equal(t, "<nil> true\n<nil> <nil>\ntrue true\n<nil>\n", string(out))
}

// startWithoutPidfds starts programs where a policy refuses pidfd_open, or,
// with args[1], pidfd_send_signal.
func startWithoutPidfds(args []string) int {
	refused := []uint64{unix.SYS_PIDFD_OPEN, 0}
	if args[1] != "" {
		refused = []uint64{unix.SYS_PIDFD_SEND_SIGNAL, 0}
	}
	if err := deny(refused, args[0]); err != nil {
		return testkit.Fail(err)
	}
	descriptor.Low.Reserve() // once and for all
	ctx := context.Background()
	warm := spawn.New("/bin/true").SetStdout(io.Discard).Run(ctx)
	open := testkit.OpenNumbers()
	fmt.Println(warm)
	for _, c := range []*spawn.Command{
		spawn.New("/bin/true").Daemonize(),
		spawn.New("/bin/true").SetKillMode(spawn.KillTree),
		spawn.New("/bin/true").SetParentDeathSignal(unix.SIGTERM).SetNamespaces(spawn.PIDNamespace),
	} {
		p, err := c.Start(ctx)
		if err == nil {
			err = p.Wait()
		}
		fmt.Println(err)
	}
	fmt.Println("left:", testkit.LeftBehind(open, true))
	if plan.CanClone() && !plan.HelperForced() {
		c := testkit.InUserNamespace(testkit.Shell("readlink /proc/self/ns/user"))
		out, err := c.Output(ctx)
		own, _ := os.Readlink("/proc/self/ns/user")
		fmt.Println(err, strings.TrimSpace(string(out)) != own)
		return 0
	}
	fmt.Println("<nil> true")
	return 0
}

func TestAPolicyThatRefusesToOpenPidfdsIsNamedByTheStart(t *testing.T) {
	testkit.NeedsRoot(t, "to make a pid namespace")
	testkit.NeedsUserNamespaces(t)
	for _, errno := range []unix.Errno{unix.EPERM, unix.ENOSYS} {
		t.Run(unix.ErrnoName(errno), func(t *testing.T) {
			testkit.CheckLeaks(t)
			out, err := testkit.HelperCommand(t, "policy-open", strconv.Itoa(int(errno)), "").CombinedOutput(context.Background())
			require.NoError(t, err, "%s", out)
			cannot := `spawn: cannot start "/bin/true": pidfd_open: ` + errno.Error() + "\n"
			lines := strings.SplitAfter(string(out), "\n")
			require.Equal(t, []string{"<nil>\n", cannot, cannot}, lines[:3])
			require.Regexp(t, `pidfd_open\(\d+, 0\): `+errno.Error(), lines[3])
			require.Equal(t, "left: <nil>\n<nil> true\n", strings.Join(lines[4:], ""))
		})
	}
	out, err := testkit.HelperCommand(t, "policy-open", strconv.Itoa(int(unix.EPERM)), "signals").CombinedOutput(context.Background())
	require.NoError(t, err, "%s", out)
	require.Equal(t, "<nil>\n<nil>\n"+`spawn: cannot start "/bin/true": pidfd_send_signal: operation not permitted`+"\n<nil>\nleft: <nil>\n<nil> true\n", string(out))
}
