package spawn

import (
	"github.com/virspawn/spawn/internal/program"
	"golang.org/x/sys/unix"
)

// checkGate opens the pipe through which this process lets the child go on: once when it knows a daemon, once when it has done its part, such as
// the maps of a user namespace, and once for a handshake.
func (pl *plan) checkGate() error {
	if pl.mode == inPlace || !pl.cmd.handshake && !pl.cmd.daemon && !pl.cmd.hasParentWork() {
		return nil
	}
	var err error
	var gateR int
	pl.gateW, gateR, err = low.pipe(true)
	if err != nil {
		return pl.failed(err)
	}
	pl.childEnds = append(pl.childEnds, gateR)
	pl.fds.gateR = pl.fds.keep(gateR)
	return nil
}

// awaitParent makes the child wait until this process has done its work for it.
func (pl *plan) awaitParent() {
	if pl.cmd.hasParentWork() && pl.mode != inPlace {
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
	ready := p.AddOp(unix.SYS_WRITE, program.Retry, pl.fds.keptFD(pl.fds.status), p.CString("\x01"), 1)
	p.Expect(ready, 1)
}

func (pl *plan) awaitByte() {
	read := pl.prog.AddOp(unix.SYS_READ, program.Retry, pl.fds.keptFD(pl.fds.gateR), pl.prog.Alloc(1), 1)
	pl.prog.Expect(read, 1)
}

// closeGate ends a child that waits at the gate.
func (pl *plan) closeGate() {
	if pl.gateW >= 0 {
		closeFD(pl.gateW)
		pl.gateW = -1
	}
}
