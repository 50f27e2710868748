package process_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/virspawn/spawn"
	"github.com/virspawn/spawn/internal/command"
	"github.com/virspawn/spawn/internal/descriptor"
	"github.com/virspawn/spawn/internal/plan"
	"github.com/virspawn/spawn/internal/testkit"
	"golang.org/x/sys/unix"
)

var hookTerminal = spawn.RegisterHook("terminal", func(string) error {
	_, err := unix.IoctlGetWinsize(0, unix.TIOCGWINSZ)
	return err
})

func init() {
	testkit.Helpers["window"] = window
	testkit.Helpers["terminals-left"] = terminalsLeft
	testkit.Helpers["leads-without-terminal"] = leadsWithoutTerminal
}

// window prints the size of its terminal, now and after each SIGWINCH, until
// a line comes.
func window([]string) int {
	changed := make(chan os.Signal, 8)
	signal.Notify(changed, unix.SIGWINCH)
	line := make(chan bool)
	go func() {
		_, _ = bufio.NewReader(os.Stdin).ReadString('\n')
		close(line)
	}()
	for {
		size, err := unix.IoctlGetWinsize(0, unix.TIOCGWINSZ)
		if err != nil {
			return testkit.Fail(err)
		}
		fmt.Println(size.Row, size.Col)
		select {
		case <-changed:
		case <-line:
			return 0
		}
	}
}

// onPTY starts the command, which has a terminal, and returns what comes from
// it. A Read that takes too long is an error.
func onPTY(t testing.TB, c *spawn.Command) (*spawn.Process, *bufio.Reader) {
	t.Helper()
	return onPTYIn(t, context.Background(), c)
}

func onPTYIn(t testing.TB, ctx context.Context, c *spawn.Command) (*spawn.Process, *bufio.Reader) {
	t.Helper()
	testkit.NeedsTerminals(t)
	p, err := c.Start(ctx)
	require.NoError(t, err)
	t.Cleanup(func() { p.PTY().Close() })
	require.NoError(t, testkit.Running(p).PTY.Out.SetReadDeadline(time.Now().Add(time.Minute)))
	return p, bufio.NewReader(p.PTY())
}

// restOf reads to the end of the file, which is no error.
func restOf(t testing.TB, r io.Reader) string {
	t.Helper()
	b, err := io.ReadAll(r)
	require.NoError(t, err)
	return strings.ReplaceAll(string(b), "\r\n", "\n")
}

func requireLine(t testing.TB, want string, r *bufio.Reader) {
	t.Helper()
	line, err := r.ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, want, strings.TrimRight(line, "\r\n"))
}

func TestAPTYIsAllThreeStreamsAndTheControllingTerminal(t *testing.T) {
	testkit.CheckLeaks(t)
	c := spawn.New("/bin/sh", "-c", "tty; tty <&1; tty <&2; stty size; read a </dev/tty; echo got $a; cat /proc/$$/stat; ls /proc/self/fd")
	p, r := onPTY(t, c.SetPTY(31, 97))
	name, err := r.ReadString('\n')
	require.NoError(t, err)
	name = strings.TrimSpace(name)
	require.Regexp(t, `^/dev/pts/\d+$`, name)
	requireLine(t, name, r)
	requireLine(t, name, r)
	requireLine(t, "31 97", r)
	_, err = io.WriteString(p.PTY(), "typed\n")
	require.NoError(t, err)
	requireLine(t, "typed", r) // the echo
	requireLine(t, "got typed", r)
	stat, err := r.ReadString('\n')
	require.NoError(t, err)
	fields := strings.Fields(stat)
	require.Equal(t, strconv.Itoa(p.PID()), fields[5], "session")
	require.Equal(t, strconv.Itoa(p.PID()), fields[7], "foreground group")
	require.Equal(t, []string{"0", "1", "2", "3"}, strings.Fields(restOf(t, r)), "3 is the directory that ls reads")
	require.NoError(t, p.Wait())
	require.NoError(t, p.Resize(1, 1), "the end of the program is no error")
}

func TestAPTYIsNothingToThisProcessAndItsOtherChildren(t *testing.T) {
	testkit.CheckLeaks(t)
	t.Setenv("GORACE", "atexit_sleep_ms=0")
	testkit.NeedsTerminals(t)
	out, err := testkit.HelperCommand(t, "leads-without-terminal").SetSession().CombinedOutput(context.Background())
	require.NoError(t, err, "%s", out)
}

// leadsWithoutTerminal, a session leader that could get a terminal, starts
// a program on one.
func leadsWithoutTerminal([]string) int {
	descriptor.Close(0) // the first number to be given
	p, err := spawn.New("/bin/cat").SetPTY(1, 2).Start(context.Background())
	if err != nil {
		return testkit.Fail(err)
	}
	if f, err := os.Open("/dev/tty"); !errors.Is(err, unix.ENXIO) {
		return testkit.Fail(fmt.Errorf("/dev/tty: %v, %w", f, err))
	}
	fd := descriptor.Of(testkit.Running(p).PTY.Out.File)
	if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); fd <= command.Stderr || err != nil || flags != unix.FD_CLOEXEC {
		return testkit.Fail(fmt.Errorf("the descriptor %d has the flags %#x, %w", fd, flags, err))
	}
	if err := p.PTY().Close(); err != nil {
		return testkit.Fail(err)
	}
	<-p.Done()
	return 0
}

func TestStreamsOfAPTYCanBeDirectedElsewhere(t *testing.T) {
	testkit.CheckLeaks(t)
	file := filepath.Join(t.TempDir(), "file")
	f, err := os.Create(file)
	require.NoError(t, err)
	defer f.Close()
	script := func() *spawn.Command {
		return spawn.New("/bin/sh", "-c", "tty; stty size 2>/dev/null || echo no; echo out; echo error >&2; tty <&2; echo screen >/dev/tty; cat").SetPTY(5, 6)
	}
	t.Run("a file", func(t *testing.T) {
		p, r := onPTY(t, script().SetStdin(nil).SetStdout(f))
		require.Equal(t, "error\nscreen\n", restOf(t, r))
		require.NoError(t, p.Wait())
		require.Regexp(t, `^not a tty\nno\nout\n/dev/pts/\d+$`, testkit.ReadFile(t, file), "without the last line feed")
	})
	t.Run("pipes", func(t *testing.T) {
		var errs string
		p, r := onPTY(t, script().PipeStdin().PipeStdout().SetErrorBuffer(&errs))
		_, err := io.WriteString(p.Stdin(), "piped\n")
		require.NoError(t, err)
		require.NoError(t, p.Stdin().Close())
		require.Equal(t, "not a tty\nno\nout\nnot a tty\npiped\n", restOf(t, p.Stdout()))
		require.NoError(t, p.Stdout().Close())
		require.Equal(t, "screen\n", restOf(t, r))
		require.NoError(t, p.Wait())
		require.Equal(t, "error\n", errs)
	})
	t.Run("merged", func(t *testing.T) {
		p, r := onPTY(t, script().SetInput([]byte("data\n")).MergeStderr())
		require.Regexp(t, `^not a tty\nno\nout\nerror\n/dev/pts/\d+\nscreen\ndata\n$`, restOf(t, r))
		require.NoError(t, p.Wait())
	})
}

func TestAPTYInterruptsTheForegroundJob(t *testing.T) {
	testkit.CheckLeaks(t)
	// A shell with job control, whose job is a group of its own. The shell
	// raises the signal for itself too when its job has died of it.
	p, r := onPTY(t, spawn.New("/bin/sh", "-c", `set -m; trap : INT; (echo ready; exec cat); echo "job: $?"; read a; echo "got $a"`).SetPTY(0, 0))
	requireLine(t, "ready", r)
	_, err := p.PTY().Write([]byte{3}) // ^C
	require.NoError(t, err)
	line, err := r.ReadString('\n')
	require.NoError(t, err)
	for !strings.HasPrefix(line, "^Cjob: 130") && !strings.HasPrefix(line, "job: 130") {
		// Some shells begin a line.
		line, err = r.ReadString('\n')
		require.NoError(t, err)
	}
	_, err = p.PTY().Write([]byte("more\n"))
	require.NoError(t, err)
	require.Equal(t, "more\ngot more\n", restOf(t, r))
	require.NoError(t, p.Wait())

	p, r = onPTY(t, spawn.New("/bin/sh", "-c", "echo ready; exec cat").SetPTY(0, 0))
	requireLine(t, "ready", r)
	_, err = p.PTY().Write([]byte{3})
	require.NoError(t, err)
	var exit *spawn.ExitError
	require.ErrorAs(t, p.Wait(), &exit)
	require.Equal(t, unix.SIGINT, exit.Status.Signal)
	require.Contains(t, []string{"^C", ""}, restOf(t, r), "the echo, unless the program has ended before")
}

func TestResizeIsASIGWINCHForTheProgram(t *testing.T) {
	testkit.CheckLeaks(t)
	t.Setenv("GORACE", "atexit_sleep_ms=0")
	p, r := onPTY(t, testkit.HelperCommand(t, "window").SetPTY(24, 80))
	requireLine(t, "24 80", r)
	require.NoError(t, p.Resize(50, 132))
	requireLine(t, "50 132", r)
	require.NoError(t, p.Resize(65535, 0))
	requireLine(t, "65535 0", r)
	_, err := p.PTY().Write([]byte("\n"))
	require.NoError(t, err)
	require.NoError(t, p.Wait())
	require.NoError(t, p.PTY().Close())
	require.ErrorIs(t, p.Resize(1, 1), os.ErrClosed)
	_, err = p.PTY().Read(make([]byte, 1))
	require.ErrorIs(t, err, os.ErrClosed)
}

func TestClosingAPTYHangsUp(t *testing.T) {
	testkit.CheckLeaks(t)
	// A program that reads might see the end of the file first.
	p, r := onPTY(t, spawn.New("/bin/sh", "-c", "echo ready; exec sleep 1000").SetPTY(0, 0))
	requireLine(t, "ready", r)
	require.NoError(t, p.PTY().Close())
	var exit *spawn.ExitError
	require.ErrorAs(t, p.Wait(), &exit)
	require.Equal(t, unix.SIGHUP, exit.Status.Signal)
}

// background starts a program that ends and leaves a process behind, which does
// not heed SIGHUP and has the terminal open. The file that is returned ends
// that one, which then says so.
func background(t *testing.T, ctx context.Context) (*spawn.Process, *bufio.Reader, *os.File) {
	fifo := filepath.Join(t.TempDir(), "fifo")
	require.NoError(t, unix.Mkfifo(fifo, 0o600))
	p, r := onPTYIn(t, ctx, testkit.Shell(`trap "" HUP; (read line <"$1"; echo late) & echo left`, fifo).SetPTY(0, 0))
	requireLine(t, "left", r)
	require.NoError(t, p.Wait())
	f, err := os.OpenFile(fifo, os.O_WRONLY, 0)
	require.NoError(t, err)
	t.Cleanup(func() { f.Close() })
	return p, r, f
}

func TestWhatAProgramLeavesBehindKeepsItsPTYOpen(t *testing.T) {
	testkit.CheckLeaks(t)
	_, r, f := background(t, context.Background())
	require.NoError(t, f.Close())
	require.Equal(t, "late\n", restOf(t, r))
}

func TestAPTYThatIsKeptOpenIsClosedAfterTheContext(t *testing.T) {
	testkit.CheckLeaks(t)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	_, r, _ := background(t, ctx)
	cancel()
	_, err := r.ReadString('\n')
	require.ErrorIs(t, err, os.ErrClosed)
}

func TestAWriteToAPTYEndsWithItsProgram(t *testing.T) {
	testkit.CheckLeaks(t)
	for _, handshake := range []bool{false, true} {
		// Nobody reads what is typed on this one's terminal.
		c := testkit.Shell("echo ready; read line <&3")
		read, write, err := os.Pipe()
		require.NoError(t, err)
		c.PassFDAs(read, 3, spawn.CloseParent)
		if handshake {
			c.RequireHandshake()
		}
		p, r := onPTY(t, c.SetPTY(0, 0))
		if handshake {
			require.NoError(t, p.HandshakeNotify())
		}
		requireLine(t, "ready", r)
		type result struct {
			n   int
			err error
		}
		written := make(chan result)
		go func() {
			n, err := p.PTY().Write(make([]byte, 1<<20))
			written <- result{n, err}
		}()
		_, err = r.ReadByte() // the echo
		require.NoError(t, err)
		go func() { _, _ = io.Copy(io.Discard, r) }()
		require.NoError(t, write.Close())
		require.Error(t, p.Wait(), "read is at its end")
		got := <-written
		require.ErrorIs(t, got.err, unix.EIO)
		require.Less(t, got.n, 1<<20)
		_, err = p.PTY().Write([]byte("x"))
		require.EqualError(t, err, "write /dev/ptmx: input/output error")
		require.NoError(t, p.Resize(1, 1), "the end of the program is no error")
		require.NoError(t, p.PTY().Close())
		require.ErrorIs(t, p.PTY().Close(), os.ErrClosed)
	}
}

func TestTheEchoOfAPTYCanBeTurnedOff(t *testing.T) {
	testkit.CheckLeaks(t)
	p, r := onPTY(t, testkit.Shell(`read a; echo "got $a"`).SetPTY(0, 0).RequireHandshake())
	conn, err := p.PTY().(syscall.Conn).SyscallConn()
	require.NoError(t, err)
	require.NoError(t, conn.Control(func(fd uintptr) {
		termios, err := unix.IoctlGetTermios(int(fd), unix.TCGETS)
		require.NoError(t, err)
		termios.Lflag &^= unix.ECHO
		require.NoError(t, unix.IoctlSetTermios(int(fd), unix.TCSETS, termios))
	}))
	require.NoError(t, p.HandshakeNotify())
	_, err = io.WriteString(p.PTY(), "typed\n")
	require.NoError(t, err)
	require.Equal(t, "got typed\n", restOf(t, r))
	require.NoError(t, p.Wait())
}

func TestAPTYGoesWithEverythingElse(t *testing.T) {
	testkit.CheckLeaks(t)
	f := testkit.TempFile(t, "")
	for what, change := range map[string]func(*spawn.Command) *spawn.Command{
		"alone":                func(c *spawn.Command) *spawn.Command { return c },
		"with a session":       func(c *spawn.Command) *spawn.Command { return c.SetSession() },
		"with a group":         func(c *spawn.Command) *spawn.Command { return c.SetProcessGroup().SetKillMode(spawn.KillGroup) },
		"with a tree":          func(c *spawn.Command) *spawn.Command { return c.SetKillMode(spawn.KillTree) },
		"with descriptors":     func(c *spawn.Command) *spawn.Command { return c.PassFDAs(f, 3).PassFDAs(f, 4).PassFDAs(f, 9) },
		"as another user":      testkit.OtherIDs,
		"with a low limit":     func(c *spawn.Command) *spawn.Command { return c.SetRlimit(unix.RLIMIT_NOFILE, 20, 20) },
		"with a parent signal": func(c *spawn.Command) *spawn.Command { return c.SetParentDeathSignal(unix.SIGTERM) },
		"with a pid file":      func(c *spawn.Command) *spawn.Command { return c.SetPidFile(filepath.Join(t.TempDir(), "pid")) },
		"with a filter dump":   func(c *spawn.Command) *spawn.Command { return c.SetCoredumpFilter(1) },
		"with sockets":         func(c *spawn.Command) *spawn.Command { return c.AddListenFD(f, "x") },
		"with namespaces": func(c *spawn.Command) *spawn.Command {
			if !testkit.HasUserNamespaces() {
				return c
			}
			return c.SetNamespaces(spawn.UserNamespace, spawn.PIDNamespace, spawn.MountNamespace).
				SetUIDMap(spawn.IDMap{ContainerID: 0, HostID: os.Geteuid(), Size: 1}).SetGIDMap(spawn.IDMap{ContainerID: 0, HostID: os.Getegid(), Size: 1})
		},
		"with a filter": func(c *spawn.Command) *spawn.Command {
			return c.SetNoNewPrivs().SetSeccompFilter(testkit.FilterOf(unix.SYS_REBOOT, unix.SECCOMP_RET_ERRNO, 0))
		},
		"with ignored signals":   func(c *spawn.Command) *spawn.Command { return c.SetIgnoredSignals(unix.SIGPIPE) },
		"with a handshake":       func(c *spawn.Command) *spawn.Command { return c.RequireHandshake() },
		"by a helper":            func(c *spawn.Command) *spawn.Command { return testkit.By(c, plan.ChildAndHelper) },
		"by a forked helper":     func(c *spawn.Command) *spawn.Command { return testkit.By(c, plan.ForkedHelper) },
		"with a hook":            func(c *spawn.Command) *spawn.Command { return c.SetPreExecHook(hookTerminal, "") },
		"in a working directory": func(c *spawn.Command) *spawn.Command { return c.SetWorkingDirectory("/") },
	} {
		t.Run(what, func(t *testing.T) {
			p, r := onPTY(t, change(spawn.New("/bin/sh", "-c", "stty size && read a </dev/tty && echo $a").SetPTY(7, 8)))
			if testkit.Running(p).Gate != nil {
				require.NoError(t, p.HandshakeNotify())
			}
			requireLine(t, "7 8", r)
			_, err := p.PTY().Write([]byte("line\n"))
			require.NoError(t, err)
			require.Equal(t, "line\nline\n", restOf(t, r))
			require.NoError(t, p.Wait())
		})
	}
}

func TestAPTYIsThereAtTheHandshake(t *testing.T) {
	testkit.CheckLeaks(t)
	ctx := context.Background()
	p, r := onPTY(t, spawn.New("/bin/stty", "size").SetPTY(7, 8).RequireHandshake())
	require.NoError(t, p.HandshakeWait(ctx))
	require.NoError(t, p.Resize(9, 10))
	require.NoError(t, p.HandshakeNotify())
	require.Equal(t, "9 10\n", restOf(t, r))
	require.NoError(t, p.Wait())

	p, r = onPTY(t, spawn.New("/bin/true").SetPTY(7, 8).RequireHandshake())
	require.NoError(t, p.Abort())
	require.Empty(t, restOf(t, r))
	require.Error(t, p.Wait())
}

func TestAPTYIsItsUsers(t *testing.T) {
	testkit.CheckLeaks(t)
	owner := func(c *spawn.Command) string {
		p, r := onPTY(t, c.SetPTY(0, 0))
		out := restOf(t, r)
		require.NoError(t, p.Wait(), out)
		return out
	}
	uid := os.Geteuid()
	const script = `name=$(tty) && : <>"$name" && stat -c %u "$name"`
	require.Equal(t, fmt.Sprintln(uid), owner(testkit.Shell(script)))
	if uid != 0 {
		_, err := testkit.Shell(script).SetUID(uid+1).SetGID(os.Getgid()).SetPTY(0, 0).Start(context.Background())
		var start *spawn.StartError
		require.ErrorAs(t, err, &start)
		require.Regexp(t, fmt.Sprintf(`^fchown\(\d+, %d, -1\)$`, uid+1), start.Op)
		require.ErrorIs(t, err, unix.EPERM)
		_, err = testkit.Shell(script).SetUID(uid+1).SetGID(os.Getgid()).SetPTY(0, 0).Explain()
		require.NoError(t, err)
		return
	}
	require.Equal(t, fmt.Sprintln(testkit.Nobody), owner(testkit.Shell(script).SetUID(testkit.Nobody).SetGID(testkit.Nobody)))
	if !testkit.HasUserNamespaces() {
		return
	}
	// As seen from inside.
	inside := func() *spawn.Command {
		return testkit.Shell(script).SetNamespaces(spawn.UserNamespace).SetGIDMap(spawn.IDMap{ContainerID: 0, HostID: 0, Size: 1}).SetGID(0)
	}
	require.Equal(t, "5\n", owner(inside().SetUIDMap(spawn.IDMap{ContainerID: 0, HostID: 0, Size: 1}, spawn.IDMap{ContainerID: 1, HostID: 100001, Size: 9}).SetUID(5)))
	require.Equal(t, "0\n", owner(inside().SetUIDMap(spawn.IDMap{ContainerID: 0, HostID: 0, Size: 1})))
}

func TestAPTYIsReadToTheLastByte(t *testing.T) {
	testkit.CheckLeaks(t)
	for range testkit.Rounds(20, 4) {
		p, r := onPTY(t, testkit.Shell("i=0; while [ $i -lt 2000 ]; do echo 0123456789012345678901234567890123456789; i=$((i+1)); done; echo end").SetPTY(0, 0))
		out := restOf(t, r)
		require.True(t, strings.HasSuffix(out, "789\nend\n"), "%q", out[max(0, len(out)-100):])
		require.Len(t, out, 2000*41+4)
		require.NoError(t, p.Wait())
	}
}

func TestAPTYIsClosedWhenItCannotBeUsed(t *testing.T) {
	testkit.NeedsTerminals(t)
	testkit.CheckLeaks(t)
	for name, c := range map[string]*spawn.Command{
		"execve(":   spawn.New("/etc/passwd"),
		"chdir(":    spawn.New("/bin/true").SetWorkingDirectory("/no/such/directory"),
		"prlimit64": spawn.New("/bin/true").SetRlimit(unix.RLIMIT_NOFILE, 1<<40, 1<<40),
	} {
		_, err := c.SetPTY(1, 2).Start(context.Background())
		var start *spawn.StartError
		require.ErrorAs(t, err, &start, name)
		require.Contains(t, start.Op, name)
	}
	ctx, cancel := context.WithCancel(context.Background())
	p, err := spawn.New("/bin/cat").SetPTY(1, 2).Start(ctx)
	require.NoError(t, err)
	require.Equal(t, p.PTY(), p.PTY())
	cancel()
	require.ErrorIs(t, p.Wait(), context.Canceled)
	// A moment later the end is closed, which nobody has read.
	testkit.Eventually(t, "closed", func() bool { return descriptor.Of(testkit.Running(p).PTY.Out.File) < 0 })
}

// TestNoTerminalIsLeft looks at a file system of terminals of its own.
func TestNoTerminalIsLeft(t *testing.T) {
	testkit.NeedsTerminals(t)
	if os.Geteuid() != 0 && !testkit.HasUserNamespaces() {
		t.Skip("needs root or user namespaces")
	}
	testkit.CheckLeaks(t)
	t.Setenv("GORACE", "atexit_sleep_ms=0")
	c := testkit.HelperCommand(t, "terminals-left", t.TempDir()).SetNamespaces(spawn.MountNamespace)
	if os.Geteuid() != 0 {
		c.SetNamespaces(spawn.UserNamespace, spawn.MountNamespace).SetUIDMap(spawn.IDMap{ContainerID: 0, HostID: os.Geteuid(), Size: 1}).SetGIDMap(spawn.IDMap{ContainerID: 0, HostID: os.Getegid(), Size: 1})
	}
	out, err := c.CombinedOutput(context.Background())
	var exit *spawn.ExitError
	if errors.As(err, &exit) && exit.Status.ExitCode == exitSkip {
		t.Skip(string(out))
	}
	require.NoError(t, err, "%s", out)
}

// exitSkip is the exit code of a helper that cannot do its work on
// this machine.
const exitSkip = 77

// terminalsLeft starts programs on terminals, most in vain, and looks whether
// one is left. args[0] is an empty directory.
func terminalsLeft(args []string) int {
	for _, err := range []error{
		unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""),
		unix.Mount("devpts", "/dev/pts", "devpts", 0, "newinstance,ptmxmode=0666"),
		unix.Mount("/dev/pts/ptmx", "/dev/ptmx", "", unix.MS_BIND, ""),
	} {
		if err != nil {
			fmt.Println("cannot mount:", err)
			return exitSkip
		}
	}
	left := func() (names []string) {
		entries, err := os.ReadDir("/dev/pts")
		for _, e := range entries {
			if e.Name() != "ptmx" {
				names = append(names, e.Name())
			}
		}
		if err != nil {
			names = append(names, err.Error())
		}
		return names
	}
	closed, _ := os.Open(os.DevNull)
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	tests := map[string]struct {
		c   *spawn.Command
		ctx context.Context
	}{
		"program":   {c: spawn.New("/no/such/program")},
		"directory": {c: spawn.New("/bin/true").SetWorkingDirectory("/no/such/directory")},
		"limit":     {c: spawn.New("/bin/true").SetRlimit(unix.RLIMIT_NOFILE, 1<<40, 1<<40)},
		"passed":    {c: spawn.New("/bin/true").PassFDAs(closed, 3)},
		"terminal":  {c: spawn.New("/bin/true").SetControllingTTY(closed)},
		"context":   {c: spawn.New("/bin/true"), ctx: ended},
		"hook":      {c: spawn.New("/bin/true").SetPreExecHook(testkit.HookFails, "reason")},
	}
	closed.Close()
	for name, test := range tests {
		if test.ctx == nil {
			test.ctx = context.Background()
		}
		if _, err := test.c.SetPTY(1, 2).Start(test.ctx); err == nil {
			return testkit.Fail(fmt.Errorf("%s: no error", name))
		}
		if names := left(); names != nil {
			return testkit.Fail(fmt.Errorf("%s: left: %v", name, names))
		}
	}
	if _, err := spawn.New("/bin/true").SetPTY(1, 2).Explain(); err != nil || left() != nil {
		return testkit.Fail(fmt.Errorf("Explain: %w, left: %v", err, left()))
	}
	p, err := spawn.New("/bin/true").SetPTY(1, 2).Start(context.Background())
	if err != nil {
		return testkit.Fail(err)
	}
	if names := left(); len(names) != 1 {
		return testkit.Fail(fmt.Errorf("terminals: %v", names))
	}
	if err := errors.Join(p.PTY().Close(), p.Abort()); err != nil || left() != nil {
		return testkit.Fail(fmt.Errorf("a program: %w, left: %v", err, left()))
	}

	// Where /dev/ptmx belongs to another file system than /dev/pts there is no
	// way to another's terminal.
	for _, err := range []error{
		unix.Mount("devpts", args[0], "devpts", 0, "newinstance,ptmxmode=0666"),
		unix.Mount(filepath.Join(args[0], "ptmx"), "/dev/ptmx", "", unix.MS_BIND, ""),
	} {
		if err != nil {
			return testkit.Fail(err)
		}
	}
	// The next terminal there gets this one's number too.
	other, err := os.OpenFile("/dev/pts/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return testkit.Fail(err)
	}
	defer other.Close()
	var start *spawn.StartError
	_, err = spawn.New("/bin/true").SetPTY(1, 2).Start(context.Background())
	if !errors.As(err, &start) || start.Err != unix.ENODEV || start.Op != "ioctl(TIOCGPTPEER)" {
		return testkit.Fail(fmt.Errorf("another file system: %w", err))
	}
	return 0
}

func TestSetPTYShowsInExplain(t *testing.T) {
	testkit.NeedsTerminals(t)
	testkit.CheckLeaks(t)
	text, err := spawn.New("/bin/true").SetPTY(1, 2).Explain()
	require.NoError(t, err)
	require.Contains(t, text, "setsid()\nioctl(")
	require.NotContains(t, text, "/dev/null")
	require.Regexp(t, `(?m)^ioctl\(\d+, TIOCSCTTY, 0\)$`, text)
}

func TestARunOnAPTYIsRefused(t *testing.T) {
	testkit.CheckLeaks(t)
	ctx := context.Background()
	c := spawn.New("/bin/echo").SetPTY(1, 2)
	const want = ": SetPTY needs Start"
	require.EqualError(t, c.Run(ctx), "spawn: Run"+want)
	_, err := c.RunStatus(ctx)
	require.EqualError(t, err, "spawn: RunStatus"+want)
	_, err = c.Output(ctx)
	require.EqualError(t, err, "spawn: Output"+want)
	_, err = c.CombinedOutput(ctx)
	require.EqualError(t, err, "spawn: CombinedOutput"+want)
	for _, err := range c.Lines(ctx) {
		require.EqualError(t, err, "spawn: Lines"+want)
	}
	for _, err := range c.Records(ctx, 0) {
		require.EqualError(t, err, "spawn: Records"+want)
	}
	err = c.RunRegex(ctx, regexp.MustCompile("x"), func([]string) error { return nil })
	require.EqualError(t, err, "spawn: RunRegex"+want)
	require.EqualError(t, c.Exec(), "spawn: Exec"+want)

	f, _ := testkit.OpenTerminal(t)
	defer f.Close()
	for _, ctx := range []context.Context{ctx, testkit.Dry(func(*spawn.DryRunCall) {})} {
		_, err = spawn.New("/bin/echo").SetPTY(1, 2).SetControllingTTY(f).Start(ctx)
		require.EqualError(t, err, "spawn: SetPTY: by SetControllingTTY the session has another terminal")
		_, err = spawn.New("/bin/echo").SetPTY(1, 2).Daemonize().Start(ctx)
		require.EqualError(t, err, "spawn: SetPTY: a daemon has no terminal")
	}
	p, err := spawn.New("/bin/true").Start(ctx)
	require.NoError(t, err)
	require.Nil(t, p.PTY())
	require.EqualError(t, p.Resize(1, 2), "spawn: Resize: the command has no SetPTY")
	require.NoError(t, p.Wait())
}

func TestAPTYOfADryRunThatRunsTheProgram(t *testing.T) {
	testkit.CheckLeaks(t)
	p, err := spawn.New("/bin/sh", "-c", "cat; tty; echo error >&2").SetPTY(1, 2).Start(testkit.Dry(func(d *spawn.DryRunCall) { d.RunReal() }))
	require.NoError(t, err)
	_, err = p.PTY().Write([]byte("typed\n\x04"))
	require.NoError(t, err)
	require.Equal(t, "typed\nnot a tty\nerror\n", restOf(t, p.PTY()))
	require.NoError(t, p.Wait())
	require.NoError(t, p.PTY().Close())
}

func TestThereIsNoPTYOfADryRunThatCannotStart(t *testing.T) {
	testkit.CheckLeaks(t)
	_, err := spawn.New(testkit.Missing).SetPTY(0, 0).Start(testkit.Dry(func(d *spawn.DryRunCall) { d.Err = errors.New("no") }))
	require.ErrorContains(t, err, "no")
}
