// Package process is a program that runs, in a child or in a dry run: who ends
// it and when, the gate of the handshake, the ends of pipes in the caller's
// hands, and how it ended. It makes no child and signals none: a target does
// that, which is run's or dry's.
//
// Package spawn, run, dry and the tests import it.
package process

import (
	"context"
	"errors"
	"os"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// Process is a program that runs, in a child or in a dry run: who ends it
// and when, and how it ended. Whatever it does to the program it does by
// its Target.
type Process struct {
	PID    int
	Grace  time.Duration
	Daemon bool
	Pipes  [3]*End
	PTY    *Terminal // nil without
	// Closed when all is final; nil where nobody can wait for it.
	Done   chan struct{}
	Ended  chan struct{} // closed by end; nil where nobody calls it
	Gate   *Gate         // nil without a handshake
	Target Target

	// Mu guards the fields down to kill, and those of a target that say so.
	Mu       sync.Mutex
	Starting Inside      // nil once it is known to have exec'ed
	Killed   bool        // ended before it had exec'ed, without a grace period
	Dead     bool        // waited for: nobody may signal it any more
	reason   error       // of the first call of end
	Ending   error       // the same, if the child was still alive
	kill     *time.Timer // sends SIGKILL after the grace period

	Outcome Outcome // final once Done is closed
}

// Target is what a running process does to its program. All methods are
// called with the process's Mu held, and only the last once the program was
// waited for.
type Target interface {
	// Signal signals the program.
	Signal(syscall.Signal) error
	// SignalAll signals what the kill mode says.
	SignalAll(syscall.Signal) error
	// GoOn lets what the kill mode says go on, if it is stopped.
	GoOn()
	// KillLeftBehind kills what a program that has ended has left in its tree,
	// and reports whether there was anything.
	KillLeftBehind() (killed bool)
}

// Watcher is told what becomes of a command. Its methods are called one after
// the other: Started and then Over, or Failed. In a dry run Over may follow
// on Failed.
type Watcher interface {
	// Started is told when the program runs: execve can no longer fail.
	Started(path string, pid int)
	// Failed is told when it never will, before a caller at the gate is.
	Failed(err error)
	// Over is told when all is final, before Done is closed.
	Over(o *Outcome)
}

// Outcome is how a program ended, with what else there is to say of it.
type Outcome struct {
	Status Status
	Tail   []byte // of standard error, where it is kept
	// Err is what else happened: to the context, to a transfer, to the status.
	Err   error
	Never error // why it never ran
}

// Status is how a process ended and what it used. The face shows it as a type
// of its own with the same fields.
type Status struct {
	ExitCode             int // -1: ended by a signal, or not known
	Signal               syscall.Signal
	CoreDumped           bool
	UserTime, SystemTime time.Duration
	MaxRSS               int64
}

// Unknown is the status of a process of which nothing is known.
var Unknown = Status{ExitCode: -1}

// Success reports whether the process exited with code 0.
func (s Status) Success() bool { return s.ExitCode == 0 && s.Signal == 0 }

// IsKnown reports whether there is a status: of a daemon only its parent
// gets it.
func (s Status) IsKnown() bool { return s.ExitCode >= 0 || s.Signal != 0 }

// String returns "exit status 1" or "signal: killed (core dumped)", as
// os.ProcessState does.
func (s Status) String() string {
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

// Inside tells whether a child has left the parent's memory, by exec or by
// its end.
type Inside interface{ LeftMemory() bool }

// errAborted is the reason for the end of a process by Abort.
var errAborted = errors.New("aborted")

// Signal signals the program, and nobody who may have its pid by now.
func (p *Process) Signal(sig syscall.Signal) error {
	p.Mu.Lock()
	defer p.Mu.Unlock()
	if p.Dead {
		return os.ErrProcessDone
	}
	return p.Target.Signal(sig)
}

// AtGate reports whether the program waits for the handshake's notification.
func (p *Process) AtGate() bool { return p.Gate != nil && !p.Gate.Open() }

// Abort ends the program as the end of its context would.
func (p *Process) Abort() error { return p.end(errAborted) }

// EndUnnotified ends a program for which nobody will send the handshake's
// notification.
func (p *Process) EndUnnotified() error { return p.end(errUnnotified) }

// Watch ends the process when ctx ends. The function that it returns stops
// that; it is nil for a context that never ends.
func (p *Process) Watch(ctx context.Context) (stop func() bool) {
	if ctx.Done() == nil {
		return nil
	}
	if p.Ended == nil {
		p.Ended = make(chan struct{})
	}
	return context.AfterFunc(ctx, func() { _ = p.end(ContextError(ctx)) })
}

// end ends the process for this reason, as its options say, and lets go of
// pipes that others keep open.
func (p *Process) end(reason error) error {
	p.Mu.Lock()
	defer p.Mu.Unlock()
	if p.Daemon && p.Starting == nil && !errors.Is(reason, errAborted) {
		return nil // the context was that of the start
	}
	if p.reason == nil {
		p.reason = reason
		close(p.Ended)
	}
	if p.Ending != nil {
		return nil
	}
	if p.Dead {
		if p.Target.KillLeftBehind() { // what holds up the caller
			p.Ending = reason
		}
		return nil
	}
	p.Ending = reason
	p.Killed = p.Starting != nil && !p.Starting.LeftMemory()
	if p.Killed || p.Grace == 0 {
		return p.Target.SignalAll(syscall.SIGKILL)
	}
	p.kill = time.AfterFunc(p.Grace, func() {
		p.Mu.Lock()
		defer p.Mu.Unlock()
		if !p.Dead {
			// There is nothing harder to try.
			_ = p.Target.SignalAll(syscall.SIGKILL)
		}
	})
	err := p.Target.SignalAll(syscall.SIGTERM)
	p.Target.GoOn() // a stopped process would not see it
	return err
}

// Buried says that the program has been waited for: nobody may signal it
// any more.
// Preconditions: p.Mu is held.
func (p *Process) Buried() {
	p.Dead = true
	if p.kill != nil {
		p.kill.Stop()
	}
}

// Conclude says how it all ended, once the status is known. The error err is
// what went wrong with a transfer. If cut is set, an output was given up on
// because the context had ended.
func (p *Process) Conclude(tail []byte, err error, cut bool) {
	p.Mu.Lock()
	if p.Ending != nil && !errors.Is(p.Ending, errAborted) {
		err = p.Ending
	} else if cut && !errors.Is(p.reason, errAborted) {
		err = p.reason
	}
	p.Mu.Unlock()
	p.Outcome.Tail, p.Outcome.Err = tail, err
}

// NeverRan says why the program never runs.
func (p *Process) NeverRan(err error) { p.Outcome = Outcome{Status: Unknown, Never: err} }

// IsClosed reports whether c is closed; nil is not.
func IsClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
