//go:build linux

package plan

import (
	"encoding/binary"

	"github.com/virspawn/spawn/internal/program"
	"github.com/virspawn/spawn/internal/stub"
	"golang.org/x/sys/unix"
)

// Some programs do not run in the child that the calling process clones, the
// first parent, but in one that this forks before it ends:
//
//   - A daemon, in a session whose leader ends.
//   - What is born in a cgroup, in a pid namespace that it joins, or in a new
//     namespace of users or times. Whoever is there may look at it, or end it
//     for its memory, from its first moment: so it has nothing of the calling
//     process's from its first moment. It is that one's child (CLONE_PARENT).
//
// Where only a helper can be started, that one is the first parent, and what it
// forks another helper that it starts to go on with the rest.
//
// The kernel writes the pid into memory that the first parent shares with the
// calling process, before the child does anything: it may be frozen from its
// first moment, in its cgroup, or the first parent killed. A pid may be another
// process's by the time that it is used. So the child waits at the gate, the
// calling process opens a pidfd and lets it go on, and the child answers: it
// was alive when the pidfd was opened.

// Forks reports whether the program runs in a child of the child's.
func (pl *Plan) Forks() bool {
	n := &pl.Command.Namespaces
	switch {
	case pl.Mode == InPlace:
		return false
	case pl.Command.Daemon || pl.fds.pidNS >= 0:
		return true
	case pl.Options.Executor == ForkedHelper:
		return false
	}
	return pl.fds.cgroup >= 0 || n.Fresh&ownMemoryKinds != 0
}

// SaysReady is what a child writes to the status pipe when it is at a gate.
// Else it writes a program.Report, whose first byte is even.
const SaysReady = 1

// fork forks the process of the program, once the calling process knows it.
func (pl *Plan) fork() {
	if !pl.Forks() {
		return
	}
	p := pl.Program
	if pl.Command.Daemon {
		// The session is that of the first parent, which ends: it then has
		// no leader.
		p.Add(unix.SYS_SETSID)
	}
	if pl.fds.pidNS >= 0 {
		p.Add(unix.SYS_SETNS, pl.fds.keptFD(pl.fds.pidNS), unix.CLONE_NEWPID)
	}
	pl.forkTo()
	pl.awaitByte()
	pl.sayReady()
}

// HasForked reports whether a failure is that of the process that was forked,
// which then has to be waited for.
func (pl *Plan) HasForked(f program.Failure) bool { return pl.Forks() && f.Op > pl.forkAt }

// RefusesFork reports whether a failure is that of the fork.
func (pl *Plan) RefusesFork(f program.Failure) bool { return pl.Forks() && f.Op == pl.forkAt }

// forkFlags returns the flags that do not depend on the memory.
func (pl *Plan) forkFlags() uint64 {
	flags := uint64(pl.Command.Namespaces.Fresh)
	if !pl.Command.Daemon {
		flags |= unix.CLONE_PARENT
	}
	return flags
}

// forkTo adds the call that forks.
func (pl *Plan) forkTo() {
	p := pl.Program
	flags := pl.forkFlags()
	if pl.Options.Executor == ForkedHelper {
		// Package syscall forks in this way too, and the helper tells the pid.
		p.AddOp(unix.SYS_CLONE, program.Leave, unix.CLONE_VM|unix.CLONE_VFORK|uintptr(flags))
		return
	}
	flags |= unix.CLONE_PARENT_SETTID
	var pid uintptr
	if pl.stub != nil {
		// The first parent is still the calling process, to everybody else, and
		// what it forks may be in the hands of others at once: that has a copy
		// of its memory, which is small, and not the pid.
		pid = stub.PIDAt()
		p.Add(unix.SYS_MADVISE, pid, uintptr(stub.PIDSize()), unix.MADV_DONTFORK)
	} else {
		pl.forked = p.Words(0)
		pid = pl.forked
		if flags&(unix.CLONE_NEWTIME|unix.CLONE_NEWUSER) == 0 {
			// A copy of the calling process's, which may be large.
			flags |= unix.CLONE_VM
		}
	}
	if pl.fds.cgroup < 0 && flags&unix.CLONE_NEWTIME == 0 {
		pl.forkAt = p.AddOp(unix.SYS_CLONE, program.Leave, uintptr(flags), 0, pid)
		return
	}
	// For clone the flag of the time namespace is part of a signal's number.
	var cgroup uint64
	size := uintptr(cloneArgsSize0)
	if pl.fds.cgroup >= 0 {
		flags |= unix.CLONE_INTO_CGROUP
		cgroup, size = uint64(pl.fds.keptFD(pl.fds.cgroup)), cloneArgsSize
	}
	const parentTID = 3 // its place in struct clone_args
	args := p.Words(flags, 0, 0, 0, 0, 0, 0, 0, 0, 0, cgroup)
	p.SetPointer(args, parentTID, pid)
	pl.forkAt = p.AddOp(unix.SYS_CLONE3, program.Leave, args, size)
}

// Forked returns the pid of the process that the child has forked, as this
// process knows it; 0 if there is none.
//
// Preconditions: the child has ended.
func (pl *Plan) Forked() int {
	switch {
	case pl.Options.Executor == ForkedHelper:
		return pl.Helper.Report.Forked()
	case pl.stub != nil:
		return pl.stub.report.Forked()
	}
	return int(binary.NativeEndian.Uint32(pl.Program.Bytes(pl.forked, 4)))
}

// Sizes of a struct clone_args as of Linux 5.3 and 5.7. (CLONE_ARGS_SIZE_VER0,
// CLONE_ARGS_SIZE_VER2)
const (
	cloneArgsSize0 = 64
	cloneArgsSize  = 88
)
