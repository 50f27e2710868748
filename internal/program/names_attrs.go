//go:build linux

package program

import (
	"encoding/binary"
	"maps"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

func init() {
	maps.Copy(calls, map[uintptr]call{
		unix.SYS_CHROOT:                 {name: "chroot", args: []format{quotedString}},
		unix.SYS_IOCTL:                  {name: "ioctl", args: []format{signed, ioctlRequest, unsigned}},
		unix.SYS_IOPRIO_SET:             {name: "ioprio_set", args: []format{ioPriorityWho, signed, ioPriority}},
		unix.SYS_KEYCTL:                 {name: "keyctl", args: []format{keyCommand, pointer}},
		unix.SYS_LANDLOCK_RESTRICT_SELF: {name: "landlock_restrict_self", args: []format{signed, hex}},
		unix.SYS_PERSONALITY:            {name: "personality", args: []format{personality}},
		unix.SYS_PPOLL:                  {name: "ppoll", args: []format{pointer, unsigned, timespec, pointer, unsigned}, sized: sizedPollFDs},
		unix.SYS_SCHED_SETAFFINITY:      {name: "sched_setaffinity", args: []format{signed, unsigned, pointer}, sized: sizedCPUs},
		unix.SYS_SCHED_SETATTR:          {name: "sched_setattr", args: []format{signed, schedAttr, hex}},
		unix.SYS_SCHED_SETSCHEDULER:     {name: "sched_setscheduler", args: []format{signed, schedPolicyFlags, schedParam}},
		unix.SYS_SET_MEMPOLICY:          {name: "set_mempolicy", args: []format{memoryPolicy, pointer, unsigned}, sized: sizedNodes},
		unix.SYS_SETPRIORITY:            {name: "setpriority", args: []format{priorityWhich, signed, signed}},
	})
}

var (
	ioctlRequest  = enum(map[uintptr]string{unix.TIOCSCTTY: "TIOCSCTTY"})
	ioPriorityWho = enum(map[uintptr]string{1: "IOPRIO_WHO_PROCESS"})
	keyCommand    = enum(map[uintptr]string{unix.KEYCTL_JOIN_SESSION_KEYRING: "KEYCTL_JOIN_SESSION_KEYRING"})
	priorityWhich = enum(map[uintptr]string{0: "PRIO_PROCESS"})
	memoryPolicy  = enum(map[uintptr]string{
		unix.MPOL_DEFAULT:    "MPOL_DEFAULT",
		unix.MPOL_PREFERRED:  "MPOL_PREFERRED",
		unix.MPOL_BIND:       "MPOL_BIND",
		unix.MPOL_INTERLEAVE: "MPOL_INTERLEAVE",
		unix.MPOL_LOCAL:      "MPOL_LOCAL",
	})
	coreCommand = enum(map[uintptr]string{
		unix.PR_SCHED_CORE_CREATE:     "PR_SCHED_CORE_CREATE",
		unix.PR_SCHED_CORE_SHARE_FROM: "PR_SCHED_CORE_SHARE_FROM",
	})
	coreScope   = enum(map[uintptr]string{unix.PR_SCHED_CORE_SCOPE_THREAD: "PR_SCHED_CORE_SCOPE_THREAD"})
	schedPolicy = enum(map[uintptr]string{
		0: "SCHED_OTHER", 1: "SCHED_FIFO", 2: "SCHED_RR", 3: "SCHED_BATCH", 5: "SCHED_IDLE", 6: "SCHED_DEADLINE",
	})
	ioClass = enum(map[uintptr]string{1: "IOPRIO_CLASS_RT", 2: "IOPRIO_CLASS_BE", 3: "IOPRIO_CLASS_IDLE"})
)

var schedFlags = flags("0", flagName{1, "SCHED_FLAG_RESET_ON_FORK"})

func ioPriority(p *Program, v uintptr) string {
	return "IOPRIO_PRIO_VALUE(" + ioClass(p, v>>13) + ", " + strconv.Itoa(int(v&(1<<13-1))) + ")"
}

// personality prints a number in the low byte and flags above it.
func personality(_ *Program, v uintptr) string {
	base, ok := map[uintptr]string{0: "PER_LINUX", 8: "PER_LINUX32"}[v&0xff]
	if !ok {
		base = "0x" + strconv.FormatUint(uint64(v&0xff), 16)
	}
	if v &^= 0xff; v == 0 {
		return base
	}
	return base + "|" + joinFlags(uint64(v), "", []flagName{{0x40000, "ADDR_NO_RANDOMIZE"}, {0x400000, "READ_IMPLIES_EXEC"}})
}

func schedPolicyFlags(p *Program, v uintptr) string {
	const resetOnFork = 0x40000000
	s := schedPolicy(p, v&^resetOnFork)
	if v&resetOnFork != 0 {
		s += "|SCHED_RESET_ON_FORK"
	}
	return s
}

// schedParam prints a struct sched_param.
func schedParam(p *Program, addr uintptr) string {
	return "[" + strconv.Itoa(int(int32(binary.NativeEndian.Uint32(p.Bytes(addr, 4))))) + "]"
}

// schedAttr prints a struct sched_attr.
func schedAttr(p *Program, addr uintptr) string {
	half := func(offset uintptr) uintptr { return uintptr(binary.NativeEndian.Uint32(p.Bytes(addr+offset, 4))) }
	whole := func(offset uintptr) string { return strconv.FormatUint(p.word(addr+offset), 10) }
	return "{size=" + unsigned(p, half(0)) + ", sched_policy=" + schedPolicy(p, half(4)) +
		", sched_flags=" + schedFlags(p, uintptr(p.word(addr+8))) +
		", sched_nice=" + signed(p, half(16)) + ", sched_priority=" + unsigned(p, half(20)) +
		", sched_runtime=" + whole(24) + ", sched_deadline=" + whole(32) + ", sched_period=" + whole(40) + "}"
}

// timespec prints a struct timespec.
func timespec(p *Program, addr uintptr) string {
	return "{tv_sec=" + strconv.FormatUint(p.word(addr), 10) + ", tv_nsec=" + strconv.FormatUint(p.word(addr+wordSize), 10) + "}"
}

var pollEvents = flags("0", flagName{unix.POLLIN, "POLLIN"}, flagName{unix.POLLOUT, "POLLOUT"})

// sizedPollFDs prints the list of a ppoll(2).
func sizedPollFDs(p *Program, args []uintptr, printed []string) {
	s := make([]string, args[1])
	for i := range s {
		b := p.Bytes(args[0]+uintptr(i*8), 8)
		fd, events := binary.NativeEndian.Uint32(b), binary.NativeEndian.Uint16(b[4:])
		s[i] = "{fd=" + signed(p, uintptr(fd)) + ", events=" + pollEvents(p, uintptr(events)) + "}"
	}
	printed[0] = "[" + strings.Join(s, ", ") + "]"
}

// sizedCPUs prints the set of a sched_setaffinity(2).
func sizedCPUs(p *Program, args []uintptr, printed []string) {
	var s []string
	for n := range args[1] * 8 {
		if p.word(args[2]+n/64*wordSize)&(1<<(n%64)) != 0 {
			s = append(s, strconv.Itoa(int(n)))
		}
	}
	printed[2] = "[" + strings.Join(s, " ") + "]"
}

// sizedNodes prints the mask of a set_mempolicy(2).
func sizedNodes(p *Program, args []uintptr, printed []string) {
	if args[1] == 0 {
		return
	}
	var s []string
	for n := uintptr(0); n < args[2]/64; n++ {
		s = append(s, hex(p, uintptr(p.word(args[1]+n*wordSize))))
	}
	printed[1] = "[" + strings.Join(s, ", ") + "]"
}
