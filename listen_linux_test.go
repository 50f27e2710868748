package spawn

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func init() {
	helpers["exec-with-sockets"] = func([]string) int {
		c := New("/bin/cat").InheritStdio().AddEnv("A", "value")
		return fail(c.AddListenFD(os.NewFile(8, "a"), "a").AddListenFD(os.NewFile(7, "b"), "b").Exec())
	}
}

// twoSockets returns sockets that listen, of two families.
func twoSockets(t testing.TB) (a, b *os.File) {
	t.Helper()
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer tcp.Close()
	a, err = tcp.(*net.TCPListener).File()
	require.NoError(t, err)
	t.Cleanup(func() { a.Close() })
	path, err := net.Listen("unix", filepath.Join(t.TempDir(), "socket"))
	require.NoError(t, err)
	defer path.Close()
	b, err = path.(*net.UnixListener).File()
	require.NoError(t, err)
	t.Cleanup(func() { b.Close() })
	return a, b
}

// listenVariables returns the variables for sockets in a process's environment, in order, and the others.
func listenVariables(t testing.TB, pid int) (listen, others []string) {
	t.Helper()
	for _, v := range splitEnviron(readProc(t, pid, "environ")) {
		if strings.HasPrefix(v, "LISTEN_") {
			listen = append(listen, v)
		} else {
			others = append(others, v)
		}
	}
	slices.Sort(listen)
	return listen, others
}

// requireListening checks what a program got of two sockets, a and b. Its own pid is the last one of NSpid.
func requireListening(t testing.TB, p *Process, names string, a, b *os.File) {
	t.Helper()
	pids := strings.Fields(statusField(procText(t, p, "status"), "NSpid"))
	listen, _ := listenVariables(t, p.PID())
	require.Equal(t, []string{"LISTEN_FDNAMES=" + names, "LISTEN_FDS=2", "LISTEN_PID=" + pids[len(pids)-1]}, listen)
	got := liveTable(t, p)
	require.Equal(t, inodeOf(t, a), got[3])
	require.Equal(t, inodeOf(t, b), got[4])
	require.Len(t, got, 5)
}

// listenKinds are ways in which a child is made.
func listenKinds() map[string]func(testing.TB, *Command) *Command {
	kinds := map[string]func(testing.TB, *Command) *Command{
		"plain":         func(_ testing.TB, c *Command) *Command { return c },
		"other ids":     func(_ testing.TB, c *Command) *Command { return otherIDs(c).SetWorkingDirectory("/") },
		"own memory":    func(_ testing.TB, c *Command) *Command { return c.SetCoredumpFilter(1) },
		"out of memory": func(_ testing.TB, c *Command) *Command { return c.SetOOMScoreAdj(1000) },
		"death signal":  func(_ testing.TB, c *Command) *Command { return c.SetParentDeathSignal(unix.SIGKILL) },
	}
	if hasUserNamespaces() {
		kinds["new user and pid namespace"] = func(_ testing.TB, c *Command) *Command {
			return c.SetNamespaces(UserNamespace, PIDNamespace).SetUIDMap(IDMap{0, os.Geteuid(), 1}).SetGIDMap(IDMap{0, os.Getegid(), 1})
		}
	}
	if os.Geteuid() == 0 && hasUserNamespaces() {
		kinds["new pid namespace"] = func(_ testing.TB, c *Command) *Command { return c.SetNamespaces(PIDNamespace) }
		kinds["joined pid namespace"] = joinNewPIDNamespace
		kinds["joined pid namespace, other ids"] = func(t testing.TB, c *Command) *Command {
			return joinNewPIDNamespace(t, otherIDs(c).SetWorkingDirectory("/"))
		}
	}
	return kinds
}

// joinNewPIDNamespace puts the command's child into the pid namespace of another process.
func joinNewPIDNamespace(t testing.TB, c *Command) *Command {
	t.Helper()
	host := waitingIn(t, New("/bin/cat").SetNamespaces(PIDNamespace))
	ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/pid", host.PID()))
	require.NoError(t, err)
	t.Cleanup(func() { ns.Close() })
	return c.JoinNamespace(PIDNamespace, ns)
}

func TestAddListenFDTellsTheProgramOfItsSockets(t *testing.T) {
	a, b := twoSockets(t)
	for name, with := range listenKinds() {
		t.Run(name, func(t *testing.T) {
			checkLeaks(t)
			c := with(t, waiting()).AddListenFD(a, "http").AddListenFD(b, "")
			for range 3 { // a command can run any number of times
				p := live(t, c)
				requireListening(t, p, "http:unknown", a, b)
				stop(t, p)
			}
			p := gated(t, c)
			require.NoError(t, p.HandshakeNotify())
			require.Empty(t, readLine(t, p.Stdout()))
			requireListening(t, p, "http:unknown", a, b)
			stop(t, p)
		})
	}
}

func TestManyChildrenAtOnceEachGetTheirOwnListenPID(t *testing.T) {
	checkLeaks(t)
	a, b := twoSockets(t)
	c := shell("echo $$ $LISTEN_PID").AddListenFD(a, "a").AddListenFD(b, "b")
	errs := make(chan error)
	for range 8 {
		go func() {
			var err error
			for range rounds(50, 10) {
				var out []byte
				if out, err = c.Output(context.Background()); err != nil {
					break
				}
				if f := strings.Fields(string(out)); len(f) != 2 || f[0] != f[1] {
					err = fmt.Errorf("the program's pid and LISTEN_PID: %q", out)
					break
				}
			}
			errs <- err
		}()
	}
	for range 8 {
		require.NoError(t, <-errs)
	}
}

func TestTheVariablesForSocketsReplaceAllOthers(t *testing.T) {
	checkLeaks(t)
	t.Setenv("LISTEN_PID", strconv.Itoa(os.Getpid()))
	t.Setenv("LISTEN_PIDFDID", "12345")
	t.Setenv("LISTEN_FDS", "9")
	t.Setenv("LISTEN_FDNAMES", "inherited")
	t.Setenv("LISTEN_FDS_NOT", "stays")
	a, _ := twoSockets(t)
	add := func(c *Command) *Command { return c.AddListenFD(a, "mine") }
	inherited := slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "LISTEN_") })
	for name, x := range map[string]struct {
		c              *Command
		listen, others []string
	}{
		"inherited":          {add(waiting()), []string{"LISTEN_FDS_NOT=stays"}, inherited},
		"cleared":            {add(waiting().ClearEnv()), nil, nil},
		"cleared afterwards": {add(waiting()).AddEnv("LISTEN_FDS", "7").ClearEnv(), nil, nil},
		"added before": {
			add(waiting().AddEnv("A", "1").AddEnv("LISTEN_FDS", "7").AddEnv("LISTEN_PIDFDID", "7").AddSecretEnv("B", "2")),
			nil, []string{"A=1", "B=2"},
		},
		"added afterwards": {add(waiting()).AddEnv("LISTEN_PID", "7").AddEnv("LISTEN_FDNAMES", "7").AddEnv("A", "1"), nil, []string{"A=1"}},
		"passed on":        {add(waiting()).AddEnvPassAllowSUID("LISTEN_FDS", "LISTEN_PID", "LISTEN_FDS_NOT"), []string{"LISTEN_FDS_NOT=stays"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			p := live(t, x.c)
			defer stop(t, p)
			listen, others := listenVariables(t, p.PID())
			want := append([]string{"LISTEN_FDNAMES=mine", "LISTEN_FDS=1", "LISTEN_PID=" + strconv.Itoa(p.PID())}, x.listen...)
			slices.Sort(want)
			require.Equal(t, want, listen)
			require.Equal(t, x.others, others)
		})
	}
	p := live(t, waiting())
	defer stop(t, p)
	listen, _ := listenVariables(t, p.PID())
	require.Contains(t, listen, "LISTEN_FDS=9", "without a socket they are variables as any other")
}

func TestExecPassesSockets(t *testing.T) {
	checkLeaks(t)
	a, b := twoSockets(t)
	p, err := helperCommand(t, "exec-with-sockets").PassFDAs(a, 8).PassFDAs(b, 7).PipeStdin().PipeStdout().Start(context.Background())
	require.NoError(t, err)
	_, err = p.Stdin().Write([]byte("x\n"))
	require.NoError(t, err)
	require.Equal(t, "x", readLine(t, p.Stdout())) // now it is cat
	requireListening(t, p, "a:b", a, b)
	_, others := listenVariables(t, p.PID())
	require.Equal(t, []string{"A=value"}, others)
	stop(t, p)
}

// TestAListenerIsOfUseInBothProcesses: its socket stays non-blocking, so that an Accept that waits can be ended.
func TestAListenerIsOfUseInBothProcesses(t *testing.T) {
	checkLeaks(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	f, err := l.(*net.TCPListener).File()
	require.NoError(t, err)
	p := live(t, waiting().AddListenFD(f, "tcp"))
	require.NotZero(t, openFlags(t, p, 3)&unix.O_NONBLOCK)
	ended := make(chan error)
	go func() {
		for {
			conn, err := l.Accept()
			ended <- err
			if err != nil {
				return
			}
			conn.Close()
		}
	}()
	conn, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	require.NoError(t, conn.Close())
	require.NoError(t, <-ended)
	require.NoError(t, l.Close())
	require.ErrorIs(t, <-ended, net.ErrClosed)
	stop(t, p)

	f.Fd() // makes it blocking
	p = live(t, waiting().AddListenFD(f, "tcp"))
	require.Zero(t, openFlags(t, p, 3)&unix.O_NONBLOCK)
	stop(t, p)
	require.NoError(t, f.Close())
}

func TestNumbersOfSocketsAreForNothingElse(t *testing.T) {
	checkLeaks(t)
	a, b := twoSockets(t)
	other := memfd(t, "other", 3)
	for want, c := range map[string]*Command{
		"AddListenFD: two descriptors for the number 3: other and " + a.Name():                 New("x").PassFDAs(other, 3).AddListenFD(a, "a"),
		"AddListenFD: two descriptors for the number 4: other and " + b.Name():                 New("x").PassFDAs(other, 4).AddListenFD(a, "a").AddListenFD(b, "b"),
		"PassFDAs: two descriptors for the number 3: " + a.Name() + " and other":               New("x").AddListenFD(a, "a").PassFDAs(other, 3),
		"PassFDAs: two descriptors for the number 4: " + b.Name() + " and " + a.Name():         New("x").AddListenFD(a, "a").AddListenFD(b, "b").PassFDAs(a, 4),
		"AddListenFD: two descriptors for the number 3: that of SetSendBuffer and " + a.Name(): sendBufferAs3().AddListenFD(a, "a"),
	} {
		requireRefused(t, c, want)
	}
	low := memfd(t, "low", 3)
	c := New("x")
	for range fileNumber(low) - stderr {
		c.AddListenFD(a, "a")
	}
	c.PassFD(low)
	requireRefused(t, c, fmt.Sprintf("PassFD: two descriptors for the number %d: %s and low", fileNumber(low), a.Name()))

	// The same file under the same number is the same thing; a file under two names, and one more number, is none.
	requireTable(t, waiting().PassFDAs(a, 3).AddListenFD(a, "a").AddListenFD(a, "again").PassFDAs(a, 5),
		map[int]inode{3: inodeOf(t, a), 4: inodeOf(t, a), 5: inodeOf(t, a)})
}

// sendBufferAs3 is a command with a buffer that has got the number 3, as it does where there is no other.
func sendBufferAs3() *Command {
	c := New("x")
	wantedOf(c).passed = append(wantedOf(c).passed, passedFD{fd: 3, data: []byte("data")})
	return c
}

// requireRefused checks that every running call gives the error of a bad call.
func requireRefused(t testing.TB, c *Command, want string) {
	t.Helper()
	_, startErr := c.Start(context.Background())
	_, explainErr := c.Explain()
	for _, err := range []error{c.Run(context.Background()), c.Exec(), startErr, explainErr, c.Clone().Run(context.Background())} {
		require.EqualError(t, err, "spawn: "+want)
	}
}

func TestBadSocketsAreRefused(t *testing.T) {
	checkLeaks(t)
	a, _ := twoSockets(t)
	closed := memfd(t, "closed", 3)
	require.NoError(t, closed.Close())
	requireRefused(t, New("x").AddListenFD(nil, "a"), "AddListenFD: the file is nil")
	requireRefused(t, New("x").AddListenFD(closed, "a"), "AddListenFD: the file closed is closed")
	for _, name := range []string{"a:b", "a\nb", "\x00", "\x7f", "ü", "\xff", strings.Repeat("n", 256)} {
		requireRefused(t, New("x").AddListenFD(a, name),
			fmt.Sprintf("AddListenFD: the name %q is not up to 255 printable ASCII characters without a colon", name))
	}
	long := " !~=" + strings.Repeat("n", 251)
	p := live(t, waiting().AddListenFD(a, long))
	listen, _ := listenVariables(t, p.PID())
	require.Contains(t, listen, "LISTEN_FDNAMES="+long)
	stop(t, p)

	late := memfd(t, "late", 3)
	c := New("/bin/true").AddListenFD(late, "a")
	require.NoError(t, late.Close())
	for _, err := range []error{c.Run(context.Background()), c.Exec()} {
		requireNotStarted(t, err, "descriptor 3", os.ErrClosed)
	}
}

func TestSocketsLeaveNothingWhenTheProgramCannotStart(t *testing.T) {
	a, b := twoSockets(t)
	for name, with := range listenKinds() {
		t.Run(name, func(t *testing.T) {
			checkLeaks(t)
			for _, c := range []*Command{New("/nonexistent/program"), New("/bin/true").SetChroot("/nonexistent")} {
				with(t, c).AddListenFD(a, "a").AddListenFD(b, "b")
				require.ErrorIs(t, c.Run(context.Background()), os.ErrNotExist)
				_, err := c.Start(context.Background())
				require.ErrorIs(t, err, os.ErrNotExist)
			}
		})
	}
}

func TestStringAndExplainShowTheVariablesForSockets(t *testing.T) {
	checkLeaks(t)
	a, b := twoSockets(t)
	c := New("/bin/true").AddEnv("LISTEN_FDS", "7").AddSecretEnv("B", "hush").AddSecretEnv("LISTEN_FDNAMES", "hush").
		AddListenFD(a, "a").AddListenFD(b, "it's")
	require.Equal(t, `B=*** LISTEN_FDS=2 LISTEN_FDNAMES='a:it'\''s' /bin/true`, c.String())
	text, err := c.Explain()
	require.NoError(t, err)
	require.Contains(t, text, `execve("/bin/true", ["/bin/true"], ["B=***", "LISTEN_FDS=2", "LISTEN_FDNAMES=a:it's", "LISTEN_PID=PID"])`)
	require.NotContains(t, text, "hush")
	require.Equal(t, "LISTEN_FDS=1 LISTEN_FDNAMES=a /bin/true", New("/bin/true").AddListenFD(a, "a").String())
}

func TestACloneHasSocketsOfItsOwn(t *testing.T) {
	checkLeaks(t)
	a, b := twoSockets(t)
	c := waiting()
	for _, name := range []string{"1", "2", "3"} { // one more needs no new memory
		c.AddListenFD(a, name)
	}
	d := c.Clone().AddListenFD(b, "theirs")
	c.AddListenFD(a, "mine")
	for c, x := range map[*Command]struct {
		name string
		last *os.File
	}{c: {"mine", a}, d: {"theirs", b}} {
		p := live(t, c)
		listen, _ := listenVariables(t, p.PID())
		require.Contains(t, listen, "LISTEN_FDNAMES=1:2:3:"+x.name)
		require.Equal(t, inodeOf(t, x.last), liveTable(t, p)[6])
		stop(t, p)
	}
}
