//go:build linux

package run_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/virspawn/spawn"
	"github.com/virspawn/spawn/internal/plan"
	"github.com/virspawn/spawn/internal/testkit"
	"golang.org/x/sys/unix"
)

func init() {
	testkit.Helpers["thread"] = runOnThread
	testkit.Helpers["thread-without-proc"] = runWithoutProc
}

// threadKind is a way to confine a thread.
type threadKind struct {
	confine func(dir string) error
	names   string // of what that changes
	root    bool   // needs root
	noRun   bool   // execve takes more, or there is nothing to execute
}

var threadKinds = map[string]threadKind{
	"unconfined":   {func(string) error { return nil }, "", false, false},
	"no_new_privs": {func(string) error { return unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }, "no_new_privs", false, false},
	"a filter":     {filterThread, "no_new_privs, seccomp filters", false, false},
	"a further filter": {func(dir string) error {
		return errors.Join(testkit.Deny(unix.SYS_REBOOT, uint64(unix.EPERM)), filterThread(dir))
	}, "seccomp filters", false, false},
	"a network":    {func(string) error { return unix.Unshare(unix.CLONE_NEWNET) }, "network namespace", true, false},
	"capabilities": {dropAllCaps, "capabilities", true, false},
	"all of these": {confineThread, "capabilities, no_new_privs, network namespace, UTS namespace", true, false},
	"securebits":   {func(string) error { return unix.Prctl(unix.PR_SET_SECUREBITS, 1, 0, 0, 0) }, "securebits", true, true},
	"a umask": {func(string) error {
		err := unix.Unshare(unix.CLONE_FS)
		unix.Umask(0o77)
		return err
	}, "umask", true, false},
	"a processor": {func(string) error {
		var set unix.CPUSet
		set.Set(0)
		return unix.SchedSetaffinity(0, &set)
	}, "processors", false, false},
	"pid namespace": {func(string) error { return unix.Unshare(unix.CLONE_NEWPID) }, "pid namespace of children", true, false},
	"a root": {func(dir string) error {
		return errors.Join(unix.Unshare(unix.CLONE_FS), unix.Chroot(dir))
	}, "root directory", true, true},
	"a group": {func(string) error {
		// of this thread only
		_, _, errno := unix.RawSyscall(unix.SYS_SETRESGID, 65534, 65534, 65534)
		if errno != 0 {
			return errno
		}
		return nil
	}, "group", true, false},
}

// filterThread gives this thread a filter, and no_new_privs.
func filterThread(string) error {
	_, err := testkit.NotifyOf(unix.SYS_REBOOT)
	return err
}

// dropAllCaps gives up all of this thread's capabilities.
func dropAllCaps(string) error {
	for n := range plan.LastCap() + 1 {
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(n), 0, 0, 0); err != nil {
			return err
		}
	}
	var none [2]unix.CapUserData
	return unix.Capset(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &none[0])
}

func confineThread(dir string) error {
	return errors.Join(unix.Unshare(unix.CLONE_NEWNET|unix.CLONE_NEWUTS), dropAllCaps(dir), unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
}

// confinement returns what confines a process or thread.
func confinement(dir string) (string, error) {
	status, err := os.ReadFile(dir + "/status")
	text := ""
	for _, name := range []string{"Gid", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp"} {
		text += name + " " + testkit.StatusField(string(status), name) + "\n"
	}
	for _, kind := range []string{"net", "uts"} {
		link, e := os.Readlink(dir + "/ns/" + kind)
		err = errors.Join(err, e)
		text += link + "\n"
	}
	return text, err
}

// runOnThread confines its thread, and starts a program in the way that an
// argument names.
func runOnThread(args []string) int {
	runtime.LockOSThread()
	if err := threadKinds[args[0]].confine(args[2]); err != nil {
		return testkit.Fail(err)
	}
	switch c := spawn.New("/bin/echo", "it ran").InheritStdio(); args[1] {
	case "Exec":
		fmt.Println(c.Exec())
		return 0
	case "SetParentDeathSignal":
		fmt.Println(c.SetParentDeathSignal(unix.SIGKILL).Run(context.Background()))
		return 0
	}
	by, _ := strconv.Atoi(args[1])
	p, err := testkit.StartLive(testkit.By(testkit.Waiting(), plan.Executor(by)))
	if err != nil {
		return testkit.Fail(err)
	}
	want, err := confinement("/proc/thread-self")
	got, e := confinement("/proc/" + strconv.Itoa(p.PID()))
	if err := errors.Join(err, e, testkit.StopLive(p)); err != nil {
		return testkit.Fail(err)
	}
	if got != want {
		fmt.Printf("the thread is confined to\n%sand its child to\n%s", want, got)
	}
	return 0
}

// TestAChildIsConfinedAsTheCallersThread: what a thread has given up, all that
// it starts has given up, by every executor. Where another thread would start
// it, nothing is started.
func TestAChildIsConfinedAsTheCallersThread(t *testing.T) {
	t.Setenv("GORACE", "atexit_sleep_ms=0")
	executors := []plan.Executor{plan.ForkedHelper}
	if plan.CanClone() {
		executors = append(executors, plan.Direct, plan.Stub, plan.ChildAndHelper)
	}
	for name, kind := range threadKinds {
		t.Run(name, func(t *testing.T) {
			if name == "a processor" && runtime.NumCPU() == 1 {
				t.Skip("needs two processors")
			}
			testkit.CheckLeaks(t)
			if kind.root {
				testkit.NeedsRoot(t, "to confine a thread")
			}
			output := func(how string) string {
				out, err := testkit.HelperCommand(t, "thread", name, how, t.TempDir()).CombinedOutput(context.Background())
				require.NoError(t, err, "%s: %s", how, out)
				return string(out)
			}
			for _, by := range executors {
				if !kind.noRun {
					require.Empty(t, output(strconv.Itoa(int(by))), "by %d", by)
				}
			}
			for _, method := range []string{"Exec", "SetParentDeathSignal"} {
				if name == "a root" && method != "Exec" && (plan.HelperForced() || !plan.CanClone()) {
					continue // there is no /proc for a helper
				}
				want := "spawn: " + method + ": the calling thread has not what the others of this process have, one of which would start the program: " + kind.names + "\n"
				switch {
				case kind.names != "":
				case method == "Exec":
					want = "it ran\n"
				default:
					want = "it ran\n<nil>\n"
				}
				require.Equal(t, want, output(method))
			}
		})
	}
}

// runWithoutProc does what needs a look into /proc, without it.
func runWithoutProc([]string) int {
	if err := errors.Join(unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""), unix.Unmount("/proc", unix.MNT_DETACH)); err != nil {
		return testkit.Fail(err)
	}
	fmt.Println(spawn.New("/bin/true").SetParentDeathSignal(unix.SIGKILL).Run(context.Background()))
	fmt.Println(spawn.New("/bin/true").Exec())
	return 0
}

// TestWhereItCannotBeSeenWhetherThreadsAreAlikeIsAnError: there is no /proc.
func TestWhereItCannotBeSeenWhetherThreadsAreAlikeIsAnError(t *testing.T) {
	testkit.NeedsRoot(t, "to unmount /proc")
	testkit.NeedsClone(t)
	if plan.HelperForced() {
		t.Skip("a helper cannot work without /proc either")
	}
	testkit.CheckLeaks(t)
	out, err := testkit.HelperCommand(t, "thread-without-proc").SetNamespaces(spawn.MountNamespace).CombinedOutput(context.Background())
	require.NoError(t, err, "%s", out)
	require.Regexp(t, `^spawn: SetParentDeathSignal: whether another thread is confined as the calling one is cannot be seen: open /proc/self/task/\d+/status: no such file or directory\n`+
		`spawn: Exec: whether another thread is confined as the calling one is cannot be seen: open /proc/self/task/\d+/status: no such file or directory\n$`, string(out))
}
