package spawn

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/virspawn/spawn/internal/command"
)

// StartEvent says which program was started. It is part of the other
// events too.
type StartEvent struct {
	// ID is the number of this run in your process. All events of one run have
	// the same ID, and no other run ever has it. (A pid can come again.)
	ID uint64
	// Command is the program and its arguments as by [Command.String], secrets
	// as ***, without the environment.
	Command string
	// Path is the program that runs, as found in PATH. It is as given to [New]
	// if it was not looked up, in a dry run for example. Nothing in it
	// is escaped.
	Path string
	// PID is the process id of the child; 0 if there is none, in a [FailEvent].
	PID int
	// Time is when the program was seen to run. In a FailEvent and in a dry
	// run, it is when the running call began.
	Time time.Time
	// Exec says that your process becomes the program, by [Command.Exec]. PID
	// is then your process's own, and no event follows unless Exec fails.
	Exec bool
	// DryRun says that a [DryRunFunc] stands in for the program.
	DryRun bool
}

// ExitEvent says how a program ended.
type ExitEvent struct {
	StartEvent
	// Duration is the time from StartEvent.Time to the end of the program and
	// of the transfers to and from it.
	Duration time.Duration
	// Status is how the program ended.
	Status Status
	// Err is what [Command.Run] or [Process.Wait] returns: nil, or an
	// [*ExitError], which holds the end of what the program has written to its
	// standard error. (In a dry run it may be a [*StartError]; see
	// [DryRunCall.Err].)
	Err error
}

// FailEvent says why a program was not started.
type FailEvent struct {
	StartEvent
	// Err is what the running call or [Process.HandshakeNotify] returns: a
	// [*StartError], or a bad call's error.
	Err error
}

// Observer is told of programs that start and end, for metrics or an audit.
//
// See [SetObserver] and [Command.SetObserver]. Each call that runs a command is
// observed: [Command.Run] and [Command.Start] and all that are like them, dry
// runs too. The observer is told once: by CommandFailed, or by CommandStarted
// and then CommandExited, even if the [Process] has been forgotten.
//
// [Command.Exec] is the exception. CommandStarted is told when all is
// ready, and nothing can follow; if Exec fails then, CommandFailed is told.
// [Command.Explain] is not observed.
//
// The events of one run come one after the other; those of runs at the same
// time come at the same time. What they report waits for them. CommandStarted
// and CommandFailed come before [Command.Start] or [Process.HandshakeNotify]
// returns. CommandExited comes before [Command.Run] returns and [Process.Done]
// is closed.
//
// So an observer that takes its time holds up the caller, and one that blocks
// stops it. In CommandStarted it also holds up the transfers, and with them
// a program that writes more than a pipe holds (64 KiB). It does not hold up
// the end of the context. In CommandExited the child is gone and nothing is
// held open.
//
// The methods are called in a goroutine of the library's, whoever runs the
// command. So a panic there ends your process, as in any goroutine. A method
// that ends the goroutine (runtime.Goexit) does no harm. The methods may run
// commands, which are observed too.
type Observer interface {
	// CommandStarted is told when the program runs, that is, when execve can no
	// longer fail.
	CommandStarted(ctx context.Context, e StartEvent)
	// CommandExited is told when the program has ended and its output is
	// complete. The ctx of all methods is that of the running call, with its
	// values; here it may have ended.
	CommandExited(ctx context.Context, e ExitEvent)
	// CommandFailed is told when the program could not be started and there is
	// no child left. The reason is a bad call, a policy ([SetPolicy]), a
	// context that has ended, or what the kernel has refused.
	CommandFailed(ctx context.Context, e FailEvent)
}

var (
	processObserver atomic.Pointer[Observer]
	processLogger   atomic.Pointer[slog.Logger]
	observations    atomic.Uint64
)

// SetObserver has o told of all commands that your process runs from now on.
//
// The function it returns puts back the previous observer. With nil, the
// default, nobody is told. A command that runs already goes on telling the
// observer that it had. A command may have one more observer of its own
// ([Command.SetObserver]), which is told second. SetObserver can be called at
// any time, from any goroutine.
//
// Without observers and loggers a run pays three loads from memory, and no
// allocation. With one, [Command.Run] learns when the program runs, as
// [Command.Start] does, which costs one more wake-up.
func SetObserver(o Observer) (restore func()) {
	var p *Observer
	if o != nil {
		p = &o
	}
	old := processObserver.Swap(p)
	return func() { processObserver.Store(old) }
}

// SetObserver has o told of each run of this command, after the one of the
// package's [SetObserver].
//
// With nil, the default, only that one is told.
func (c *Command) SetObserver(o Observer) *Command {
	c.observer = o
	return c
}

// SetLogger logs all commands that your process runs from now on to l, at
// debug level.
//
// The function it returns puts back the previous logger. With nil, the default,
// nothing is logged. Commands with a logger of their own ([Command.SetLogger])
// are logged there instead. SetLogger can be called at any time, from
// any goroutine.
//
// The messages and their attributes are:
//
//	"program started"      command, path, pid
//	"program exited"       command, path, pid, duration, status;
//	                       err, if something besides the status went wrong
//	"program not started"  command, path, err
//
// There is also exec=true for [Command.Exec], and dry_run=true in a dry
// run. The command is the program and its arguments as by [Command.String],
// with secrets as ***. Neither the environment nor what the program writes
// is logged. Each attribute is one line that a terminal can be shown, of about
// 4096 bytes at most, whatever the handler escapes.
//
// The handler gets the context of the running call. It is called like one more
// [Observer], the last to be told. A logger whose debug level is off when a
// command is run is as good as none.
func SetLogger(l *slog.Logger) (restore func()) {
	old := processLogger.Swap(l)
	return func() { processLogger.Store(old) }
}

// SetLogger logs each run of this command to l, in place of the logger of the
// package's [SetLogger], in the same way.
//
// With nil this command is not logged. The default is the package's logger.
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
		attrs = append(attrs, slog.String("err", command.OneLine(err.Error(), command.MaxShown)))
	}
	o.tell(func(to Observer) { to.CommandExited(o.ctx, e) }, "program exited", attrs...)
}

// fail tells that the program was not started, unless it is known how this run
// has ended.
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

// tell calls f for the observers and logs, in a goroutine of its own, and
// waits for it. A panic then ends the process whoever runs the command, and
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
		// Last comes first. Those that come later are called also when an
		// earlier one has ended the goroutine.
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
	shown := func(name, text string) slog.Attr {
		return slog.String(name, command.OneLine(text, command.MaxShown))
	}
	attrs := append([]slog.Attr{shown("command", o.event.Command), shown("path", o.event.Path)}, more...)
	if o.event.Exec {
		attrs = append(attrs, slog.Bool("exec", true))
	}
	if o.event.DryRun {
		attrs = append(attrs, slog.Bool("dry_run", true))
	}
	o.logger.LogAttrs(o.ctx, slog.LevelDebug, msg, attrs...)
}
