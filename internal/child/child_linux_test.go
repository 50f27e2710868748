//go:build amd64 || arm64

package child

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"
	"github.com/virspawn/spawn/internal/program"
	"golang.org/x/sys/unix"
)

// helpers are run in a process of their own, this test binary with an argument
// that names one: they change what cannot be changed back.
var helpers = map[string]func(args []string) error{
	"refused-clone3": refusedClone3,
	"refused-clones": refusedClones,
	"no-processes":   noProcesses,
}

const helperPrefix = "helper:"

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && strings.HasPrefix(os.Args[1], helperPrefix) {
		if err := helpers[strings.TrimPrefix(os.Args[1], helperPrefix)](os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func runHelper(t *testing.T, name string, args ...string) {
	t.Helper()
	require.Contains(t, helpers, name)
	cmd := exec.Command(os.Args[0], append([]string{helperPrefix + name}, args...)...)
	cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%.2000s", out)
}

func newProgram(t testing.TB) *program.Program {
	p, err := program.New(0)
	require.NoError(t, err)
	return p
}

// finish starts p, waits for the child's end, and returns it with the failure
// that is reported in memory, if any. The program is not freed.
func finish(t testing.TB, p *program.Program) (unix.WaitStatus, *program.Failure) {
	t.Helper()
	c, err := Start(p, Options{})
	if err != nil {
		require.NoError(t, err)
	}
	return end(t, p, c)
}

// end waits for the end of a child.
func end(t testing.TB, p *program.Program, c Child) (unix.WaitStatus, *program.Failure) {
	t.Helper()
	status := wait(t, c)
	require.True(t, c.LeftMemory(), "it has ended")
	if f, failed := p.Failed(); failed {
		return status, &f
	}
	return status, nil
}

func wait(t testing.TB, c Child) unix.WaitStatus {
	t.Helper()
	require.NoError(t, unix.Close(c.PIDFD))
	var status unix.WaitStatus
	for {
		_, err := unix.Wait4(c.PID, &status, unix.WALL, nil)
		if err != unix.EINTR {
			require.NoError(t, err)
			return status
		}
	}
}

func requireNoChild(t testing.TB) {
	t.Helper()
	require.NoError(t, childLeft())
}

func childLeft() error {
	var info unix.Siginfo
	if err := unix.Waitid(unix.P_ALL, 0, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT|unix.WALL, nil); err != unix.ECHILD {
		return fmt.Errorf("a child is left: %v", err)
	}
	return nil
}

// eventually waits until ok reports true. What it waits for happens without an
// event that a test could wait for.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
		runtime.Gosched()
	}
}

// procStatus returns a field of /proc/PID/status.
func procStatus(t testing.TB, pid int, field string) string {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	require.NoError(t, err)
	for _, line := range strings.Split(string(b), "\n") {
		if value, ok := strings.CutPrefix(line, field+":"); ok {
			return strings.TrimSpace(value)
		}
	}
	t.Fatalf("/proc/%d/status has no %s", pid, field)
	return ""
}

// procState returns the letter of the process's state: S while it waits in
// a call.
func procState(t testing.TB, pid int) string {
	return procStatus(t, pid, "State")[:1]
}

func pipe(t testing.TB) (r, w int) {
	var fds [2]int
	require.NoError(t, unix.Pipe2(fds[:], unix.O_CLOEXEC))
	t.Cleanup(func() {
		for _, fd := range fds {
			_ = unix.Close(fd) // perhaps closed already
		}
	})
	return fds[0], fds[1]
}

// addExit ends the child with a status that tells that it got there.
func addExit(p *program.Program, code uintptr) { p.Add(unix.SYS_EXIT_GROUP, code) }

// addGate makes the child wait until a byte is written to the pipe. A place to
// read it to is in the program.
func addGate(p *program.Program, r int) int {
	return p.Add(unix.SYS_READ, uintptr(r), p.Alloc(1), 1)
}

func openGate(t testing.TB, w int) {
	t.Helper()
	_, err := unix.Write(w, []byte{1})
	require.NoError(t, err)
}

// addOwnTable gives the child a table of descriptors of its own, as every
// program does first.
func addOwnTable(p *program.Program) {
	p.Add(unix.SYS_CLOSE_RANGE, math.MaxUint32, math.MaxUint32, unix.CLOSE_RANGE_UNSHARE)
}

// addExec ends the program with an execve.
func addExec(p *program.Program, path string, args ...string) int {
	argv := p.Pointers(1 + len(args))
	p.SetPointer(argv, 0, p.CString(path))
	for i, a := range args {
		p.SetPointer(argv, 1+i, p.CString(a))
	}
	return p.Add(unix.SYS_EXECVE, p.CString(path), argv, p.Pointers(0))
}

const badFD = ^uintptr(0)

func TestCallsAreMadeOneAfterTheOther(t *testing.T) {
	r, w := pipe(t)
	p := newProgram(t)
	defer p.Free()
	for _, s := range []string{"one ", "two ", "three"} {
		p.Add(unix.SYS_WRITE, uintptr(w), p.CString(s), uintptr(len(s)))
	}
	addExit(p, 9)
	status, failure := finish(t, p)
	require.Nil(t, failure)
	require.Equal(t, 9, status.ExitStatus())
	require.NoError(t, unix.Close(w))
	out, err := io.ReadAll(fdReader(r))
	require.NoError(t, err)
	require.Equal(t, "one two three", string(out))
	requireNoChild(t)
}

func TestAllSixArgumentsReachTheKernel(t *testing.T) {
	f, err := os.CreateTemp(t.TempDir(), "")
	require.NoError(t, err)
	defer f.Close()
	page := os.Getpagesize()
	require.NoError(t, f.Truncate(int64(2*page)))
	_, err = f.WriteAt([]byte("mapped"), int64(page))
	require.NoError(t, err)

	// The memory is shared, so what the child maps is mapped here.
	p := newProgram(t)
	defer p.Free()
	mapping := p.Add(unix.SYS_MMAP, 0, uintptr(page), unix.PROT_READ, unix.MAP_SHARED, f.Fd(), uintptr(page))
	p.Link(mapping, p.Add(unix.SYS_WRITE, f.Fd(), 0, 6), 1) // at the offset 0
	addExit(p, 0)
	status, failure := finish(t, p)
	require.Nil(t, failure)
	require.Zero(t, status.ExitStatus())
	got := make([]byte, 6)
	_, err = f.ReadAt(got, 0)
	require.NoError(t, err)
	require.Equal(t, "mapped", string(got))
}

func TestAFailureEndsTheChildAndIsReportedInMemory(t *testing.T) {
	p := newProgram(t)
	defer p.Free()
	p.Add(unix.SYS_GETPPID)
	p.Add(unix.SYS_CHDIR, p.CString("/nonexistent"))
	addExit(p, 0)
	status, failure := finish(t, p)
	require.Equal(t, &program.Failure{Op: 1, Errno: unix.ENOENT}, failure)
	require.Equal(t, 127, status.ExitStatus())
	requireNoChild(t)
}

func TestTheFirstCallCanFail(t *testing.T) {
	p := newProgram(t)
	defer p.Free()
	p.Add(unix.SYS_CLOSE, badFD)
	_, failure := finish(t, p)
	require.Equal(t, &program.Failure{Op: 0, Errno: unix.EBADF}, failure)
}

func TestAFailureIsReportedThroughTheStatusPipe(t *testing.T) {
	r, w := pipe(t)
	p := newProgram(t)
	defer p.Free()
	p.SetStatus(w)
	addOwnTable(p)
	p.Add(unix.SYS_SETPGID, 0, badFD)
	_, failure := finish(t, p)
	require.Equal(t, &program.Failure{Op: 1, Errno: unix.EINVAL}, failure)
	require.NoError(t, unix.Close(w))
	require.Equal(t, *failure, readReport(t, p, r))
}

// readReport reads a status pipe to its end.
func readReport(t testing.TB, p *program.Program, fd int) program.Failure {
	b, err := io.ReadAll(fdReader(fd))
	require.NoError(t, err)
	var report program.Report
	require.Len(t, b, len(report))
	copy(report[:], b)
	return p.Decode(report)
}

func TestExecClosesTheStatusPipeWithoutAReport(t *testing.T) {
	r, w := pipe(t)
	gate, openIt := pipe(t)
	p := newProgram(t)
	p.SetStatus(w)
	addOwnTable(p)
	addGate(p, gate)
	addExec(p, "/bin/true")
	c, errStart := Start(p, Options{})
	require.Nil(t, errStart)
	eventually(t, "the child has its own table", func() bool { return procState(t, c.PID) == "S" })
	require.NoError(t, unix.Close(w))
	openGate(t, openIt)
	b, err := io.ReadAll(fdReader(r))
	require.NoError(t, err)
	require.Empty(t, b)
	require.True(t, c.LeftMemory(), "it has exec'ed")
	status, failure := end(t, p, c)
	p.Free()
	require.Nil(t, failure)
	require.Zero(t, status.ExitStatus())
}

func TestAnExecThatFailsIsReported(t *testing.T) {
	p := newProgram(t)
	defer p.Free()
	i := addExec(p, "/nonexistent/program")
	_, failure := finish(t, p)
	require.Equal(t, &program.Failure{Op: i, Errno: unix.ENOENT}, failure)
}

func TestAProgramWithoutEndIsAFailure(t *testing.T) {
	for n := range 2 {
		p := newProgram(t)
		for range n {
			p.Add(unix.SYS_GETPPID)
		}
		status, failure := finish(t, p)
		require.Nil(t, failure)
		require.Equal(t, 127, status.ExitStatus())
		p.Free()
	}
}

func TestIgnoreGoesOnAfterAFailure(t *testing.T) {
	p := newProgram(t)
	defer p.Free()
	p.AddOp(unix.SYS_CLOSE, program.Ignore, badFD)
	p.AddOp(unix.SYS_GETPPID, program.Ignore)
	p.Expect(1, 0) // it is not, and that does not matter either
	addExit(p, 3)
	status, failure := finish(t, p)
	require.Nil(t, failure)
	require.Equal(t, 3, status.ExitStatus())
}

func TestLinkPassesAResultOnToALaterCall(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	p := newProgram(t)
	defer p.Free()
	addOwnTable(p)
	file := p.Add(unix.SYS_OPENAT, atFDCWD, p.CString(path), unix.O_WRONLY|unix.O_CREAT, 0o600)
	p.Add(unix.SYS_GETPPID)
	p.Link(file, p.Add(unix.SYS_WRITE, 0, p.CString("text"), 4), 0)
	addExit(p, 0)
	status, failure := finish(t, p)
	require.Nil(t, failure)
	require.Zero(t, status.ExitStatus())
	got, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, "text", string(got))
}

const atFDCWD = ^uintptr(-unix.AT_FDCWD - 1)

func TestStoreStatusMovesTheStatusPipe(t *testing.T) {
	r, w := pipe(t)
	p := newProgram(t)
	defer p.Free()
	p.SetStatus(w)
	addOwnTable(p)
	p.StoreStatus(p.Add(unix.SYS_FCNTL, uintptr(w), unix.F_DUPFD_CLOEXEC, 100))
	p.Add(unix.SYS_CLOSE, uintptr(w))
	p.Add(unix.SYS_UMASK, 0o22)
	p.Add(unix.SYS_CLOSE, uintptr(w)) // once more
	_, failure := finish(t, p)
	require.Equal(t, &program.Failure{Op: 4, Errno: unix.EBADF}, failure)
	require.NoError(t, unix.Close(w))
	require.Equal(t, *failure, readReport(t, p, r))
}

func TestExpectComparesTheResult(t *testing.T) {
	for _, c := range []struct {
		expected uintptr
		want     *program.Failure
		status   int
	}{
		{uintptr(os.Getpid()), nil, 3},
		{uintptr(os.Getpid()) + 1, &program.Failure{Op: 1, Errno: 0}, 127},
		// All 64 bits.
		{uintptr(os.Getpid()) + 1<<32, &program.Failure{Op: 1, Errno: 0}, 127},
	} {
		p := newProgram(t)
		p.Add(unix.SYS_UMASK, 0o22)
		p.Expect(p.Add(unix.SYS_GETPPID), c.expected)
		addExit(p, 3)
		status, failure := finish(t, p)
		require.Equal(t, c.want, failure)
		require.Equal(t, c.status, status.ExitStatus())
		p.Free()
	}
}

func TestLeaveEndsTheChildWhenTheResultIsNotZero(t *testing.T) {
	p := newProgram(t)
	defer p.Free()
	p.AddOp(unix.SYS_SETPGID, program.Leave) // 0
	p.AddOp(unix.SYS_GETPPID, program.Leave)
	addExit(p, 3)
	status, failure := finish(t, p)
	require.Nil(t, failure)
	require.True(t, status.Exited())
	require.Zero(t, status.ExitStatus())

	q := newProgram(t)
	defer q.Free()
	q.AddOp(unix.SYS_SETPGID, program.Leave) // 0
	addExit(q, 3)
	status, failure = finish(t, q)
	require.Nil(t, failure)
	require.Equal(t, 3, status.ExitStatus())
}

func TestRetryIsForEINTROnly(t *testing.T) {
	p := newProgram(t)
	defer p.Free()
	p.AddOp(unix.SYS_READ, program.Retry, badFD, 0, 0)
	_, failure := finish(t, p)
	require.Equal(t, &program.Failure{Op: 0, Errno: unix.EBADF}, failure)
}

// TestRetryCallsAgainAfterEINTR interrupts a child that has all signals
// blocked: a stop and its end make rt_sigtimedwait fail with EINTR (signal(7)).
func TestRetryCallsAgainAfterEINTR(t *testing.T) {
	interrupt := func(flags program.Flag) (*program.Program, Child) {
		p := newProgram(t)
		p.AddOp(unix.SYS_RT_SIGTIMEDWAIT, flags, p.Words(1<<(unix.SIGUSR1-1)), 0, 0, 8)
		p.Expect(0, uintptr(unix.SIGUSR1))
		addExit(p, 3)
		c, err := Start(p, Options{})
		require.Nil(t, err)
		eventually(t, "the child waits", func() bool { return procState(t, c.PID) == "S" })
		require.NoError(t, unix.Kill(c.PID, unix.SIGSTOP))
		eventually(t, "the child is stopped", func() bool { return procState(t, c.PID) == "T" })
		require.NoError(t, unix.Kill(c.PID, unix.SIGCONT))
		return p, c
	}
	p, c := interrupt(0)
	_, failure := end(t, p, c)
	require.Equal(t, &program.Failure{Op: 0, Errno: unix.EINTR}, failure)
	p.Free()

	p, c = interrupt(program.Retry)
	eventually(t, "the child waits again", func() bool { return procState(t, c.PID) == "S" })
	require.NoError(t, unix.Kill(c.PID, unix.SIGUSR1))
	status, failure := end(t, p, c)
	require.Nil(t, failure)
	require.Equal(t, 3, status.ExitStatus())
	p.Free()
}

// TestTheParentGoesOnWhileTheChildWaits would hang with CLONE_VFORK.
func TestTheParentGoesOnWhileTheChildWaits(t *testing.T) {
	r, w := pipe(t)
	p := newProgram(t)
	addGate(p, r)
	addExec(p, "/bin/true")
	c, err := Start(p, Options{})
	require.Nil(t, err)
	runtime.GC() // needs every thread that runs Go code
	eventually(t, "the child waits", func() bool { return procState(t, c.PID) == "S" })
	require.False(t, c.LeftMemory())
	openGate(t, w)
	status, failure := end(t, p, c)
	p.Free()
	require.Nil(t, failure)
	require.Zero(t, status.ExitStatus())
}

func TestLeftMemoryTellsThatTheChildHasExeced(t *testing.T) {
	gate, openIt := pipe(t)
	input, endInput := pipe(t)
	p := newProgram(t)
	addOwnTable(p)
	p.Add(unix.SYS_DUP3, uintptr(input), 0, 0)
	p.Add(unix.SYS_CLOSE, uintptr(endInput))
	addGate(p, gate)
	addExec(p, "/bin/cat")
	c, err := Start(p, Options{})
	require.Nil(t, err)
	eventually(t, "the child waits", func() bool { return procState(t, c.PID) == "S" })
	require.False(t, c.LeftMemory())
	openGate(t, openIt)
	eventually(t, "the child has left the memory", c.LeftMemory)
	p.Free()
	eventually(t, "the exec that it was about to finish is finished", func() bool {
		comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", c.PID))
		require.NoError(t, err)
		return string(comm) == "cat\n"
	})
	require.NoError(t, unix.Close(endInput))
	require.Zero(t, wait(t, c).ExitStatus())
}

func TestTheChildWorksOnItsOwnTableAndStackOnly(t *testing.T) {
	r, _ := pipe(t)
	p := newProgram(t)
	defer p.Free()
	addOwnTable(p)
	p.Add(unix.SYS_CLOSE_RANGE, 0, math.MaxUint32, 0)
	addExit(p, 0)
	_, failure := finish(t, p)
	require.Nil(t, failure)
	_, err := unix.FcntlInt(uintptr(r), unix.F_GETFD, 0)
	require.NoError(t, err, "the parent's descriptors are as they were")
}

func TestThePidfdIsTheChildsAndCloseOnExec(t *testing.T) {
	r, _ := pipe(t)
	p := newProgram(t)
	defer p.Free()
	addGate(p, r)
	c, err := Start(p, Options{})
	require.Nil(t, err)
	flags, errno := unix.FcntlInt(uintptr(c.PIDFD), unix.F_GETFD, 0)
	require.NoError(t, errno)
	require.Equal(t, unix.FD_CLOEXEC, flags)
	require.NoError(t, unix.PidfdSendSignal(c.PIDFD, unix.SIGKILL, nil, 0))
	status, failure := end(t, p, c)
	require.Nil(t, failure)
	require.Equal(t, unix.SIGKILL, status.Signal())
}

// allSignals is a mask as /proc shows it; SIGKILL and SIGSTOP cannot
// be blocked.
const allSignals = "fffffffffffbfeff"

func TestTheParentsMaskIsWhatItWas(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var old, set, got unix.Sigset_t
	set.Val[0] = 1<<(unix.SIGUSR2-1) | 1<<(unix.SIGHUP-1)
	require.NoError(t, unix.PthreadSigmask(unix.SIG_BLOCK, &set, &old))
	defer func() { require.NoError(t, unix.PthreadSigmask(unix.SIG_SETMASK, &old, nil)) }()
	require.NoError(t, unix.PthreadSigmask(unix.SIG_BLOCK, nil, &set))

	p := newProgram(t)
	defer p.Free()
	addExit(p, 0)
	_, failure := finish(t, p)
	require.Nil(t, failure)
	require.NoError(t, unix.PthreadSigmask(unix.SIG_BLOCK, nil, &got))
	require.Equal(t, set.Val[0], got.Val[0])
}

func TestTheChildHasEverySignalBlockedUntilItsProgramSaysOtherwise(t *testing.T) {
	signal.Notify(make(chan os.Signal, 1), unix.SIGUSR1) // a handler
	defer signal.Reset()
	r, w := pipe(t)
	p := newProgram(t)
	defer p.Free()
	addGate(p, r)
	p.Add(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, p.Words(0), 0, 8)
	addGate(p, r)
	addExit(p, 3)
	c, err := Start(p, Options{})
	require.Nil(t, err)
	require.Equal(t, allSignals, procStatus(t, c.PID, "SigBlk"))
	openGate(t, w)
	eventually(t, "the signals are unblocked", func() bool { return procStatus(t, c.PID, "SigBlk") == strings.Repeat("0", 16) })
	openGate(t, w)
	status, failure := end(t, p, c)
	require.Nil(t, failure)
	require.Equal(t, 3, status.ExitStatus())
}

// TestNoHandlerRunsInTheChild sends signals for which this process has
// handlers. If one ran in the child, on the memory and in the name of a thread
// of this process, much would go wrong; instead the default action takes place.
func TestNoHandlerRunsInTheChild(t *testing.T) {
	caught := make(chan os.Signal, 10)
	signal.Notify(caught, unix.SIGUSR1, unix.SIGWINCH)
	defer signal.Reset()
	require.NoError(t, noHandlerRuns(t, caught))
}

func noHandlerRuns(t testing.TB, caught chan os.Signal) error {
	for sig, killed := range map[syscall.Signal]bool{unix.SIGUSR1: true, unix.SIGWINCH: false, unix.SIGURG: false} {
		var fds [2]int
		if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
			return err
		}
		p, err := program.New(0)
		if err != nil {
			return err
		}
		addGate(p, fds[0])
		for n := uintptr(1); n <= 64; n++ {
			p.AddOp(unix.SYS_RT_SIGACTION, program.Ignore, n, p.Words(0, 0, 0, 0), 0, 8)
		}
		p.Add(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, p.Words(0), 0, 8)
		addExit(p, 3)
		c, errStart := Start(p, Options{})
		if errStart != nil {
			return errStart
		}
		if err := unix.Kill(c.PID, sig); err != nil {
			return err
		}
		if _, err := unix.Write(fds[1], []byte{1}); err != nil {
			return err
		}
		var status unix.WaitStatus
		if _, err := waitFor(c, &status); err != nil {
			return err
		}
		p.Free()
		unix.Close(fds[0])
		unix.Close(fds[1])
		if status.Signaled() != killed || !killed && status.ExitStatus() != 3 {
			return fmt.Errorf("%v: wait status %#x", sig, status)
		}
	}
	select {
	case sig := <-caught:
		return fmt.Errorf("%v was caught", sig)
	default:
		return nil
	}
}

// waitFor is wait for those who have no test.
func waitFor(c Child, status *unix.WaitStatus) (int, error) {
	unix.Close(c.PIDFD)
	for {
		pid, err := unix.Wait4(c.PID, status, unix.WALL, nil)
		if err != unix.EINTR {
			return pid, err
		}
	}
}

func TestTheChildHasNoHandlers(t *testing.T) {
	r, w := pipe(t)
	p := newProgram(t)
	defer p.Free()
	addGate(p, r)
	addExit(p, 0)
	c, err := Start(p, Options{})
	require.Nil(t, err)
	require.NotEqual(t, strings.Repeat("0", 16), procStatus(t, os.Getpid(), "SigCgt"))
	caught := procStatus(t, c.PID, "SigCgt")
	openGate(t, w)
	end(t, p, c)
	if noClone3.Load() {
		t.Skip("this kernel has no clone3 with CLONE_CLEAR_SIGHAND")
	}
	require.Equal(t, strings.Repeat("0", 16), caught)
}

func TestAChildThatHasNotExecedIsHiddenFromOthersWaits(t *testing.T) {
	caught := make(chan os.Signal, 10)
	signal.Notify(caught, unix.SIGCHLD)
	defer signal.Stop(caught)
	p := newProgram(t)
	defer p.Free()
	p.Add(unix.SYS_CLOSE, badFD)
	c, err := Start(p, Options{})
	require.Nil(t, err)
	require.NoError(t, unix.Waitid(unix.P_PIDFD, c.PIDFD, nil, unix.WEXITED|unix.WNOWAIT|unix.WALL, nil))
	_, errWait := unix.Wait4(-1, nil, unix.WNOHANG, nil)
	require.Equal(t, unix.ECHILD, errWait, "without __WALL")
	_, failure := end(t, p, c)
	require.NotNil(t, failure)
	// A SIGCHLD would have come before one that is sent now.
	require.NoError(t, unix.Kill(os.Getpid(), unix.SIGCHLD))
	<-caught
	require.Empty(t, caught)
}

func TestThousandsOfChildrenAtOnce(t *testing.T) {
	children := 3000
	if testing.Short() {
		children = 200
	}
	stop := make(chan struct{})
	var background sync.WaitGroup
	background.Add(1)
	go func() {
		defer background.Done()
		for {
			select {
			case <-stop:
				return
			default:
				runtime.GC()
			}
		}
	}()
	if err := pprof.StartCPUProfile(io.Discard); err == nil {
		defer pprof.StopCPUProfile() // else the whole test is profiled
	}
	before := program.InUse()
	ppid := uintptr(os.Getpid())
	start := make(chan struct{})
	type started struct {
		p    *program.Program
		c    Child
		err  *Error
		kind int
	}
	all := make([]started, children)
	var cloned sync.WaitGroup
	for i := range all {
		cloned.Add(1)
		go func() {
			defer cloned.Done()
			s := &all[i]
			s.kind = i % 3
			<-start
			var err error
			if s.p, err = program.New(0); err != nil {
				s.err = &Error{Call: "mmap", Errno: unix.ENOMEM}
				return
			}
			addOwnTable(s.p)
			s.p.Expect(s.p.Add(unix.SYS_GETPPID), ppid)
			switch s.kind {
			case 0:
				addExec(s.p, "/bin/true")
			case 1:
				s.p.Add(unix.SYS_CHDIR, s.p.CString("/nonexistent"))
			case 2:
				addExit(s.p, uintptr(i%100))
			}
			s.c, s.err = Start(s.p, Options{})
		}()
	}
	close(start)
	cloned.Wait()
	for i := range all {
		s := &all[i]
		require.Nil(t, s.err)
		status, failure := end(t, s.p, s.c)
		switch s.kind {
		case 0:
			require.Nil(t, failure)
			require.Zero(t, status.ExitStatus())
		case 1:
			require.Equal(t, &program.Failure{Op: 2, Errno: unix.ENOENT}, failure)
		case 2:
			require.Nil(t, failure)
			require.Equal(t, i%100, status.ExitStatus())
		}
		s.p.Free()
	}
	close(stop)
	background.Wait()
	require.Equal(t, before, program.InUse())
	requireNoChild(t)
}

func TestCloneTakesOverWhereClone3IsRefused(t *testing.T) {
	for _, errno := range []unix.Errno{unix.ENOSYS, unix.EPERM, unix.EINVAL} {
		t.Run(unix.ErrnoName(errno), func(t *testing.T) {
			runHelper(t, "refused-clone3", strconv.Itoa(int(errno)))
		})
	}
}

func refusedClone3(args []string) error {
	n, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	errno := unix.Errno(n)
	// The C library takes ENOSYS for an answer when it makes a thread, and
	// nothing else. What a locked thread gets, no thread that Go makes gets.
	runtime.LockOSThread()
	everywhere := errno == unix.ENOSYS
	if err := filter(everywhere, unix.SYS_CLONE3, nil, errno); err != nil {
		return err
	}
	if _, _, got := unix.RawSyscall(unix.SYS_CLONE3, 0, 0, 0); got != errno {
		return fmt.Errorf("clone3: %v in spite of the filter", got)
	}
	signals := make(chan os.Signal, 10)
	signal.Notify(signals, unix.SIGUSR1, unix.SIGWINCH)
	for range 3 {
		if err := fallbackWorks(); err != nil {
			return err
		}
		// A policy that says EPERM may be one thread's only.
		if want := errno != unix.EPERM; noClone3.Load() != want {
			return fmt.Errorf("remembered: %v", !want)
		}
	}
	if err := noHandlerRuns(nil, signals); err != nil {
		return err
	}
	return childLeft()
}

// fallbackWorks runs a child and looks at all that a clone does: the gate, the
// mask, the pidfd, both kinds of report, the end.
func fallbackWorks() error {
	var gate, report [2]int
	if err := errors.Join(unix.Pipe2(gate[:], unix.O_CLOEXEC), unix.Pipe2(report[:], unix.O_CLOEXEC)); err != nil {
		return err
	}
	defer func() {
		for _, fd := range [...]int{gate[0], gate[1], report[0], report[1]} {
			unix.Close(fd)
		}
	}()
	p, err := program.New(0)
	if err != nil {
		return err
	}
	defer p.Free()
	p.SetStatus(report[1])
	addOwnTable(p)
	addGate(p, gate[0])
	p.Expect(p.Add(unix.SYS_GETPPID), uintptr(os.Getpid()))
	p.Add(unix.SYS_CHDIR, p.CString("/nonexistent"))
	want := program.Failure{Op: 3, Errno: unix.ENOENT}

	var before, after unix.Sigset_t
	_ = unix.PthreadSigmask(unix.SIG_BLOCK, nil, &before)
	c, errStart := Start(p, Options{})
	_ = unix.PthreadSigmask(unix.SIG_BLOCK, nil, &after)
	if errStart != nil {
		return errStart
	}
	if before != after {
		return fmt.Errorf("signal mask %v, was %v", after, before)
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.PID))
	if err != nil || !bytes.Contains(status, []byte("SigBlk:\t"+allSignals)) {
		return fmt.Errorf("not all signals are blocked: %v\n%s", err, status)
	}
	if c.LeftMemory() {
		return errors.New("the child has left the memory already")
	}
	if flags, err := unix.FcntlInt(uintptr(c.PIDFD), unix.F_GETFD, 0); err != nil || flags != unix.FD_CLOEXEC {
		return fmt.Errorf("the pidfd is not one: %v", err)
	}
	if _, err := unix.Write(gate[1], []byte{1}); err != nil {
		return err
	}
	var b program.Report
	if _, err := io.ReadFull(fdReader(report[0]), b[:]); err != nil {
		return err
	}
	if got := p.Decode(b); got != want {
		return fmt.Errorf("report %v", got)
	}
	var end unix.WaitStatus
	if _, err := waitFor(c, &end); err != nil {
		return err
	}
	if got, failed := p.Failed(); !failed || got != want || !c.LeftMemory() || end.ExitStatus() != 127 {
		return fmt.Errorf("failure %v, wait status %#x", got, end)
	}
	return nil
}

// fdReader reads a descriptor that stays the caller's.
type fdReader int

func (fd fdReader) Read(b []byte) (int, error) {
	n, err := unix.Read(int(fd), b)
	if n == 0 && err == nil {
		err = io.EOF
	}
	return n, err
}

func TestARefusedCloneIsAnErrorThatNamesTheCall(t *testing.T) {
	runHelper(t, "refused-clones")
}

func refusedClones([]string) error {
	p, err := program.New(0)
	if err != nil {
		return err
	}
	defer p.Free()
	runtime.LockOSThread()
	pidfd := uint32(unix.CLONE_PIDFD)
	if err := filter(false, unix.SYS_CLONE, &pidfd, unix.EPERM); err != nil {
		return err
	}
	if err := filter(false, unix.SYS_CLONE3, nil, unix.EUSERS); err != nil {
		return err
	}
	const flags = "CLONE_VM|CLONE_FILES|CLONE_PIDFD|CLONE_CHILD_CLEARTID"
	_, errStart := Start(p, Options{})
	if want := (Error{"clone3({flags=" + flags + "|CLONE_CLEAR_SIGHAND}, 64)", unix.EUSERS}); errStart == nil || *errStart != want {
		return fmt.Errorf("%v, want %v", errStart, &want)
	}
	noClone3.Store(true)
	_, errStart = Start(p, Options{})
	if want := (Error{"clone(" + flags + ")", unix.EPERM}); errStart == nil || *errStart != want {
		return fmt.Errorf("%v, want %v", errStart, &want)
	}
	return childLeft()
}

// filter makes a system call fail, in the current thread and its children or
// in all threads of this process, always or where its first argument has one of
// the bits.
//
// Preconditions: the goroutine is locked to its thread.
func filter(everywhere bool, nr uint32, bits *uint32, errno unix.Errno) error {
	allow := unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW}
	// In a struct seccomp_data; the low half is first.
	const offsetNr, offsetArg0 = 0, 16
	code := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offsetNr},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: nr, Jt: 1},
		allow,
	}
	if bits != nil {
		code = append(code,
			unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offsetArg0},
			unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K, K: *bits, Jt: 1},
			allow)
	}
	code = append(code, unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(errno)})
	prog := unix.SockFprog{Len: uint16(len(code)), Filter: &code[0]}
	flags := uintptr(0)
	if everywhere {
		flags = unix.SECCOMP_FILTER_FLAG_TSYNC
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("no_new_privs: %w", err)
	}
	_, _, e := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags, uintptr(unsafe.Pointer(&prog)))
	runtime.KeepAlive(code)
	if e != 0 {
		return fmt.Errorf("seccomp: %w", e)
	}
	return nil
}

func TestNoMoreProcessesIsAnErrorThatNamesTheCall(t *testing.T) {
	runHelper(t, "no-processes")
}

// noProcesses runs out of processes, as a user for whom that limit holds.
func noProcesses([]string) error {
	if os.Getuid() == 0 {
		if err := errors.Join(syscall.Setgroups(nil), syscall.Setgid(65534), syscall.Setuid(65534)); err != nil {
			return err
		}
	}
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NPROC, &old); err != nil {
		return err
	}
	p, err := program.New(0)
	if err != nil {
		return err
	}
	defer p.Free()
	r, err := os.Open("/dev/null")
	if err != nil {
		return err
	}
	defer r.Close()

	// While the limit holds, Go must not need a new thread: let it have a few
	// to spare, and no garbage collection.
	debug.SetGCPercent(-1)
	spareThreads(8)
	highest, err := unix.FcntlInt(r.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return err
	}
	unix.Close(highest)

	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var before, after unix.Sigset_t
	_ = unix.PthreadSigmask(unix.SIG_BLOCK, nil, &before)
	limit := unix.Rlimit{Cur: 1, Max: old.Max}
	if err := unix.Setrlimit(unix.RLIMIT_NPROC, &limit); err != nil {
		return err
	}
	_, errStart := Start(p, Options{})
	if err := unix.Setrlimit(unix.RLIMIT_NPROC, &old); err != nil {
		return err
	}
	_ = unix.PthreadSigmask(unix.SIG_BLOCK, nil, &after)
	if errStart == nil || errStart.Errno != unix.EAGAIN {
		return fmt.Errorf("%v, want EAGAIN", errStart)
	}
	if !strings.HasPrefix(errStart.Call, "clone") {
		return fmt.Errorf("the call is %q", errStart.Call)
	}
	if before != after {
		return fmt.Errorf("signal mask %v, was %v", after, before)
	}
	if noClone3.Load() && strings.HasPrefix(errStart.Call, "clone3") {
		return errors.New("clone3 is taken for missing")
	}
	next, err := unix.FcntlInt(r.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil || next != highest {
		return fmt.Errorf("descriptor %d is left open: %v", highest, err)
	}
	unix.Close(next)
	if err := childLeft(); err != nil {
		return err
	}

	// With the old limit it works.
	q, err := program.New(0)
	if err != nil {
		return err
	}
	defer q.Free()
	addExit(q, 3)
	c, errStart := Start(q, Options{})
	if errStart != nil {
		return errStart
	}
	var status unix.WaitStatus
	if _, err := waitFor(c, &status); err != nil || status.ExitStatus() != 3 {
		return fmt.Errorf("%v, wait status %#x", err, status)
	}
	return nil
}

// spareThreads makes Go start n threads that are idle afterwards.
func spareThreads(n int) {
	var fds [2]int
	if unix.Pipe(fds[:]) != nil {
		return
	}
	var done, started sync.WaitGroup
	for range n {
		done.Add(1)
		started.Add(1)
		go func() {
			defer done.Done()
			started.Done()
			var b [1]byte
			_, _ = unix.Read(fds[0], b[:]) // in a thread of its own
		}()
	}
	started.Wait()
	_, _ = unix.Write(fds[1], bytes.Repeat([]byte{1}, n))
	done.Wait()
	unix.Close(fds[0])
	unix.Close(fds[1])
}

func TestAReportIsTwoWords(t *testing.T) {
	r, w := pipe(t)
	p := newProgram(t)
	defer p.Free()
	p.SetStatus(w)
	addOwnTable(p)
	p.Add(unix.SYS_CLOSE, badFD)
	finish(t, p)
	require.NoError(t, unix.Close(w))
	b, err := io.ReadAll(fdReader(r))
	require.NoError(t, err)
	require.Equal(t, uint64(program.OpSize), binary.NativeEndian.Uint64(b))
	require.Equal(t, uint64(unix.EBADF), binary.NativeEndian.Uint64(b[8:]))
}

// waitStatus reads a status pipe, of which this process has closed the other
// end, to its end.
func waitStatus(t testing.TB, r, w int) []byte {
	t.Helper()
	require.NoError(t, unix.Close(w))
	b, err := io.ReadAll(fdReader(r))
	require.NoError(t, err)
	return b
}

func TestAChildWithItsOwnMemoryReportsInTheSharedProgram(t *testing.T) {
	r, w := pipe(t)
	p, err := program.NewShared(0)
	require.NoError(t, err)
	defer p.Free()
	p.SetStatus(w)
	p.Add(unix.SYS_GETPPID)
	p.Add(unix.SYS_CHDIR, p.CString("/nonexistent"))
	c, startErr := Start(p, Options{OwnMemory: true})
	require.Nil(t, startErr)
	require.True(t, c.LeftMemory(), "it was never in it")
	report := waitStatus(t, r, w)
	_, failure := end(t, p, c)
	require.Equal(t, &program.Failure{Op: 1, Errno: unix.ENOENT}, failure)
	require.Len(t, report, len(program.Report{}))
	requireNoChild(t)
}

func TestAChildWithItsOwnMemoryWritesIntoItsOwn(t *testing.T) {
	r, w := pipe(t)
	gate, openIt := pipe(t)
	p, err := program.NewShared(0)
	require.NoError(t, err)
	defer p.Free()
	p.SetStatus(w)
	// What it reads goes to memory of Go's heap here, which it has a copy of.
	word := new([8]byte)
	p.Add(unix.SYS_READ, uintptr(gate), uintptr(unsafe.Pointer(word)), 1)
	addExec(p, "/bin/true")
	c, startErr := Start(p, Options{OwnMemory: true})
	require.Nil(t, startErr)
	openGate(t, openIt)
	require.Empty(t, waitStatus(t, r, w))
	status, failure := end(t, p, c)
	require.Nil(t, failure)
	require.Zero(t, status.ExitStatus())
	require.Zero(t, word[0])
}

func TestNamespacesAreTheChildsFromTheStart(t *testing.T) {
	r, w := pipe(t)
	out, status := pipe(t)
	p, err := program.NewShared(0)
	require.NoError(t, err)
	defer p.Free()
	p.SetStatus(status)
	pid := p.Add(unix.SYS_GETPID)
	p.Expect(pid, 1)
	p.Add(unix.SYS_WRITE, uintptr(w), p.CString("process 1"), 9)
	addExit(p, 0)
	c, startErr := Start(p, Options{OwnMemory: true, Namespaces: unix.CLONE_NEWPID | unix.CLONE_NEWUSER})
	if startErr != nil {
		t.Skip("needs user namespaces: ", startErr.Errno)
	}
	require.Empty(t, waitStatus(t, out, status))
	_, failure := end(t, p, c)
	require.Nil(t, failure)
	require.NoError(t, unix.Close(w))
	text, err := io.ReadAll(fdReader(r))
	require.NoError(t, err)
	require.Equal(t, "process 1", string(text))
}

func TestACgroupThatIsNoneIsAnErrorThatNamesTheCall(t *testing.T) {
	dir, err := os.Open(t.TempDir())
	require.NoError(t, err)
	defer dir.Close()
	p := newProgram(t)
	defer p.Free()
	addExit(p, 0)
	_, startErr := Start(p, Options{Cgroup: int(dir.Fd())})
	require.NotNil(t, startErr)
	require.Equal(t, unix.EBADF, startErr.Errno)
	require.Contains(t, startErr.Call, "CLONE_INTO_CGROUP}, 88)")
	requireNoChild(t)
	// Others still get clone3.
	require.False(t, noClone3.Load())
}
