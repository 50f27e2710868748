//go:build linux

package plan_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/virspawn/spawn"
	"github.com/virspawn/spawn/internal/helper"
	"github.com/virspawn/spawn/internal/plan"
	"github.com/virspawn/spawn/internal/secure"
	"github.com/virspawn/spawn/internal/testkit"
	"golang.org/x/sys/unix"
)

func init() {
	testkit.Helpers["setuid-env"] = printEnvironments
	testkit.Helpers["setuid-hook"] = tryHelpers
	testkit.Helpers["setuid-denied"] = runDenied
	testkit.Helpers["setuid-path"] = runByName
	testkit.Helpers["setuid-loader"] = runPreloaded
	testkit.Helpers["setuid-pwd"] = runInDirectory
}

// printEnvironments prints the environments that children of this process get.
func printEnvironments([]string) int {
	fmt.Println("secure:", secure.Mode())
	for _, name := range []string{"LD_PRELOAD", "LD_LIBRARY_PATH", "TMPDIR"} {
		// A loader takes these from a privileged program before it runs, and
		// from env below; a program that is linked statically has them.
		if _, ok := os.LookupEnv(name); !ok {
			os.Setenv(name, "/of/caller")
		}
	}
	env := spawn.New("/usr/bin/env") // whose /proc/self may be closed to it
	for _, c := range []*spawn.Command{
		env.Clone().AddEnvPassCommon(),
		env.Clone().AddEnvPassBlockSUID("SPAWN_SET"),
		env.Clone().AddEnvPassBlockSUID("SPAWN_SET", "fallback"),
		env.Clone().AddEnvPassAllowSUID("SPAWN_SET"),
		env.Clone().AddEnvPassAllowSUID("SPAWN_SET").AddEnvPassBlockSUID("SPAWN_SET"),
	} {
		out, err := c.Output(context.Background())
		if err != nil {
			fmt.Println(err)
			return 1
		}
		vars := []string{}
		for _, v := range testkit.Wanted(c).Env.Vars {
			vars = append(vars, v.Name+"="+v.Value.Str)
		}
		fmt.Printf("%q\n", vars)
		if got := strings.Fields(string(out)); !slices.Equal(got, vars) {
			fmt.Printf("but the program got %q\n", got)
		}
	}
	return 0
}

const passedEnvironments = `secure: false
["LD_PRELOAD=/of/caller" "LD_LIBRARY_PATH=/of/caller" "PATH=/of/caller" "HOME=/of/caller" "USER=caller" "LOGNAME=caller" "TMPDIR=/of/caller"]
["SPAWN_SET=caller"]
["SPAWN_SET=caller"]
["SPAWN_SET=caller"]
["SPAWN_SET=caller"]
`

const blockedEnvironments = `secure: true
["PATH=/bin:/usr/bin" "USER=caller" "LOGNAME=caller"]
[]
["SPAWN_SET=fallback"]
["SPAWN_SET=caller"]
["SPAWN_SET=caller"]
`

// forEachPrivilege runs a test with this test binary as an ordinary program and
// as one that gives its caller privileges.
func forEachPrivilege(t *testing.T, f func(t *testing.T, program string, privileged bool)) {
	testkit.CheckLeaks(t)
	testkit.NeedsRoot(t, "to make a setuid program")
	own, err := testkit.StatusOf(testkit.CatStatus())
	require.NoError(t, err)
	if own["NoNewPrivs"] == "1" {
		t.Skip("no_new_privs is set: no program gets privileges here")
	}
	t.Setenv("GORACE", "atexit_sleep_ms=0")
	program := testkit.CopySelf(t)
	for _, x := range []struct {
		name            string
		mode            uint32
		cap, privileged bool
	}{
		{"ordinary", 0o755, false, false},
		{"setuid", 0o4755, false, true},
		{"setgid", 0o2755, false, true},
		{"file capability", 0o755, true, true},
	} {
		t.Run(x.name, func(t *testing.T) {
			require.NoError(t, unix.Chmod(program, x.mode))
			if x.cap {
				setFileCapability(t, program, unix.CAP_NET_BIND_SERVICE)
			}
			f(t, program, x.privileged)
		})
	}
}

func TestTheEnvironmentOfAPrivilegedProgramIsNotItsCallers(t *testing.T) {
	forEachPrivilege(t, func(t *testing.T, program string, privileged bool) {
		want := passedEnvironments
		if privileged {
			want = blockedEnvironments
		}
		c := spawn.New(program, testkit.HelperPrefix+"setuid-env").SetUID(testkit.Nobody).SetGID(testkit.Nobody).AddEnvPassAllowSUID("GORACE").
			AddEnv("SPAWN_SET", "caller").AddEnv("USER", "caller").AddEnv("LOGNAME", "caller").
			AddEnv("LD_PRELOAD", "/of/caller").AddEnv("LD_LIBRARY_PATH", "/of/caller").
			AddEnv("PATH", "/of/caller").AddEnv("HOME", "/of/caller").AddEnv("TMPDIR", "/of/caller")
		out, err := c.Output(context.Background())
		if privileged && !plan.CanClone() {
			require.Equal(t, "secure: true\nspawn: cannot start \"/usr/bin/env\": start: "+"no child can be cloned on this processor, and a process that runs setuid or with file capabilities has no helper: unsupported operation\n", string(out))
			return
		}
		require.NoError(t, err, "%s", out)
		require.Equal(t, want, string(out))
	})
}

// script writes a shell script that every user may run.
func script(t *testing.T, path, text string) {
	shell := "/bin/sh -p"
	if spawn.New("/bin/sh", "-p", "-c", ":").Run(context.Background()) != nil {
		shell = "/bin/sh" // busybox's keeps its ids by itself
	}
	require.NoError(t, os.WriteFile(path, []byte("#!"+shell+"\n"+text+"\n"), 0o755))
	require.NoError(t, os.Chmod(path, 0o755)) // whatever the umask is
}

// runByName runs programs by names without a slash.
func runByName([]string) int {
	for _, name := range []string{"echo", "only-the-callers"} {
		out, err := spawn.New(name, "good").AddEnvPassCommon().Output(context.Background())
		fmt.Printf("%s%v\n", out, err)
	}
	return 0
}

// Whoever calls a setuid program chooses its PATH, and so what it runs.
func TestAttackByThePathOfAPrivilegedProgramsCaller(t *testing.T) {
	dir := testkit.PublicDir(t)
	script(t, dir+"/echo", "echo attacked, euid $(/usr/bin/id -u)")
	script(t, dir+"/only-the-callers", "echo attacked")
	forEachPrivilege(t, func(t *testing.T, program string, privileged bool) {
		if privileged && !plan.CanClone() {
			t.Skip("a privileged program can start nothing on this processor")
		}
		want := "attacked, euid 65534\n<nil>\nattacked\n<nil>\n"
		if privileged {
			want = "good\n<nil>\nspawn: cannot start \"only-the-callers\": search in /bin:/usr/bin: " +
				"executable file not found; in a setuid program $PATH does not count\n"
		}
		out, err := spawn.New(program, testkit.HelperPrefix+"setuid-path").SetUID(testkit.Nobody).SetGID(testkit.Nobody).AddEnvPassAllowSUID("GORACE").
			AddEnv("PATH", dir+":/bin:/usr/bin").Output(context.Background())
		require.NoError(t, err, "%s", out)
		require.Equal(t, want, string(out))
	})
}

// runInDirectory goes to a directory and runs what is there. When it is known
// what will be executed, the caller exchanges what its PWD leads to.
func runInDirectory(args []string) int {
	dir, link, evil := args[0], args[1], args[2]
	if err := os.Chdir(dir); err != nil {
		return testkit.Fail(err)
	}
	defer spawn.SetPolicy(func(c *spawn.Command) error {
		fmt.Println(c.Path())
		return errors.Join(os.Remove(link), os.Symlink(evil, link))
	})()
	out, err := spawn.New("./program").ClearEnv().Output(context.Background())
	fmt.Printf("%s%v\n", out, err)
	return 0
}

// A shell that has gone to a directory by a symbolic link says so in PWD, and
// the link may be somebody else's.
func TestAttackByThePWDOfAPrivilegedProgramsCaller(t *testing.T) {
	dir := testkit.PublicDir(t)
	require.NoError(t, os.Mkdir(dir+"/good", 0o755))
	require.NoError(t, os.Mkdir(dir+"/evil", 0o755))
	script(t, dir+"/good/program", "echo good")
	script(t, dir+"/evil/program", "echo attacked")
	require.NoError(t, os.Mkdir(dir+"/callers", 0o777))
	require.NoError(t, os.Chmod(dir+"/callers", 0o777))
	link := dir + "/callers/link"
	forEachPrivilege(t, func(t *testing.T, program string, privileged bool) {
		if privileged && !plan.CanClone() {
			t.Skip("a privileged program can start nothing on this processor")
		}
		_ = os.Remove(link)
		require.NoError(t, os.Symlink(dir+"/good", link))
		out, err := spawn.New(program, testkit.HelperPrefix+"setuid-pwd", dir+"/good", link, dir+"/evil").
			SetUID(testkit.Nobody).SetGID(testkit.Nobody).AddEnvPassAllowSUID("GORACE").AddEnv("PWD", link).Output(context.Background())
		require.NoError(t, err, "%s", out)
		require.Equal(t, dir+"/good/./program\ngood\n<nil>\n", string(out))
	})
}

// runPreloaded runs programs that are the loader's for what this one is only
// by its file, and says whether their loader has looked for the caller's code.
func runPreloaded([]string) int {
	// This program's own loader may have taken it away.
	os.Setenv("LD_PRELOAD", "/of/caller")
	os.Setenv("KEPT", "x")
	// The ids of the file are its own now: it no longer runs setuid.
	c := spawn.New("/bin/sh", "-c", "echo kept $KEPT").SetUID(os.Geteuid()).SetGID(os.Getegid()).KeepGroups()
	for _, c := range []*spawn.Command{c, c.Clone().AddEnvPassAll()} {
		out, err := c.CombinedOutput(context.Background())
		if err != nil || !strings.HasSuffix(string(out), "kept x\n") {
			return testkit.Fail(fmt.Errorf("%s%w", out, err))
		}
		fmt.Println(strings.Contains(string(out), "LD_PRELOAD"), slices.Contains(c.Env(), "LD_PRELOAD=/of/caller"))
	}
	return 0
}

// A program that is linked without a C library still has the variables by which
// the loader of what it runs takes code.
func TestAttackByTheLoaderOfWhatAPrivilegedProgramRuns(t *testing.T) {
	if out, _ := spawn.New("/bin/sh", "-c", ":").AddEnv("LD_PRELOAD", "/of/caller").CombinedOutput(context.Background()); !strings.Contains(string(out), "LD_PRELOAD") {
		t.Skip("needs a loader that says what it cannot load")
	}
	forEachPrivilege(t, func(t *testing.T, program string, privileged bool) {
		if privileged && !plan.CanClone() {
			t.Skip("a privileged program can start nothing on this processor")
		}
		want := strings.Repeat(fmt.Sprintln(!privileged, !privileged), 2)
		out, err := spawn.New(program, testkit.HelperPrefix+"setuid-loader").SetUID(testkit.Nobody).SetGID(testkit.Nobody).AddEnvPassAllowSUID("GORACE").
			CombinedOutput(context.Background())
		require.NoError(t, err, "%s", out)
		require.Equal(t, want, string(out))
	})
}

// tryHelpers runs programs that ask for a helper.
func tryHelpers([]string) int {
	fmt.Println(spawn.New("/bin/true").SetPreExecHook(testkit.HookFails, "this is why").Run(context.Background()))
	fmt.Println("forced:", plan.HelperForced())
	return 0
}

func TestAPrivilegedProgramHasNoHelpers(t *testing.T) {
	forEachPrivilege(t, func(t *testing.T, program string, privileged bool) {
		want := "spawn: cannot start \"/bin/true\": hook(\"fails\"): this is why\nforced: true\n"
		if privileged {
			want = "spawn: SetPreExecHook: a process that runs setuid or with file capabilities has no helper to run a hook\nforced: false\n"
		}
		out, err := spawn.New(program, testkit.HelperPrefix+"setuid-hook").SetUID(testkit.Nobody).SetGID(testkit.Nobody).AddEnvPassAllowSUID("GORACE").
			AddEnv("SPAWN_EXECUTOR", "helper").Output(context.Background())
		require.NoError(t, err, "%s", out)
		require.Equal(t, want, string(out))
	})
}

// runDenied runs a program under a policy that denies what a child is
// cloned by.
func runDenied([]string) int {
	if err := errors.Join(testkit.Deny(unix.SYS_CLONE3, uint64(unix.ENOSYS)), testkit.DenyFlags(unix.SYS_CLONE, unix.CLONE_PIDFD, uint64(unix.EPERM))); err != nil {
		return testkit.Fail(err)
	}
	err := spawn.New("/bin/true").Run(context.Background())
	var start *spawn.StartError
	if errors.As(err, &start) {
		op, _, _ := strings.Cut(start.Op, "(")
		fmt.Println(op, start.Err)
		return 0
	}
	fmt.Println(err)
	return 0
}

// TestAPrivilegedProgramReportsThatItMayNotClone: an ordinary one then has
// a helper.
func TestAPrivilegedProgramReportsThatItMayNotClone(t *testing.T) {
	testkit.NeedsClone(t)
	forEachPrivilege(t, func(t *testing.T, program string, privileged bool) {
		want := "<nil>\n"
		if privileged {
			want = "clone operation not permitted\n"
		}
		out, err := spawn.New(program, testkit.HelperPrefix+"setuid-denied").SetUID(testkit.Nobody).SetGID(testkit.Nobody).AddEnvPassAllowSUID("GORACE").CombinedOutput(context.Background())
		require.NoError(t, err, "%s", out)
		require.Equal(t, want, string(out))
	})
}

// TestAPrivilegedProgramIsNoHelper: an ordinary user starts it as a helper,
// with a program of his own that an ordinary one would run.
func TestAPrivilegedProgramIsNoHelper(t *testing.T) {
	forEachPrivilege(t, func(t *testing.T, program string, privileged bool) {
		want := "the forged program ran\n"
		if privileged {
			want = "main was reached\n"
		}
		// The program as the ordinary user has it made, which has no
		// capabilities to give to a helper.
		forged := testkit.By(spawn.New("/bin/echo", "the forged program ran").InheritStdio(), plan.ChildAndHelper)
		pl, err := testkit.Planned(forged, plan.Piped)
		require.NoError(t, err)
		defer pl.Release()
		for i := range pl.Program.Len() {
			if nr := pl.Program.At(i).Nr; nr == unix.SYS_CAPSET || nr == unix.SYS_PRCTL {
				pl.Program.At(i).Flags |= 1 // program.Ignore
			}
		}
		require.NoError(t, pl.WriteImage())
		c := spawn.New(program, strconv.Itoa(pl.ImageNumber())).SetArgv0(helper.Name).SetUID(testkit.Nobody).SetGID(testkit.Nobody).AddEnvPassAllowSUID("GORACE")
		for _, n := range pl.KeptNumbers() {
			fd, err := unix.FcntlInt(uintptr(n), unix.F_DUPFD_CLOEXEC, 100)
			require.NoError(t, err)
			f := os.NewFile(uintptr(fd), "kept")
			defer f.Close()
			c.PassFDAs(f, n)
		}
		out, err := c.CombinedOutput(context.Background())
		require.NoError(t, err, "%s", out)
		require.Equal(t, want, string(out))
	})
}

// setFileCapability gives a program a permitted and effective capability.
// (struct vfs_cap_data in capabilities(7))
func setFileCapability(t *testing.T, path string, n uint) {
	const revision2, effective = 0x02000000, 1
	b := binary.LittleEndian.AppendUint32(nil, revision2|effective)
	b = binary.LittleEndian.AppendUint32(b, 1<<n) // permitted; n is below 32
	b = append(b, make([]byte, 12)...)
	err := unix.Setxattr(path, "security.capability", b, 0)
	if err == unix.ENOTSUP {
		t.Skip("the file system has no file capabilities")
	}
	require.NoError(t, err)
}
