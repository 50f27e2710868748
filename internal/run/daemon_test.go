//go:build linux

package run_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"
	"github.com/virspawn/spawn"
	"github.com/virspawn/spawn/internal/command"
	"github.com/virspawn/spawn/internal/descriptor"
	"github.com/virspawn/spawn/internal/plan"
	"github.com/virspawn/spawn/internal/run"
	"github.com/virspawn/spawn/internal/testkit"
	"golang.org/x/sys/unix"
)

func init() {
	testkit.Helpers["start-daemon"] = startDaemon
	testkit.Helpers["start-daemons"] = startDaemons
	testkit.Helpers["daemons-of-a-subreaper"] = daemonsOfASubreaper
}

// daemonKinds are the ways in which a daemon is made. Its first parent is in
// the parent's memory, there with a window in which that is not dumpable, in
// a copy, or a helper that is not cloned.
func daemonKinds() map[string]func(*spawn.Command) *spawn.Command {
	return map[string]func(*spawn.Command) *spawn.Command{
		"shared memory": func(c *spawn.Command) *spawn.Command { return c },
		"other ids":     testkit.OtherIDs,
		"own memory":    func(c *spawn.Command) *spawn.Command { return c.SetCoredumpFilter(0x7f) },
		"forked helper": func(c *spawn.Command) *spawn.Command { return testkit.By(c, plan.ForkedHelper) },
	}
}

func forEachDaemon(t *testing.T, f func(t *testing.T, with func(*spawn.Command) *spawn.Command)) {
	for name, with := range daemonKinds() {
		t.Run(name, func(t *testing.T) {
			testkit.CheckLeaks(t)
			f(t, with)
		})
	}
}

// cat is a daemon that ends when its input does.
type cat struct {
	*spawn.Process
	input  *os.File
	output *os.File // also says when it and all that it has forked have ended
}

func startCat(t testing.TB, c *spawn.Command) cat {
	t.Helper()
	return startCatWith(t, context.Background(), c)
}

func startCatWith(t testing.TB, ctx context.Context, c *spawn.Command) cat {
	t.Helper()
	r, input := testkit.NewPipe(t)
	output, w := testkit.NewPipe(t)
	p, err := c.SetStdin(r).SetStdout(w).Daemonize().Start(ctx)
	require.NoError(t, errors.Join(r.Close(), w.Close()))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.Abort()) })
	return cat{p, input, output}
}

// stop ends the daemon and checks what is said of a daemon that has ended.
func (c cat) stop(t testing.TB) {
	t.Helper()
	select {
	case <-c.Done():
		t.Fatal("Done is closed while the daemon lives")
	default:
	}
	require.NoError(t, c.input.Close())
	<-c.Done()
	requireDaemonEnded(t, c.Process)
}

func requireDaemonEnded(t testing.TB, p *spawn.Process) {
	t.Helper()
	require.NoError(t, p.Wait())
	require.Equal(t, spawn.Status{ExitCode: -1}, p.Status())
	require.ErrorIs(t, p.Signal(unix.SIGTERM), os.ErrProcessDone)
	require.NoError(t, p.Abort())
	requireGone(t, p.PID())
}

// requireGone checks that a process has ended and is not this process's to wait
// for. Its parent may take its time.
func requireGone(t testing.TB, pid int) {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH) {
		return
	}
	require.NoError(t, err)
	require.Contains(t, []string{"Z (zombie)", "X (dead)"}, testkit.StatusField(string(b), "State"))
	require.NotEqual(t, strconv.Itoa(os.Getpid()), testkit.StatusField(string(b), "PPid"))
}

// statOf returns some numbers from /proc/PID/stat.
func statOf(t testing.TB, pid int) (parent, group, session, tty int) {
	t.Helper()
	s := string(testkit.ReadProc(t, pid, "stat"))
	_, err := fmt.Sscan(s[strings.LastIndexByte(s, ')')+4:], &parent, &group, &session, &tty)
	require.NoError(t, err)
	return parent, group, session, tty
}

// ancestors returns the processes from this one's parent to process 1.
func ancestors(t testing.TB) (pids []int) {
	for pid := os.Getppid(); pid > 0; {
		pids = append(pids, pid)
		if pid == 1 {
			break
		}
		pid, _, _, _ = statOf(t, pid)
	}
	return append(pids, 1)
}

func TestADaemonStandsAlone(t *testing.T) {
	extra, err := os.Open("/")
	require.NoError(t, err)
	defer extra.Close()
	_, err = unix.FcntlInt(extra.Fd(), unix.F_SETFD, 0) // inheritable
	require.NoError(t, err)
	forEachDaemon(t, func(t *testing.T, with func(*spawn.Command) *spawn.Command) {
		flag, filter := testkit.DumpableFlag(), testkit.ReadFile(t, "/proc/self/coredump_filter")
		c := startCat(t, with(spawn.New("/bin/cat")))
		testkit.RequireNoChild(t)
		require.Equal(t, flag, testkit.DumpableFlag())
		require.Equal(t, filter, testkit.ReadFile(t, "/proc/self/coredump_filter"))

		_, err := c.input.WriteString("text\n")
		require.NoError(t, err)
		// No library is being loaded any more.
		require.Equal(t, "text", testkit.ReadLine(t, c.output))

		parent, group, session, tty := statOf(t, c.PID())
		require.Contains(t, ancestors(t), parent)
		require.Equal(t, session, group)
		require.Zero(t, tty)
		own, err := unix.Getsid(0)
		require.NoError(t, err)
		require.NotContains(t, []int{own, c.PID()}, session)
		require.ErrorIs(t, unix.Kill(session, 0), unix.ESRCH, "the session has a leader")

		status := testkit.ProcText(t, c.Process, "status")
		for _, name := range []string{"SigBlk", "SigIgn", "SigCgt", "SigPnd", "ShdPnd"} {
			require.Equal(t, "0000000000000000", testkit.StatusField(status, name), name)
		}
		require.Equal(t, "1", testkit.StatusField(status, "Threads"))
		if os.Geteuid() == 0 { // who may look at a process of another user
			require.Equal(t, "/", testkit.Readlink(t, fmt.Sprintf("/proc/%d/cwd", c.PID())))
			null, err := testkit.InodeAt(os.DevNull)
			require.NoError(t, err)
			open, err := testkit.Table(c.PID())
			require.NoError(t, err)
			require.Len(t, open, 3)
			require.Equal(t, null, open[command.Stderr])
		}
		c.stop(t)
	})
}

func TestADaemonsStreamsAndDirectoryAreAsSaid(t *testing.T) {
	dir := testkit.PublicDir(t)
	forEachDaemon(t, func(t *testing.T, with func(*spawn.Command) *spawn.Command) {
		script := `for n in 0 1 2; do [ /dev/fd/$n -ef /dev/null ] && echo null >&3; done; pwd >&3; umask >&3; exec ls /proc/self/fd >&3`
		run := func(c *spawn.Command) string {
			r := testkit.PassPipe(t, c, 3)
			p, err := c.Start(context.Background())
			require.NoError(t, err)
			out, err := io.ReadAll(r)
			require.NoError(t, err)
			require.NoError(t, p.Wait())
			return strings.Join(strings.Fields(string(out)), " ")
		}
		mask := unix.Umask(0o27)
		defer unix.Umask(mask)
		require.Equal(t, "null null null / 0027 0 1 2 3 4", run(with(testkit.Shell(script)).Daemonize()))
		require.Equal(t, "null null null "+dir+" 0123 0 1 2 3 4", run(with(testkit.Shell(script)).Daemonize().SetWorkingDirectory(dir).SetUmask(0o123)))

		f, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
		require.NoError(t, err)
		defer f.Close()
		out := run(with(testkit.Shell(script)).SetStdin(f).SetStdout(f).MergeStderr().Daemonize())
		require.Equal(t, "null null null / 0027 0 1 2 3 4", out)

		c := with(testkit.Shell(script)).InheritStdio().Daemonize()
		r := testkit.PassPipe(t, c, 3)
		p, err := c.Start(context.Background())
		require.NoError(t, err)
		_, err = io.ReadAll(r)
		require.NoError(t, err)
		require.NoError(t, p.Wait())
	})
}

func TestARelativeDaemonIsOneOfThisDirectory(t *testing.T) {
	testkit.CheckLeaks(t)
	dir := testkit.PublicDir(t)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "prog"), []byte("#!/bin/sh\npwd\n"), 0o755))
	t.Chdir(dir)
	r, w := testkit.NewPipe(t)
	p, err := spawn.New("./prog").SetStdout(w).Daemonize().Start(context.Background())
	require.NoError(t, err)
	require.NoError(t, w.Close())
	require.Equal(t, "/", testkit.ReadLine(t, r))
	require.NoError(t, p.Wait())
	text, err := spawn.New("./prog").Daemonize().Explain()
	require.NoError(t, err)
	require.Contains(t, text, `execve("`+dir+`/./prog"`)
}

func TestNoTerminalBecomesADaemonsOwn(t *testing.T) {
	const script = `exec 5<>"$1"; echo; cat`
	tty, name := testkit.OpenTerminal(t)
	defer tty.Close()
	forEachDaemon(t, func(t *testing.T, with func(*spawn.Command) *spawn.Command) {
		require.NoError(t, tty.Chmod(0o666))
		c := startCat(t, with(testkit.Shell(script, name)))
		testkit.ReadLine(t, c.output)
		_, _, _, number := statOf(t, c.PID())
		require.Zero(t, number)
		c.stop(t)

		c = startCat(t, with(testkit.Shell(script, name)).SetSession())
		testkit.ReadLine(t, c.output)
		_, group, session, number := statOf(t, c.PID())
		require.NotZero(t, number, "the leader of a session")
		require.Equal(t, []int{c.PID(), c.PID()}, []int{group, session})
		c.stop(t)
	})
}

func TestAGroupOfADaemonsOwn(t *testing.T) {
	for name, with := range map[string]func(*spawn.Command) *spawn.Command{
		"SetProcessGroup": (*spawn.Command).SetProcessGroup,
		"KillGroup":       func(c *spawn.Command) *spawn.Command { return c.SetKillMode(spawn.KillGroup) },
	} {
		t.Run(name, func(t *testing.T) {
			testkit.CheckLeaks(t)
			c := startCat(t, with(spawn.New("/bin/cat")))
			_, group, session, _ := statOf(t, c.PID())
			require.Equal(t, c.PID(), group)
			require.NotEqual(t, c.PID(), session)
			c.stop(t)
		})
	}
}

func TestAbortOfADaemonEndsItsGroup(t *testing.T) {
	scripts := []string{`sleep 1000 & echo; echo; wait`}
	if signalsGroupsByPidfd(t) {
		// This one has a process that SIGTERM does not end.
		scripts = append(scripts, `(trap "" TERM; echo; exec sleep 1000) & sleep 1000 & echo; wait`)
	}
	forEachDaemon(t, func(t *testing.T, with func(*spawn.Command) *spawn.Command) {
		for _, script := range scripts {
			c := startCat(t, with(testkit.Shell(script)).SetKillMode(spawn.KillGroup))
			testkit.ReadLine(t, c.output)
			testkit.ReadLine(t, c.output)
			require.NoError(t, c.Abort())
			requireDaemonEnded(t, c.Process)
			_, err := c.output.Read(make([]byte, 1))
			require.ErrorIs(t, err, io.EOF, "nothing of the group is left")
		}
	})
}

// signalsGroupsByPidfd reports whether the kernel signals a group by a pidfd,
// also when its leader has ended. (Linux 6.9)
func signalsGroupsByPidfd(t testing.TB) bool {
	return unix.PidfdSendSignal(ownPidfd(t), 0, nil, 1<<2) != unix.EINVAL
}

func ownPidfd(t testing.TB) int {
	fd, err := unix.PidfdOpen(os.Getpid(), 0)
	require.NoError(t, err)
	t.Cleanup(func() { descriptor.Close(fd) })
	return fd
}

// TestTheGroupOfADaemonOnAnOldKernel: before Linux 6.9 a pidfd is not good for
// a group.
func TestTheGroupOfADaemonOnAnOldKernel(t *testing.T) {
	testkit.CheckLeaks(t)
	c := startCat(t, testkit.Shell(`sleep 1000 & echo; wait`).SetProcessGroup())
	testkit.ReadLine(t, c.output)
	errs := make(chan error)
	signal := func(sig unix.Signal) error {
		p := testkit.Running(c.Process)
		p.Mu.Lock()
		defer p.Mu.Unlock()
		return run.ChildOf(testkit.Running(c.Process)).SignalGroup(sig)
	}
	go func() {
		runtime.LockOSThread() // the filter stays with the thread, which ends
		filter := []unix.SockFilter{
			{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0}, // the number
			{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_PIDFD_SEND_SIGNAL, Jf: 3},
			// Load the flags.
			{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 16 + 3*8},
			{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: 0, Jt: 1},
			{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EINVAL)},
			{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
		}
		err := loadFilter(append(testkit.OnlyNative(), filter...))
		if err == nil {
			err = signal(unix.SIGTERM)
		}
		errs <- err
		<-c.Done()
		errs <- signal(0)
	}()
	require.NoError(t, <-errs)
	_, err := c.output.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF, "nothing of the group is left")
	require.Error(t, <-errs, "nobody else is signalled")
}

// loadFilter loads a seccomp filter for this thread.
func loadFilter(filter []unix.SockFilter) error {
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	if _, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&prog))); errno != 0 {
		return errno
	}
	runtime.KeepAlive(filter)
	return nil
}

func TestADaemonIsSignalledAndAborted(t *testing.T) {
	forEachDaemon(t, func(t *testing.T, with func(*spawn.Command) *spawn.Command) {
		c := startCat(t, with(testkit.Shell(`trap got=it USR1; echo ready; until [ "$got" ]; do sleep 0.01; done; echo got it; exec cat`)))
		require.Equal(t, "ready", testkit.ReadLine(t, c.output))
		require.NoError(t, c.Signal(unix.SIGUSR1))
		require.Equal(t, "got it", testkit.ReadLine(t, c.output))
		require.Equal(t, spawn.Status{ExitCode: -1}, c.Status())
		require.NoError(t, c.Abort())
		requireDaemonEnded(t, c.Process)

		c = startCat(t, with(testkit.Shell(`trap "" TERM; echo ready; while :; do read line; done`)).SetGracePeriod(time.Millisecond))
		require.Equal(t, "ready", testkit.ReadLine(t, c.output))
		require.NoError(t, c.Abort(), "SIGKILL after the grace period")
		requireDaemonEnded(t, c.Process)

		c = startCat(t, with(spawn.New("/bin/cat")))
		require.NoError(t, c.Signal(unix.SIGKILL))
		<-c.Done()
		requireDaemonEnded(t, c.Process)
	})
}

func TestADaemonThatCannotStartLeavesNothing(t *testing.T) {
	forEachDaemon(t, func(t *testing.T, with func(*spawn.Command) *spawn.Command) {
		for op, c := range map[string]*spawn.Command{
			`execve("/nonexistent")`: spawn.New("/nonexistent"),
			`chdir("/nonexistent")`:  spawn.New("/bin/true").SetWorkingDirectory("/nonexistent"),
		} {
			var alive *os.File
			for _, c := range []*spawn.Command{c.Clone(), c.Clone().SetKillMode(spawn.KillGroup), c.Clone().SetSession()} {
				c = with(c)
				alive = testkit.PassPipe(t, c, 9)
				p, err := c.Daemonize().Start(context.Background())
				require.Nil(t, p)
				testkit.RequireNotStarted(t, err, op, os.ErrNotExist)
				_, err = alive.Read(make([]byte, 1))
				require.ErrorIs(t, err, io.EOF)
			}
		}
	})
}

// TestADaemonOutlivesItsParent: with and without a subreaper.
func TestADaemonOutlivesItsParent(t *testing.T) {
	for _, subreaper := range []bool{false, true} {
		forEachKind := daemonKinds()
		for name := range forEachKind {
			t.Run(fmt.Sprintf("%s, subreaper %v", name, subreaper), func(t *testing.T) {
				testkit.CheckLeaks(t)
				if subreaper {
					require.NoError(t, unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0))
					defer func() { require.NoError(t, unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)) }()
				}
				r, w := testkit.NewPipe(t)
				output, outputW := testkit.NewPipe(t)
				c := testkit.HelperCommand(t, "start-daemon", name).PassFDAs(r, 3).PassFDAs(outputW, 4)
				out, err := c.Output(context.Background())
				require.NoError(t, err)
				require.NoError(t, errors.Join(r.Close(), outputW.Close()))
				pid, err := strconv.Atoi(string(out))
				require.NoError(t, err)

				_, err = w.WriteString("it lives\n")
				require.NoError(t, err)
				require.Equal(t, "it lives", testkit.ReadLine(t, output))
				parent, _, session, _ := statOf(t, pid)
				require.NotEqual(t, pid, session)
				if subreaper {
					require.Equal(t, os.Getpid(), parent)
				} else {
					require.Contains(t, ancestors(t), parent)
				}
				require.NoError(t, w.Close())
				_, err = output.Read(make([]byte, 1))
				require.ErrorIs(t, err, io.EOF)
				if subreaper {
					_, err := unix.Wait4(pid, nil, 0, nil)
					require.NoError(t, err, "it is an ordinary child: SIGCHLD comes at its end")
				}
				testkit.Eventually(t, "it has ended", func() bool {
					b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
					return err != nil || strings.HasPrefix(testkit.StatusField(string(b), "State"), "Z")
				})
			})
		}
	}
}

// startDaemon starts cat with the descriptors 3 and 4, prints its pid and ends.
func startDaemon(args []string) int {
	c := daemonKinds()[args[0]](spawn.New("/bin/cat")).SetStdin(os.NewFile(3, "input")).SetStdout(os.NewFile(4, "output"))
	p, err := c.Daemonize().Start(context.Background())
	if err != nil {
		return testkit.Fail(err)
	}
	fmt.Print(p.PID())
	return 0
}

// TestASubreaperIsTheParentOfItsDaemons: it learns how they end, and has
// no zombies.
func TestASubreaperIsTheParentOfItsDaemons(t *testing.T) {
	testkit.CheckLeaks(t)
	out, err := testkit.HelperCommand(t, "daemons-of-a-subreaper").CombinedOutput(context.Background())
	require.NoError(t, err, "%s", out)
}

func daemonsOfASubreaper([]string) int {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return testkit.Fail(err)
	}
	ctx := context.Background()
	for name, with := range daemonKinds() {
		p, err := with(testkit.Shell("exit 7")).Daemonize().Start(ctx)
		if err != nil {
			return testkit.Fail(err)
		}
		var exit *spawn.ExitError
		if err := p.Wait(); !errors.As(err, &exit) || exit.Status.ExitCode != 7 || p.Status().ExitCode != 7 {
			return testkit.Fail(fmt.Errorf("%s: %w", name, err))
		}
		p, err = with(spawn.New("/bin/sleep", "1000")).Daemonize().SetKillMode(spawn.KillGroup).Start(ctx)
		if err != nil {
			return testkit.Fail(err)
		}
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID()))
		if err != nil {
			return testkit.Fail(err)
		}
		if parent := testkit.StatusField(string(stat), "PPid"); parent != strconv.Itoa(os.Getpid()) {
			return testkit.Fail(fmt.Errorf("%s: the parent is %s", name, parent))
		}
		if err := p.Abort(); err != nil || p.Status().Signal != unix.SIGTERM {
			return testkit.Fail(fmt.Errorf("%s: %w, %v", name, err, p.Status()))
		}
		p, err = with(spawn.New("/bin/true")).Daemonize().Start(ctx)
		if err != nil {
			return testkit.Fail(err)
		}
		if err := p.Wait(); err != nil || !p.Status().Success() {
			return testkit.Fail(fmt.Errorf("%s: %w, %v", name, err, p.Status()))
		}
		for _, c := range []*spawn.Command{spawn.New("/nonexistent"), spawn.New("/bin/true").SetWorkingDirectory("/nonexistent")} {
			if _, err := with(c).Daemonize().Start(ctx); !errors.Is(err, os.ErrNotExist) {
				return testkit.Fail(fmt.Errorf("%s: %w", name, err))
			}
		}
		if _, err := with(spawn.New("/nonexistent")).Daemonize().SetUmask(0).Start(ctx); err == nil {
			return testkit.Fail(errors.New("no error"))
		}
		var info unix.Siginfo
		if err := unix.Waitid(unix.P_ALL, 0, &info, unix.WEXITED|unix.WNOHANG|unix.WALL, nil); err != unix.ECHILD {
			return testkit.Fail(fmt.Errorf("%s: a child is left: %w", name, err))
		}
	}
	return 0
}

func TestADaemonIsRefusedWhatNeedsThisProcess(t *testing.T) {
	testkit.CheckLeaks(t)
	var s string
	var buffer bytes.Buffer
	ctx := context.Background()
	const outlives = " of this process, which the daemon outlives"
	const tooMuch = ": 65537 bytes do not fit into a pipe (64 KiB)"
	big := make([]byte, 64<<10+1)
	for i, x := range []struct {
		c    *spawn.Command
		want string
	}{
		{spawn.New("/bin/cat").PipeStdin(), "Daemonize: stdin comes from a pipe" + outlives},
		{spawn.New("/bin/cat").PipeStdout(), "Daemonize: stdout goes to a pipe" + outlives},
		{spawn.New("/bin/cat").PipeStderr(), "Daemonize: stderr goes to a pipe" + outlives},
		{spawn.New("/bin/cat").SetStdin(&buffer), "Daemonize: stdin comes from a reader" + outlives},
		{spawn.New("/bin/cat").SetStdout(&buffer), "Daemonize: stdout goes to a writer" + outlives},
		{spawn.New("/bin/cat").SetStderr(&buffer), "Daemonize: stderr goes to a writer" + outlives},
		{spawn.New("/bin/cat").SetOutputBuffer(&s), "Daemonize: stdout goes to a buffer" + outlives},
		{spawn.New("/bin/cat").SetErrorBuffer(&s), "Daemonize: stderr goes to a buffer" + outlives},
		{spawn.New("/bin/cat").SetInput(big), "Daemonize: SetInput" + tooMuch},
		{func() *spawn.Command { c := spawn.New("/bin/cat"); c.SetSendBuffer(big); return c }(), "Daemonize: SetSendBuffer" + tooMuch},
		{spawn.New("/bin/cat").SetParentDeathSignal(unix.SIGTERM), "SetParentDeathSignal: a daemon outlives its parent"},
		{spawn.New("/bin/cat").SetControllingTTY(os.Stdin), "SetControllingTTY: a daemon has no terminal"},
	} {
		_, err := x.c.Daemonize().Start(ctx)
		require.EqualError(t, err, "spawn: "+x.want, i)
		_, err = x.c.Explain()
		require.EqualError(t, err, "spawn: "+x.want, i)
		_, err = x.c.RequireHandshake().Start(ctx)
		require.EqualError(t, err, "spawn: "+x.want, i)
	}

	c := spawn.New("/bin/true").Daemonize()
	_, statusErr := c.RunStatus(ctx)
	_, outputErr := c.Output(ctx)
	_, combinedErr := c.CombinedOutput(ctx)
	_, linesErr := testkit.Lines(c)
	for method, err := range map[string]error{
		"Run": c.Run(ctx), "RunStatus": statusErr, "Output": outputErr, "CombinedOutput": combinedErr, "Lines": linesErr, "Exec": c.Exec(),
	} {
		require.EqualError(t, err, "spawn: "+method+": Daemonize is for a program that nobody waits for; use Start")
	}
}

func TestADaemonGetsDataThatAPipeHolds(t *testing.T) {
	testkit.CheckLeaks(t)
	r, w := testkit.NewPipe(t)
	data := bytes.Repeat([]byte("0123456789abcdef"), 4<<10)
	c := testkit.Shell(`sha1sum; sha1sum "/dev/fd/$1"`).SetInput(data).SetStdout(w).Daemonize()
	c.AddArg(strconv.Itoa(c.SetSendBuffer(data)))
	p, err := c.Start(context.Background())
	require.NoError(t, err)
	require.NoError(t, w.Close())
	first := testkit.ReadLine(t, r)
	require.Equal(t, strings.Fields(first)[0], strings.Fields(testkit.ReadLine(t, r))[0])
	require.Equal(t, strings.Fields(testkit.OutputOf(t, spawn.New("sha1sum").SetInput(data)))[0], strings.Fields(first)[0])
	require.NoError(t, p.Wait())
}

func TestADaemonWithAHandshake(t *testing.T) {
	forEachDaemon(t, func(t *testing.T, with func(*spawn.Command) *spawn.Command) {
		dir := testkit.PublicDir(t)
		require.NoError(t, os.Chmod(dir, 0o777))
		ran := filepath.Join(dir, "ran")
		daemon := func() *spawn.Command {
			return with(testkit.Shell(`echo >"$1"; exec sleep 1000`, ran)).SetMaxCoreSize(0).SetWorkingDirectory(dir).SetKillMode(spawn.KillGroup).Daemonize()
		}
		p := testkit.Gated(t, daemon())
		require.Regexp(t, `Max core file size +0 +0 `, testkit.ProcText(t, p, "limits"))
		parent, group, _, _ := statOf(t, p.PID())
		require.Contains(t, ancestors(t), parent)
		require.Equal(t, p.PID(), group)
		testkit.RequireNoChild(t)
		require.NoFileExists(t, ran)
		require.NoError(t, p.HandshakeNotify())
		testkit.Eventually(t, "it runs", func() bool { _, err := os.Stat(ran); return err == nil })
		require.NoError(t, p.Abort())
		requireDaemonEnded(t, p)
		require.NoError(t, os.Remove(ran))

		for name, end := range map[string]func(p *spawn.Process, cancel func()) error{
			"Wait was called before":  func(p *spawn.Process, _ func()) error { _ = p.Wait(); return nil },
			"aborted":                 func(p *spawn.Process, _ func()) error { return p.Abort() },
			"context canceled":        func(_ *spawn.Process, cancel func()) error { cancel(); return nil },
			"the child ended before ": func(p *spawn.Process, _ func()) error { return p.Signal(unix.SIGKILL) },
		} {
			ctx, cancel := context.WithCancel(context.Background())
			p, err := daemon().RequireHandshake().Start(ctx)
			require.NoError(t, err)
			require.NoError(t, p.HandshakeWait(ctx))
			require.NoError(t, end(p, cancel), name)
			require.ErrorContains(t, testkit.RequireNeverRan(t, p), name)
			cancel()
			requireGone(t, p.PID())
			require.NoFileExists(t, ran)
		}

		p, err := with(spawn.New("/bin/true")).SetWorkingDirectory("/nonexistent").Daemonize().RequireHandshake().Start(context.Background())
		require.NoError(t, err)
		testkit.RequireNotStarted(t, p.HandshakeWait(context.Background()), `chdir("/nonexistent")`, os.ErrNotExist)
		testkit.RequireNeverRan(t, p)
		p = testkit.Gated(t, with(spawn.New("/nonexistent")).Daemonize())
		testkit.RequireNotStarted(t, p.HandshakeNotify(), `execve("/nonexistent")`, os.ErrNotExist)
	})
}

func TestADaemonsHookRunsInIt(t *testing.T) {
	testkit.CheckLeaks(t)
	path := filepath.Join(t.TempDir(), "pid")
	c := startCat(t, spawn.New("/bin/cat").SetPreExecHook(hookOpens, "/dev/null").SetPidFile(path))
	testkit.RequirePidFile(t, path, c.PID(), c.PID())
	c.stop(t)
	_, err := spawn.New("/bin/true").SetPreExecHook(hookOpens, "/nonexistent").Daemonize().Start(context.Background())
	testkit.RequireNotStarted(t, err, `hook("opens")`, os.ErrNotExist)
}

func TestADaemonsPidFileIsItsOwn(t *testing.T) {
	forEachDaemon(t, func(t *testing.T, with func(*spawn.Command) *spawn.Command) {
		path := filepath.Join(t.TempDir(), "pid")
		c := startCat(t, with(spawn.New("/bin/cat")).SetPidFile(path))
		testkit.RequirePidFile(t, path, c.PID(), c.PID())
		_, err := spawn.New("/bin/true").SetPidFile(path).Daemonize().Start(context.Background())
		require.ErrorContains(t, err, fmt.Sprintf(": held by process %d: ", c.PID()))
		c.stop(t)
		testkit.RequirePidFile(t, path, c.PID(), 0)

		c = startCat(t, with(spawn.New("/bin/cat")).SetPidFile(path))
		testkit.RequirePidFile(t, path, c.PID(), c.PID())
		c.stop(t)
		_, err = with(spawn.New("/nonexistent")).SetPidFile(path).Daemonize().Start(context.Background())
		require.ErrorIs(t, err, os.ErrNotExist)
		entries, err := os.ReadDir(filepath.Dir(path))
		require.NoError(t, err)
		require.Empty(t, entries)
	})
}

func TestADaemonsSocketsAreForItsPid(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	f, err := listener.(*net.TCPListener).File()
	require.NoError(t, err)
	defer f.Close()
	forEachDaemon(t, func(t *testing.T, with func(*spawn.Command) *spawn.Command) {
		c := startCat(t, with(testkit.Shell(`echo $LISTEN_PID $LISTEN_FDS $LISTEN_FDNAMES $$; cat`)).AddListenFD(f, "web"))
		require.Equal(t, fmt.Sprintf("%[1]d 1 web %[1]d", c.PID()), testkit.ReadLine(t, c.output))
		c.stop(t)
	})
}

// startPlain is startCat for a command that is no daemon.
func startPlain(t testing.TB, c *spawn.Command) *spawn.Process {
	r, w := testkit.NewPipe(t)
	p, err := c.SetStdin(r).Start(context.Background())
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, w.Close())
		require.NoError(t, p.Wait())
	})
	return p
}

func TestADaemonHasTheAttributesOfAnyCommand(t *testing.T) {
	testkit.CheckLeaks(t)
	own := map[string]string{"oom_score_adj": "", "coredump_filter": "", "limits": "", "personality": ""}
	for name := range own {
		own[name] = testkit.ReadFile(t, "/proc/self/"+name)
	}
	confined := func() *spawn.Command {
		c := confine(spawn.New("/bin/cat"))
		testkit.Wanted(c).Attributes.DeathSignal = 0
		return c.SetMaxFiles(50).SetUmask(0o27).SetKeyring(spawn.KeyringPrivate)
	}
	commands := map[string]func() *spawn.Command{
		"confined":    confined,
		"with a dump": func() *spawn.Command { return confined().SetCoredumpFilter(0x7f) },
		"other ids":   func() *spawn.Command { return testkit.OtherIDs(spawn.New("/bin/cat").SetOOMScoreAdj(1000)) },
	}
	if os.Geteuid() == 0 {
		commands["another user"] = func() *spawn.Command {
			return confined().SetUID(testkit.Nobody).SetGID(testkit.Nobody).SetGroups(1, 2).ClearCaps()
		}
		commands["SetUser"] = func() *spawn.Command { return spawn.New("/bin/cat").SetUser("nobody") }
	}
	same := []string{"Umask", "Uid", "Gid", "Groups", "SigBlk", "SigIgn", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp", "Cpus_allowed"}
	for name, command := range commands {
		t.Run(name, func(t *testing.T) {
			plain, daemon := startPlain(t, command()), startCat(t, command())
			want, got := testkit.ProcText(t, plain, "status"), testkit.ProcText(t, daemon.Process, "status")
			for _, field := range same {
				require.Equal(t, testkit.StatusField(want, field), testkit.StatusField(got, field), field)
			}
			require.Equal(t, testkit.ProcText(t, plain, "limits"), testkit.ProcText(t, daemon.Process, "limits"))
			require.Equal(t, testkit.ProcText(t, plain, "oom_score_adj"), testkit.ProcText(t, daemon.Process, "oom_score_adj"))
			if os.Geteuid() == 0 {
				for _, file := range []string{"coredump_filter", "personality"} {
					require.Equal(t, testkit.ProcText(t, plain, file), testkit.ProcText(t, daemon.Process, file), file)
				}
			}
			daemon.stop(t)
			for file, text := range own {
				require.Equal(t, text, testkit.ReadFile(t, "/proc/self/"+file), file)
			}
			require.Equal(t, 1, testkit.DumpableFlag())
		})
	}
}

func TestADaemonIsBornInItsCgroup(t *testing.T) {
	dir := testkit.NewCgroup(t)
	forEachDaemon(t, func(t *testing.T, with func(*spawn.Command) *spawn.Command) {
		c := startCat(t, with(spawn.New("/bin/cat")).SetCgroup(dir))
		require.Equal(t, strconv.Itoa(c.PID()), testkit.ReadFile(t, dir+"/cgroup.procs"))
		c.stop(t)
	})
}

// TestADaemonsNamespacesAreItsOwn and not those of the process that has forked
// it, whose end would be that of a pid namespace.
func TestADaemonsNamespacesAreItsOwn(t *testing.T) {
	testkit.NeedsClone(t)
	testkit.NeedsUserNamespaces(t)
	f, err := os.Open(os.DevNull)
	require.NoError(t, err)
	defer f.Close()
	forEachNamespace(t, func(t *testing.T, kind spawn.Namespace, path string) {
		asked := []spawn.Namespace{kind}
		if kind == spawn.PIDNamespace && os.Geteuid() == 0 {
			// This is so in shared memory too.
			c := startCat(t, testkit.Shell("echo $$; cat").SetNamespaces(kind))
			require.Equal(t, "1", testkit.ReadLine(t, c.output))
			c.stop(t)
		}
		if kind != spawn.UserNamespace {
			asked = append(asked, spawn.UserNamespace)
		}
		command := testkit.Shell("echo $LISTEN_PID $$ $(id -u); cat").SetNamespaces(asked...).SetUIDMap(spawn.IDMap{ContainerID: 0, HostID: os.Geteuid(), Size: 1}).SetGIDMap(spawn.IDMap{ContainerID: 0, HostID: os.Getegid(), Size: 1}).SetPidFile(path).AddListenFD(f, "")
		requireDaemonIn(t, command, kind, path, "PID PID 0")
	})
}

// forEachNamespace calls f for each kind, with the path of a pid file.
func forEachNamespace(t *testing.T, f func(t *testing.T, kind spawn.Namespace, path string)) {
	for kind, name := range testkit.AllKinds {
		if _, err := os.Stat("/proc/self/ns/" + name); err != nil {
			continue
		}
		t.Run(name, func(t *testing.T) {
			testkit.CheckLeaks(t)
			path := filepath.Join(t.TempDir(), "pid")
			f(t, kind, path)
		})
	}
}

// requireDaemonIn starts a daemon in a new namespace of this kind, which says
// what, with its pid there in place of PID.
func requireDaemonIn(t *testing.T, command *spawn.Command, kind spawn.Namespace, pidFile, what string) {
	c := startCat(t, command)
	pid := strconv.Itoa(c.PID())
	if kind == spawn.PIDNamespace {
		pid = "1"
	}
	require.Equal(t, strings.ReplaceAll(what, "PID", pid), testkit.ReadLine(t, c.output))
	testkit.RequirePidFile(t, pidFile, c.PID(), c.PID())
	ns := "/ns/" + testkit.AllKinds[kind]
	require.NotEqual(t, testkit.Readlink(t, "/proc/self"+ns), testkit.Readlink(t, fmt.Sprintf("/proc/%d%s", c.PID(), ns)))
	parent, _, _, _ := statOf(t, c.PID())
	require.Contains(t, ancestors(t), parent)
	c.stop(t)
}

// TestAHelpersDaemonHasNamespacesOfItsOwn but for one of users.
func TestAHelpersDaemonHasNamespacesOfItsOwn(t *testing.T) {
	testkit.NeedsRoot(t, "for namespaces without one of users")
	forEachNamespace(t, func(t *testing.T, kind spawn.Namespace, path string) {
		command := testkit.By(testkit.Shell("echo $$; cat").SetNamespaces(kind).SetPidFile(path), plan.ForkedHelper)
		if kind == spawn.UserNamespace {
			_, err := testkit.InUserNamespace(command).Daemonize().Start(context.Background())
			require.ErrorIs(t, err, errors.ErrUnsupported)
			require.ErrorContains(t, err, "spawn: Daemonize: no child can be cloned here, and a helper makes no user namespace for a daemon: ")
			return
		}
		requireDaemonIn(t, command, kind, path, "PID")
	})
}

func TestADaemonJoinsNamespaces(t *testing.T) {
	testkit.NeedsRoot(t, "to join namespaces")
	testkit.CheckLeaks(t)
	// A namespace ends when somebody has waited for the last daemon in it,
	// which may take its time.
	whole := t
	t.Run("cloned", func(t *testing.T) {
		testkit.NeedsClone(t)
		daemonJoins(t, whole, plan.Stub, [][]spawn.Namespace{{spawn.PIDNamespace}, {spawn.NetworkNamespace, spawn.PIDNamespace}, {spawn.TimeNamespace}, {spawn.UserNamespace, spawn.PIDNamespace}})
	})
	t.Run("forked", func(t *testing.T) {
		daemonJoins(t, whole, plan.ForkedHelper, [][]spawn.Namespace{{spawn.PIDNamespace}, {spawn.NetworkNamespace, spawn.PIDNamespace}, {spawn.MountNamespace}})
	})
}

// daemonJoins has daemons join namespaces, which end with the test whole.
func daemonJoins(t, whole *testing.T, executor plan.Executor, lists [][]spawn.Namespace) {
	for _, kinds := range lists {
		in := spawn.New("/bin/cat").SetNamespaces(kinds...)
		c := testkit.By(testkit.Shell("echo $$; cat"), executor)
		if kinds[0] == spawn.UserNamespace {
			testkit.InUserNamespace(in, kinds...)
			c.SetUID(0).SetGID(0)
		}
		target := testkit.WaitingIn(whole, in)
		for _, kind := range kinds {
			f, err := os.Open(fmt.Sprintf("/proc/%d/ns/%s", target.PID(), testkit.AllKinds[kind]))
			require.NoError(t, err)
			defer f.Close()
			c.JoinNamespace(kind, f)
		}
		daemon := startCat(t, c)
		for _, kind := range kinds {
			ns := "ns/" + testkit.AllKinds[kind]
			require.Equal(t, testkit.Readlink(t, fmt.Sprintf("/proc/%d/%s", target.PID(), ns)), testkit.Readlink(t, fmt.Sprintf("/proc/%d/%s", daemon.PID(), ns)))
		}
		number := testkit.ReadLine(t, daemon.output)
		pids := strings.Fields(testkit.StatusField(testkit.ProcText(t, daemon.Process, "status"), "NSpid"))
		require.Equal(t, strconv.Itoa(daemon.PID()), pids[0])
		require.Equal(t, number, pids[len(pids)-1])
		daemon.stop(t)
	}
}

func TestTheContextOfADaemonIsThatOfItsStart(t *testing.T) {
	forEachDaemon(t, func(t *testing.T, with func(*spawn.Command) *spawn.Command) {
		ctx, cancel := context.WithCancel(context.Background())
		c := startCatWith(t, ctx, with(spawn.New("/bin/cat")))
		cancel()
		_, err := c.input.WriteString("text\n")
		require.NoError(t, err)
		require.Equal(t, "text", testkit.ReadLine(t, c.output))
		c.stop(t)
		require.NoError(t, c.Wait())

		_, err = with(spawn.New("/bin/cat")).Daemonize().Start(ctx)
		testkit.RequireNotStarted(t, err, "start", context.Canceled)
	})
}

// TestTheContextEndsTheStartOfADaemon while this call of the first parent or of
// the daemon is held.
func TestTheContextEndsTheStartOfADaemon(t *testing.T) {
	for name, call := range map[string]uint32{"setsid": unix.SYS_SETSID, "clone": unix.SYS_CLONE, "chdir": unix.SYS_CHDIR} {
		t.Run(name, func(t *testing.T) {
			if call == unix.SYS_CLONE {
				// The thread with the filter makes this call too, by
				// package syscall.
				testkit.NeedsClone(t)
			}
			testkit.CheckLeaks(t)
			alive, w := testkit.NewPipe(t)
			ctx, cancel := context.WithCancel(context.Background())
			listener, started := make(chan int), make(chan error)
			go func() {
				// The filter stays with the thread, which ends.
				runtime.LockOSThread()
				fd, err := testkit.NotifyOf(call)
				listener <- fd
				if err == nil {
					_, err = spawn.New("/bin/true").SetKillMode(spawn.KillGroup).PassFDAs(w, 3, spawn.CloseParent).Daemonize().Start(ctx)
				}
				started <- err
			}()
			fd := <-listener
			defer unix.Close(fd)
			err := testkit.Answer(fd, func(int) {
				cancel()
				testkit.RequireNotStarted(t, <-started, "start", context.Canceled)
			})
			require.ErrorIs(t, err, unix.ENOENT, "who waited for the answer is gone")
			_, err = alive.Read(make([]byte, 1))
			require.ErrorIs(t, err, io.EOF)
		})
	}
}

// requireStartedOrKilled checks a start whose context ends sometime.
func requireStartedOrKilled(t testing.TB, p *spawn.Process, err error) {
	t.Helper()
	var start *spawn.StartError
	switch {
	case err == nil:
		require.NoError(t, p.Abort())
	case errors.As(err, &start) && errors.Is(err, context.Canceled):
	default:
		t.Fatal(err)
	}
}

// TestADaemonThatIsKilledWhileItStartsLeavesNothing: whichever of the two
// processes it is, and when.
func TestADaemonThatIsKilledWhileItStartsLeavesNothing(t *testing.T) {
	forEachDaemon(t, func(t *testing.T, with func(*spawn.Command) *spawn.Command) {
		alive, w := testkit.NewPipe(t)
		begin := time.Now()
		p, err := with(spawn.New("/bin/sleep", "1000")).Daemonize().Start(context.Background())
		took := time.Since(begin)
		require.NoError(t, err)
		require.NoError(t, p.Abort())
		for range testkit.Rounds(300, 30) {
			ctx, cancel := context.WithCancel(context.Background())
			// The program does not end by itself.
			c := with(spawn.New("/bin/sleep", "1000")).PassFDAs(w, 9).Daemonize()
			go func() {
				for end := time.Now().Add(rand.N(took)); time.Now().Before(end); {
					runtime.Gosched()
				}
				cancel()
			}()
			p, err := c.Start(ctx)
			requireStartedOrKilled(t, p, err)
			testkit.RequireNoChild(t)
			cancel()
		}
		require.NoError(t, w.Close())
		_, err = alive.Read(make([]byte, 1))
		require.ErrorIs(t, err, io.EOF)
	})
	for name, call := range map[string]uint32{
		"setsid": unix.SYS_SETSID, "clone": unix.SYS_CLONE, "exit_group": unix.SYS_EXIT_GROUP, "read": unix.SYS_READ,
	} {
		t.Run("SIGKILL in "+name, func(t *testing.T) {
			if call == unix.SYS_CLONE || call == unix.SYS_READ {
				// The thread with the filter makes this call too, by
				// package syscall.
				testkit.NeedsClone(t)
			}
			testkit.CheckLeaks(t)
			alive, w := testkit.NewPipe(t)
			listener, started := make(chan int), make(chan error)
			go func() {
				runtime.LockOSThread()
				// The thread that has the filter must not be held itself, so it
				// does nothing but clone.
				run := testkit.Call(spawn.New("/bin/true").PassFDAs(w, 3).Daemonize())
				run.Options.Executor = plan.Automatic
				require.NoError(t, run.ChooseExecutor(false))
				r, err := newDaemon(run)
				if err == nil {
					var fd int
					fd, err = testkit.NotifyOf(call)
					listener <- fd
				}
				if err == nil {
					err = r.Clone()
				}
				go func() {
					if err == nil {
						r.Meet()
						err = r.StartWaiting(context.Background())
					}
					started <- err
				}()
			}()
			fd := <-listener
			defer unix.Close(fd)
			_ = testkit.Answer(fd, func(pid int) { require.NoError(t, unix.Kill(pid, unix.SIGKILL)) })
			err := <-started
			if call == unix.SYS_EXIT_GROUP {
				require.NoError(t, err, "the daemon is there")
				if plan.CanClone() {
					// Else the program may be one for another kind of
					// processor, which the filter lets pass.
					require.NoError(t, testkit.Answer(fd, func(int) {}))
				}
			} else {
				require.ErrorContains(t, err, `spawn: cannot start "/bin/true": fork: the `)
			}
			require.NoError(t, w.Close())
			_, err = alive.Read(make([]byte, 1))
			require.ErrorIs(t, err, io.EOF)
			testkit.WaitForNoChild(t)
		})
	}
}

// TestADaemonThatIsHeldBeforeItAnswers is held in the call by which it says
// that it was there when it was met.
func TestADaemonThatIsHeldBeforeItAnswers(t *testing.T) {
	testkit.NeedsClone(t)
	for name, end := range map[string]func(t *testing.T, pid int, cancel func()) (said string, held []*os.File){
		"its context ends": func(_ *testing.T, _ int, cancel func()) (string, []*os.File) {
			cancel()
			return "start: context canceled", nil
		},
		"it is killed, and somebody holds its pipe": func(t *testing.T, pid int, _ func()) (string, []*os.File) {
			held := openReport(t, pid)
			require.NoError(t, unix.Kill(pid, unix.SIGKILL))
			return "fork: the process ended before its program", held
		},
	} {
		t.Run(name, func(t *testing.T) {
			if name != "its context ends" {
				testkit.NeedsRoot(t, "to look into a child")
			}
			testkit.GiveUpNever(t)
			testkit.CheckLeaks(t)
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			alive, w := testkit.NewPipe(t)
			listener, started := make(chan int), make(chan error, 1)
			go func() {
				// The thread with the filter must not be held itself, so it
				// does nothing but clone.
				runtime.LockOSThread()
				r, err := newDaemon(testkit.Call(spawn.New("/bin/true").PassFDAs(w, 3, spawn.CloseParent).Daemonize().SetGracePeriod(time.Hour)))
				fd := -1
				if err == nil {
					fd, err = testkit.NotifyOf(unix.SYS_WRITE)
				}
				listener <- fd
				if err == nil {
					err = r.Clone()
				}
				go func() {
					if err == nil {
						r.WatchContext(ctx)
						r.Meet()
						err = r.StartWaiting(ctx)
					}
					started <- err
				}()
			}()
			fd := <-listener
			defer unix.Close(fd)
			err := testkit.Answer(fd, func(pid int) {
				said, held := end(t, pid, cancel)
				err := within(func() error { return <-started })
				for _, f := range held {
					f.Close()
				}
				require.EqualError(t, err, `spawn: cannot start "/bin/true": `+said)
			})
			require.ErrorIs(t, err, unix.ENOENT, "who waited for the answer is gone")
			require.NoError(t, w.Close())
			_, err = alive.Read(make([]byte, 1))
			require.ErrorIs(t, err, io.EOF)
		})
	}
}

// TestADaemonWhoseContextEndsBeforeItIsMetIsEnded: what ends it has come to its
// first parent, which is no more.
func TestADaemonWhoseContextEndsBeforeItIsMetIsEnded(t *testing.T) {
	testkit.NeedsClone(t)
	for name, runs := range map[string]bool{"at its gate": false, "in its program, stopped": true} {
		t.Run(name, func(t *testing.T) {
			testkit.GiveUpNever(t)
			testkit.CheckLeaks(t)
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			c := testkit.Shell("echo $$ >&3; exec /bin/sleep 1000").Daemonize().SetGracePeriod(time.Hour)
			alive := testkit.PassPipe(t, c, 3)
			r, err := newDaemon(testkit.Call(c))
			require.NoError(t, err)
			require.NoError(t, r.Clone())
			p := r.Process()
			waitForZombie(t, p.PID)
			testkit.Wanted(c).CloseParents()
			if runs {
				_, err := unix.Write(r.GateW, []byte{1})
				require.NoError(t, err)
				pid, err := strconv.Atoi(testkit.ReadLine(t, alive))
				require.NoError(t, err)
				require.NoError(t, unix.Kill(pid, unix.SIGSTOP))
				testkit.Eventually(t, "it is stopped", func() bool { return testkit.ProcessState(pid) == 'T' })
			}
			cancel()
			r.WatchContext(ctx)
			<-p.Ended
			p.Mu.Lock() // then the signal has been sent
			require.Equal(t, !runs, p.Killed)
			p.Mu.Unlock()
			r.Meet()
			err = within(func() error { return r.StartWaiting(ctx) })
			if runs {
				require.NoError(t, err)
				require.NoError(t, within(func() error { <-p.Done; return nil }))
			} else {
				require.EqualError(t, err, `spawn: cannot start "/bin/sh": start: context canceled`)
			}
			_, err = io.Copy(io.Discard, alive) // to its end
			require.NoError(t, err)
		})
	}
}

// newDaemon prepares the start of a daemon.
func newDaemon(c run.Call) (*run.Child, error) {
	r, err := run.Prepare(context.Background(), c, plan.Watched)
	if err == nil {
		r.NewProcess()
	}
	return r, err
}

// startDaemons starts daemons one after the other until it is killed, and
// prints a line for each.
func startDaemons(args []string) int {
	alive := os.NewFile(3, "alive")
	for {
		c := daemonKinds()[args[0]](spawn.New("/bin/true")).PassFDAs(alive, 3).Daemonize()
		p, err := c.Start(context.Background())
		if err != nil {
			return testkit.Fail(err)
		}
		if err := p.Wait(); err != nil {
			return testkit.Fail(err)
		}
		fmt.Println()
	}
}

// TestNoDaemonIsLeftWaitingByAParentThatIsKilled at random moments: each runs
// its program or ends.
func TestNoDaemonIsLeftWaitingByAParentThatIsKilled(t *testing.T) {
	for kind := range daemonKinds() {
		t.Run(kind, func(t *testing.T) {
			testkit.CheckLeaks(t)
			for range testkit.Rounds(100, 10) {
				p, alive := testkit.SleepFor(t, testkit.HelperCommand(t, "start-daemons", kind).InheritStdio().PipeStdout())
				lines := bufio.NewReader(p.Stdout())
				for range 1 + rand.IntN(5) {
					_, err := lines.ReadString('\n')
					require.NoError(t, err)
				}
				for range rand.IntN(1000) {
					runtime.Gosched()
				}
				require.NoError(t, p.Signal(unix.SIGKILL))
				_, err := alive.Read(make([]byte, 1))
				require.ErrorIs(t, err, io.EOF)
				require.Equal(t, unix.SIGKILL, testkit.RequireAnySignal(t, p.Wait()))
				require.NoError(t, p.Stdout().Close())
				require.NoError(t, alive.Close())
			}
		})
	}
}

func TestManyDaemonsAtOnce(t *testing.T) {
	testkit.CheckLeaks(t)
	r, w := testkit.NewPipe(t)
	kinds := []func(*spawn.Command) *spawn.Command{func(c *spawn.Command) *spawn.Command { return c }, testkit.OtherIDs, func(c *spawn.Command) *spawn.Command { return c.SetCoredumpFilter(1) }}
	n := testkit.Rounds(300, 60)
	daemons := make([]*spawn.Process, n)
	var next atomic.Int32
	var wg sync.WaitGroup
	for range 16 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				p, err := kinds[i%len(kinds)](spawn.New("/bin/cat")).SetStdin(r).Daemonize().Start(context.Background())
				if err != nil {
					t.Error(err)
					return
				}
				daemons[i] = p
			}
		}()
	}
	wg.Wait()
	testkit.RequireNoChild(t)
	pids := map[int]bool{}
	for _, p := range daemons {
		require.NotNil(t, p)
		pids[p.PID()] = true
		require.Equal(t, spawn.Status{ExitCode: -1}, p.Status())
	}
	require.Len(t, pids, n)
	for i, p := range daemons {
		if i%2 == 0 {
			require.NoError(t, p.Abort())
		}
	}
	require.NoError(t, r.Close())
	require.NoError(t, w.Close())
	for _, p := range daemons {
		requireDaemonEnded(t, p)
	}
}

func TestExplainShowsTheDoubleFork(t *testing.T) {
	testkit.CheckLeaks(t)
	text, err := testkit.By(spawn.New("/bin/true").Daemonize(), plan.ForkedHelper).Explain()
	require.NoError(t, err)
	require.Contains(t, text, "\nclone(CLONE_VM|CLONE_VFORK) = 0\n")
	require.Equal(t, []string{"setsid", "clone", "read", "write"}, testkit.CallNames(text)[:4])
	testkit.NeedsClone(t)
	text, err = spawn.New("/bin/true").Daemonize().Explain()
	require.NoError(t, err)
	// Go has raised a limit on some machines.
	names := slices.DeleteFunc(testkit.CallNames(text), func(name string) bool { return name == "prlimit64" })
	want := []string{"close_range", "openat", "dup3", "fcntl", "execveat", "mmap", "close", "prctl", "fcntl", "setsid", "madvise", "clone", "read", "write", "chdir"}
	if os.Getuid() != 0 { // who stays dumpable for longer
		want = []string{"close_range", "openat", "dup3", "fcntl", "execveat", "mmap", "close", "fcntl", "setsid", "madvise", "clone", "read", "write", "prctl", "chdir"}
	}
	require.Equal(t, want, names[:len(want)])
	require.Contains(t, text, "\nclone(CLONE_PARENT_SETTID) = 0\n")
	text, err = spawn.New("/bin/true").SetNamespaces(spawn.TimeNamespace, spawn.PIDNamespace).SetProcessGroup().Daemonize().Explain()
	require.NoError(t, err)
	require.Contains(t, text, "\nclone3({flags=CLONE_PARENT_SETTID|CLONE_NEWPID|CLONE_NEWTIME}, 64) = 0\n")
	require.Equal(t, []string{"clone3", "read", "write", "setpgid"}, testkit.CallNames(text[strings.Index(text, "clone3"):])[:4])
}

func TestADaemonThatIsForgottenLeavesNoZombie(t *testing.T) {
	testkit.CheckLeaks(t)
	for range 10 {
		_, err := spawn.New("/bin/true").Daemonize().Start(context.Background())
		require.NoError(t, err)
	}
	runtime.GC()
	testkit.WaitForNoChild(t)
}

// BenchmarkDaemonize is the start of a daemon against that of a child.
func BenchmarkDaemonize(b *testing.B) {
	tiny := testkit.TinyProgram(b)
	run := func(c *spawn.Command) func() error {
		return func() error {
			p, err := c.Start(context.Background())
			if err != nil {
				return err
			}
			return p.Wait()
		}
	}
	testkit.Compare(b, run(spawn.New(tiny)), run(spawn.New(tiny).Daemonize()))
}
