package spawn

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
	"golang.org/x/sys/unix"
)

// statFields returns those of /proc/PID/stat, by their numbers in proc(5).
func statFields(t testing.TB, p *Process) map[int]string {
	t.Helper()
	fields := map[int]string{}
	text := procText(t, p, "stat")
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
	checkLeaks(t)
	own, err := unix.Getpriority(unix.PRIO_PROCESS, 0)
	require.NoError(t, err)
	require.Equal(t, "7", statFields(t, waitingIn(t, New("/bin/cat").SetNice(7)))[statNice])
	require.Equal(t, "19", statFields(t, waitingIn(t, otherIDs(New("/bin/cat").SetNice(19))))[statNice])
	again, err := unix.Getpriority(unix.PRIO_PROCESS, 0)
	require.NoError(t, err)
	require.Equal(t, own, again)
}

func TestPrioritiesThatNeedAPrivilege(t *testing.T) {
	checkLeaks(t)
	if os.Geteuid() != 0 {
		requireStartError(t, New("/bin/true").SetNice(-5), "setpriority(PRIO_PROCESS, 0, -5)", unix.EACCES)
		requireStartError(t, New("/bin/true").SetScheduler(Scheduler{Policy: SchedFIFO, Priority: 3}), "sched_setscheduler(0, SCHED_FIFO, [3])", unix.EPERM)
		requireStartError(t, New("/bin/true").SetIOPriority(IOPriorityRealtime, 0),
			"ioprio_set(IOPRIO_WHO_PROCESS, 0, IOPRIO_PRIO_VALUE(IOPRIO_CLASS_RT, 0))", unix.EPERM)
		return
	}
	// As another user too: it is done while the privilege is there.
	fields := statFields(t, waitingIn(t, otherIDs(New("/bin/cat").SetNice(-5))))
	require.Equal(t, "-5", fields[statNice])
	requireIOPriority(t, waitingIn(t, otherIDs(New("/bin/cat").SetIOPriority(IOPriorityRealtime, 1))), 1<<13|1)
}

func TestSetSchedulerKeepsTheNiceValue(t *testing.T) {
	checkLeaks(t)
	for policy, s := range map[string]Scheduler{
		"0": {},
		"3": {Policy: SchedBatch},
		"5": {Policy: SchedIdle, ResetOnFork: true},
	} {
		fields := statFields(t, waitingIn(t, New("/bin/cat").SetScheduler(s).SetNice(9)))
		require.Equal(t, policy, fields[statPolicy])
		require.Equal(t, "9", fields[statNice])
		require.Equal(t, "0", fields[statPriority])
	}
}

func TestRealTimePolicies(t *testing.T) {
	needRoot(t, "to be scheduled first")
	checkLeaks(t)
	for _, s := range []Scheduler{{Policy: SchedFIFO, Priority: 1}, {Policy: SchedRR, Priority: 99, ResetOnFork: true}} {
		p, err := New("/bin/cat").SetScheduler(s).PipeStdin().Start(context.Background())
		needs(t, "CAP_SYS_NICE and real-time groups", err, unix.EPERM)
		fields := statFields(t, p)
		require.Equal(t, strconv.Itoa(int(s.Policy)), fields[statPolicy])
		require.Equal(t, strconv.Itoa(s.Priority), fields[statPriority])
		require.NoError(t, p.Stdin().Close())
		require.NoError(t, p.Wait())
	}
	s := Scheduler{Policy: SchedDeadline, Runtime: 2 * time.Millisecond, Deadline: 10 * time.Millisecond, Period: 20 * time.Millisecond}
	p, err := New("/bin/cat").SetScheduler(s).PipeStdin().Start(context.Background())
	needs(t, "processors with room for deadlines", err, unix.EPERM, unix.EBUSY)
	attr, err := unix.SchedGetAttr(p.PID(), 0)
	require.NoError(t, err)
	require.Equal(t, []uint64{6, 2e6, 10e6, 20e6}, []uint64{uint64(attr.Policy), attr.Runtime, attr.Deadline, attr.Period})
	require.NoError(t, p.Stdin().Close())
	require.NoError(t, p.Wait())
}

func TestSetCPUAffinityIsTheProgramsAlone(t *testing.T) {
	checkLeaks(t)
	var own, again unix.CPUSet
	require.NoError(t, unix.SchedGetaffinity(0, &own))
	online := readList("/sys/devices/system/cpu/online")
	last := online[len(online)-1]
	var set unix.CPUSet
	p := waitingIn(t, New("/bin/cat").SetCPUAffinity(last))
	require.NoError(t, unix.SchedGetaffinity(p.PID(), &set))
	require.Equal(t, 1, set.Count())
	require.True(t, set.IsSet(last))
	require.NoError(t, unix.SchedGetaffinity(0, &again))
	require.Equal(t, own, again)
}

func TestSetNUMAPolicyIsTheProgramsOwn(t *testing.T) {
	_, err := os.Stat("/proc/self/numa_maps")
	needs(t, "a kernel with NUMA", err, fs.ErrNotExist)
	checkLeaks(t)
	for want, c := range map[string]*Command{
		"bind:0":       New("/bin/cat").SetNUMAPolicy(NUMABind, 0),
		"interleave:0": New("/bin/cat").SetNUMAPolicy(NUMAInterleave, 0),
		"prefer:0":     New("/bin/cat").SetNUMAPolicy(NUMAPreferred, 0),
		"local":        New("/bin/cat").SetNUMAPolicy(NUMALocal),
		"default":      New("/bin/cat").SetNUMAPolicy(NUMADefault),
	} {
		require.Contains(t, procText(t, waitingIn(t, c), "numa_maps"), " "+want+" ")
	}
	own := readFile(t, "/proc/self/numa_maps")
	require.NotContains(t, own, " bind:0 ")
}

func TestNodesThatAreNotThereAreRefused(t *testing.T) {
	if readList("/sys/devices/system/node/possible") == nil {
		t.Skip("needs a kernel with NUMA")
	}
	require.ErrorContains(t, New("/bin/true").SetNUMAPolicy(NUMABind, 0, 1023).Run(context.Background()),
		"SetNUMAPolicy: this machine has no node 1023")
}

func TestSetIOPriorityIsTheProgramsAlone(t *testing.T) {
	checkLeaks(t)
	requireIOPriority(t, waitingIn(t, New("/bin/cat").SetIOPriority(IOPriorityBestEffort, 6)), 2<<13|6)
	requireIOPriority(t, waitingIn(t, New("/bin/cat").SetIOPriority(IOPriorityIdle, 0)), 3<<13)
}

func requireIOPriority(t testing.TB, p *Process, want int) {
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
	needRoot(t, "to read another process's timer slack")
	checkLeaks(t)
	p := waitingIn(t, New("/bin/cat").SetTimerSlack(123*time.Microsecond))
	require.Equal(t, "123000", procText(t, p, "timerslack_ns"))
	require.NotEqual(t, "123000", readFile(t, "/proc/self/timerslack_ns"))
}

func TestListsOfNumbersAreRead(t *testing.T) {
	path := t.TempDir() + "/list"
	for text, want := range map[string][]int{
		"0\n": {0}, "0-3,8\n": {0, 1, 2, 3, 8}, "\n": nil, "x\n": nil, "1-x": nil,
	} {
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		require.Equal(t, want, readList(path), "%q", text)
	}
	require.Nil(t, readList(path+"none"))
}

func TestProcessorsThatAreNotOnlineAreRefused(t *testing.T) {
	dir := t.TempDir() + "/"
	require.NoError(t, os.WriteFile(dir+"possible", []byte("0-3\n"), 0o600))
	require.NoError(t, os.WriteFile(dir+"online", []byte("0-1\n"), 0o600))
	require.NoError(t, checkNumbers("M", "processor", dir, []int{1, 2}))
	require.ErrorContains(t, checkNumbers("M", "processor", dir, []int{2, 3}), "M: no processor of [2 3] is online")
	require.ErrorContains(t, checkNumbers("M", "processor", dir, []int{0, 4}), "M: this machine has no processor 4")
}

// coreCookie returns what a process's programs share their core by.
func coreCookie(t testing.TB, pid int) (cookie uint64) {
	t.Helper()
	err := unix.Prctl(unix.PR_SCHED_CORE, unix.PR_SCHED_CORE_GET, uintptr(pid), unix.PR_SCHED_CORE_SCOPE_THREAD, uintptr(unsafe.Pointer(&cookie)))
	require.NoError(t, err)
	return cookie
}

func TestCoreSchedulingOrAClearError(t *testing.T) {
	checkLeaks(t)
	err := coreScheduling()
	if err != nil {
		require.ErrorIs(t, err, errors.ErrUnsupported)
		for method, c := range map[string]*Command{
			"SetRunAlone": New("/bin/true").SetRunAlone(),
			"SetRunAmong": New("/bin/true").SetRunAmong(os.Getpid()),
		} {
			err := c.Run(context.Background())
			require.ErrorIs(t, err, errors.ErrUnsupported)
			require.ErrorContains(t, err, method+": ")
		}
		t.Skip("the rest needs core scheduling: ", err)
	}
	p := waitingIn(t, New("/bin/cat").SetRunAlone())
	alone := coreCookie(t, p.PID())
	require.NotZero(t, alone)
	require.Zero(t, coreCookie(t, os.Getpid()))
	require.Equal(t, alone, coreCookie(t, waitingIn(t, New("/bin/cat").SetRunAmong(p.PID())).PID()))
	require.NotEqual(t, alone, coreCookie(t, waitingIn(t, New("/bin/cat").SetRunAlone()).PID()))
	requireStartError(t, New("/bin/true").SetRunAmong(1<<22-1),
		"prctl(PR_SCHED_CORE, PR_SCHED_CORE_SHARE_FROM, 4194303, PR_SCHED_CORE_SCOPE_THREAD, NULL)", unix.ESRCH)
}

func TestBitmapSetsOneBitForEachNumber(t *testing.T) {
	require.Equal(t, []uint64{1<<0 | 1<<63, 1 << 1}, bitmap([]int{65, 0, 63}))
	require.True(t, slices.Equal(bitmap([]int{0}), []uint64{1}))
}
