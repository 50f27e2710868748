package main

import (
	"bufio"
	"context"
	_ "embed"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/virspawn/spawn"
	"github.com/virspawn/spawn/spawntest"
	"golang.org/x/sys/unix"
)

// By these names this test binary is the program under test, and a server that
// is given a socket.
const (
	argv0  = "supervise"
	server = "server"
)

func TestMain(m *testing.M) {
	switch {
	case os.Args[0] == argv0:
		main()
	case len(os.Args) == 2 && os.Args[1] == server:
		os.Exit(serve())
	}
	// What a supervisor leaves behind becomes a child of this process.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// serve answers each connection with the pid, and ends when it is asked to.
func serve() int {
	if os.Getenv("LISTEN_PID") != strconv.Itoa(os.Getpid()) || os.Getenv("LISTEN_FDNAMES") != "hello" {
		return 2
	}
	l, err := net.FileListener(os.NewFile(3, "hello"))
	if err != nil {
		return 3
	}
	for {
		c, err := l.Accept()
		if err != nil {
			return 4
		}
		fmt.Fprintln(c, os.Getpid())
		line, _ := bufio.NewReader(c).ReadString('\n')
		c.Close()
		if line == "end\n" {
			return 0
		}
	}
}

// supervised is a supervisor that runs.
type supervised struct {
	t   *testing.T
	dir string
	p   *spawn.Process

	mu    sync.Mutex
	added *sync.Cond
	lines []string // of both outputs
	open  int      // outputs that have not ended
}

// superviseIn starts the program under test.
func superviseIn(t *testing.T, dir, config string) *supervised {
	t.Helper()
	file := filepath.Join(t.TempDir(), "conf")
	require.NoError(t, os.WriteFile(file, []byte(config), 0o600))
	cmd := spawn.New("/proc/self/exe", "-run", dir, file).SetArgv0(argv0).PipeStdout().PipeStderr()
	for _, pair := range os.Environ() {
		cmd.AddEnvString(pair)
	}
	// The race detector's pause at the end.
	cmd.AddEnv("GORACE", "atexit_sleep_ms=0")
	p, err := cmd.Start(context.Background())
	require.NoError(t, err)
	s := &supervised{t: t, dir: dir, p: p, open: 2}
	s.added = sync.NewCond(&s.mu)
	go s.read(p.Stdout())
	go s.read(p.Stderr())
	// Its end fails whatever waits.
	watchdog := time.AfterFunc(time.Minute, func() { _ = p.Signal(syscall.SIGKILL) })
	t.Cleanup(func() {
		watchdog.Stop()
		// It has ended, unless the test has failed.
		_ = p.Signal(syscall.SIGKILL)
		_ = p.Wait()
		(&family{}).killAll()
		if t.Failed() {
			t.Log(strings.Join(s.lines, "\n"))
		}
	})
	return s
}

func supervise(t *testing.T, config string) *supervised {
	t.Helper()
	return superviseIn(t, t.TempDir(), config)
}

func (s *supervised) read(r io.ReadCloser) {
	defer r.Close()
	for lines := bufio.NewScanner(r); lines.Scan(); {
		s.mu.Lock()
		s.lines = append(s.lines, lines.Text())
		s.mu.Unlock()
		s.added.Broadcast()
	}
	s.mu.Lock()
	s.open--
	s.mu.Unlock()
	s.added.Broadcast()
}

// wait waits for n lines that match, and returns the parenthesised group of the
// last of them.
func (s *supervised) wait(n int, pattern string) string {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		matches := match(s.lines, pattern)
		if len(matches) >= n {
			return matches[n-1]
		}
		require.NotZero(s.t, s.open, "it has ended without %d lines %q", n, pattern)
		s.added.Wait()
	}
}

// match returns, of each line that matches, the parenthesised group, or all
// where the pattern has none.
func match(lines []string, pattern string) (found []string) {
	re := regexp.MustCompile(pattern)
	for _, line := range lines {
		if groups := re.FindStringSubmatch(line); groups != nil {
			found = append(found, groups[len(groups)-1])
		}
	}
	return found
}

func (s *supervised) signal(sig syscall.Signal) {
	s.t.Helper()
	require.NoError(s.t, s.p.Signal(sig))
}

// end waits for the end, by a signal that was sent, and checks that nothing is
// left. It returns all lines.
func (s *supervised) end() []string {
	s.t.Helper()
	require.NoError(s.t, s.p.Wait())
	err := unix.Waitid(unix.P_ALL, 0, &unix.Siginfo{}, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT|unix.WALL, nil)
	require.ErrorIs(s.t, err, unix.ECHILD, "a process is left")
	entries, err := os.ReadDir(s.dir)
	require.NoError(s.t, err)
	require.Empty(s.t, entries, "a file is left")
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.open > 0 {
		s.added.Wait()
	}
	return s.lines
}

// gone waits until a process has ended.
func gone(t *testing.T, pid string) {
	t.Helper()
	fd, err := unix.PidfdOpen(number(t, pid), 0)
	if err == unix.ESRCH {
		return
	}
	require.NoError(t, err)
	defer unix.Close(fd)
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 30_000)
		if err != unix.EINTR {
			require.NoError(t, err)
			require.Equal(t, 1, n, "process %s lives on", pid)
			return
		}
	}
}

func number(t *testing.T, text string) int {
	t.Helper()
	n, err := strconv.Atoi(text)
	require.NoError(t, err)
	return n
}

// sh is a line of a configuration: a shell with a script.
func sh(script string) string {
	return fmt.Sprintf("command = [%q, %q, %q]\n", "/bin/sh", "-c", script)
}

// daemon is a part of a script: a process that leaves its session, loses its
// parent, and ignores SIGTERM. When the script goes on its pid was told.
const daemon = `echo daemon $(setsid sh -c '(trap "" TERM; sh -c "echo \$PPID"; exec sleep 1000 >/dev/null 2>&1) &'); `

//go:embed supervise.conf
var sample string

func TestTheSampleConfigurationRuns(t *testing.T) {
	s := supervise(t, sample)
	s.wait(1, `^clock: .*UTC`)
	s.wait(1, `^activated: 1 socket: control$`)
	s.wait(1, `^flaky: I am `)
	s.signal(syscall.SIGTERM)
	s.end()
}

func TestLinesHaveTheNameOfTheirProgram(t *testing.T) {
	s := supervise(t, "[one]\n"+sh(`echo a; echo b >&2; printf "\\rc\\033"`)+"[two]\n"+sh("printf '%05000d' 0"))
	s.wait(2, "state=ended")
	s.signal(syscall.SIGINT)
	lines := s.end()
	require.Equal(t, []string{"a", "b", "c"}, match(lines, "^one: (.*)"))
	require.Equal(t, []string{strings.Repeat("0", 4096), strings.Repeat("0", 904)}, match(lines, "^two: (.*)"))
}

func TestAPidFileIsThereWhileTheProgramRuns(t *testing.T) {
	s := supervise(t, "[one]\n"+sh("echo $$; read line; exec sleep 1000")+"[two]\n"+sh("exit 0"))
	pid := s.wait(1, "^one: (.*)")
	text, err := os.ReadFile(filepath.Join(s.dir, "one.pid"))
	require.NoError(t, err)
	require.Equal(t, pid+"\n", string(text))
	require.Equal(t, pid, s.wait(1, "program=one state=ready .*pid=([0-9]+)"))
	s.wait(1, "program=two state=ended")
	require.NoFileExists(t, filepath.Join(s.dir, "two.pid"))
	s.signal(syscall.SIGTERM)
	s.end()
}

func TestPausesGrow(t *testing.T) {
	s := supervise(t, "[crash]\n"+sh("exit 3")+`
		pause = "1ms"
		max-pause = "5ms"
		stable = "1h"`)
	s.wait(6, "state=pausing")
	s.signal(syscall.SIGTERM)
	lines := s.end()
	require.Equal(t, []string{"1ms", "2ms", "4ms", "5ms", "5ms"}, match(lines, `state=pausing .*reason="exit status 3" pause=(.*)`)[:5])
	require.Equal(t, []string{"0", "1", "2", "3", "4"}, match(lines, "state=running restarts=([0-9]+)")[:5])
}

func TestAProgramThatHasRunForAWhileBeginsAnew(t *testing.T) {
	s := supervise(t, "[crash]\n"+sh("kill -KILL $$")+`
		pause = "1ms"
		stable = "1ns"`)
	s.wait(5, "state=pausing")
	s.signal(syscall.SIGTERM)
	require.Equal(t, []string{"1ms", "1ms", "1ms", "1ms", "1ms"}, match(s.end(), `reason="signal: killed" pause=(.*)`)[:5])
}

func TestAProgramIsRestartedAsItSays(t *testing.T) {
	for _, c := range []struct {
		restart string
		code    int
		state   string
	}{
		{"never", 0, "ended"}, {"never", 1, "ended"}, {"on-failure", 0, "ended"}, {"on-failure", 1, "pausing"}, {"always", 0, "pausing"}, {"always", 1, "pausing"},
	} {
		t.Run(fmt.Sprint(c.restart, c.code), func(t *testing.T) {
			s := supervise(t, fmt.Sprintf("[p]\nrestart = %q\nmax-pause = \"1h\"\npause = \"1h\"\n", c.restart)+sh(fmt.Sprint("exit ", c.code)))
			s.wait(1, fmt.Sprintf("state=%s restarts=0 reason=\"exit status %d\"", c.state, c.code))
			s.signal(syscall.SIGTERM) // also in a pause of an hour
			s.end()
		})
	}
}

func TestAProgramThatCannotBeStartedIsTriedAgain(t *testing.T) {
	s := supervise(t, "[none]\ncommand = [\"/nonexistent/program\"]\npause = \"1ms\"\n[dir]\n"+sh("")+"directory = \"/nonexistent\"\nrestart = \"never\"")
	s.wait(2, `program=none state=pausing .*execve.*/nonexistent/program.*no such file`)
	s.wait(1, `program=dir state=ended .*chdir.*/nonexistent.*no such file`)
	s.signal(syscall.SIGTERM)
	require.Empty(t, match(s.end(), "state=running"))
}

func TestSIGUSR1AsksForTheStatus(t *testing.T) {
	s := supervise(t, "[one]\n"+sh("exec sleep 1000")+"[two]\n"+sh("exit 0"))
	pid := s.wait(1, "program=one state=running .*pid=([0-9]+)")
	s.wait(1, "program=two state=ended")
	s.signal(syscall.SIGUSR1)
	s.wait(2, "program=one state=running restarts=0 pid="+pid+" uptime=")
	s.wait(1, "program=two state=ended restarts=0$")
	s.signal(syscall.SIGHUP)
	s.end()
}

func TestATreeIsEndedWithItsProgram(t *testing.T) {
	s := supervise(t, "[tree]\n"+sh(`trap "" TERM; `+daemon+`sleep 1000 & wait`)+"grace = \"10ms\"\n[crash]\n"+sh("exit 1")+`pause = "1ms"
		max-pause = "1ms"`)
	pid := s.wait(1, "^tree: daemon (.*)")
	// Orphans were looked for several times since.
	seen := len(match(s.copyLines(), "program=crash state=pausing"))
	s.wait(seen+5, "program=crash state=pausing")
	require.NoError(t, unix.Kill(number(t, pid), 0), "the program still runs")
	s.signal(syscall.SIGTERM)
	require.NotEmpty(t, match(s.end(), `program=tree state=stopped .*reason="signal: killed"`))
	require.ErrorIs(t, unix.Kill(number(t, pid), 0), unix.ESRCH)
}

// It is asked before it is killed. The program waits for what its
// daemon writes.
func TestATreeCanEndAsItLikes(t *testing.T) {
	const polite = `(trap "echo bye; exit" TERM; sleep 1000 >/dev/null 2>&1 & echo up >&2; wait) &`
	s := supervise(t, "[tree]\n"+sh(`trap : TERM; echo it says $(setsid sh -c '`+polite+`')`)+"grace = \"1m\"")
	s.wait(1, "^tree: up")
	s.signal(syscall.SIGTERM)
	lines := s.end()
	require.NotEmpty(t, match(lines, "^tree: it says bye$"))
	require.NotEmpty(t, match(lines, `state=stopped .*reason="exit status 0"`))
}

func TestADaemonThatIsStartedAtTheEndIsFoundToo(t *testing.T) {
	s := supervise(t, "[p]\n"+sh(`trap '`+strings.ReplaceAll(daemon, "'", `'\''`)+`exit' TERM; sleep 1000 & echo up; wait`))
	s.wait(1, "^p: up")
	s.signal(syscall.SIGTERM)
	require.NotEmpty(t, match(s.end(), "^p: daemon"))
}

func (s *supervised) copyLines() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.lines)
}

func TestWhatAProgramLeavesBehindIsKilled(t *testing.T) {
	s := supervise(t, "[leaves]\n"+sh(daemon+"exit 1")+"restart = \"never\"\n[runs]\n"+sh(daemon+"exec sleep 1000"))
	left := number(t, s.wait(1, "^leaves: daemon (.*)"))
	// Somebody has waited for it too, of which nothing tells.
	gone := func() bool { return unix.Kill(left, 0) == unix.ESRCH }
	require.Eventually(t, gone, 30*time.Second, time.Millisecond)
	pid := s.wait(1, "^runs: daemon (.*)")
	require.NoError(t, unix.Kill(number(t, pid), 0))
	s.signal(syscall.SIGTERM)
	s.end()
}

// The daemon keeps the program's output open.
func TestWhatIsLeftBehindDoesNotHoldUpTheRestart(t *testing.T) {
	s := supervise(t, "[leaves]\n"+sh(strings.ReplaceAll(daemon, "2>&1", "")+"exit 1")+`pause = "1ms"`)
	s.wait(3, "state=running")
	s.signal(syscall.SIGTERM)
	s.end()
}

func TestAnOutputThatOthersKeepOpenDoesNotHoldUpTheRestart(t *testing.T) {
	s := supervise(t, "[p]\n"+sh("echo $$; exec sleep 1000")+`pause = "1ms"`)
	pid := s.wait(1, "^p: (.*)")
	f, err := os.OpenFile("/proc/"+pid+"/fd/1", os.O_WRONLY, 0)
	require.NoError(t, err)
	defer f.Close()
	require.NoError(t, unix.Kill(number(t, pid), unix.SIGKILL))
	s.wait(2, "state=running")
	s.signal(syscall.SIGTERM)
	s.end()
}

func TestProgramsEndWhenTheSupervisorIsKilled(t *testing.T) {
	s := supervise(t, "[p]\n"+sh("echo $$; exec sleep 1000"))
	pid := s.wait(1, "^p: (.*)")
	s.signal(syscall.SIGKILL)
	gone(t, pid)
	require.Error(t, s.p.Wait())
	// The next one takes over what is left.
	require.FileExists(t, filepath.Join(s.dir, "p.pid"))
	next := superviseIn(t, s.dir, "[p]\n"+sh("echo $$; exec sleep 1000"))
	next.wait(1, "^p: (.*)")
	_, err := unix.Wait4(number(t, pid), nil, 0, nil)
	require.NoError(t, err)
	next.signal(syscall.SIGTERM)
	next.end()
}

func currentUser(t *testing.T) string {
	me, err := user.Current()
	require.NoError(t, err)
	return me.Username
}

// asMe is what a configuration has for a program that needs files of this user:
// a program of root's supervisor would be nobody's.
func asMe(t *testing.T) string { return fmt.Sprintf("user = %q\n", currentUser(t)) }

func TestAServerIsGivenItsSocket(t *testing.T) {
	self, err := os.Executable()
	require.NoError(t, err)
	config := fmt.Sprintf("[server]\ncommand = [%q, %q]\n", self, server) + asMe(t) +
		"restart = \"always\"\npause = \"1ms\"\nenvironment = {\"GORACE\": \"atexit_sleep_ms=0\"}\n"
	for network, address := range map[string]string{"unix": "socket", "tcp": "127.0.0.1:0"} {
		t.Run(network, func(t *testing.T) {
			s := supervise(t, config+fmt.Sprintf("listen = {\"hello\": %q}\n", network+":"+address))
			ask := func(n int) {
				pid := s.wait(n, "state=running .*pid=([0-9]+)")
				to := filepath.Join(s.dir, address)
				if network == "tcp" {
					to = listensOn(t, pid)
				}
				c, err := net.Dial(network, to)
				require.NoError(t, err)
				defer c.Close()
				fmt.Fprintln(c, "end")
				answer, err := bufio.NewReader(c).ReadString('\n')
				require.NoError(t, err)
				require.Equal(t, pid+"\n", answer)
			}
			ask(1)
			ask(2) // another process, and the same socket
			s.signal(syscall.SIGTERM)
			s.end()
		})
	}
}

// listensOn returns the address of a process's descriptor 3.
func listensOn(t *testing.T, pid string) string {
	pidfd, err := unix.PidfdOpen(number(t, pid), 0)
	require.NoError(t, err)
	defer unix.Close(pidfd)
	fd, err := unix.PidfdGetfd(pidfd, 3, 0)
	require.NoError(t, err)
	f := os.NewFile(uintptr(fd), "socket")
	defer f.Close()
	l, err := net.FileListener(f)
	require.NoError(t, err)
	defer l.Close()
	return l.Addr().String()
}

func TestProgramsAreConfined(t *testing.T) {
	s := supervise(t, "[p]\n"+sh(`umask; ulimit -n; pwd; id -un; env; grep -E "NoNewPrivs|Cap(Eff|Bnd)" /proc/self/status
		echo open $(ls /proc/self/fd); [ $(cut -d" " -f6 /proc/$$/stat) = $$ ] && echo session`)+`
		umask = "027"
		limits = {"nofile": 99}
		directory = "/usr"
		environment = {"A": "1"}`)
	s.wait(1, "state=ended")
	s.signal(syscall.SIGTERM)
	lines := match(s.end(), "^p: (.*)")
	user := currentUser(t)
	if os.Geteuid() == 0 {
		user = "nobody"
		require.Contains(t, lines, "CapBnd:\t0000000000000000")
	}
	// Open are the standard streams, the pid file, and the directory itself.
	for _, want := range []string{"0027", "99", "/usr", user, "A=1", "PATH=" + searchPath, "NoNewPrivs:\t1", "CapEff:\t0000000000000000", "open 0 1 2 3 4", "session"} {
		require.Contains(t, lines, want)
	}
	require.Empty(t, match(lines, "^(?:HOME|USER|TMPDIR)="), "it has this process's environment")
}

func TestLandlockLeavesAProgramItsFiles(t *testing.T) {
	if _, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION); errno != 0 {
		t.Skip("the kernel has no Landlock: ", errno)
	}
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(dir+"/writable", 0o700))
	script := "cd " + dir + `; echo a >writable/file && cat writable/file; echo b >file || echo refused`
	s := supervise(t, "[p]\n"+sh(script)+asMe(t)+fmt.Sprintf("read-only = [\"/\"]\nread-write = [%q]", dir+"/writable"))
	s.wait(1, "state=ended")
	s.signal(syscall.SIGTERM)
	lines := s.end()
	require.NotEmpty(t, match(lines, "^p: a$"))
	require.NotEmpty(t, match(lines, "^p: refused$"))
}

func TestTwoSupervisorsDoNotShareADirectory(t *testing.T) {
	s := supervise(t, "[p]\n"+sh("exec sleep 1000")+"listen = {\"s\": \"unix:socket\"}")
	s.wait(1, "state=running")
	second := superviseIn(t, s.dir, "[p]\n"+sh("exit")+"listen = {\"s\": \"unix:socket\"}")
	second.wait(1, "^supervise: another supervisor runs in "+s.dir)
	require.Error(t, second.p.Wait())
	require.Equal(t, 1, second.p.Status().ExitCode)
	require.FileExists(t, s.dir+"/p.pid")
	require.FileExists(t, s.dir+"/socket")
	s.signal(syscall.SIGTERM)
	s.end()
}

func TestASocketOfAKilledSupervisorIsReplaced(t *testing.T) {
	dir := t.TempDir()
	for range 2 {
		s := superviseIn(t, dir, "[p]\n"+sh("exit")+"listen = {\"s\": \"unix:socket\"}")
		s.wait(1, "state=ended")
		s.signal(syscall.SIGKILL)
		require.Error(t, s.p.Wait())
	}
}

func TestABadConfigurationStartsNothing(t *testing.T) {
	const program = "[p]\ncommand = [\"/bin/true\"]\n"
	for config, want := range map[string]string{
		"":                                                ": no program",
		"# only this\n":                                   ": no program",
		"command = [\"/bin/true\"]":                       ":1: neither",
		"[p]\n":                                           ":1: p: no command",
		"\n[a b]":                                         ":2: neither",
		"[../p]":                                          ":1: neither",
		program + "[]":                                    ":3: ",
		program + program:                                 ":3: there is a program p already",
		program + "nonsense":                              `:3: "nonsense" is neither [NAME] nor KEY = VALUE`,
		program + "comand = []":                           `:3: unknown key "comand"; known are command, directory,`,
		program + "Umask = \"022\"":                       `:3: unknown key "Umask"`,
		program + "command = []":                          ":3: command was set before",
		"[p]\ncommand = [\"true\"]":                       `:1: p: command: "true" is not an absolute path`,
		"[p]\ncommand = []":                               ":1: p: no command",
		"[p]\ncommand = \"/bin/true\"":                    ":2: command: a string cannot stand here",
		"[p]\ncommand = [\"/bin/true\"":                   ":2: command: unexpected end of JSON input",
		program + "umask = 22":                            ":3: umask: a number cannot stand here",
		program + "umask = \"888\"":                       `:3: umask: "888" is not an octal number up to 777`,
		program + "umask = \"1000\"":                      `:3: umask: "1000" is not`,
		program + "umask = \"22\", \"x\"":                 ":3: umask: invalid character ','",
		program + "pause = \"1\"":                         ":3: pause: time: missing unit",
		program + "pause = \"0s\"":                        ":3: pause: 0s is not positive",
		program + "pause = \"2m\"":                        ":1: p: max-pause: 1m0s is less than the pause of 2m0s",
		program + "restart = \"often\"":                   `:3: restart: "often" is none of never, on-failure, always`,
		program + "limits = {\"files\": 1}":               `:3: limits: "files" is none of as, core,`,
		program + "limits = {\"core\": -1}":               ":3: limits: a number -1 cannot stand here",
		program + "listen = {\"s\": \"udp:127.0.0.1:1\"}": `:3: listen: "udp:127.0.0.1:1" is neither`,
		program + "listen = {\"s\": \"unix:../socket\"}":  `:3: listen: "unix:../socket" is neither`,
		program + "listen = {\"s\": \"tcp:nowhere\"}":     ":1: p: listen tcp: address nowhere: missing port",
		program + "directory = \"tmp\"":                   `:1: p: directory: "tmp" is not an absolute path`,
		// What package spawn refuses.
		program + "listen = {\"a:b\": \"unix:socket\"}": `:1: p: spawn: AddListenFD: the name "a:b"`,
		program + "environment = {\"A=\": \"1\"}":       ":1: p: spawn: AddEnv: ",
		program + "user = \"no such user\"":             ":1: p: spawn: SetUser: ",
		program + "directory = \"/\\u0000\"":            ":1: p: spawn: SetWorkingDirectory: ",
	} {
		file := filepath.Join(t.TempDir(), "conf")
		require.NoError(t, os.WriteFile(file, []byte(config), 0o600))
		ctx, _ := spawntest.New(t) // which expects nothing
		s := &supervisor{dir: t.TempDir(), output: io.Discard, log: slog.New(slog.DiscardHandler)}
		require.ErrorContains(t, s.run(ctx, file), file+want, "%q", config)
		entries, err := os.ReadDir(s.dir)
		require.NoError(t, err)
		require.Empty(t, entries)
	}
}

func TestErrorsAreShown(t *testing.T) {
	s := supervise(t, "[first]\n"+sh("echo started")+"[second]\nnonsense")
	s.wait(1, `^supervise: .*/conf:4: "nonsense" is neither`)
	require.Error(t, s.p.Wait())
	require.Equal(t, 1, s.p.Status().ExitCode)
	require.Empty(t, match(s.lines, "started"))
}

func TestABadCommandLineIsRefused(t *testing.T) {
	for _, args := range [][]string{nil, {"a", "b"}, {"-nonsense", "a"}, {"-run", "", "a"}} {
		cmd := spawn.New("/proc/self/exe", args...).SetArgv0(argv0).AddEnv("XDG_RUNTIME_DIR", "/nonexistent")
		var stderr string
		status, err := cmd.SetErrorBuffer(&stderr).RunStatus(context.Background())
		require.NoError(t, err)
		require.Equal(t, 2, status.ExitCode)
		require.Contains(t, stderr, "usage: supervise")
	}
}

// TestACommandIsWhatItsSectionSays, in a dry run: what the programs are given,
// and how often.
func TestACommandIsWhatItsSectionSays(t *testing.T) {
	file := filepath.Join(t.TempDir(), "conf")
	require.NoError(t, os.WriteFile(file, []byte(`[p]
		command = ["/bin/p", "a b", ""]
		environment = {"B": "2", "A": "1"}
		directory = "/srv"
		pause = "1ns"
	`), 0o600))
	programs, err := parse(file)
	require.NoError(t, err)
	s := &supervisor{dir: t.TempDir(), family: &family{programs: map[int]string{}}, output: &strings.Builder{}, log: slog.New(slog.DiscardHandler)}
	svc, err := s.newService(programs[0])
	require.NoError(t, err)

	ctx, script := spawntest.New(t)
	script.Expect("/bin/p", "a b", "").Dir("/srv").Env("PATH", searchPath).Env("A", "1").Env("B", "2").Stdout("a\nb").Exit(1)
	script.Expect("/bin/p", "a b", "").StartError(unix.ENOMEM)
	script.Expect("/bin/p", "a b", "").Stdout("c\n")
	svc.keep(ctx)
	require.Equal(t, "p: a\np: b\np: c\n", s.output.(*strings.Builder).String())
	require.Equal(t, 2, svc.restarts)
	require.Equal(t, ended, svc.state)
}
