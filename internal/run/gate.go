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

// doParentWork does the parent's work for the child and lets it go on. If the
// work cannot be done the child ends.
func (r *run) doParentWork() {
	if r.GateW < 0 {
		return
	}
	if !r.meetDaemon() {
		return
	}
	if r.Command.HasParentWork() {
		r.gateErr = r.parentWork(r.p.PID)
		if r.gateErr == nil {
			// The error is EPIPE when the child has ended, which it
			// will report.
			_, _ = unix.Write(r.GateW, []byte{1})
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
	r.handOver()
	// These are the caller's from now on, also when the child fails.
	r.Pipes, r.PTY = [3]transfer.Pipe{}, transfer.Pipe{}
	r.watchPipes(ctx)
	there := false
	if r.Helper == nil { // else it takes a while
		there = briefly(r.pollGate)
	} else {
		r.leaveToGate()
	}
	go func() {
		switch {
		case r.Helper != nil:
			r.parkGate()
		case !there:
			waitForStart(r.pollGate)
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
// gate or has ended, and reports whether it has. As long as the child may share
// the parent's table of descriptors, its end of the status pipe must stay open
// here, and only the pidfd shows its end.
func (r *run) pollGate(timeout time.Duration) bool {
	deadline := time.Now().Add(timeout)
	fds := []unix.PollFd{{Fd: int32(r.StatusR), Events: unix.POLLIN}, {Fd: int32(r.handle.fd), Events: unix.POLLIN}}
	for {
		left := unix.NsecToTimespec(max(0, int64(time.Until(deadline))))
		n, err := unix.Ppoll(fds, &left, nil)
		switch {
		case n > 0:
			r.CloseChildEnds()
			r.Command.CloseParents()
			return r.reachedGate()
		case err != unix.EINTR:
			return false
		}
	}
}

// reachedGate takes the child's word that it has stopped.
func (r *run) reachedGate() bool {
	if r.readReady() {
		close(r.p.Gate.Ready)
	}
	return true
}

// readReady reads what the child says by plan's sayReady, and reports whether
// it has.
func (r *run) readReady() bool {
	var b [1]byte
	for {
		n, err := unix.Read(r.StatusR, b[:])
		if err != unix.EINTR {
			_, failed := r.Program.Failed()
			return n == 1 && !failed
		}
	}
}

// leaveToGate gives back what is the helper's now.
func (r *run) leaveToGate() {
	r.waitLeft()
	r.CloseChildEnds()
	r.Command.CloseParents()
}

// parkGate waits, without a thread, until a helper has stopped at its gate or
// has ended: its hook may take any time.
func (r *run) parkGate() {
	r.openStatus()
	var b [1]byte
	n, _ := r.StatusF.Read(b[:])
	// Of a child that has failed before the helper, it is the report's first.
	if _, failed := r.Program.Failed(); n == 1 && !failed {
		close(r.p.Gate.Ready)
	}
}

// passGate waits, without a thread, until the child has exec'ed. If it could
// not, it waits for its end and returns the reason.
func (r *run) passGate() error {
	r.parkStatus()
	return r.execed()
}
