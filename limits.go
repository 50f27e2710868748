package spawn

import (
	"math"
	"slices"
	"time"

	"github.com/virspawn/spawn/internal/command"
)

// Unlimited means no limit (RLIM_INFINITY).
const Unlimited = math.MaxUint64

// SetRlimit sets a resource limit of the program, RLIMIT_CPU for example.
//
// The unit is the resource's own: bytes, seconds or a count. [Unlimited] is no
// limit. The limits default to the parent's. RLIMIT_NOFILE defaults to what it
// was before the Go runtime raised the soft limit.
//
// Raising the hard limit above the parent's needs CAP_SYS_RESOURCE. Without it,
// starting fails with EPERM.
//
// See prlimit(2).
func (c *Command) SetRlimit(resource int, soft, hard uint64) *Command {
	return c.setRlimit("SetRlimit", resource, soft, hard)
}

// SetMaxFiles limits the descriptors that the program may have open to those
// below n.
//
// It sets the soft and the hard limit RLIMIT_NOFILE; see [Command.SetRlimit].
// What is passed to the program may have higher numbers.
//
// Like virCommandSetMaxFiles; see prlimit(2).
func (c *Command) SetMaxFiles(n uint64) *Command {
	return c.setRlimit("SetMaxFiles", command.RlimitNofile, n, n)
}

// SetMaxProcesses limits the processes and threads that the program's real user
// may have to n, this one included.
//
// It sets the soft and the hard limit RLIMIT_NPROC; see [Command.SetRlimit]. It
// does not bind a program with CAP_SYS_RESOURCE or CAP_SYS_ADMIN.
//
// Like virCommandSetMaxProcesses; see prlimit(2).
func (c *Command) SetMaxProcesses(n uint64) *Command {
	return c.setRlimit("SetMaxProcesses", command.RlimitNproc, n, n)
}

// SetMaxMemLock limits the memory that the program may lock, in bytes.
//
// It sets the soft and the hard limit RLIMIT_MEMLOCK; see [Command.SetRlimit].
//
// Like virCommandSetMaxMemLock; see prlimit(2).
func (c *Command) SetMaxMemLock(bytes uint64) *Command {
	return c.setRlimit("SetMaxMemLock", command.RlimitMemlock, bytes, bytes)
}

// SetMaxCoreSize limits the size of the program's core dump, in bytes; 0 is no
// core dump.
//
// It sets the soft and the hard limit RLIMIT_CORE; see [Command.SetRlimit].
//
// Like virCommandSetMaxCoreSize; see prlimit(2).
func (c *Command) SetMaxCoreSize(bytes uint64) *Command {
	return c.setRlimit("SetMaxCoreSize", command.RlimitCore, bytes, bytes)
}

func (c *Command) setRlimit(method string, resource int, soft, hard uint64) *Command {
	switch {
	case resource < 0 || resource >= command.RlimitCount:
		c.fail(method, "%d is not a resource", resource)
	case soft > hard:
		c.fail(method, "the soft limit %d is above the hard limit %d", soft, hard)
	}
	for i := range c.want.Rlimits {
		if c.want.Rlimits[i].Resource == resource {
			c.want.Rlimits[i] = command.Rlimit{Resource: resource, Soft: soft, Hard: hard}
			return c
		}
	}
	c.want.Rlimits = append(c.want.Rlimits, command.Rlimit{Resource: resource, Soft: soft, Hard: hard})
	return c
}

// SetNice sets the program's nice value, from -20, which gets most of the
// processor, to 19.
//
// The default is the nice value of the parent's thread that starts the program.
//
// A value below that needs CAP_SYS_NICE or a limit (RLIMIT_NICE). Without them,
// starting fails with EACCES.
//
// Like systemd's Nice=; see setpriority(2).
func (c *Command) SetNice(nice int) *Command {
	if nice < -20 || nice > 19 {
		c.fail("SetNice", "the nice value %d is not in -20 to 19", nice)
	}
	c.want.Scheduling.Nice, c.want.Scheduling.SetNice = nice, true
	return c
}

// SchedulerPolicy is a way to choose what runs next.
//
// See sched(7).
type SchedulerPolicy int

// The policies have the kernel's numbers.
const (
	SchedOther    SchedulerPolicy = 0 // by nice value
	SchedFIFO     SchedulerPolicy = 1 // by priority, until it waits
	SchedRR       SchedulerPolicy = 2 // by priority, in turns
	SchedBatch    SchedulerPolicy = 3 // by nice value, as work in no hurry
	SchedIdle     SchedulerPolicy = 5 // when nothing else wants to run
	SchedDeadline SchedulerPolicy = 6 // so much time in each period
)

// Scheduler says how a program is scheduled.
type Scheduler struct {
	// Policy is the policy; the zero value is SchedOther.
	Policy SchedulerPolicy
	// Priority is 1, the lowest, to 99 with SchedFIFO and SchedRR, and 0 with
	// the others.
	Priority int
	// Runtime, Deadline and Period are for SchedDeadline. The program gets
	// Runtime of processor time, from 1.024 microseconds, within Deadline of
	// the beginning of each Period. A Period of 0 means the Deadline.
	Runtime, Deadline, Period time.Duration
	// ResetOnFork gives the program's own children SchedOther. With
	// SchedDeadline a program cannot fork without it.
	ResetOnFork bool
}

// SetScheduler sets the scheduling policy of the program.
//
// The default is the policy of the parent's thread that starts the program. The
// nice value stays as [Command.SetNice] says.
//
// The real-time policies need CAP_SYS_NICE or a limit (RLIMIT_RTPRIO).
//
// Like virProcessSetScheduler and systemd's CPUSchedulingPolicy=; see
// sched_setscheduler(2) and sched_setattr(2).
func (c *Command) SetScheduler(s Scheduler) *Command {
	deadline := s.Runtime != 0 || s.Deadline != 0 || s.Period != 0
	switch s.Policy {
	case SchedFIFO, SchedRR:
		if s.Priority < 1 || s.Priority > 99 {
			c.fail("SetScheduler", "the priority %d is not in 1 to 99", s.Priority)
		}
	case SchedOther, SchedBatch, SchedIdle, SchedDeadline:
		if s.Priority != 0 {
			c.fail("SetScheduler", "the policy has no priorities, and %d is one", s.Priority)
		}
	default:
		c.fail("SetScheduler", "%d is not a policy", int(s.Policy))
	}
	switch {
	case s.Policy != SchedDeadline && deadline:
		c.fail("SetScheduler", "runtime, deadline and period are for SchedDeadline")
	case s.Policy != SchedDeadline:
	case s.Runtime < 1024 || s.Deadline < s.Runtime || s.Period != 0 && s.Period < s.Deadline:
		c.fail("SetScheduler", "want 1.024µs <= runtime <= deadline <= period, not %v, %v, %v", s.Runtime, s.Deadline, s.Period)
	}
	c.want.Scheduling.SetScheduler = true
	c.want.Scheduling.Scheduler = command.Scheduler{
		Policy: int(s.Policy), Priority: s.Priority,
		Runtime: s.Runtime, Deadline: s.Deadline, Period: s.Period,
		ResetOnFork: s.ResetOnFork,
	}
	return c
}

// maxCPU bounds the number of a processor, far above what a kernel can have.
const maxCPU = 1<<16 - 1

// SetCPUAffinity lets the program run on these processors only, counted from 0.
//
// They replace those set before. The default is the affinity of the parent's
// thread that starts the program.
//
// Each must be a processor that this machine may have. At least one must be
// there now and allowed by the cgroup.
//
// Like virProcessSetAffinity and systemd's CPUAffinity=; see
// sched_setaffinity(2).
func (c *Command) SetCPUAffinity(cpus ...int) *Command {
	if len(cpus) == 0 {
		c.fail("SetCPUAffinity", "there is no processor")
	}
	for _, n := range cpus {
		if n < 0 || n > maxCPU {
			c.fail("SetCPUAffinity", "%d is not the number of a processor", n)
			return c
		}
	}
	c.want.Scheduling.CPUs = slices.Clone(cpus)
	return c
}

// NUMAPolicy says from which nodes the kernel takes a program's memory.
//
// See numa(7).
type NUMAPolicy int

// The policies have the kernel's numbers.
const (
	// NUMADefault takes memory from the node of the processor. It has no nodes.
	NUMADefault NUMAPolicy = 0
	// NUMAPreferred takes memory from this node, if it has some. Without a node
	// it is as NUMALocal.
	NUMAPreferred NUMAPolicy = 1
	// NUMABind takes memory from these nodes only.
	NUMABind NUMAPolicy = 2
	// NUMAInterleave takes memory from these nodes in turn.
	NUMAInterleave NUMAPolicy = 3
	// NUMALocal takes memory from the node of the processor. It has no nodes.
	NUMALocal NUMAPolicy = 4
)

// maxNode bounds the number of a node, as the kernel does.
const maxNode = 1023

// SetNUMAPolicy says from which nodes the program's memory comes.
//
// The default is the policy of the parent's thread that starts the program. On
// a kernel without NUMA, starting fails with ENOSYS.
//
// Like systemd's NUMAPolicy= and NUMAMask=; see set_mempolicy(2).
func (c *Command) SetNUMAPolicy(policy NUMAPolicy, nodes ...int) *Command {
	switch policy {
	case NUMADefault, NUMALocal:
		if len(nodes) > 0 {
			c.fail("SetNUMAPolicy", "the policy %d takes no nodes", int(policy))
		}
	case NUMAPreferred:
		if len(nodes) > 1 {
			c.fail("SetNUMAPolicy", "the policy %d takes one node", int(policy))
		}
	case NUMABind, NUMAInterleave:
		if len(nodes) == 0 {
			c.fail("SetNUMAPolicy", "the policy %d needs nodes", int(policy))
		}
	default:
		c.fail("SetNUMAPolicy", "%d is not a policy", int(policy))
	}
	for _, n := range nodes {
		if n < 0 || n > maxNode {
			c.fail("SetNUMAPolicy", "%d is not the number of a node", n)
			return c
		}
	}
	c.want.Scheduling.NUMAPolicy, c.want.Scheduling.NUMANodes, c.want.Scheduling.SetNUMA = int(policy), slices.Clone(nodes), true
	return c
}

// IOPriorityClass is a class of priorities for the disk.
//
// See ioprio_set(2).
type IOPriorityClass int

// The classes have the kernel's numbers.
const (
	// IOPriorityRealtime comes first. It needs CAP_SYS_ADMIN or CAP_SYS_NICE.
	IOPriorityRealtime IOPriorityClass = 1
	// IOPriorityBestEffort is what programs have that say nothing.
	IOPriorityBestEffort IOPriorityClass = 2
	// IOPriorityIdle is served when nobody else wants the disk. It has
	// no levels.
	IOPriorityIdle IOPriorityClass = 3
)

// SetIOPriority sets the program's priority for the disk: a class, and a level
// in it.
//
// The first two classes have levels from 0, the highest, to 7. The default is
// the priority of the parent's thread that starts the program.
//
// [IOPriorityRealtime] needs CAP_SYS_ADMIN or CAP_SYS_NICE.
//
// Like systemd's IOSchedulingClass= and IOSchedulingPriority=; see
// ioprio_set(2).
func (c *Command) SetIOPriority(class IOPriorityClass, level int) *Command {
	switch {
	case class < IOPriorityRealtime || class > IOPriorityIdle:
		c.fail("SetIOPriority", "%d is not a class", int(class))
	case level < 0 || level > 7 || class == IOPriorityIdle && level != 0:
		c.fail("SetIOPriority", "the class %d has no level %d", int(class), level)
	}
	c.want.Scheduling.IOClass, c.want.Scheduling.IOLevel, c.want.Scheduling.SetIO = int(class), level, true
	return c
}

// SetTimerSlack sets by how much the program's timers may be late, from 1
// nanosecond, so that the kernel can serve several at once.
//
// The default is the slack of the parent's thread that starts the program,
// usually 50 microseconds. On a 32-bit processor it is an error to ask for more
// than 4294967295 nanoseconds.
//
// Like systemd's TimerSlackNSec=; see PR_SET_TIMERSLACK in prctl(2).
func (c *Command) SetTimerSlack(d time.Duration) *Command {
	if d < 1 {
		c.fail("SetTimerSlack", "the slack %v is less than a nanosecond", d)
	}
	if uint64(d) > uint64(^uintptr(0)) { // a register of the call
		c.fail("SetTimerSlack", "the slack %v is more than 4.294967295s, which is the most on a 32-bit processor", d)
	}
	c.want.Scheduling.TimerSlack, c.want.Scheduling.SetSlack = d, true
	return c
}

// SetRunAlone lets no other program run on the same core as this one at the
// same time, on the core's other hardware threads.
//
// So others cannot read what one program leaves in the core's caches. The
// default is to share cores as the parent does.
//
// It needs Linux 5.14, built with core scheduling, and a machine whose cores
// have several threads. Elsewhere it is an error.
//
// Like virCommandSetRunAlone; see PR_SCHED_CORE in prctl(2).
func (c *Command) SetRunAlone() *Command {
	if c.want.Scheduling.RunAmong != 0 {
		c.fail("SetRunAlone", "the program is to run among those of process %d", c.want.Scheduling.RunAmong)
	}
	c.want.Scheduling.RunAlone = true
	return c
}

// SetRunAmong is [Command.SetRunAlone] together with the process pid.
//
// The two may run on the same core, with all others that share the core with
// that process. The parent must be allowed to trace that process.
//
// Like virCommandSetRunAmong; see PR_SCHED_CORE_SHARE_FROM in prctl(2).
func (c *Command) SetRunAmong(pid int) *Command {
	switch {
	case pid < 1:
		c.fail("SetRunAmong", "%d is not a process", pid)
	case c.want.Scheduling.RunAlone:
		c.fail("SetRunAmong", "the program is to run alone")
	}
	c.want.Scheduling.RunAmong = pid
	return c
}

// SetOOMScoreAdj sets how likely the kernel is to end the program when memory
// runs out, from -1000, never, to 1000.
//
// The default is the parent's value, which stays: the child no longer shares
// the parent's memory when it sets its own.
//
// Going below the parent's value, or what it was once lowered to, needs
// CAP_SYS_RESOURCE. Without it, starting fails with EACCES. It needs /proc.
//
// Like systemd's OOMScoreAdjust=; see /proc/PID/oom_score_adj in proc(5).
func (c *Command) SetOOMScoreAdj(adj int) *Command {
	if adj < -1000 || adj > 1000 {
		c.fail("SetOOMScoreAdj", "%d is not in -1000 to 1000", adj)
	}
	c.want.Attributes.OOMScoreAdj, c.want.Attributes.SetOOMScoreAdj = adj, true
	return c
}

// SetCoredumpFilter says which parts of the memory go into a core dump of
// the program.
//
// There is a bit for each kind in core(5); 0x33 is usual. The default is the
// parent's filter.
//
// It needs /proc. The parent's filter stays: the child no longer shares the
// parent's memory when it sets its own.
//
// Like systemd's CoredumpFilter=; see /proc/PID/coredump_filter in core(5).
func (c *Command) SetCoredumpFilter(kinds uint32) *Command {
	const all = 0x1ff
	if kinds > all {
		c.fail("SetCoredumpFilter", "unknown bits %#x (valid: %#x)", kinds&^all, all)
	}
	c.want.Attributes.CoredumpFilter, c.want.Attributes.SetCoredumpFilter = kinds, true
	return c
}

// SetTransparentHugepages says whether the kernel may back the program's memory
// by huge pages where it sees fit. With false it does not; with true it does as
// /sys/kernel/mm/transparent_hugepage says.
//
// The default is as in the parent. The program's descendants inherit it.
//
// It needs no privilege, and Linux 3.15. The flag belongs to the memory, which
// the child no longer shares with the parent when it sets it.
//
// See PR_SET_THP_DISABLE in prctl(2).
func (c *Command) SetTransparentHugepages(on bool) *Command {
	c.want.Attributes.Hugepages, c.want.Attributes.SetHugepages = on, true
	return c
}
