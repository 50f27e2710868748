//go:build linux

package run

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/virspawn/spawn/internal/child"
	"github.com/virspawn/spawn/internal/command"
	"github.com/virspawn/spawn/internal/plan"
	"github.com/virspawn/spawn/internal/process"
	"github.com/virspawn/spawn/internal/program"
	"github.com/virspawn/spawn/internal/tree"
	"golang.org/x/sys/unix"
)

// busyTries is how often a program that is being written (ETXTBSY) is tried.
// A process forked elsewhere in this program may hold it open for writing until
// it execs.
const busyTries = 6

// again calls start until the program is not busy, with growing pauses of 1
// to 16 milliseconds in between. What has an effect that must not come twice
// is called once: a hook has done its work, and a session that has a terminal
// hangs that up when it ends.
func again(c *command.Command, start func() error) error {
	if c.Hook != "" || c.Attributes.TTY != nil {
		return start()
	}
	for pause := time.Millisecond; ; pause *= 2 {
		err := start()
		var e *command.StartError
		if !errors.As(err, &e) || e.Err != unix.ETXTBSY || pause == 1<<(busyTries-1)*time.Millisecond {
			return err
		}
		time.Sleep(pause)
	}
}

// run is a child of a plan, until its end.
type run struct {
	plan.Plan
	call  Call
	p     *process.Process
	child child.Child

	heard   heard
	unwatch func() bool // ends the watch of the context; nil without
	gateErr error       // why the child was not let go on
	lost    error       // why there is no status

	handle handle      // guarded by p.Mu
	sign   *time.Timer // ends a helper that gives none; guarded by p.Mu
	mute   bool        // the timer has done so; guarded by p.Mu
	// Nil unless KillTree, and once all has ended; guarded by p.Mu.
	descendants *tree.Tree
}

// The watcher is told by these, if there is one.

func (r *run) tellStarted() {
	if r.call.Watcher != nil {
		r.call.Watcher.Started(r.Path, r.p.PID)
	}
}

func (r *run) tellFailed(err error) {
	if r.call.Watcher != nil {
		r.call.Watcher.Failed(err)
	}
}

func (r *run) tellOver() {
	if r.call.Watcher != nil {
		r.call.Watcher.Over(&r.p.Outcome)
	}
}

// prepare plans a run for a child.
func prepare(ctx context.Context, c Call, m plan.Mode) (*run, error) {
	if ctx.Err() != nil {
		return nil, &command.StartError{Op: "start", Path: c.Command.Name, Err: process.ContextError(ctx)}
	}
	switch by := c.Options.Executor; {
	case m == plan.Watched && by != plan.Direct:
		m = plan.Piped
	case m == plan.Unwatched && (by != plan.Direct && by != plan.Stub || c.Options.NoStub):
		m = plan.Piped
	}
	r := &run{call: c}
	if err := r.Make(c.Command, c.Streams, m, c.Options); err != nil {
		return nil, err
	}
	return r, nil
}

// chooseExecutor chooses who is to run the command, unless that is given.
func (c *Call) chooseExecutor(explain bool) (err error) {
	if c.Options.Executor == plan.Automatic {
		err = c.Options.ChooseExecutor(c.Command, explain)
	}
	return err
}

// cloneChild makes the child. It watches ctx from then on.
func cloneChild(ctx context.Context, c Call, m plan.Mode) (*run, error) {
	if err := c.chooseExecutor(false); err != nil {
		return nil, err
	}
	r, err := cloneBy(ctx, c, m)
	if _, ok := err.(*plan.NoStubError); ok && !c.Options.NoStub {
		c.Options.NoStub = true
		r, err = cloneBy(ctx, c, m)
	}
	if _, ok := err.(refused); ok {
		c.Options.Executor = plan.ForkedHelper
		r, err = cloneBy(ctx, c, m)
	}
	return r, err
}

// orByCopy calls start, and once more if no stub can be executed: the child
// then has a copy of this process's memory.
func orByCopy(c *Call, start func(c Call) error) error {
	err := start(*c)
	if refusal, ok := err.(*plan.NoStubError); ok {
		if c.Options.NoStub {
			return refusal.Err
		}
		c.Options.NoStub = true
		err = start(*c)
	}
	return err
}

// cloneBy makes the child by an executor.
func cloneBy(ctx context.Context, c Call, m plan.Mode) (*run, error) {
	r, err := prepare(ctx, c, m)
	if err != nil {
		return nil, err
	}
	r.newProcess()
	if err := r.clone(); err != nil {
		r.Release()
		return nil, err
	}
	r.unwatch = r.p.Watch(ctx)
	if r.GateW < 0 {
		return r, nil
	}
	if r.meet() {
		return nil, r.leave()
	}
	switch f, failed := r.failure(); {
	case failed && r.RefusesStub(f):
		return nil, r.execed()
	case failed && r.RefusesFork(f) && r.descendants.UsesCgroup():
		// The reason may be an old kernel, a policy, or a cgroup that must not
		// have processes below it.
		_ = r.execed()
		c.Options.NoTreeCgroup = true
		return cloneBy(ctx, c, m)
	}
	return r, nil
}

// meet does what the child needs this process for, once it has left its memory.
// It reports whether the child was given up before.
func (r *run) meet() (left bool) {
	if !r.waitLeft() {
		return true
	}
	if f, failed := r.Program.Failed(); failed && !r.HasForked(f) {
		return false
	}
	met, left := r.meetForked()
	if met {
		r.doParentWork()
	}
	return left
}

// newProcess makes the process that the run is the target of.
func (r *run) newProcess() {
	r.p = &process.Process{Grace: r.Command.Grace, Daemon: r.Command.Daemon, Target: r}
	if r.Command.Handshake {
		r.p.Gate = process.NewGate()
	}
}

// takeReport is called when the child has left the parent's memory. It
// returns the error that the child has reported, if any, and gives the
// program back.
func (r *run) takeReport() (err error) {
	if r.Program == nil {
		return nil
	}
	if f, failed := r.failure(); failed {
		err = r.startError(f)
		if r.RefusesStub(f) {
			err = &plan.NoStubError{Err: err}
		}
	}
	if r.gateErr != nil { // which is why the child has failed
		err = r.gateErr
	}
	r.FreeProgram()
	return err
}

// failure returns the failure that the child, or its helper, has reported,
// if any.
func (r *run) failure() (f program.Failure, failed bool) {
	if f, failed = r.Program.Failed(); failed {
		return f, failed
	}
	if f, failed = r.StubFailure(); failed {
		return f, failed
	}
	if r.heard.failed {
		f = r.Program.Decode(r.heard.report)
		f.Op += r.StubStart()
		return f, true
	}
	if r.Helper != nil {
		f, failed = r.Helper.Report.Failure()
	}
	return f, failed
}

// startError makes a failure that was reported a StartError.
func (r *run) startError(f program.Failure) error {
	if f.Errno == unix.EEXIST && r.PidFile != nil {
		// No other step can find a file that exists.
		if err := r.PidFile.Lost(); err != nil {
			return r.PidFileError(err)
		}
	}
	if f.Op < 0 || f.Op >= r.Program.Len() {
		return &command.StartError{Op: "start", Path: r.Path, Err: errForgedReport}
	}
	e := &command.StartError{Op: r.Program.Step(f.Op), Path: r.Path, Err: f.Errno}
	switch {
	case f.Message != "":
		e.Err = hookFailure(f.Message, f.Errno)
	case f.Errno == 0:
		e.Err = errUnexpected
	}
	return e
}

var (
	errUnexpected   = errors.New("unexpected result")
	errForgedReport = errors.New("the child's report is none: somebody has changed it")
)

// Run runs a command to its end.
func Run(ctx context.Context, c Call) (o process.Outcome) {
	err := again(c.Command, func() error {
		return orByCopy(&c, func(c Call) (err error) {
			o, err = runOnce(ctx, c)
			return err
		})
	})
	if err != nil {
		return process.Outcome{Status: process.Unknown, Never: err}
	}
	return o
}

// runOnce runs a command to its end.
func runOnce(ctx context.Context, c Call) (process.Outcome, error) {
	m := plan.Watched
	if !needsExec(&c) && tryBlock() {
		m = plan.Unwatched // until waitExit
	}
	r, err := cloneChild(ctx, c, m)
	if err != nil {
		if m == plan.Unwatched {
			unblock()
		}
		return process.Outcome{}, err
	}
	if m == plan.Unwatched && r.Mode != plan.Unwatched { // by a helper
		unblock()
	}
	if err := r.wait(); err != nil {
		return process.Outcome{}, err
	}
	return r.p.Outcome, nil
}

// needsExec reports whether something has to be done as soon as the child has
// exec'ed, or may be too much for one ppoll.
func needsExec(call *Call) bool {
	for _, s := range call.Streams {
		if s.Kind == command.StreamReader || s.Kind == command.StreamWriter {
			return true
		}
	}
	c := call.Command
	closeParent := slices.ContainsFunc(c.Passed, func(p command.PassedFD) bool { return p.Close })
	return closeParent || call.Watcher != nil || plan.NeedsParent(c) || len(c.Passed) > maxPolled-1-len(call.Streams)
}

// Start starts a command.
func Start(ctx context.Context, c Call) (*process.Process, error) {
	if c.Command.Handshake {
		return startGated(ctx, c)
	}
	defer c.Command.CloseParents()
	var r *run
	err := again(c.Command, func() error {
		return orByCopy(&c, func(c Call) (err error) {
			r, err = cloneChild(ctx, c, plan.Watched)
			if err != nil {
				return err
			}
			return r.startWaiting(ctx)
		})
	})
	if err != nil {
		return nil, err
	}
	return r.p, nil
}

// Explain returns the text of the program.
func Explain(c Call) (string, error) {
	if err := c.chooseExecutor(true); err != nil {
		return "", err
	}
	r, err := prepare(context.Background(), c, plan.Watched)
	if _, ok := err.(*plan.NoStubError); ok {
		c.Options.NoStub = true
		r, err = prepare(context.Background(), c, plan.Watched)
	}
	if err != nil {
		return "", err
	}
	defer r.Release()
	return r.Program.String(), nil
}
