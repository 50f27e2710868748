package spawn

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/virspawn/spawn/internal/program"
	"golang.org/x/sys/unix"
)

// busyTries is how often a program that is being written (ETXTBSY) is tried. A process forked elsewhere in this program may
// hold it open for writing until it execs.
const busyTries = 6

// again calls start until the program is not busy, with growing pauses of 1 to 16 milliseconds in between.
func again(start func() error) error {
	for pause := time.Millisecond; ; pause *= 2 {
		err := start()
		var e *StartError
		if !errors.As(err, &e) || e.Err != unix.ETXTBSY || pause == 1<<(busyTries-1)*time.Millisecond {
			return err
		}
		time.Sleep(pause)
	}
}

// prepare checks the command, opens its pipes and writes its program, for a child or in place of this process.
func (c *Command) prepare(ctx context.Context, streams [3]stream, m mode) (*plan, error) {
	if err := c.ready(ctx); err != nil {
		return nil, err
	}
	if m == watched && c.needsPipe() || m == unwatched && c.executor != direct {
		m = piped
	}
	pl, err := newPlan(c, streams, m)
	if err != nil {
		return nil, err
	}
	if err := pl.open(); err != nil {
		pl.release()
		return nil, err
	}
	if err := pl.checkData(); err != nil {
		pl.release()
		return nil, err
	}
	pl.write()
	return pl, nil
}

// cloneChild makes the child. It watches ctx from then on.
func (c *Command) cloneChild(ctx context.Context, streams [3]stream, m mode) (*plan, *Process, error) {
	c, err := c.withExecutor(helperForced())
	if err != nil {
		return nil, nil, err
	}
	pl, p, err := c.cloneBy(ctx, streams, m)
	if r := (refused{}); errors.As(err, &r) {
		pl, p, err = c.by(forkedHelper).cloneBy(ctx, streams, m)
	}
	return pl, p, err
}

// cloneBy makes the child by the command's executor.
func (c *Command) cloneBy(ctx context.Context, streams [3]stream, m mode) (*plan, *Process, error) {
	pl, err := c.prepare(ctx, streams, m)
	if err != nil {
		return nil, nil, err
	}
	p := c.newProcess()
	if err := pl.clone(p); err != nil {
		retry := pl.tree.usesCgroup() // an old kernel, or a policy, or a cgroup that must not have processes below it
		pl.release()
		if retry {
			return c.withoutTreeCgroup().cloneBy(ctx, streams, m)
		}
		return nil, nil, err
	}
	pl.unwatch = p.watch(ctx)
	pl.doPart(p)
	return pl, p, nil
}

func (c *Command) newProcess() *Process {
	p := &Process{line: c.line(), killMode: c.killMode, grace: c.grace, daemon: c.daemon, observed: c.observed}
	if c.handshake {
		p.gate = newGate()
	}
	return p
}

// clone makes the child.
func (pl *plan) clone(p *Process) error {
	if err := pl.ownPTY(); err != nil {
		return err
	}
	if err := pl.writeImage(); err != nil {
		return err
	}
	pl.undumpable = pl.cmd.undumpable()
	if pl.undumpable {
		dumpable.enter()
	}
	ch, err := pl.startChild()
	if err != nil {
		pl.leftMemory()
		return err
	}
	pl.child = ch
	p.tree, pl.tree = pl.tree, nil
	p.pid, p.handle.fd = ch.PID, ch.PIDFD
	if ch.PIDFD <= stderr { // see aboveStreams; where there is no other number, this one has to do
		if n, err := unix.FcntlInt(uintptr(ch.PIDFD), unix.F_DUPFD_CLOEXEC, stderr+1); err == nil {
			closeFD(ch.PIDFD)
			p.handle.fd = n
		}
	}
	switch {
	case pl.options.OwnMemory && pl.helper == nil, p.daemon:
		p.starting = ownMemory{}
	case pl.helper != nil:
		p.starting = pl.helper
	case pl.mode != unwatched:
		p.starting = &pl.child
	}
	return nil
}

// ownMemory is a child that was never in this process's memory, or not the one that was cloned: that it has exec'ed is known only when
// Process.starting is cleared.
type ownMemory struct{}

func (ownMemory) LeftMemory() bool { return false }

// leftMemory is called when the child shares this process's memory no longer, or was not made.
func (pl *plan) leftMemory() {
	if pl.undumpable {
		pl.undumpable = false
		dumpable.leave()
	}
}

// takeReport is called when the child has left this process's memory. It returns the error that the child has reported, if any, and
// gives the program back.
func (pl *plan) takeReport() (err error) {
	if pl.prog == nil {
		return nil
	}
	pl.leftMemory()
	if f, failed := pl.failure(); failed {
		err = pl.startError(f)
	}
	if pl.gateErr != nil { // which is why the child has failed
		err = pl.gateErr
	}
	pl.closeReport()
	pl.freeProgram()
	return err
}

// failure returns the failure that the child, or its helper, has reported, if any.
func (pl *plan) failure() (f program.Failure, failed bool) {
	f, failed = pl.prog.Failed()
	if !failed && pl.helper != nil {
		f, failed = pl.helper.report.Failure()
	}
	return f, failed
}

func (pl *plan) startError(f program.Failure) error {
	if f.Errno == unix.EEXIST && pl.pidFile != nil { // no other step can find that
		if err := pl.pidFile.lost(); err != nil {
			return pl.pidFileError(err)
		}
	}
	e := &StartError{Op: pl.prog.Step(f.Op), Path: pl.path, Err: f.Errno}
	switch {
	case f.Message != "":
		e.Err = &hookError{f.Message, f.Errno}
	case f.Errno == 0:
		e.Err = errUnexpected
	}
	return e
}

var errUnexpected = errors.New("unexpected result")

// runChild runs the command to its end.
func (c *Command) runChild(ctx context.Context, _ string, streams [3]stream) (status Status, err error) {
	status.ExitCode = -1
	err = again(func() error {
		status, err = c.runOnce(ctx, streams)
		return err
	})
	return status, err
}

// runOnce runs the command to its end. The status is not known if it could not be started.
func (c *Command) runOnce(ctx context.Context, streams [3]stream) (Status, error) {
	status := Status{ExitCode: -1}
	m := watched
	if !c.needsExec(streams) && tryBlock() {
		m = unwatched // until waitExit
	}
	pl, p, err := c.cloneChild(ctx, streams, m)
	if err != nil {
		if m == unwatched {
			unblock()
		}
		return status, err
	}
	if m == unwatched && pl.mode != unwatched { // by a helper
		unblock()
	}
	if err := pl.wait(p); err != nil {
		return status, err
	}
	return p.status, p.err
}

// needsExec reports whether something has to be done as soon as the child has exec'ed, or may be too much for one ppoll.
func (c *Command) needsExec(streams [3]stream) bool {
	for _, s := range streams {
		if s.kind == streamReader || s.kind == streamWriter {
			return true
		}
	}
	closeParent := slices.ContainsFunc(c.passed, func(p passedFD) bool { return p.close })
	return closeParent || c.observed != nil || c.pidFile != "" || c.needsPipe() || len(c.passed) > maxPolled-1-len(streams)
}

// startChild starts the command.
func (c *Command) startChild(ctx context.Context, streams [3]stream) (p *Process, err error) {
	if c.handshake {
		return c.startGated(ctx, streams)
	}
	defer c.closeParents()
	err = again(func() error {
		var pl *plan
		pl, p, err = c.cloneChild(ctx, streams, watched)
		if err != nil {
			return err
		}
		return pl.startWaiting(ctx, p)
	})
	if err != nil {
		return nil, err
	}
	return p, nil
}

// explain returns the text of the program.
func (c *Command) explain(streams [3]stream) (string, error) {
	c, err := c.withExecutor(false) // what SPAWN_EXECUTOR forces is the same but for the helper
	if err != nil {
		return "", err
	}
	pl, err := c.prepare(context.Background(), streams, watched)
	if err != nil {
		return "", err
	}
	defer pl.release()
	return pl.prog.String(), nil
}
