//go:build linux

package program

import (
	"encoding/binary"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// calls says how to print each system call that a program may hold, and how
// the parent's own calls print in errors. A call that is missing here prints
// by number.
var calls map[uintptr]call

func init() {
	// In init, because the formats of some arguments refer back to the
	// table's users.
	calls = map[uintptr]call{
		unix.SYS_CHDIR:          {name: "chdir", args: []format{quotedString}},
		unix.SYS_CLONE:          {name: "clone", args: []format{cloneFlags}},
		unix.SYS_CLONE3:         {name: "clone3", args: []format{cloneArgs, unsigned}},
		unix.SYS_CLOSE:          {name: "close", args: []format{signed}},
		unix.SYS_CLOSE_RANGE:    {name: "close_range", args: []format{unsigned, maxDescriptor, closeRangeFlags}},
		unix.SYS_DUP3:           {name: "dup3", args: []format{signed, signed, openFlags("0")}},
		HookNr:                  {name: "hook", args: []format{quotedString, quotedString}},
		unix.SYS_EXECVEAT:       {name: "execveat", args: []format{signed, quotedString, quotedStrings, quotedStrings, atFlags}},
		unix.SYS_EXECVE:         {name: "execve", args: []format{quotedString, quotedStrings, quotedStrings}},
		SysFcntl:                {name: "fcntl", args: []format{signed, fcntlCommand, hex}, sized: fcntlArg},
		unix.SYS_GETPPID:        {name: "getppid"},
		unix.SYS_MADVISE:        {name: "madvise", args: []format{pointer, unsigned, advice}},
		SysMmap:                 {name: "mmap", args: []format{pointer, unsigned, protection, mapFlags, signed, unsigned}},
		unix.SYS_MOUNT:          {name: "mount", args: []format{quotedString, quotedString, quotedString, mountFlags, pointer}},
		unix.SYS_OPENAT:         {name: "openat", args: []format{dirDescriptor, quotedString, openFlags("O_RDONLY")}},
		unix.SYS_PRLIMIT64:      {name: "prlimit64", args: []format{signed, resource, rlimit, pointer}},
		unix.SYS_READ:           {name: "read", args: []format{signed, pointer, unsigned}},
		unix.SYS_RENAMEAT2:      {name: "renameat2", args: []format{dirDescriptor, quotedString, dirDescriptor, quotedString, renameFlags}},
		unix.SYS_RT_SIGACTION:   {name: "rt_sigaction", args: []format{signal, sigaction, pointer, unsigned}},
		unix.SYS_RT_SIGPROCMASK: {name: "rt_sigprocmask", args: []format{maskHow, signalSet, pointer, unsigned}},
		SysSetgroups:            {name: "setgroups", args: []format{unsigned, pointer}, sized: sizedGroups},
		unix.SYS_SETNS:          {name: "setns", args: []format{signed, cloneFlags}},
		unix.SYS_SETPGID:        {name: "setpgid", args: []format{signed, signed}},
		SysSetresgid:            {name: "setresgid", args: []format{id, id, id}},
		SysSetresuid:            {name: "setresuid", args: []format{id, id, id}},
		unix.SYS_SETSID:         {name: "setsid"},
		unix.SYS_UMASK:          {name: "umask", args: []format{octal}},
		unix.SYS_UNSHARE:        {name: "unshare", args: []format{cloneFlags}},
		unix.SYS_WRITE:          {name: "write", args: []format{signed, pointer, unsigned}, sized: sizedData},
	}
}

var cloneFlagNames = []flagName{
	{unix.CLONE_VM, "CLONE_VM"},
	{unix.CLONE_FS, "CLONE_FS"},
	{unix.CLONE_FILES, "CLONE_FILES"},
	{unix.CLONE_PIDFD, "CLONE_PIDFD"},
	{unix.CLONE_VFORK, "CLONE_VFORK"},
	{unix.CLONE_PARENT, "CLONE_PARENT"},
	{unix.CLONE_PARENT_SETTID, "CLONE_PARENT_SETTID"},
	{unix.CLONE_CHILD_CLEARTID, "CLONE_CHILD_CLEARTID"},
	{unix.CLONE_NEWCGROUP, "CLONE_NEWCGROUP"},
	{unix.CLONE_NEWIPC, "CLONE_NEWIPC"},
	{unix.CLONE_NEWNET, "CLONE_NEWNET"},
	{unix.CLONE_NEWNS, "CLONE_NEWNS"},
	{unix.CLONE_NEWPID, "CLONE_NEWPID"},
	{unix.CLONE_NEWTIME, "CLONE_NEWTIME"},
	{unix.CLONE_NEWUSER, "CLONE_NEWUSER"},
	{unix.CLONE_NEWUTS, "CLONE_NEWUTS"},
	{unix.CLONE_CLEAR_SIGHAND, "CLONE_CLEAR_SIGHAND"},
	{unix.CLONE_INTO_CGROUP, "CLONE_INTO_CGROUP"},
}

// CloneFlags prints the flags of a clone3.
func CloneFlags(v uint64) string { return joinFlags(v, "0", cloneFlagNames) }

func cloneFlags(_ *Program, v uintptr) string { return CloneFlags(uint64(v)) }

var atFlags = flags("0", flagName{unix.AT_EMPTY_PATH, "AT_EMPTY_PATH"})

// cloneArgs prints the flags of a struct clone_args, which come first.
func cloneArgs(p *Program, addr uintptr) string { return "{flags=" + CloneFlags(p.word(addr)) + "}" }

var protection = flags("PROT_NONE",
	flagName{unix.PROT_READ, "PROT_READ"},
	flagName{unix.PROT_WRITE, "PROT_WRITE"},
)

var mapFlags = flags("0",
	flagName{unix.MAP_SHARED, "MAP_SHARED"},
	flagName{unix.MAP_FIXED, "MAP_FIXED"},
	flagName{unix.MAP_POPULATE, "MAP_POPULATE"},
)

var renameFlags = flags("0", flagName{unix.RENAME_NOREPLACE, "RENAME_NOREPLACE"})

var mountFlags = flags("0",
	flagName{unix.MS_REC, "MS_REC"},
	flagName{unix.MS_SLAVE, "MS_SLAVE"},
)

var closeRangeFlags = flags("0",
	flagName{unix.CLOSE_RANGE_UNSHARE, "CLOSE_RANGE_UNSHARE"},
	flagName{unix.CLOSE_RANGE_CLOEXEC, "CLOSE_RANGE_CLOEXEC"},
)

// openFlags prints the flags of open(2), with zero's name where no access mode
// is set.
func openFlags(zero string) format {
	rest := flags("",
		flagName{unix.O_CLOEXEC, "O_CLOEXEC"},
		flagName{unix.O_CREAT, "O_CREAT"},
		flagName{unix.O_DIRECTORY, "O_DIRECTORY"},
		flagName{unix.O_NOCTTY, "O_NOCTTY"},
		flagName{unix.O_NOFOLLOW, "O_NOFOLLOW"},
		flagName{unix.O_NONBLOCK, "O_NONBLOCK"},
		flagName{unix.O_PATH, "O_PATH"},
		flagName{unix.O_TRUNC, "O_TRUNC"},
	)
	return func(p *Program, v uintptr) string {
		mode := [...]string{zero, "O_WRONLY", "O_RDWR", "O_ACCMODE"}[v&unix.O_ACCMODE]
		names := rest(p, v&^unix.O_ACCMODE)
		switch {
		case names == "":
			return mode
		case mode == "0":
			return names
		}
		return mode + "|" + names
	}
}

var fcntlCommand = enum(map[uintptr]string{
	unix.F_SETFD: "F_SETFD",
	unix.F_GETFD: "F_GETFD",
	unix.F_SETFL: "F_SETFL",
	unix.F_SETLK: "F_SETLK",
})

var lockType = enum(map[uintptr]string{
	unix.F_RDLCK: "F_RDLCK",
	unix.F_WRLCK: "F_WRLCK",
	unix.F_UNLCK: "F_UNLCK",
})

// fcntlArg prints the flag of a F_SETFD, and the struct flock of a F_SETLK, of
// which nothing but the type is ever set.
func fcntlArg(p *Program, args []uintptr, printed []string) {
	if args[1] == unix.F_SETFD && args[2] == unix.FD_CLOEXEC {
		printed[2] = "FD_CLOEXEC"
	}
	if args[1] == unix.F_SETLK && args[2] != 0 {
		kind := binary.NativeEndian.Uint16(p.arena.bytes(args[2], 2))
		printed[2] = "{l_type=" + lockType(p, uintptr(kind)) + ", l_whence=SEEK_SET, l_start=0, l_len=0}"
	}
}

var maskHow = enum(map[uintptr]string{
	unix.SIG_BLOCK:   "SIG_BLOCK",
	unix.SIG_UNBLOCK: "SIG_UNBLOCK",
	unix.SIG_SETMASK: "SIG_SETMASK",
})

var resources = map[uintptr]string{
	unix.RLIMIT_AS:         "RLIMIT_AS",
	unix.RLIMIT_CORE:       "RLIMIT_CORE",
	unix.RLIMIT_CPU:        "RLIMIT_CPU",
	unix.RLIMIT_DATA:       "RLIMIT_DATA",
	unix.RLIMIT_FSIZE:      "RLIMIT_FSIZE",
	unix.RLIMIT_LOCKS:      "RLIMIT_LOCKS",
	unix.RLIMIT_MEMLOCK:    "RLIMIT_MEMLOCK",
	unix.RLIMIT_MSGQUEUE:   "RLIMIT_MSGQUEUE",
	unix.RLIMIT_NICE:       "RLIMIT_NICE",
	unix.RLIMIT_NOFILE:     "RLIMIT_NOFILE",
	unix.RLIMIT_NPROC:      "RLIMIT_NPROC",
	unix.RLIMIT_RSS:        "RLIMIT_RSS",
	unix.RLIMIT_RTPRIO:     "RLIMIT_RTPRIO",
	unix.RLIMIT_RTTIME:     "RLIMIT_RTTIME",
	unix.RLIMIT_SIGPENDING: "RLIMIT_SIGPENDING",
	unix.RLIMIT_STACK:      "RLIMIT_STACK",
}

var resource = enum(resources)

func rlimit(p *Program, addr uintptr) string {
	if addr == 0 {
		return "NULL"
	}
	return "{soft=" + rlimitValue(p.word(addr)) + ", hard=" + rlimitValue(p.word(addr+wordSize)) + "}"
}

func rlimitValue(v uint64) string {
	if v == ^uint64(0) {
		return "RLIM_INFINITY"
	}
	return strconv.FormatUint(v, 10)
}

// SignalName returns the name of signal n as strace prints it: SIGHUP,
// SIGRTMIN, SIGRT_3.
func SignalName(n int) string {
	const rtMin = 32 // the kernel's, not the C library's
	switch name := unix.SignalName(syscall.Signal(n)); {
	case name != "":
		return name
	case n == rtMin:
		return "SIGRTMIN"
	case n > rtMin && n <= 64:
		return "SIGRT_" + strconv.Itoa(n-rtMin)
	}
	return strconv.Itoa(n)
}

func advice(_ *Program, v uintptr) string {
	if v == unix.MADV_DONTFORK {
		return "MADV_DONTFORK"
	}
	return strconv.FormatUint(uint64(v), 10)
}

func signal(_ *Program, v uintptr) string { return SignalName(int(v)) }

func sigaction(p *Program, addr uintptr) string {
	if addr == 0 {
		return "NULL"
	}
	handler := "SIG_DFL"
	switch h := p.word(addr); h {
	case 0:
	case 1:
		handler = "SIG_IGN"
	default: // there is one only
		handler = "die"
	}
	return "{sa_handler=" + handler + "}"
}

func signalSet(p *Program, addr uintptr) string {
	if addr == 0 {
		return "NULL"
	}
	set := p.word(addr)
	if set == ^uint64(0) {
		return "~[]"
	}
	var s []string
	for n := 1; n <= 64; n++ {
		if set&(1<<(n-1)) != 0 {
			s = append(s, strings.TrimPrefix(SignalName(n), "SIG"))
		}
	}
	return "[" + strings.Join(s, " ") + "]"
}
