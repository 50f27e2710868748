//go:build linux

package plan

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/virspawn/spawn/internal/child"
	"github.com/virspawn/spawn/internal/command"
	"golang.org/x/sys/unix"
)

// A child that shares the parent's memory is the parent, for everyone who may
// trace it, for the out-of-memory killer, and for every flag that the kernel
// keeps in the memory. So it shares it only while it is to everybody else
// exactly what the parent is, and never while it waits:
//
//	what the command asks for                         the child's memory
//	------------------------------------------------  ------------------------
//	streams, descriptors, environment, directory,     the parent's until execve
//	umask, limits, session, group, terminal,
//	scheduling, personality, ignored signals, the     (before Linux 5.16, where
//	death signal, no_new_privs, Landlock              a core dump ends all who
//	                                                  share it: a stub's)
//	ids, groups, capabilities, securebits, labels,    a stub's: the command's
//	keyring, namespaces, cgroup, KillTree, chroot,    own data and nothing else
//	handshake, pid file, LISTEN_PID, a daemon,
//	out-of-memory score, core dump filter, flags
//	of the memory; a seccomp filter, which may kill
//	with a core dump
//	the same, where no stub can be executed           a copy of the parent's,
//	                                                  not dumpable
//	a hook                                            a stub's, then that of a
//	                                                  helper, not dumpable

// SharesMemory reports whether the first row of that is all that a command
// asks for.
func SharesMemory(c *command.Command) bool {
	a, n := &c.Attributes, &c.Namespaces
	switch {
	case CoreDumpEndsAll():
		return false
	case c.Hook != "" || c.WaitsForParent() || c.Confinement.Filter != nil:
		return false
	case c.IDs.SetUID || c.IDs.SetGID || c.IDs.SetGroups:
		return false
	case c.Caps != (command.Capabilities{}) || c.Labels != (command.Labels{}) || a.OwnKeyring:
		return false
	case n.Fresh != 0 || n.Joined != nil || a.Cgroup != "" || c.KillMode == command.KillTree || a.Chroot != "":
		return false
	}
	return !a.SetOOMScoreAdj && !a.SetCoredumpFilter && !a.SetHugepages && !c.Confinement.DenyWriteExecute
}

// NeedsParent reports whether the parent has something to do for the child
// before the program runs, or may have.
func NeedsParent(c *command.Command) bool {
	return c.WaitsForParent() || c.Namespaces.Fresh&ownMemoryKinds != 0 || c.Namespaces.Joins(unix.CLONE_NEWPID) ||
		c.Attributes.Cgroup != "" || c.KillMode == command.KillTree
}

// ownMemoryKinds are the namespaces in which nobody may be born who shares
// a memory of somebody outside: of users, for what others may do to the child
// there; of times, because the kernel refuses it.
const ownMemoryKinds = unix.CLONE_NEWUSER | unix.CLONE_NEWTIME

// leavesMemory reports whether the child is one that has a memory of its own
// before anything makes it another one than the parent.
func (o *Options) leavesMemory() bool { return o.Executor == Stub || o.Executor == ChildAndHelper }

// isCopied reports whether the child has a copy of the parent's memory.
func (pl *Plan) isCopied() bool {
	return pl.Options.NoStub && pl.Options.leavesMemory()
}

// usesStub reports whether the child goes by a stub.
func (pl *Plan) usesStub() bool {
	return child.Available && !pl.Options.NoStub && pl.Options.leavesMemory()
}

// checkMemory says what the clone is to share.
func (pl *Plan) checkMemory() error {
	pl.CloneOptions.OwnMemory = pl.isCopied()
	if !pl.Forks() {
		pl.CloneOptions.Namespaces = uint64(pl.Command.Namespaces.Fresh)
	}
	if pl.isCopied() && pl.Command.Namespaces.Joins(unix.CLONE_NEWPID) {
		return &command.CallError{Method: "JoinNamespace", Err: fmt.Errorf("PIDNamespace: no stub can be executed here, and a copy of this process's memory must not be seen there: %w", errors.ErrUnsupported)}
	}
	if pl.isCopied() && pl.Command.Namespaces.Fresh&unix.CLONE_NEWUSER != 0 && os.Geteuid() != 0 {
		if permitted, _ := ownCaps(); permitted != 0 {
			// Its maps could not be written if it was not dumpable. Whoever
			// has the same uid has every privilege in the namespace.
			return &command.CallError{Method: "SetNamespaces", Err: fmt.Errorf("UserNamespace: no stub can be executed here, and a copy of the memory of a process with capabilities must not be in a user namespace: %w", errors.ErrUnsupported)}
		}
	}
	return nil
}

// isDumpableLong reports whether the child stays dumpable until the parent has
// done its work: else the files in /proc that the two write would be root's,
// and the parent is not root.
func isDumpableLong() bool { return os.Geteuid() != 0 }

// leaveDumpable makes the child's memory one that nobody without privilege may
// look at. execve of the program makes it anew.
func (pl *Plan) leaveDumpable() { pl.Program.Add(unix.SYS_PRCTL, unix.PR_SET_DUMPABLE, 0) }

// leaveDumpableLate comes when the files are open, and before anything changes
// who the child is.
func (pl *Plan) leaveDumpableLate() {
	switch {
	case pl.Mode == InPlace:
		if !SharesMemory(pl.Command) { // with the other threads
			pl.leaveDumpable()
		}
	case (pl.usesStub() || pl.isCopied()) && isDumpableLong() && !pl.isMappedAtGate():
		pl.leaveDumpable()
	}
}

// isMappedAtGate reports whether the maps of the child's user namespace can be
// written only while it waits for the handshake: by a parent that is not root,
// or by somebody who looks whose files in /proc they are, as newuidmap(1) does.
func (pl *Plan) isMappedAtGate() bool {
	n := &pl.Command.Namespaces
	return isDumpableLong() && n.Fresh&unix.CLONE_NEWUSER != 0 && !n.IsMapped() && pl.Command.Handshake
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
