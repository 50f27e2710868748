package spawn

import (
	"errors"
	"fmt"

	"github.com/virspawn/spawn/internal/program"
	"golang.org/x/sys/unix"
)

// A daemon is forked by the child that this process clones: the first parent. That one makes a session and takes its place among the descriptors; then
// it forks the daemon, which does the rest, and ends. The kernel writes the daemon's pid into the program's memory before the daemon does anything.
//
// Where only a helper can be started, that one is the first parent, and its daemon another helper that it starts to go on with the rest.
//
// A pid may be another process's by the time that it is used. So the daemon first waits at the gate, this process opens a pidfd and lets it go on, and the
// daemon answers: it was alive when the pidfd was opened.

// checkDaemon refuses a daemon that a helper cannot fork.
func (pl *plan) checkDaemon() error {
	c := pl.cmd
	if c.daemon && pl.opts.executor == forkedHelper && c.namespaces.fresh&unix.CLONE_NEWUSER != 0 {
		return &badCall{"Daemonize", fmt.Errorf("no child can be cloned here, and a helper makes no user namespace for a daemon: %w", errors.ErrUnsupported)}
	}
	return nil
}

// checkData refuses data that nobody would be left to write.
func (pl *plan) checkData() error {
	method := ""
	switch {
	case len(pl.jobs) == 0:
	case pl.mode == inPlace:
		method = "Exec"
	case pl.cmd.daemon:
		method = "Daemonize"
	}
	if method == "" {
		return nil
	}
	return &badCall{method, errors.New("more data to read than a pipe holds, and nobody would be left to write it")}
}

// doubleFork ends the first parent and goes on in the daemon, once this process knows it.
func (pl *plan) doubleFork() {
	if !pl.cmd.daemon {
		return
	}
	p := pl.prog
	if pl.fds.daemonPIDNS >= 0 {
		p.Add(unix.SYS_SETNS, pl.fds.keptFD(pl.fds.daemonPIDNS), unix.CLONE_NEWPID)
	}
	pl.forkDaemon()
	pl.awaitByte()
	pl.sayReady()
	pl.leadSessionOrGroup()
}

// forkDaemon adds the call that forks the daemon.
func (pl *plan) forkDaemon() {
	p := pl.prog
	if pl.opts.executor == forkedHelper {
		p.AddOp(unix.SYS_CLONE, program.Leave, unix.CLONE_VM|unix.CLONE_VFORK|uintptr(pl.cmd.namespaces.fresh)) // as package syscall does
		return
	}
	pl.daemonPID = p.Words(0)
	flags := unix.CLONE_PARENT_SETTID | uintptr(pl.cmd.namespaces.fresh)
	if !pl.options.OwnMemory { // else there must be nobody in the daemon's memory when it joins a namespace
		flags |= unix.CLONE_VM
	}
	if flags&unix.CLONE_NEWTIME == 0 {
		p.AddOp(unix.SYS_CLONE, program.Leave, flags, 0, pl.daemonPID)
	} else { // for clone that bit is part of a signal's number
		args := p.Words(uint64(flags), 0, 0, uint64(pl.daemonPID), 0, 0, 0, 0)
		p.AddOp(unix.SYS_CLONE3, program.Leave, args, cloneArgsSize)
	}
}

// cloneArgsSize is the size of a struct clone_args as of Linux 5.3. (CLONE_ARGS_SIZE_VER0)
const cloneArgsSize = 64
