//go:build linux

package plan

import (
	"github.com/virspawn/spawn/internal/command"
	"github.com/virspawn/spawn/internal/descriptor"
	"github.com/virspawn/spawn/internal/program"
	"golang.org/x/sys/unix"
)

// checkGate opens the pipe through which the parent lets the child go on. It
// does so once when it knows a daemon, once when it has done its work, such as
// the maps of a user namespace, and once for a handshake.
func (pl *Plan) checkGate() error {
	if pl.Mode == InPlace || !pl.Command.WaitsForParent() && !pl.Forks() {
		return nil
	}
	var err error
	var gateR int
	pl.GateW, gateR, err = descriptor.Low.Pipe(true)
	if err != nil {
		return pl.Failed(err)
	}
	pl.childEnds = append(pl.childEnds, gateR)
	pl.fds.gateR = pl.fds.keep(gateR)
	return nil
}

// awaitParent makes the child wait until the parent has done its work for it.
func (pl *Plan) awaitParent() {
	if !pl.Command.HasParentWork() || pl.Mode == InPlace {
		return
	}
	pl.awaitByte()
	if pl.Command.Listen == nil {
		return
	}
	// A helper knows its pid by itself.
	pl.pidText = pl.Program.PIDText(command.ListenPID + "=")
	if pl.Helper == nil {
		text, n := pl.Program.PIDRoom()
		p := pl.Program
		p.Expect(p.AddOp(unix.SYS_READ, program.Retry, pl.fds.keptFD(pl.fds.gateR), text, uintptr(n)), uintptr(n))
	}
}

// GoAhead returns what the parent writes when it has done its work.
func (pl *Plan) GoAhead() []byte {
	b := []byte{1}
	if pl.Command.Listen != nil && pl.Helper == nil {
		b = append(b, pl.Program.Bytes(pl.Program.PIDRoom())...)
	}
	return b
}

// stopAtGate makes the child say that it is there, and wait. When the parent
// ends or gives up, the read finds the end of the file.
func (pl *Plan) stopAtGate() {
	if !pl.Command.Handshake {
		return
	}
	pl.sayReady()
	pl.awaitByte()
}

// sayReady makes the child write a byte to the status pipe: it is there.
func (pl *Plan) sayReady() {
	p := pl.Program
	ready := p.AddOp(unix.SYS_WRITE, program.Retry, pl.fds.keptFD(pl.fds.status), p.CString(string(rune(SaysReady))), 1)
	p.Expect(ready, 1)
}

// awaitByte makes the child wait for a byte at its gate.
func (pl *Plan) awaitByte() {
	read := pl.Program.AddOp(unix.SYS_READ, program.Retry, pl.fds.keptFD(pl.fds.gateR), pl.Program.Alloc(1), 1)
	pl.Program.Expect(read, 1)
}

// CloseGate ends a child that waits at the gate.
func (pl *Plan) CloseGate() {
	if pl.GateW >= 0 {
		descriptor.Close(pl.GateW)
		pl.GateW = -1
	}
}
