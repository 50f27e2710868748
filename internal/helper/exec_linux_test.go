package helper

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/virspawn/spawn/internal/program"
	"golang.org/x/sys/unix"
)

// helpers are run in a process of their own, this test binary with an argument
// that names one: the programs that they run change the process or end it.
var helpers = map[string]func(args []string) error{
	"flags":         runFlags,
	"leave":         runLeave,
	"interrupted":   runInterrupted,
	"exec":          execEcho,
	"exec-fails":    execFails,
	"exec-fails-on": execFailsOnMainThread,
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

func helperCommand(t *testing.T, name string, args ...string) *exec.Cmd {
	require.Contains(t, helpers, name)
	cmd := exec.Command(os.Args[0], append([]string{helperPrefix + name}, args...)...)
	cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0")
	return cmd
}

func runHelper(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := helperCommand(t, name, args...).CombinedOutput()
	require.NoError(t, err, "%.2000s", out)
	return string(out)
}

// expect runs p and compares how it ends.
func expect(p *program.Program, want program.Failure) error {
	if got := Run(p); got != want {
		return fmt.Errorf("%+v, want %+v, of\n%s", got, want, p)
	}
	return nil
}

const (
	badFD   = ^uintptr(0)
	atFDCWD = ^uintptr(-unix.AT_FDCWD - 1)
)

func TestRunKeepsEveryFlag(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	runHelper(t, "flags", path)
	got, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, "text", string(got))
}

func runFlags(args []string) error {
	runtime.LockOSThread()
	end := func(p *program.Program) error { return expect(p, program.Failure{Op: p.Len()}) }
	fail := func(op int, errno unix.Errno) func(*program.Program) error {
		return func(p *program.Program) error { return expect(p, program.Failure{Op: op, Errno: errno}) }
	}
	ppid := uintptr(os.Getppid())
	cases := []struct {
		build func(p *program.Program)
		check func(p *program.Program) error
	}{
		{func(*program.Program) {}, end},
		{func(p *program.Program) { // stops at the first failure
			p.Add(unix.SYS_GETPPID)
			p.Add(unix.SYS_CLOSE, badFD)
			p.Add(unix.SYS_CHDIR, p.CString("/nonexistent"))
		}, fail(1, unix.EBADF)},
		{func(p *program.Program) {
			p.AddOp(unix.SYS_CLOSE, program.Ignore, badFD)
			p.AddOp(unix.SYS_GETPPID, program.Ignore)
			p.Expect(1, ppid+1)
			p.Add(unix.SYS_CHDIR, p.CString("/nonexistent"))
		}, fail(2, unix.ENOENT)},
		{func(p *program.Program) {
			p.Expect(p.Add(unix.SYS_GETPPID), ppid)
			p.Expect(p.Add(unix.SYS_GETPPID), ppid+1)
		}, fail(1, 0)},
		{func(p *program.Program) { p.AddOp(unix.SYS_READ, program.Retry, badFD, 0, 0) }, fail(0, unix.EBADF)},
		{func(p *program.Program) { p.AddOp(unix.SYS_UMASK, program.Leave, 0) }, func(*program.Program) error {
			// The mask that was left behind is 0, so the second call does
			// not leave.
			p, err := program.New(0)
			if err != nil {
				return err
			}
			defer p.Free()
			unix.Umask(0)
			p.AddOp(unix.SYS_UMASK, program.Leave, 0o22)
			return expect(p, program.Failure{Op: 1})
		}},
		{func(p *program.Program) {
			file := p.Add(unix.SYS_OPENAT, atFDCWD, p.CString(args[0]), unix.O_WRONLY|unix.O_CREAT, 0o600)
			p.Add(unix.SYS_GETPPID)
			write := p.Add(unix.SYS_WRITE, 0, p.CString("text"), 4)
			p.Link(file, write, 0)
			p.Expect(write, 4)
		}, end},
		{func(p *program.Program) {
			// A result that is not expected is no less a result.
			copied := p.Add(program.SysFcntl, 0, unix.F_DUPFD_CLOEXEC, 200)
			p.StoreStatus(copied)
		}, func(p *program.Program) error {
			if err := end(p); err != nil {
				return err
			}
			if got := p.Bytes(p.ReportTo(), 1)[0]; got != 200 {
				return fmt.Errorf("the status descriptor is %d", got)
			}
			return nil
		}},
	}
	for _, c := range cases {
		p, err := program.New(0)
		if err != nil {
			return err
		}
		c.build(p)
		if err := c.check(p); err != nil {
			return err
		}
		p.Free()
	}
	return nil
}

func TestRunLeavesWithStatus0(t *testing.T) {
	require.Empty(t, runHelper(t, "leave"))
}

func runLeave([]string) error {
	p, err := program.New(0)
	if err != nil {
		return err
	}
	p.AddOp(unix.SYS_GETPPID, program.Leave)
	return fmt.Errorf("still there: %+v", Run(p))
}

// TestRunRetriesAfterEINTR interrupts rt_sigtimedwait by a stop and its end
// (signal(7)).
func TestRunRetriesAfterEINTR(t *testing.T) {
	for flags, want := range map[program.Flag]string{
		0:             fmt.Sprintf("%+v\n", program.Failure{Op: 1, Errno: unix.EINTR}),
		program.Retry: fmt.Sprintf("%+v\n", program.Failure{Op: 2}),
	} {
		cmd := helperCommand(t, "interrupted", strconv.Itoa(int(flags)))
		// Without this, Go interrupts the call itself.
		cmd.Env = append(cmd.Env, "GODEBUG=asyncpreemptoff=1")
		stdout, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		lines := bufio.NewReader(stdout)
		line, err := lines.ReadString('\n')
		require.NoError(t, err)
		tid, err := strconv.Atoi(strings.TrimSpace(line))
		require.NoError(t, err)

		eventually(t, "the call waits", func() bool { return waits(t, cmd.Process.Pid, tid) })
		require.NoError(t, unix.Kill(cmd.Process.Pid, unix.SIGSTOP))
		eventually(t, "the process is stopped", func() bool { return state(t, cmd.Process.Pid, tid) == "T" })
		require.NoError(t, unix.Kill(cmd.Process.Pid, unix.SIGCONT))
		if flags != 0 {
			eventually(t, "the call waits again", func() bool { return waits(t, cmd.Process.Pid, tid) })
			require.NoError(t, unix.Tgkill(cmd.Process.Pid, tid, unix.SIGUSR1))
		}
		rest, err := io.ReadAll(lines)
		require.NoError(t, err)
		require.Equal(t, want, string(rest))
		require.NoError(t, cmd.Wait())
	}
}

// waits reports whether the thread is in a call that waits, with SIGUSR2
// blocked by the call before.
func waits(t *testing.T, pid, tid int) bool {
	blocked, err := strconv.ParseUint(status(t, pid, tid, "SigBlk"), 16, 64)
	require.NoError(t, err)
	return blocked&(1<<(unix.SIGUSR2-1)) != 0 && state(t, pid, tid) == "S"
}

func state(t *testing.T, pid, tid int) string { return status(t, pid, tid, "State")[:1] }

// status returns a field of a thread's status.
func status(t *testing.T, pid, tid int, field string) string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/status", pid, tid))
	require.NoError(t, err)
	_, after, ok := strings.Cut(string(b), "\n"+field+":\t")
	require.True(t, ok)
	value, _, _ := strings.Cut(after, "\n")
	return value
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
		runtime.Gosched()
	}
}

func runInterrupted(args []string) error {
	flags, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	runtime.LockOSThread()
	p, err := program.New(0)
	if err != nil {
		return err
	}
	p.Add(unix.SYS_RT_SIGPROCMASK, unix.SIG_BLOCK, p.Words(1<<(unix.SIGUSR1-1)|1<<(unix.SIGUSR2-1)), 0, 8)
	p.AddOp(unix.SYS_RT_SIGTIMEDWAIT, program.Flag(flags), p.Words(1<<(unix.SIGUSR1-1)), 0, 0, 8)
	p.Expect(1, uintptr(unix.SIGUSR1))
	fmt.Println(unix.Gettid())
	fmt.Printf("%+v\n", Run(p))
	return nil
}

func TestExecReplacesTheProcess(t *testing.T) {
	require.Equal(t, "hello\n", runHelper(t, "exec"))
}

func execEcho([]string) error {
	p, err := program.New(0)
	if err != nil {
		return err
	}
	argv := p.Pointers(2)
	p.SetPointer(argv, 0, p.CString("echo"))
	p.SetPointer(argv, 1, p.CString("hello"))
	p.Add(unix.SYS_EXECVE, p.CString("/bin/echo"), argv, p.Pointers(0))
	f, err := Exec(p, noCheck)
	return fmt.Errorf("still there: %+v, %v", f, err)
}

func TestAnExecThatFailsLeavesTheProcessAsItWas(t *testing.T) {
	runHelper(t, "exec-fails")
}

func TestAnExecThatFailsOnTheMainThreadLeavesTheProcessAsItWas(t *testing.T) {
	runHelper(t, "exec-fails-on")
}

// execFailsOnMainThread makes it likely that the goroutine that would run the
// program is first put on the main thread, which cannot end.
func execFailsOnMainThread([]string) error {
	runtime.GOMAXPROCS(1)
	for range 20 {
		if unix.Gettid() != unix.Getpid() {
			runtime.Gosched()
		}
		if err := execFails(nil); err != nil {
			return err
		}
	}
	return nil
}

func execFails([]string) error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	defer w.Close()
	before, err := seen()
	if err != nil {
		return err
	}
	p, err := program.New(0)
	if err != nil {
		return err
	}
	defer p.Free()
	p.Add(unix.SYS_UNSHARE, unix.CLONE_FS)
	p.Add(unix.SYS_CLOSE_RANGE, 3, math.MaxUint32, unix.CLOSE_RANGE_UNSHARE)
	p.Add(unix.SYS_UMASK, 0o777)
	p.Add(unix.SYS_CHDIR, p.CString("/proc"))
	if os.Getuid() == 0 {
		p.Add(program.SysSetresuid, 65534, 65534, 65534)
	}
	p.Add(unix.SYS_RT_SIGPROCMASK, unix.SIG_BLOCK, p.Words(1<<(unix.SIGUSR1-1)), 0, 8)
	thread := p.Add(unix.SYS_GETTID)
	p.StoreStatus(thread)
	last := p.Add(unix.SYS_EXECVE, p.CString("/nonexistent"), p.Pointers(0), p.Pointers(0))
	if got, err := Exec(p, noCheck); err != nil || got != (program.Failure{Op: last, Errno: unix.ENOENT}) {
		return fmt.Errorf("%+v, %v", got, err)
	}

	after, err := seen()
	if err != nil || after != before {
		return fmt.Errorf("%v: the process sees\n%s\nand saw\n%s", err, after, before)
	}
	b := p.Bytes(p.ReportTo(), 4)
	tid := int(b[0]) | int(b[1])<<8 | int(b[2])<<16 | int(b[3])<<24
	if tid == unix.Getpid() {
		return errors.New("the program ran on the main thread")
	}
	for deadline := time.Now().Add(30 * time.Second); ; runtime.Gosched() {
		if unix.Tgkill(unix.Getpid(), tid, 0) == unix.ESRCH {
			break
		}
		if time.Now().After(deadline) {
			return errors.New("the thread is still there")
		}
	}
	return everyThreadIsAsBefore()
}

// seen returns what this process has that the program changes.
func seen() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return "", err
	}
	mask := unix.Umask(0)
	unix.Umask(mask)
	return fmt.Sprint(dir, fds, mask, os.Getuid(), os.Geteuid()), nil
}

// everyThreadIsAsBefore checks that no thread is left with what the program has
// given to its own.
func everyThreadIsAsBefore() error {
	files, err := filepath.Glob("/proc/self/task/*/status")
	if err != nil || len(files) == 0 {
		return fmt.Errorf("no threads: %v", err)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended
		}
		s := string(b)
		if os.Getuid() == 0 && strings.Contains(s, "65534") {
			return fmt.Errorf("a thread has other credentials:\n%s", s)
		}
		if strings.Contains(s, "Umask:\t0777") {
			return fmt.Errorf("a thread has another umask:\n%s", s)
		}
	}
	return nil
}

func TestAnIgnoredResultIsPassedOver(t *testing.T) {
	p, err := program.New(0)
	require.NoError(t, err)
	defer p.Free()
	ignored := p.AddOp(unix.SYS_GETPPID, program.Ignore|program.Leave)
	p.Expect(ignored, 0) // it is not; and then it is no reason to leave either
	p.Add(unix.SYS_CLOSE, ^uintptr(0))
	require.Equal(t, program.Failure{Op: 1, Errno: unix.EBADF}, Run(p))
}

func noCheck() error { return nil }
