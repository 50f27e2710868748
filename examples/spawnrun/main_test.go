//go:build linux

package main

import (
	"bufio"
	"context"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/virspawn/spawn"
	"golang.org/x/sys/unix"
)

// argv0 is the argument 0 with which this test binary is the program under
// test. So the tests run the real thing, also where there is no go command.
const argv0 = "spawnrun"

func TestMain(m *testing.M) {
	if os.Args[0] == argv0 {
		main()
	}
	os.Exit(m.Run())
}

// spawnrun returns a command that runs the program under test, with little else
// in its environment than PATH.
func spawnrun(t *testing.T, args ...string) *spawn.Command {
	path, err := os.Executable()
	require.NoError(t, err)
	return spawn.New(path, args...).SetArgv0(argv0).AddEnvPassAllowSUID("PATH").AddEnv("PASSED", "passed on").
		// The race detector's pause at the end.
		AddEnv("GORACE", "atexit_sleep_ms=0")
}

// result is how a run ended.
type result struct {
	stdout, stderr string
	code           int
}

func runToEnd(t *testing.T, cmd *spawn.Command) (r result) {
	status, err := cmd.SetOutputBuffer(&r.stdout).SetErrorBuffer(&r.stderr).RunStatus(context.Background())
	require.NoError(t, err)
	r.code = status.ExitCode
	return r
}

func words(s string) []string { return strings.Fields(s) }

// sh returns a program with a script.
func sh(script string) []string { return []string{"sh", "-c", script} }

// What flags do that the program itself can see.
var flagTests = []struct {
	flags, program []string
	stdout         string
}{
	{words("-secret-arg hush"), words("echo a"), "a hush\n"},
	{words("-string -secret-arg hush -secret-env A=hush"), words("a b'c"), `A=*** a 'b'\''c' ***` + "\n"},
	{words("-env A=1 -env B=2 -env A=3"), words("env"), "A=3\nB=2\n"},
	{words("-secret-env A=hush"), words("env"), "A=hush\n"},
	{words("-env-pass PASSED -env-pass UNSET"), words("env"), "PASSED=passed on\n"},
	{words("-env-pass-block PASSED -env-pass-block UNSET=else"), words("env"), "PASSED=passed on\nUNSET=else\n"},
	{words("-env-common"), words("env"), "PATH=" + os.Getenv("PATH") + "\n"},
	{words("-env-all -env PATH=/x"), words("/usr/bin/env"), "PATH=/x\nPASSED=passed on\nGORACE=atexit_sleep_ms=0\n"},
	{words("-env-xdg /x"), words("env"), "XDG_DATA_HOME=/x/.local/share\nXDG_CACHE_HOME=/x/.cache\nXDG_CONFIG_HOME=/x/.config\n"},
	{words("-env A=1 -clear-env -env B=2"), words("env"), "B=2\n"},
	{[]string{"-input", "a text"}, words("cat"), "a text"},
	{words("-null-stdin"), words("cat"), ""},
	{words("-merge-stderr"), sh("echo error >&2"), "error\n"},
	{words("-output"), words("echo a"), "a\n"},
	{words("-combined-output"), sh("echo a; echo b >&2; echo c"), "a\nb\nc\n"},
	{words("-policy /sbin,/usr/bin/,/bin"), words("echo allowed"), "allowed\n"},
	{[]string{"-lines", "> "}, []string{"printf", `a\nb`}, "> a\n> b\n"},
	{words("-records 0"), []string{"printf", `a b\0c\0`}, "a b\nc\n"},
	{words("-records ,"), words("echo a,b"), "a\nb\n\n"},
	{[]string{"-regex", "^([a-z])=(.*)"}, []string{"printf", `a=1 2\nA=3\nb=`}, "a\t1 2\nb\t\n"},
	{words("-regex [0-9]+"), words("echo a12"), "12\n"},
	{words("-send-buffer one -send-buffer two"), words("cat /dev/fd/{fd2} /dev/fd/{fd1}"), "twoone"},
	{words("-listen web=127.0.0.1:0 -listen [::ffff:127.0.0.1]:0"), sh("[ $LISTEN_PID = $$ ] && echo $LISTEN_FDS $LISTEN_FDNAMES"), "2 web:unknown\n"},
	{words("-clear-env -listen 127.0.0.1:0"), sh("[ -S /dev/fd/3 ] && [ ! -e /dev/fd/4 ] && echo $LISTEN_FDS"), "1\n"},
	{words("-exec -listen 127.0.0.1:0"), sh("[ $LISTEN_PID = $$ ] && [ -S /dev/fd/3 ] && echo good"), "good\n"},
	{words("-dir /dev"), words("pwd"), "/dev\n"},
	{words("-umask 0123"), sh("umask"), "0123\n"},
	{words("-max-files 41"), sh("ulimit -n"), "41\n"},
	{words("-exec"), words("echo replaced"), "replaced\n"},
	{words("-dry-run 0 -input text -secret-arg hush"), words("no-such-program a"), "no-such-program a ***, with 4 bytes of input\n"},
	{words("-landlock-best-effort -landlock-path rw:/ -landlock-port bind:80"), words("echo confined"), "confined\n"},
}

func TestFlagsReachTheProgram(t *testing.T) {
	for _, test := range flagTests {
		t.Run(strings.Join(test.flags, " "), func(t *testing.T) {
			r := runToEnd(t, spawnrun(t, slices.Concat(test.flags, []string{"--"}, test.program)...))
			require.Equal(t, result{stdout: test.stdout}, r)
		})
	}
}

// What flags do, where to do it needs privileges or cannot be seen from
// a shell.
var explainTests = []struct {
	flags []string
	lines string // of -explain, one after the other
}{
	{words("-arg0 other -clear-env"), `execve("/bin/true", ["other"], [])`},
	{words("-secret-arg hush -clear-env"), `execve("/bin/true", ["/bin/true", "***"], [])`},
	{words("-user root"), "setresuid(0, 0, 0)"},
	{words("-uid 4242 -gid 4241"), "setresgid(4241, 4241, 4241)\nsetresuid(4242, 4242, 4242)"},
	{words("-gid 4242"), "setresgid(4242, 4242, 4242)"},
	{words("-groups 4242,4243"), "setgroups(2, [4242, 4243])"},
	{words("-groups="), noGroups()},
	{words("-uid 4242 -gid 4241 -keep-groups -nice 3"), "setpriority(PRIO_PROCESS, 0, 3)\nsetresgid(4241, 4241, 4241)"},
	{words("-rlimit stack=1:unlimited -rlimit cpu=7"),
		"prlimit64(0, RLIMIT_STACK, {soft=1, hard=RLIM_INFINITY}, NULL)\nprlimit64(0, RLIMIT_CPU, {soft=7, hard=7}, NULL)"},
	{words("-max-core 41"), "prlimit64(0, RLIMIT_CORE, {soft=41, hard=41}, NULL)"},
	{words("-max-processes 41"), "prlimit64(0, RLIMIT_NPROC, {soft=41, hard=41}, NULL)"},
	{words("-max-memlock unlimited"), "prlimit64(0, RLIMIT_MEMLOCK, {soft=RLIM_INFINITY, hard=RLIM_INFINITY}, NULL)"},
	{words("-session"), "setsid()"},
	{words("-process-group"), "setpgid(0, 0)"},
	{words("-kill-mode group"), "setpgid(0, 0)"},
	{words("-clear-caps"), "prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)"},
	{words("-allow-cap kill -allow-cap CAP_CHOWN,12"),
		"capset({version=_LINUX_CAPABILITY_VERSION_3, pid=0}, {effective=CAP_CHOWN|CAP_KILL|CAP_NET_ADMIN, " +
			"permitted=CAP_CHOWN|CAP_KILL|CAP_NET_ADMIN, inheritable=CAP_CHOWN|CAP_KILL|CAP_NET_ADMIN})"},
	{words("-ambient-caps kill -securebits 0x4"),
		"prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_KILL)\nprctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP)"},
	{words("-bounding-caps chown,dac_override -securebits 1"), "prctl(PR_SET_SECUREBITS, SECBIT_NOROOT)"},
	{words("-memory-deny-write-execute"), "prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN)"},
	{words("-transparent-hugepages=false"), "prctl(PR_SET_THP_DISABLE, 1)"},
	{words("-no-new-privs"), "prctl(PR_SET_NO_NEW_PRIVS, 1)"},
	{words("-mac-optional -umask 0"), "umask(0)"},
	{words("-namespaces mnt,user -uid 0 -gid 0 -uid-map 0:1000:1 -gid-map 0:1000:1"), `mount(NULL, "/", NULL, MS_REC|MS_SLAVE, NULL)`},
	{words("-chroot /srv -nice 3"), "setpriority(PRIO_PROCESS, 0, 3)\nchroot(\"/srv\")\nchdir(\"/\")"},
	{words("-scheduler batch"), "sched_setscheduler(0, SCHED_BATCH, [0])"},
	{words("-scheduler fifo:5"), "sched_setscheduler(0, SCHED_FIFO, [5])"},
	{words("-scheduler deadline:1ms:2ms:3ms"), "sched_setattr(0, {size=48, sched_policy=SCHED_DEADLINE, sched_flags=0, sched_nice=0, " +
		"sched_priority=0, sched_runtime=1000000, sched_deadline=2000000, sched_period=3000000}, 0)"},
	{words("-cpus 0"), "sched_setaffinity(0, 8, [0])"},
	{words("-numa local"), "set_mempolicy(MPOL_LOCAL, NULL, 0)"},
	{words("-numa bind:0"), "set_mempolicy(MPOL_BIND, [0x1], 65)"},
	{words("-io-priority best-effort:7"), "ioprio_set(IOPRIO_WHO_PROCESS, 0, IOPRIO_PRIO_VALUE(IOPRIO_CLASS_BE, 7))"},
	{words("-timer-slack 1us"), "prctl(PR_SET_TIMERSLACK, 1000)"},
	{words("-oom-score-adj 5 -coredump-filter 0x11"),
		"write(</proc/thread-self/oom_score_adj>, \"5\", 1) = 1\nwrite(</proc/self/coredump_filter>, \"0x11\", 4) = 4"},
	{words("-personality 8"), "personality(PER_LINUX32)"},
	{words("-private-keyring"), "keyctl(KEYCTL_JOIN_SESSION_KEYRING, NULL)"},
	{words("-ignore-signals pipe,1"), "rt_sigaction(SIGPIPE, {sa_handler=SIG_IGN}, NULL, 8)"},
	{words("-parent-death-signal SIGTERM"), "prctl(PR_SET_PDEATHSIG, SIGTERM)"},
}

// noGroups is what a child does to have no supplementary groups: nothing, where
// an ordinary user has none.
func noGroups() string {
	groups, err := os.Getgroups()
	if os.Geteuid() != 0 && err == nil && len(groups) == 0 {
		return "rt_sigprocmask(SIG_SETMASK, [], NULL, 8)"
	}
	return "setgroups(0, [])"
}

func TestFlagsReachTheSystemCalls(t *testing.T) {
	for _, test := range explainTests {
		t.Run(strings.Join(test.flags, " "), func(t *testing.T) {
			r := runToEnd(t, spawnrun(t, slices.Concat(words("-explain"), test.flags, words("-- /bin/true"))...))
			require.Zero(t, r.code, r.stderr)
			require.Contains(t, "\n"+r.stdout, "\n"+test.lines+"\n")
		})
	}
}

// testedElsewhere are the flags that have a test of their own below.
var testedElsewhere = words("apparmor buffers cgroup controlling-tty daemonize exec explain grace handshake hook join kill-mode log observe pass-fd " +
	"pid-file pipes pty run-alone run-among seccomp selinux smack status stderr stdin stdout timeout")

func TestEveryFlagHasATest(t *testing.T) {
	tested := slices.Clone(testedElsewhere)
	add := func(flags []string) {
		for _, f := range flags {
			name, _, _ := strings.Cut(strings.TrimPrefix(f, "-"), "=")
			tested = append(tested, name)
		}
	}
	for _, test := range flagTests {
		add(test.flags)
	}
	for _, test := range explainTests {
		add(test.flags)
	}
	for _, g := range groups {
		for _, o := range g.options {
			require.Contains(t, tested, o.name)
		}
	}
}

// otherForms are the methods of Command without a flag of their own, each with
// the flag or the argument that does the same, or the reason.
var otherForms = map[string]string{
	"AddArgf":    "ARGUMENT: the shell formats it",
	"AddArgPair": "ARGUMENT",
	"AddEnv":     "-env, by AddEnvString",
	"AddEnvf":    "-env, by AddEnvString",
	"Clone":      "there is one command only",
	"Args":       "what the command line says; of a policy's, -string shows it",
	"Dir":        "as Args",
	"Env":        "as Args",
	"Run":        "RunStatus, which tells the exit code",
}

func TestEveryMethodHasAFlag(t *testing.T) {
	if _, err := os.Stat("../../command.go"); err != nil {
		t.Skip("the source tree is not here")
	}
	library, err := filepath.Glob("../../*.go")
	require.NoError(t, err)
	own, err := filepath.Glob("*_linux.go")
	require.NoError(t, err)
	used := map[string]bool{}
	for _, name := range own {
		ast.Inspect(parseFile(t, name), func(n ast.Node) bool {
			if sel, ok := n.(*ast.SelectorExpr); ok {
				used[sel.Sel.Name] = true
			}
			return true
		})
	}
	var missing []string
	for _, name := range library {
		for _, d := range parseFile(t, name).Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok || !f.Name.IsExported() || f.Recv == nil {
				continue
			}
			if recv, ok := f.Recv.List[0].Type.(*ast.StarExpr); !ok || recv.X.(*ast.Ident).Name != "Command" {
				continue
			}
			_, other := otherForms[f.Name.Name]
			if !other && !used[f.Name.Name] {
				missing = append(missing, f.Name.Name)
			}
		}
	}
	require.Empty(t, missing, "add flags to options_linux.go or security_linux.go")
}

func parseFile(t *testing.T, name string) *ast.File {
	file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
	require.NoError(t, err)
	return file
}

func TestPipesCopyAllThreeStreams(t *testing.T) {
	const size = 1 << 20 // more than pipes hold
	input := strings.Repeat("0123456789abcde\n", size/16)
	r := runToEnd(t, spawnrun(t, slices.Concat(words("-pipes --"), sh("tee /dev/stderr"))...).SetInput([]byte(input)))
	require.Zero(t, r.code)
	require.Equal(t, input, r.stdout)
	require.Equal(t, input, r.stderr)

	r = runToEnd(t, spawnrun(t, slices.Concat(words("-pipes -null-stdin --"), sh("cat; exit 3"))...).SetInput([]byte("text")))
	require.Equal(t, result{code: 3}, r)

	r = runToEnd(t, spawnrun(t, words("-pipes -lines x -- /bin/true")...))
	require.Equal(t, exitFailed, r.code)
}

func TestBuffersArePrintedAtTheEnd(t *testing.T) {
	r := runToEnd(t, spawnrun(t, slices.Concat(words("-buffers --"), sh("echo a; echo b >&2; exit 3"))...))
	require.Equal(t, result{"a\n", "b\n", 3}, r)
}

func TestHandshakeLetsTheProgramRunOnASignal(t *testing.T) {
	for _, flags := range []string{"-handshake -string", "-handshake -explain"} {
		r := runToEnd(t, spawnrun(t, append(words(flags), "--", "/bin/true")...))
		require.Zero(t, r.code, r.stderr)
	}
	mark := filepath.Join(t.TempDir(), "mark")
	p, err := spawnrun(t, "-handshake", "--", "touch", mark).PipeStderr().Start(context.Background())
	require.NoError(t, err)
	line, err := bufio.NewReader(p.Stderr()).ReadString('\n')
	require.NoError(t, err)
	require.Regexp(t, `^spawnrun: process [1-9]\d* waits; kill -USR1 `+strconv.Itoa(p.PID())+" lets its program run\n$", line)
	require.NoFileExists(t, mark)
	require.NoError(t, p.Signal(syscall.SIGUSR1))
	require.NoError(t, p.Wait())
	require.FileExists(t, mark)
	require.NoError(t, p.Stderr().Close())

	// A hook needs a helper, which takes longer than a millisecond to get to
	// its gate.
	for _, flags := range []string{"-handshake -timeout 10ms", "-handshake -hook a -timeout 1ms"} {
		r := runToEnd(t, spawnrun(t, append(words(flags), "--", "/bin/true")...))
		require.Equal(t, exitCannotStart, r.code, r.stderr)
		require.Contains(t, r.stderr, "context deadline exceeded")
	}
}

func TestHookRunsBeforeTheProgram(t *testing.T) {
	r := runToEnd(t, spawnrun(t, slices.Concat([]string{"-hook", "a text", "--"}, sh("echo program >&2"))...))
	require.Equal(t, result{stderr: "a text\nprogram\n"}, r)
}

func TestPolicyRefusesOtherDirectories(t *testing.T) {
	for _, flags := range []string{"-policy /sbin", "-policy=", "-exec -policy /", "-dry-run 0 -policy /sbin"} {
		r := runToEnd(t, spawnrun(t, append(words(flags), "--", "/bin/../bin/echo", "a")...))
		require.Equal(t, exitCannotStart, r.code, flags)
		require.Equal(t, result{"", "spawnrun: cannot start \"/bin/../bin/echo\": SetPolicy: -policy does not allow programs of /bin\n", exitCannotStart}, r)
	}
}

func TestLogAndObserveSayWhatHappens(t *testing.T) {
	r := runToEnd(t, spawnrun(t, slices.Concat(words("-log -observe -secret-arg hush --"), sh("exit 3"))...))
	require.Equal(t, 3, r.code)
	require.Empty(t, r.stdout)
	require.Regexp(t, `(?s)^spawnrun: process (\d+) runs \S+/sh
time=\S+ level=DEBUG msg="program started" command="sh -c 'exit 3' \*\*\*" path=\S+/sh pid=\d+
spawnrun: process \d+: exit status 3 after \S+s
time=\S+ level=DEBUG msg="program exited" command="sh -c 'exit 3' \*\*\*" path=\S+/sh pid=\d+ duration=\S+s status="exit status 3"
$`, r.stderr)

	r = runToEnd(t, spawnrun(t, words("-observe -- /nonexistent/program")...))
	require.Equal(t, exitNotFound, r.code)
	require.True(t, strings.HasPrefix(r.stderr, "spawnrun: /nonexistent/program was not started\n"), r.stderr)
}

// What flags do that this machine may not have.
func TestFlagsReachTheLibrary(t *testing.T) {
	filter := filepath.Join(t.TempDir(), "filter")
	// BPF_RET, SECCOMP_RET_ALLOW
	require.NoError(t, os.WriteFile(filter, []byte{6, 0, 0, 0, 0, 0, 0xff, 0x7f}, 0o600))
	r := runToEnd(t, spawnrun(t, slices.Concat(words("-seccomp"), []string{filter}, words("-- echo good"))...))
	require.Equal(t, result{stdout: "good\n"}, r)
	for want, flags := range map[string]string{
		"SetCgroup: / is not in a cgroup v2":          "-cgroup /",
		"SetControllingTTY: /dev/null is not a term":  "-controlling-tty /dev/null",
		"SetRunAmong: -1 is not a process":            "-run-among -1",
		"SetRunAmong: the program is to run alone":    "-run-alone -run-among 5",
		"-join: open /nonexistent":                    "-join net:/nonexistent",
		`-join: "nets" is none of the names`:          "-join nets:/proc/self/ns/net",
		"SetSELinuxLabel: the label is empty":         "-selinux=",
		"SetAppArmorProfile: the label is empty":      "-apparmor=",
		"SetSmackLabel: \"-\" is not a label":         "-smack -",
		`setns(`:                                      "-join uts:/proc/self/ns/net",
		`-namespaces: "nets" is none`:                 "-namespaces nets",
		`-allow-cap: "fly" is not a capability`:       "-allow-cap fly",
		`-ignore-signals: "FLY" is not a signal`:      "-ignore-signals FLY",
		`-parent-death-signal: "FLY" is not a signal`: "-parent-death-signal FLY",
		"-seccomp: open /nonexistent":                 "-seccomp /nonexistent",
		"-uid-map: want INSIDE:OUTSIDE:SIZE":          "-uid-map 1:2",
		"-scheduler: want a priority":                 "-scheduler rr:high",
		"-scheduler: want deadline:RUNTIME":           "-scheduler deadline:1ms",
		"-numa: want numbers":                         "-numa bind:x",
		"-io-priority: want a level":                  "-io-priority idle:x",
		"-landlock-port: want a port":                 "-landlock-port bind:x",
		"-personality: want a number":                 "-personality x",
	} {
		r := runToEnd(t, spawnrun(t, append(words(flags), "--", "/bin/true")...))
		require.NotZero(t, r.code, flags)
		require.Contains(t, r.stderr, want)
	}
}

func TestStreamsAreFilesAndUntouchedWithExplain(t *testing.T) {
	dir := t.TempDir()
	in, out, errors := filepath.Join(dir, "in"), filepath.Join(dir, "out"), filepath.Join(dir, "err")
	require.NoError(t, os.WriteFile(in, []byte("text\n"), 0o600))
	args := slices.Concat([]string{"-stdin", in, "-stdout", out, "-stderr", errors, "--"}, sh("cat; echo error >&2"))

	r := runToEnd(t, spawnrun(t, append([]string{"-explain"}, args...)...))
	require.Zero(t, r.code, r.stderr)
	require.Contains(t, r.stdout, "execve(")
	require.NoFileExists(t, out)

	require.Equal(t, result{}, runToEnd(t, spawnrun(t, args...)))
	text, err := os.ReadFile(out)
	require.NoError(t, err)
	require.Equal(t, "text\n", string(text))
	text, err = os.ReadFile(errors)
	require.NoError(t, err)
	require.Equal(t, "error\n", string(text))
}

func TestStandardInputIsPassedOn(t *testing.T) {
	r := runToEnd(t, spawnrun(t, words("-- cat")...).SetInput([]byte("text")))
	require.Equal(t, result{stdout: "text"}, r)
}

func TestPassFDPassesOnlyWhatWasGiven(t *testing.T) {
	file, err := os.Create(filepath.Join(t.TempDir(), "file"))
	require.NoError(t, err)
	defer file.Close()

	r := runToEnd(t, spawnrun(t, slices.Concat(words("-pass-fd 7:5 -pass-fd 7 --"), sh("echo a >&5; echo b >&7"))...).PassFDAs(file, 7))
	require.Equal(t, result{}, r)
	text, err := os.ReadFile(file.Name())
	require.NoError(t, err)
	require.Equal(t, "a\nb\n", string(text))

	r = runToEnd(t, spawnrun(t, slices.Concat([]string{"--"}, sh("echo a >&7"))...).PassFDAs(file, 7))
	require.NotZero(t, r.code, "without a flag it is closed")

	r = runToEnd(t, spawnrun(t, words("-pass-fd 8 -- /bin/true")...).PassFDAs(file, 7))
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.stderr, "spawnrun was not given a descriptor 8")
}

func TestASocketWithAPathIsListenedOn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	r := runToEnd(t, spawnrun(t, "-explain", "-listen", path, "--", "/bin/true"))
	require.Zero(t, r.code, r.stderr)
	require.Contains(t, r.stdout, `"LISTEN_FDS=1", "LISTEN_FDNAMES=unknown", "LISTEN_PID=PID"`)
	require.NoFileExists(t, path)

	p, err := spawnrun(t, "-listen", "a="+path, "--", "sh", "-c", "echo; read x").PipeStdin().PipeStdout().Start(context.Background())
	require.NoError(t, err)
	_, err = p.Stdout().Read(make([]byte, 1))
	require.NoError(t, err)
	conn, err := net.Dial("unix", path)
	require.NoError(t, err)
	require.NoError(t, conn.Close())
	require.NoError(t, p.Stdin().Close())
	<-p.Done()

	r = runToEnd(t, spawnrun(t, "-listen", path, "--", "/bin/true"))
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.stderr, "-listen: listen unix "+path+": bind: address already in use")
}

func TestPidFileIsWrittenAndHeld(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pid")
	script := `[ "$(cat "$0")" = $$ ] && echo; read x`
	p, err := spawnrun(t, "-pid-file", path, "--", "sh", "-c", script, path).PipeStdin().PipeStdout().Start(context.Background())
	require.NoError(t, err)
	_, err = p.Stdout().Read(make([]byte, 1))
	require.NoError(t, err)
	text, err := os.ReadFile(path)
	require.NoError(t, err)

	r := runToEnd(t, spawnrun(t, "-pid-file", path, "--", "/bin/true"))
	require.Equal(t, exitCannotStart, r.code)
	require.Contains(t, r.stderr, "held by process "+strings.TrimSpace(string(text))+": ")
	require.NoError(t, p.Stdin().Close())
	<-p.Done()
	require.Equal(t, result{}, runToEnd(t, spawnrun(t, "-pid-file", path, "--", "/bin/true")))
}

func TestExitStatusIsTheProgramsOrSaysWhyThereIsNone(t *testing.T) {
	plain := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(plain, nil, 0o644))
	tests := []struct {
		args   []string
		code   int
		stderr string
	}{
		{sh("exit 3"), 3, ""},
		{sh("kill -9 $$"), 128 + 9, ""},
		{words("nonexistent-program"), exitNotFound, "not found"},
		{words("/nonexistent/program"), exitNotFound, "no such file"},
		{words("-exec /nonexistent/program"), exitNotFound, "no such file"},
		{[]string{plain}, exitCannotStart, "permission denied"},
		{words("-dir /nonexistent /bin/true"), exitCannotStart, "chdir"},
		{nil, exitFailed, "no program"},
		{words("-nonexistent -- /bin/true"), exitFailed, "not defined: -nonexistent"},
		{words("-session=false -- /bin/true"), exitFailed, "takes no value"},
		{words("-umask 9 -- /bin/true"), exitFailed, "-umask: want an octal number"},
		{words("-umask 1000 -- /bin/true"), exitFailed, "the mask 01000 is not in"},
		{words("-umask 1000 -explain -- /bin/true"), exitFailed, "the mask 01000 is not in"},
		{words("-uid x -- /bin/true"), exitFailed, "-uid: want a number"},
		{words("-groups 1,,2 -- /bin/true"), exitFailed, "-groups: want numbers"},
		{words("-rlimit files=1 -- /bin/true"), exitFailed, `"files" is not a limit`},
		{words("-rlimit nofile=2:1 -- /bin/true"), exitFailed, "above the hard limit"},
		{words("-max-files -1 -- /bin/true"), exitFailed, "want a number or unlimited"},
		{words("-timeout 3 -- /bin/true"), exitFailed, "want a duration"},
		{words("-kill-mode all -- /bin/true"), exitFailed, "want process, group or tree"},
		{words("-secret-env hush -- /bin/true"), exitFailed, "-secret-env: want NAME=VALUE"},
		{words("-stdin /nonexistent -- /bin/true"), exitFailed, "no such file"},
		{words("-listen 127.0.0.1 -- /bin/true"), exitFailed, "missing port"},
		{words("-listen a:b=127.0.0.1:0 -- /bin/true"), exitFailed, "AddListenFD: the name \"a:b\""},
		{words("-pid-file /run/ -- /bin/true"), exitFailed, "SetPidFile: \"/run/\" is not"},
		{words("-lines x -stdout y -- /bin/true"), exitFailed, "exclude each other"},
		{words("-lines x -status -- /bin/true"), exitFailed, "neither"},
		{words("-exec -timeout 1s -- /bin/true"), exitFailed, "leaves nobody"},
		{words("-daemonize -status -- /bin/true"), exitFailed, "leaves nobody"},
		{words("-daemonize -exec -- /bin/true"), exitFailed, "neither"},
		{words("-daemonize -lines x -- /bin/true"), exitFailed, "neither"},
		{words("-pty -lines x -- /bin/true"), exitFailed, "neither"},
		{words("-daemonize -- /nonexistent/program"), exitNotFound, "no such file"},
		{slices.Concat(words("-lines x"), sh("exit 3")), 3, ""},
		{slices.Concat(words("-records x"), sh("kill -9 $$")), 128 + 9, ""},
		{slices.Concat(words("-regex x"), sh("exit 3")), 3, ""},
		{words("-regex x -exec -- /bin/true"), exitFailed, "-regex goes neither"},
		{words("-regex x -lines x -- /bin/true"), exitFailed, "-lines: -regex reads standard output already"},
		{words("-regex ( -- /bin/true"), exitFailed, "-regex: error parsing regexp"},
		{words("-records xy -- /bin/true"), exitFailed, "-records: want one character"},
	}
	for _, test := range tests {
		t.Run(strings.Join(test.args, " "), func(t *testing.T) {
			r := runToEnd(t, spawnrun(t, test.args...))
			require.Equal(t, test.code, r.code, r.stderr)
			require.Empty(t, r.stdout)
			require.NotContains(t, r.stderr, "hush")
			if test.stderr == "" {
				require.Empty(t, r.stderr)
			} else {
				require.Contains(t, r.stderr, test.stderr)
				require.True(t, strings.HasPrefix(r.stderr, "spawnrun: "), r.stderr)
			}
		})
	}
}

func TestStatusSaysWhatTheProgramUsed(t *testing.T) {
	r := runToEnd(t, spawnrun(t, slices.Concat(words("-status"), sh("exit 3"))...))
	require.Equal(t, 3, r.code)
	require.Regexp(t, `^spawnrun: exit status 3, user .*s, system .*s, peak memory [1-9]\d* KiB\n$`, r.stderr)

	r = runToEnd(t, spawnrun(t, slices.Concat(words("-status"), sh("kill -9 $$"))...))
	require.Contains(t, r.stderr, "signal: killed")
}

// runUntilTimeout runs a program with a timeout, which is longer the next time
// where the program had not even started.
func runUntilTimeout(t *testing.T, args ...string) result {
	for timeout := 10 * time.Millisecond; ; timeout *= 4 {
		r := runToEnd(t, spawnrun(t, append([]string{"-timeout", timeout.String()}, args...)...))
		if r.code != exitCannotStart {
			return r
		}
		require.Contains(t, r.stderr, "context deadline exceeded")
	}
}

func TestTimeoutEndsTheProgram(t *testing.T) {
	r := runUntilTimeout(t, words("-- sleep 1000")...)
	require.Equal(t, 128+15, r.code)
	require.Contains(t, r.stderr, "context deadline exceeded (signal: terminated)")
}

func TestKillModeGroupEndsTheProgramsChildrenToo(t *testing.T) {
	// The grandchild keeps standard output open: its end comes when all of the
	// group have ended.
	r := runUntilTimeout(t, slices.Concat(words("-kill-mode group --"), sh("sleep 1000 & wait"))...)
	require.Equal(t, 128+15, r.code)
}

func TestKillModeTreeEndsDaemonsToo(t *testing.T) {
	r := runUntilTimeout(t, slices.Concat(words("-kill-mode tree --"), sh("setsid sh -c 'sleep 1000 &' & sleep 1000"))...)
	require.Equal(t, 128+15, r.code)
}

// interactive starts a program that answers each line, waits for the first
// answer, and sends spawnrun a signal.
func interactive(t *testing.T, sig syscall.Signal, flags ...string) (*spawn.Process, *bufio.Reader) {
	script := sh("trap : INT; while read -r line; do echo $line; done")
	p, err := spawnrun(t, slices.Concat(flags, []string{"--"}, script)...).PipeStdin().PipeStdout().Start(context.Background())
	require.NoError(t, err)
	t.Cleanup(func() {
		_ = p.Stdin().Close()
		_ = p.Stdout().Close()
		<-p.Done()
	})
	out := bufio.NewReader(p.Stdout())
	answer(t, p, out)
	require.NoError(t, p.Signal(sig))
	return p, out
}

// answer sends the program a line and waits for it to come back.
func answer(t *testing.T, p *spawn.Process, out *bufio.Reader) {
	_, err := p.Stdin().Write([]byte("question\n"))
	require.NoError(t, err)
	line, err := out.ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "question\n", line)
}

func TestTerminationEndsTheProgram(t *testing.T) {
	p, _ := interactive(t, syscall.SIGTERM)
	_ = p.Wait() // says only that it did not succeed
	require.Equal(t, 128+15, p.Status().ExitCode)
}

func TestNoGracePeriodMeansKill(t *testing.T) {
	p, _ := interactive(t, syscall.SIGTERM, "-grace", "0")
	_ = p.Wait() // says only that it did not succeed
	require.Equal(t, 128+9, p.Status().ExitCode)
}

func TestInterruptIsLeftToTheProgram(t *testing.T) {
	p, out := interactive(t, syscall.SIGINT)
	answer(t, p, out)
	require.NoError(t, p.Stdin().Close())
	require.NoError(t, p.Wait())
}

func TestInterruptEndsAProgramThatTheTerminalDoesNotReach(t *testing.T) {
	p, _ := interactive(t, syscall.SIGINT, "-process-group")
	_ = p.Wait() // says only that it did not succeed
	require.Equal(t, 128+15, p.Status().ExitCode)
}

func TestDaemonizePrintsThePidOfADaemon(t *testing.T) {
	file := filepath.Join(t.TempDir(), "out")
	r := runToEnd(t, spawnrun(t, slices.Concat(words("-daemonize -stdout "+file+" --"), sh("echo $$; pwd; exec sleep 1000"))...))
	require.Zero(t, r.code, r.stderr)
	require.Empty(t, r.stderr)
	pid, err := strconv.Atoi(strings.TrimSpace(r.stdout))
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		b, err := os.ReadFile(file)
		return err == nil && string(b) == r.stdout+"/\n"
	}, time.Minute, time.Millisecond)
	require.NoError(t, syscall.Kill(pid, syscall.SIGKILL), "it has outlived spawnrun")
}

func TestHelpNamesEveryFlag(t *testing.T) {
	r := runToEnd(t, spawnrun(t, "-help"))
	require.Zero(t, r.code, r.stderr)
	for _, g := range groups {
		require.Contains(t, r.stdout, g.title)
		for _, o := range g.options {
			require.Contains(t, r.stdout, "  -"+o.name+" ")
		}
	}
}

func needTerminals(t *testing.T) {
	f, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Skip("needs terminals: ", err)
	}
	require.NoError(t, f.Close())
}

func TestPTYIsATerminalForTheProgram(t *testing.T) {
	needTerminals(t)
	run := func(input string) result {
		cmd := spawnrun(t, slices.Concat(words("-pty --"), sh("test -t 0 -a -t 1 -a -t 2 && cat && exit 3"))...)
		return runToEnd(t, cmd.SetInput([]byte(input)))
	}
	require.Equal(t, result{stdout: "text\r\ntext\r\n", code: 3}, run("text\n"), "the echo, and cat")
	require.Equal(t, result{stdout: "texttext", code: 3}, run("text"))
	require.Equal(t, result{code: 3}, run(""))

	r := runToEnd(t, spawnrun(t, words("-pty -dry-run 4 -- cat")...).SetInput([]byte("text\n")))
	require.Equal(t, result{stdout: "cat, with 5 bytes of input\n", code: 4}, r)
	r = runToEnd(t, spawnrun(t, words("-pty -- /nonexistent/program")...))
	require.Equal(t, exitNotFound, r.code, r.stderr)
	r = runToEnd(t, spawnrun(t, words("-pty -status -- true")...))
	require.Contains(t, r.stderr, "exit status 0, user ")
}

// onTerminal starts spawnrun on a terminal, and returns what that shows and the
// modes that it had before. The script runs on another terminal.
func onTerminal(t *testing.T, script string) (*spawn.Process, *bufio.Reader, unix.Termios) {
	needTerminals(t)
	p, err := spawnrun(t, slices.Concat(words("-pty --"), sh(script))...).SetPTY(30, 90).RequireHandshake().Start(context.Background())
	require.NoError(t, err)
	t.Cleanup(func() { _ = p.PTY().Close() })
	before := modes(t, p)
	require.NoError(t, p.HandshakeNotify())
	return p, bufio.NewReader(p.PTY()), before
}

func modes(t *testing.T, p *spawn.Process) (modes unix.Termios) {
	conn, err := p.PTY().(syscall.Conn).SyscallConn()
	require.NoError(t, err)
	require.NoError(t, conn.Control(func(fd uintptr) {
		termios, err := unix.IoctlGetTermios(int(fd), unix.TCGETS)
		require.NoError(t, err)
		modes = *termios
	}))
	return modes
}

func line(t *testing.T, r *bufio.Reader) string {
	s, err := r.ReadString('\n')
	require.NoErrorf(t, err, "%q", s)
	return strings.TrimRight(s, "\r\n")
}

func TestPTYHasTheSizeOfSpawnrunsTerminal(t *testing.T) {
	p, r, _ := onTerminal(t, "stty size; while read a; do stty size; done; exit 3")
	require.Equal(t, "30 90", line(t, r))
	require.NoError(t, p.Resize(40, 100))
	for s := "30 90"; s != "40 100"; s = line(t, r) { // it takes a moment
		if s != "" { // which is the echo
			_, err := p.PTY().Write([]byte("\n"))
			require.NoError(t, err)
		}
	}
	_, err := p.PTY().Write([]byte{4})
	require.NoError(t, err)
	_, err = io.Copy(io.Discard, r)
	require.NoError(t, err)
	_ = p.Wait()
	require.Equal(t, 3, p.Status().ExitCode)
}

func TestPTYGetsWhatIsTypedAsItIs(t *testing.T) {
	p, r, before := onTerminal(t, "echo ready; exec cat")
	require.Equal(t, "ready", line(t, r))
	for modes(t, p).Lflag&unix.ISIG != 0 { // it comes just after the start
		runtime.Gosched()
	}
	_, err := p.PTY().Write([]byte{3}) // ^C
	require.NoError(t, err)
	rest, err := io.ReadAll(r)
	require.NoError(t, err)
	require.Contains(t, []string{"^C", ""}, string(rest), "the echo, unless the program has ended before")
	_ = p.Wait()
	require.Equal(t, 128+2, p.Status().ExitCode)
	require.Equal(t, before, modes(t, p), "as they were")
}
