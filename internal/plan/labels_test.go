//go:build linux

package plan_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/virspawn/spawn"
	"github.com/virspawn/spawn/internal/plan"
	"github.com/virspawn/spawn/internal/testkit"
	"golang.org/x/sys/unix"
)

func init() {
	testkit.Helpers["read-secret"] = readSecret
	testkit.Helpers["exec-selinux"] = execReadSecret((*spawn.Command).SetSELinuxLabel)
	testkit.Helpers["exec-apparmor"] = execReadSecret((*spawn.Command).SetAppArmorProfile)
	testkit.Helpers["profile"] = func(args []string) int {
		c := spawn.New("/bin/true").SetAppArmorProfile(args[0])
		return endHelper(errors.Join(c.Run(context.Background()), testkit.OtherIDs(c).Run(context.Background())))
	}
}

// readSecret prints this program's label and whether it may read a file.
func readSecret(args []string) int {
	label, err := os.ReadFile("/proc/self/attr/current")
	_, readErr := os.ReadFile(args[0])
	fmt.Println(strings.Trim(string(label), "\x00\n"), err, testkit.Say(readErr))
	return 0
}

// execReadSecret becomes the program that reads the secret, with a label.
func execReadSecret(set func(*spawn.Command, string) *spawn.Command) func([]string) int {
	return func(args []string) int {
		exe, err := os.Executable()
		if err != nil {
			return testkit.Fail(err)
		}
		return testkit.Fail(set(spawn.New(exe, testkit.HelperPrefix+"read-secret", secretFile).InheritStdio(), args[0]).Exec())
	}
}

func TestALabelWithoutItsModuleIsAnErrorThatSaysWhatRuns(t *testing.T) {
	testkit.CheckLeaks(t)
	for method, c := range map[string]*spawn.Command{
		"SetSELinuxLabel":    spawn.New("/bin/true").SetSELinuxLabel("system_u:system_r:confined_t"),
		"SetAppArmorProfile": spawn.New("/bin/true").SetAppArmorProfile("spawn-confined"),
		"SetSmackLabel":      spawn.New("/bin/true").SetSmackLabel("_"),
	} {
		name, enabled := plan.LabelModuleOf(method)
		if enabled {
			continue
		}
		err := c.Run(context.Background())
		require.ErrorIs(t, err, errors.ErrUnsupported)
		require.ErrorContains(t, err, method+": the kernel does not run "+name+", but "+plan.RunningModules())
		require.NoError(t, c.SetMACOptional().Run(context.Background()))
	}
}

func TestBadLabelsAreBadCalls(t *testing.T) {
	testkit.CheckLeaks(t)
	long := strings.Repeat("x", 5000)
	for want, c := range map[string]*spawn.Command{
		`SetSELinuxLabel: the label is empty`:                spawn.New("x").SetSELinuxLabel(""),
		`SetSELinuxLabel: the label "a\x00b" has`:            spawn.New("x").SetSELinuxLabel("a\x00b"),
		`SetAppArmorProfile: the label "a\nb" has`:           spawn.New("x").SetAppArmorProfile("a\nb"),
		`SetAppArmorProfile: a label of 5000 bytes`:          spawn.New("x").SetAppArmorProfile(long),
		`SetSmackLabel: the label is empty`:                  spawn.New("x").SetSmackLabel(""),
		`SetSmackLabel: "-a" is not a label`:                 spawn.New("x").SetSmackLabel("-a"),
		`SetSmackLabel: "a b" is not a label`:                spawn.New("x").SetSmackLabel("a b"),
		`SetSmackLabel: "` + long[:300] + `" is not a label`: spawn.New("x").SetSmackLabel(long[:300]),
	} {
		err := c.SetMACOptional().Run(context.Background())
		require.ErrorContains(t, err, want)
	}
}

// secretFile is what the profile and the policy of the machines in
// internal/vmtest refuse.
const secretFile = "/secret/text"

// withChanges calls f with the command and with what else it may change beside
// its label.
func withChanges(t *testing.T, c *spawn.Command, f func(*testing.T, *spawn.Command)) {
	for name, change := range map[string]func(*spawn.Command) *spawn.Command{
		"alone":                func(c *spawn.Command) *spawn.Command { return c },
		"with another user":    testkit.OtherIDs,
		"with a score":         func(c *spawn.Command) *spawn.Command { return testkit.OtherIDs(c).SetOOMScoreAdj(900) },
		"with few files":       func(c *spawn.Command) *spawn.Command { return c.SetMaxFiles(20) },
		"in a namespace":       func(c *spawn.Command) *spawn.Command { return testkit.InUserNamespace(c, spawn.PIDNamespace) },
		"with no capabilities": clearCaps,
	} {
		t.Run(name, func(t *testing.T) {
			if name == "in a namespace" {
				testkit.NeedsUserNamespaces(t)
			}
			testkit.CheckLeaks(t)
			f(t, change(c.Clone()))
		})
	}
}

func clearCaps(c *spawn.Command) *spawn.Command {
	if os.Geteuid() == 0 {
		return c.ClearCaps()
	}
	return c
}

func TestAnSELinuxLabelConfines(t *testing.T) {
	testkit.NeedsLSM(t, "selinux")
	t.Setenv("GORACE", "atexit_sleep_ms=0")
	const label = "system_u:system_r:confined_t"
	c := testkit.HelperCommand(t, "read-secret", secretFile)
	require.Equal(t, "system_u:system_r:kernel_t <nil> good\n", testkit.OutputOf(t, c))
	require.Equal(t, label+" <nil> refused\n", testkit.OutputOf(t, testkit.HelperCommand(t, "exec-selinux", label)), "in place of this process")
	withChanges(t, c, func(t *testing.T, c *spawn.Command) {
		require.Equal(t, label+" <nil> refused\n", testkit.OutputOf(t, c.Clone().SetSELinuxLabel(label)))

		var start *spawn.StartError
		require.ErrorAs(t, c.Clone().SetSELinuxLabel("system_u:system_r:forbidden_t").Run(context.Background()), &start)
		require.Equal(t, fmt.Sprintf("execve(%q)", testkit.Wanted(c).Name), start.Op)
		require.ErrorIs(t, start, unix.EACCES)
	})
	for _, malformed := range []string{"system_u:system_r:none_t", "nonsense", "a:b:c:d:e"} {
		err := spawn.New("/bin/true").SetSELinuxLabel(malformed).Run(context.Background())
		require.ErrorIs(t, err, unix.EINVAL)
		require.ErrorContains(t, err, "SetSELinuxLabel: the policy has no context")
	}
	// As the child would find, where this process may not ask the policy.
	withoutCheck(t, 0)
	requireStartError(t, spawn.New("/bin/true").SetSELinuxLabel("nonsense"), `write(</proc/thread-self/attr/exec>, "nonsense", 8) = 8`, unix.EINVAL)
	require.ErrorContains(t, spawn.New("/bin/true").SetAppArmorProfile("x").Run(context.Background()), "does not run AppArmor, but SELinux")
}

func TestAnAppArmorProfileConfines(t *testing.T) {
	testkit.NeedsLSM(t, "apparmor")
	t.Setenv("GORACE", "atexit_sleep_ms=0")
	const profile = "spawn-confined"
	c := testkit.HelperCommand(t, "read-secret", secretFile)
	require.Equal(t, "unconfined <nil> good\n", testkit.OutputOf(t, c))
	require.Equal(t, profile+" (enforce) <nil> refused\n", testkit.OutputOf(t, testkit.HelperCommand(t, "exec-apparmor", profile)), "in place of this process")
	withChanges(t, c, func(t *testing.T, c *spawn.Command) {
		require.Equal(t, profile+" (enforce) <nil> refused\n", testkit.OutputOf(t, c.SetAppArmorProfile(profile)))
	})
	// A confined program may not choose another profile.
	out, err := testkit.HelperCommand(t, "profile", "unconfined").SetAppArmorProfile(profile).CombinedOutput(context.Background())
	require.Error(t, err)
	step := `write(</proc/thread-self/attr/apparmor/exec>, "exec unconfined", 15) = 15: permission denied`
	require.Equal(t, 2, strings.Count(string(out), step), "alone and with another user: %s", out)

	for _, malformed := range []string{" ", " x", ":", "::", ":a:", ":a://"} {
		err := spawn.New("/bin/true").SetAppArmorProfile(malformed).Run(context.Background())
		require.ErrorIs(t, err, unix.EINVAL)
		require.ErrorContains(t, err, "SetAppArmorProfile: ")
	}
	require.ErrorIs(t, spawn.New("/bin/true").SetAppArmorProfile("spawn-none").Run(context.Background()), fs.ErrNotExist)
	// As the child would find.
	withoutCheck(t, 1)
	requireStartError(t, spawn.New("/bin/true").SetAppArmorProfile(" "), `write(</proc/thread-self/attr/apparmor/exec>, "exec  ", 6) = 6`, unix.EINVAL)
	requireStartError(t, spawn.New("/bin/true").SetAppArmorProfile("spawn-none"),
		`write(</proc/thread-self/attr/apparmor/exec>, "exec spawn-none", 15) = 15`, unix.ENOENT)
	require.ErrorContains(t, spawn.New("/bin/true").SetSELinuxLabel("x").Run(context.Background()), "does not run SELinux, but AppArmor")
}

// withoutCheck leaves it to the child to find out about labels of a module, as
// where this process may not ask.
func withoutCheck(t testing.TB, module int) {
	t.Cleanup(plan.WithoutLabelCheck(module))
}
