//go:build linux

package run_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
	"github.com/virspawn/spawn"
	"github.com/virspawn/spawn/internal/descriptor"
	"github.com/virspawn/spawn/internal/testkit"
	"golang.org/x/sys/unix"
)

// Attacks that have worked against well-known programs. Each is first shown to
// work on this machine by other means, and then to fail against this package.
// That of a setuid file is in internal/plan/confine_test.go.

func init() {
	testkit.Helpers["attack-directory"] = useDirectories
	testkit.Helpers["attack-memory"] = readMemory
	testkit.Helpers["attacked-daemon"] = attackedDaemon
}

// useDirectories looks for a directory among its descriptors in which there is
// a secret, and prints that.
func useDirectories([]string) int {
	for fd := 3; fd < 1024; fd++ {
		file, err := unix.Openat(fd, "secret", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			continue
		}
		b := make([]byte, 100)
		n, _ := unix.Read(file, b)
		fmt.Print(string(b[:max(n, 0)]))
	}
	return 0
}

// The class of CVE-2024-21626: a confined child reaches what is outside by
// a directory that this process has open.
func TestAttackByADirectoryThatWasLeftOpen(t *testing.T) {
	t.Setenv("GORACE", "atexit_sleep_ms=0")
	top := t.TempDir() + "/top"
	require.NoError(t, os.MkdirAll(top+"/host", 0o755))
	require.NoError(t, os.WriteFile(top+"/host/secret", []byte("the host's"), 0o644))
	// Not close-on-exec, as C code does it, or a library in a hurry.
	leaked, err := unix.Open(top+"/host", unix.O_PATH|unix.O_DIRECTORY, 0)
	require.NoError(t, err)
	defer descriptor.Close(leaked)
	require.NoError(t, os.Chmod(top, 0)) // so that no path leads there
	defer func() { require.NoError(t, os.Chmod(top, 0o755)) }()

	ours := testkit.HelperCommand(t, "attack-directory")
	theirs := exec.Command(testkit.Wanted(ours).Name, testkit.Wanted(ours).Args[0].Str)
	if os.Geteuid() == 0 {
		program := testkit.CopySelf(t)
		require.NoError(t, os.Chmod(program, 0o755))
		ours = spawn.New(program, testkit.HelperPrefix+"attack-directory").SetUID(testkit.Nobody).SetGID(testkit.Nobody)
		theirs = exec.Command(program, testkit.HelperPrefix+"attack-directory")
		theirs.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: testkit.Nobody, Gid: testkit.Nobody}}
		// os/exec clears the flag.
		defer testkit.SetDumpableFlag(uintptr(testkit.DumpableFlag()))
	}
	out, err := theirs.Output()
	require.NoError(t, err)
	require.Equal(t, "the host's", string(out), "os/exec")
	require.Empty(t, testkit.OutputOf(t, ours))
}

// The class of CVE-2014-6271: a shell executes what it finds in its
// environment.
func TestAttackByAVariableOfTheEnvironment(t *testing.T) {
	bash := testkit.NeedsProgram(t, "bash")
	script := filepath.Join(t.TempDir(), "script")
	require.NoError(t, os.WriteFile(script, []byte("echo attacked\n"), 0o644))
	// A request of the network may set a variable in this way.
	t.Setenv("BASH_ENV", script)
	out, err := exec.Command(bash, "-c", "echo good").Output()
	require.NoError(t, err)
	require.Equal(t, "attacked\ngood\n", string(out), "os/exec")
	require.Equal(t, "good\n", testkit.OutputOf(t, spawn.New(bash, "-c", "echo good").AddEnvPassCommon()))
}

// The class of CVE-2021-4034: a program takes its environment for its
// arguments, because there is not even argument 0.
func TestAttackByAnEmptyListOfArguments(t *testing.T) {
	program := testkit.WaitingProgram(t)
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer r.Close()
	pid, err := syscall.ForkExec(program, nil, &syscall.ProcAttr{Files: []uintptr{r.Fd(), 1, 2}})
	require.NoError(t, err)
	t.Cleanup(func() {
		w.Close()
		_, err = syscall.Wait4(pid, nil, 0, nil)
		require.NoError(t, err)
	})
	// Nothing, or an empty argument 0 since Linux 5.18.
	testkit.Eventually(t, "fork and exec: there is no argument 0", func() bool { return len(testkit.ReadProc(t, pid, "cmdline")) <= 1 })

	p := testkit.WaitingIn(t, spawn.New(program))
	testkit.Eventually(t, "/proc shows the program", func() bool { return string(testkit.ReadProc(t, p.PID(), "cmdline")) == program+"\x00" })
	for _, c := range []*spawn.Command{spawn.New(""), spawn.New(program).SetArgv0("")} {
		require.ErrorContains(t, c.Run(context.Background()), "is empty")
	}
}

// daemonSecret is what no other user may read.
var daemonSecret = [...]byte{'s', 'e', 'c', 'r', 'e', 't'}

// readMemory waits to be told a process, tries to read its memory and to trace
// it, and prints what came of it. With its own end it traces it no longer.
func readMemory([]string) int {
	var pid, address int64
	if _, err := fmt.Scan(&pid, &address); err != nil {
		return testkit.Fail(err)
	}
	b := make([]byte, len(daemonSecret))
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err == nil {
		_, err = mem.ReadAt(b, address)
		mem.Close()
	}
	read := testkit.Say(err)
	if err == nil {
		read = string(b)
	}
	const seize = 0x4206 // PTRACE_SEIZE
	_, _, errno := unix.Syscall6(unix.SYS_PTRACE, seize, uintptr(pid), 0, 0, 0, 0)
	if errno == 0 {
		fmt.Println(read, "good")
	} else {
		fmt.Println(read, testkit.Say(errno))
	}
	return 0
}

// attackedDaemon holds children that have become the attacker's user and still
// share its memory, and has them attacked.
func attackedDaemon(args []string) int {
	// os/exec blocks one of these while the child is held, and so whoever waits
	// for all of them.
	runtime.GOMAXPROCS(4)
	debug.SetGCPercent(-1)
	var attackers []*spawn.Process // started while no child is held
	for range 3 {
		p, err := spawn.New(args[0], testkit.HelperPrefix+"attack-memory").SetUID(testkit.Nobody).SetGID(testkit.Nobody).PipeStdin().PipeStdout().Start(context.Background())
		if err != nil {
			return testkit.Fail(err)
		}
		attackers = append(attackers, p)
	}
	attack := func(pid int) (result string, err error) {
		p := attackers[0]
		attackers = attackers[1:]
		fmt.Fprintln(p.Stdin(), pid, uintptr(unsafe.Pointer(&daemonSecret)))
		out, err := io.ReadAll(p.Stdout())
		return strings.TrimSpace(string(out)), errors.Join(err, p.Wait(), p.Stdin().Close(), p.Stdout().Close())
	}
	runtime.LockOSThread() // the filter is this thread's and its children's
	listener, err := testkit.NotifyOf(unix.SYS_CHDIR)
	if err != nil {
		return testkit.Fail(err)
	}
	run := func(start func() error, before func()) (result string, err error) {
		held := make(chan error, 1)
		go func() {
			var attackErr error
			answerErr := testkit.Answer(listener, func(pid int) {
				before()
				result, attackErr = attack(pid)
			})
			held <- errors.Join(answerErr, attackErr)
		}()
		err = errors.Join(start(), <-held)
		return result, err
	}

	theirs := exec.Command("/bin/true")
	theirs.Dir = "/"
	theirs.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: testkit.Nobody, Gid: testkit.Nobody}}
	// As a daemon does that wants its flag back as soon as os/exec has
	// cleared it.
	result, err := run(theirs.Run, func() { testkit.SetDumpableFlag(1) })
	if err != nil {
		return testkit.Fail(err)
	}
	if result != "secret good" {
		return testkit.Fail(fmt.Errorf("os/exec: the attack no longer works: %s", result))
	}
	testkit.SetDumpableFlag(1)
	ours := spawn.New("/bin/true").SetWorkingDirectory("/").SetUID(testkit.Nobody).SetGID(testkit.Nobody)
	for name, start := range map[string]func() error{
		"Run": func() error { return ours.Run(context.Background()) },
		"Start": func() error {
			p, err := ours.Start(context.Background())
			if err != nil {
				return err
			}
			return p.Wait()
		},
	} {
		result, err := run(start, func() {})
		if err != nil {
			return testkit.Fail(err)
		}
		if result != "refused refused" {
			return testkit.Fail(fmt.Errorf("%s: %s", name, result))
		}
	}
	return 0
}

func TestAttackOnTheMemoryByTheChildsUser(t *testing.T) {
	testkit.NeedsRoot(t, "to become another user")
	if scope, err := os.ReadFile("/proc/sys/kernel/yama/ptrace_scope"); err == nil && strings.TrimSpace(string(scope)) != "0" {
		t.Skip("needs a kernel that lets users trace their own processes (Yama)")
	}
	t.Setenv("GORACE", "atexit_sleep_ms=0")
	program := testkit.CopySelf(t)
	require.NoError(t, os.Chmod(program, 0o755))
	out, err := testkit.HelperCommand(t, "attacked-daemon", program).CombinedOutput(context.Background())
	require.NoError(t, err, "%s", out)
}
