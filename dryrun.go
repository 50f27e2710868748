package spawn

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"strconv"
	"sync/atomic"
	"syscall"

	"github.com/virspawn/spawn/internal/command"
	"github.com/virspawn/spawn/internal/dry"
)

// DryRunFunc stands in for all programs in a dry run. It is called in place of
// each one with what would have run, and says what the program would have done.
//
// See [SetDryRun] and [WithDryRun]. The function runs in a goroutine of
// its own, several at once if commands run at once. The program starts when
// the function is called. It ends when the function returns, or before, by
// a signal.
//
// [Command.Start] returns when the function has returned, so that
// [DryRunCall.Err] can be its error. It returns earlier when the function calls
// [DryRunCall.Flush]. A function that goes on like a service, until its context
// ends for example, must call that first.
//
// If a function ends its goroutine without returning, as [testing.T.FailNow]
// does, the error is a [*StartError].
type DryRunFunc func(call *DryRunCall)

// DryRunCall is one program that would have run: what it gets, and what
// it does.
//
// It belongs to the goroutine of the [DryRunFunc]. It may be kept and looked at
// when the running call, or [Process.Wait], has returned.
type DryRunCall struct {
	// Path is the program as it was given to [New]. It is not looked up in
	// PATH, and need not be there: a dry run is the same on every machine.
	Path string
	// Args are the arguments, from argument 0 on. Env is the whole environment,
	// as name=value; it is the parent's if nothing was said about it. Secrets
	// are there as the program would get them; see [DryRunCall.SecretArg] and
	// [DryRunCall.SecretEnv].
	Args, Env []string
	// Dir is what was given to [Command.SetWorkingDirectory]; empty for the
	// parent's own.
	Dir string
	// Buffers is the data of each [Command.SetSendBuffer], by the
	// descriptor's number.
	Buffers map[int][]byte

	// Stdout and Stderr are what the program writes when the function returns
	// or calls [DryRunCall.Flush]: first Stdout, then Stderr.
	Stdout, Stderr string
	// ExitCode is the program's exit code, 0 to 255.
	ExitCode int
	// Signal, unless 0, is the signal that ends the program, in place of
	// an exit.
	Signal syscall.Signal
	// Err, unless nil, says that the program could not be started. The running
	// call returns it as it is if it is a [*StartError], and otherwise in one.
	//
	// The program may have started already, because of [DryRunCall.Flush] and
	// its like or a pipe for standard input. Then [Process.Wait] returns Err;
	// after [Command.RequireHandshake], [Process.HandshakeNotify] does too.
	Err error

	cmd                              *Command // a copy, which nobody changes
	run                              *dry.Program
	secretArgs, secretEnv, passedEnv []bool
	stdin                            *string // once read
}

// SetDryRun makes fn stand in for every program of your process. The function
// it returns puts back what was there before.
//
// It is for tests: nothing is cloned, no pid file is written, and no privilege,
// program, or Linux is needed. With nil, the default, programs run. Tests that
// run in parallel use [WithDryRun], which wins.
//
// Everything else works as usual. Bad calls are refused, streams are copied,
// captured and handed over, output is kept for the error, and files given with
// [CloseParent] are closed. [Process] can be waited for, signalled, aborted and
// shaken hands with. The program ends when its context does. It has a pid that
// no process can have, and the default dispositions of signals: SIGTERM ends
// it, SIGCHLD does not, and none stops it.
//
// What only the kernel or the machine can refuse is not refused: a limit above
// the hard one, a directory or user that is not there.
//
// A reader or file for standard input is read only if the function reads it,
// with [DryRunCall.Stdin] or [DryRunCall.Input]. A pipe takes all that is
// written to it. With [Command.InheritStdio] the program reads nothing and
// writes to [os.Stdout] and [os.Stderr].
//
// The other end of [Command.SetPTY] is there too, but is not a terminal. What
// is written to [Process.PTY] is standard input, up to the first ^D. There is
// no echo, and output comes as it was written. Closing [Process.PTY] ends the
// program by SIGHUP. [Process.Resize] has no effect.
//
// [Command.Exec], which has no context, returns in a dry run. It returns nil if
// the program would have taken the place of your process, or an [*ExitError] if
// fn says that it fails then. [Command.Explain] is the same as always. Off, dry
// runs cost one or two loads from memory a run.
//
// Like virCommandSetDryRun.
func SetDryRun(fn DryRunFunc) (restore func()) {
	old := processDryRun.Swap(&fn)
	return func() { processDryRun.Store(old) }
}

// WithDryRun returns a context in which fn stands in for programs.
//
// Everything else is as for [SetDryRun]. With nil, programs do run in this
// context, whatever was set before.
func WithDryRun(ctx context.Context, fn DryRunFunc) context.Context {
	anyDryContext.Store(true)
	return context.WithValue(ctx, dryRunKey{}, fn)
}

var (
	processDryRun atomic.Pointer[DryRunFunc]
	// anyDryContext saves the look-up where there is nothing to find.
	anyDryContext atomic.Bool
)

// dryRunKey is the key of a context's DryRunFunc.
type dryRunKey struct{}

// dryRunFunc returns what stands in for programs; nil when they run.
func dryRunFunc(ctx context.Context) DryRunFunc {
	if anyDryContext.Load() {
		if fn, ok := ctx.Value(dryRunKey{}).(DryRunFunc); ok {
			return fn
		}
	}
	if fn := processDryRun.Load(); fn != nil {
		return *fn
	}
	return nil
}

// String returns the command as [Command.String] does, secrets as ***.
func (c *DryRunCall) String() string { return c.cmd.String() }

// Explain returns the program that a child would run, as [Command.Explain]
// does, even if the program file is not there.
//
// It is an error if this machine cannot tell, because it lacks a security
// module that the command needs for example. On other systems than Linux the
// error wraps [errors.ErrUnsupported]. No pid file is made. After the call it
// shows what is possible then, without files that have been closed since.
func (c *DryRunCall) Explain() (string, error) { return c.cmd.explain(c.run.Streams, true) }

// Stdin returns the whole standard input, or what [DryRunCall.Input] has left
// of it.
//
// It can be called again. If the input comes from a reader, a file or a pipe,
// [Command.Start] returns first, and Stdin waits for the end of the input.
// A pipe ends when the caller of [Process.Stdin] has closed it. If the program
// is ended meanwhile, Stdin returns what there was.
//
// It must not be called for the first time after the function has returned.
func (c *DryRunCall) Stdin() string {
	if c.stdin == nil {
		b, _ := io.ReadAll(c.run.Input) // the caller's reader keeps its error
		s := string(b)
		c.stdin = &s
	}
	return *c.stdin
}

// Input returns the standard input to be read as it comes, for a program that
// answers before it has read all.
//
// Reading it is as for [DryRunCall.Stdin].
func (c *DryRunCall) Input() io.Reader { return c.run.Input }

// Flush says that the program runs, writes what Stdout and Stderr hold, in this
// order, and empties them.
//
// [Command.Start] and [Process.HandshakeNotify] return then if they have
// not yet.
func (c *DryRunCall) Flush() {
	stdout, stderr := c.Stdout, c.Stderr
	c.Stdout, c.Stderr = "", ""
	c.run.Flush(stdout, stderr)
}

// Context returns a context that ends when the program is to end, or has ended.
//
// The program is to end when the context of the running call has ended, and on
// [Process.Abort]. It has ended by a signal, for example. The context has the
// values of the running call's. A function that waits for something should wait
// for this context too; one that does not is left behind.
func (c *DryRunCall) Context() context.Context { return c.run.Context }

// Signals says that the program runs, as [DryRunCall.Flush] does, and handles
// signals itself from now on.
//
// Signals that a program can handle do not end it, but come from the channel.
// The channel holds 16; what does not fit is lost.
func (c *DryRunCall) Signals() <-chan os.Signal { return c.run.StartHandling() }

// Signalled reports whether the program has got a signal so far, from
// [Process.Signal] or because it is to end.
func (c *DryRunCall) Signalled() bool { return c.run.GotSignal() }

// SecretArg reports whether Args[i] is a secret, by [Command.AddSecretArg].
func (c *DryRunCall) SecretArg(i int) bool { return c.secretArgs[i] }

// SecretEnv reports whether the value of Env[i] is a secret, by
// [Command.AddSecretEnv].
func (c *DryRunCall) SecretEnv(i int) bool { return c.secretEnv[i] }

// PassedEnv reports whether Env[i] is a variable of the parent that was passed
// on, or the value in its place.
//
// It was passed by [Command.AddEnvPassCommon] or its like, or because nothing
// was said about the environment. What it holds depends on the machine.
func (c *DryRunCall) PassedEnv(i int) bool { return c.passedEnv[i] }

// RunReal runs the program after all, with the same input, and sets Stdout,
// Stderr, ExitCode, Signal and Err to what it did.
//
// Standard input is read in full before. Standard error that goes where
// standard output goes is in Stdout. The program gets the signals that the one
// of the dry run gets. There is no handshake and no terminal, and [Process]
// knows nothing of the program.
//
// On other systems than Linux, Err wraps [errors.ErrUnsupported].
func (c *DryRunCall) RunReal() {
	ctx := WithDryRun(c.run.Context, nil)
	r, err := c.realCommand(ctx)
	if err != nil {
		c.Err = err
		return
	}
	streams := c.run.Streams
	var out, errs []byte
	if streams[command.Stdin].Kind != command.StreamInherit {
		streams[command.Stdin] = command.Stream{Kind: command.StreamData, Value: []byte(c.Stdin())}
	}
	merged := c.run.Merged()
	if k := streams[command.Stdout].Kind; k != command.StreamDefault && k != command.StreamNull {
		streams[command.Stdout] = command.Stream{Kind: command.StreamBytes, Value: &out}
	}
	switch k := streams[command.Stderr].Kind; {
	case merged && streams[command.Stdout].Kind == command.StreamBytes:
		streams[command.Stderr] = command.Stream{Kind: command.StreamMerge}
	case k != command.StreamDefault && k != command.StreamNull && k != command.StreamMerge:
		streams[command.Stderr] = command.Stream{Kind: command.StreamBytes, Value: &errs}
	}
	p, err := begun{Command: r}.start(ctx, streams)
	if err != nil {
		c.Err = err
		return
	}
	c.forward(p)
	var exit *ExitError
	if err := p.Wait(); err != nil && !errors.As(err, &exit) {
		c.Err = err
	}
	status := p.Status()
	c.Stdout, c.Stderr, c.ExitCode, c.Signal = string(out), string(errs), status.ExitCode, status.Signal
}

// realCommand returns the command to run after all. The dry run is
// observed already.
func (c *DryRunCall) realCommand(ctx context.Context) (*Command, error) {
	r := c.cmd.Clone()
	// What this process has left after the call, as far as it is open.
	r.want.KeepFiles()
	r.want.Handshake, r.want.Attributes.PTY, r.options.Path = false, nil, ""
	if fn := processPolicy.Load(); fn != nil {
		return r.ask(ctx, *fn, false)
	}
	return r, nil
}

// forward says that the program runs, and sends p its signals until p
// has ended.
func (c *DryRunCall) forward(p *Process) {
	signals := c.run.StartHandling()
	for {
		select {
		case sig := <-signals:
			if c.run.Context.Err() == nil {
				// Or it gets them from the end of its context.
				_ = p.Signal(sig) // it may have ended
			}
		case <-p.Done():
			return
		}
	}
}

// program returns what dry.Program calls in place of the program that c would
// have run.
func (fn DryRunFunc) program(c *Command) dry.Func {
	return func(run *dry.Program) func() dry.Result {
		call := newCall(c, run)
		return func() dry.Result {
			fn(call)
			return call.result()
		}
	}
}

// newCall says what would have run.
func newCall(c *Command, run *dry.Program) *DryRunCall {
	call := &DryRunCall{Path: c.want.Name, Dir: c.want.Dir, cmd: c, run: run}
	call.Args, call.secretArgs = c.want.Argv()
	addEnv := func(pair string, secret, passed bool) {
		call.Env = append(call.Env, pair)
		call.secretEnv = append(call.secretEnv, secret)
		call.passedEnv = append(call.passedEnv, passed)
	}
	c.want.EachVariable(addEnv)
	if c.want.Listen != nil {
		addEnv(command.ListenPID+"="+strconv.Itoa(run.PID()), false, false)
	}
	for i := range c.want.Passed {
		if p := &c.want.Passed[i]; p.File == nil {
			if call.Buffers == nil {
				call.Buffers = map[int][]byte{}
			}
			call.Buffers[p.FD] = bytes.Clone(p.Data)
		}
	}
	return call
}

// result says what the program has done, once the function has returned.
func (c *DryRunCall) result() dry.Result {
	err := c.Err
	var start *StartError
	if err != nil && !errors.As(err, &start) {
		err = &StartError{Op: "start", Path: c.cmd.want.Name, Err: err}
	}
	return dry.Result{Stdout: c.Stdout, Stderr: c.Stderr, ExitCode: c.ExitCode, Signal: c.Signal, Err: err}
}
