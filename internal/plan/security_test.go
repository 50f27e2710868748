//go:build linux

package plan_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"os/signal"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/syndtr/gocapability/capability"
	"github.com/virspawn/spawn"
	"github.com/virspawn/spawn/internal/command"
	"github.com/virspawn/spawn/internal/plan"
	"github.com/virspawn/spawn/internal/testkit"
	"golang.org/x/sys/unix"
)

func init() {
	testkit.Helpers["security-unprivileged"] = securityHelper(checkUnprivileged)
	testkit.Helpers["security-capability"] = securityHelper(checkWithoutSetuidCapability)
	testkit.Helpers["security-groups"] = securityHelper(checkGroupRules)
	testkit.Helpers["security-exact-groups"] = securityHelper(checkExactGroups)
	testkit.Helpers["security-window"] = securityHelper(checkMemoryOfChildren)
	testkit.Helpers["security-os-exec"] = securityHelper(checkOsExec)
	testkit.Helpers["security-signals"] = securityHelper(checkSignals)
	testkit.Helpers["security-signals-exec"] = securityHelper(execWithSignalsIgnored)
	testkit.Helpers["security-quit-storm"] = quitStorm
	testkit.Helpers["security-handlers"] = securityHelper(checkHandlers)
}

// maxID is the highest id that an int can hold.
const maxID = min(math.MaxInt, math.MaxUint32-1)

// securityHelper makes a helper of a check that needs a process of its own.
func securityHelper(check func() error) func([]string) int {
	return func([]string) int {
		if err := check(); err != nil {
			fmt.Println(err)
			return 1
		}
		return 0
	}
}

// runSecurityHelper runs a helper, perhaps after changes to its command.
func runSecurityHelper(t *testing.T, name string, change ...func(*spawn.Command)) {
	t.Helper()
	t.Setenv("GORACE", "atexit_sleep_ms=0")
	c := testkit.HelperCommand(t, name)
	for _, f := range change {
		f(c)
	}
	out, err := c.CombinedOutput(context.Background())
	require.NoError(t, err, "%.3000s", out)
}

func requireStatus(t testing.TB, c *spawn.Command, want map[string]string) {
	t.Helper()
	got, err := testkit.StatusOf(c)
	require.NoError(t, err)
	for name, value := range want {
		require.Equal(t, value, got[name], "%s of %s", name, c)
	}
}

// requireStartError checks that a command cannot be started because of
// this step.
func requireStartError(t testing.TB, c *spawn.Command, op string, errno error) {
	t.Helper()
	require.NoError(t, startErrorIs(c, op, errno))
}

func startErrorIs(c *spawn.Command, op string, errno error) error {
	for name, run := range map[string]func() error{
		"Run":   func() error { return c.Run(context.Background()) },
		"Start": func() error { _, err := c.Start(context.Background()); return err },
	} {
		err := run()
		var start *spawn.StartError
		if !errors.As(err, &start) || start.Op != op || !errors.Is(err, errno) {
			return fmt.Errorf("%s: %v; want %s: %w", name, err, op, errno)
		}
	}
	return nil
}

func TestUmaskIsTheProgramsAndNotThisProcesss(t *testing.T) {
	testkit.CheckLeaks(t)
	before := unix.Umask(0o31)
	defer unix.Umask(before)
	requireStatus(t, testkit.CatStatus(), map[string]string{"Umask": "0031"})
	requireStatus(t, testkit.CatStatus().SetUmask(0o27), map[string]string{"Umask": "0027"})
	requireStatus(t, testkit.CatStatus().SetUmask(0), map[string]string{"Umask": "0000"})
	requireStatus(t, testkit.CatStatus().SetUmask(0o777), map[string]string{"Umask": "0777"})
	require.Equal(t, 0o31, unix.Umask(0o31))
}

// limitRows are the resources, as /proc/PID/limits names them, with limits to
// set that most systems allow.
var limitRows = []struct {
	resource   int
	name       string
	soft, hard uint64
}{
	{unix.RLIMIT_CPU, "Max cpu time", 1000, 2000},
	{unix.RLIMIT_FSIZE, "Max file size", 1 << 30, 1 << 31},
	{unix.RLIMIT_DATA, "Max data size", 1 << 34, 1 << 35},
	{unix.RLIMIT_STACK, "Max stack size", 4 << 20, 6 << 20},
	{unix.RLIMIT_CORE, "Max core file size", 1 << 20, 1 << 21},
	{unix.RLIMIT_RSS, "Max resident set", 1 << 30, 1 << 31},
	{unix.RLIMIT_NPROC, "Max processes", 20000, 30000},
	{unix.RLIMIT_NOFILE, "Max open files", 300, 400},
	{unix.RLIMIT_MEMLOCK, "Max locked memory", 1 << 16, 1 << 17},
	{unix.RLIMIT_AS, "Max address space", 1 << 34, 1 << 35},
	{unix.RLIMIT_LOCKS, "Max file locks", 100, 200},
	{unix.RLIMIT_SIGPENDING, "Max pending signals", 110, 220},
	{unix.RLIMIT_MSGQUEUE, "Max msgqueue size", 4096, 8192},
	{unix.RLIMIT_NICE, "Max nice priority", 5, 10},
	{unix.RLIMIT_RTPRIO, "Max realtime priority", 6, 12},
	{unix.RLIMIT_RTTIME, "Max realtime timeout", 1000000, 2000000},
}

// limitsOf runs a command that prints its own limits and returns soft and hard
// by name.
func limitsOf(t testing.TB, change func(*spawn.Command)) map[string]string {
	t.Helper()
	c := spawn.New("/bin/cat", "/proc/self/limits")
	change(c)
	out, err := c.Output(context.Background())
	require.NoError(t, err)
	limits := map[string]string{}
	for _, row := range limitRows {
		_, rest, ok := strings.Cut(string(out), "\n"+row.name)
		require.True(t, ok, row.name)
		values := strings.Fields(rest)
		limits[row.name] = values[0] + " " + values[1]
	}
	return limits
}

func TestEveryLimitReachesTheProgram(t *testing.T) {
	testkit.CheckLeaks(t)
	want := map[string]string{}
	var before [16]unix.Rlimit
	got := limitsOf(t, func(c *spawn.Command) {
		for _, row := range limitRows {
			require.NoError(t, unix.Getrlimit(row.resource, &before[row.resource]))
			have := before[row.resource].Max
			soft, hard := min(row.soft, have), min(row.hard, have)
			want[row.name] = fmt.Sprintf("%d %d", soft, hard)
			// The last call counts.
			c.SetRlimit(row.resource, 0, 0).SetRlimit(row.resource, soft, hard)
		}
	})
	require.Len(t, want, 16)
	require.Equal(t, want, got)
	for resource, l := range before {
		var now unix.Rlimit
		require.NoError(t, unix.Getrlimit(resource, &now))
		require.Equal(t, l, now, "this process's own")
	}
}

func TestUnlimitedIsNoLimit(t *testing.T) {
	testkit.CheckLeaks(t)
	unlimited := 0
	for _, row := range limitRows {
		var l unix.Rlimit
		require.NoError(t, unix.Getrlimit(row.resource, &l))
		if l.Max == spawn.Unlimited {
			got := limitsOf(t, func(c *spawn.Command) { c.SetRlimit(row.resource, spawn.Unlimited, spawn.Unlimited) })
			require.Equal(t, "unlimited unlimited", got[row.name])
			unlimited++
		}
	}
	if unlimited == 0 {
		t.Skip("every hard limit of this process is finite")
	}
}

func TestTheShortFormsSetBothLimits(t *testing.T) {
	testkit.CheckLeaks(t)
	got := limitsOf(t, func(c *spawn.Command) { c.SetMaxFiles(50).SetMaxProcesses(60).SetMaxMemLock(8192).SetMaxCoreSize(0) })
	require.Equal(t, "50 50", got["Max open files"])
	require.Equal(t, "60 60", got["Max processes"])
	require.Equal(t, "8192 8192", got["Max locked memory"])
	require.Equal(t, "0 0", got["Max core file size"])
}

// hasCapability reports whether this thread has an effective capability.
func hasCapability(n uint) (bool, error) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	err := unix.Capget(&header, &data[0])
	return data[n/32].Effective&(1<<(n%32)) != 0, err
}

// aboveHard returns a limit of descriptors above this process's hard one, and
// the call that sets it.
func aboveHard() (limit uint64, op string, err error) {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		return 0, "", err
	}
	return l.Max + 1, fmt.Sprintf("prlimit64(0, RLIMIT_NOFILE, {soft=100, hard=%d}, NULL)", l.Max+1), nil
}

func TestALimitAboveTheHardOneNeedsCapSysResource(t *testing.T) {
	testkit.CheckLeaks(t)
	limit, op, err := aboveHard()
	require.NoError(t, err)
	privileged, err := hasCapability(unix.CAP_SYS_RESOURCE)
	require.NoError(t, err)
	if !privileged {
		requireStartError(t, spawn.New("/bin/true").SetRlimit(unix.RLIMIT_NOFILE, 100, limit), op, unix.EPERM)
		return
	}
	got := limitsOf(t, func(c *spawn.Command) { c.SetRlimit(unix.RLIMIT_NOFILE, 100, limit) })
	require.Equal(t, fmt.Sprintf("100 %d", limit), got["Max open files"])
}

func TestChangedIdsAreAllChanged(t *testing.T) {
	testkit.CheckLeaks(t)
	testkit.NeedsRoot(t, "to change ids")
	four := func(id int) string { s := strconv.Itoa(id); return strings.Join([]string{s, s, s, s}, " ") }
	for _, x := range []struct {
		c    *spawn.Command
		want map[string]string
	}{
		{testkit.CatStatus().SetUID(testkit.Nobody).SetGID(os.Getgid()), map[string]string{"Uid": four(testkit.Nobody), "Gid": four(os.Getgid()), "Groups": ""}},
		{testkit.CatStatus().SetGID(7), map[string]string{"Uid": four(0), "Gid": four(7), "Groups": ""}},
		{testkit.CatStatus().SetUID(5).SetGID(7), map[string]string{"Uid": four(5), "Gid": four(7), "Groups": ""}},
		{testkit.CatStatus().SetGroups(3, 1, 2), map[string]string{"Uid": four(0), "Gid": four(os.Getgid()), "Groups": "1 2 3"}},
		{testkit.CatStatus().SetGroups(), map[string]string{"Uid": four(0), "Groups": ""}},
		{testkit.CatStatus().SetGroups(9, 8).SetUID(5).SetGID(7), map[string]string{"Uid": four(5), "Gid": four(7), "Groups": "8 9"}},
		// The ids are not 0, 7 and 9, as 16-bit calls would have it.
		{testkit.CatStatus().SetUID(1 << 16).SetGID(1<<16 + 7).SetGroups(1<<17 + 9),
			map[string]string{"Uid": four(1 << 16), "Gid": four(1<<16 + 7), "Groups": strconv.Itoa(1<<17 + 9)}},
		{testkit.CatStatus().SetUID(maxID).SetGID(maxID), map[string]string{"Uid": four(maxID), "Gid": four(maxID)}},
	} {
		requireStatus(t, x.c, x.want)
		x.want["CapEff"] = strings.Repeat("0", 16)
		if x.want["Uid"] != four(0) {
			requireStatus(t, x.c, x.want)
		}
	}
	p := testkit.Live(t, testkit.Waiting().SetUID(5).SetGID(7).SetGroups(8))
	defer testkit.Stop(t, p)
	got := testkit.ParseStatus(testkit.ReadProc(t, p.PID(), "status"))
	require.Equal(t, []string{four(5), four(7), "8"}, []string{got["Uid"], got["Gid"], got["Groups"]})
	require.Equal(t, 0, os.Getuid(), "this process's own")
	require.Equal(t, 0, os.Geteuid())
}

// A child of root that keeps group 0 may read what only root's group may.
func TestAnotherUidNeedsAGid(t *testing.T) {
	testkit.CheckLeaks(t)
	const text = "spawn: SetUID: without SetGID or SetUser the program would keep this process's group; SetGID(os.Getgid()) says that it is meant"
	own, other := os.Getuid(), os.Getuid()+1
	for _, c := range []*spawn.Command{
		spawn.New("/bin/true").SetUID(other),
		spawn.New("/bin/true").SetUID(own).SetUID(other),
		spawn.New("/bin/true").SetUID(other).SetGroups(),
	} {
		_, explainErr := c.Explain()
		_, execErr := testkit.Planned(c, plan.InPlace)
		for _, err := range []error{c.Run(context.Background()), explainErr, testkit.Public(execErr), c.Run(testkit.Dry(testkit.Says("", "", 0)))} {
			require.ErrorAs(t, err, new(*spawn.CallError))
			require.EqualError(t, err, text)
		}
	}
	for _, c := range []*spawn.Command{
		spawn.New("/bin/true").SetUID(own),
		spawn.New("/bin/true").SetUID(other).SetGID(os.Getgid()),
		spawn.New("/bin/true").SetGID(os.Getgid()).SetUID(other),
		spawn.New("/bin/true").SetUser("root"),
	} {
		_, err := c.Explain()
		require.NoError(t, err)
		require.NoError(t, c.Run(testkit.Dry(testkit.Says("", "", 0))))
	}
}

func TestSupplementaryGroupsGoWhenTheUserOrGroupChanges(t *testing.T) {
	testkit.CheckLeaks(t)
	testkit.NeedsRoot(t, "to give a process supplementary groups")
	runSecurityHelper(t, "security-groups", func(c *spawn.Command) { c.SetGroups(10, 20) })
}

func checkGroupRules() error {
	for _, x := range []struct {
		c    *spawn.Command
		want string
	}{
		{testkit.CatStatus(), "10 20"},
		{testkit.CatStatus().SetUID(os.Getuid()).SetGID(os.Getgid()), "10 20"},
		{testkit.CatStatus().SetUID(os.Getuid()), "10 20"},
		{testkit.CatStatus().SetGID(os.Getgid()), "10 20"},
		{testkit.CatStatus().SetUID(testkit.Nobody).SetGID(os.Getgid()), ""},
		{testkit.CatStatus().SetGID(testkit.Nobody), ""},
		{testkit.CatStatus().SetUID(os.Getuid()).SetGID(testkit.Nobody), ""},
		{testkit.CatStatus().SetUID(os.Getuid()).SetGroups(), ""},
		{testkit.CatStatus().SetUID(testkit.Nobody).SetGID(os.Getgid()).SetGroups(5), "5"},
	} {
		got, err := testkit.StatusOf(x.c)
		if err != nil {
			return err
		}
		if got["Groups"] != x.want {
			text, _ := x.c.Explain()
			return fmt.Errorf("groups %q, want %q, of\n%s", got["Groups"], x.want, text)
		}
	}
	return nil
}

// userWithGroups returns a user that is a member of further groups.
func userWithGroups(t testing.TB) *user.User {
	groups, err := os.ReadFile("/etc/group")
	if err != nil {
		t.Skipf("no list of groups: %v", err)
	}
	for _, line := range strings.Split(string(groups), "\n") {
		fields := strings.Split(line, ":")
		if len(fields) < 4 {
			continue
		}
		for _, name := range strings.Split(fields[3], ",") {
			if u, err := user.Lookup(name); err == nil && u.Uid != "0" {
				return u
			}
		}
	}
	t.Skip("no user here is a member of further groups")
	return nil
}

func TestSetUserTakesIdsAndGroupsFromTheUserDatabase(t *testing.T) {
	testkit.CheckLeaks(t)
	testkit.NeedsRoot(t, "to change ids")
	u := userWithGroups(t)
	names, err := u.GroupIds()
	require.NoError(t, err)
	var gids []int
	for _, s := range append(names, u.Gid) {
		gid, err := strconv.Atoi(s)
		require.NoError(t, err)
		gids = append(gids, gid)
	}
	slices.Sort(gids)
	groups := strings.Trim(fmt.Sprint(slices.Compact(gids)), "[]")
	require.Contains(t, groups, " ", "more than one")

	four := func(id string) string { return strings.Join([]string{id, id, id, id}, " ") }
	want := map[string]string{"Uid": four(u.Uid), "Gid": four(u.Gid), "Groups": groups}
	requireStatus(t, testkit.CatStatus().SetUser(u.Username), want)
	requireStatus(t, testkit.CatStatus().SetUser(u.Uid), want)
	want["Groups"] = "7"
	requireStatus(t, testkit.CatStatus().SetUser(u.Username).SetGroups(7), want)
}

func TestSetUserTakesANumberWithoutAnEntryForAUid(t *testing.T) {
	testkit.CheckLeaks(t)
	testkit.NeedsRoot(t, "to change ids")
	const free = "1999999999"
	_, err := user.LookupId(free)
	require.ErrorAs(t, err, new(user.UnknownUserIdError))
	if strconv.IntSize == 32 {
		t.Skip("needs an int that holds the uid")
	}
	four := func(id string) string { return strings.Join([]string{id, id, id, id}, " ") }
	want := map[string]string{"Uid": four(free), "Gid": four("7"), "Groups": ""}
	requireStatus(t, testkit.CatStatus().SetUser(free).SetGID(7), want)
	requireStatus(t, testkit.CatStatus().SetGID(7).SetUser(free), want)
	requireStatus(t, testkit.CatStatus().SetUser("root").SetUser(free).SetGID(7), want)
	requireStatus(t, testkit.CatStatus().SetUser("root").SetGID(7).SetUser(free), want)
	want["Groups"] = "8"
	requireStatus(t, testkit.CatStatus().SetUser("root").SetGroups(8).SetGID(7).SetUser(free), want)

	for _, c := range []*spawn.Command{spawn.New("/bin/true").SetUser(free), spawn.New("/bin/true").SetUser("root").SetUser(free)} {
		require.ErrorContains(t, c.Run(context.Background()), "spawn: SetUID: ", "the gid is this process's, and not root's")
	}
	for name, text := range map[string]string{
		"no such user": "SetUser: user: unknown user no such user",
		"+5":           "SetUser: user: unknown user +5",
		"-1":           "SetUser: user: unknown user -1",
		"4294967295":   "SetUser: the uid 4294967295 is not in 0 to 4294967294",
	} {
		require.ErrorContains(t, spawn.New("/bin/true").SetUser(name).SetGID(7).Run(context.Background()), text)
	}
}

func TestAnUnprivilegedProcessCanKeepItsIdsAndNothingElse(t *testing.T) {
	testkit.CheckLeaks(t)
	runSecurityHelper(t, "security-unprivileged")
}

// becomeNobody gives up root, in every thread, with these groups.
func becomeNobody(groups ...int) error {
	if os.Geteuid() != 0 {
		return nil
	}
	if err := errors.Join(syscall.Setgroups(groups), syscall.Setgid(testkit.Nobody), syscall.Setuid(testkit.Nobody)); err != nil {
		return err
	}
	return unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0)
}

func checkUnprivileged() error {
	if err := becomeNobody(); err != nil {
		return err
	}
	uid, gid := os.Getuid(), os.Getgid()
	before, err := testkit.StatusOf(testkit.CatStatus())
	if err != nil {
		return err
	}
	for _, c := range []*spawn.Command{testkit.CatStatus().SetUID(uid), testkit.CatStatus().SetGID(gid), testkit.CatStatus().SetUID(uid).SetGID(gid)} {
		got, err := testkit.StatusOf(c)
		if err != nil {
			return err
		}
		for _, name := range []string{"Uid", "Gid", "Groups"} {
			if got[name] != before[name] {
				return fmt.Errorf("%s is %s, was %s", name, got[name], before[name])
			}
		}
	}
	limit, op, err := aboveHard()
	if err != nil {
		return err
	}
	other := spawn.New("/bin/true")
	own, err := os.Getgroups()
	if err != nil {
		return err
	}
	var exactGroups error
	if !slices.Contains(own, gid) {
		// which is not among those that it has to keep
		exactGroups = startErrorIs(other.Clone().SetGroups(append(own, gid)...), fmt.Sprintf("setgroups(%d, [%s])", len(own)+1,
			strings.Trim(strings.ReplaceAll(fmt.Sprint(append(own, gid)), " ", ", "), "[]")), unix.EPERM)
	}
	var ownUser error
	if u, err := user.LookupId(strconv.Itoa(uid)); err == nil && len(own) == 0 {
		if groups, err := u.GroupIds(); err == nil && slices.Equal(groups, []string{strconv.Itoa(gid)}) {
			ownUser = other.Clone().SetUser(u.Username).Run(context.Background())
		}
	}
	return errors.Join(
		ownUser,
		other.Clone().SetGroups(own...).Run(context.Background()),
		other.Clone().SetUID(uid).SetGID(gid).SetGroups(append(own, own...)...).Run(context.Background()),
		keepsGroups(other.Clone().SetUID(uid).KeepGroups()),
		exactGroups,
		startErrorIs(other.Clone().SetUID(0).SetGID(gid), "setgroups(0, [])", unix.EPERM),
		startErrorIs(other.Clone().SetGID(0), "setgroups(0, [])", unix.EPERM),
		startErrorIs(other.Clone().SetGroups(1, gid), fmt.Sprintf("setgroups(2, [1, %d])", gid), unix.EPERM),
		startErrorIs(other.Clone().SetUser("root"), "setgroups(1, [0])", unix.EPERM),
		startErrorIs(other.Clone().SetRlimit(unix.RLIMIT_NOFILE, 100, limit), op, unix.EPERM),
	)
}

// keepsGroups checks that a command leaves the groups alone.
func keepsGroups(c *spawn.Command) error {
	text, err := c.Explain()
	if err == nil && strings.Contains(text, "setgroups(") {
		err = fmt.Errorf("KeepGroups:\n%s", text)
	}
	return err
}

// A daemon that is not root may change ids by its capabilities, as under
// systemd's AmbientCapabilities=. Its own group is among its supplementary ones
// too, as initgroups(3) has it.
func TestGroupsAreExactlyThoseAskedForWhoeverAsks(t *testing.T) {
	testkit.CheckLeaks(t)
	testkit.NeedsRoot(t, "to give a process capabilities")
	program := testkit.CopySelf(t)
	require.NoError(t, os.Chmod(program, 0o755))
	t.Setenv("GORACE", "atexit_sleep_ms=0")
	daemon := spawn.New(program, testkit.HelperPrefix+"security-exact-groups").SetUID(1000).SetGID(1000).SetGroups(1000).
		SetAmbientCaps(capability.CAP_SETUID, capability.CAP_SETGID)
	out, err := daemon.CombinedOutput(context.Background())
	require.NoError(t, err, "%s", out)
}

func checkExactGroups() error {
	others := func() *spawn.Command { return testkit.CatStatus().SetUID(2000).SetGID(2000) }
	var errs []error
	for _, x := range []struct {
		c    *spawn.Command
		want string
	}{
		{others(), ""},
		{others().SetGroups(), ""},
		{others().SetGroups(5), "5"},
		{others().SetGroups(1000), "1000"},
		{others().KeepGroups(), "1000"},
		{others().KeepGroups().SetGroups(), ""},
		{testkit.CatStatus().SetGID(2000).SetGroups(2000), "2000"},
		{testkit.CatStatus().SetGroups(), ""},
		{testkit.CatStatus().SetGroups(1000), "1000"},
		{testkit.CatStatus(), "1000"},
	} {
		got, err := testkit.StatusOf(x.c)
		if err == nil && got["Groups"] != x.want {
			text, _ := x.c.ClearEnv().Explain()
			err = fmt.Errorf("groups %q, want %q, of\n%s", got["Groups"], x.want, text)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func TestAMissingCapabilityIsAnErrorThatNamesTheStep(t *testing.T) {
	testkit.CheckLeaks(t)
	testkit.NeedsRoot(t, "to have the other capability")
	runSecurityHelper(t, "security-capability")
}

func checkWithoutSetuidCapability() error {
	// The capabilities are the thread's, and the child is cloned from it.
	runtime.LockOSThread()
	if err := dropCapability(unix.CAP_SETUID); err != nil {
		return err
	}
	if err := startErrorIs(spawn.New("/bin/true").SetUID(5).SetGID(os.Getgid()), "setresuid(5, 5, 5)", unix.EPERM); err != nil {
		return err
	}
	if err := spawn.New("/bin/true").SetUID(0).SetGID(7).SetGroups(8).Run(context.Background()); err != nil {
		return err
	}
	if err := dropCapability(unix.CAP_SETGID); err != nil {
		return err
	}
	return startErrorIs(spawn.New("/bin/true").SetUID(0).SetGID(7).SetGroups(8), "setgroups(1, [8])", unix.EPERM)
}

func dropCapability(n uint) error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return err
	}
	data[n/32].Effective &^= 1 << (n % 32)
	data[n/32].Permitted &^= 1 << (n % 32)
	return unix.Capset(&header, &data[0])
}

func TestTheDumpableFlagIsAsBefore(t *testing.T) {
	testkit.CheckLeaks(t)
	flag := testkit.DumpableFlag()
	defer func() { testkit.SetDumpableFlag(uintptr(flag)) }()
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	missing := filepath.Join(t.TempDir(), "missing")
	for _, before := range []int{1, 0} {
		testkit.SetDumpableFlag(uintptr(before))
		require.Equal(t, before, testkit.DumpableFlag())
		require.NoError(t, testkit.OtherIDs(spawn.New("/bin/true")).Run(context.Background()))
		require.Equal(t, before, testkit.DumpableFlag())

		var wg sync.WaitGroup
		errs := make(chan error, 1000)
		for i := range testkit.Rounds(200, 24) {
			wg.Add(1)
			go func() {
				defer wg.Done()
				ctx, c, fails := context.Background(), testkit.OtherIDs(spawn.New("/bin/true")), true
				switch i % 6 {
				case 0:
					c = testkit.OtherIDs(spawn.New(missing))
				case 1:
					c.SetWorkingDirectory(missing)
				case 2:
					ctx = ended
				case 3:
					var stop context.CancelFunc
					ctx, stop = context.WithCancel(ctx)
					go stop() // at any moment
					_ = c.Run(ctx)
					return
				default:
					fails = false
				}
				var err error
				if i%2 == 0 {
					err = c.Run(ctx)
				} else if p, startErr := c.Start(ctx); startErr != nil {
					err = startErr
				} else {
					err = p.Wait()
				}
				if (err != nil) != fails {
					errs <- fmt.Errorf("%d: %v", i, err)
				}
			}()
		}
		wg.Wait()
		close(errs)
		for err := range errs {
			require.NoError(t, err)
		}
		require.Equal(t, before, testkit.DumpableFlag())
	}
}

// TestAChildWithOtherIdsHasNothingOfThisProcess: it is held in the middle of
// its change, and this process's flag is never touched.
func TestAChildWithOtherIdsHasNothingOfThisProcess(t *testing.T) {
	if plan.HelperForced() || !plan.CanClone() {
		t.Skip("a helper has the executable of this process")
	}
	testkit.CheckLeaks(t)
	runSecurityHelper(t, "security-window")
}

// checkMemoryOfChildren holds children at their chdir, which comes after the
// change of ids, by a seccomp filter that asks this process what to do.
func checkMemoryOfChildren() error {
	runtime.LockOSThread() // the filter is this thread's and its children's
	listener, err := testkit.NotifyOf(unix.SYS_CHDIR)
	if err != nil {
		return err
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0); err != nil {
		return err
	}
	var all []capability.Cap
	for n := range capability.Cap(plan.LastCap() + 1) {
		all = append(all, n)
	}
	shares := !plan.CoreDumpEndsAll() && os.Getenv("SPAWN_EXECUTOR") == ""
	for _, x := range []struct {
		c      *spawn.Command
		shares bool // this process's memory, while the child is held
	}{
		{spawn.New("/bin/true").SetWorkingDirectory("/"), shares},
		{testkit.OtherIDs(spawn.New("/bin/true")).SetWorkingDirectory("/"), false},
		{spawn.New("/bin/true").SetUID(os.Getuid()).SetGID(os.Getgid()).SetWorkingDirectory("/"), false},
		{spawn.New("/bin/true").SetBoundingCaps(all...).SetWorkingDirectory("/"), false},
	} {
		for name, run := range map[string]func() error{
			"Run": func() error { return x.c.Run(context.Background()) },
			"Start": func() error {
				p, err := x.c.Start(context.Background())
				if err != nil {
					return err
				}
				return p.Wait()
			},
		} {
			held := make(chan error, 1)
			flag, maps := -1, ""
			var errOther error
			go func() {
				held <- testkit.Answer(listener, func(pid int) {
					// Another such child comes and goes.
					errOther = testkit.OtherIDs(spawn.New("/bin/true")).Run(context.Background())
					flag = testkit.DumpableFlag()
					// A copy has the same maps, and root may look at it.
					b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
					maps = string(b)
				})
			}()
			if err := run(); err != nil {
				return err
			}
			if err := errors.Join(<-held, errOther); err != nil {
				return err
			}
			if flag != 1 {
				return fmt.Errorf("%s: dumpable %d while the child is held", name, flag)
			}
			if got := testkit.DumpableFlag(); got != 1 {
				return fmt.Errorf("%s: dumpable %d afterwards", name, got)
			}
			if os.Getenv("SPAWN_EXECUTOR") != "copy" && os.Getuid() == 0 && strings.Contains(maps, os.Args[0]) != x.shares {
				return fmt.Errorf("%s: the child has mapped: %s", name, maps)
			}
		}
	}
	return nil
}

func TestOsExecLeavesTheDumpableFlagClearedWhereThisPackageDoesNot(t *testing.T) {
	testkit.CheckLeaks(t)
	testkit.NeedsRoot(t, "to change ids")
	runSecurityHelper(t, "security-os-exec")
}

func checkOsExec() error {
	if err := testkit.OtherIDs(spawn.New("/bin/true")).Run(context.Background()); err != nil {
		return err
	}
	if flag := testkit.DumpableFlag(); flag != 1 {
		return fmt.Errorf("dumpable %d after this package's child", flag)
	}
	cmd := exec.Command("/bin/true")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: testkit.Nobody, Gid: testkit.Nobody}}
	if err := cmd.Run(); err != nil {
		return err
	}
	if flag := testkit.DumpableFlag(); flag == 1 {
		return errors.New("dumpable after a child of os/exec: the comparison says nothing any more")
	}
	return nil
}

// groupAndSession returns the process group and the session of a process.
func groupAndSession(t testing.TB, pid int) (pgrp, session int) {
	t.Helper()
	s := string(testkit.ReadProc(t, pid, "stat"))
	// These are state, parent, group, session.
	fields := strings.Fields(s[strings.LastIndexByte(s, ')')+1:])
	pgrp, err := strconv.Atoi(fields[2])
	require.NoError(t, err)
	session, err = strconv.Atoi(fields[3])
	require.NoError(t, err)
	return pgrp, session
}

func TestSessionAndProcessGroup(t *testing.T) {
	testkit.CheckLeaks(t)
	pgrp, session := groupAndSession(t, os.Getpid())
	for name, x := range map[string]struct {
		c                    *spawn.Command
		ownGroup, ownSession bool
	}{
		"inherited":             {testkit.Waiting(), false, false},
		"SetProcessGroup":       {testkit.Waiting().SetProcessGroup(), true, false},
		"SetSession":            {testkit.Waiting().SetSession(), true, true},
		"both":                  {testkit.Waiting().SetSession().SetProcessGroup(), true, true},
		"KillGroup":             {testkit.Waiting().SetKillMode(spawn.KillGroup), true, false},
		"KillGroup and session": {testkit.Waiting().SetKillMode(spawn.KillGroup).SetSession(), true, true},
		"KillProcess":           {testkit.Waiting().SetKillMode(spawn.KillGroup).SetKillMode(spawn.KillProcess), false, false},
	} {
		p := testkit.Live(t, x.c)
		wantGroup, wantSession := pgrp, session
		if x.ownGroup {
			wantGroup = p.PID()
		}
		if x.ownSession {
			wantSession = p.PID()
		}
		gotGroup, gotSession := groupAndSession(t, p.PID())
		require.Equal(t, wantGroup, gotGroup, name)
		require.Equal(t, wantSession, gotSession, name)
		testkit.Stop(t, p)
	}
}

func TestTheWorkingDirectoryIsTheProgramsAndNotThisProcesss(t *testing.T) {
	testkit.CheckLeaks(t)
	dir, err := filepath.EvalSymlinks(t.TempDir())
	require.NoError(t, err)
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "a b", "c"), 0o755))
	t.Chdir(dir)
	for want, c := range map[string]*spawn.Command{
		dir:                       testkit.Waiting(),
		"/":                       testkit.Waiting().SetWorkingDirectory("/"),
		filepath.Join(dir, "a b"): testkit.Waiting().SetWorkingDirectory(filepath.Join(dir, "a b")),
		// Relative to the directory of this process.
		filepath.Join(dir, "a b", "c"): testkit.Waiting().SetWorkingDirectory("a b/../a b/c"),
	} {
		p := testkit.Live(t, c)
		got, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", p.PID()))
		require.NoError(t, err)
		require.Equal(t, want, got)
		testkit.Stop(t, p)
	}
	now, err := os.Getwd()
	require.NoError(t, err)
	require.Equal(t, dir, now)
}

func TestARelativeProgramIsTakenFromThisProcesssDirectory(t *testing.T) {
	testkit.CheckLeaks(t)
	dir := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "here", "bin"), 0o755))
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "there", "bin"), 0o755))
	require.NoError(t, os.Symlink("/bin/sh", filepath.Join(dir, "here", "bin", "sh")))
	require.NoError(t, os.Symlink("/bin/false", filepath.Join(dir, "there", "bin", "sh")))
	t.Chdir(filepath.Join(dir, "here"))
	out, err := spawn.New("bin/sh", "-c", "echo $0; cd bin; ls").Output(context.Background())
	require.NoError(t, err)
	require.Equal(t, "bin/sh\nsh\n", string(out))

	// os/exec would run the other one.
	for in, there := range map[string]string{
		filepath.Join(dir, "there"): filepath.Join(dir, "there", "bin", "sh"),
		"../there/":                 filepath.Join(dir, "here") + "/../there/bin/sh",
	} {
		c := spawn.New("bin/sh").SetWorkingDirectory(in)
		want := fmt.Sprintf("spawn: SetWorkingDirectory: the program \"bin/sh\" is relative, and could be %q or %q; give New an absolute path",
			filepath.Join(dir, "here", "bin", "sh"), there)
		_, explainErr := c.Explain()
		for _, err := range []error{c.Run(context.Background()), explainErr, c.Run(testkit.Dry(testkit.Says("", "", 0)))} {
			require.ErrorAs(t, err, new(*spawn.CallError))
			require.EqualError(t, err, want)
		}
	}
}

func TestABadWorkingDirectoryIsAnErrorThatNamesTheCall(t *testing.T) {
	testkit.CheckLeaks(t)
	dir := t.TempDir()
	missing, file := filepath.Join(dir, "missing"), filepath.Join(dir, "file")
	require.NoError(t, os.WriteFile(file, nil, 0o644))
	requireStartError(t, spawn.New("/bin/true").SetWorkingDirectory(missing), fmt.Sprintf("chdir(%q)", missing), unix.ENOENT)
	requireStartError(t, spawn.New("/bin/true").SetWorkingDirectory(file), fmt.Sprintf("chdir(%q)", file), unix.ENOTDIR)
}

func TestTheWorkingDirectoryIsEnteredAsTheNewUser(t *testing.T) {
	testkit.CheckLeaks(t)
	testkit.NeedsRoot(t, "to change ids")
	dir := t.TempDir() // below a directory that only root may enter
	require.NoError(t, spawn.New("/bin/true").SetWorkingDirectory(dir).Run(context.Background()))
	requireStartError(t, spawn.New("/bin/true").SetWorkingDirectory(dir).SetUID(testkit.Nobody).SetGID(testkit.Nobody), fmt.Sprintf("chdir(%q)", dir), unix.EACCES)
}

// quitStorm runs programs while all of its group get SIGQUIT, which it handles
// itself, over and over.
func quitStorm([]string) int {
	quit := make(chan os.Signal, 1)
	signal.Notify(quit, unix.SIGQUIT)
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		for {
			select {
			case <-stop:
				return
			case <-quit:
			default:
				_ = unix.Kill(0, unix.SIGQUIT)
				runtime.Gosched()
			}
		}
	}()
	ended := 0
	for range 50 {
		var exit *spawn.ExitError
		if err := spawn.New("/bin/true").SetMaxCoreSize(0).Run(context.Background()); errors.As(err, &exit) && exit.Status.Signal != 0 {
			ended++
		} else if err != nil {
			return testkit.Fail(err)
		}
	}
	fmt.Println(ended > 0)
	return 0
}

// TestACoreDumpBeforeTheProgramIsTheChildsAlone: until Linux 5.16 it ended all
// who shared the memory, unless that was not dumpable.
func TestACoreDumpBeforeTheProgramIsTheChildsAlone(t *testing.T) {
	if plan.HelperForced() || !plan.CanClone() {
		t.Skip("a helper is not in this process's memory")
	}
	testkit.CheckLeaks(t)
	require.Equal(t, "true\n", testkit.OutputOf(t, testkit.HelperCommand(t, "security-quit-storm").SetProcessGroup()))
}

func TestEverySignalHasItsDefaultDispositionAndNoneIsBlocked(t *testing.T) {
	testkit.CheckLeaks(t)
	runSecurityHelper(t, "security-signals")
}

// ignoreSignals ignores and blocks every signal, as far as Go knows them and as
// far as the kernel does.
func ignoreSignals() error {
	signal.Ignore()
	for n := syscall.Signal(1); n <= command.MaxSignal; n++ {
		// What would change how this process waits for its children is
		// for later.
		if n != unix.SIGCHLD {
			testkit.IgnoreSignal(n)
		}
	}
	testkit.ResetSignal(unix.SIGCHLD)
	runtime.LockOSThread() // and its children
	all := unix.Sigset_t{}
	for i := range all.Val {
		all.Val[i]--
	}
	if err := unix.PthreadSigmask(unix.SIG_SETMASK, &all, nil); err != nil {
		return err
	}
	ignored := 0
	for n := syscall.Signal(1); n <= command.MaxSignal; n++ {
		if testkit.IsIgnored(n) {
			ignored++
		}
	}
	if ignored < 60 {
		return fmt.Errorf("only %d signals are ignored", ignored)
	}
	return nil
}

func checkSignals() error {
	if err := ignoreSignals(); err != nil {
		return err
	}
	if err := allDefault(testkit.StatusOf(testkit.CatStatus())); err != nil {
		return err
	}
	// Not a shell, which may ignore signals itself.
	p, err := spawn.New("/bin/cat").PipeStdin().PipeStdout().Start(context.Background())
	if err != nil {
		return err
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID()))
	if err := errors.Join(allDefault(testkit.ParseStatus(b), err), testkit.StopLive(p)); err != nil {
		return err
	}

	// Who ignores SIGCHLD gets no status of children (waitid(2)). Their output
	// and signals are as ever.
	testkit.IgnoreSignal(unix.SIGCHLD)
	got, err := testkit.StatusOf(testkit.CatStatus())
	if !errors.Is(err, unix.ECHILD) {
		return fmt.Errorf("SIGCHLD is ignored: %w", err)
	}
	return allDefault(got, nil)
}

// allDefault checks the status of a process.
func allDefault(got map[string]string, err error) error {
	if err != nil {
		return err
	}
	for _, name := range []string{"SigIgn", "SigBlk", "SigPnd", "ShdPnd"} {
		if got[name] != strings.Repeat("0", 16) {
			return fmt.Errorf("%s is %s", name, got[name])
		}
	}
	return nil
}

func TestAProgramThatReplacesThisProcessHasDefaultSignalsToo(t *testing.T) {
	testkit.CheckLeaks(t)
	t.Setenv("GORACE", "atexit_sleep_ms=0")
	out, err := testkit.HelperCommand(t, "security-signals-exec").Output(context.Background())
	require.NoError(t, err, "%s", out)
	require.NoError(t, allDefault(testkit.ParseStatus(out), nil))
}

func execWithSignalsIgnored() error {
	if err := ignoreSignals(); err != nil {
		return err
	}
	testkit.IgnoreSignal(unix.SIGCHLD)
	return testkit.CatStatus().SetStdout(os.Stdout).Exec()
}

// TestNoHandlerOfThisProcessRunsInAChild sends signals to a process group all
// the time, while its leader, which has handlers for them, starts children.
// Were one run in a child, on the shared memory, the process would hardly
// survive it.
func TestNoHandlerOfThisProcessRunsInAChild(t *testing.T) {
	testkit.CheckLeaks(t)
	runSecurityHelper(t, "security-handlers", func(c *spawn.Command) {
		c.SetProcessGroup()
		if testing.Short() {
			c.AddEnvPassAllowSUID("GORACE").AddEnv("SPAWN_SHORT", "1")
		}
	})
}

func checkHandlers() error {
	caught := make(chan os.Signal, 1)
	// These are ignored by default, so the children survive them.
	signal.Notify(caught, unix.SIGWINCH, unix.SIGURG)
	n := 300
	if os.Getenv("SPAWN_SHORT") != "" {
		n = 40
	}
	stopSending, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stopSending:
				return
			case <-caught:
			default:
				_ = unix.Kill(0, unix.SIGWINCH)
				_ = unix.Kill(0, unix.SIGURG)
				runtime.Gosched()
			}
		}
	}()
	defer func() { close(stopSending); <-done }()
	for i := range n {
		c := spawn.New("/bin/true").SetUmask(0o22)
		if i%3 == 0 {
			testkit.OtherIDs(c)
		}
		if err := c.Run(context.Background()); err != nil {
			return err
		}
	}
	return nil
}
