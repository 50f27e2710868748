package spawn

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"regexp"

	"github.com/virspawn/spawn/internal/command"
	"github.com/virspawn/spawn/internal/dry"
	"github.com/virspawn/spawn/internal/process"
	"github.com/virspawn/spawn/internal/run"
)

// Run starts the program and waits for its end. It returns nil if the program
// exited with code 0.
//
// It returns a [*StartError] if the program could not be started. It returns an
// [*ExitError] if the program exited with another code or was ended by a
// signal. If a reader or writer failed, it returns an ExitError that wraps that
// error. It returns a [*CallError] for a bad call of a method.
//
// When ctx ends, the program gets SIGTERM, and SIGKILL after the grace period
// (see [Command.SetGracePeriod]). The error then wraps the error of ctx. If a
// grandchild keeps standard output open when the program has ended, Run waits
// for it as long as ctx lasts. A nil ctx panics, here and in all that take one,
// as in [os/exec.CommandContext].
//
// A program that the parent may not signal, or that SIGKILL has not ended after
// two seconds, is given up: Run returns, with an error that also wraps EPERM or
// the like and says that the program runs on. Its pipes are closed, and the
// library waits for it in the background.
//
// Unless the command directs standard error elsewhere, its last 32 KiB are kept
// for the error.
//
// Like virCommandRun.
func (c *Command) Run(ctx context.Context) error {
	_, err := c.runStatus(ctx, "Run", nil, false)
	return err
}

// RunStatus is like [Command.Run], but an exit code that is not 0, or a signal,
// is not an error.
//
// The Status is that of a program that was started. For one that was not, its
// exit code is -1.
//
// Like virCommandRun with a status.
func (c *Command) RunStatus(ctx context.Context) (Status, error) {
	status, err := c.runStatus(ctx, "RunStatus", nil, false)
	var exit *ExitError
	if errors.As(err, &exit) && exit.Err == nil {
		err = nil
	}
	return status, err
}

// Output runs the program as [Command.Run] does and returns its standard
// output, also if there is an error.
//
// The command must not direct standard output elsewhere.
func (c *Command) Output(ctx context.Context) ([]byte, error) {
	return c.output(ctx, "Output", false)
}

// CombinedOutput is like [Command.Output], with the standard error in between
// as it was written.
//
// The command must direct neither of them elsewhere.
func (c *Command) CombinedOutput(ctx context.Context) ([]byte, error) {
	return c.output(ctx, "CombinedOutput", true)
}

// begun is a running call of a command, once the policy has been asked.
type begun struct {
	*Command              // to run; it may be a copy
	observed *observation // nil: nobody observes it
	dry      DryRunFunc   // what stands in for the program; nil when it runs
}

// begin is what every running call does first: it asks the policy, and finds
// out who observes. On an error the files of [CloseParent] have been closed.
func (c *Command) begin(ctx context.Context, exec bool) (b begun, err error) {
	needContext(ctx)
	b = begun{Command: c, dry: dryRunFunc(ctx)}
	if fn := processPolicy.Load(); fn != nil {
		b.Command, err = c.ask(ctx, *fn, b.dry != nil)
	}
	b.observed = b.observation(ctx, b.dry != nil)
	if b.observed != nil {
		b.observed.event.Exec = exec
		if err != nil {
			b.observed.fail(err)
		}
	}
	return b, err
}

// needContext panics where the caller has given no context: a mistake in the
// program, which would show itself deep inside, or only sometimes.
func needContext(ctx context.Context) {
	if ctx == nil {
		panic("spawn: nil Context")
	}
}

// call is the running call for the rooms below.
func (b begun) call(method string, streams command.Streams) run.Call {
	return run.Call{Command: &b.want, Streams: streams, Options: b.options, Method: method}
}

// dryCall is the same where a function stands in for the program.
func (b begun) dryCall(streams command.Streams) dry.Call {
	d := b.Clone() // the caller may change his when Start has returned
	return dry.Call{Command: &d.want, Streams: streams, Program: b.dry.program(d)}
}

// starts tells of the start of a program whose end the running call tells of.
type starts struct{ of *observation }

func (s starts) Started(path string, pid int) { s.of.start(path, pid) }
func (s starts) Failed(error)                 {}
func (s starts) Over(*process.Outcome)        {}

// watcher returns who is to be told of the start; nil if nobody observes it.
func (b begun) watcher() process.Watcher {
	if b.observed == nil {
		return nil
	}
	return starts{b.observed}
}

// runStatus runs the program to its end. Unless out is nil it takes standard
// output there, with standard error in between where merged.
func (c *Command) runStatus(ctx context.Context, method string, out *[]byte, merged bool) (Status, error) {
	b, err := c.begin(ctx, false)
	if err != nil {
		return Status{ExitCode: -1}, err
	}
	defer b.want.CloseParents()
	o := b.runStreams(ctx, method, out, merged)
	status, err := Status(o.Status), failure(b.want.Line(), &o)
	b.observed.exit(status, err)
	return status, err
}

func (b begun) runStreams(ctx context.Context, method string, out *[]byte, merged bool) process.Outcome {
	streams := b.want.Streams
	err := b.takeOutput(method, &streams, out, merged)
	if err == nil {
		err = b.checkCall(method, &streams)
	}
	if err == nil {
		streams.Empty()
		err = b.ready(ctx)
	}
	if err != nil {
		return process.Outcome{Status: process.Unknown, Never: err}
	}
	streams.KeepTail()
	if b.dry != nil {
		call := b.dryCall(streams)
		call.Watcher = b.watcher()
		return dry.Run(ctx, call)
	}
	call := b.call(method, streams)
	call.Watcher = b.watcher()
	return run.Run(ctx, call)
}

// start starts the program.
func (b begun) start(ctx context.Context, streams command.Streams) (*Process, error) {
	p, err := b.startStreams(ctx, streams)
	if err != nil {
		err = public(err)
		b.observed.fail(err)
		return nil, err
	}
	return p, nil
}

func (b begun) startStreams(ctx context.Context, streams command.Streams) (*Process, error) {
	streams.Empty()
	streams = b.want.OnTerminal(streams)
	if err := b.ready(ctx); err != nil {
		b.want.CloseParents()
		return nil, err
	}
	p := &Process{line: b.want.Line(), observed: b.observed}
	var err error
	if b.dry != nil {
		defer b.want.CloseParents()
		call := b.dryCall(streams)
		call.Watcher = (*watching)(p)
		p.run, err = dry.Start(ctx, call)
	} else {
		call := b.call("Start", streams)
		call.Watcher = (*watching)(p)
		p.run, err = run.Start(ctx, call)
	}
	if err != nil {
		return nil, err
	}
	return p, nil
}

func (c *Command) output(ctx context.Context, method string, merged bool) ([]byte, error) {
	var out []byte
	_, err := c.runStatus(ctx, method, &out, merged)
	return out, err
}

// takeOutput directs standard output to out, unless that is nil. It is an error
// if the command directs it elsewhere.
func (c *Command) takeOutput(method string, streams *command.Streams, out *[]byte, merged bool) error {
	if out == nil {
		return nil
	}
	if err := c.takeStdout(method, streams, command.Stream{Kind: command.StreamBytes, Value: out}); err != nil {
		return err
	}
	if merged {
		if k := streams[command.Stderr].Kind; k != command.StreamDefault && k != command.StreamMerge {
			return &CallError{method, errTaken(command.Stderr)}
		}
		streams[command.Stderr] = command.Stream{Kind: command.StreamMerge}
	}
	return nil
}

// takeStdout directs standard output to s. It is an error if the command
// directs it elsewhere.
func (c *Command) takeStdout(method string, streams *command.Streams, s command.Stream) error {
	if c.firstFail != nil {
		return c.firstFail
	}
	if err := c.want.CheckStartOnly(method); err != nil {
		return public(err)
	}
	if k := streams[command.Stdout].Kind; k != command.StreamDefault && k != command.StreamNull {
		return &CallError{method, errTaken(command.Stdout)}
	}
	streams[command.Stdout] = s
	return nil
}

func errTaken(n int) error {
	return errors.New(command.StreamNames[n] + " is directed elsewhere already")
}

// Lines starts the program and yields its standard output line by line as it
// comes, without the line feeds. A last line that has none is a line too. A
// line may have any length; see [Command.Records].
//
// If something fails, the last pair has the error of [Command.Run] and an empty
// line. Leaving the loop early ends the program as the end of ctx does, and
// waits for it. If the parent may not signal the program, the loop is left at
// once and the program runs on, with nobody to read what it writes. One that
// does not end after SIGKILL is left after two seconds. To learn of that, use
// [Command.RunRegex].
//
// The command must not direct standard output elsewhere, nor have pipes.
func (c *Command) Lines(ctx context.Context) iter.Seq2[string, error] {
	return c.each(ctx, "Lines", '\n')
}

// Records is like [Command.Lines], but sep ends a record in place of a line
// feed. With 0 it reads what programs write for file names that may have line
// feeds in them, such as find -print0, git ls-files -z, or env -0.
//
// There is no bound on the length of a record. If n bytes come without sep,
// they take 2n bytes of memory before the loop sees them, and only ctx can stop
// the program. If you do not trust a program to end its records, read it by
// [Command.PipeStdout] and a [bufio.Scanner], which has a bound.
//
// Between records nothing is kept. While the body of the loop runs, at most 4
// KiB of what comes next wait, and what a pipe holds (64 KiB); then the program
// itself waits.
//
// Like virCommandRunNul.
func (c *Command) Records(ctx context.Context, sep byte) iter.Seq2[string, error] {
	return c.each(ctx, "Records", sep)
}

// RunRegex runs the program as [Command.Run] does and calls fn for each line of
// standard output in which re matches. It calls fn in this goroutine, as the
// lines come. Lines are those of [Command.Lines], without line feeds, so ^ and
// $ are their ends. Other lines are passed over.
//
// groups[0] is the leftmost match, groups[1] the first parenthesised group in
// it, and so on. A group that took no part is empty; see
// [regexp.Regexp.FindStringSubmatch]. The groups are fn's to keep. They share
// the line's memory: if you keep one, clone it by [strings.Clone], or the whole
// line is kept.
//
// An error from fn ends the program as the end of ctx does. RunRegex waits for
// that and returns an [*ExitError] that wraps the error. It does so also if
// the program has ended by then. If the program cannot be ended, because it is
// another user's by now or does not die of SIGKILL, the ExitError says that it
// runs on. If fn returns no error, it is an error if the program fails, as for
// Run. It is not an error if no line matches.
//
// The command must not direct standard output elsewhere, nor have pipes.
//
// Like virCommandRunRegex.
func (c *Command) RunRegex(ctx context.Context, re *regexp.Regexp, fn func(groups []string) error) error {
	var bad error
	switch {
	case re == nil:
		bad = &CallError{"RunRegex", errors.New("the regular expression is nil")}
	case fn == nil:
		bad = &CallError{"RunRegex", errors.New("the function is nil")}
	}
	if bad != nil {
		c.want.CloseParents()
		return cmp.Or(c.firstFail, bad)
	}
	return c.records(ctx, "RunRegex", '\n', func(line string) error {
		if groups := re.FindStringSubmatch(line); groups != nil {
			return fn(groups)
		}
		return nil
	})
}

// errLeft is the end of a program whose records are no longer wanted.
var errLeft = errors.New("the loop was left")

// each returns a sequence of records and, if something fails, an error.
func (c *Command) each(ctx context.Context, method string, sep byte) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		err := c.records(ctx, method, sep, func(record string) error {
			if !yield(record, nil) {
				return errLeft
			}
			return nil
		})
		if err != nil && !errors.Is(err, errLeft) {
			yield("", err)
		}
	}
}

// records runs the program and gives take the records of its standard output.
// An error from take ends the program.
func (c *Command) records(ctx context.Context, method string, sep byte, take func(record string) error) error {
	b, err := c.begin(ctx, false)
	if err != nil {
		return err
	}
	defer b.want.CloseParents()
	streams := b.want.Streams
	err = b.takeStdout(method, &streams, command.Stream{})
	if err == nil {
		// The other pipes' ends would be in nobody's hands.
		err = b.checkCall(method, &streams)
	}
	if err != nil {
		b.observed.fail(err)
		return err
	}
	streams[command.Stdout] = command.Stream{Kind: command.StreamPipe}
	streams.KeepTail()
	p, err := b.start(ctx, streams)
	if err != nil {
		return err
	}
	defer p.run.Pipes[command.Stdout].Close()
	returned := false // take may panic
	defer func() {
		if !returned {
			_ = p.leave(errLeft) // nobody is there to hear of it
		}
	}()
	refused, err := readRecords(p.run.Pipes[command.Stdout], sep, take)
	returned = true
	if refused != nil {
		return p.leave(refused)
	}
	if waitErr := p.Wait(); err == nil || ctx.Err() == nil || p.run.RunsOn() != nil {
		return waitErr
	}
	return p.cutShort(process.ContextError(ctx))
}

// leave ends a program of which nothing more is wanted, because of cause. It
// returns that as the error of the program.
func (p *Process) leave(cause error) error {
	// Before the signal, which a program may ignore: what it writes fails from
	// now on.
	p.run.Pipes[command.Stdout].Close()
	if err := p.Abort(); err != nil {
		cause = fmt.Errorf("%w; it runs on: %w", cause, err)
		return &ExitError{Command: p.line.String(), Status: Status{ExitCode: -1}, Err: cause}
	}
	return p.cutShort(cause)
}

// readRecords gives take the records of r. It returns the error of take, at
// which it stops, and the error of r if that is not the end of the file.
func readRecords(r io.Reader, sep byte, take func(record string) error) (refused, err error) {
	records := bufio.NewReader(r)
	for err == nil {
		var record string
		record, err = records.ReadString(sep)
		if err == nil {
			record = record[:len(record)-1]
		} else if record == "" {
			break
		}
		if refused = take(record); refused != nil {
			return refused, nil
		}
	}
	if err == io.EOF {
		err = nil
	}
	return nil, err
}

// Start starts the program and returns when it runs, that is, when execve
// can no longer fail. Some microseconds may pass until /proc/PID/exe shows
// the program.
//
// If anything fails before, it returns a [*StartError], and there is no child,
// unless the error says that the child was given up and runs on.
// It returns a [*CallError] for a bad call of a method. With
// [Command.RequireHandshake] it returns earlier, when there is a child.
//
// When ctx ends, the program is ended as [Command.Run] says. So ctx must last
// as long as the program; a daemon is the exception, see [Command.Daemonize].
//
// Unlike Run, Start directs standard error to /dev/null if the command does not
// say otherwise, or to the terminal of [Command.SetPTY].
//
// Like virCommandRunAsync.
func (c *Command) Start(ctx context.Context) (*Process, error) {
	b, err := c.begin(ctx, false)
	if err != nil {
		return nil, err
	}
	return b.start(ctx, b.want.Streams)
}

// Exec replaces this process by the program. It returns only if there is an
// error, or in a dry run; see [SetDryRun].
//
// The program gets what a child would get. A stream about which nothing was
// said is /dev/null here too.
//
// What needs this process at the other end is refused: readers, writers,
// buffers for output, pipes, and more data to read than a pipe holds (64 KiB).
// What is for a child only is refused too: new namespaces and those to join,
// [Command.SetCgroup], [Command.SetPreExecHook], [Command.SetPTY],
// [Command.RequireHandshake] and [Command.Daemonize].
//
// If there is an error, what belongs to the whole process and not to one thread
// may have changed. Limits, ignored signals, the out-of-memory score and the
// core dump filter are put back as far as this process may. A new session or
// process group stays.
//
// Another thread than the calling one becomes the program. If the calling
// goroutine is locked to a thread that is confined in another way, the error
// is a [*CallError] that says in which, as for [Command.SetParentDeathSignal].
// /proc must be mounted.
//
// If the program gets other ids or capabilities, for example, this process is
// not dumpable meanwhile (PR_SET_DUMPABLE in prctl(2)). Exec is the only call
// that changes that flag. If there is an error it is put back, unless the
// process itself has changed its ids meanwhile.
//
// The program has no interval timers, as a child has none: those of
// setitimer(2) and alarm(2), and that of a CPU profile, are stopped. If there
// is an error, they go on from where they were, and the profile with them.
//
// With [Command.SetSeccompFilter], execve comes when the filter binds the
// calling process already. What can be known before is an error as always: the
// program, or the interpreter of a script, is not there or may not be executed.
// If execve fails for another reason, this process goes on with a thread under
// the program's filter, which may end it.
//
// A program that is being written (ETXTBSY) is tried a few times, as by the
// other calls, but not with [Command.SetSession].
//
// Like virCommandExec; see execve(2).
func (c *Command) Exec() error {
	b, err := c.begin(context.Background(), true)
	if err != nil {
		return err
	}
	defer b.want.CloseParents()
	err = public(b.exec())
	if err != nil {
		b.observed.fail(err)
	}
	return err
}

func (b begun) exec() error {
	if b.firstFail != nil {
		return b.firstFail
	}
	if err := b.want.CheckStartOnly("Exec"); err != nil {
		return err
	}
	if b.want.Hook != "" {
		return &CallError{"Exec", errors.New("a hook is for a child; what it does can be done before Exec")}
	}
	if err := b.want.Streams.CheckAlone("Exec"); err != nil {
		return err
	}
	if b.dry != nil {
		call := b.dryCall(b.want.Streams)
		call.Watcher = b.watcher()
		o := dry.Exec(call)
		err := failure(b.want.Line(), &o)
		b.observed.exit(Status(o.Status), err)
		return err
	}
	call := b.call("Exec", b.want.Streams)
	call.Watcher = b.watcher()
	return run.Exec(call)
}

// Explain returns the program that a child would run, one system call a line,
// as strace(1) would print it. Secrets are shown as ***.
//
// A line with execveat and "spawn-stub" is where a child that becomes somebody
// else, or waits, leaves the parent's memory. One with "spawn-helper" is where
// a helper begins, for a hook.
//
// Nothing is started, and no file is made or closed. Descriptors that the run
// would open have the numbers that they would have now.
//
// If the command cannot run, because of a bad call for example, the error is
// the one that the run would return.
func (c *Command) Explain() (string, error) {
	if c.firstFail != nil {
		return "", c.firstFail
	}
	if fn := processPolicy.Load(); fn != nil {
		asked := c.Clone()
		asked.want.KeepFiles()
		asked, err := asked.ask(context.Background(), *fn, false)
		if err != nil {
			return "", err
		}
		c = asked
	}
	return c.explain(c.want.OnTerminal(c.want.Streams), false)
}

// explain returns the program for these streams. If look is set, the program
// need not be there.
func (c *Command) explain(streams command.Streams, look bool) (string, error) {
	call := begun{Command: c}.call("Explain", streams)
	call.Options.Look = look
	text, err := run.Explain(call)
	return text, public(err)
}

// ready refuses a command that cannot run, or not any more.
func (c *Command) ready(ctx context.Context) error {
	if c.firstFail != nil {
		return c.firstFail
	}
	if ctx.Err() != nil {
		return &StartError{Op: "start", Path: c.want.Name, Err: process.ContextError(ctx)}
	}
	return nil
}

// checkCall refuses what the running call, which returns no Process,
// cannot serve.
func (c *Command) checkCall(method string, streams *command.Streams) error {
	if c.firstFail != nil {
		return c.firstFail
	}
	if err := c.want.CheckStartOnly(method); err != nil {
		return public(err)
	}
	for n, s := range streams {
		if s.Kind == command.StreamPipe {
			return public(command.ErrPipe(method, n))
		}
	}
	return nil
}
