//go:build linux

package plan_test

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
	"github.com/virspawn/spawn"
	"github.com/virspawn/spawn/internal/command"
	"github.com/virspawn/spawn/internal/descriptor"
	"github.com/virspawn/spawn/internal/testkit"
	"golang.org/x/sys/unix"
)

func init() {
	testkit.Helpers["exec-with-sockets"] = func([]string) int {
		c := spawn.New("/bin/cat").InheritStdio().AddEnv("A", "value")
		return testkit.Fail(c.AddListenFD(os.NewFile(8, "a"), "a").AddListenFD(os.NewFile(7, "b"), "b").Exec())
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

// listenVariables returns the variables for sockets in a process's environment,
// in order, and the others.
func listenVariables(t testing.TB, pid int) (listen, others []string) {
	t.Helper()
	for _, v := range splitEnviron(testkit.ReadProc(t, pid, "environ")) {
		if strings.HasPrefix(v, "LISTEN_") {
			listen = append(listen, v)
		} else {
			others = append(others, v)
		}
	}
	slices.Sort(listen)
	return listen, others
}

// requireListening checks what a program got of two sockets, a and b. Its own
// pid is the last one of NSpid.
func requireListening(t testing.TB, p *spawn.Process, names string, a, b *os.File) {
	t.Helper()
	pids := strings.Fields(testkit.StatusField(testkit.ProcText(t, p, "status"), "NSpid"))
	listen, _ := listenVariables(t, p.PID())
	require.Equal(t, []string{"LISTEN_FDNAMES=" + names, "LISTEN_FDS=2", "LISTEN_PID=" + pids[len(pids)-1]}, listen)
	got := testkit.LiveTable(t, p)
	require.Equal(t, testkit.InodeOf(t, a), got[3])
	require.Equal(t, testkit.InodeOf(t, b), got[4])
	require.Len(t, got, 5)
}

// listenKinds are ways in which a child is made.
func listenKinds() map[string]func(testing.TB, *spawn.Command) *spawn.Command {
	kinds := map[string]func(testing.TB, *spawn.Command) *spawn.Command{
		"plain": func(_ testing.TB, c *spawn.Command) *spawn.Command { return c },
		"other ids": func(_ testing.TB, c *spawn.Command) *spawn.Command {
			return testkit.OtherIDs(c).SetWorkingDirectory("/")
		},
		"own memory":    func(_ testing.TB, c *spawn.Command) *spawn.Command { return c.SetCoredumpFilter(1) },
		"out of memory": func(_ testing.TB, c *spawn.Command) *spawn.Command { return c.SetOOMScoreAdj(1000) },
		"death signal":  func(_ testing.TB, c *spawn.Command) *spawn.Command { return c.SetParentDeathSignal(unix.SIGKILL) },
	}
	if testkit.HasUserNamespaces() {
		kinds["new user and pid namespace"] = func(_ testing.TB, c *spawn.Command) *spawn.Command {
			return c.SetNamespaces(spawn.UserNamespace, spawn.PIDNamespace).SetUIDMap(spawn.IDMap{ContainerID: 0, HostID: os.Geteuid(), Size: 1}).SetGIDMap(spawn.IDMap{ContainerID: 0, HostID: os.Getegid(), Size: 1})
		}
	}
	if os.Geteuid() == 0 && testkit.HasUserNamespaces() {
		kinds["new pid namespace"] = func(_ testing.TB, c *spawn.Command) *spawn.Command { return c.SetNamespaces(spawn.PIDNamespace) }
		kinds["joined pid namespace"] = joinNewPIDNamespace
		kinds["joined pid namespace, other ids"] = func(t testing.TB, c *spawn.Command) *spawn.Command {
			return joinNewPIDNamespace(t, testkit.OtherIDs(c).SetWorkingDirectory("/"))
		}
	}
	return kinds
}

// joinNewPIDNamespace puts the command's child into the pid namespace of
// another process.
func joinNewPIDNamespace(t testing.TB, c *spawn.Command) *spawn.Command {
	t.Helper()
	host := testkit.WaitingIn(t, spawn.New("/bin/cat").SetNamespaces(spawn.PIDNamespace))
	ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/pid", host.PID()))
	require.NoError(t, err)
	t.Cleanup(func() { ns.Close() })
	return c.JoinNamespace(spawn.PIDNamespace, ns)
}

func TestAddListenFDTellsTheProgramOfItsSockets(t *testing.T) {
	a, b := twoSockets(t)
	for name, with := range listenKinds() {
		t.Run(name, func(t *testing.T) {
			testkit.CheckLeaks(t)
			c := with(t, testkit.Waiting()).AddListenFD(a, "http").AddListenFD(b, "")
			for range 3 { // a command can run any number of times
				p := testkit.Live(t, c)
				requireListening(t, p, "http:unknown", a, b)
				testkit.Stop(t, p)
			}
			p := testkit.Gated(t, c)
			require.NoError(t, p.HandshakeNotify())
			require.Empty(t, testkit.ReadLine(t, p.Stdout()))
			requireListening(t, p, "http:unknown", a, b)
			testkit.Stop(t, p)
		})
	}
}

func TestManyChildrenAtOnceEachGetTheirOwnListenPID(t *testing.T) {
	testkit.CheckLeaks(t)
	a, b := twoSockets(t)
	c := testkit.Shell("echo $$ $LISTEN_PID").AddListenFD(a, "a").AddListenFD(b, "b")
	errs := make(chan error)
	for range 8 {
		go func() {
			var err error
			for range testkit.Rounds(50, 10) {
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
	testkit.CheckLeaks(t)
	t.Setenv("LISTEN_PID", strconv.Itoa(os.Getpid()))
	t.Setenv("LISTEN_PIDFDID", "12345")
	t.Setenv("LISTEN_FDS", "9")
	t.Setenv("LISTEN_FDNAMES", "inherited")
	t.Setenv("LISTEN_FDS_NOT", "stays")
	a, _ := twoSockets(t)
	add := func(c *spawn.Command) *spawn.Command { return c.AddListenFD(a, "mine") }
	inherited := slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "LISTEN_") })
	for name, x := range map[string]struct {
		c              *spawn.Command
		listen, others []string
	}{
		"inherited":          {add(testkit.Waiting()), []string{"LISTEN_FDS_NOT=stays"}, inherited},
		"cleared":            {add(testkit.Waiting().ClearEnv()), nil, nil},
		"cleared afterwards": {add(testkit.Waiting()).AddEnv("LISTEN_FDS", "7").ClearEnv(), nil, nil},
		"added before": {
			add(testkit.Waiting().AddEnv("A", "1").AddEnv("LISTEN_FDS", "7").AddEnv("LISTEN_PIDFDID", "7").AddSecretEnv("B", "2")),
			nil, []string{"A=1", "B=2"},
		},
		"added afterwards": {add(testkit.Waiting()).AddEnv("LISTEN_PID", "7").AddEnv("LISTEN_FDNAMES", "7").AddEnv("A", "1"), nil, []string{"A=1"}},
		"passed on":        {add(testkit.Waiting()).AddEnvPassAllowSUID("LISTEN_FDS", "LISTEN_PID", "LISTEN_FDS_NOT"), []string{"LISTEN_FDS_NOT=stays"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			p := testkit.Live(t, x.c)
			defer testkit.Stop(t, p)
			listen, others := listenVariables(t, p.PID())
			want := append([]string{"LISTEN_FDNAMES=mine", "LISTEN_FDS=1", "LISTEN_PID=" + strconv.Itoa(p.PID())}, x.listen...)
			slices.Sort(want)
			require.Equal(t, want, listen)
			require.Equal(t, x.others, others)
		})
	}
	p := testkit.Live(t, testkit.Waiting())
	defer testkit.Stop(t, p)
	listen, _ := listenVariables(t, p.PID())
	require.Contains(t, listen, "LISTEN_FDS=9", "without a socket they are variables as any other")
}

func TestExecPassesSockets(t *testing.T) {
	testkit.CheckLeaks(t)
	a, b := twoSockets(t)
	p, err := testkit.HelperCommand(t, "exec-with-sockets").PassFDAs(a, 8).PassFDAs(b, 7).PipeStdin().PipeStdout().Start(context.Background())
	require.NoError(t, err)
	_, err = p.Stdin().Write([]byte("x\n"))
	require.NoError(t, err)
	require.Equal(t, "x", testkit.ReadLine(t, p.Stdout())) // now it is cat
	requireListening(t, p, "a:b", a, b)
	_, others := listenVariables(t, p.PID())
	require.Equal(t, []string{"A=value"}, others)
	testkit.Stop(t, p)
}

// TestAListenerIsOfUseInBothProcesses: its socket stays non-blocking, so that
// an Accept that waits can be ended.
func TestAListenerIsOfUseInBothProcesses(t *testing.T) {
	testkit.CheckLeaks(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	f, err := l.(*net.TCPListener).File()
	require.NoError(t, err)
	p := testkit.Live(t, testkit.Waiting().AddListenFD(f, "tcp"))
	require.NotZero(t, testkit.OpenFlags(t, p, 3)&unix.O_NONBLOCK)
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
	testkit.Stop(t, p)

	f.Fd() // makes it blocking
	p = testkit.Live(t, testkit.Waiting().AddListenFD(f, "tcp"))
	require.Zero(t, testkit.OpenFlags(t, p, 3)&unix.O_NONBLOCK)
	testkit.Stop(t, p)
	require.NoError(t, f.Close())
}

func TestNumbersOfSocketsAreForNothingElse(t *testing.T) {
	testkit.CheckLeaks(t)
	a, b := twoSockets(t)
	other := testkit.Memfd(t, "other", 3)
	for want, c := range map[string]*spawn.Command{
		"AddListenFD: two descriptors for the number 3: other and " + a.Name():                 spawn.New("x").PassFDAs(other, 3).AddListenFD(a, "a"),
		"AddListenFD: two descriptors for the number 4: other and " + b.Name():                 spawn.New("x").PassFDAs(other, 4).AddListenFD(a, "a").AddListenFD(b, "b"),
		"PassFDAs: two descriptors for the number 3: " + a.Name() + " and other":               spawn.New("x").AddListenFD(a, "a").PassFDAs(other, 3),
		"PassFDAs: two descriptors for the number 4: " + b.Name() + " and " + a.Name():         spawn.New("x").AddListenFD(a, "a").AddListenFD(b, "b").PassFDAs(a, 4),
		"AddListenFD: two descriptors for the number 3: that of SetSendBuffer and " + a.Name(): sendBufferAs3().AddListenFD(a, "a"),
	} {
		requireRefused(t, c, want)
	}
	low := testkit.Memfd(t, "low", 3)
	c := spawn.New("x")
	for range descriptor.Of(low) - command.Stderr {
		c.AddListenFD(a, "a")
	}
	c.PassFD(low)
	requireRefused(t, c, fmt.Sprintf("PassFD: two descriptors for the number %d: %s and low", descriptor.Of(low), a.Name()))

	// The same file under the same number is the same thing; a file under two
	// names, and one more number, is none.
	testkit.RequireTable(t, testkit.Waiting().PassFDAs(a, 3).AddListenFD(a, "a").AddListenFD(a, "again").PassFDAs(a, 5),
		map[int]testkit.Inode{3: testkit.InodeOf(t, a), 4: testkit.InodeOf(t, a), 5: testkit.InodeOf(t, a)})
}

// sendBufferAs3 is a command with a buffer that has got the number 3, as it
// does where there is no other.
func sendBufferAs3() *spawn.Command {
	c := spawn.New("x")
	testkit.Wanted(c).Passed = append(testkit.Wanted(c).Passed, command.PassedFD{FD: 3, Data: []byte("data")})
	return c
}

// requireRefused checks that every running call gives the error of a bad call.
func requireRefused(t testing.TB, c *spawn.Command, want string) {
	t.Helper()
	_, startErr := c.Start(context.Background())
	_, explainErr := c.Explain()
	for _, err := range []error{c.Run(context.Background()), c.Exec(), startErr, explainErr, c.Clone().Run(context.Background())} {
		require.EqualError(t, err, "spawn: "+want)
	}
}

func TestBadSocketsAreRefused(t *testing.T) {
	testkit.CheckLeaks(t)
	a, _ := twoSockets(t)
	closed := testkit.Memfd(t, "closed", 3)
	require.NoError(t, closed.Close())
	requireRefused(t, spawn.New("x").AddListenFD(nil, "a"), "AddListenFD: the file is nil")
	requireRefused(t, spawn.New("x").AddListenFD(closed, "a"), "AddListenFD: the file closed is closed")
	for _, name := range []string{"a:b", "a\nb", "\x00", "\x7f", "ü", "\xff", strings.Repeat("n", 256)} {
		requireRefused(t, spawn.New("x").AddListenFD(a, name),
			fmt.Sprintf("AddListenFD: the name %q is not up to 255 printable ASCII characters without a colon", name))
	}
	long := " !~=" + strings.Repeat("n", 251)
	p := testkit.Live(t, testkit.Waiting().AddListenFD(a, long))
	listen, _ := listenVariables(t, p.PID())
	require.Contains(t, listen, "LISTEN_FDNAMES="+long)
	testkit.Stop(t, p)

	late := testkit.Memfd(t, "late", 3)
	c := spawn.New("/bin/true").AddListenFD(late, "a")
	require.NoError(t, late.Close())
	for _, err := range []error{c.Run(context.Background()), c.Exec()} {
		testkit.RequireNotStarted(t, err, "descriptor 3", os.ErrClosed)
	}
}

func TestSocketsLeaveNothingWhenTheProgramCannotStart(t *testing.T) {
	a, b := twoSockets(t)
	for name, with := range listenKinds() {
		t.Run(name, func(t *testing.T) {
			testkit.CheckLeaks(t)
			for _, c := range []*spawn.Command{spawn.New("/nonexistent/program"), spawn.New("/bin/true").SetChroot("/nonexistent")} {
				with(t, c).AddListenFD(a, "a").AddListenFD(b, "b")
				require.ErrorIs(t, c.Run(context.Background()), os.ErrNotExist)
				_, err := c.Start(context.Background())
				require.ErrorIs(t, err, os.ErrNotExist)
			}
		})
	}
}

func TestStringAndExplainShowTheVariablesForSockets(t *testing.T) {
	testkit.CheckLeaks(t)
	a, b := twoSockets(t)
	c := spawn.New("/bin/true").AddEnv("LISTEN_FDS", "7").AddSecretEnv("B", "hush").AddSecretEnv("LISTEN_FDNAMES", "hush").
		AddListenFD(a, "a").AddListenFD(b, "it's")
	require.Equal(t, `B=*** LISTEN_FDS=2 LISTEN_FDNAMES='a:it'\''s' /bin/true`, c.String())
	text, err := c.Explain()
	require.NoError(t, err)
	require.Contains(t, text, `execve("/bin/true", ["/bin/true"], ["B=***", "LISTEN_FDS=2", "LISTEN_FDNAMES=a:it's", "LISTEN_PID=PID"])`)
	require.NotContains(t, text, "hush")
	require.Equal(t, "LISTEN_FDS=1 LISTEN_FDNAMES=a /bin/true", spawn.New("/bin/true").AddListenFD(a, "a").String())
}

func TestACloneHasSocketsOfItsOwn(t *testing.T) {
	testkit.CheckLeaks(t)
	a, b := twoSockets(t)
	c := testkit.Waiting()
	for _, name := range []string{"1", "2", "3"} {
		// One more name needs no new memory.
		c.AddListenFD(a, name)
	}
	d := c.Clone().AddListenFD(b, "theirs")
	c.AddListenFD(a, "mine")
	for c, x := range map[*spawn.Command]struct {
		name string
		last *os.File
	}{c: {"mine", a}, d: {"theirs", b}} {
		p := testkit.Live(t, c)
		listen, _ := listenVariables(t, p.PID())
		require.Contains(t, listen, "LISTEN_FDNAMES=1:2:3:"+x.name)
		require.Equal(t, testkit.InodeOf(t, x.last), testkit.LiveTable(t, p)[6])
		testkit.Stop(t, p)
	}
}
