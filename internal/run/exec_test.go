//go:build linux

package run_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/pprof"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/syndtr/gocapability/capability"
	"github.com/virspawn/spawn"
	"github.com/virspawn/spawn/internal/testkit"
	"golang.org/x/sys/unix"
)

func init() {
	testkit.Helpers["exec-from-a-mess"] = execFromAMess
	testkit.Helpers["exec-fails"] = execFails
	testkit.Helpers["exec-streams"] = execStreams
	testkit.Helpers["exec-busy"] = execBusy
	testkit.Helpers["exec-confined"] = execConfined
	testkit.Helpers["exec-filtered"] = execFiltered
	testkit.Helpers["exec-timers"] = execTimers
	testkit.Helpers["timers"] = func([]string) int { fmt.Println(timersOf()); return 0 }
}

// makeAMess gives this process what a program should not inherit.
func makeAMess() error {
	unix.Umask(0)
	for _, sig := range []unix.Signal{unix.SIGHUP, unix.SIGPIPE, unix.SIGUSR1, unix.Signal(40)} {
		testkit.IgnoreSignal(sig)
	}
	for _, flags := range []int{unix.O_RDONLY, unix.O_RDONLY | unix.O_CLOEXEC} {
		if _, err := unix.Open("/", flags, 0); err != nil {
			return err
		}
	}
	if _, err := unix.FcntlInt(0, unix.F_DUPFD, 500); err != nil {
		return err
	}
	return errors.Join(os.Setenv("MESS", "1"), os.Chdir("/"))
}

// tidy are the attributes of a program that is started from a mess, in dir.
func tidy(c *spawn.Command, dir string) *spawn.Command {
	c.InheritStdio().AddEnv("A", "value").AddSecretEnv("B", "secret").SetWorkingDirectory(dir).SetUmask(0o27).
		SetRlimit(unix.RLIMIT_CORE, 0, 0).SetRlimit(unix.RLIMIT_NOFILE, 200, 300)
	if os.Geteuid() == 0 {
		c.SetUID(65534).SetGID(65533).SetGroups(1, 2)
	}
	return c
}

func TestExecReplacesThisProcessByWhatAChildWouldBe(t *testing.T) {
	testkit.CheckLeaks(t)
	dir := testkit.PublicDir(t)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "marker"), []byte("marker\n"), 0o644))
	run := func(how string, program ...string) string {
		args := append([]string{how, dir}, program...)
		out, err := testkit.HelperCommand(t, "exec-from-a-mess", args...).SetErrorBuffer(new(string)).Output(context.Background())
		require.NoError(t, err)
		return string(out)
	}
	for _, program := range [][]string{
		{"/bin/cat", "marker", "/proc/self/limits"},
		{"/bin/cat", "/proc/self/environ", "/proc/self/cmdline"},
		{"/bin/ls", "/proc/self/fd"},
		{"/bin/sh", "-c", "umask; pwd; exit 0"},
	} {
		require.Equal(t, run("child", program...), run("exec", program...))
	}

	limits := run("exec", "/bin/cat", "marker", "/proc/self/limits")
	require.True(t, strings.HasPrefix(limits, "marker\n"), "the working directory")
	require.Regexp(t, `Max open files +200 +300 `, limits)
	require.Regexp(t, `Max core file size +0 +0 `, limits)
	require.Equal(t, "A=value\x00B=secret\x00", run("exec", "/bin/cat", "/proc/self/environ"))

	status := run("exec", "/bin/cat", "/proc/self/status")
	for name, want := range map[string]string{"SigIgn": "0000000000000000", "SigBlk": "0000000000000000", "Umask": "0027"} {
		require.Equal(t, want, testkit.StatusField(status, name), name)
	}
}

func TestExecBecomesAnotherUser(t *testing.T) {
	testkit.NeedsRoot(t, "to become another user")
	testkit.CheckLeaks(t)
	out, err := testkit.HelperCommand(t, "exec-from-a-mess", "exec", testkit.PublicDir(t), "/bin/cat", "/proc/self/status").Output(context.Background())
	require.NoError(t, err)
	status := string(out)
	require.Equal(t, "65534\t65534\t65534\t65534", testkit.StatusField(status, "Uid"))
	require.Equal(t, "65533\t65533\t65533\t65533", testkit.StatusField(status, "Gid"))
	require.Equal(t, "1 2", testkit.StatusField(status, "Groups"))
	require.Equal(t, "0000000000000000", testkit.StatusField(status, "CapEff"))
}

// execFromAMess runs the program args[2:] in the directory args[1], as a child
// or in place of this process.
func execFromAMess(args []string) int {
	if err := makeAMess(); err != nil {
		return testkit.Fail(err)
	}
	c := tidy(spawn.New(args[2], args[3:]...), args[1])
	if args[0] == "exec" {
		return testkit.Fail(c.Exec())
	}
	if err := c.Run(context.Background()); err != nil {
		return testkit.Fail(err)
	}
	return 0
}

// confinements are commands that print their own status, by what confines them.
var confinements = map[string]struct {
	change func(*spawn.Command) *spawn.Command
	root   bool
	want   map[string]string // fields of the status
}{
	"no capabilities": {(*spawn.Command).ClearCaps, true, map[string]string{"CapPrm": hexMask(0), "CapEff": hexMask(0), "CapInh": hexMask(0), "CapBnd": hexMask(0)}},
	"some capabilities": {func(c *spawn.Command) *spawn.Command {
		return c.AllowCap(capability.CAP_NET_RAW, capability.CAP_KILL).SetAmbientCaps(capability.CAP_KILL).SetUID(testkit.Nobody).SetGID(testkit.Nobody)
	}, true, map[string]string{
		"CapAmb": hexMask(1 << unix.CAP_KILL), "CapEff": hexMask(1 << unix.CAP_KILL), "CapBnd": hexMask(1<<unix.CAP_KILL | 1<<unix.CAP_NET_RAW),
		"Uid": "65534 65534 65534 65534",
	}},
	"bounding set": {func(c *spawn.Command) *spawn.Command { return c.SetBoundingCaps(capability.CAP_KILL) }, true, map[string]string{
		"CapBnd": hexMask(1 << unix.CAP_KILL), "CapPrm": hexMask(1 << unix.CAP_KILL),
	}},
	// SECBIT_NOROOT.
	"securebits": {func(c *spawn.Command) *spawn.Command { return c.SetSecurebits(1) }, true, map[string]string{"CapPrm": hexMask(0), "Uid": "0 0 0 0"}},
	"filter": {func(c *spawn.Command) *spawn.Command {
		return c.SetSeccompFilter(testkit.FilterOf(unix.SYS_REBOOT, unix.SECCOMP_RET_ERRNO, 0))
	}, false, map[string]string{
		"Seccomp": "2", "NoNewPrivs": "1",
	}},
}

func hexMask(mask uint64) string { return fmt.Sprintf("%016x", mask) }

func TestExecConfinesTheProgramAsAChild(t *testing.T) {
	for name, x := range confinements {
		t.Run(name, func(t *testing.T) {
			if x.root {
				testkit.NeedsRoot(t, "to have capabilities")
			}
			testkit.CheckLeaks(t)
			inPlace, err := testkit.StatusOf(testkit.HelperCommand(t, "exec-confined", name))
			require.NoError(t, err)
			for field, want := range x.want {
				require.Equal(t, want, inPlace[field], field)
			}
			child, err := testkit.StatusOf(x.change(testkit.CatStatus()))
			require.NoError(t, err)
			for _, field := range []string{"Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp", "SigBlk", "SigIgn"} {
				require.Equal(t, child[field], inPlace[field], field)
			}
		})
	}
	t.Run("Landlock", func(t *testing.T) {
		testkit.NeedsLandlock(t, 1)
		testkit.CheckLeaks(t)
		path := filepath.Join(t.TempDir(), "file")
		require.Equal(t, "refused\n", testkit.OutputOf(t, testkit.HelperCommand(t, "exec-confined", "Landlock", path)))
		require.NoFileExists(t, path)
	})
}

// execConfined replaces this process by a program that is confined by args[0].
func execConfined(args []string) int {
	if args[0] == "Landlock" {
		rules := spawn.Landlock{Paths: []spawn.LandlockPath{{Path: "/", Rights: spawn.LandlockReadOnly}}, Version: 1}
		return testkit.Fail(spawn.New("/bin/sh", "-c", `(echo text >"$0") 2>&- || echo refused`, args[1]).InheritStdio().SetLandlock(rules).Exec())
	}
	return testkit.Fail(confinements[args[0]].change(testkit.CatStatus().InheritStdio()).Exec())
}

func TestExecKeepsTheProcessAndCanMakeItLead(t *testing.T) {
	testkit.CheckLeaks(t)
	for _, lead := range []string{"", "group", "session"} {
		var s string
		p, err := testkit.HelperCommand(t, "exec-streams", "lead "+lead).SetOutputBuffer(&s).Start(context.Background())
		require.NoError(t, err)
		require.NoError(t, p.Wait())
		_, rest, _ := strings.Cut(s, ") ")
		fields := strings.Fields(rest) // state, parent, group, session
		pid := strconv.Itoa(p.PID())
		require.True(t, strings.HasPrefix(s, pid+" "))
		require.Equal(t, strconv.Itoa(os.Getpid()), fields[1])
		require.Equal(t, lead != "", fields[2] == pid, "group")
		require.Equal(t, lead == "session", fields[3] == pid, "session")
	}
}

func TestExecGivesTheProgramItsInputAndDescriptors(t *testing.T) {
	testkit.CheckLeaks(t)
	out, err := testkit.HelperCommand(t, "exec-streams", "input").Output(context.Background())
	require.NoError(t, err)
	require.Equal(t, "input, sent, file\n", string(out))
	out, err = testkit.HelperCommand(t, "exec-streams", "null").Output(context.Background())
	require.NoError(t, err)
	require.Empty(t, out, "standard output is /dev/null unless said")
}

// execStreams replaces this process by a program with certain streams.
func execStreams(args []string) int {
	switch args[0] {
	case "input":
		r, w, err := os.Pipe()
		if err != nil {
			return testkit.Fail(err)
		}
		if _, err := io.WriteString(w, "file"); err != nil {
			return testkit.Fail(err)
		}
		c := spawn.New("/bin/sh")
		fd := c.SetInput([]byte("input, ")).SetSendBuffer([]byte("sent, "))
		c.AddArg("-c", fmt.Sprintf("cat; cat /dev/fd/%d; cat /dev/fd/7; echo", fd)).PassFDAs(r, 7).SetStdout(os.Stdout)
		w.Close()
		return testkit.Fail(c.Exec())
	case "null":
		return testkit.Fail(spawn.New("/bin/sh", "-c", "echo text; echo text >&2").Exec())
	}
	c := spawn.New("/bin/cat", "/proc/self/stat").InheritStdio()
	switch args[0] {
	case "lead group":
		c.SetProcessGroup()
	case "lead session":
		c.SetSession()
	}
	return testkit.Fail(c.Exec())
}

func TestExecRefusesWhatNeedsThisProcess(t *testing.T) {
	testkit.CheckLeaks(t)
	var s string
	full := make([]byte, 1<<20)
	tooMuch := spawn.New("/bin/true")
	tooMuch.SetSendBuffer(full)
	for want, c := range map[string]*spawn.Command{
		"stdin comes from a reader of this process, which Exec replaces": spawn.New("/bin/true").SetStdin(new(bytes.Buffer)),
		"stdout goes to a writer of this process, which Exec replaces":   spawn.New("/bin/true").SetStdout(new(bytes.Buffer)),
		"stderr goes to a writer of this process, which Exec replaces":   spawn.New("/bin/true").SetStderr(new(bytes.Buffer)),
		"PipeStdin needs Start":  spawn.New("/bin/true").PipeStdin(),
		"PipeStdout needs Start": spawn.New("/bin/true").PipeStdout(),
		"PipeStderr needs Start": spawn.New("/bin/true").PipeStderr(),
		"stdout goes to a buffer of this process, which Exec replaces": spawn.New("/bin/true").SetOutputBuffer(&s),
		"stderr goes to a buffer of this process, which Exec replaces": spawn.New("/bin/true").SetErrorBuffer(&s),
		"SetInput: 1048576 bytes do not fit into a pipe (64 KiB)":      spawn.New("/bin/true").SetInput(full),
		"SetSendBuffer: 1048576 bytes do not fit into a pipe (64 KiB)": tooMuch,
	} {
		before := testkit.OpenFDs(t)
		err := c.Exec()
		require.EqualError(t, err, "spawn: Exec: "+want)
		require.Equal(t, before, testkit.OpenFDs(t), want)
	}
}

func TestAProcessWorksAsBeforeWhenExecHasFailed(t *testing.T) {
	testkit.CheckLeaks(t)
	out, err := testkit.HelperCommand(t, "exec-fails", testkit.PublicDir(t)).CombinedOutput(context.Background())
	require.NoError(t, err, "%s", out)
	require.Equal(t, "good\n", string(out))
}

// execFails fails to replace this process in many ways, and compares this
// process before and after.
func execFails(args []string) int {
	if err := makeAMess(); err != nil {
		return testkit.Fail(err)
	}
	child := func() string {
		out, err := testkit.Shell("umask; pwd; ulimit -n; ulimit -c; cat").SetInput([]byte("text")).Output(context.Background())
		return fmt.Sprint(string(out), err)
	}
	childBefore := child()
	before, err := describeSelf()
	if err != nil {
		return testkit.Fail(err)
	}
	threads := len(tasks())
	tidy := func(c *spawn.Command) *spawn.Command {
		tidy(c, args[0])
		for _, resource := range []int{unix.RLIMIT_CORE, unix.RLIMIT_NOFILE} {
			var limit unix.Rlimit
			if unix.Getrlimit(resource, &limit) == nil {
				// A hard limit could not be raised again.
				c.SetRlimit(resource, limit.Cur/2, limit.Max)
			}
		}
		return c
	}
	commands := map[string]*spawn.Command{
		`execve("/nonexistent/program")`: tidy(spawn.New("/nonexistent/program")),
		`execve("/")`:                    tidy(spawn.New("/")).SetProcessGroup(),
		`chdir("/nonexistent")`:          tidy(spawn.New("/bin/true")).SetWorkingDirectory("/nonexistent"),
		"search in PATH":                 tidy(spawn.New("no-such-program")),
		`prlimit64(0, RLIMIT_NOFILE, `:   tidy(spawn.New("/bin/true")).SetMaxFiles(1 << 40),
		`execve("/nonexistent/program`:   spawn.New("/nonexistent/program"),
	}
	for round := range 10 {
		for op, c := range commands {
			err := c.Exec()
			var start *spawn.StartError
			if !errors.As(err, &start) || !strings.HasPrefix(start.Op, op) {
				return testkit.Fail(fmt.Errorf("%s: unexpected error %v", op, err))
			}
			if round > 1 && round < 9 {
				continue
			}
			if err := waitForSame(before); err != nil {
				return testkit.Fail(fmt.Errorf("%s: %w", op, err))
			}
		}
	}
	if now := len(tasks()); now > threads+8 {
		return testkit.Fail(fmt.Errorf("%d threads, before: %d", now, threads))
	}
	if now := child(); now != childBefore {
		return testkit.Fail(fmt.Errorf("a child is %q and was %q", now, childBefore))
	}
	if err := waitForSame(before); err != nil {
		return testkit.Fail(err)
	}
	fmt.Println("good")
	return 0
}

func TestExecTriesAProgramThatIsBeingWrittenAgain(t *testing.T) {
	testkit.CheckLeaks(t)
	path := filepath.Join(t.TempDir(), "program")
	require.NoError(t, os.WriteFile(path, []byte("#!/bin/sh\necho \"$0\" ran\n"), 0o755))
	out, err := testkit.HelperCommand(t, "exec-busy", path).CombinedOutput(context.Background())
	require.NoError(t, err, "%s", out)
	require.Equal(t, "started "+path+"\n"+path+" ran\n", string(out))
}

// printStarts prints what it is told of.
type printStarts struct{ spawn.Observer }

func (printStarts) CommandStarted(_ context.Context, e spawn.StartEvent) {
	fmt.Println("started", e.Path)
}

// execBusy replaces this process by a program that is open for writing for
// a moment.
func execBusy(args []string) int {
	f, err := os.OpenFile(args[0], os.O_WRONLY, 0)
	if err != nil {
		return testkit.Fail(err)
	}
	time.AfterFunc(3*time.Millisecond, func() { f.Close() })
	return testkit.Fail(spawn.New(args[0]).InheritStdio().SetObserver(printStarts{}).Exec())
}

// onlyExec is a filter that ends the process at any call but those which come
// behind it.
func onlyExec() []unix.SockFilter {
	const load, jumpIfEqual, ret = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, unix.BPF_RET | unix.BPF_K
	return append(testkit.OnlyNative(),
		unix.SockFilter{Code: load},
		unix.SockFilter{Code: jumpIfEqual, K: unix.SYS_RT_SIGPROCMASK, Jt: 2},
		unix.SockFilter{Code: jumpIfEqual, K: unix.SYS_EXECVE, Jt: 1},
		unix.SockFilter{Code: ret, K: unix.SECCOMP_RET_KILL_PROCESS},
		unix.SockFilter{Code: ret, K: unix.SECCOMP_RET_ALLOW})
}

// TestExecBehindAFilterReturnsWhatCanBeKnownBefore: a thread that went on under
// the filter would end the process.
func TestExecBehindAFilterReturnsWhatCanBeKnownBefore(t *testing.T) {
	testkit.CheckLeaks(t)
	dir := testkit.PublicDir(t)
	errs := unusable(t, dir)
	for _, unknown := range []string{"text", "empty", "truncated"} {
		// somebody may have registered an interpreter
		delete(errs, unknown)
	}
	for name, text := range map[string]string{
		"nameless":                          "#! \t\n",
		"no-interpreter-of-the-interpreter": "#!\t" + dir + "/no-interpreter -x\n",
		"itself":                            "#!" + dir + "/itself\n",
	} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755))
	}
	errs["nameless"], errs["no-interpreter-of-the-interpreter"], errs["itself"] = unix.ENOEXEC, unix.ENOENT, unix.ELOOP
	if os.Geteuid() != 0 {
		require.NoError(t, os.WriteFile(filepath.Join(dir, "for-others"), []byte("#!/bin/sh\n"), 0o455))
		errs["for-others"] = unix.EACCES
	}
	for name, want := range errs {
		path := filepath.Join(dir, name)
		out, err := testkit.HelperCommand(t, "exec-filtered", path).CombinedOutput(context.Background())
		require.NoError(t, err, "%s: %s", name, out)
		require.Equal(t, fmt.Sprintf("spawn: cannot start %q: execve(%q): %v\n", path, path, want), string(out))
	}
	if os.Geteuid() == 0 {
		out, err := testkit.HelperCommand(t, "exec-filtered", "/bin/sh", dir).CombinedOutput(context.Background())
		require.NoError(t, err, "%s", out)
		require.Contains(t, string(out), `execve("/bin/sh"): no such file`)
		out, err = testkit.HelperCommand(t, "exec-filtered", dir+"/not-executable", "nobody").CombinedOutput(context.Background())
		require.NoError(t, err, "%s", out)
		require.Contains(t, string(out), "not-executable\"): permission denied")
	}

	require.NoError(t, os.WriteFile(filepath.Join(dir, "inner"), []byte("#!/bin/sh\necho \"$0\" ran\n"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "outer"), []byte("#! "+dir+"/inner"), 0o755))
	out, err := testkit.HelperCommand(t, "exec-filtered", dir+"/outer", "").CombinedOutput(context.Background())
	require.NoError(t, err, "%s", out)
	require.Equal(t, dir+"/inner ran\n", string(out))
}

// TestExecBehindAFilterKnowsAMountThatNothingIsExecutedFrom: also where the
// program is to have another user, as whom this process cannot ask.
func TestExecBehindAFilterKnowsAMountThatNothingIsExecutedFrom(t *testing.T) {
	testkit.NeedsRoot(t, "to mount")
	dir := testkit.PublicDir(t)
	mount := filepath.Join(dir, "mount")
	require.NoError(t, os.Mkdir(mount, 0o755))
	testkit.Needs(t, "to mount a file system", unix.Mount("tmpfs", mount, "tmpfs", unix.MS_NOEXEC, "mode=0755"), unix.EPERM)
	t.Cleanup(func() { require.NoError(t, unix.Unmount(mount, 0)) })
	testkit.CheckLeaks(t)
	there, interpreted := filepath.Join(mount, "there"), filepath.Join(dir, "interpreted")
	require.NoError(t, os.WriteFile(there, []byte("#!/bin/sh\n"), 0o755))
	require.NoError(t, os.WriteFile(interpreted, []byte("#!"+there+"\n"), 0o755))
	for _, path := range []string{there, interpreted} {
		for _, as := range [][]string{nil, {"nobody"}} {
			out, err := testkit.HelperCommand(t, "exec-filtered", append([]string{path}, as...)...).CombinedOutput(context.Background())
			require.NoError(t, err, "%s %s: %s", path, as, out)
			require.Equal(t, fmt.Sprintf("spawn: cannot start %q: execve(%q): permission denied\n", path, path), string(out))
		}
	}
}

// execFiltered replaces this process by the program args[0], and prints why it
// could not: as another user, in the root directory args[1], or, if that is
// empty, behind a filter under which the program can run.
func execFiltered(args []string) int {
	c := spawn.New(args[0]).InheritStdio().SetSeccompFilter(onlyExec())
	switch {
	case len(args) == 1:
	case args[1] == "":
		c.SetSeccompFilter(testkit.FilterOf(unix.SYS_REBOOT, unix.SECCOMP_RET_ERRNO, 0))
	case args[1] == "nobody":
		c.SetUID(testkit.Nobody).SetGID(testkit.Nobody)
	default:
		c.SetChroot(args[1])
	}
	fmt.Println(c.Exec())
	return 0
}

func TestExecLeavesTheProgramNoTimers(t *testing.T) {
	testkit.CheckLeaks(t)
	t.Setenv("GORACE", "atexit_sleep_ms=0")
	out, err := testkit.HelperCommand(t, "exec-timers", testkit.Self(t)).CombinedOutput(context.Background())
	require.NoError(t, err, "%s", out)
	require.Equal(t, "[0s 0s 0s]\n", string(out))
}

// timersOf returns the intervals of this process's timers. What is left of one
// may be nothing, when it is about to fire.
func timersOf() (intervals [3]time.Duration) {
	for which := range intervals {
		timer, err := unix.Getitimer(unix.ItimerWhich(which))
		if err == nil {
			intervals[which] = time.Duration(timer.Interval.Nano())
		}
	}
	return intervals
}

// execTimers replaces this process, of which a CPU profile is taken and which
// has timers, by a program that says what it has of them. A first try fails.
func execTimers(args []string) int {
	if err := pprof.StartCPUProfile(io.Discard); err != nil {
		return testkit.Fail(err)
	}
	for _, which := range []unix.ItimerWhich{unix.ItimerReal, unix.ItimerVirtual} {
		if _, err := unix.Setitimer(which, unix.MakeItimerval(time.Hour, time.Hour)); err != nil {
			return testkit.Fail(err)
		}
	}
	before := timersOf()
	if before[unix.ItimerProf] == 0 {
		return testkit.Fail(errors.New("the profile has no timer"))
	}
	if err := spawn.New("/nonexistent").Exec(); !errors.Is(err, unix.ENOENT) {
		return testkit.Fail(err)
	}
	if now := timersOf(); now != before {
		return testkit.Fail(fmt.Errorf("timers %v, before %v", now, before))
	}
	return testkit.Fail(spawn.New(args[0], testkit.HelperPrefix+"timers").InheritStdio().Exec())
}

func tasks() []string {
	dirs, _ := filepath.Glob("/proc/self/task/*")
	return dirs
}

// waitForSame waits until this process is as it was. The thread that has failed
// may take a moment to end.
func waitForSame(before string) error {
	var now string
	for range 1000 {
		var err error
		if now, err = describeSelf(); err == nil && now == before {
			return nil
		}
	}
	return fmt.Errorf("this process is\n%s\nand was\n%s", now, before)
}

// describeSelf tells what matters of this process; it must be the same for
// every thread.
func describeSelf() (string, error) {
	var all []string
	for _, task := range tasks() {
		var b strings.Builder
		status, err := os.ReadFile(task + "/status")
		if err != nil {
			return "", err
		}
		for _, name := range []string{"Umask", "Uid", "Gid", "Groups", "SigIgn", "CapEff", "CapPrm", "NoNewPrivs"} {
			fmt.Fprintln(&b, name, testkit.StatusField(string(status), name))
		}
		cwd, err := os.Readlink(task + "/cwd")
		if err != nil {
			return "", err
		}
		fmt.Fprintln(&b, cwd, openNumbersOf(task))
		all = append(all, b.String())
	}
	slices.Sort(all)
	all = slices.Compact(all)
	if len(all) != 1 {
		return "", fmt.Errorf("threads differ:\n%s", strings.Join(all, "\n"))
	}
	limits, err := os.ReadFile("/proc/self/limits")
	return all[0] + string(limits) + fmt.Sprint("dumpable ", testkit.DumpableFlag()), err
}

// openNumbersOf returns the descriptors of a thread, but not those of
// this function.
func openNumbersOf(task string) (open []string) {
	entries, err := os.ReadDir(task + "/fd")
	if err != nil {
		return []string{err.Error()}
	}
	for _, e := range entries {
		if target, err := os.Readlink(filepath.Join(task, "fd", e.Name())); err == nil && !strings.HasSuffix(target, "/fd") {
			open = append(open, e.Name())
		}
	}
	return open
}
