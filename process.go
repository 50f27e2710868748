package spawn

import (
	"context"
	"errors"
	"io"
	"os"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// Process is a program that [Command.Start] has started. Its methods may be called from any goroutine. The library waits
// for the child by itself: a Process that is forgotten leaves no zombie.
type Process struct {
	line     commandLine
	pid      int
	killMode KillMode
	grace    time.Duration
	pipes    [3]*pipeEnd
	pty      *terminal     // nil without
	done     chan struct{} // closed when all below is final; nil where nobody can wait for it
	ended    chan struct{} // closed by end; nil where nobody calls it
	gate     *gate         // nil without a handshake
	dry      *dryRun       // nil for a child
	daemon   bool
	observed *observation

	mu       sync.Mutex
	handle   handle      // to signal the child
	tree     *tree       // to signal its descendants; nil unless KillTree, and when all has ended
	starting stillInside // nil once it is known to have exec'ed
	killed   bool        // ended before it had exec'ed, without a grace period
	dead     bool        // waited for: nobody may signal it any more
	reason   error       // of the first call of end
	ending   error       // the same, if the child was still alive
	kill     *time.Timer // sends SIGKILL after the grace period

	status Status
	lost   error // why there is no status
	err    error // what Wait returns
}

// stillInside tells whether a child has left this process's memory, by exec or by its end.
type stillInside interface{ LeftMemory() bool }

// errAborted is the reason for the end of a process by Abort.
var errAborted = errors.New("aborted")

// PID returns the process id of the child, or of the daemon after [Command.Daemonize].
func (p *Process) PID() int { return p.pid }

// String returns the program and its arguments as [Command.String] does, secrets as *** and without the environment, the pid, and what has become of it:
// "/bin/cat (pid 4711): running", or what [Process.Status] says when [Process.Done] is closed. After [Command.RequireHandshake] it
// may also be "waiting for HandshakeNotify" or "never ran".
func (p *Process) String() string {
	return p.line.String() + " (pid " + strconv.Itoa(p.pid) + "): " + p.state()
}

func (p *Process) state() string {
	var start *StartError
	switch {
	case isClosed(p.done) && errors.As(p.err, &start):
		return "never ran"
	case isClosed(p.done):
		return p.status.String()
	case p.gate != nil && !p.gate.open():
		return "waiting for HandshakeNotify"
	}
	return "running"
}

// Done returns a channel that is closed when the program has ended and its output, as far as the library handles it, is
// complete.
func (p *Process) Done() <-chan struct{} { return p.done }

// Wait waits for the end of the program and of the transfers to and from it. It returns nil when the program exited with
// code 0, otherwise an [*ExitError], which wraps the error of a reader or writer that failed. It can be called any number of
// times, from any number of goroutines, before and after the end. What the ends of [Process.Stdout] and
// [Process.Stderr] still hold can be read afterwards. (virCommandWait)
//
// How a daemon ends ([Command.Daemonize]) only its parent is told: where this process is not, Wait returns nil, and the exit code in [Process.Status]
// is -1.
//
// After [Command.RequireHandshake] it ends a child that was not notified; see [Process.Done] for a wait that does not. When
// the program never ran, the error is the [*StartError] of [Process.HandshakeWait] or [Process.HandshakeNotify].
func (p *Process) Wait() error {
	if p.gate != nil && !p.gate.open() {
		_ = p.end(errUnnotified) // there is none when it has ended already
	}
	<-p.done
	return p.err
}

// cutShort returns the error of a process that has ended, where this happened to its output.
func (p *Process) cutShort(cause error) error {
	e := &ExitError{Command: p.line.String(), Status: p.status, Err: cause}
	var exit *ExitError
	if errors.As(p.err, &exit) {
		e.Stderr = exit.Stderr
	}
	return e
}

// Status returns how the program ended. As long as [Process.Done] is open its exit code is -1, and its text "exit status unknown".
func (p *Process) Status() Status {
	select {
	case <-p.done:
		return p.status
	default:
		return Status{ExitCode: -1}
	}
}

// Signal sends a signal to the program, and to no other process that may have its pid by now (pidfd_send_signal(2)).
// When the program has ended the error is [os.ErrProcessDone].
func (p *Process) Signal(sig os.Signal) error {
	n, err := signalNumber(sig)
	if err != nil {
		return &badCall{"Signal", err}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dead {
		return os.ErrProcessDone
	}
	if p.dry != nil {
		return p.dry.deliver(syscall.Signal(n))
	}
	return p.handle.signal(syscall.Signal(n))
}

// Abort ends the program as the end of its context would: SIGTERM, the grace period, SIGKILL, to what
// [Command.SetKillMode] says. It returns when the program has ended, nil also when it had ended before. [Process.Wait]
// then tells how it ended. (virCommandAbort)
func (p *Process) Abort() error {
	err := p.end(errAborted)
	if err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	<-p.done
	return nil
}

// watch ends the process when ctx ends. The function that it returns stops that; it is nil for a context that never ends.
func (p *Process) watch(ctx context.Context) (stop func() bool) {
	if ctx.Done() == nil {
		return nil
	}
	if p.ended == nil {
		p.ended = make(chan struct{})
	}
	return context.AfterFunc(ctx, func() { _ = p.end(contextError(ctx)) })
}

// end ends the process for this reason, as its options say, and lets go of pipes that others keep open.
func (p *Process) end(reason error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.daemon && p.starting == nil && !errors.Is(reason, errAborted) {
		return nil // the context was that of the start
	}
	if p.reason == nil {
		p.reason = reason
		close(p.ended)
	}
	if p.ending != nil {
		return nil
	}
	if p.dead {
		if p.killLeftBehind() { // what holds up the caller
			p.ending = reason
		}
		return nil
	}
	p.ending = reason
	p.killed = p.starting != nil && !p.starting.LeftMemory()
	if p.killed || p.grace == 0 {
		return p.signalAll(syscall.SIGKILL)
	}
	p.kill = time.AfterFunc(p.grace, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if !p.dead {
			_ = p.signalAll(syscall.SIGKILL) // there is nothing harder to try
		}
	})
	err := p.signalAll(syscall.SIGTERM)
	_ = p.signalAll(sigContinue) // a stopped process would not see it
	return err
}

// conclude says how it all ended, once the status is known: err is what went wrong with a transfer, and cut that an output was given up on
// because the context had ended.
func (p *Process) conclude(tail []byte, err error, cut bool) {
	p.mu.Lock()
	if p.ending != nil && !errors.Is(p.ending, errAborted) {
		err = p.ending
	} else if cut && !errors.Is(p.reason, errAborted) {
		err = p.reason
	}
	p.mu.Unlock()
	if err != nil || p.status.isKnown() && !p.status.Success() {
		p.err = &ExitError{Command: p.line.String(), Status: p.status, Stderr: tail, Err: err}
	}
}

// Stdin returns this process's end of the pipe that [Command.PipeStdin] asked for, nil without. The caller closes it, for the
// program to see the end of the file.
func (p *Process) Stdin() io.WriteCloser {
	if p.pipes[stdin] == nil {
		return nil
	}
	if p.pipes[stdin].await != nil {
		return onlyWriter{p.pipes[stdin]}
	}
	return p.pipes[stdin]
}

// Stdout returns this process's end of the pipe that [Command.PipeStdout] asked for, nil without. The caller reads it to the
// end and closes it. Once the program has ended and its context too, it is closed after a moment, lest a
// grandchild that keeps the other end open blocks a Read forever.
func (p *Process) Stdout() io.ReadCloser { return p.output(stdout) }

// Stderr is to [Command.PipeStderr] as [Process.Stdout] is to [Command.PipeStdout].
func (p *Process) Stderr() io.ReadCloser { return p.output(stderr) }

func (p *Process) output(n int) io.ReadCloser {
	if p.pipes[n] == nil {
		return nil
	}
	if p.pipes[n].await != nil {
		return onlyReader{p.pipes[n]}
	}
	return p.pipes[n]
}

// pipeEnd is a pipe's end in the caller's hands.
type pipeEnd struct {
	pipeFile
	stop func() bool // ends the watch of the context for this pipe; nil without
}

// Read reads, and ends the watch at the end of the file.
func (e *pipeEnd) Read(b []byte) (int, error) {
	n, err := e.pipeFile.Read(b)
	if err != nil {
		e.unwatch()
	}
	return n, err
}

// Close closes the end.
func (e *pipeEnd) Close() error {
	e.unwatch()
	return e.File.Close()
}

func (e *pipeEnd) unwatch() {
	if e.stop != nil {
		e.stop()
	}
}

// isClosed reports whether c is closed; nil is not.
func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
