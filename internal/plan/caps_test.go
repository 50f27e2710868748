//go:build linux

package plan_test

import (
	"context"
	"fmt"
	"math/bits"
	"os"
	"runtime"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/syndtr/gocapability/capability"
	"github.com/virspawn/spawn"
	"github.com/virspawn/spawn/internal/plan"
	"github.com/virspawn/spawn/internal/testkit"
	"golang.org/x/sys/unix"
)

// capsOf runs the command of testkit.CatStatus and returns the five sets.
func capsOf(t testing.TB, c *spawn.Command) (sets [5]uint64) {
	t.Helper()
	fields, err := testkit.StatusOf(c)
	require.NoError(t, err)
	for i, name := range []string{"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"} {
		sets[i], err = strconv.ParseUint(fields[name], 16, 64)
		require.NoError(t, err, name)
	}
	return sets
}

func TestClearCapsLeavesNone(t *testing.T) {
	testkit.NeedsRoot(t, "to empty the bounding set")
	require.Equal(t, [5]uint64{}, capsOf(t, testkit.CatStatus().ClearCaps()))
	require.Equal(t, [5]uint64{}, capsOf(t, testkit.CatStatus().ClearCaps().SetUID(testkit.Nobody).SetGID(testkit.Nobody)))
	require.Equal(t, [5]uint64{}, capsOf(t, testkit.CatStatus().AllowCap(capability.CAP_KILL).ClearCaps()))
}

// TestCapabilitiesInAUserNamespaceOfAProcessWithoutAFullBoundingSet: there the
// child begins with the full set, whatever its parent has.
func TestCapabilitiesInAUserNamespaceOfAProcessWithoutAFullBoundingSet(t *testing.T) {
	testkit.NeedsUserNamespaces(t)
	// As root of a user namespace, an ordinary user may limit the set too.
	c := testkit.HelperCommand(t, "caps-inside")
	if os.Geteuid() != 0 {
		inOwnUserNamespace(c)
	}
	var bounding []capability.Cap
	for n := range capability.Cap(plan.LastCap() + 1) {
		if n != capability.CAP_SYS_RESOURCE {
			bounding = append(bounding, n)
		}
	}
	t.Setenv("GORACE", "atexit_sleep_ms=0")
	out, err := c.SetBoundingCaps(bounding...).Output(context.Background())
	require.NoError(t, err)
	require.Equal(t, "good", string(out))
}

// inOwnUserNamespace makes the program root of a new user namespace.
func inOwnUserNamespace(c *spawn.Command) *spawn.Command {
	return c.SetNamespaces(spawn.UserNamespace).SetUIDMap(spawn.IDMap{ContainerID: 0, HostID: os.Geteuid(), Size: 1}).
		SetGIDMap(spawn.IDMap{ContainerID: 0, HostID: os.Getegid(), Size: 1})
}

func init() { testkit.Helpers["caps-inside"] = capsInside }

// capsInside, whose bounding set lacks something, limits those of programs in
// user namespaces.
func capsInside([]string) int {
	const setpcap = 1 << unix.CAP_SETPCAP
	host, err := inOwnUserNamespace(spawn.New("/bin/cat")).PipeStdin().Start(context.Background())
	if err != nil {
		return testkit.Fail(err)
	}
	defer host.Abort()
	f, err := os.Open("/proc/" + strconv.Itoa(host.PID()) + "/ns/user")
	if err != nil {
		return testkit.Fail(err)
	}
	enter := map[string]func(*spawn.Command) *spawn.Command{"new": inOwnUserNamespace}
	if plan.CanClone() && !plan.HelperForced() {
		enter["joined"] = func(c *spawn.Command) *spawn.Command {
			return c.JoinNamespace(spawn.UserNamespace, f).SetUID(0).SetGID(0).KeepGroups()
		}
	}
	for how, in := range enter {
		for name, change := range map[string]func(*spawn.Command) *spawn.Command{
			"ClearCaps":       (*spawn.Command).ClearCaps,
			"AllowCap":        func(c *spawn.Command) *spawn.Command { return c.AllowCap(capability.CAP_SETPCAP) },
			"SetBoundingCaps": func(c *spawn.Command) *spawn.Command { return c.SetBoundingCaps(capability.CAP_SETPCAP) },
		} {
			fields, err := testkit.StatusOf(change(in(testkit.CatStatus())))
			want := fmt.Sprintf("%016x", setpcap)
			if name == "ClearCaps" {
				want = fmt.Sprintf("%016x", 0)
			}
			if err != nil || fields["CapBnd"] != want || fields["CapPrm"] != want {
				return testkit.Fail(fmt.Errorf("%s, %s: %w, bounding %s, permitted %s, and not %s", how, name, err, fields["CapBnd"], fields["CapPrm"], want))
			}
		}
	}
	fmt.Print("good")
	return 0
}

// hookStatus prints the status of the thread on which a hook runs.
var hookStatus = spawn.RegisterHook("status", func(string) error {
	b, err := os.ReadFile("/proc/thread-self/status")
	if err == nil {
		_, err = os.Stdout.Write(b)
	}
	return err
})

// TestAHookHasTheEffectiveCapabilitiesOfItsParent: execve of a helper makes all
// that are permitted effective.
func TestAHookHasTheEffectiveCapabilitiesOfItsParent(t *testing.T) {
	c := testkit.HelperCommand(t, "caps-lowered")
	if os.Geteuid() != 0 {
		testkit.NeedsUserNamespaces(t)
		inOwnUserNamespace(c)
	}
	t.Setenv("GORACE", "atexit_sleep_ms=0")
	out, err := c.Output(context.Background())
	require.NoError(t, err)
	require.Equal(t, "good", string(out))
}

func init() { testkit.Helpers["caps-lowered"] = capsLowered }

// capsLowered makes a hook run when this thread has permitted capabilities that
// are not effective, and compares the two.
func capsLowered([]string) int {
	runtime.LockOSThread()
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return testkit.Fail(err)
	}
	data[0].Effective &^= 1<<unix.CAP_CHOWN | 1<<unix.CAP_DAC_OVERRIDE
	if err := unix.Capset(&header, &data[0]); err != nil {
		return testkit.Fail(err)
	}
	own, err := os.ReadFile("/proc/thread-self/status")
	if err != nil {
		return testkit.Fail(err)
	}
	out, err := spawn.New("/bin/true").SetPreExecHook(hookStatus, "").Output(context.Background())
	if err != nil {
		return testkit.Fail(err)
	}
	want, got := testkit.ParseStatus(own), testkit.ParseStatus(out)
	for _, set := range []string{"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"} {
		if got[set] != want[set] {
			return testkit.Fail(fmt.Errorf("%s of the hook is %s, and here %s", set, got[set], want[set]))
		}
	}
	fmt.Print("good")
	return 0
}

func TestAllowCapKeepsExactlyTheNamedOnes(t *testing.T) {
	testkit.NeedsRoot(t, "to have capabilities")
	const want = 1<<unix.CAP_NET_RAW | 1<<unix.CAP_CHOWN
	for name, change := range map[string]func(*spawn.Command) *spawn.Command{
		"root":         func(c *spawn.Command) *spawn.Command { return c },
		"another user": func(c *spawn.Command) *spawn.Command { return c.SetUID(testkit.Nobody).SetGID(testkit.Nobody) },
		"with SetNoNewPrivs": func(c *spawn.Command) *spawn.Command {
			return c.SetUID(testkit.Nobody).SetGID(testkit.Nobody).SetNoNewPrivs()
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := change(testkit.CatStatus().AllowCap(capability.CAP_NET_RAW).AllowCap(capability.CAP_CHOWN))
			require.Equal(t, [5]uint64{want, want, want, want, want}, capsOf(t, c))
		})
	}
}

func TestTheBoundingSetAloneCanBeLimited(t *testing.T) {
	testkit.NeedsRoot(t, "to limit the bounding set")
	sets := capsOf(t, testkit.CatStatus().SetBoundingCaps(capability.CAP_KILL).SetUID(testkit.Nobody).SetGID(testkit.Nobody))
	require.Equal(t, [5]uint64{0, 0, 0, 1 << unix.CAP_KILL, 0}, sets)
	// Root gets what the bounding set allows.
	require.Equal(t, uint64(1<<unix.CAP_KILL), capsOf(t, testkit.CatStatus().SetBoundingCaps(capability.CAP_KILL))[1])
}

func TestAmbientCapsReachAnOrdinaryUser(t *testing.T) {
	testkit.NeedsRoot(t, "to have capabilities")
	const want = 1 << unix.CAP_NET_RAW
	before := capsOf(t, testkit.CatStatus())
	sets := capsOf(t, testkit.CatStatus().SetAmbientCaps(capability.CAP_NET_RAW).SetUID(testkit.Nobody).SetGID(testkit.Nobody))
	require.Equal(t, [5]uint64{want, want, want, before[3], want}, sets)
	sets = capsOf(t, testkit.CatStatus().AllowCap(capability.CAP_NET_RAW, capability.CAP_KILL).SetAmbientCaps(capability.CAP_NET_RAW).SetUID(testkit.Nobody).SetGID(testkit.Nobody))
	require.Equal(t, uint64(want), sets[4])
	require.Equal(t, uint64(want), sets[2])
}

func TestSecurebitsAreTheProgramsOwn(t *testing.T) {
	testkit.NeedsRoot(t, "to set securebits")
	t.Setenv("GORACE", "atexit_sleep_ms=0")
	program := testkit.CopySelf(t)
	require.NoError(t, unix.Chmod(program, 0o755))
	for name, change := range map[string]func(*spawn.Command) *spawn.Command{
		"alone":             func(c *spawn.Command) *spawn.Command { return c },
		"with capabilities": func(c *spawn.Command) *spawn.Command { return c.AllowCap(capability.CAP_KILL) },
		"with another user": func(c *spawn.Command) *spawn.Command { return c.SetUID(testkit.Nobody).SetGID(testkit.Nobody) },
		"with both": func(c *spawn.Command) *spawn.Command {
			return c.AllowCap(capability.CAP_SETPCAP).SetUID(testkit.Nobody).SetGID(testkit.Nobody)
		},
	} {
		t.Run(name, func(t *testing.T) {
			const bits = 1<<0 | 1<<2 // SECBIT_NOROOT, SECBIT_NO_SETUID_FIXUP
			out, err := change(spawn.New(program, testkit.HelperPrefix+"securebits")).SetSecurebits(bits).Output(context.Background())
			require.NoError(t, err)
			require.Equal(t, strconv.Itoa(bits), string(out))
		})
	}
	own, err := unix.PrctlRetInt(unix.PR_GET_SECUREBITS, 0, 0, 0, 0)
	require.NoError(t, err)
	require.Zero(t, own)
}

func init() {
	testkit.Helpers["securebits"] = func([]string) int {
		n, _ := unix.PrctlRetInt(unix.PR_GET_SECUREBITS, 0, 0, 0, 0)
		fmt.Print(n)
		return 0
	}
}

func TestCapabilitiesThatCannotBeHadAreErrors(t *testing.T) {
	testkit.CheckLeaks(t)
	last := capability.Cap(plan.LastCap())
	for want, c := range map[string]*spawn.Command{
		"AllowCap: -1 is not a capability":                        spawn.New("x").AllowCap(-1),
		"SetBoundingCaps: 64 is not a capability":                 spawn.New("x").SetBoundingCaps(64),
		"AllowCap: the kernel does not know":                      spawn.New("/bin/true").AllowCap(last + 1),
		"SetAmbientCaps: the kernel does not know":                spawn.New("/bin/true").SetAmbientCaps(63),
		"SetAmbientCaps: CAP_KILL is not among those of AllowCap": spawn.New("/bin/true").AllowCap(capability.CAP_CHOWN).SetAmbientCaps(capability.CAP_KILL),
		"SetSecurebits: 0x100 are no securebits":                  spawn.New("x").SetSecurebits(0x100),
	} {
		require.ErrorContains(t, c.Run(context.Background()), want)
	}
	if os.Geteuid() != 0 {
		var start *spawn.StartError
		require.ErrorAs(t, spawn.New("/bin/true").ClearCaps().Run(context.Background()), &start)
		require.Equal(t, "prctl(PR_CAPBSET_DROP, CAP_CHOWN)", start.Op)
		require.ErrorIs(t, start, unix.EPERM)
		require.ErrorAs(t, spawn.New("/bin/true").SetAmbientCaps(capability.CAP_KILL).Run(context.Background()), &start)
		require.Contains(t, start.Op, "inheritable=CAP_KILL")
		require.ErrorIs(t, start, unix.EPERM)
	}
}

func TestACapabilityWorksByItsNumber(t *testing.T) {
	testkit.NeedsRoot(t, "to have capabilities")
	own, _ := plan.OwnCaps()
	n := bits.Len64(own) - 1
	require.Equal(t, uint64(1)<<n, capsOf(t, testkit.CatStatus().AllowCap(capability.Cap(n)))[1])
}

func TestExplainShowsCapabilities(t *testing.T) {
	text, err := spawn.New("/bin/true").AllowCap(capability.CAP_NET_RAW).SetUID(os.Getuid()).SetNoNewPrivs().SetSecurebits(1).Explain()
	require.NoError(t, err)
	for _, want := range []string{
		"prctl(PR_SET_KEEPCAPS, 1)",
		"capset({version=_LINUX_CAPABILITY_VERSION_3, pid=0}, {effective=CAP_NET_RAW, permitted=CAP_NET_RAW, inheritable=CAP_NET_RAW})",
		"prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)\nprctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_NET_RAW)",
		"prctl(PR_SET_SECUREBITS, SECBIT_NOROOT)",
		"prctl(PR_SET_NO_NEW_PRIVS, 1)",
	} {
		require.Contains(t, text, want)
	}
}
