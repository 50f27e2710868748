//go:build linux

package run

import (
	"context"
	"time"

	"github.com/virspawn/spawn/internal/descriptor"
	"github.com/virspawn/spawn/internal/plan"
	"github.com/virspawn/spawn/internal/process"
	"github.com/virspawn/spawn/internal/transfer"
	"golang.org/x/sys/unix"
)

// parentWork does what the child needs the parent for.
func (r *run) parentWork(pid int) error {
	if r.Command.Listen != nil {
		if err := r.writeListenPID(pid); err != nil {
			return err
		}
	}
	if r.PidFile != nil {
		if err := r.PidFile.Write(pid); err != nil {
			return r.PidFileError(err)
		}
	}
	if r.Command.Namespaces.IsMapped() && r.Options.Executor != plan.ForkedHelper {
		return r.writeMaps(pid)
	}
	return nil
}

// doParentWork does the parent's work for the child, if it waits for that, and
// lets it go on. If the work cannot be done the child ends.
func (r *run) doParentWork() {
	if r.Command.HasParentWork() {
		r.gateErr = r.parentWork(r.p.PID)
		if r.gateErr == nil {
			// The error is EPIPE when the child has ended, which it
			// will report.
			_, _ = unix.Write(r.GateW, r.GoAhead())
		}
	}
	if r.p.Gate != nil && r.gateErr == nil {
		r.p.Gate.Pipe, r.GateW = gatePipe(r.GateW), -1
	}
	r.CloseGate()
}

// gatePipe is the parent's end of a gate's pipe. Its close never fails.
type gatePipe int

// Write lets the child go on.
func (fd gatePipe) Write(b []byte) (int, error) { return unix.Write(int(fd), b) }

// Close ends a child that waits at the gate.
func (fd gatePipe) Close() error {
	descriptor.Close(int(fd))
	return nil
}

// startGated starts a command with a handshake. It returns when the child has
// stopped or has failed, which usually takes no time. It does not wait longer
// than maxBlockedTime, nor for a helper, and leaves the rest to a goroutine.
func startGated(ctx context.Context, c Call) (*process.Process, error) {
	// The caller may change its command when this has returned.
	c.Command = c.Command.Clone()
	r, err := cloneChild(ctx, c, plan.Watched)
	if err != nil {
		c.Command.CloseParents()
		return nil, err
	}
	r.Command.CloseParents()
	r.handOver()
	// These are the caller's from now on, also when the child fails.
	r.Pipes, r.PTY = [3]transfer.Pipe{}, transfer.Pipe{}
	r.watchPipes(ctx)
	there := false
	if r.Helper == nil { // else it takes a while
		there = briefly(r.pollGate)
	}
	go func() {
		switch {
		case r.Helper != nil:
			r.parkGate()
		case !there:
			r.waitForStart(r.pollGate)
		}
		if err := r.passGate(); err != nil {
			r.p.NeverRan(err)
			r.tellFailed(err)
			r.p.Gate.Settle(err)
		} else {
			r.tellStarted()
			r.p.Gate.Settle(nil)
			// The child has exec'ed, so there is no reason to be had.
			_ = r.waitExit()
			r.tellOver()
		}
		r.p.PTY.ProgramEnded()
		close(r.p.Done)
	}()
	return r.p, nil
}

// pollGate waits, for the timeout at most, until the child has stopped at its
// gate or has ended, and reports whether it has.
func (r *run) pollGate(timeout time.Duration) bool {
	if !r.listenFor(timeout, r.handle.fd, r.atGate) {
		return false
	}
	r.tellReady()
	return true
}

// readiesAtGate is how often a child has said that it is there when it is at
// its gate: one that was forked says so before, too.
func (r *run) readiesAtGate() int32 {
	if r.Forks() {
		return 2
	}
	return 1
}

// atGate reports whether the child has said that it is at its gate, or why it
// never will be.
func (r *run) atGate() bool { return r.heard.failed || r.heard.readies >= r.readiesAtGate() }

// tellReady tells those who wait for the child at its gate.
func (r *run) tellReady() {
	if _, failed := r.failure(); !failed && r.heard.readies >= r.readiesAtGate() {
		close(r.p.Gate.Ready)
	}
}

// parkGate waits, without a thread, until a helper has stopped at its gate, has
// ended, or has been given up: its hook may take any time.
func (r *run) parkGate() {
	r.parkStatus(r.atGate)
	r.tellReady()
}

// passGate waits until the child has exec'ed: most are let go on soon, and the
// first moments may block a thread. If the child could not exec, passGate waits
// for its end and returns the reason.
func (r *run) passGate() error {
	passed := false
	if r.StatusR >= 0 && tryBlock() {
		passed = r.listenFor(maxBlockedTime, r.handle.fd, nothing)
		unblock()
	}
	if !passed {
		r.parkStatus(nothing)
	}
	return r.execed()
}
