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
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/syndtr/gocapability/capability"
	"github.com/virspawn/spawn"
	"github.com/virspawn/spawn/internal/command"
	"github.com/virspawn/spawn/internal/descriptor"
	"github.com/virspawn/spawn/internal/helper"
	"github.com/virspawn/spawn/internal/plan"
	"github.com/virspawn/spawn/internal/program"
	"github.com/virspawn/spawn/internal/run"
	"github.com/virspawn/spawn/internal/testkit"
	"golang.org/x/sys/unix"
)

// hookOpens opens a file, without Go's poller.
var hookOpens = spawn.RegisterHook("opens", func(path string) error {
	fd, err := unix.Open(path, unix.O_RDONLY, 0)
	if err != nil {
		return &fs.PathError{Op: "open", Path: path, Err: err}
	}
	return unix.Close(fd)
})

func init() {
	testkit.Helpers["faults-no-descriptors"] = withoutDescriptors
	testkit.Helpers["faults-no-processes"] = withoutProcesses
	testkit.Helpers["faults-denied"] = withDeniedCall
	testkit.Helpers["faults-in-place"] = failInPlace
}

func TestBadInputIsReportedByEveryCallAndStartsNothing(t *testing.T) {
	closed, err := os.Open("/dev/null")
	require.NoError(t, err)
	require.NoError(t, closed.Close())
	tests := map[string]*spawn.Command{
		`New: the argument "a\x00b" has a NUL byte`:        spawn.New("/bin/echo", "a\x00b"),
		`New: the program name "/bin/\x00" has a NUL byte`: spawn.New("/bin/\x00"),
		`AddArg: the argument "\x00" has a NUL byte`:       spawn.New("/bin/echo").AddArg("ok", "\x00"),
		`AddSecretArg: the argument has a NUL byte`:        spawn.New("/bin/echo").AddSecretArg("hidden\x00"),
		`AddEnv: the value of A "\x00" has a NUL byte`:     spawn.New("/bin/echo").AddEnv("A", "\x00"),
		`AddEnv: the variable's name "A\x00" has a NUL`:    spawn.New("/bin/echo").AddEnv("A\x00", ""),
		`AddSecretEnv: the value of A has a NUL byte`:      spawn.New("/bin/echo").AddSecretEnv("A", "hidden\x00"),
		`SetWorkingDirectory: the directory "/\x00" has`:   spawn.New("/bin/echo").SetWorkingDirectory("/\x00"),
		`SetArgv0: the argument "\x00" has a NUL byte`:     spawn.New("/bin/echo").SetArgv0("\x00"),
		"New: the program's name is empty":                 spawn.New(""),
		"SetArgv0: argument 0 is empty":                    spawn.New("/bin/echo").SetArgv0(""),
		"SetWorkingDirectory: the directory is empty":      spawn.New("/bin/echo").SetWorkingDirectory(""),
		"SetUser: user: unknown user no-such-user":         spawn.New("/bin/echo").SetUser("no-such-user"),
		"SetUID: the uid -1 is not in":                     spawn.New("/bin/echo").SetUID(-1),
		"PassFDAs: the file /dev/null is closed":           spawn.New("/bin/echo").PassFDAs(closed, 5),
		"PassFDAs: two descriptors for the number 5":       spawn.New("/bin/echo").PassFDAs(os.Stdin, 5).PassFDAs(os.Stdout, 5),
		"SetRlimit: the soft limit 2":                      spawn.New("/bin/echo").SetRlimit(unix.RLIMIT_NOFILE, 2, 1),
	}
	check := func(t *testing.T, text string, err error) {
		t.Helper()
		require.ErrorContains(t, err, "spawn: "+text)
		require.NotContains(t, err.Error(), "hidden")
	}
	testkit.ForEachCall(t, func(t *testing.T, call func(*spawn.Command, context.Context) (string, error)) {
		for text, c := range tests {
			out, err := call(c.Clone(), context.Background())
			check(t, text, err)
			require.Empty(t, out)
		}
	})
	t.Run("Exec and Explain", func(t *testing.T) {
		testkit.CheckLeaks(t)
		for text, c := range tests {
			check(t, text, c.Exec())
			_, err := c.Explain()
			check(t, text, err)
		}
	})
}

// unusable makes programs that cannot be started, in dir, and returns for each
// name the error.
func unusable(t testing.TB, dir string) map[string]error {
	write := func(name, text string, mode os.FileMode) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), mode))
	}
	require.NoError(t, os.Mkdir(filepath.Join(dir, "directory"), 0o755))
	require.NoError(t, unix.Mkfifo(filepath.Join(dir, "fifo"), 0o755))
	require.NoError(t, os.Symlink("loop", filepath.Join(dir, "loop")))
	require.NoError(t, os.Symlink("missing", filepath.Join(dir, "dangling")))
	write("not-executable", "#!/bin/sh\n", 0o644)
	write("text", "echo text\n", 0o755)
	write("empty", "", 0o755)
	write("truncated", "\x7fELF\x02\x01\x01", 0o755)
	write("no-interpreter", "#!"+filepath.Join(dir, "missing")+"\n", 0o755)
	write("interpreter-not-executable", "#!"+filepath.Join(dir, "not-executable")+"\n", 0o755)
	return map[string]error{
		"missing":                    unix.ENOENT,
		"missing/program":            unix.ENOENT,
		"text/program":               unix.ENOTDIR,
		"directory":                  unix.EACCES,
		"fifo":                       unix.EACCES,
		"loop":                       unix.ELOOP,
		"dangling":                   unix.ENOENT,
		"not-executable":             unix.EACCES,
		"text":                       unix.ENOEXEC,
		"empty":                      unix.ENOEXEC,
		"truncated":                  unix.ENOEXEC,
		"no-interpreter":             unix.ENOENT,
		"interpreter-not-executable": unix.EACCES,
		strings.Repeat("n", 300):     unix.ENAMETOOLONG,
	}
}

func TestAProgramThatCannotBeExecutedIsReportedByExecve(t *testing.T) {
	dir := t.TempDir()
	errs := unusable(t, dir)
	t.Chdir(dir)
	testkit.ForEachCall(t, func(t *testing.T, call func(*spawn.Command, context.Context) (string, error)) {
		for name, want := range errs {
			path := filepath.Join(dir, name)
			_, err := call(spawn.New(path), context.Background())
			start := testkit.RequireNotStarted(t, err, "execve("+strconv.Quote(path)+")", want)
			require.Equal(t, path, start.Path)
			require.Equal(t, fmt.Sprintf("spawn: cannot start %q: execve(%q): %v", path, path, want), err.Error())

			_, err = call(spawn.New("./"+name), context.Background())
			testkit.RequireNotStarted(t, err, "execve("+strconv.Quote("./"+name)+")", want)
		}
	})
}

func TestAProgramThatIsBeingWrittenIsTriedAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "program")
	require.NoError(t, os.WriteFile(path, []byte("#!/bin/sh\nexit 0\n"), 0o755))
	open := func(t *testing.T) *os.File {
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		require.NoError(t, err)
		t.Cleanup(func() { f.Close() })
		if exec.Command(path).Run() == nil {
			t.Skip("this kernel executes a file that is open for writing")
		}
		return f
	}
	t.Run("in vain", func(t *testing.T) {
		open(t)
		testkit.ForEachCall(t, func(t *testing.T, call func(*spawn.Command, context.Context) (string, error)) {
			_, err := call(spawn.New(path), context.Background())
			testkit.RequireNotStarted(t, err, "execve("+strconv.Quote(path)+")", unix.ETXTBSY)
		})
	})
	t.Run("until it is closed", func(t *testing.T) {
		testkit.CheckLeaks(t)
		f := open(t)
		c, tries := spawn.New(path), 0
		require.NoError(t, run.Again(testkit.Wanted(c), func() error {
			tries++
			if tries == 3 {
				require.NoError(t, f.Close())
			}
			_, err := run.RunOnce(context.Background(), testkit.Call(c))
			return err
		}))
		require.Equal(t, 3, tries)
	})
}

func TestAProgramIsTriedAFewTimesOnly(t *testing.T) {
	tries := 0
	busy := &command.StartError{Err: unix.ETXTBSY}
	c := new(command.Command)
	require.Same(t, busy, run.Again(c, func() error { tries++; return busy }))
	require.Equal(t, run.BusyTries, tries)

	tries = 0
	require.NoError(t, run.Again(c, func() error {
		if tries++; tries < 3 {
			return busy
		}
		return nil
	}))
	require.Equal(t, 3, tries)

	for _, err := range []error{&command.StartError{Err: unix.ENOENT}, &spawn.ExitError{Err: unix.ETXTBSY}} {
		tries = 0
		require.Same(t, err, run.Again(c, func() error { tries++; return err }))
		require.Equal(t, 1, tries)
	}

	tty, _ := testkit.OpenTerminal(t)
	defer tty.Close()
	tries = 0
	require.Same(t, busy, run.Again(testkit.Wanted(spawn.New("x").SetControllingTTY(tty)), func() error { tries++; return busy }))
	require.Equal(t, 1, tries, "the end of the session has hung up the terminal")
}

func TestAProgramIsSearchedInPATH(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"a/prog": "echo a", "b/prog": "echo b", "c/only-c": "echo c"} {
		path := filepath.Join(dir, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte("#!/bin/sh\n"+text+"\n"), 0o755))
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, "a/only-c"), nil, 0o644))
	require.NoError(t, os.Mkdir(filepath.Join(dir, "b/only-c"), 0o755))
	testkit.CheckLeaks(t)
	path := func(elements ...string) {
		t.Setenv("PATH", strings.Join(elements, ":"))
	}
	run := func(name string) (string, error) {
		out, err := spawn.New(name).Output(context.Background())
		return string(out), err
	}
	a, b, c := filepath.Join(dir, "a"), filepath.Join(dir, "b"), filepath.Join(dir, "c")

	path(a, b)
	out, err := run("prog")
	require.NoError(t, err)
	require.Equal(t, "a\n", out)

	path(b, a)
	out, err = run("prog")
	require.NoError(t, err)
	require.Equal(t, "b\n", out)

	path(a, b, c) // what is no executable file does not count
	out, err = run("only-c")
	require.NoError(t, err)
	require.Equal(t, "c\n", out)

	path(a, b)
	for _, name := range []string{"only-c", "missing", ".", ".."} {
		_, err = run(name)
		start := testkit.RequireNotStarted(t, err, "search in PATH", exec.ErrNotFound)
		require.Equal(t, name, start.Path)
		require.ErrorIs(t, err, fs.ErrNotExist)
	}

	path()
	_, err = run("prog")
	testkit.RequireNotStarted(t, err, "search in PATH", exec.ErrNotFound)
}

func TestAProgramFoundThroughARelativeElementOfPATHIsRefused(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "sub"), 0o755))
	for _, name := range []string{"prog", "sub/prog", "ls"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\nexit 0\n"), 0o755))
	}
	t.Chdir(dir)
	for _, godebug := range []string{"", "execerrdot=0"} {
		t.Run(godebug, func(t *testing.T) {
			t.Setenv("GODEBUG", godebug)
			for _, path := range []string{".", "", "sub", "./sub", "/nonexistent:", ":/nonexistent", "/nonexistent::/nonexistent2"} {
				t.Setenv("PATH", path)
				testkit.ForEachCall(t, func(t *testing.T, call func(*spawn.Command, context.Context) (string, error)) {
					if path == "" { // PATH is not set: there is no element
						return
					}
					_, err := call(spawn.New("prog"), context.Background())
					testkit.RequireNotStarted(t, err, "search in PATH", exec.ErrDot)
				})
			}
		})
	}
	testkit.CheckLeaks(t)
	require.NoError(t, spawn.New("./prog").Run(context.Background()), "with a slash it is meant")
	t.Setenv("PATH", ".:/bin:/usr/bin")
	testkit.RequireNotStarted(t, spawn.New("ls").Run(context.Background()), "search in PATH", exec.ErrDot)
	t.Setenv("PATH", "/bin:/usr/bin:.")
	require.NoError(t, spawn.New("ls").Run(context.Background()))
}

func TestARelativeProgramIsFoundFromHere(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"prog": "here", "elsewhere/prog": "elsewhere", "other/prog": "other", "a/b/none": ""} {
		path := filepath.Join(dir, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte("#!/bin/sh\necho "+text+"; pwd\n"), 0o755))
	}
	require.NoError(t, os.Mkdir(filepath.Join(dir, "other/sub"), 0o755))
	require.NoError(t, os.Symlink("other/sub", filepath.Join(dir, "link")))
	t.Chdir(dir)
	testkit.CheckLeaks(t)
	for name, want := range map[string]string{
		"./prog":             "here",
		"elsewhere/prog":     "elsewhere",
		"./a/b/../../prog":   "here",
		"link/../prog":       "other", // .. of where the link leads to
		"./elsewhere/./prog": "elsewhere",
	} {
		out, err := spawn.New(name).Output(context.Background())
		require.NoError(t, err, name)
		require.Equal(t, want, strings.Split(string(out), "\n")[0], name)
		// Which is elsewhere/name to os/exec.
		_, err = spawn.New(name).SetWorkingDirectory("elsewhere").Output(context.Background())
		require.ErrorContains(t, err, "SetWorkingDirectory: the program "+strconv.Quote(name)+" is relative")
	}
}

func TestAWorkingDirectoryThatCannotBeEnteredIsReportedByChdir(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "file"), nil, 0o755))
	require.NoError(t, os.Mkdir(filepath.Join(dir, "locked"), 0))
	errs := map[string]error{"missing": unix.ENOENT, "file": unix.ENOTDIR}
	if os.Geteuid() != 0 {
		errs["locked"] = unix.EACCES
	}
	testkit.ForEachCall(t, func(t *testing.T, call func(*spawn.Command, context.Context) (string, error)) {
		for name, want := range errs {
			path := filepath.Join(dir, name)
			_, err := call(spawn.New("/bin/true").SetWorkingDirectory(path), context.Background())
			start := testkit.RequireNotStarted(t, err, "chdir("+strconv.Quote(path)+")", want)
			require.Equal(t, "/bin/true", start.Path)
		}
	})
}

func TestAWorkingDirectoryIsEnteredAsTheNewUser(t *testing.T) {
	testkit.NeedsRoot(t, "to become another user")
	testkit.CheckLeaks(t)
	dir := t.TempDir()
	require.NoError(t, os.Chmod(dir, 0o700))
	c := spawn.New("/bin/true").SetUID(65534).SetGID(65534).SetWorkingDirectory(dir)
	testkit.RequireNotStarted(t, c.Run(context.Background()), "chdir("+strconv.Quote(dir)+")", unix.EACCES)
}

func TestAnArgumentMayBeAsLongAsTheKernelTakes(t *testing.T) {
	const longest = 128<<10 - 1 // MAX_ARG_STRLEN, less the NUL
	const op = `execve("/bin/true")`
	testkit.ForEachCall(t, func(t *testing.T, call func(*spawn.Command, context.Context) (string, error)) {
		out, err := call(testkit.Shell(`echo ${#1}`, strings.Repeat("a", longest)), context.Background())
		require.NoError(t, err)
		require.Equal(t, strconv.Itoa(longest)+"\n", out)
		_, err = call(spawn.New("/bin/true", strings.Repeat("a", longest+1)), context.Background())
		testkit.RequireNotStarted(t, err, op, unix.E2BIG)
		_, err = call(spawn.New("/bin/true").AddEnv("A", strings.Repeat("a", longest-len("A="))), context.Background())
		require.NoError(t, err)
		_, err = call(spawn.New("/bin/true").AddEnv("A", strings.Repeat("a", longest-len("A=")+1)), context.Background())
		testkit.RequireNotStarted(t, err, op, unix.E2BIG)
	})
}

func TestAllArgumentsMayBeAsLongAsTheKernelTakes(t *testing.T) {
	const stack = 1 << 20 // of which a quarter is for arguments
	var limit unix.Rlimit
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_STACK, &limit))
	if limit.Max < stack {
		t.Skipf("the hard limit RLIMIT_STACK is %d", limit.Max)
	}
	testkit.CheckLeaks(t)
	run := func(n int) error {
		c := spawn.New("/bin/true").ClearEnv().SetRlimit(unix.RLIMIT_STACK, stack, stack)
		for range n {
			c.AddArg("0123456")
		}
		return c.Run(context.Background())
	}
	// Pointers count too, on kernels from 4.13 on.
	good, bad := 0, stack/4/len("0123456\x00")
	require.NoError(t, run(good))
	testkit.RequireNotStarted(t, run(bad), `execve("/bin/true")`, unix.E2BIG)
	for bad-good > 1 {
		n := (good + bad) / 2
		if err := run(n); err == nil {
			good = n
		} else {
			testkit.RequireNotStarted(t, err, `execve("/bin/true")`, unix.E2BIG)
			bad = n
		}
	}
	require.Greater(t, good, stack/4/len("0123456\x00")/4, "near the kernel's limit")
	require.NoError(t, run(good))
	testkit.RequireNotStarted(t, run(bad), `execve("/bin/true")`, unix.E2BIG)
}

func TestAFileThatIsClosedBeforeTheStartIsReported(t *testing.T) {
	for name, set := range map[string]func(*spawn.Command, *os.File){
		"stdin":  func(c *spawn.Command, f *os.File) { c.SetStdin(f) },
		"stdout": func(c *spawn.Command, f *os.File) { c.SetStdout(f) },
		"stderr": func(c *spawn.Command, f *os.File) { c.SetStderr(f) },
		"passed": func(c *spawn.Command, f *os.File) { c.PassFDAs(f, 5) },
	} {
		t.Run(name, func(t *testing.T) {
			testkit.CheckLeaks(t)
			f, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
			require.NoError(t, err)
			c := spawn.New("/bin/true").SetInput([]byte("text"))
			set(c, f)
			require.NoError(t, f.Close())
			for _, run := range []func() error{
				func() error { return c.Run(context.Background()) },
				func() error { _, err := c.Start(context.Background()); return err },
				func() error { _, err := c.Explain(); return err },
			} {
				err := run()
				require.ErrorIs(t, err, os.ErrClosed)
				require.ErrorContains(t, err, os.DevNull)
				var start *spawn.StartError
				require.ErrorAs(t, err, &start)
			}
		})
	}
}

func TestALimitAboveTheHardLimitIsReportedByPrlimit(t *testing.T) {
	testkit.ForEachCall(t, func(t *testing.T, call func(*spawn.Command, context.Context) (string, error)) {
		// One that nobody may have.
		text, err := os.ReadFile("/proc/sys/fs/nr_open")
		require.NoError(t, err)
		most, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
		require.NoError(t, err)
		_, err = call(spawn.New("/bin/true").SetMaxFiles(most+1), context.Background())
		op := fmt.Sprintf("prlimit64(0, RLIMIT_NOFILE, {soft=%d, hard=%d}, NULL)", most+1, most+1)
		testkit.RequireNotStarted(t, err, op, unix.EPERM)
	})
	t.Run("without privileges", func(t *testing.T) {
		testkit.CheckLeaks(t)
		if os.Geteuid() == 0 {
			t.Skip("root may have the capability CAP_SYS_RESOURCE")
		}
		var limit unix.Rlimit
		require.NoError(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &limit))
		err := spawn.New("/bin/true").SetRlimit(unix.RLIMIT_NOFILE, 10, limit.Max+1).Run(context.Background())
		op := fmt.Sprintf("prlimit64(0, RLIMIT_NOFILE, {soft=10, hard=%d}, NULL)", limit.Max+1)
		testkit.RequireNotStarted(t, err, op, unix.EPERM)
	})
}

func TestAUserOverTheLimitOfProcessesIsReportedByExecve(t *testing.T) {
	testkit.NeedsRoot(t, "to become another user")
	testkit.CheckLeaks(t)
	nobody := func(name string) *spawn.Command { return spawn.New(name).SetUID(65534).SetGID(65534) }
	other, err := nobody("/bin/cat").PipeStdin().Start(context.Background())
	require.NoError(t, err)
	c := nobody("/bin/true").SetMaxProcesses(0)
	err = c.Run(context.Background())
	_, startErr := c.Start(context.Background())
	require.NoError(t, other.Stdin().Close())
	require.NoError(t, other.Wait())
	testkit.RequireNotStarted(t, err, `execve("/bin/true")`, unix.EAGAIN)
	testkit.RequireNotStarted(t, startErr, `execve("/bin/true")`, unix.EAGAIN)
}

// startsOf are runs that need more and more descriptors.
var startsOf = map[string]func() error{
	"Run": func() error { return spawn.New("/bin/true").Run(context.Background()) },
	"Output with input": func() error {
		out, err := spawn.New("/bin/cat").SetInput(make([]byte, 100<<10)).Output(context.Background())
		if err == nil && len(out) != 100<<10 {
			err = fmt.Errorf("%d bytes", len(out))
		}
		return err
	},
	"Start with three pipes": func() error {
		p, err := spawn.New("/bin/cat").PipeStdin().PipeStdout().PipeStderr().Start(context.Background())
		if err != nil {
			return err
		}
		return errors.Join(p.Stdin().Close(), p.Wait(), p.Stdout().Close(), p.Stderr().Close())
	},
	"Daemonize": func() error {
		p, err := spawn.New("/bin/true").Daemonize().Start(context.Background())
		if err != nil {
			return err
		}
		return p.Wait()
	},
	"SetUID": func() error { // with a status pipe, and no gate
		return spawn.New("/bin/true").SetUID(os.Getuid()).Run(context.Background())
	},
	"PassFD": func() error {
		out, err := testkit.Shell(`[ /dev/fd/3 -ef /dev/fd/0 ] && echo passed`).SetStdin(os.Stdin).PassFDAs(os.Stdin, 3).Output(context.Background())
		if err == nil && string(out) != "passed\n" {
			err = fmt.Errorf("output %q", out)
		}
		return err
	},
	"SetSendBuffer": func() error {
		c := spawn.New("/bin/cat", "/dev/fd/3")
		data := make([]byte, 100<<10)
		// SetSendBuffer would look for a number below the limit.
		testkit.Wanted(c).Passed = append(testkit.Wanted(c).Passed, command.PassedFD{FD: 3, Data: data})
		out, err := c.Output(context.Background())
		if err == nil && !bytes.Equal(out, data) {
			err = fmt.Errorf("%d bytes", len(out))
		}
		return err
	},
	"handshake": func() error {
		ctx := context.Background()
		p, err := spawn.New("/bin/true").RequireHandshake().Start(ctx)
		if err != nil {
			return err
		}
		return errors.Join(p.HandshakeWait(ctx), p.HandshakeNotify(), p.Wait())
	},
	"reader and writers": func() error {
		var out, errOut bytes.Buffer
		err := spawn.New("tee", "/dev/stderr").SetStdin(strings.NewReader("in")).SetStdout(&out).SetStderr(&errOut).Run(context.Background())
		if err == nil && out.String()+errOut.String() != "inin" {
			err = fmt.Errorf("output %q %q", out.String(), errOut.String())
		}
		return err
	},
}

func init() {
	if testkit.HasTerminals() {
		startsOf["SetPTY"] = func() error {
			p, err := spawn.New("/bin/true").SetPTY(1, 2).Start(context.Background())
			if err != nil {
				return err
			}
			return errors.Join(p.Wait(), p.PTY().Close())
		}
	}
}

func TestWithoutDescriptorsEveryStepFailsCleanly(t *testing.T) {
	for name := range startsOf {
		for _, state := range []string{"warm", "cold"} {
			t.Run(name+", "+state, func(t *testing.T) {
				testkit.CheckLeaks(t)
				out, err := testkit.HelperCommand(t, "faults-no-descriptors", name, state).CombinedOutput(context.Background())
				require.NoError(t, err, "%s", out)
				// The helper prints the step that failed with 0, 1, 2...
				// descriptors.
				steps := strings.Split(strings.TrimSpace(string(out)), "\n")
				first, last := "pipe2(O_CLOEXEC)", "clone3("
				if !plan.CanClone() {
					last = forkCall
				}
				switch {
				case !plan.CanClone():
					first = "memfd_create(spawn-report)"
				case plan.HelperForced():
					first = "memfd_create(spawn-stub)"
				case os.Getenv("SPAWN_EXECUTOR") == "copy":
				case plan.CoreDumpEndsAll() || name == "Daemonize" || name == "handshake" || name == "SetUID" || os.Getenv("SPAWN_EXECUTOR") == "stub":
					first = "memfd_create(spawn-stub)"
				case name == "SetPTY" && state == "warm":
					// Else there is a status pipe first.
					first = "open(/dev/ptmx)"
				}
				require.Contains(t, steps[0], first)
				// The first of these needs no more than was needed to make Go's
				// poller ready.
				few := []string{"Run", "Daemonize", "handshake", "SetPTY"}
				if state == "warm" || !slices.Contains(few, name) {
					require.Contains(t, string(out), last)
				}
				require.NotContains(t, string(out), "start:")
			})
		}
	}
}

// withoutDescriptors starts a program with no descriptor left, with one, and
// so on, until it can be started. It prints what failed each time.
func withoutDescriptors(args []string) int {
	start, warm := startsOf[args[0]], args[1] == "warm"
	if warm { // what the library and the runtime open once is open
		if err := start(); err != nil {
			return testkit.Fail(err)
		}
	}
	limit := unix.Rlimit{}
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return testkit.Fail(err)
	}
	// No gaps: the limit is on the numbers.
	open := testkit.OpenNumbers()
	for highest := open[len(open)-1]; ; {
		fd, err := unix.FcntlInt(0, unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return testkit.Fail(err)
		}
		if fd > highest {
			descriptor.Close(fd)
			break
		}
	}
	open = testkit.OpenNumbers()
	for k := range 100 {
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: uint64(len(open) + k), Max: limit.Max}); err != nil {
			return testkit.Fail(err)
		}
		err := start()
		if e := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); e != nil {
			return testkit.Fail(e)
		}
		if err == nil {
			return 0
		}
		var s *spawn.StartError
		if !errors.As(err, &s) || s.Err != unix.EMFILE {
			return testkit.Fail(fmt.Errorf("%d descriptors left: %w", k, err))
		}
		fmt.Println(s.Op)
		if err := testkit.LeftBehind(open, warm); err != nil {
			return testkit.Fail(fmt.Errorf("%d descriptors left, after %w: %w", k, err, err))
		}
	}
	return testkit.Fail(errors.New("a program needs more than 100 descriptors"))
}

func TestWithoutProcessesTheCloneFailsCleanly(t *testing.T) {
	for _, call := range []string{"clone3", "clone"} {
		t.Run(call, func(t *testing.T) {
			testkit.CheckLeaks(t)
			out, err := testkit.HelperCommand(t, "faults-no-processes", call).CombinedOutput(context.Background())
			require.NoError(t, err, "%s", out)
			require.Equal(t, "good\n", string(out))
		})
	}
}

// forkCall begins the name of what starts a helper without a child that is
// cloned directly.
const forkCall = "fork and execve("

// withoutProcesses starts programs where this process's user may have no more
// processes, by the call args[0]: where that is clone there is no clone3.
func withoutProcesses(args []string) int {
	call, step := args[0], args[0]+"("
	if !plan.CanClone() {
		step = forkCall
	}
	if os.Geteuid() == 0 { // whom no limit binds
		if err := errors.Join(syscall.Setgroups(nil), syscall.Setresgid(65534, 65534, 65534), syscall.Setresuid(65534, 65534, 65534)); err != nil {
			return testkit.Fail(err)
		}
	}
	if call == "clone" {
		if err := testkit.Deny(unix.SYS_CLONE3, uint64(unix.ENOSYS)); err != nil {
			return testkit.Fail(err)
		}
	}
	if err := spawn.New("/bin/true").Run(context.Background()); err != nil {
		return testkit.Fail(err)
	}
	// The runtime dies when it cannot have a thread that it wants, so it gets
	// some before.
	const threads = 20
	var there, over sync.WaitGroup
	there.Add(threads)
	over.Add(threads)
	for range threads {
		go func() {
			defer over.Done()
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			there.Done()
			there.Wait() // each has a thread of its own
		}()
	}
	over.Wait()

	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NPROC, &limit); err != nil {
		return testkit.Fail(err)
	}
	open := testkit.OpenNumbers()
	for range 3 {
		for name, start := range startsOf {
			if err := unix.Setrlimit(unix.RLIMIT_NPROC, &unix.Rlimit{Cur: 1, Max: limit.Max}); err != nil {
				return testkit.Fail(err)
			}
			err := start()
			if e := unix.Setrlimit(unix.RLIMIT_NPROC, &limit); e != nil {
				return testkit.Fail(e)
			}
			var s *spawn.StartError
			if !errors.As(err, &s) || s.Err != unix.EAGAIN || !strings.HasPrefix(s.Op, step) {
				return testkit.Fail(fmt.Errorf("%s: unexpected error %v", name, err))
			}
			if err := testkit.LeftBehind(open, false); err != nil {
				return testkit.Fail(fmt.Errorf("%s: %w", name, err))
			}
			if err := start(); err != nil {
				return testkit.Fail(fmt.Errorf("%s: %w", name, err))
			}
		}
	}
	fmt.Println("good")
	return 0
}

func TestASystemCallThatASeccompFilterDeniesIsNamed(t *testing.T) {
	errnos := []syscall.Errno{unix.ENOSYS, unix.EPERM, unix.EINVAL}
	if testing.Short() {
		errnos = errnos[:1]
	}
	for _, errno := range errnos {
		for call, nr := range map[string]int{"dup3": unix.SYS_DUP3, "execve": unix.SYS_EXECVE, "umask": unix.SYS_UMASK} {
			t.Run(call+", "+errno.Error(), func(t *testing.T) {
				testkit.CheckLeaks(t)
				step := call + "("
				if call != "umask" && !plan.CanClone() {
					// The start of the helper needs this one.
					step = forkCall
				}
				out, err := testkit.HelperCommand(t, "faults-denied", strconv.Itoa(nr), strconv.Itoa(int(errno)), step).CombinedOutput(context.Background())
				require.NoError(t, err, "%s", out)
			})
		}
		// Where the kernel does not have these, there are other ways.
		for call, nr := range map[string]int{"clone3": unix.SYS_CLONE3, "close_range": unix.SYS_CLOSE_RANGE} {
			t.Run(call+", "+errno.Error(), func(t *testing.T) {
				if plan.HelperForced() && call == "clone3" && errno != unix.ENOSYS {
					t.Skip("the C library of the helper would have no threads")
				}
				testkit.CheckLeaks(t)
				out, err := testkit.HelperCommand(t, "faults-denied", strconv.Itoa(nr), strconv.Itoa(int(errno)), "").CombinedOutput(context.Background())
				require.NoError(t, err, "%s", out)
			})
		}
	}
}

// withDeniedCall denies system call args[0] to this process with errno args[1]
// and then starts programs. The error must begin with args[2]; where that is
// empty there must be none.
func withDeniedCall(args []string) int {
	nr, _ := strconv.ParseUint(args[0], 10, 32)
	errno, _ := strconv.ParseUint(args[1], 10, 16)
	if err := testkit.Deny(nr, errno); err != nil {
		return testkit.Fail(err)
	}
	descriptor.Low.Reserve() // once and for all
	open := testkit.OpenNumbers()
	ctx := context.Background()
	command := func() *spawn.Command { return spawn.New("/bin/true").SetUmask(0o22) }
	for name, start := range map[string]func() error{
		"Run":               func() error { return command().Run(ctx) },
		"Run with a writer": func() error { return command().SetStdout(io.Discard).Run(ctx) },
		"Output":            func() error { _, err := command().SetInput([]byte("text")).Output(ctx); return err },
		"Start": func() error {
			p, err := command().Start(ctx)
			if err != nil {
				return err
			}
			return p.Wait()
		},
	} {
		err := start()
		var s *spawn.StartError
		switch {
		case args[2] == "" && err == nil:
		case args[2] != "" && errors.As(err, &s) && strings.HasPrefix(s.Op, args[2]) && s.Err == syscall.Errno(errno):
		default:
			return testkit.Fail(fmt.Errorf("%s: unexpected error %v", name, err))
		}
		if err := testkit.LeftBehind(open, false); err != nil {
			return testkit.Fail(fmt.Errorf("%s: %w", name, err))
		}
	}
	return 0
}

// everyAttribute returns a command that uses all that there is, and three
// files, and still succeeds.
func everyAttribute(f [3]*os.File) *spawn.Command {
	c := spawn.New("/bin/true", "argument").AddSecretArg("hidden").SetArgv0("true").
		AddEnv("A", "value").AddSecretEnv("B", "hidden").
		SetInput(make([]byte, 100<<10)).SetStdout(new(bytes.Buffer)).SetStderr(io.Discard).
		PassFDAs(f[0], descriptor.Of(f[1])).PassFDAs(f[1], descriptor.Of(f[0])).PassFDAs(f[0], 200).
		SetWorkingDirectory("/").SetUmask(0o27).SetProcessGroup().SetKillMode(spawn.KillGroup)
	c.PassFD(f[2])
	c.SetSendBuffer([]byte("text"))
	for resource := range command.RlimitCount {
		var limit unix.Rlimit
		if err := unix.Getrlimit(resource, &limit); err != nil {
			panic(err)
		}
		c.SetRlimit(resource, limit.Cur, limit.Max)
	}
	return c
}

// someAttributes are commands whose programs have every system call,
// between them.
func someAttributes(f [3]*os.File) map[string]*spawn.Command {
	commands := map[string]*spawn.Command{
		"all":     everyAttribute(f),
		"same id": everyAttribute(f).SetUID(os.Getuid()).SetGID(os.Getgid()),
		"none":    spawn.New("/bin/true"),
		// Where the others have pipes this has /dev/null, and a session where
		// they have a group.
		"null":     spawn.New("/bin/true").SetSession().SetStderr(nil),
		"confined": confine(spawn.New("/bin/true")),
		"gate":     spawn.New("/bin/true").RequireHandshake(),
		"listen":   spawn.New("/bin/true").AddListenFD(f[0], "null"),
		"tree":     spawn.New("/bin/true").SetKillMode(spawn.KillTree),
		"daemon":   spawn.New("/bin/true").Daemonize().SetKillMode(spawn.KillGroup),
		// The daemon has a copy of the memory.
		"copied daemon": spawn.New("/bin/true").Daemonize().SetCoredumpFilter(1),
	}
	if testkit.HasTerminals() {
		commands["terminal"] = spawn.New("/bin/true").SetPTY(1, 2)
	}
	if os.Geteuid() == 0 {
		commands["other id"] = everyAttribute(f).SetUID(65534).SetGID(65534).SetGroups(1, 2, 3)
	}
	return commands
}

// confine asks for what can be had without a privilege and is not in
// everyAttribute.
func confine(c *spawn.Command) *spawn.Command {
	c.SetNice(19).SetScheduler(spawn.Scheduler{Policy: spawn.SchedBatch}).SetCPUAffinity(0).SetIOPriority(spawn.IOPriorityIdle, 0).SetTimerSlack(time.Millisecond)
	c.SetPersonality(spawn.PersonalityAddrNoRandomize).SetOOMScoreAdj(1000).SetIgnoredSignals(unix.SIGPIPE).SetParentDeathSignal(unix.SIGKILL)
	c.SetTransparentHugepages(false)
	if _, err := unix.PrctlRetInt(unix.PR_GET_MDWE, 0, 0, 0, 0); err == nil {
		c.SetMemoryDenyWriteExecute()
	}
	c.SetNoNewPrivs().SetSeccompFilter(testkit.FilterOf(unix.SYS_REBOOT, unix.SECCOMP_RET_ERRNO, 0))
	if plan.LandlockVersion() > 0 {
		c.SetLandlock(spawn.Landlock{Version: 1, Paths: []spawn.LandlockPath{{Path: "/", Rights: spawn.LandlockReadWrite}}})
	}
	if os.Geteuid() == 0 {
		c.SetChroot("/").AllowCap(capability.CAP_KILL).SetSecurebits(1 << 2)
	}
	return c
}

func threeFiles(t testing.TB) (files [3]*os.File) {
	for i := range files {
		f, err := os.Open(os.DevNull)
		require.NoError(t, err)
		t.Cleanup(func() { f.Close() })
		files[i] = f
	}
	return files
}

// noSyscall is the number of no system call.
const noSyscall = 1 << 20

// runStreams returns the streams of a run, or of the start of a daemon.
func runStreams(c *spawn.Command) command.Streams {
	streams := testkit.Wanted(c).OnTerminal(testkit.Wanted(c).Streams)
	if !testkit.Wanted(c).Daemon {
		streams.KeepTail()
	}
	return streams
}

// failOp makes op i of the command's program fail and returns the error and the
// op as it is in truth.
func failOp(t testing.TB, c *spawn.Command, m plan.Mode, i int, spoil func(*program.Op)) (op string, err error) {
	t.Helper()
	if !plan.CanClone() {
		c = testkit.By(c, plan.ForkedHelper)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	call := testkit.Call(c)
	call.Streams = runStreams(c)
	r, err := run.Prepare(ctx, call, m)
	require.NoError(t, err)
	op = r.Program.Step(i)
	good := *r.Program.At(i)
	spoil(r.Program.At(i))
	r.NewProcess()
	r.Process().Gate = nil
	if err := r.Clone(); err != nil {
		r.Release()
		require.NoError(t, err)
	}
	*r.Program.At(i) = good // the child, or the helper, goes by a copy
	if r.GateW >= 0 {
		if testkit.Wanted(c).Handshake {
			_, err := unix.Write(r.GateW, []byte{1})
			require.NoError(t, err)
		}
		r.Meet()
	}
	r.WatchContext(ctx)
	if r.Mode == plan.Unwatched {
		require.True(t, run.TryBlock())
		return op, testkit.Public(r.Wait())
	}
	return op, testkit.Public(r.StartWaiting(ctx))
}

// opsOf returns the places of a command's ops. Most stand in rows of the same
// call. Of a row it returns one op in a short test, and a tenth of them unless
// SPAWN_TEST_LONG is set.
func opsOf(t testing.TB, c *spawn.Command, m plan.Mode) (places []int) {
	if !plan.CanClone() {
		c = testkit.By(c, plan.ForkedHelper)
	}
	call := testkit.Call(c)
	call.Streams = runStreams(c)
	r, err := run.Prepare(context.Background(), call, m)
	require.NoError(t, err)
	defer r.Release()
	every := 1
	if testkit.Rounds(2, 1) == 1 {
		every = 10
	}
	last := uintptr(noSyscall)
	for i := range r.Program.Len() {
		nr := r.Program.At(i).Nr
		if nr != last || !testing.Short() && i%every == 0 {
			places = append(places, i)
		}
		last = nr
	}
	return places
}

func TestEveryOpThatFailsIsNamedAndLeavesNothing(t *testing.T) {
	dumpableBefore := testkit.DumpableFlag()
	named := map[string]bool{}
	for name, c := range someAttributes(threeFiles(t)) {
		for mode, how := range map[string]struct {
			mode plan.Mode
			by   plan.Executor
		}{
			"watched": {plan.Watched, plan.Direct}, "unwatched": {plan.Unwatched, plan.Direct},
			"stub": {plan.Piped, plan.Stub}, "stub, unwatched": {plan.Unwatched, plan.Stub}, "copy": {plan.Piped, plan.Stub},
			"helper": {plan.Piped, plan.ChildAndHelper}, "forked helper": {plan.Piped, plan.ForkedHelper},
		} {
			startOnly := testkit.Wanted(c).CheckStartOnly("Run") != nil
			if w := testkit.Wanted(c); how.by == plan.Direct && !plan.SharesMemory(w) || how.mode == plan.Unwatched && plan.NeedsParent(w) {
				continue
			}
			t.Run(name+", "+mode, func(t *testing.T) {
				if how.by != plan.ForkedHelper {
					testkit.NeedsClone(t)
				}
				testkit.CheckLeaks(t)
				c, m := testkit.By(c, how.by), how.mode
				if mode == "copy" {
					c = testkit.WithoutStub(c)
				}
				if !startOnly {
					require.NoError(t, c.Run(context.Background()))
				}
				before := testkit.OpenFDs(t)
				for _, i := range opsOf(t, c, m) {
					op, err := failOp(t, c, m, i, func(op *program.Op) { op.Nr = noSyscall })
					start := testkit.RequireNotStarted(t, err, op, unix.ENOSYS)
					require.Equal(t, "/bin/true", start.Path)
					require.NotContains(t, err.Error(), "hidden")
					require.Zero(t, program.InUse())
					require.Equal(t, before, testkit.OpenFDs(t), op)
					require.Equal(t, dumpableBefore, testkit.DumpableFlag(), op)
					call, _, _ := strings.Cut(op, "(")
					named[call] = true
				}
				require.Zero(t, testkit.WaitsThatBlock())
			})
		}
	}
	want := []string{
		"chdir", "execve", "openat", "prlimit64", "rt_sigaction", "rt_sigprocmask",
		"setpgid", "setresgid", "setresuid", "setsid", "umask", "setpriority", "sched_setscheduler", "sched_setaffinity", "ioprio_set",
		"prctl", "personality", "write", "read", "getppid", "seccomp",
	}
	if plan.CanClone() {
		want = append(want, "close_range", "dup3", "fcntl", "clone")
	}
	if testkit.HasTerminals() {
		want = append(want, "ioctl")
	}
	if os.Geteuid() == 0 {
		want = append(want, "setgroups", "chroot", "capset")
	}
	for _, call := range want {
		require.True(t, named[call], "no op calls %s", call)
	}
}

func TestEveryOpThatFailsLeavesNoPidFile(t *testing.T) {
	for name, stale := range map[string]bool{"none": false, "stale": true} {
		t.Run(name, func(t *testing.T) {
			testkit.CheckLeaks(t)
			dir := t.TempDir()
			path := filepath.Join(dir, "pid")
			c := spawn.New("/bin/true").SetPidFile(path)
			for _, m := range []plan.Mode{plan.Piped} {
				renamed := false
				for _, i := range opsOf(t, c, m) {
					if stale {
						require.NoError(t, os.WriteFile(path, []byte("1\n"), 0o644))
					}
					op, err := failOp(t, c, m, i, func(op *program.Op) { op.Nr = noSyscall })
					testkit.RequireNotStarted(t, err, op, unix.ENOSYS)
					text, err := os.ReadFile(path)
					if stale && !renamed {
						require.NoError(t, err, op)
						require.Equal(t, "1\n", string(text), op)
						require.NoError(t, os.Remove(path))
					}
					entries, err := os.ReadDir(dir)
					require.NoError(t, err)
					require.Empty(t, entries, op)
					renamed = renamed || strings.HasPrefix(op, "renameat2(")
				}
				require.True(t, renamed)
			}
		})
	}
}

// TestAProgramThatMayHaveNoDescriptorIsStarted: whatever is to be opened in the
// child is, before its limit is set.
func TestAProgramThatMayHaveNoDescriptorIsStarted(t *testing.T) {
	tiny := testkit.TinyProgram(t)
	commands := someAttributes(threeFiles(t))
	delete(commands, "other id") // whose may not be to run it
	for name, c := range commands {
		for how, executor := range map[string]plan.Executor{"stub": plan.Stub, "helper": plan.ChildAndHelper, "forked helper": plan.ForkedHelper} {
			t.Run(name+", "+how, func(t *testing.T) {
				testkit.CheckLeaks(t)
				ctx := context.Background()
				c := testkit.By(c.Clone().SetMaxFiles(0), executor)
				testkit.Wanted(c).Name = tiny
				p, err := c.Start(ctx)
				require.NoError(t, err)
				if testkit.Wanted(c).Handshake {
					require.NoError(t, errors.Join(p.HandshakeWait(ctx), p.HandshakeNotify()))
				}
				require.NoError(t, p.Wait())
				if f := p.PTY(); f != nil {
					require.NoError(t, f.Close())
				}
			})
		}
	}
}

func TestAHookThatHasNoDescriptorLeftIsReported(t *testing.T) {
	testkit.ForEachCall(t, func(t *testing.T, call func(*spawn.Command, context.Context) (string, error)) {
		_, err := call(spawn.New("/bin/true").SetPreExecHook(hookOpens, "/dev/null").SetMaxFiles(0), context.Background())
		start := testkit.RequireNotStarted(t, err, `hook("opens")`, unix.EMFILE)
		require.Equal(t, "open /dev/null: too many open files", start.Err.Error())
	})
}

func TestAnOpWithAnUnexpectedResultIsNamed(t *testing.T) {
	testkit.NeedsClone(t)
	testkit.CheckLeaks(t)
	c := spawn.New("/bin/true")
	found := false
	for _, i := range opsOf(t, c, plan.Unwatched) {
		for _, m := range []plan.Mode{plan.Watched, plan.Piped, plan.Unwatched} {
			expects := false
			op, err := failOp(t, c, m, i, func(op *program.Op) {
				expects = op.Flags&program.Expect != 0
				op.Expect++
				if !expects {
					op.Nr = noSyscall
				}
			})
			if !expects {
				continue
			}
			found = true
			testkit.RequireNotStarted(t, err, op, run.ErrUnexpected)
			require.Contains(t, op, `openat(AT_FDCWD, "/dev/null", O_RDWR) = 0`)
		}
	}
	require.True(t, found, "no op expects a result")
}

func TestEveryOpThatFailsInPlaceOfAChildIsNamed(t *testing.T) {
	for name := range someAttributes(threeFiles(t)) {
		if slices.Contains([]string{"null", "gate", "terminal", "daemon", "copied daemon"}, name) {
			// A process can lead a new session once, nobody is there to shake
			// hands with, and there is no child.
			continue
		}
		t.Run(name, func(t *testing.T) {
			testkit.CheckLeaks(t)
			out, err := testkit.HelperCommand(t, "faults-in-place", name).CombinedOutput(context.Background())
			require.NoError(t, err, "%s", out)
		})
	}
}

// failInPlace makes each op of a program fail that is to replace this process.
func failInPlace(args []string) int {
	var files [3]*os.File
	for i := range files {
		f, err := os.Open(os.DevNull)
		if err != nil {
			return testkit.Fail(err)
		}
		defer f.Close()
		files[i] = f
	}
	c := someAttributes(files)[args[0]].SetInput([]byte("text")).SetStdout(nil).SetStderr(nil)
	open := testkit.OpenNumbers()
	n := -1
	for i := 0; i != n; i++ {
		pl, err := run.Prepare(context.Background(), testkit.Call(c), plan.InPlace)
		if err != nil {
			return testkit.Fail(err)
		}
		n = pl.Program.Len()
		op := pl.Program.Step(i)
		pl.Program.At(i).Nr = noSyscall
		undo := pl.SaveProcess()
		f, err := helper.Exec(pl.Program, func() error { return nil })
		undo()
		if err != nil || f.Op != i || f.Errno != unix.ENOSYS {
			return testkit.Fail(fmt.Errorf("instead of op %d, %s, op %d failed with %v", i, op, f.Op, f.Errno))
		}
		pl.Release()
		if now := testkit.OpenNumbers(); !slices.Equal(now, open) {
			return testkit.Fail(fmt.Errorf("%s: open descriptors %v, before: %v", op, now, open))
		}
	}
	return 0
}

func init() {
	testkit.Helpers["dies-at-the-gate"] = func([]string) int {
		c := testkit.InUserNamespace(spawn.New("/bin/sh", "-c", "echo ran >&3"))
		c.PassFDAs(os.NewFile(3, "out"), 3)
		r, err := run.Prepare(context.Background(), testkit.Call(c), plan.Watched)
		if err == nil {
			r.NewProcess()
			err = r.Clone()
		}
		if err != nil {
			return testkit.Fail(err)
		}
		// The child waits for its maps just now.
		_ = unix.Kill(os.Getpid(), unix.SIGKILL)
		select {}
	}
}

func TestAChildWhoseParentDiesAtTheGateNeverRunsTheProgram(t *testing.T) {
	testkit.NeedsClone(t) // package syscall does not tell when it waits
	testkit.NeedsUserNamespaces(t)
	testkit.CheckLeaks(t)
	for range testkit.Rounds(20, 3) {
		p, out := testkit.SleepFor(t, testkit.HelperCommand(t, "dies-at-the-gate").InheritStdio())
		var exit *spawn.ExitError
		require.ErrorAs(t, p.Wait(), &exit)
		require.Equal(t, unix.SIGKILL, exit.Status.Signal)
		text, err := io.ReadAll(out) // to the end: the child has ended too
		require.NoError(t, err)
		require.Empty(t, string(text))
	}
}
