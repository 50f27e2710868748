package spawn

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
	"golang.org/x/sys/unix"
)

func init() {
	helpers["security-unprivileged"] = securityHelper(checkUnprivileged)
	helpers["security-capability"] = securityHelper(checkWithoutSetuidCapability)
	helpers["security-groups"] = securityHelper(checkGroupRules)
	helpers["security-window"] = securityHelper(checkDumpableWindow)
	helpers["security-os-exec"] = securityHelper(checkOsExec)
	helpers["security-signals"] = securityHelper(checkSignals)
	helpers["security-signals-exec"] = securityHelper(execWithSignalsIgnored)
	helpers["security-quit-storm"] = quitStorm
	helpers["security-handlers"] = securityHelper(checkHandlers)
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
func runSecurityHelper(t *testing.T, name string, change ...func(*Command)) {
	t.Helper()
	t.Setenv("GORACE", "atexit_sleep_ms=0")
	c := helperCommand(t, name)
	for _, f := range change {
		f(c)
	}
	out, err := c.CombinedOutput(context.Background())
	require.NoError(t, err, "%.3000s", out)
}

func requireStatus(t testing.TB, c *Command, want map[string]string) {
	t.Helper()
	got, err := statusOf(c)
	require.NoError(t, err)
	for name, value := range want {
		require.Equal(t, value, got[name], "%s of %s", name, c)
	}
}

// requireStartError checks that a command cannot be started because of this step.
func requireStartError(t testing.TB, c *Command, op string, errno error) {
	t.Helper()
	require.NoError(t, startErrorIs(c, op, errno))
}

func startErrorIs(c *Command, op string, errno error) error {
	for name, run := range map[string]func() error{
		"Run":   func() error { return c.Run(context.Background()) },
		"Start": func() error { _, err := c.Start(context.Background()); return err },
	} {
		err := run()
		var start *StartError
		if !errors.As(err, &start) || start.Op != op || !errors.Is(err, errno) {
			return fmt.Errorf("%s: %v; want %s: %w", name, err, op, errno)
		}
	}
	return nil
}

func TestUmaskIsTheProgramsAndNotThisProcesss(t *testing.T) {
	checkLeaks(t)
	before := unix.Umask(0o31)
	defer unix.Umask(before)
	requireStatus(t, catStatus(), map[string]string{"Umask": "0031"})
	requireStatus(t, catStatus().SetUmask(0o27), map[string]string{"Umask": "0027"})
	requireStatus(t, catStatus().SetUmask(0), map[string]string{"Umask": "0000"})
	requireStatus(t, catStatus().SetUmask(0o777), map[string]string{"Umask": "0777"})
	require.Equal(t, 0o31, unix.Umask(0o31))
}

// limitRows are the resources, as /proc/PID/limits names them, with limits to set that most systems allow.
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

// limitsOf runs a command that prints its own limits and returns soft and hard by name.
func limitsOf(t testing.TB, change func(*Command)) map[string]string {
	t.Helper()
	c := New("/bin/cat", "/proc/self/limits")
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
	checkLeaks(t)
	want := map[string]string{}
	var before [16]unix.Rlimit
	got := limitsOf(t, func(c *Command) {
		for _, row := range limitRows {
			require.NoError(t, unix.Getrlimit(row.resource, &before[row.resource]))
			have := before[row.resource].Max
			soft, hard := min(row.soft, have), min(row.hard, have)
			want[row.name] = fmt.Sprintf("%d %d", soft, hard)
			c.SetRlimit(row.resource, 0, 0).SetRlimit(row.resource, soft, hard) // the last call counts
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
	checkLeaks(t)
	unlimited := 0
	for _, row := range limitRows {
		var l unix.Rlimit
		require.NoError(t, unix.Getrlimit(row.resource, &l))
		if l.Max == Unlimited {
			got := limitsOf(t, func(c *Command) { c.SetRlimit(row.resource, Unlimited, Unlimited) })
			require.Equal(t, "unlimited unlimited", got[row.name])
			unlimited++
		}
	}
	if unlimited == 0 {
		t.Skip("every hard limit of this process is finite")
	}
}

func TestTheShortFormsSetBothLimits(t *testing.T) {
	checkLeaks(t)
	got := limitsOf(t, func(c *Command) { c.SetMaxFiles(50).SetMaxProcesses(60).SetMaxMemLock(8192).SetMaxCoreSize(0) })
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

// aboveHard returns a limit of descriptors above this process's hard one, and the call that sets it.
func aboveHard() (limit uint64, op string, err error) {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		return 0, "", err
	}
	return l.Max + 1, fmt.Sprintf("prlimit64(0, RLIMIT_NOFILE, {soft=100, hard=%d}, NULL)", l.Max+1), nil
}

func TestALimitAboveTheHardOneNeedsCapSysResource(t *testing.T) {
	checkLeaks(t)
	limit, op, err := aboveHard()
	require.NoError(t, err)
	privileged, err := hasCapability(unix.CAP_SYS_RESOURCE)
	require.NoError(t, err)
	if !privileged {
		requireStartError(t, New("/bin/true").SetRlimit(unix.RLIMIT_NOFILE, 100, limit), op, unix.EPERM)
		return
	}
	got := limitsOf(t, func(c *Command) { c.SetRlimit(unix.RLIMIT_NOFILE, 100, limit) })
	require.Equal(t, fmt.Sprintf("100 %d", limit), got["Max open files"])
}

func TestChangedIdsAreAllChanged(t *testing.T) {
	checkLeaks(t)
	needRoot(t, "to change ids")
	four := func(id int) string { s := strconv.Itoa(id); return strings.Join([]string{s, s, s, s}, " ") }
	for _, x := range []struct {
		c    *Command
		want map[string]string
	}{
		{catStatus().SetUID(nobody), map[string]string{"Uid": four(nobody), "Gid": four(os.Getgid()), "Groups": ""}},
		{catStatus().SetGID(7), map[string]string{"Uid": four(0), "Gid": four(7), "Groups": ""}},
		{catStatus().SetUID(5).SetGID(7), map[string]string{"Uid": four(5), "Gid": four(7), "Groups": ""}},
		{catStatus().SetGroups(3, 1, 2), map[string]string{"Uid": four(0), "Gid": four(os.Getgid()), "Groups": "1 2 3"}},
		{catStatus().SetGroups(), map[string]string{"Uid": four(0), "Groups": ""}},
		{catStatus().SetGroups(9, 8).SetUID(5).SetGID(7), map[string]string{"Uid": four(5), "Gid": four(7), "Groups": "8 9"}},
		{catStatus().SetUID(1 << 16).SetGID(1<<16 + 7).SetGroups(1<<17 + 9), // not 0, 7 and 9, as 16-bit calls would have it
			map[string]string{"Uid": four(1 << 16), "Gid": four(1<<16 + 7), "Groups": strconv.Itoa(1<<17 + 9)}},
		{catStatus().SetUID(maxID).SetGID(maxID), map[string]string{"Uid": four(maxID), "Gid": four(maxID)}},
	} {
		requireStatus(t, x.c, x.want)
		x.want["CapEff"] = strings.Repeat("0", 16)
		if x.want["Uid"] != four(0) {
			requireStatus(t, x.c, x.want)
		}
	}
	p := live(t, waiting().SetUID(5).SetGID(7).SetGroups(8))
	defer stop(t, p)
	got := parseStatus(readProc(t, p.PID(), "status"))
	require.Equal(t, []string{four(5), four(7), "8"}, []string{got["Uid"], got["Gid"], got["Groups"]})
	require.Equal(t, 0, os.Getuid(), "this process's own")
	require.Equal(t, 0, os.Geteuid())
}

func TestSupplementaryGroupsGoWhenTheUserOrGroupChanges(t *testing.T) {
	checkLeaks(t)
	needRoot(t, "to give a process supplementary groups")
	runSecurityHelper(t, "security-groups", func(c *Command) { c.SetGroups(10, 20) })
}

func checkGroupRules() error {
	for _, x := range []struct {
		c    *Command
		want string
	}{
		{catStatus(), "10 20"},
		{catStatus().SetUID(os.Getuid()).SetGID(os.Getgid()), "10 20"},
		{catStatus().SetUID(os.Getuid()), "10 20"},
		{catStatus().SetGID(os.Getgid()), "10 20"},
		{catStatus().SetUID(nobody), ""},
		{catStatus().SetGID(nobody), ""},
		{catStatus().SetUID(os.Getuid()).SetGID(nobody), ""},
		{catStatus().SetUID(os.Getuid()).SetGroups(), ""},
		{catStatus().SetUID(nobody).SetGroups(5), "5"},
	} {
		got, err := statusOf(x.c)
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
	checkLeaks(t)
	needRoot(t, "to change ids")
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
	requireStatus(t, catStatus().SetUser(u.Username), want)
	requireStatus(t, catStatus().SetUser(u.Uid), want)
	want["Groups"] = "7"
	requireStatus(t, catStatus().SetUser(u.Username).SetGroups(7), want)
}

func TestAnUnprivilegedProcessCanKeepItsIdsAndNothingElse(t *testing.T) {
	checkLeaks(t)
	runSecurityHelper(t, "security-unprivileged")
}

// becomeNobody gives up root, in every thread.
func becomeNobody() error {
	if os.Geteuid() != 0 {
		return nil
	}
	if err := errors.Join(syscall.Setgroups(nil), syscall.Setgid(nobody), syscall.Setuid(nobody)); err != nil {
		return err
	}
	return unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0)
}

func checkUnprivileged() error {
	if err := becomeNobody(); err != nil {
		return err
	}
	uid, gid := os.Getuid(), os.Getgid()
	before, err := statusOf(catStatus())
	if err != nil {
		return err
	}
	for _, c := range []*Command{catStatus().SetUID(uid), catStatus().SetGID(gid), catStatus().SetUID(uid).SetGID(gid)} {
		got, err := statusOf(c)
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
	other := New("/bin/true")
	own, err := os.Getgroups()
	if err != nil {
		return err
	}
	return errors.Join(
		other.Clone().SetGroups(own...).Run(context.Background()),
		other.Clone().SetUID(uid).SetGID(gid).SetGroups(append(own, gid)...).Run(context.Background()),
		startErrorIs(other.Clone().SetUID(0), "setgroups(0, [])", unix.EPERM),
		startErrorIs(other.Clone().SetGID(0), "setgroups(0, [])", unix.EPERM),
		startErrorIs(other.Clone().SetGroups(1, gid), fmt.Sprintf("setgroups(2, [1, %d])", gid), unix.EPERM),
		startErrorIs(other.Clone().SetUser("root"), "setgroups(1, [0])", unix.EPERM),
		startErrorIs(other.Clone().SetRlimit(unix.RLIMIT_NOFILE, 100, limit), op, unix.EPERM),
	)
}

func TestAMissingCapabilityIsAnErrorThatNamesTheStep(t *testing.T) {
	checkLeaks(t)
	needRoot(t, "to have the other capability")
	runSecurityHelper(t, "security-capability")
}

func checkWithoutSetuidCapability() error {
	runtime.LockOSThread() // the capabilities are the thread's, and the child is cloned from it
	if err := dropCapability(unix.CAP_SETUID); err != nil {
		return err
	}
	if err := startErrorIs(New("/bin/true").SetUID(5), "setresuid(5, 5, 5)", unix.EPERM); err != nil {
		return err
	}
	if err := New("/bin/true").SetUID(0).SetGID(7).SetGroups(8).Run(context.Background()); err != nil {
		return err
	}
	if err := dropCapability(unix.CAP_SETGID); err != nil {
		return err
	}
	return startErrorIs(New("/bin/true").SetUID(0).SetGID(7).SetGroups(8), "setgroups(1, [8])", unix.EPERM)
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
	checkLeaks(t)
	flag := dumpableFlag()
	defer func() { setDumpableFlag(uintptr(flag)) }()
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	missing := filepath.Join(t.TempDir(), "missing")
	for _, before := range []int{1, 0} {
		setDumpableFlag(uintptr(before))
		require.Equal(t, before, dumpableFlag())
		require.NoError(t, otherIDs(New("/bin/true")).Run(context.Background()))
		require.Equal(t, before, dumpableFlag())

		var wg sync.WaitGroup
		errs := make(chan error, 1000)
		for i := range rounds(200, 24) {
			wg.Add(1)
			go func() {
				defer wg.Done()
				ctx, c, fails := context.Background(), otherIDs(New("/bin/true")), true
				switch i % 6 {
				case 0:
					c = otherIDs(New(missing))
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
		require.Equal(t, before, dumpableFlag())
	}
}

func TestThisProcessIsNotDumpableWhileAChildWithOtherIdsSharesItsMemory(t *testing.T) {
	if helperForced() || !canClone() {
		t.Skip("a helper does not share the memory when it changes its ids")
	}
	checkLeaks(t)
	runSecurityHelper(t, "security-window")
}

// checkDumpableWindow holds children at their chdir, which comes after the change of ids, by a seccomp filter that asks this
// process what to do.
func checkDumpableWindow() error {
	runtime.LockOSThread() // the filter is this thread's and its children's
	listener, err := notifyOf(unix.SYS_CHDIR)
	if err != nil {
		return err
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0); err != nil {
		return err
	}
	usual := 1
	if coreDumpEndsAll() {
		usual = 0
	}
	for _, x := range []struct {
		c    *Command
		flag int // while the child is held
	}{
		{New("/bin/true").SetWorkingDirectory("/"), usual},
		{otherIDs(New("/bin/true")).SetWorkingDirectory("/"), 0},
		{New("/bin/true").SetUID(os.Getuid()).SetWorkingDirectory("/"), 0},
		{New("/bin/true").SetGID(os.Getgid()).SetWorkingDirectory("/"), 0},
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
			flag := -1
			var errOther error
			go func() {
				held <- answer(listener, func(int) {
					// Another such child comes and goes.
					errOther = otherIDs(New("/bin/true")).Run(context.Background())
					flag = dumpableFlag()
				})
			}()
			if err := run(); err != nil {
				return err
			}
			if err := errors.Join(<-held, errOther); err != nil {
				return err
			}
			if flag != x.flag {
				return fmt.Errorf("%s: dumpable %d while the child is held, want %d", name, flag, x.flag)
			}
			if got := dumpableFlag(); got != 1 {
				return fmt.Errorf("%s: dumpable %d afterwards", name, got)
			}
		}
	}
	return nil
}

func TestOsExecLeavesTheDumpableFlagClearedWhereThisPackageDoesNot(t *testing.T) {
	checkLeaks(t)
	needRoot(t, "to change ids")
	runSecurityHelper(t, "security-os-exec")
}

func checkOsExec() error {
	if err := otherIDs(New("/bin/true")).Run(context.Background()); err != nil {
		return err
	}
	if flag := dumpableFlag(); flag != 1 {
		return fmt.Errorf("dumpable %d after this package's child", flag)
	}
	cmd := exec.Command("/bin/true")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	if err := cmd.Run(); err != nil {
		return err
	}
	if flag := dumpableFlag(); flag == 1 {
		return errors.New("dumpable after a child of os/exec: the comparison says nothing any more")
	}
	return nil
}

// groupAndSession returns the process group and the session of a process.
func groupAndSession(t testing.TB, pid int) (pgrp, session int) {
	t.Helper()
	s := string(readProc(t, pid, "stat"))
	fields := strings.Fields(s[strings.LastIndexByte(s, ')')+1:]) // state, parent, group, session
	pgrp, err := strconv.Atoi(fields[2])
	require.NoError(t, err)
	session, err = strconv.Atoi(fields[3])
	require.NoError(t, err)
	return pgrp, session
}

func TestSessionAndProcessGroup(t *testing.T) {
	checkLeaks(t)
	pgrp, session := groupAndSession(t, os.Getpid())
	for name, x := range map[string]struct {
		c                    *Command
		ownGroup, ownSession bool
	}{
		"inherited":             {waiting(), false, false},
		"SetProcessGroup":       {waiting().SetProcessGroup(), true, false},
		"SetSession":            {waiting().SetSession(), true, true},
		"both":                  {waiting().SetSession().SetProcessGroup(), true, true},
		"KillGroup":             {waiting().SetKillMode(KillGroup), true, false},
		"KillGroup and session": {waiting().SetKillMode(KillGroup).SetSession(), true, true},
		"KillProcess":           {waiting().SetKillMode(KillGroup).SetKillMode(KillProcess), false, false},
	} {
		p := live(t, x.c)
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
		stop(t, p)
	}
}

func TestTheWorkingDirectoryIsTheProgramsAndNotThisProcesss(t *testing.T) {
	checkLeaks(t)
	dir, err := filepath.EvalSymlinks(t.TempDir())
	require.NoError(t, err)
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "a b", "c"), 0o755))
	t.Chdir(dir)
	for want, c := range map[string]*Command{
		dir:                            waiting(),
		"/":                            waiting().SetWorkingDirectory("/"),
		filepath.Join(dir, "a b"):      waiting().SetWorkingDirectory(filepath.Join(dir, "a b")),
		filepath.Join(dir, "a b", "c"): waiting().SetWorkingDirectory("a b/../a b/c"), // relative to this process's
	} {
		p := live(t, c)
		got, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", p.PID()))
		require.NoError(t, err)
		require.Equal(t, want, got)
		stop(t, p)
	}
	now, err := os.Getwd()
	require.NoError(t, err)
	require.Equal(t, dir, now)
}

func TestARelativeProgramIsTakenFromThisProcesssDirectory(t *testing.T) {
	checkLeaks(t)
	dir := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "here", "bin"), 0o755))
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "there", "bin"), 0o755))
	require.NoError(t, os.Symlink("/bin/sh", filepath.Join(dir, "here", "bin", "sh")))
	require.NoError(t, os.Symlink("/bin/false", filepath.Join(dir, "there", "bin", "sh")))
	t.Chdir(filepath.Join(dir, "here"))
	out, err := New("bin/sh", "-c", "echo $0; cd ..; ls").SetWorkingDirectory(filepath.Join(dir, "there", "bin")).Output(context.Background())
	require.NoError(t, err)
	require.Equal(t, "bin/sh\nbin\n", string(out))
}

func TestABadWorkingDirectoryIsAnErrorThatNamesTheCall(t *testing.T) {
	checkLeaks(t)
	dir := t.TempDir()
	missing, file := filepath.Join(dir, "missing"), filepath.Join(dir, "file")
	require.NoError(t, os.WriteFile(file, nil, 0o644))
	requireStartError(t, New("/bin/true").SetWorkingDirectory(missing), fmt.Sprintf("chdir(%q)", missing), unix.ENOENT)
	requireStartError(t, New("/bin/true").SetWorkingDirectory(file), fmt.Sprintf("chdir(%q)", file), unix.ENOTDIR)
}

func TestTheWorkingDirectoryIsEnteredAsTheNewUser(t *testing.T) {
	checkLeaks(t)
	needRoot(t, "to change ids")
	dir := t.TempDir() // below a directory that only root may enter
	require.NoError(t, New("/bin/true").SetWorkingDirectory(dir).Run(context.Background()))
	requireStartError(t, New("/bin/true").SetWorkingDirectory(dir).SetUID(nobody), fmt.Sprintf("chdir(%q)", dir), unix.EACCES)
}

// quitStorm runs programs while all of its group get SIGQUIT, which it handles itself, over and over.
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
		var exit *ExitError
		if err := New("/bin/true").SetMaxCoreSize(0).Run(context.Background()); errors.As(err, &exit) && exit.Status.Signal == unix.SIGQUIT {
			ended++
		} else if err != nil {
			return fail(err)
		}
	}
	fmt.Println(ended > 0)
	return 0
}

// TestACoreDumpBeforeTheProgramIsTheChildsAlone: until Linux 5.16 it ended all who shared the memory, unless that was not dumpable.
func TestACoreDumpBeforeTheProgramIsTheChildsAlone(t *testing.T) {
	if helperForced() || !canClone() {
		t.Skip("a helper is not in this process's memory")
	}
	checkLeaks(t)
	require.Equal(t, "true\n", outputOf(t, helperCommand(t, "security-quit-storm").SetProcessGroup()))
}

func TestEverySignalHasItsDefaultDispositionAndNoneIsBlocked(t *testing.T) {
	checkLeaks(t)
	runSecurityHelper(t, "security-signals")
}

// ignoreSignals ignores and blocks every signal, as far as Go knows them and as far as the kernel does.
func ignoreSignals() error {
	signal.Ignore()
	for n := syscall.Signal(1); n <= maxSignal; n++ {
		// What would change how this process waits for its children is for later.
		if n != unix.SIGCHLD {
			ignoreSignal(n)
		}
	}
	resetSignal(unix.SIGCHLD)
	runtime.LockOSThread() // and its children
	all := unix.Sigset_t{}
	for i := range all.Val {
		all.Val[i]--
	}
	if err := unix.PthreadSigmask(unix.SIG_SETMASK, &all, nil); err != nil {
		return err
	}
	ignored := 0
	for n := syscall.Signal(1); n <= maxSignal; n++ {
		if isIgnored(n) {
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
	if err := allDefault(statusOf(catStatus())); err != nil {
		return err
	}
	// Not a shell, which may ignore signals itself.
	p, err := New("/bin/cat").PipeStdin().PipeStdout().Start(context.Background())
	if err != nil {
		return err
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID()))
	if err := errors.Join(allDefault(parseStatus(b), err), stopLive(p)); err != nil {
		return err
	}

	// Who ignores SIGCHLD gets no status of children (waitid(2)). Their output and signals are as ever.
	ignoreSignal(unix.SIGCHLD)
	got, err := statusOf(catStatus())
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
	checkLeaks(t)
	t.Setenv("GORACE", "atexit_sleep_ms=0")
	out, err := helperCommand(t, "security-signals-exec").Output(context.Background())
	require.NoError(t, err, "%s", out)
	require.NoError(t, allDefault(parseStatus(out), nil))
}

func execWithSignalsIgnored() error {
	if err := ignoreSignals(); err != nil {
		return err
	}
	ignoreSignal(unix.SIGCHLD)
	return catStatus().SetStdout(os.Stdout).Exec()
}

// TestNoHandlerOfThisProcessRunsInAChild sends signals to a process group all the time, while its leader, which has handlers for
// them, starts children. Were one run in a child, on the shared memory, the process would hardly survive it.
func TestNoHandlerOfThisProcessRunsInAChild(t *testing.T) {
	checkLeaks(t)
	runSecurityHelper(t, "security-handlers", func(c *Command) {
		c.SetProcessGroup()
		if testing.Short() {
			c.AddEnvPassAllowSUID("GORACE").AddEnv("SPAWN_SHORT", "1")
		}
	})
}

func checkHandlers() error {
	caught := make(chan os.Signal, 1)
	signal.Notify(caught, unix.SIGWINCH, unix.SIGURG) // ignored by default, so the children survive them
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
		c := New("/bin/true").SetUmask(0o22)
		if i%3 == 0 {
			otherIDs(c)
		}
		if err := c.Run(context.Background()); err != nil {
			return err
		}
	}
	return nil
}
