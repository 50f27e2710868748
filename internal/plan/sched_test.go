//go:build linux

package plan_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"
	"github.com/virspawn/spawn"
	"github.com/virspawn/spawn/internal/plan"
	"github.com/virspawn/spawn/internal/testkit"
	"golang.org/x/sys/unix"
)

// statFields returns those of /proc/PID/stat, by their numbers in proc(5).
func statFields(t testing.TB, p *spawn.Process) map[int]string {
	t.Helper()
	fields := map[int]string{}
	text := testkit.ProcText(t, p, "stat")
	for i, f := range strings.Fields(text[strings.LastIndexByte(text, ')')+1:]) {
		fields[i+3] = f
	}
	return fields
}

const (
	statNice     = 19
	statPriority = 40
	statPolicy   = 41
)

func TestSetNiceIsTheProgramsAlone(t *testing.T) {
	testkit.CheckLeaks(t)
	own, err := unix.Getpriority(unix.PRIO_PROCESS, 0)
	require.NoError(t, err)
	require.Equal(t, "7", statFields(t, testkit.WaitingIn(t, spawn.New("/bin/cat").SetNice(7)))[statNice])
	require.Equal(t, "19", statFields(t, testkit.WaitingIn(t, testkit.OtherIDs(spawn.New("/bin/cat").SetNice(19))))[statNice])
	again, err := unix.Getpriority(unix.PRIO_PROCESS, 0)
	require.NoError(t, err)
	require.Equal(t, own, again)
}

func TestPrioritiesThatNeedAPrivilege(t *testing.T) {
	testkit.CheckLeaks(t)
	if os.Geteuid() != 0 {
		requireStartError(t, spawn.New("/bin/true").SetNice(-5), "setpriority(PRIO_PROCESS, 0, -5)", unix.EACCES)
		requireStartError(t, spawn.New("/bin/true").SetScheduler(spawn.Scheduler{Policy: spawn.SchedFIFO, Priority: 3}), "sched_setscheduler(0, SCHED_FIFO, [3])", unix.EPERM)
		requireStartError(t, spawn.New("/bin/true").SetIOPriority(spawn.IOPriorityRealtime, 0),
			"ioprio_set(IOPRIO_WHO_PROCESS, 0, IOPRIO_PRIO_VALUE(IOPRIO_CLASS_RT, 0))", unix.EPERM)
		return
	}
	// As another user too: it is done while the privilege is there.
	fields := statFields(t, testkit.WaitingIn(t, testkit.OtherIDs(spawn.New("/bin/cat").SetNice(-5))))
	require.Equal(t, "-5", fields[statNice])
	requireIOPriority(t, testkit.WaitingIn(t, testkit.OtherIDs(spawn.New("/bin/cat").SetIOPriority(spawn.IOPriorityRealtime, 1))), 1<<13|1)
}

func TestSetSchedulerKeepsTheNiceValue(t *testing.T) {
	testkit.CheckLeaks(t)
	for policy, s := range map[string]spawn.Scheduler{
		"0": {},
		"3": {Policy: spawn.SchedBatch},
		"5": {Policy: spawn.SchedIdle, ResetOnFork: true},
	} {
		fields := statFields(t, testkit.WaitingIn(t, spawn.New("/bin/cat").SetScheduler(s).SetNice(9)))
		require.Equal(t, policy, fields[statPolicy])
		require.Equal(t, "9", fields[statNice])
		require.Equal(t, "0", fields[statPriority])
	}
}

func TestRealTimePolicies(t *testing.T) {
	testkit.NeedsRoot(t, "to be scheduled first")
	testkit.CheckLeaks(t)
	for _, s := range []spawn.Scheduler{{Policy: spawn.SchedFIFO, Priority: 1}, {Policy: spawn.SchedRR, Priority: 99, ResetOnFork: true}} {
		p, err := spawn.New("/bin/cat").SetScheduler(s).PipeStdin().Start(context.Background())
		testkit.Needs(t, "CAP_SYS_NICE and real-time groups", err, unix.EPERM)
		fields := statFields(t, p)
		require.Equal(t, strconv.Itoa(int(s.Policy)), fields[statPolicy])
		require.Equal(t, strconv.Itoa(s.Priority), fields[statPriority])
		require.NoError(t, p.Stdin().Close())
		require.NoError(t, p.Wait())
	}
	s := spawn.Scheduler{Policy: spawn.SchedDeadline, Runtime: 2 * time.Millisecond, Deadline: 10 * time.Millisecond, Period: 20 * time.Millisecond}
	p, err := spawn.New("/bin/cat").SetScheduler(s).PipeStdin().Start(context.Background())
	testkit.Needs(t, "processors with room for deadlines", err, unix.EPERM, unix.EBUSY)
	attr, err := unix.SchedGetAttr(p.PID(), 0)
	require.NoError(t, err)
	require.Equal(t, []uint64{6, 2e6, 10e6, 20e6}, []uint64{uint64(attr.Policy), attr.Runtime, attr.Deadline, attr.Period})
	require.NoError(t, p.Stdin().Close())
	require.NoError(t, p.Wait())
}

func TestSetCPUAffinityIsTheProgramsAlone(t *testing.T) {
	testkit.CheckLeaks(t)
	var own, again unix.CPUSet
	require.NoError(t, unix.SchedGetaffinity(0, &own))
	online := plan.ReadList("/sys/devices/system/cpu/online")
	last := online[len(online)-1]
	var set unix.CPUSet
	p := testkit.WaitingIn(t, spawn.New("/bin/cat").SetCPUAffinity(last))
	require.NoError(t, unix.SchedGetaffinity(p.PID(), &set))
	require.Equal(t, 1, set.Count())
	require.True(t, set.IsSet(last))
	require.NoError(t, unix.SchedGetaffinity(0, &again))
	require.Equal(t, own, again)
}

func TestSetNUMAPolicyIsTheProgramsOwn(t *testing.T) {
	_, err := os.Stat("/proc/self/numa_maps")
	testkit.Needs(t, "a kernel with NUMA", err, fs.ErrNotExist)
	testkit.CheckLeaks(t)
	for want, c := range map[string]*spawn.Command{
		"bind:0":       spawn.New("/bin/cat").SetNUMAPolicy(spawn.NUMABind, 0),
		"interleave:0": spawn.New("/bin/cat").SetNUMAPolicy(spawn.NUMAInterleave, 0),
		"prefer:0":     spawn.New("/bin/cat").SetNUMAPolicy(spawn.NUMAPreferred, 0),
		"local":        spawn.New("/bin/cat").SetNUMAPolicy(spawn.NUMALocal),
		"default":      spawn.New("/bin/cat").SetNUMAPolicy(spawn.NUMADefault),
	} {
		require.Contains(t, testkit.ProcText(t, testkit.WaitingIn(t, c), "numa_maps"), " "+want+" ")
	}
	own := testkit.ReadFile(t, "/proc/self/numa_maps")
	require.NotContains(t, own, " bind:0 ")
}

func TestNodesThatAreNotThereAreRefused(t *testing.T) {
	if plan.ReadList("/sys/devices/system/node/possible") == nil {
		t.Skip("needs a kernel with NUMA")
	}
	require.ErrorContains(t, spawn.New("/bin/true").SetNUMAPolicy(spawn.NUMABind, 0, 1023).Run(context.Background()),
		"SetNUMAPolicy: this machine has no node 1023")
}

func TestSetIOPriorityIsTheProgramsAlone(t *testing.T) {
	testkit.CheckLeaks(t)
	requireIOPriority(t, testkit.WaitingIn(t, spawn.New("/bin/cat").SetIOPriority(spawn.IOPriorityBestEffort, 6)), 2<<13|6)
	requireIOPriority(t, testkit.WaitingIn(t, spawn.New("/bin/cat").SetIOPriority(spawn.IOPriorityIdle, 0)), 3<<13)
}

func requireIOPriority(t testing.TB, p *spawn.Process, want int) {
	t.Helper()
	get := func(pid int) int {
		n, _, errno := unix.Syscall(unix.SYS_IOPRIO_GET, 1, uintptr(pid), 0)
		require.Zero(t, errno)
		return int(n)
	}
	require.Equal(t, want, get(p.PID()))
	require.NotEqual(t, want, get(0))
}

func TestSetTimerSlackIsTheProgramsAlone(t *testing.T) {
	testkit.NeedsRoot(t, "to read another process's timer slack")
	testkit.CheckLeaks(t)
	p := testkit.WaitingIn(t, spawn.New("/bin/cat").SetTimerSlack(123*time.Microsecond))
	require.Equal(t, "123000", testkit.ProcText(t, p, "timerslack_ns"))
	require.NotEqual(t, "123000", testkit.ReadFile(t, "/proc/self/timerslack_ns"))
}

func TestListsOfNumbersAreRead(t *testing.T) {
	path := t.TempDir() + "/list"
	for text, want := range map[string][]int{
		"0\n": {0}, "0-3,8\n": {0, 1, 2, 3, 8}, "\n": nil, "x\n": nil, "1-x": nil,
	} {
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		require.Equal(t, want, plan.ReadList(path), "%q", text)
	}
	require.Nil(t, plan.ReadList(path+"none"))
}

func TestProcessorsThatAreNotOnlineAreRefused(t *testing.T) {
	dir := t.TempDir() + "/"
	require.NoError(t, os.WriteFile(dir+"possible", []byte("0-3\n"), 0o600))
	require.NoError(t, os.WriteFile(dir+"online", []byte("0-1\n"), 0o600))
	require.NoError(t, plan.CheckNumbers("M", "processor", dir, []int{1, 2}))
	require.ErrorContains(t, plan.CheckNumbers("M", "processor", dir, []int{2, 3}), "M: no processor of [2 3] is online")
	require.ErrorContains(t, plan.CheckNumbers("M", "processor", dir, []int{0, 4}), "M: this machine has no processor 4")
}

// coreCookie returns what a process's programs share their core by.
func coreCookie(t testing.TB, pid int) (cookie uint64) {
	t.Helper()
	err := unix.Prctl(unix.PR_SCHED_CORE, unix.PR_SCHED_CORE_GET, uintptr(pid), unix.PR_SCHED_CORE_SCOPE_THREAD, uintptr(unsafe.Pointer(&cookie)))
	require.NoError(t, err)
	return cookie
}

func TestCoreSchedulingOrAClearError(t *testing.T) {
	testkit.CheckLeaks(t)
	err := plan.CoreScheduling()
	if err != nil {
		require.ErrorIs(t, err, errors.ErrUnsupported)
		for method, c := range map[string]*spawn.Command{
			"SetRunAlone": spawn.New("/bin/true").SetRunAlone(),
			"SetRunAmong": spawn.New("/bin/true").SetRunAmong(os.Getpid()),
		} {
			err := c.Run(context.Background())
			require.ErrorIs(t, err, errors.ErrUnsupported)
			require.ErrorContains(t, err, method+": ")
		}
		t.Skip("the rest needs core scheduling: ", err)
	}
	p := testkit.WaitingIn(t, spawn.New("/bin/cat").SetRunAlone())
	alone := coreCookie(t, p.PID())
	require.NotZero(t, alone)
	require.Zero(t, coreCookie(t, os.Getpid()))
	require.Equal(t, alone, coreCookie(t, testkit.WaitingIn(t, spawn.New("/bin/cat").SetRunAmong(p.PID())).PID()))
	require.NotEqual(t, alone, coreCookie(t, testkit.WaitingIn(t, spawn.New("/bin/cat").SetRunAlone()).PID()))
	requireStartError(t, spawn.New("/bin/true").SetRunAmong(1<<22-1),
		"prctl(PR_SCHED_CORE, PR_SCHED_CORE_SHARE_FROM, 4194303, PR_SCHED_CORE_SCOPE_THREAD, NULL)", unix.ESRCH)
}

func TestBitmapSetsOneBitForEachNumber(t *testing.T) {
	require.Equal(t, []uint64{1<<0 | 1<<63, 1 << 1}, plan.Bitmap([]int{65, 0, 63}))
	require.True(t, slices.Equal(plan.Bitmap([]int{0}), []uint64{1}))
}

// TestATimerSlackIsNotCutOffToAWord: the kernel takes a word, in which a large
// one would silently be another.
func TestATimerSlackIsNotCutOffToAWord(t *testing.T) {
	for slack, fits := range map[time.Duration]bool{1<<32 - 1: true, 1 << 32: strconv.IntSize > 32, 5 * time.Second: strconv.IntSize > 32} {
		text, err := spawn.New("/bin/true").SetTimerSlack(slack).Explain()
		if !fits {
			var bad *spawn.CallError
			require.ErrorAs(t, err, &bad)
			require.EqualError(t, err, "spawn: SetTimerSlack: the slack "+slack.String()+" is more than 4.294967295s, which is the most on a 32-bit processor")
			continue
		}
		require.NoError(t, err)
		require.Contains(t, text, "prctl(PR_SET_TIMERSLACK, "+strconv.FormatInt(int64(slack), 10)+")\n")
	}
}
