//go:build linux

package plan

import (
	"fmt"
	"os"
	"sync"

	"github.com/virspawn/spawn/internal/command"
	"golang.org/x/sys/unix"
)

// ownMemory reports whether the child must not share the parent's memory. One
// reason is that it changes state that belongs to the memory; the other, that
// the kernel allows something only to a process with memory of its own.
func ownMemory(c *command.Command, by Executor) bool {
	const kinds = unix.CLONE_NEWUSER | unix.CLONE_NEWTIME
	switch a := &c.Attributes; {
	case by == ForkedHelper:
		return false
	case c.Namespaces.Fresh&kinds != 0, c.Namespaces.Joins(kinds):
		return true
	case by != Direct: // a helper does the rest when it has memory of its own
		return false
	case a.SetCoredumpFilter, a.SetHugepages, c.Confinement.DenyWriteExecute:
		return true
	case a.SetOOMScoreAdj && (c.Daemon || c.HasParentWork()):
		// The parent cannot do its work while it waits for the child.
		return true
	case c.Handshake && (a.SetOOMScoreAdj || endangersMemory(c)):
		// A wait at the gate would hold up the parent's threads, or
		// other children.
		return true
	case a.SetOOMScoreAdj && os.Geteuid() != 0:
		// While the parent is not dumpable, the child's files in /proc
		// are root's.
		return endangersMemory(c)
	}
	return false
}

// Undumpable reports whether the parent must not be dumpable while the child
// shares its memory.
func Undumpable(c *command.Command, by Executor) bool {
	return by == Direct && !ownMemory(c, by) && endangersMemory(c)
}

// endangersMemory reports whether what the child does, or what is done to it,
// must not find a memory that is dumpable and not the child's alone. The kernel
// clears the flag when credentials change. A seccomp filter may end the child
// with a core dump in execve. And where a core dump ends all who share the
// memory, any child may get SIGQUIT.
func endangersMemory(c *command.Command) bool {
	return c.IDs.SetUID || c.IDs.SetGID || c.Confinement.Filter != nil || CoreDumpEndsAll()
}

// NeedsPipe reports whether only the end of the status pipe tells that the
// child has left the memory for good.
func NeedsPipe(c *command.Command, by Executor) bool {
	return by != Direct || c.Handshake || c.Daemon || Undumpable(c, by) || ownMemory(c, by)
}

// CoreDumpEndsAll reports whether a process that dumps core ends all that
// share its memory, if that is dumpable: before Linux 5.16, so far as the
// number tells.
var CoreDumpEndsAll = sync.OnceValue(func() bool {
	var u unix.Utsname
	var major, minor int
	_ = unix.Uname(&u)
	_, _ = fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &major, &minor)
	return major < 5 || major == 5 && minor < 16
})
