package spawn

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"
)

// StartEvent says which program was started. It is part of the other events too.
type StartEvent struct {
	// ID is the number of this run in this process: events of one run have the same, and no other run ever has. (A pid can come again.)
	ID uint64
	// Command is the program and its arguments as by [Command.String], secrets as ***, without the environment.
	Command string
	// Path is the program that runs: as found in PATH, or as given to [New] where it was not looked up, in a dry run for example.
	Path string
	// PID is the process id of the child; 0 where there is none, in a [FailEvent].
	PID int
	// Time is when the program was seen to run; in a FailEvent and in a dry run, when the running call began.
	Time time.Time
	// Exec says that this process becomes the program, by [Command.Exec]: PID is this process's own, and no event follows unless that fails.
	Exec bool
	// DryRun says that a [DryRunFunc] stands in for the program.
	DryRun bool
}

// ExitEvent says how a program ended.
type ExitEvent struct {
	StartEvent
	// Duration is the time from StartEvent.Time to the end of the program and of the transfers to and from it.
	Duration time.Duration
	// Status is how the program ended.
	Status Status
	// Err is what [Command.Run] or [Process.Wait] returns: nil, or an [*ExitError], which holds the end of what the program has written to its standard
	// error. (In a dry run it may be a [*StartError]; see [DryRunCall.Err].)
	Err error
}

// FailEvent says why a program was not started.
type FailEvent struct {
	StartEvent
	// Err is what the running call returns, or [Process.HandshakeNotify]: a [*StartError], or a bad call's error.
	Err error
}

// Observer is told of programs that start and end, for metrics or an audit. See [SetObserver] and [Command.SetObserver].
//
// Each call that runs a command, [Command.Run] and [Command.Start] and all that are like them, dry runs too, tells of it once:
// CommandFailed, or CommandStarted and then, once, CommandExited, also when the [Process] has been forgotten. The one exception is [Command.Exec], which tells
// CommandStarted when all is ready and cannot tell more, or tells CommandFailed then. [Command.Explain] tells nothing.
//
// The events of one run come one after the other, those of runs at the same time come at the same time. What they report waits for them: CommandStarted and
// CommandFailed come before [Command.Start] or [Process.HandshakeNotify] returns; CommandExited before [Command.Run] returns and [Process.Done] is closed. So an
// observer that takes its time holds up who runs the command, and one that blocks stops them. In CommandStarted it also holds up the transfers, and with them a
// program that writes more than a pipe holds (64 KiB); the end of the context is not held up. In CommandExited the child is gone and nothing is held open.
//
// The methods are called in a goroutine that is the library's, whoever runs the command. So a panic there ends this process, as in any goroutine; one that ends
// the goroutine (runtime.Goexit) does no harm. They may run commands, which are observed too.
type Observer interface {
	// CommandStarted is told when the program runs, that is, when execve can no longer fail.
	CommandStarted(ctx context.Context, e StartEvent)
	// CommandExited is told when the program has ended and its output is complete. The ctx of all methods is that of the running call, with its values;
	// here it may have ended.
	CommandExited(ctx context.Context, e ExitEvent)
	// CommandFailed is told when the program could not be started and there is no child left: because of a bad call, a policy ([SetPolicy]), a context that has
	// ended, or what the kernel has refused.
	CommandFailed(ctx context.Context, e FailEvent)
}

var (
	processObserver atomic.Pointer[Observer]
	processLogger   atomic.Pointer[slog.Logger]
	observations    atomic.Uint64
)

// SetObserver has o told of all commands that this process runs from now on, until restore is called, which puts back what was there before; with nil nobody
// is told. What runs already goes on telling whom it told before. Commands may have one more observer of their own; this one is told first. It can be
// called at any time, from any goroutine.
//
// Without observers and loggers all this costs a run three loads from memory, and no allocation. With one, [Command.Run] learns when the program runs, as
// [Command.Start] does, which costs it one more wake-up.
func SetObserver(o Observer) (restore func()) {
	var p *Observer
	if o != nil {
		p = &o
	}
	old := processObserver.Swap(p)
	return func() { processObserver.Store(old) }
}

// SetObserver has o told of each run of this command, after the one of the package's [SetObserver]; with nil only that one is. The default is nil.
func (c *Command) SetObserver(o Observer) *Command {
	c.observer = o
	return c
}

// SetLogger logs all commands that this process runs from now on to l, at debug level, until restore is called, which puts back what was there before; with nil, the
// default, nothing is logged. Commands with a logger of their own ([Command.SetLogger]) are logged there instead. It can be called at any time, from any
// goroutine.
//
// The messages and their attributes are:
//
//	"program started"      command, path, pid
//	"program exited"       command, path, pid, duration, status; err, if something besides the status went wrong
//	"program not started"  command, path, err
//
// The command is the program and its arguments as by [Command.String], with secrets as ***; neither the environment nor what the program writes is logged. In addition there are exec=true for
// [Command.Exec], and dry_run=true in a dry run. The handler gets the context of the running call. When, and in which goroutine, is said at [Observer]: the
// handler is one more, the last to be told. A logger whose debug level is off when a command is run is as good as none.
func SetLogger(l *slog.Logger) (restore func()) {
	old := processLogger.Swap(l)
	return func() { processLogger.Store(old) }
}

// SetLogger logs each run of this command to l, in place of the logger of the package's [SetLogger], in the same way. With nil this command is not logged.
func (c *Command) SetLogger(l *slog.Logger) *Command {
	c.logger, c.hasLogger = l, true
	return c
}

// observation is a run that somebody observes. A nil one is observed by nobody.
type observation struct {
	ctx       context.Context
	observers [2]Observer  // nil: none
	logger    *slog.Logger // nil: none
	event     StartEvent
	started   bool // has been told
	over      bool // the last event has been told
}

// observation returns who observes this run of the command, nil if nobody does.
func (c *Command) observation(ctx context.Context, dry bool) *observation {
	o, l := processObserver.Load(), c.logger
	if !c.hasLogger {
		l = processLogger.Load()
	}
	if l != nil && !l.Enabled(ctx, slog.LevelDebug) {
		l = nil
	}
	if o == nil && c.observer == nil && l == nil {
		return nil
	}
	obs := &observation{ctx: ctx, logger: l, observers: [2]Observer{1: c.observer}}
	if o != nil {
		obs.observers[0] = *o
	}
	path := c.options.Path
	if path == "" {
		path = c.want.Name
	}
	obs.event = StartEvent{ID: observations.Add(1), Command: c.want.Line().String(), Path: path, Time: time.Now(), DryRun: dry}
	return obs
}

// start tells that the program runs.
func (o *observation) start(path string, pid int) {
	if o == nil {
		return
	}
	o.started = true
	o.event.Path, o.event.PID = path, pid
	if !o.event.DryRun { // which may tell when its function has returned
		o.event.Time = time.Now()
	}
	e := o.event
	o.tell(func(to Observer) { to.CommandStarted(o.ctx, e) }, "program started", slog.Int("pid", e.PID))
}

// exit tells how the program ended, or that it never ran.
func (o *observation) exit(status Status, err error) {
	switch {
	case o == nil:
		return
	case !o.started:
		o.fail(err)
		return
	}
	o.over = true
	e := ExitEvent{StartEvent: o.event, Duration: time.Since(o.event.Time), Status: status, Err: err}
	attrs := []slog.Attr{slog.Int("pid", e.PID), slog.Duration("duration", e.Duration), slog.String("status", status.String())}
	// Without the end of standard error.
	if exit, ok := err.(*ExitError); ok {
		err = exit.Err
	}
	if err != nil {
		attrs = append(attrs, slog.String("err", err.Error()))
	}
	o.tell(func(to Observer) { to.CommandExited(o.ctx, e) }, "program exited", attrs...)
}

// fail tells that the program was not started, unless it is known how this run has ended.
func (o *observation) fail(err error) {
	if o == nil || o.over {
		return
	}
	o.over = true
	var start *StartError
	if errors.As(err, &start) {
		o.event.Path = start.Path // as found, if it was
	}
	e := FailEvent{StartEvent: o.event, Err: err}
	e.PID = 0
	o.tell(func(to Observer) { to.CommandFailed(o.ctx, e) }, "program not started", slog.String("err", err.Error()))
}

// tell calls f for the observers and logs, in a goroutine of its own, and waits for it: a panic then ends this process whoever runs the command, and
// runtime.Goexit does not end the command's goroutine and leave a child behind.
func (o *observation) tell(f func(Observer), msg string, attrs ...slog.Attr) {
	done := make(chan struct{})
	go func() {
		defer func() {
			if r := recover(); r != nil {
				panic(r) // whoever waits must not get away
			}
			close(done)
		}()
		// Last comes first. Those that come later are called also when an earlier one has ended the goroutine.
		defer o.log(msg, attrs)
		for i := len(o.observers) - 1; i >= 0; i-- {
			if to := o.observers[i]; to != nil {
				defer f(to)
			}
		}
	}()
	<-done
}

func (o *observation) log(msg string, more []slog.Attr) {
	if o.logger == nil {
		return
	}
	attrs := append([]slog.Attr{slog.String("command", o.event.Command), slog.String("path", o.event.Path)}, more...)
	if o.event.Exec {
		attrs = append(attrs, slog.Bool("exec", true))
	}
	if o.event.DryRun {
		attrs = append(attrs, slog.Bool("dry_run", true))
	}
	o.logger.LogAttrs(o.ctx, slog.LevelDebug, msg, attrs...)
}
