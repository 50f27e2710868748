package spawn

import (
	"context"
	"time"

	"github.com/virspawn/spawn/internal/program"
	"golang.org/x/sys/unix"
)

// checkGate opens the pipe through which this process lets the child go on: once when it knows a daemon, once when it has done its part, such as
// the maps of a user namespace, and once for a handshake.
func (pl *plan) checkGate() error {
	if pl.mode == inPlace || !pl.cmd.handshake && !pl.cmd.daemon && !pl.cmd.hasPart() {
		return nil
	}
	var err error
	var gateR int
	pl.gateW, gateR, err = low.pipe(true)
	if err != nil {
		return pl.failed(err)
	}
	pl.childEnds = append(pl.childEnds, gateR)
	pl.gateR = pl.fds.keep(gateR)
	return nil
}

// hasPart reports whether the child needs this process to do something once it knows its pid.
func (c *Command) hasPart() bool {
	return c.namespaces.isMapped() || c.listen != nil || c.pidFile != ""
}

// part does it.
func (pl *plan) part(pid int) error {
	if pl.cmd.listen != nil {
		if err := pl.writeListenPID(pid); err != nil {
			return err
		}
	}
	if pl.pidFile != nil {
		if err := pl.pidFile.write(pid); err != nil {
			return pl.pidFileError(err)
		}
	}
	if pl.cmd.namespaces.isMapped() && pl.cmd.executor != forkedHelper {
		return pl.writeMaps(pid)
	}
	return nil
}

// awaitPart makes the child wait until this process has done its part.
func (pl *plan) awaitPart() {
	if pl.cmd.hasPart() && pl.mode != inPlace {
		pl.awaitByte()
	}
}

// stopAtGate makes the child say that it is there, and wait. When this process ends or gives up, the read finds the end of the file.
func (pl *plan) stopAtGate() {
	if !pl.cmd.handshake {
		return
	}
	pl.sayReady()
	pl.awaitByte()
}

func (pl *plan) sayReady() {
	p := pl.prog
	ready := p.AddOp(unix.SYS_WRITE, program.Retry, pl.fds.keptFD(pl.status), p.CString("\x01"), 1)
	p.Expect(ready, 1)
}

func (pl *plan) awaitByte() {
	read := pl.prog.AddOp(unix.SYS_READ, program.Retry, pl.fds.keptFD(pl.gateR), pl.prog.Alloc(1), 1)
	pl.prog.Expect(read, 1)
}

// doPart does this process's part for the child and lets it go on. If it cannot be done the child ends.
func (pl *plan) doPart(p *Process) {
	if pl.gateW < 0 {
		return
	}
	if !pl.meetDaemon(p) {
		return
	}
	if pl.cmd.hasPart() {
		pl.gateErr = pl.part(p.pid)
		if pl.gateErr == nil {
			_, _ = unix.Write(pl.gateW, []byte{1}) // EPIPE when the child has ended, which it will report
		}
	}
	if p.gate != nil && pl.gateErr == nil {
		p.gate.fd, pl.gateW = pl.gateW, -1
	}
	pl.closeGate()
}

func (pl *plan) closeGate() {
	if pl.gateW >= 0 {
		closeFD(pl.gateW)
		pl.gateW = -1
	}
}

// writeByte lets the child go on, if there is one.
//
// Preconditions: g.mu is held.
func (g *gate) writeByte() {
	if g.fd >= 0 {
		_, _ = unix.Write(g.fd, []byte{1}) // EPIPE when the child has ended, which settle will say
		closeFD(g.fd)
		g.fd = -1
	}
}

func (g *gate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.fd >= 0 {
		closeFD(g.fd)
		g.fd = -1
	}
}

// startGated starts a command with a handshake. It returns when the child has stopped or has failed, which it usually does in no time, or
// after maxBlockedTime, or when there is a helper, and leaves the rest to a goroutine.
func (c *Command) startGated(ctx context.Context, streams [3]stream) (*Process, error) {
	c = c.Clone() // the caller may change his when this has returned
	pl, p, err := c.cloneChild(ctx, streams, watched)
	if err != nil {
		c.closeParents()
		return nil, err
	}
	pl.handOver(p)
	pl.pipes, pl.pty = [3]pipeFile{}, pipeFile{} // the caller's from now on, also when the child fails
	pl.watchPipes(ctx, p)
	poll := func(timeout time.Duration) bool { return pl.pollGate(p, timeout) }
	there := false
	if pl.helper == nil { // else it takes a while
		there = briefly(poll)
	} else {
		pl.leaveToGate()
	}
	go func() {
		switch {
		case pl.helper != nil:
			pl.parkGate(p)
		case !there:
			waitForStart(poll)
		}
		if err := pl.passGate(p); err != nil {
			p.err, p.status = err, Status{ExitCode: -1}
			p.observed.fail(err)
			p.gate.settle(err)
		} else {
			p.observed.start(pl.path, p.pid)
			p.gate.settle(nil)
			_ = pl.waitExit(p) // the child has exec'ed, so there is no reason to be had
			p.observed.exit(p.status, p.err)
		}
		p.pty.programEnded()
		close(p.done)
	}()
	return p, nil
}

// pollGate waits, for the timeout at most, until the child has stopped at its gate or has ended, and reports whether it has. As long as it may
// share this process's table of descriptors, its end of the status pipe must stay open here, and only the pidfd shows its end.
func (pl *plan) pollGate(p *Process, timeout time.Duration) bool {
	deadline := time.Now().Add(timeout)
	fds := []unix.PollFd{{Fd: int32(pl.statusR), Events: unix.POLLIN}, {Fd: int32(p.handle.fd), Events: unix.POLLIN}}
	for {
		left := unix.NsecToTimespec(max(0, int64(time.Until(deadline))))
		n, err := unix.Ppoll(fds, &left, nil)
		switch {
		case n > 0:
			pl.closeChildEnds()
			pl.cmd.closeParents()
			return pl.reachedGate(p)
		case err != unix.EINTR:
			return false
		}
	}
}

// reachedGate takes the child's word that it has stopped.
func (pl *plan) reachedGate(p *Process) bool {
	if pl.readReady() {
		close(p.gate.ready)
	}
	return true
}

// readReady reads what the child says by sayReady, and reports whether it has.
func (pl *plan) readReady() bool {
	var b [1]byte
	for {
		n, err := unix.Read(pl.statusR, b[:])
		if err != unix.EINTR {
			_, failed := pl.prog.Failed()
			return n == 1 && !failed
		}
	}
}

// leaveToGate gives back what is the helper's now.
func (pl *plan) leaveToGate() {
	pl.waitLeft()
	pl.closeChildEnds()
	pl.cmd.closeParents()
}

// parkGate waits, without a thread, until a helper has stopped at its gate or has ended: its hook may take any time.
func (pl *plan) parkGate(p *Process) {
	pl.openStatus()
	var b [1]byte
	if n, _ := pl.statusF.Read(b[:]); n == 1 {
		close(p.gate.ready)
	}
}

// passGate waits, without a thread, until the child has exec'ed. If it could not, it waits for its end and returns the reason.
func (pl *plan) passGate(p *Process) error {
	pl.parkStatus()
	return pl.execed(p)
}
