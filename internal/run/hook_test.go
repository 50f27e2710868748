//go:build linux

package run_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/virspawn/spawn"
	"github.com/virspawn/spawn/internal/helper"
	"github.com/virspawn/spawn/internal/plan"
	"github.com/virspawn/spawn/internal/testkit"
	"golang.org/x/sys/unix"
)

func init() {
	testkit.Helpers["hook-registers"] = registerLate
	testkit.Helpers["no-direct"] = startWithout
	// A hook of the same name twice, while the program is initialised.
	if os.Getenv("SPAWN_TEST_HOOK") != "" {
		defer func() {
			fmt.Println(recover())
			os.Exit(0)
		}()
		spawn.RegisterHook(os.Getenv("SPAWN_TEST_HOOK"), func(string) error { return nil })
	}
}

// onlyHere is registered in the process that starts a child, and not in
// the child.
var onlyHere = registerOnlyHere()

func registerOnlyHere() spawn.Hook {
	if os.Args[0] == helper.Name {
		return spawn.Hook{}
	}
	return spawn.RegisterHook("only here", func(string) error { return nil })
}

func TestAHookRunsBeforeTheProgramWithItsDescriptors(t *testing.T) {
	testkit.ForEachCall(t, func(t *testing.T, call func(*spawn.Command, context.Context) (string, error)) {
		c := spawn.New("/bin/sh", "-c", "head -n 1 <&4; echo program").SetPreExecHook(testkit.HookWrites, "from the hook")
		r, w := testkit.NewPipe(t)
		out, err := call(c.PassFDAs(w, 3, spawn.CloseParent).PassFDAs(r, 4), context.Background())
		require.NoError(t, err)
		require.Equal(t, "from the hook\nprogram\n", out)
	})
}

func TestAHookRunsUnderLimitsAndWithThisProcesssPrivileges(t *testing.T) {
	testkit.CheckLeaks(t)
	t.Setenv("SPAWN_TEST_VARIABLE", "a value")
	r, w := testkit.NewPipe(t)
	c := spawn.New("/bin/sh", "-c", "id -u; umask; ulimit -c").ClearEnv().SetPreExecHook(testkit.HookState, "").SetUmask(0o77).SetRlimit(unix.RLIMIT_CORE, 0, 4096).
		PassFDAs(w, 5, spawn.CloseParent)
	want := "variable a value\n"
	if os.Geteuid() == 0 {
		c.SetUID(65534).SetGID(65534)
		want += "65534\n"
	} else {
		want += fmt.Sprintln(os.Getuid())
	}
	out, err := c.Output(context.Background())
	require.NoError(t, err)
	require.Equal(t, fmt.Sprintf("uid %d main thread true umask 077\ncore 0 4096\n", os.Getuid())+want+"0027\n0\n", string(out))
	text := make([]byte, 100)
	n, err := r.Read(text)
	require.NoError(t, err)
	require.Equal(t, "from a thread\n", string(text[:n]))
}

func TestAHookDoesWhatNeedsAPrivilege(t *testing.T) {
	testkit.NeedsRoot(t, "to give a file away")
	testkit.CheckLeaks(t)
	// Unlike t.TempDir, this is in a directory that others can enter.
	dir, err := os.MkdirTemp("", "spawn")
	require.NoError(t, err)
	defer os.RemoveAll(dir)
	require.NoError(t, os.Chmod(dir, 0o755))
	path := filepath.Join(dir, "file")
	require.NoError(t, os.WriteFile(path, nil, 0o600))
	require.NoError(t, spawn.New("/bin/sh", "-c", `echo text >"$0"`, path).SetUID(65534).SetGID(65534).SetPreExecHook(testkit.HookChown, path).
		SetWorkingDirectory("/").Run(context.Background()))
	require.Equal(t, "text", testkit.ReadFile(t, path))
}

func TestAHookCanRunPrograms(t *testing.T) {
	testkit.CheckLeaks(t)
	out, err := spawn.New("/bin/cat").SetInput([]byte("text")).SetPreExecHook(testkit.HookRuns, "exit 0").Output(context.Background())
	require.NoError(t, err)
	require.Equal(t, "text", string(out))
	err = spawn.New("/bin/true").SetPreExecHook(testkit.HookRuns, "exit 7").Run(context.Background())
	requireNotStartedText(t, err, `hook("runs")`, "exit status 7")
}

func requireNotStartedText(t testing.TB, err error, op, text string) {
	t.Helper()
	var start *spawn.StartError
	require.ErrorAs(t, err, &start)
	require.Equal(t, op, start.Op)
	require.EqualError(t, start.Err, text)
	testkit.RequireNoChild(t)
}

func TestAHooksErrorIsTheStartError(t *testing.T) {
	for name, hook := range map[string]struct {
		spawn.Hook
		arg, text string
	}{
		"fails":            {testkit.HookFails, "this is why", "this is why"},
		"panics":           {testkit.HookPanics, "this is why", "panic: this is why"},
		"dereferences nil": {testkit.HookNil, "", "panic: runtime error: invalid memory address or nil pointer dereference"},
		"exits":            {testkit.HookExits, "", "the child has not come back from it: exit status 3"},
		"goexit":           {testkit.HookGoexit, "", "the hook called runtime.Goexit"},
		"closes":           {testkit.HookCloses, "", "the child has not come back from it: signal: killed"},
		"only here":        {onlyHere, "", "the hook is not registered in the helper"},
		"a long error":     {testkit.HookFails, strings.Repeat("long ", 2000), strings.Repeat("long ", 2000)[:4048]},
	} {
		t.Run(name, func(t *testing.T) {
			each := testkit.ForEachCall
			if name == "closes" { // the library waits whether there comes more
				each = testkit.ForSlowCalls
			}
			each(t, func(t *testing.T, call func(*spawn.Command, context.Context) (string, error)) {
				_, err := call(spawn.New("/bin/true").SetPreExecHook(hook.Hook, hook.arg), context.Background())
				requireNotStartedText(t, err, "hook("+strconv.Quote(testkit.Wanted(spawn.New("x").SetPreExecHook(hook.Hook, "")).Hook)+")", hook.text)
			})
		})
	}
}

// TestAHookThatClosesTheLibrarysDescriptorsIsAStartError: the end of the status
// pipe comes while the helper goes on, and is not taken for its execve.
func TestAHookThatClosesTheLibrarysDescriptorsIsAStartError(t *testing.T) {
	testkit.CheckLeaks(t)
	for _, dir := range []string{"/", "/nonexistent"} {
		for range testkit.Rounds(40, 3) {
			for _, call := range []func(*spawn.Command, context.Context) (string, error){testkit.Calls["Run"], testkit.Calls["Start and Wait"]} {
				_, err := call(spawn.New("/bin/true").SetWorkingDirectory(dir).SetPreExecHook(testkit.HookClosesAndReturns, ""), context.Background())
				var start *spawn.StartError
				require.ErrorAs(t, err, &start)
				require.Equal(t, `hook("closes and returns")`, start.Op)
				require.Regexp(t, `^the hook has closed descriptor \d+, which it has not opened$`, start.Err.Error())
				testkit.RequireNoChild(t)
				_, err = call(spawn.New("/bin/true").SetWorkingDirectory(dir).SetPreExecHook(testkit.HookClosesAll, ""), context.Background())
				require.ErrorAs(t, err, &start)
				require.Equal(t, `hook("closes all")`, start.Op)
				testkit.RequireNoChild(t)
			}
		}
	}
}

func TestAHelperThatComesToMainEndsThereAtOnce(t *testing.T) {
	testkit.CheckLeaks(t)
	for range 5 {
		r, w := testkit.NewPipe(t)
		err := spawn.New("/bin/true").SetPreExecHook(onlyHere, "").SetStdout(w).Run(context.Background())
		requireNotStartedText(t, err, `hook("only here")`, "the hook is not registered in the helper")
		require.NoError(t, w.Close())
		out, err := io.ReadAll(r)
		require.NoError(t, err)
		require.NotContains(t, string(out), "went on")
	}
}

func TestAHooksErrnoIsFound(t *testing.T) {
	testkit.CheckLeaks(t)
	err := spawn.New("/bin/true").SetPreExecHook(testkit.HookErrno, "").Run(context.Background())
	require.ErrorIs(t, err, fs.ErrNotExist)
	testkit.RequireNotStarted(t, err, `hook("errno")`, unix.ENOENT)
}

func TestAHookThatBlocksEndsWithItsContext(t *testing.T) {
	testkit.ForEachCall(t, func(t *testing.T, call func(*spawn.Command, context.Context) (string, error)) {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		c := spawn.New("/bin/true").SetPreExecHook(testkit.HookBlocks, "")
		r := testkit.PassPipe(t, c, 3)
		_, err := testkit.During(call, c, ctx, func() {
			_, err := r.Read(make([]byte, 10))
			require.NoError(t, err)
			cancel()
		})
		testkit.RequireNotStarted(t, err, "start", context.Canceled)
	})
}

func TestAHookAndAHandshake(t *testing.T) {
	testkit.CheckLeaks(t)
	c := spawn.New("/bin/true").RequireHandshake().SetPreExecHook(testkit.HookFails, "this is why")
	p, err := c.Start(context.Background())
	require.NoError(t, err)
	requireNotStartedText(t, p.HandshakeWait(context.Background()), `hook("fails")`, "this is why")

	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	c = spawn.New("/bin/true").RequireHandshake().SetPreExecHook(testkit.HookBlocks, "")
	r := testkit.PassPipe(t, c, 3)
	p, err = c.Start(ctx)
	require.NoError(t, err)
	_, err = r.Read(make([]byte, 10))
	require.NoError(t, err)
	cancel()
	require.ErrorIs(t, p.HandshakeWait(context.Background()), context.Canceled)

	var out string
	c = spawn.New("/bin/sh", "-c", "head -n 1 <&4").RequireHandshake().SetPreExecHook(testkit.HookWrites, "from the hook").SetOutputBuffer(&out)
	r, w := testkit.NewPipe(t)
	p, err = c.PassFDAs(w, 3, spawn.CloseParent).PassFDAs(r, 4).Start(context.Background())
	require.NoError(t, err)
	require.NoError(t, p.HandshakeWait(context.Background()))
	require.NoError(t, p.HandshakeNotify())
	require.NoError(t, p.Wait())
	require.Equal(t, "from the hook\n", out)
}

// TestAStepThatFailsBeforeTheHookIsNoStopAtTheGate: the first byte of the
// failure's report is not taken for the one which says that all is applied.
func TestAStepThatFailsBeforeTheHookIsNoStopAtTheGate(t *testing.T) {
	testkit.CheckLeaks(t)
	f, err := os.Open("/proc/self/ns/uts")
	require.NoError(t, err)
	defer f.Close()
	for range 50 {
		p, err := spawn.New("/bin/true").JoinNamespace(spawn.NetworkNamespace, f).SetPreExecHook(testkit.HookFails, "").RequireHandshake().Start(context.Background())
		require.NoError(t, err)
		var start *spawn.StartError
		require.ErrorAs(t, p.HandshakeWait(context.Background()), &start)
		require.Contains(t, start.Op, "setns(")
		require.ErrorIs(t, start, unix.EINVAL)
		testkit.RequireNeverRan(t, p)
	}
}

func TestAHookRunsOnceThoughTheProgramIsBeingWritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "program")
	require.NoError(t, os.WriteFile(path, []byte("#!/bin/sh\nexit 0\n"), 0o755))
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	require.NoError(t, err)
	defer f.Close()
	if exec.Command(path).Run() == nil {
		t.Skip("this kernel executes a file that is open for writing")
	}
	testkit.ForEachCall(t, func(t *testing.T, call func(*spawn.Command, context.Context) (string, error)) {
		r, w := testkit.NewPipe(t)
		_, err := call(spawn.New(path).SetPreExecHook(testkit.HookWrites, "once").PassFDAs(w, 3), context.Background())
		testkit.RequireNotStarted(t, err, "execve("+strconv.Quote(path)+")", unix.ETXTBSY)
		require.NoError(t, w.Close())
		written, err := io.ReadAll(r)
		require.NoError(t, err)
		require.Equal(t, "once\n", string(written))
	})
}

func TestAHookIsExplained(t *testing.T) {
	testkit.CheckLeaks(t)
	t.Setenv("SPAWN_TEST_VARIABLE", "not to be seen")
	text, err := spawn.New("/bin/true").ClearEnv().SetPreExecHook(testkit.HookFails, "an argument").SetUmask(0o77).SetWorkingDirectory("/").Explain()
	require.NoError(t, err)
	require.Contains(t, text, "\nhook(\"fails\", \"an argument\")\n")
	require.NotContains(t, text, "not to be seen")
	befores := []string{"umask(077)"}
	if plan.CanClone() {
		require.Contains(t, text, `, "", ["spawn-helper", "`)
		befores = append(befores, "execveat(")
	}
	for _, before := range befores {
		require.Less(t, strings.Index(text, before), strings.Index(text, "hook("), before)
	}
	require.Less(t, strings.Index(text, "hook("), strings.Index(text, "chdir("))
}

// registerLate registers a hook after the initialisation.
func registerLate([]string) int {
	defer func() {
		fmt.Println(recover())
	}()
	spawn.RegisterHook("late", func(string) error { return nil })
	return 0
}

func TestARegistrationThatNoHelperWouldReachPanics(t *testing.T) {
	testkit.CheckLeaks(t)
	out, err := testkit.HelperCommand(t, "hook-registers").Output(context.Background())
	require.NoError(t, err)
	require.Equal(t, "spawn: RegisterHook(\"late\"): the program is initialised already, and a helper never gets so far; "+
		"use a package-level variable or an init function\n", string(out))
	done := make(chan any)
	go func() {
		defer func() { done <- recover() }()
		spawn.RegisterHook("late", func(string) error { return nil })
	}()
	require.Contains(t, <-done, "initialised already")
	for name, want := range map[string]string{
		"fails":         `spawn: RegisterHook("fails"): the name is registered already`,
		"not yet known": "<nil>",
	} {
		cmd := exec.Command(testkit.Self(t))
		cmd.Env = append(os.Environ(), "SPAWN_TEST_HOOK="+name, "GORACE=atexit_sleep_ms=0")
		out, err := cmd.Output()
		require.NoError(t, err)
		require.Equal(t, want+"\n", string(out))
	}
	require.PanicsWithValue(t, `spawn: RegisterHook(""): not a name`, func() { spawn.RegisterHook("", nil) })
	require.PanicsWithValue(t, `spawn: RegisterHook("nil"): the function is nil`, func() { spawn.RegisterHook("nil", nil) })
}

func TestBadHooksAreBadCalls(t *testing.T) {
	require.EqualError(t, spawn.New("/bin/true").SetPreExecHook(spawn.Hook{}, "").Run(context.Background()), "spawn: SetPreExecHook: the hook is not registered")
	require.ErrorContains(t, spawn.New("/bin/true").SetPreExecHook(testkit.HookFails, "\x00").Run(context.Background()), `spawn: SetPreExecHook: the argument "\x00" has a NUL byte`)
	require.ErrorContains(t, spawn.New("/bin/true").SetPreExecHook(testkit.HookFails, "").Exec(), "spawn: Exec: a hook is for a child")
}

const allSeals = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE

// imageFile returns a memfd with these contents and seals.
func imageFile(t *testing.T, contents []byte, seals int) *os.File {
	fd, err := helper.NewImage()
	require.NoError(t, err)
	f := os.NewFile(uintptr(fd), "image")
	_, err = f.Write(contents)
	require.NoError(t, err)
	_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals)
	require.NoError(t, err)
	return f
}

// requireRefusedHelper starts this test binary as a helper with f, which it
// closes, and returns why it refuses to be one.
func requireRefusedHelper(t *testing.T, arg string, f *os.File) string {
	t.Helper()
	defer f.Close()
	cmd := exec.Command(testkit.Self(t))
	cmd.Args = []string{helper.Name, helper.Name + ":" + arg}
	cmd.ExtraFiles = []*os.File{f}
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	require.ErrorAs(t, err, &exit, "%s", out)
	require.Equal(t, 126, exit.ExitCode(), "%s", out)
	return string(out)
}

// realImage returns the image of a helper's program.
func realImage(t *testing.T) []byte {
	c := testkit.By(spawn.New("/bin/echo", "the program ran"), plan.ChildAndHelper)
	pl, err := testkit.Planned(c, plan.Piped)
	require.NoError(t, err)
	require.NoError(t, pl.WriteImage())
	defer pl.Release()
	image, err := os.ReadFile(memfdNamed(t, "spawn-program"))
	require.NoError(t, err)
	return image
}

// TestAForgedHelperIsRefused: a process that is started as a helper by somebody
// else makes no call of a program that is not sealed, or not one.
func TestAForgedHelperIsRefused(t *testing.T) {
	testkit.CheckLeaks(t)
	image := realImage(t)
	notSealed := "spawn: this process cannot be a helper: not a program for a helper: descriptor 3 is not a sealed memfd\n"
	null, err := os.Open(os.DevNull)
	require.NoError(t, err)
	require.Equal(t, notSealed, requireRefusedHelper(t, "3", null))
	for _, missing := range []int{allSeals, unix.F_SEAL_SEAL, unix.F_SEAL_SHRINK, unix.F_SEAL_GROW, unix.F_SEAL_WRITE} {
		require.Equal(t, notSealed, requireRefusedHelper(t, "3", imageFile(t, image, allSeals&^missing)), "without seals %#x", missing)
	}
	text := requireRefusedHelper(t, "3", imageFile(t, []byte("anything but a program"), allSeals))
	require.Contains(t, text, "spawn: this process cannot be a helper: not a program for a helper")
	text = requireRefusedHelper(t, "3+", imageFile(t, image, allSeals))
	require.Equal(t, "spawn: this process cannot be a helper: not a program for a helper: no call forks a daemon\n", text)
	for _, arg := range []string{"3++", "3+1", "+", ""} {
		require.Contains(t, requireRefusedHelper(t, arg, imageFile(t, image, allSeals)), "is not the number of a descriptor")
	}
}

// TestAnImageThatWasChangedIsRefused changes some bytes of a real image.
func TestAnImageThatWasChangedIsRefused(t *testing.T) {
	testkit.CheckLeaks(t)
	image := realImage(t)
	for _, at := range []int{0, 8, 16, 24, len(image) / 4, len(image) / 2, len(image) - 1} {
		changed := bytes.Clone(image)
		changed[at] ^= 0x40
		requireRefusedHelper(t, "3", imageFile(t, changed, allSeals))
	}
}

// TestPoliciesThatDenyTheCloneAreServedByAHelper: each of the calls, alone and
// together, on a real kernel under a real filter.
func TestPoliciesThatDenyTheCloneAreServedByAHelper(t *testing.T) {
	for name, args := range map[string][]string{
		"no clone3, clone without CLONE_PIDFD": {"clone"},
		"no close_range":                       {"close_range"},
		"neither":                              {"clone", "close_range"},
	} {
		for _, errno := range []syscall.Errno{unix.ENOSYS, unix.EPERM} {
			t.Run(name+", "+errno.Error(), func(t *testing.T) {
				testkit.CheckLeaks(t)
				out, err := testkit.HelperCommand(t, "no-direct", append([]string{strconv.Itoa(int(errno))}, args...)...).CombinedOutput(context.Background())
				require.NoError(t, err, "%s", out)
				require.Equal(t, "good\n", string(out))
			})
		}
	}
}

// startWithout runs programs with what was denied.
func startWithout(args []string) int {
	errno, _ := strconv.ParseUint(args[0], 10, 16)
	for _, call := range args[1:] {
		var err error
		switch call {
		case "clone":
			// The C library, where there is one, knows to do without clone3 by
			// ENOSYS only.
			err = errors.Join(testkit.Deny(unix.SYS_CLONE3, uint64(unix.ENOSYS)), testkit.DenyFlags(unix.SYS_CLONE, unix.CLONE_PIDFD, errno))
		case "close_range":
			err = testkit.Deny(unix.SYS_CLOSE_RANGE, errno)
		}
		if err != nil {
			return testkit.Fail(err)
		}
	}
	leak, err := os.Open("/")
	if err != nil {
		return testkit.Fail(err)
	}
	// It is not close-on-exec.
	if _, err := unix.FcntlInt(leak.Fd(), unix.F_SETFD, 0); err != nil {
		return testkit.Fail(err)
	}
	var f [3]*os.File
	for i := range f {
		if f[i], err = os.Open(os.DevNull); err != nil {
			return testkit.Fail(err)
		}
	}
	out, err := testkit.Shell("for fd in /proc/$$/fd/*; do readlink $fd; done; umask; echo $$ $(cut -d' ' -f5,6 /proc/$$/stat)").SetUmask(0o27).SetSession().
		SetInput([]byte("text")).PassFDAs(f[0], 7).Output(context.Background())
	if err != nil {
		return testkit.Fail(err)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	n := len(lines)
	if n < 4 || lines[n-2] != "0027" {
		return testkit.Fail(fmt.Errorf("unexpected output %q", out))
	}
	if ids := strings.Fields(lines[n-1]); len(ids) != 3 || ids[0] != ids[1] || ids[1] != ids[2] {
		return testkit.Fail(fmt.Errorf("no leader of a session: %q", ids))
	}
	for i, line := range lines[:n-2] {
		if want := [...]string{"pipe:", "pipe:", "pipe:", "/dev/null"}; i >= len(want) || !strings.HasPrefix(line, want[i]) {
			return testkit.Fail(fmt.Errorf("unexpected descriptors %q", lines[:n-2]))
		}
	}
	if err := everyAttribute(f).Run(context.Background()); err != nil {
		return testkit.Fail(err)
	}
	err = spawn.New("/nonexistent/program").Run(context.Background())
	var start *spawn.StartError
	if !errors.As(err, &start) || start.Op != `execve("/nonexistent/program")` || start.Err != unix.ENOENT {
		return testkit.Fail(fmt.Errorf("unexpected error %w", err))
	}
	fmt.Println("good")
	return 0
}

// memfdNamed returns the path by which this process's memfd of this name can
// be opened.
func memfdNamed(t *testing.T, name string) string {
	for _, fd := range testkit.OpenFDs(t) {
		if n, file, _ := strings.Cut(fd, " "); strings.HasPrefix(file, "/memfd:"+name+" ") {
			return "/proc/self/fd/" + n
		}
	}
	t.Fatal("no memfd " + name)
	return ""
}
