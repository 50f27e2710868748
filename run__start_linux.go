package spawn

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/virspawn/spawn/internal/child"
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
		var e *startFailure
		if !errors.As(err, &e) || e.Err != unix.ETXTBSY || pause == 1<<(busyTries-1)*time.Millisecond {
			return err
		}
		time.Sleep(pause)
	}
}

// run is a child of a plan, until its end.
type run struct {
	plan
	call  runCall
	p     *running
	child child.Child

	undumpable bool        // the child is counted in dumpable
	unwatch    func() bool // ends the watch of the context; nil without
	gateErr    error       // why the child was not let go on
	lost       error       // why there is no status

	handle      handle // to signal the child; guarded by p.mu
	descendants *tree  // the same; nil unless KillTree, and when all has ended
}

// The watcher is told by these, if there is one.

func (r *run) tellStarted() {
	if r.call.watcher != nil {
		r.call.watcher.started(r.path, r.p.pid)
	}
}

func (r *run) tellFailed(err error) {
	if r.call.watcher != nil {
		r.call.watcher.failed(err)
	}
}

func (r *run) tellOver() {
	if r.call.watcher != nil {
		r.call.watcher.over(&r.p.outcome)
	}
}

// prepare plans a run for a child.
func prepare(ctx context.Context, c runCall, m mode) (*run, error) {
	if ctx.Err() != nil {
		return nil, &startFailure{Op: "start", Path: c.command.name, Err: contextError(ctx)}
	}
	if m == watched && needsPipe(c.command, c.options.executor) || m == unwatched && c.options.executor != direct {
		m = piped
	}
	r := &run{call: c}
	if err := r.make(c.command, c.streams, m, c.options); err != nil {
		return nil, err
	}
	return r, nil
}

// chooseExecutor chooses who is to run the command, unless that is given.
func (c *runCall) chooseExecutor(forced bool) (err error) {
	if c.options.executor == automatic {
		c.options.executor, err = chooseExecutor(c.command, forced)
	}
	return err
}

// cloneChild makes the child. It watches ctx from then on.
func cloneChild(ctx context.Context, c runCall, m mode) (*run, error) {
	if err := c.chooseExecutor(helperForced()); err != nil {
		return nil, err
	}
	r, err := cloneBy(ctx, c, m)
	if _, ok := err.(refused); ok {
		c.options.executor = forkedHelper
		r, err = cloneBy(ctx, c, m)
	}
	return r, err
}

// cloneBy makes the child by an executor.
func cloneBy(ctx context.Context, c runCall, m mode) (*run, error) {
	r, err := prepare(ctx, c, m)
	if err != nil {
		return nil, err
	}
	r.newProcess()
	if err := r.clone(); err != nil {
		retry := r.tree.usesCgroup() // an old kernel, or a policy, or a cgroup that must not have processes below it
		r.release()
		if retry {
			c.options.noTreeCgroup = true
			return cloneBy(ctx, c, m)
		}
		return nil, err
	}
	r.unwatch = r.p.watch(ctx)
	r.doParentWork()
	return r, nil
}

func (r *run) newProcess() {
	r.p = &running{grace: r.cmd.grace, daemon: r.cmd.daemon, target: r}
	if r.cmd.handshake {
		r.p.gate = newGate()
	}
}

// leftMemory is called when the child shares this process's memory no longer, or was not made.
func (r *run) leftMemory() {
	if r.undumpable {
		r.undumpable = false
		dumpable.leave()
	}
}

// takeReport is called when the child has left this process's memory. It returns the error that the child has reported, if any, and
// gives the program back.
func (r *run) takeReport() (err error) {
	if r.prog == nil {
		return nil
	}
	r.leftMemory()
	if f, failed := r.failure(); failed {
		err = r.startError(f)
	}
	if r.gateErr != nil { // which is why the child has failed
		err = r.gateErr
	}
	r.closeReport()
	r.freeProgram()
	return err
}

// failure returns the failure that the child, or its helper, has reported, if any.
func (r *run) failure() (f program.Failure, failed bool) {
	f, failed = r.prog.Failed()
	if !failed && r.helper != nil {
		f, failed = r.helper.report.Failure()
	}
	return f, failed
}

func (r *run) startError(f program.Failure) error {
	if f.Errno == unix.EEXIST && r.pidFile != nil { // no other step can find that
		if err := r.pidFile.lost(); err != nil {
			return r.pidFileError(err)
		}
	}
	e := &startFailure{Op: r.prog.Step(f.Op), Path: r.path, Err: f.Errno}
	switch {
	case f.Message != "":
		e.Err = hookFailure(f.Message, f.Errno)
	case f.Errno == 0:
		e.Err = errUnexpected
	}
	return e
}

var errUnexpected = errors.New("unexpected result")

// runChild runs a command to its end.
func runChild(ctx context.Context, c runCall) (o outcome) {
	err := again(func() (err error) {
		o, err = runOnce(ctx, c)
		return err
	})
	if err != nil {
		return outcome{status: unknown, never: err}
	}
	return o
}

// runOnce runs a command to its end.
func runOnce(ctx context.Context, c runCall) (outcome, error) {
	m := watched
	if !needsExec(&c) && tryBlock() {
		m = unwatched // until waitExit
	}
	r, err := cloneChild(ctx, c, m)
	if err != nil {
		if m == unwatched {
			unblock()
		}
		return outcome{}, err
	}
	if m == unwatched && r.mode != unwatched { // by a helper
		unblock()
	}
	if err := r.wait(); err != nil {
		return outcome{}, err
	}
	return r.p.outcome, nil
}

// needsExec reports whether something has to be done as soon as the child has exec'ed, or may be too much for one ppoll.
func needsExec(call *runCall) bool {
	for _, s := range call.streams {
		if s.kind == streamReader || s.kind == streamWriter {
			return true
		}
	}
	c := call.command
	closeParent := slices.ContainsFunc(c.passed, func(p passedFD) bool { return p.close })
	return closeParent || call.watcher != nil || c.pidFile != "" || needsPipe(c, direct) || len(c.passed) > maxPolled-1-len(call.streams)
}

// startChild starts a command.
func startChild(ctx context.Context, c runCall) (*running, error) {
	if c.command.handshake {
		return startGated(ctx, c)
	}
	defer c.command.closeParents()
	var r *run
	err := again(func() (err error) {
		r, err = cloneChild(ctx, c, watched)
		if err != nil {
			return err
		}
		return r.startWaiting(ctx)
	})
	if err != nil {
		return nil, err
	}
	return r.p, nil
}

// explain returns the text of the program.
func explain(c runCall) (string, error) {
	if err := c.chooseExecutor(false); err != nil { // what SPAWN_EXECUTOR forces is the same but for the helper
		return "", err
	}
	r, err := prepare(context.Background(), c, watched)
	if err != nil {
		return "", err
	}
	defer r.release()
	return r.prog.String(), nil
}
