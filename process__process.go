package spawn

import (
	"context"
	"errors"
	"os"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// running is a program that runs, in a child or in a dry run: who ends it and
// when, and how it ended. Whatever it does to the program it does by its target.
type running struct {
	pid    int
	grace  time.Duration
	daemon bool
	pipes  [3]*pipeEnd
	pty    *terminal     // nil without
	done   chan struct{} // closed when all is final; nil where nobody can wait for it
	ended  chan struct{} // closed by end; nil where nobody calls it
	gate   *gate         // nil without a handshake
	target target

	mu       sync.Mutex  // guards what follows, and what a target says is under it
	starting stillInside // nil once it is known to have exec'ed
	killed   bool        // ended before it had exec'ed, without a grace period
	dead     bool        // waited for: nobody may signal it any more
	reason   error       // of the first call of end
	ending   error       // the same, if the child was still alive
	kill     *time.Timer // sends SIGKILL after the grace period

	outcome outcome // final once done is closed
}

// target is what a running process does to its program. All methods are called
// with the lock of the process held, and only the last once the program was
// waited for.
type target interface {
	// signal signals the program.
	signal(syscall.Signal) error
	// signalAll signals what the kill mode says.
	signalAll(syscall.Signal) error
	// goOn lets what the kill mode says go on, if it is stopped.
	goOn()
	// killLeftBehind kills what a program that has ended has left in its tree,
	// and reports whether there was anything.
	killLeftBehind() (killed bool)
}

// watcher is told what becomes of a command. Its methods are called one after
// the other: started and then over, or failed. In a dry run over may follow on
// failed.
type watcher interface {
	// started is told when the program runs: execve can no longer fail.
	started(path string, pid int)
	// failed is told when it never will, before a caller at the gate is.
	failed(err error)
	// over is told when all is final, before done is closed.
	over(o *outcome)
}

// outcome is how a program ended, with what else there is to say of it.
type outcome struct {
	status status
	tail   []byte // of standard error, where it is kept
	err    error  // what else happened: to the context, to a transfer, to the status
	never  error  // why it never ran
}

// status is how a process ended and what it used. The face shows it as a type of
// its own with the same fields.
type status struct {
	ExitCode             int // -1: ended by a signal, or not known
	Signal               syscall.Signal
	CoreDumped           bool
	UserTime, SystemTime time.Duration
	MaxRSS               int64
}

// unknown is the status of a process of which nothing is known.
var unknown = status{ExitCode: -1}

// success reports whether the process exited with code 0.
func (s status) success() bool { return s.ExitCode == 0 && s.Signal == 0 }

// isKnown reports whether there is a status: of a daemon only its parent gets
// it.
func (s status) isKnown() bool { return s.ExitCode >= 0 || s.Signal != 0 }

// String returns "exit status 1" or "signal: killed (core dumped)", as
// os.ProcessState does.
func (s status) String() string {
	switch {
	case s.Signal != 0 && s.CoreDumped:
		return "signal: " + s.Signal.String() + " (core dumped)"
	case s.Signal != 0:
		return "signal: " + s.Signal.String()
	case s.ExitCode < 0:
		return "exit status unknown"
	}
	return "exit status " + strconv.Itoa(s.ExitCode)
}

// stillInside tells whether a child has left the parent's memory, by exec or by
// its end.
type stillInside interface{ LeftMemory() bool }

// errAborted is the reason for the end of a process by Abort.
var errAborted = errors.New("aborted")

// signal signals the program, and nobody who may have its pid by now.
func (p *running) signal(sig syscall.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dead {
		return os.ErrProcessDone
	}
	return p.target.signal(sig)
}

// atGate reports whether the program waits for the handshake's notification.
func (p *running) atGate() bool { return p.gate != nil && !p.gate.open() }

// abort ends the program as the end of its context would.
func (p *running) abort() error { return p.end(errAborted) }

// endUnnotified ends a program for which nobody will send the handshake's
// notification.
func (p *running) endUnnotified() error { return p.end(errUnnotified) }

// watch ends the process when ctx ends. The function that it returns stops that;
// it is nil for a context that never ends.
func (p *running) watch(ctx context.Context) (stop func() bool) {
	if ctx.Done() == nil {
		return nil
	}
	if p.ended == nil {
		p.ended = make(chan struct{})
	}
	return context.AfterFunc(ctx, func() { _ = p.end(contextError(ctx)) })
}

// end ends the process for this reason, as its options say, and lets go of pipes
// that others keep open.
func (p *running) end(reason error) error {
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
		if p.target.killLeftBehind() { // what holds up the caller
			p.ending = reason
		}
		return nil
	}
	p.ending = reason
	p.killed = p.starting != nil && !p.starting.LeftMemory()
	if p.killed || p.grace == 0 {
		return p.target.signalAll(syscall.SIGKILL)
	}
	p.kill = time.AfterFunc(p.grace, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if !p.dead {
			_ = p.target.signalAll(syscall.SIGKILL) // there is nothing harder to try
		}
	})
	err := p.target.signalAll(syscall.SIGTERM)
	p.target.goOn() // a stopped process would not see it
	return err
}

// buried says that the program has been waited for: nobody may signal it any
// more.
//
// Preconditions: p.mu is held.
func (p *running) buried() {
	p.dead = true
	if p.kill != nil {
		p.kill.Stop()
	}
}

// conclude says how it all ended, once the status is known: err is what went
// wrong with a transfer, and cut that an output was given up on because the
// context had ended.
func (p *running) conclude(tail []byte, err error, cut bool) {
	p.mu.Lock()
	if p.ending != nil && !errors.Is(p.ending, errAborted) {
		err = p.ending
	} else if cut && !errors.Is(p.reason, errAborted) {
		err = p.reason
	}
	p.mu.Unlock()
	p.outcome.tail, p.outcome.err = tail, err
}

// neverRan says why the program never runs.
func (p *running) neverRan(err error) { p.outcome = outcome{status: unknown, never: err} }

// isClosed reports whether c is closed; nil is not.
func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
