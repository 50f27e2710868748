package spawn

import (
	"errors"
	"io"
	"os"
	"strconv"
	"syscall"

	"github.com/virspawn/spawn/internal/command"
	"github.com/virspawn/spawn/internal/process"
)

// Process is a program that [Command.Start] has started. Its methods may be
// called from any goroutine.
//
// The library waits for the child by itself: a Process that is forgotten leaves
// no zombie.
type Process struct {
	run      *process.Process
	line     command.Line
	observed *observation

	// Final once Done is closed.
	status Status
	err    error // what Wait returns
}

// watching is a Process that is told what becomes of its program.
type watching Process

func (w *watching) Started(path string, pid int) { w.observed.start(path, pid) }

func (w *watching) Failed(err error) {
	w.status, w.err = Status{ExitCode: -1}, public(err)
	w.observed.fail(w.err)
}

func (w *watching) Over(o *process.Outcome) {
	w.status, w.err = Status(o.Status), failure(w.line, o)
	w.observed.exit(w.status, w.err)
}

// PID returns the process id of the child, or of the daemon after
// [Command.Daemonize].
func (p *Process) PID() int { return p.run.PID }

// String returns the program and its arguments, the pid, and what has become of
// it, such as "/bin/cat (pid 4711): running". Secrets are shown as ***, and the
// environment is left out.
//
// When [Process.Done] is closed, it has what [Process.Status] says in place
// of "running". It is one line that a terminal can be shown, with at most
// 4096 bytes of the program and its arguments. After [Command.RequireHandshake]
// it may also be "waiting for HandshakeNotify" or "never ran".
func (p *Process) String() string {
	return command.OneLine(p.line.String(), command.MaxShown) + " (pid " + strconv.Itoa(p.run.PID) + "): " + p.state()
}

func (p *Process) state() string {
	var start *StartError
	switch {
	case process.IsClosed(p.run.Done) && errors.As(p.err, &start):
		return "never ran"
	case process.IsClosed(p.run.Done) && p.run.RunsOn() == nil:
		return p.status.String()
	case p.run.AtGate():
		return "waiting for HandshakeNotify"
	}
	return "running"
}

// Done returns a channel that is closed when the program has ended and its
// output, as far as the library handles it, is complete. It is closed too when
// a program that was to end, and cannot be ended, is given up; see
// [Command.Run].
func (p *Process) Done() <-chan struct{} { return p.run.Done }

// Wait waits for the end of the program and of the transfers to and from it. It
// returns nil if the program exited with code 0, and otherwise an [*ExitError].
// If a reader or writer failed, the ExitError wraps that error.
//
// It can be called any number of times, from any number of goroutines, before
// and after the end. What the ends of [Process.Stdout] and [Process.Stderr]
// still hold can be read afterwards.
//
// After [Command.Daemonize] only the daemon's parent is told how it ended. If
// your process is not that parent, Wait returns nil, and the exit code in
// [Process.Status] is -1.
//
// If the program was given up, the error says that it runs on, and
// [Process.Status] has exit code -1. [Process.Signal] still reaches it.
//
// After [Command.RequireHandshake] Wait ends a child that was not notified; to
// wait without that, receive from [Process.Done]. If the program never ran, the
// error is the [*StartError] of [Process.HandshakeWait] or
// [Process.HandshakeNotify].
//
// Like virCommandWait.
func (p *Process) Wait() error {
	if p.run.AtGate() {
		_ = p.run.EndUnnotified() // there is none when it has ended already
	}
	<-p.run.Done
	return p.err
}

// cutShort returns the error of a process that has ended, if this happened to
// its output.
func (p *Process) cutShort(cause error) error {
	e := &ExitError{Command: p.line.String(), Status: p.status, Err: cause}
	var exit *ExitError
	if errors.As(p.err, &exit) {
		e.Stderr = exit.Stderr
	}
	return e
}

// Status returns how the program ended. As long as [Process.Done] is open, its
// exit code is -1 and its text "exit status unknown".
func (p *Process) Status() Status {
	if process.IsClosed(p.run.Done) {
		return p.status
	}
	return Status{ExitCode: -1}
}

// Signal sends a signal to the program, and never to another process that has
// its pid by now.
//
// If the program has ended, the error is [os.ErrProcessDone]. If the parent may
// not signal it, the error is an [*os.SyscallError] with EPERM. What is not a
// signal is a [*CallError].
//
// See pidfd_send_signal(2).
func (p *Process) Signal(sig os.Signal) error {
	n, err := signalNumber(sig)
	if err != nil {
		return &CallError{"Signal", err}
	}
	return p.run.Signal(syscall.Signal(n))
}

// Abort ends the program as the end of its context would. It sends SIGTERM, and
// SIGKILL after the grace period, to what [Command.SetKillMode] says.
//
// It returns when the program has ended, and returns nil also if it had ended
// before. [Process.Wait] then says how it ended. If the program cannot be
// signalled, Abort returns that error at once, and [Process.Done] is closed
// after the grace period. If SIGKILL has not ended it after two seconds, Abort
// returns an error that says so.
//
// Like virCommandAbort.
func (p *Process) Abort() error {
	err := p.run.Abort()
	if err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	<-p.run.Done
	return p.run.RunsOn()
}

// Stdin returns the parent's end of the pipe of [Command.PipeStdin], or nil
// without one.
//
// The caller closes it; only then does the program see the end of the file.
func (p *Process) Stdin() io.WriteCloser {
	if e := p.run.Pipes[command.Stdin]; e != nil {
		return e.Writer()
	}
	return nil
}

// Stdout returns the parent's end of the pipe of [Command.PipeStdout], or nil
// without one. The caller reads it to the end and closes it.
//
// When both the program and its context have ended, it is closed after a
// moment. Otherwise a grandchild that keeps the other end open would block a
// Read forever.
func (p *Process) Stdout() io.ReadCloser { return p.output(command.Stdout) }

// Stderr is to [Command.PipeStderr] as [Process.Stdout] is to
// [Command.PipeStdout].
func (p *Process) Stderr() io.ReadCloser { return p.output(command.Stderr) }

func (p *Process) output(n int) io.ReadCloser {
	if e := p.run.Pipes[n]; e != nil {
		return e.Reader()
	}
	return nil
}

// PTY returns the parent's end of the terminal of [Command.SetPTY], or nil
// without one. What is written to it is what the program's user types. What is
// read from it is the echo and what the program writes.
//
// A program whose output nobody reads stops after some 10 KB. A Write blocks
// when the program has left as much unread. Once the program has ended, a Write
// fails with EIO.
//
// A Read returns [io.EOF] when nobody has the terminal open any more and all
// has been read. (The kernel says EIO for that.) Usually that is when the
// program has ended; then its foreground process group gets SIGHUP. What stays
// in the background keeps the terminal open. Whatever that does, [Process.Done]
// tells of the program's end.
//
// The caller closes it, which hangs up: the program, if it still runs, gets
// SIGHUP and SIGCONT, and others lose the terminal. The same happens when the
// parent ends. When both the program and its context have ended, it is closed
// after a moment, as [Process.Stdout] is.
//
// It can be read, written and closed from several goroutines at once. The value
// is also a [syscall.Conn], for ioctls that turn off the echo for example.
//
// See pty(7).
func (p *Process) PTY() io.ReadWriteCloser {
	if p.run.PTY == nil {
		return nil
	}
	return p.run.PTY
}

// Resize sets the size of the terminal of [Command.SetPTY], in characters. If
// that changes it, the terminal's foreground process group gets SIGWINCH.
//
// After [Process.PTY] was closed, the error is an [*os.PathError] with
// [os.ErrClosed]. For a command without SetPTY it is a [*CallError]. It is not
// an error if the program has ended.
//
// See TIOCSWINSZ in ioctl_tty(2).
func (p *Process) Resize(rows, cols uint16) error {
	if p.run.PTY == nil {
		return &CallError{"Resize", errors.New("the command has no SetPTY")}
	}
	return p.run.PTY.Resize(rows, cols)
}
