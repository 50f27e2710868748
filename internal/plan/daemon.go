//go:build linux

package plan

import (
	"errors"
	"fmt"

	"github.com/virspawn/spawn/internal/command"
	"github.com/virspawn/spawn/internal/program"
	"golang.org/x/sys/unix"
)

// A daemon is forked by the child that the calling process clones: the first
// parent. That one makes a session and puts the descriptors to their numbers.
// Then it forks the daemon, which does the rest, and ends. The kernel writes
// the daemon's pid into the program's memory before the daemon does anything.
//
// Where only a helper can be started, that one is the first parent, and its
// daemon another helper that it starts to go on with the rest.
//
// A pid may be another process's by the time that it is used. So the daemon
// first waits at the gate, the calling process opens a pidfd and lets it go on,
// and the daemon answers: it was alive when the pidfd was opened.

// checkDaemon refuses a daemon that a helper cannot fork.
func (pl *Plan) checkDaemon() error {
	c := pl.Command
	if c.Daemon && pl.Options.Executor == ForkedHelper && c.Namespaces.Fresh&unix.CLONE_NEWUSER != 0 {
		return &command.CallError{Method: "Daemonize", Err: fmt.Errorf("no child can be cloned here, and a helper makes no user namespace for a daemon: %w", errors.ErrUnsupported)}
	}
	return nil
}

// checkData refuses data that nobody would be left to write.
func (pl *Plan) checkData() error {
	method := ""
	switch {
	case len(pl.Jobs) == 0:
	case pl.Mode == InPlace:
		method = "Exec"
	case pl.Command.Daemon:
		method = "Daemonize"
	}
	if method == "" {
		return nil
	}
	j := &pl.Jobs[0]
	setter := "SetSendBuffer"
	if j.Stream == command.Stdin {
		setter = "SetInput"
	}
	// it is full, and nobody has read
	holds, _ := unix.IoctlGetInt(j.FD, unix.TIOCINQ)
	return command.ErrTooLong(method, setter, holds+len(j.Data), holds)
}

// doubleFork ends the first parent and goes on in the daemon, once the calling
// process knows it.
func (pl *Plan) doubleFork() {
	if !pl.Command.Daemon {
		return
	}
	p := pl.Program
	if pl.fds.daemonPIDNS >= 0 {
		p.Add(unix.SYS_SETNS, pl.fds.keptFD(pl.fds.daemonPIDNS), unix.CLONE_NEWPID)
	}
	pl.forkDaemon()
	pl.awaitByte()
	pl.sayReady()
	pl.leadSessionOrGroup()
}

// forkDaemon adds the call that forks the daemon.
func (pl *Plan) forkDaemon() {
	p := pl.Program
	if pl.Options.Executor == ForkedHelper {
		// Package syscall forks in this way too.
		p.AddOp(unix.SYS_CLONE, program.Leave, unix.CLONE_VM|unix.CLONE_VFORK|uintptr(pl.Command.Namespaces.Fresh))
		return
	}
	pl.DaemonPID = p.Words(0)
	flags := unix.CLONE_PARENT_SETTID | uintptr(pl.Command.Namespaces.Fresh)
	if !pl.CloneOptions.OwnMemory {
		// A first parent with a memory of its own forks without this: nobody
		// else may be in the daemon's memory when it joins a namespace.
		flags |= unix.CLONE_VM
	}
	if flags&unix.CLONE_NEWTIME == 0 {
		p.AddOp(unix.SYS_CLONE, program.Leave, flags, 0, pl.DaemonPID)
	} else { // for clone that bit is part of a signal's number
		args := p.Words(uint64(flags), 0, 0, uint64(pl.DaemonPID), 0, 0, 0, 0)
		p.AddOp(unix.SYS_CLONE3, program.Leave, args, cloneArgsSize)
	}
}

// cloneArgsSize is the size of a struct clone_args as of Linux 5.3.
// (CLONE_ARGS_SIZE_VER0)
const cloneArgsSize = 64
