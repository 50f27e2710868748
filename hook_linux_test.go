package spawn

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
	"github.com/virspawn/spawn/internal/helper"
	"golang.org/x/sys/unix"
)

func init() {
	helpers["hook-registers"] = registerLate
	helpers["no-direct"] = startWithout
	// A hook of the same name twice, while the program is initialised.
	if os.Getenv("SPAWN_TEST_HOOK") != "" {
		defer func() {
			fmt.Println(recover())
			os.Exit(0)
		}()
		RegisterHook(os.Getenv("SPAWN_TEST_HOOK"), func(string) error { return nil })
	}
}

// onlyHere is registered in the process that starts a child, and not in the child.
var onlyHere = registerOnlyHere()

func registerOnlyHere() Hook {
	if os.Args[0] == helper.Name {
		return Hook{}
	}
	return RegisterHook("only here", func(string) error { return nil })
}

func TestAHookRunsBeforeTheProgramWithItsDescriptors(t *testing.T) {
	forEachCall(t, func(t *testing.T, call func(*Command, context.Context) (string, error)) {
		c := New("/bin/sh", "-c", "head -n 1 <&4; echo program").SetPreExecHook(hookWrites, "from the hook")
		r, w := newPipe(t)
		out, err := call(c.PassFDAs(w, 3, CloseParent).PassFDAs(r, 4), context.Background())
		require.NoError(t, err)
		require.Equal(t, "from the hook\nprogram\n", out)
	})
}

func TestAHookRunsUnderLimitsAndWithThisProcesssPrivileges(t *testing.T) {
	checkLeaks(t)
	t.Setenv("SPAWN_TEST_VARIABLE", "a value")
	r, w := newPipe(t)
	c := New("/bin/sh", "-c", "id -u; umask; ulimit -c").ClearEnv().SetPreExecHook(hookState, "").SetUmask(0o77).SetRlimit(unix.RLIMIT_CORE, 0, 4096).
		PassFDAs(w, 5, CloseParent)
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
	if os.Geteuid() != 0 {
		t.Skip("needs root, to give a file away")
	}
	checkLeaks(t)
	dir, err := os.MkdirTemp("", "spawn") // unlike t.TempDir, in a directory that others can enter
	require.NoError(t, err)
	defer os.RemoveAll(dir)
	require.NoError(t, os.Chmod(dir, 0o755))
	path := filepath.Join(dir, "file")
	require.NoError(t, os.WriteFile(path, nil, 0o600))
	require.NoError(t, New("/bin/sh", "-c", `echo text >"$0"`, path).SetUID(65534).SetGID(65534).SetPreExecHook(hookChown, path).
		SetWorkingDirectory("/").Run(context.Background()))
	require.Equal(t, "text", readFile(t, path))
}

func TestAHookCanRunPrograms(t *testing.T) {
	checkLeaks(t)
	out, err := New("/bin/cat").SetInput([]byte("text")).SetPreExecHook(hookRuns, "exit 0").Output(context.Background())
	require.NoError(t, err)
	require.Equal(t, "text", string(out))
	err = New("/bin/true").SetPreExecHook(hookRuns, "exit 7").Run(context.Background())
	requireNotStartedText(t, err, `hook("runs")`, "exit status 7")
}

func requireNotStartedText(t testing.TB, err error, op, text string) {
	t.Helper()
	var start *StartError
	require.ErrorAs(t, err, &start)
	require.Equal(t, op, start.Op)
	require.EqualError(t, start.Err, text)
	requireNoChild(t)
}

func TestAHooksErrorIsTheStartError(t *testing.T) {
	for name, hook := range map[string]struct {
		Hook
		arg, text string
	}{
		"fails":            {hookFails, "this is why", "this is why"},
		"panics":           {hookPanics, "this is why", "panic: this is why"},
		"dereferences nil": {hookNil, "", "panic: runtime error: invalid memory address or nil pointer dereference"},
		"exits":            {hookExits, "", "the child has not come back from it: exit status 3"},
		"goexit":           {hookGoexit, "", "the hook called runtime.Goexit"},
		"closes":           {hookCloses, "", "the child has not come back from it: signal: killed"},
		"only here":        {onlyHere, "", "the hook is not registered in the helper"},
		"a long error":     {hookFails, strings.Repeat("long ", 2000), strings.Repeat("long ", 2000)[:4056]},
	} {
		t.Run(name, func(t *testing.T) {
			forEachCall(t, func(t *testing.T, call func(*Command, context.Context) (string, error)) {
				_, err := call(New("/bin/true").SetPreExecHook(hook.Hook, hook.arg), context.Background())
				requireNotStartedText(t, err, "hook("+strconv.Quote(wantedOf(New("x").SetPreExecHook(hook.Hook, "")).hook)+")", hook.text)
			})
		})
	}
}

// TestAHookThatClosesTheLibrarysDescriptorsIsAStartError: the end of the status pipe comes while the helper goes on, and is not taken for its execve.
func TestAHookThatClosesTheLibrarysDescriptorsIsAStartError(t *testing.T) {
	checkLeaks(t)
	for _, dir := range []string{"/", "/nonexistent"} {
		for range rounds(40, 10) {
			for _, call := range []func(*Command, context.Context) (string, error){calls["Run"], calls["Start and Wait"]} {
				_, err := call(New("/bin/true").SetWorkingDirectory(dir).SetPreExecHook(hookClosesAndReturns, ""), context.Background())
				var start *StartError
				require.ErrorAs(t, err, &start)
				require.Equal(t, `hook("closes and returns")`, start.Op)
				require.Regexp(t, `^the hook has closed descriptor \d+, which it has not opened$`, start.Err.Error())
				requireNoChild(t)
				_, err = call(New("/bin/true").SetWorkingDirectory(dir).SetPreExecHook(hookClosesAll, ""), context.Background())
				require.ErrorAs(t, err, &start)
				require.Equal(t, `hook("closes all")`, start.Op)
				requireNoChild(t)
			}
		}
	}
}

func TestAHelperThatComesToMainEndsThereAtOnce(t *testing.T) {
	checkLeaks(t)
	for range 5 {
		r, w := newPipe(t)
		err := New("/bin/true").SetPreExecHook(onlyHere, "").SetStdout(w).Run(context.Background())
		requireNotStartedText(t, err, `hook("only here")`, "the hook is not registered in the helper")
		require.NoError(t, w.Close())
		out, err := io.ReadAll(r)
		require.NoError(t, err)
		require.NotContains(t, string(out), "went on")
	}
}

func TestAHooksErrnoIsFound(t *testing.T) {
	checkLeaks(t)
	err := New("/bin/true").SetPreExecHook(hookErrno, "").Run(context.Background())
	require.ErrorIs(t, err, fs.ErrNotExist)
	requireNotStarted(t, err, `hook("errno")`, unix.ENOENT)
}

func TestAHookThatBlocksEndsWithItsContext(t *testing.T) {
	forEachCall(t, func(t *testing.T, call func(*Command, context.Context) (string, error)) {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		c := New("/bin/true").SetPreExecHook(hookBlocks, "")
		r := passPipe(t, c, 3)
		_, err := during(call, c, ctx, func() {
			_, err := r.Read(make([]byte, 10))
			require.NoError(t, err)
			cancel()
		})
		requireNotStarted(t, err, "start", context.Canceled)
	})
}

func TestAHookAndAHandshake(t *testing.T) {
	checkLeaks(t)
	c := New("/bin/true").RequireHandshake().SetPreExecHook(hookFails, "this is why")
	p, err := c.Start(context.Background())
	require.NoError(t, err)
	requireNotStartedText(t, p.HandshakeWait(context.Background()), `hook("fails")`, "this is why")

	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	c = New("/bin/true").RequireHandshake().SetPreExecHook(hookBlocks, "")
	r := passPipe(t, c, 3)
	p, err = c.Start(ctx)
	require.NoError(t, err)
	_, err = r.Read(make([]byte, 10))
	require.NoError(t, err)
	cancel()
	require.ErrorIs(t, p.HandshakeWait(context.Background()), context.Canceled)

	var out string
	c = New("/bin/sh", "-c", "head -n 1 <&4").RequireHandshake().SetPreExecHook(hookWrites, "from the hook").SetOutputBuffer(&out)
	r, w := newPipe(t)
	p, err = c.PassFDAs(w, 3, CloseParent).PassFDAs(r, 4).Start(context.Background())
	require.NoError(t, err)
	require.NoError(t, p.HandshakeWait(context.Background()))
	require.NoError(t, p.HandshakeNotify())
	require.NoError(t, p.Wait())
	require.Equal(t, "from the hook\n", out)
}

func TestAHookIsExplained(t *testing.T) {
	checkLeaks(t)
	t.Setenv("SPAWN_TEST_VARIABLE", "not to be seen")
	text, err := New("/bin/true").ClearEnv().SetPreExecHook(hookFails, "an argument").SetUmask(0o77).SetWorkingDirectory("/").Explain()
	require.NoError(t, err)
	require.Contains(t, text, "\nhook(\"fails\", \"an argument\")\n")
	require.NotContains(t, text, "not to be seen")
	befores := []string{"umask(077)"}
	if canClone() {
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
	RegisterHook("late", func(string) error { return nil })
	return 0
}

func TestARegistrationThatNoHelperWouldReachPanics(t *testing.T) {
	checkLeaks(t)
	out, err := helperCommand(t, "hook-registers").Output(context.Background())
	require.NoError(t, err)
	require.Equal(t, "spawn: RegisterHook(\"late\"): the program is initialised already, and a helper never gets so far; "+
		"use a package-level variable or an init function\n", string(out))
	done := make(chan any)
	go func() {
		defer func() { done <- recover() }()
		RegisterHook("late", func(string) error { return nil })
	}()
	require.Contains(t, <-done, "initialised already")
	for name, want := range map[string]string{
		"fails":         `spawn: RegisterHook("fails"): the name is registered already`,
		"not yet known": "<nil>",
	} {
		cmd := exec.Command(self(t))
		cmd.Env = append(os.Environ(), "SPAWN_TEST_HOOK="+name, "GORACE=atexit_sleep_ms=0")
		out, err := cmd.Output()
		require.NoError(t, err)
		require.Equal(t, want+"\n", string(out))
	}
	require.PanicsWithValue(t, `spawn: RegisterHook(""): not a name`, func() { RegisterHook("", nil) })
	require.PanicsWithValue(t, `spawn: RegisterHook("nil"): the function is nil`, func() { RegisterHook("nil", nil) })
}

func TestBadHooksAreBadCalls(t *testing.T) {
	require.EqualError(t, New("/bin/true").SetPreExecHook(Hook{}, "").Run(context.Background()), "spawn: SetPreExecHook: the hook is not registered")
	require.ErrorContains(t, New("/bin/true").SetPreExecHook(hookFails, "\x00").Run(context.Background()), `spawn: SetPreExecHook: the argument "\x00" has a NUL byte`)
	require.ErrorContains(t, New("/bin/true").SetPreExecHook(hookFails, "").Exec(), "spawn: Exec: a hook is for a child")
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

// requireRefusedHelper starts this test binary as a helper with f, which it closes, and returns why it refuses to be one.
func requireRefusedHelper(t *testing.T, arg string, f *os.File) string {
	t.Helper()
	defer f.Close()
	cmd := exec.Command(self(t))
	cmd.Args = []string{helper.Name, arg}
	cmd.ExtraFiles = []*os.File{f}
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	require.ErrorAs(t, err, &exit, "%s", out)
	require.Equal(t, 126, exit.ExitCode(), "%s", out)
	return string(out)
}

// realImage returns the image of a helper's program.
func realImage(t *testing.T) []byte {
	c := by(New("/bin/echo", "the program ran"), childAndHelper)
	pl, err := planned(c, piped)
	require.NoError(t, err)
	require.NoError(t, pl.writeImage())
	defer pl.release()
	image, err := os.ReadFile(memfdNamed(t, "spawn-program"))
	require.NoError(t, err)
	return image
}

// TestAForgedHelperIsRefused: a process that is started as a helper by somebody else makes no call of a program that is not sealed, or not
// one.
func TestAForgedHelperIsRefused(t *testing.T) {
	checkLeaks(t)
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
	checkLeaks(t)
	image := realImage(t)
	for _, at := range []int{0, 8, 16, 24, len(image) / 4, len(image) / 2, len(image) - 1} {
		changed := bytes.Clone(image)
		changed[at] ^= 0x40
		requireRefusedHelper(t, "3", imageFile(t, changed, allSeals))
	}
}

// TestPoliciesThatDenyTheCloneAreServedByAHelper: each of the calls, alone and together, on a real kernel under a real filter.
func TestPoliciesThatDenyTheCloneAreServedByAHelper(t *testing.T) {
	for name, args := range map[string][]string{
		"no clone3, clone without CLONE_PIDFD": {"clone"},
		"no close_range":                       {"close_range"},
		"neither":                              {"clone", "close_range"},
	} {
		for _, errno := range []syscall.Errno{unix.ENOSYS, unix.EPERM} {
			t.Run(name+", "+errno.Error(), func(t *testing.T) {
				checkLeaks(t)
				out, err := helperCommand(t, "no-direct", append([]string{strconv.Itoa(int(errno))}, args...)...).CombinedOutput(context.Background())
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
			// The C library, where there is one, knows to do without clone3 by ENOSYS only.
			err = errors.Join(deny(unix.SYS_CLONE3, uint64(unix.ENOSYS)), denyFlags(unix.SYS_CLONE, unix.CLONE_PIDFD, errno))
		case "close_range":
			err = deny(unix.SYS_CLOSE_RANGE, errno)
		}
		if err != nil {
			return fail(err)
		}
	}
	leak, err := os.Open("/")
	if err != nil {
		return fail(err)
	}
	if _, err := unix.FcntlInt(leak.Fd(), unix.F_SETFD, 0); err != nil { // not close-on-exec
		return fail(err)
	}
	var f [3]*os.File
	for i := range f {
		if f[i], err = os.Open(os.DevNull); err != nil {
			return fail(err)
		}
	}
	out, err := shell("for fd in /proc/$$/fd/*; do readlink $fd; done; umask; echo $$ $(cut -d' ' -f5,6 /proc/$$/stat)").SetUmask(0o27).SetSession().
		SetInput([]byte("text")).PassFDAs(f[0], 7).Output(context.Background())
	if err != nil {
		return fail(err)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	n := len(lines)
	if n < 4 || lines[n-2] != "0027" {
		return fail(fmt.Errorf("unexpected output %q", out))
	}
	if ids := strings.Fields(lines[n-1]); len(ids) != 3 || ids[0] != ids[1] || ids[1] != ids[2] {
		return fail(fmt.Errorf("no leader of a session: %q", ids))
	}
	for i, line := range lines[:n-2] {
		if want := [...]string{"pipe:", "pipe:", "pipe:", "/dev/null"}; i >= len(want) || !strings.HasPrefix(line, want[i]) {
			return fail(fmt.Errorf("unexpected descriptors %q", lines[:n-2]))
		}
	}
	if err := everyAttribute(f).Run(context.Background()); err != nil {
		return fail(err)
	}
	err = New("/nonexistent/program").Run(context.Background())
	var start *StartError
	if !errors.As(err, &start) || start.Op != `execve("/nonexistent/program")` || start.Err != unix.ENOENT {
		return fail(fmt.Errorf("unexpected error %w", err))
	}
	fmt.Println("good")
	return 0
}

// memfdNamed returns the path by which this process's memfd of this name can be
// opened.
func memfdNamed(t *testing.T, name string) string {
	for _, fd := range openFDs(t) {
		if n, file, _ := strings.Cut(fd, " "); strings.HasPrefix(file, "/memfd:"+name+" ") {
			return "/proc/self/fd/" + n
		}
	}
	t.Fatal("no memfd " + name)
	return ""
}
