//go:build linux

package plan_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/virspawn/spawn"
	"github.com/virspawn/spawn/internal/helper"
	"github.com/virspawn/spawn/internal/plan"
	"github.com/virspawn/spawn/internal/testkit"
	"github.com/virspawn/spawn/internal/testkit/early"
	"golang.org/x/sys/unix"
)

func init() {
	testkit.Helpers["marked"] = runMarked
	testkit.Helpers["mark"] = func([]string) int {
		fmt.Printf("the mark is %q\n", os.Getenv("SPAWN_HELPER"))
		return 0
	}
}

var hookShowsMark = spawn.RegisterHook("shows its mark", func(string) error {
	fmt.Printf("the hook's mark is %q\n", os.Getenv("SPAWN_HELPER"))
	c := exec.Command("/bin/sh", "-c", `echo "its program's mark is \"$SPAWN_HELPER\""`)
	c.Stdout = os.Stdout
	return c.Run()
})

// forgedPlan returns the plan of a program that says that it ran, for a helper
// that somebody else starts, who has no capabilities to give to it.
func forgedPlan(t *testing.T) *plan.Plan {
	t.Helper()
	forged := testkit.By(spawn.New("/bin/echo", "the forged program ran").InheritStdio(), plan.ChildAndHelper)
	pl, err := testkit.Planned(forged, plan.Piped)
	require.NoError(t, err)
	t.Cleanup(pl.Release)
	for i := range pl.Program.Len() {
		if nr := pl.Program.At(i).Nr; nr == unix.SYS_CAPSET || nr == unix.SYS_PRCTL {
			pl.Program.At(i).Flags |= 1 // program.Ignore
		}
	}
	require.NoError(t, pl.WriteImage())
	return pl
}

// passKept passes what a plan's child keeps, under the numbers that it
// has there.
func passKept(t *testing.T, c *spawn.Command, pl *plan.Plan) *spawn.Command {
	for _, n := range pl.KeptNumbers() {
		fd, err := unix.FcntlInt(uintptr(n), unix.F_DUPFD_CLOEXEC, 100)
		require.NoError(t, err)
		f := os.NewFile(uintptr(fd), "kept")
		t.Cleanup(func() { f.Close() })
		c.PassFDAs(f, n)
	}
	return c
}

// TestAHelperIsOneWhateverBecomesOfItsOtherArguments: those of this test are
// what is left of a helper's by a program that was put in between.
func TestAHelperIsOneWhateverBecomesOfItsOtherArguments(t *testing.T) {
	self := testkit.Self(t)
	pl := forgedPlan(t)
	mark := helper.Args(pl.ImageNumber())[1]
	for _, args := range [][]string{{helper.Name, mark}, {self, mark}, {"/proc/self/exe", self, mark}, {mark}, {self, mark, "-x"}, {self, "spawn-helper:99", mark}} {
		for _, value := range []string{"", "x"} {
			c := passKept(t, spawn.New(self, args[1:]...), pl).SetArgv0(args[0]).AddEnvPassAll().AddEnv("SPAWN_HELPER", value)
			out, err := c.CombinedOutput(context.Background())
			require.NoError(t, err, "%q: %s", args, out)
			require.Equal(t, "the forged program ran\n", string(out), "%q", args)
		}
	}
}

// TestAProgramIsNoHelperByAnArgument: anybody may have chosen that.
func TestAProgramIsNoHelperByAnArgument(t *testing.T) {
	for _, args := range [][]string{{"x", "spawn-helper:3"}, {"x", "spawn-helper:"}, {"x", "-f", "spawn-helper:24+"}} {
		out, err := spawn.New(testkit.Self(t), args[1:]...).SetArgv0(args[0]).CombinedOutput(context.Background())
		require.NoError(t, err)
		require.Equal(t, "main was reached\n", string(out))
	}
	out, err := testkit.HelperCommand(t, "mark").SetArgv0(helper.Name).CombinedOutput(context.Background())
	require.NoError(t, err)
	require.Equal(t, "the mark is \"\"\n", string(out))
}

// TestAProgramThatShouldBeAHelperEndsBeforeMain: whatever has become of what it
// was to run, it is not the program a second time.
func TestAProgramThatShouldBeAHelperEndsBeforeMain(t *testing.T) {
	for name, x := range map[string]struct {
		args []string
		text string
	}{
		"no argument is left":      {[]string{"x"}, "SPAWN_HELPER in its environment says that it is one, and none of its arguments where its program is"},
		"no image is left":         {[]string{"x", "spawn-helper:99"}, "not a program for a helper: descriptor 99 is not a sealed memfd"},
		"the number is not one":    {[]string{"x", "spawn-helper:x"}, `"x" is not the number of a descriptor`},
		"it has another one's":     {[]string{"spawn-helper", "spawn-helper:99"}, "not a program for a helper: descriptor 99 is not a sealed memfd"},
		"it has its name and args": {[]string{"spawn-helper", "-x"}, "SPAWN_HELPER in its environment says that it is one, and none of its arguments where its program is"},
	} {
		t.Run(name, func(t *testing.T) {
			testkit.CheckLeaks(t)
			out, err := spawn.New(testkit.Self(t), x.args[1:]...).SetArgv0(x.args[0]).AddEnvPassAll().AddEnv("SPAWN_HELPER", "x").CombinedOutput(context.Background())
			testkit.RequireExit(t, err, 126)
			require.Equal(t, "spawn: this process cannot be a helper: "+x.text+"\n", string(out))
		})
	}
}

// TestTheMarkOfAHelperIsItsAlone: neither its hook has it, nor what runs then,
// nor the program; and what runs before, by an initialisation that comes first,
// knows that it is not its own.
func TestTheMarkOfAHelperIsItsAlone(t *testing.T) {
	testkit.CheckLeaks(t)
	want := "the hook's mark is \"\"\nits program's mark is \"\"\nmark\n"
	c := spawn.New("/bin/sh", "-c", "echo mark $SPAWN_HELPER").SetPreExecHook(hookShowsMark, "")
	out, err := c.CombinedOutput(context.Background())
	require.NoError(t, err)
	require.Equal(t, want, string(out))
	t.Setenv(early.Run, testkit.HelperPrefix+"mark")
	t.Setenv("GORACE", "atexit_sleep_ms=0")
	out, err = c.CombinedOutput(context.Background())
	require.NoError(t, err)
	require.Equal(t, "the mark is \"\"\n"+want, string(out))
}

// TestAHelperThatIsInterpretedIsOne: the kernel executes this program by
// another one, as it does one for another processor, and puts that one's name
// and the path in the place of argument 0. (binfmt_misc without the flag P)
func TestAHelperThatIsInterpretedIsOne(t *testing.T) {
	testkit.NeedsUserNamespaces(t)
	t.Setenv("GORACE", "atexit_sleep_ms=0")
	dir := testkit.PublicDir(t)
	program, err := os.ReadFile(testkit.Self(t))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(dir+"/real", program, 0o755))
	// in a part of an ELF file's first bytes that means nothing
	copy(program[9:], "marked.")
	require.NoError(t, os.WriteFile(dir+"/marked", program, 0o755))
	require.NoError(t, os.WriteFile(dir+"/interpreter", []byte("#!/bin/sh\nshift\nexec "+dir+"/real \"$@\"\n"), 0o755))
	require.NoError(t, os.Mkdir(dir+"/formats", 0o755))
	c := spawn.New(dir+"/marked", testkit.HelperPrefix+"marked", dir).SetNamespaces(spawn.UserNamespace, spawn.MountNamespace).
		SetUIDMap(spawn.IDMap{ContainerID: 0, HostID: os.Geteuid(), Size: 1}).SetGIDMap(spawn.IDMap{ContainerID: 0, HostID: os.Getegid(), Size: 1})
	out, err := c.CombinedOutput(context.Background())
	if text, ok := strings.CutPrefix(string(out), "needs "); ok {
		t.Skip("needs " + text)
	}
	require.NoError(t, err, "%s", out)
	require.Equal(t, "the hook's mark is \"\"\nits program's mark is \"\"\nhi\n<nil>\n", string(out))
}

// runMarked registers an interpreter for the executable that it is, and runs
// a program by way of a helper.
func runMarked(args []string) int {
	dir := args[0]
	err := unix.Mount("binfmt_misc", dir+"/formats", "binfmt_misc", 0, "")
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENODEV) {
		fmt.Print("needs binfmt_misc of a user namespace (Linux 6.7): ", err)
		return 0
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "formats/register"), []byte(`:marked:M:9:marked.::`+dir+`/interpreter:`), 0o200)
	}
	if err != nil {
		return testkit.Fail(err)
	}
	c := spawn.New("/bin/echo", "hi").SetStderr(os.Stderr).SetPreExecHook(hookShowsMark, "")
	out, err := c.Output(context.Background())
	fmt.Printf("%s%v\n", out, err)
	return 0
}
