package spawn

import (
	"bufio"
	"context"
	"errors"
	"io"
	"iter"
)

// Run starts the program and waits for its end. It returns nil when the program exited with code 0, a [*StartError] when it
// could not be started, an [*ExitError] when it exited otherwise or was ended by a signal, or the error of a
// reader or writer that failed.
//
// When ctx ends, the program is ended: SIGTERM, the grace period (see [Command.SetGracePeriod]), SIGKILL; the error then
// wraps the error of ctx. Unless the command directs standard error elsewhere, its last 32 KiB are kept
// for the error. A grandchild that keeps standard output open when the program has ended is waited for as long
// as ctx lasts. (virCommandRun)
func (c *Command) Run(ctx context.Context) error {
	_, err := c.runStatus(ctx, "Run", c.streams)
	return err
}

// RunStatus is like [Command.Run], but an exit code that is not 0, or a signal, is no error. (virCommandRun with a status)
func (c *Command) RunStatus(ctx context.Context) (Status, error) {
	status, err := c.runStatus(ctx, "RunStatus", c.streams)
	var exit *ExitError
	if errors.As(err, &exit) && exit.Err == nil {
		err = nil
	}
	return status, err
}

// Output runs the program as [Command.Run] does and returns its standard output, also when there is an error. The command must
// not direct it elsewhere.
func (c *Command) Output(ctx context.Context) ([]byte, error) {
	return c.output(ctx, "Output", stream{})
}

// CombinedOutput is like [Command.Output], with the standard error in between as it was written.
func (c *Command) CombinedOutput(ctx context.Context) ([]byte, error) {
	return c.output(ctx, "CombinedOutput", stream{kind: streamMerge})
}

// runStatus runs the program to its end.
func (c *Command) runStatus(ctx context.Context, method string, streams [3]stream) (Status, error) {
	defer c.closeParents()
	if err := c.checkCall(method, streams); err != nil {
		return Status{ExitCode: -1}, err
	}
	empty(streams)
	keepTail(&streams)
	if fn := dryRunFunc(ctx); fn != nil {
		return c.runDry(ctx, streams, fn)
	}
	return c.runChild(ctx, method, streams)
}

// start starts the program.
func (c *Command) start(ctx context.Context, streams [3]stream) (*Process, error) {
	empty(streams)
	if fn := dryRunFunc(ctx); fn != nil {
		return c.startDry(ctx, streams, fn)
	}
	return c.startChild(ctx, streams)
}

func (c *Command) output(ctx context.Context, method string, errors stream) ([]byte, error) {
	defer c.closeParents()
	var out []byte
	streams := c.streams
	if err := c.takeStdout(method, &streams, stream{streamBytes, &out}); err != nil {
		return nil, err
	}
	if errors.kind == streamMerge {
		if k := streams[stderr].kind; k != streamDefault && k != streamMerge {
			return nil, &badCall{method, errTaken(stderr)}
		}
		streams[stderr] = errors
	}
	_, err := c.runStatus(ctx, method, streams)
	return out, err
}

// takeStdout directs standard output to s, unless the command directs it elsewhere.
func (c *Command) takeStdout(method string, streams *[3]stream, s stream) error {
	if c.firstFail != nil {
		return c.firstFail
	}
	if err := c.checkStartOnly(method); err != nil {
		return err
	}
	if k := streams[stdout].kind; k != streamDefault && k != streamNull {
		return &badCall{method, errTaken(stdout)}
	}
	streams[stdout] = s
	return nil
}

func errTaken(n int) error { return errors.New(streamNames[n] + " is directed elsewhere already") }

// Lines starts the program and yields its standard output line by line as it comes, without the line feeds; a last line that
// has none is a line too. A line may have any length. If something fails, the last pair has the error of
// [Command.Run] and an empty line. Leaving the loop early ends the program as the end of ctx would, and waits for
// it. The command must not direct standard output elsewhere.
func (c *Command) Lines(ctx context.Context) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		if err := c.lines(ctx, yield); err != nil {
			yield("", err)
		}
	}
}

// lines yields the lines of standard output and returns what went wrong, nil if the loop was left early.
func (c *Command) lines(ctx context.Context, yield func(string, error) bool) error {
	defer c.closeParents()
	streams := c.streams
	err := c.takeStdout("Lines", &streams, stream{kind: streamPipe})
	if err != nil {
		return err
	}
	keepTail(&streams)
	p, err := c.start(ctx, streams)
	if err != nil {
		return err
	}
	left := true // unless readLines returns: the loop's body may panic
	defer func() {
		p.pipes[stdout].Close()
		if left {
			_ = p.Abort() // nobody is there to hear of an error
		}
	}()
	left, err = readLines(p.pipes[stdout], yield)
	if left {
		return nil
	}
	if waitErr := p.Wait(); err == nil || ctx.Err() == nil {
		return waitErr
	}
	return p.cutShort(contextError(ctx))
}

// readLines yields the lines of r. It reports whether the loop was left early, and the error of r if it has no end.
func readLines(r io.Reader, yield func(string, error) bool) (left bool, err error) {
	lines := bufio.NewReader(r)
	for err == nil {
		var line string
		line, err = lines.ReadString('\n')
		if err == nil {
			line = line[:len(line)-1]
		} else if line == "" {
			break
		}
		if !yield(line, nil) {
			return true, nil
		}
	}
	if err == io.EOF {
		err = nil
	}
	return false, err
}

// Start starts the program and returns when it runs, that is, when execve can no longer fail; some microseconds may pass until
// /proc/PID/exe shows the program. If anything fails before, it
// returns a [*StartError], and there is no child. When ctx ends, the program is ended as [Command.Run] says.
//
// Unlike [Command.Run], Start directs standard error to /dev/null if the command does not say otherwise.
// (virCommandRunAsync)
func (c *Command) Start(ctx context.Context) (*Process, error) {
	return c.start(ctx, c.streams)
}

// keepTail keeps the end of standard error for the error, unless the command directs it elsewhere.
func keepTail(streams *[3]stream) {
	if streams[stderr].kind == streamDefault {
		streams[stderr].kind = streamTail
	}
}

// Exec replaces this process by the program: it returns only an error. The program gets exactly what a child would get,
// except that what needs this process at the other end is refused: readers, writers, buffers for output, pipes, and more data to
// read than a pipe holds (64 KiB). A stream about which nothing was said is /dev/null here too. What changes this process as a whole and not one thread, limits and process
// groups, may have happened when there is an error. (virCommandExec, execve(2))
func (c *Command) Exec() error {
	defer c.closeParents()
	if c.firstFail != nil {
		return c.firstFail
	}
	if err := c.checkStartOnly("Exec"); err != nil {
		return err
	}
	if c.hook.name != "" {
		return &badCall{"Exec", errors.New("a hook is for a child; what it does can be done before Exec")}
	}
	if err := checkAlone("Exec", c.streams); err != nil {
		return err
	}
	if fn := dryRunFunc(context.Background()); fn != nil {
		return c.execDry(fn)
	}
	return c.exec()
}

// errTooLong is the error for data that Exec cannot leave to the program.
var errTooLong = &badCall{"Exec", errors.New("more data to read than a pipe holds, and nobody would be left to write it")}

// Explain returns the program that a child would run, one system call a line, as strace(1) would print it; secrets are
// shown as ***. Nothing is started. Descriptors that the run would open have the numbers that they would have now.
func (c *Command) Explain() (string, error) {
	if c.firstFail != nil {
		return "", c.firstFail
	}
	return c.explain(c.streams)
}
