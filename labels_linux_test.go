package spawn

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"testing"

	"github.com/opencontainers/selinux/go-selinux"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func init() {
	helpers["read-secret"] = readSecret
	helpers["exec-selinux"] = execReadSecret((*Command).SetSELinuxLabel)
	helpers["exec-apparmor"] = execReadSecret((*Command).SetAppArmorProfile)
	helpers["profile"] = func(args []string) int {
		c := New("/bin/true").SetAppArmorProfile(args[0])
		return endHelper(errors.Join(c.Run(context.Background()), otherIDs(c).Run(context.Background())))
	}
}

// readSecret prints this program's label and whether it may read a file.
func readSecret(args []string) int {
	label, err := os.ReadFile("/proc/self/attr/current")
	_, readErr := os.ReadFile(args[0])
	fmt.Println(strings.Trim(string(label), "\x00\n"), err, say(readErr))
	return 0
}

// execReadSecret becomes the program that reads the secret, with a label.
func execReadSecret(set func(*Command, string) *Command) func([]string) int {
	return func(args []string) int {
		exe, err := os.Executable()
		if err != nil {
			return fail(err)
		}
		return fail(set(New(exe, helperPrefix+"read-secret", secretFile).InheritStdio(), args[0]).Exec())
	}
}

func TestALabelWithoutItsModuleIsAnErrorThatSaysWhatRuns(t *testing.T) {
	checkLeaks(t)
	for method, c := range map[string]*Command{
		"SetSELinuxLabel":    New("/bin/true").SetSELinuxLabel("system_u:system_r:confined_t"),
		"SetAppArmorProfile": New("/bin/true").SetAppArmorProfile("spawn-confined"),
		"SetSmackLabel":      New("/bin/true").SetSmackLabel("_"),
	} {
		name, enabled := labelModuleOf(method)
		if enabled {
			continue
		}
		err := c.Run(context.Background())
		require.ErrorIs(t, err, errors.ErrUnsupported)
		require.ErrorContains(t, err, method+": the kernel does not run "+name+", but "+runningModules())
		require.NoError(t, c.SetMACOptional().Run(context.Background()))
	}
}

func TestBadLabelsAreBadCalls(t *testing.T) {
	checkLeaks(t)
	long := strings.Repeat("x", 5000)
	for want, c := range map[string]*Command{
		`SetSELinuxLabel: the label is empty`:                New("x").SetSELinuxLabel(""),
		`SetSELinuxLabel: the label "a\x00b" has`:            New("x").SetSELinuxLabel("a\x00b"),
		`SetAppArmorProfile: the label "a\nb" has`:           New("x").SetAppArmorProfile("a\nb"),
		`SetAppArmorProfile: a label of 5000 bytes`:          New("x").SetAppArmorProfile(long),
		`SetSmackLabel: the label is empty`:                  New("x").SetSmackLabel(""),
		`SetSmackLabel: "-a" is not a label`:                 New("x").SetSmackLabel("-a"),
		`SetSmackLabel: "a b" is not a label`:                New("x").SetSmackLabel("a b"),
		`SetSmackLabel: "` + long[:300] + `" is not a label`: New("x").SetSmackLabel(long[:300]),
	} {
		err := c.SetMACOptional().Run(context.Background())
		require.ErrorContains(t, err, want)
	}
}

// secretFile is what the profile and the policy of the machines in internal/vmtest refuse.
const secretFile = "/secret/text"

// withChanges calls f with the command and with what else it may change beside its label.
func withChanges(t *testing.T, c *Command, f func(*testing.T, *Command)) {
	for name, change := range map[string]func(*Command) *Command{
		"alone":                func(c *Command) *Command { return c },
		"with another user":    otherIDs,
		"with a score":         func(c *Command) *Command { return otherIDs(c).SetOOMScoreAdj(900) },
		"with few files":       func(c *Command) *Command { return c.SetMaxFiles(20) },
		"in a namespace":       func(c *Command) *Command { return c.SetNamespaces(UserNamespace, PIDNamespace) },
		"with no capabilities": clearCaps,
	} {
		t.Run(name, func(t *testing.T) {
			if name == "in a namespace" {
				needUserNamespaces(t)
			}
			checkLeaks(t)
			f(t, change(c.Clone()))
		})
	}
}

func clearCaps(c *Command) *Command {
	if os.Geteuid() == 0 {
		return c.ClearCaps()
	}
	return c
}

func TestAnSELinuxLabelConfines(t *testing.T) {
	if !selinux.GetEnabled() {
		t.Skip("needs a kernel that runs SELinux, as one of .ci/vm does")
	}
	t.Setenv("GORACE", "atexit_sleep_ms=0")
	const label = "system_u:system_r:confined_t"
	c := helperCommand(t, "read-secret", secretFile)
	require.Equal(t, "system_u:system_r:kernel_t <nil> good\n", outputOf(t, c))
	require.Equal(t, label+" <nil> refused\n", outputOf(t, helperCommand(t, "exec-selinux", label)), "in place of this process")
	withChanges(t, c, func(t *testing.T, c *Command) {
		require.Equal(t, label+" <nil> refused\n", outputOf(t, c.Clone().SetSELinuxLabel(label)))

		var start *StartError
		require.ErrorAs(t, c.Clone().SetSELinuxLabel("system_u:system_r:forbidden_t").Run(context.Background()), &start)
		require.Equal(t, fmt.Sprintf("execve(%q)", wantedOf(c).name), start.Op)
		require.ErrorIs(t, start, unix.EACCES)
	})
	for _, malformed := range []string{"system_u:system_r:none_t", "nonsense", "a:b:c:d:e"} {
		err := New("/bin/true").SetSELinuxLabel(malformed).Run(context.Background())
		require.ErrorIs(t, err, unix.EINVAL)
		require.ErrorContains(t, err, "SetSELinuxLabel: the policy has no context")
	}
	// As the child would find, where this process may not ask the policy.
	withoutCheck(t, 0)
	requireStartError(t, New("/bin/true").SetSELinuxLabel("nonsense"), `write(</proc/thread-self/attr/exec>, "nonsense", 8) = 8`, unix.EINVAL)
	require.ErrorContains(t, New("/bin/true").SetAppArmorProfile("x").Run(context.Background()), "does not run AppArmor, but SELinux")
}

func TestAnAppArmorProfileConfines(t *testing.T) {
	if !appArmorEnabled() {
		t.Skip("needs a kernel that runs AppArmor, as one of .ci/vm does")
	}
	t.Setenv("GORACE", "atexit_sleep_ms=0")
	const profile = "spawn-confined"
	c := helperCommand(t, "read-secret", secretFile)
	require.Equal(t, "unconfined <nil> good\n", outputOf(t, c))
	require.Equal(t, profile+" (enforce) <nil> refused\n", outputOf(t, helperCommand(t, "exec-apparmor", profile)), "in place of this process")
	withChanges(t, c, func(t *testing.T, c *Command) {
		require.Equal(t, profile+" (enforce) <nil> refused\n", outputOf(t, c.SetAppArmorProfile(profile)))
	})
	// A confined program may not choose another profile.
	out, err := helperCommand(t, "profile", "unconfined").SetAppArmorProfile(profile).CombinedOutput(context.Background())
	require.Error(t, err)
	step := `write(</proc/thread-self/attr/apparmor/exec>, "exec unconfined", 15) = 15: permission denied`
	require.Equal(t, 2, strings.Count(string(out), step), "alone and with another user: %s", out)

	for _, malformed := range []string{" ", " x", ":", "::", ":a:", ":a://"} {
		err := New("/bin/true").SetAppArmorProfile(malformed).Run(context.Background())
		require.ErrorIs(t, err, unix.EINVAL)
		require.ErrorContains(t, err, "SetAppArmorProfile: ")
	}
	require.ErrorIs(t, New("/bin/true").SetAppArmorProfile("spawn-none").Run(context.Background()), fs.ErrNotExist)
	// As the child would find.
	withoutCheck(t, 1)
	requireStartError(t, New("/bin/true").SetAppArmorProfile(" "), `write(</proc/thread-self/attr/apparmor/exec>, "exec  ", 6) = 6`, unix.EINVAL)
	requireStartError(t, New("/bin/true").SetAppArmorProfile("spawn-none"),
		`write(</proc/thread-self/attr/apparmor/exec>, "exec spawn-none", 15) = 15`, unix.ENOENT)
	require.ErrorContains(t, New("/bin/true").SetSELinuxLabel("x").Run(context.Background()), "does not run SELinux, but AppArmor")
}

// withoutCheck leaves it to the child to find out about labels of a module, as where this process may not ask.
func withoutCheck(t testing.TB, module int) {
	t.Cleanup(withoutLabelCheck(module))
}
