package spawn

import (
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// ownMemory reports whether the child must not share this process's memory, because of what it does to state that belongs to
// the memory, or because the kernel allows it only to a process with memory of its own.
func ownMemory(c *wanted, by executor) bool {
	const kinds = unix.CLONE_NEWUSER | unix.CLONE_NEWTIME
	switch a := &c.attrs; {
	case by == forkedHelper:
		return false
	case c.namespaces.fresh&kinds != 0, c.namespaces.joins(kinds):
		return true
	case by != direct: // a helper does the rest when it has memory of its own
		return false
	case a.setCoredumpFilter:
		return true
	case a.setOOMScoreAdj && (c.daemon || c.hasParentWork()): // which this process cannot do while it waits for the child
		return true
	case c.handshake && (a.setOOMScoreAdj || endangersMemory(c)): // which would hold up this process's threads, or other children
		return true
	case a.setOOMScoreAdj && os.Geteuid() != 0:
		return endangersMemory(c) // while this process is not dumpable, the child's files in /proc are root's
	}
	return false
}

// undumpable reports whether this process must not be dumpable while the child shares its memory.
func undumpable(c *wanted, by executor) bool {
	return by == direct && !ownMemory(c, by) && endangersMemory(c)
}

// endangersMemory reports whether what the child does, or what is done to it, must not find a memory that is dumpable and not the child's alone: the kernel
// clears the flag when credentials change, a seccomp filter may end the child with a core dump in execve, and where a core dump ends all who share the memory
// any child may get SIGQUIT.
func endangersMemory(c *wanted) bool {
	return c.ids.setUID || c.ids.setGID || c.confinement.filter != nil || coreDumpEndsAll()
}

// needsPipe reports whether only the end of the status pipe tells that the child has left the memory for good.
func needsPipe(c *wanted, by executor) bool {
	return by != direct || c.handshake || c.daemon || undumpable(c, by) || ownMemory(c, by)
}

// coreDumpEndsAll reports whether a process that dumps core ends all that share its memory, if that is dumpable: before Linux 5.16, so far as the number tells.
var coreDumpEndsAll = sync.OnceValue(func() bool {
	var u unix.Utsname
	var major, minor int
	_ = unix.Uname(&u)
	_, _ = fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &major, &minor)
	return major < 5 || major == 5 && minor < 16
})
