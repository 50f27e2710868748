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
	"fmt"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
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
	// Closed when all is final; nil where nobody can wait for it. The program
	// has ended then, or was given up.
	Done   chan struct{}
	Ended  chan struct{} // closed by end; nil where nobody calls it
	Gate   *Gate         // nil without a handshake
	Target Target

	// Mu guards the fields down to refusal, and those of a target that say so.
	Mu       sync.Mutex
	Starting Inside      // nil once it is known to have exec'ed
	Killed   bool        // ended before it had exec'ed, without a grace period
	Dead     bool        // waited for: nobody may signal it any more
	final    bool        // the outcome is
	left     bool        // before the program had ended
	givenUp  atomic.Bool // not guarded
	reason   error       // of the first call of end
	Ending   error       // the same, if the child was still alive
	timer    *time.Timer // sends SIGKILL after the grace period, then gives up
	refusal  error       // why the last signal to end it was not sent

	Outcome Outcome // final once Done is closed
}

// killWait is how long a program that was sent SIGKILL is waited for. Until it
// has ended, the kernel frees its memory. Only tests change it.
var killWait = 2 * time.Second

// Target is what a running process does to its program. All methods are
// called with the process's Mu held, and only KillLeftBehind once the program
// was waited for.
type Target interface {
	// Signal signals the program.
	Signal(syscall.Signal) error
	// SignalAll signals what the kill mode says.
	SignalAll(syscall.Signal) error
	// GoOn lets what the kill mode says go on, if it is stopped.
	GoOn()
	// GiveUp wakes those who wait for the program: see Process.GivenUp.
	GiveUp()
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
		return p.sendKill()
	}
	p.timer = time.AfterFunc(p.Grace, func() {
		p.Mu.Lock()
		defer p.Mu.Unlock()
		if !p.Dead {
			_ = p.sendKill()
		}
	})
	err := p.send(syscall.SIGTERM)
	p.Target.GoOn() // a stopped process would not see it
	return err
}

// sendKill sends SIGKILL. There is nothing harder to try: where that does not
// end the program it is given up.
//
// Preconditions: p.Mu is held and the program was not waited for.
func (p *Process) sendKill() error {
	err := p.send(syscall.SIGKILL)
	wait := killWait
	if p.refusal != nil {
		wait = 0 // it has had the grace period to end by itself
	}
	p.timer = time.AfterFunc(wait, func() {
		p.Mu.Lock()
		defer p.Mu.Unlock()
		if !p.Dead {
			p.givenUp.Store(true)
			p.Target.GiveUp()
		}
	})
	return err
}

// EndAgain ends a program that has taken the place of the one that was to end,
// if there was one. That may not be there any more.
//
// Preconditions: p.Mu is held.
func (p *Process) EndAgain() {
	switch {
	case p.Ending == nil:
	case p.Killed || p.Grace == 0:
		_ = p.Target.SignalAll(syscall.SIGKILL)
	default:
		_ = p.Target.SignalAll(syscall.SIGTERM)
		p.Target.GoOn()
	}
}

// send sends a signal that is to end the program.
//
// Preconditions: p.Mu is held and the program was not waited for.
func (p *Process) send(sig syscall.Signal) error {
	err := p.Target.SignalAll(sig)
	p.refusal = nil
	if err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.refusal = err
	}
	return err
}

// GivenUp reports whether the program was to end, and has not, whatever was
// tried: it may be another user's, frozen, or in a system call that no signal
// interrupts. Nobody who has called waits for it any longer. Once that is final
// it reports false: what waits in the background has the time.
func (p *Process) GivenUp() bool { return p.givenUp.Load() }

// Leave says that nobody waits any longer for the end of a child that has been
// given up before its program ran. It returns why.
func (p *Process) Leave() error {
	p.Mu.Lock()
	defer p.Mu.Unlock()
	return p.leave()
}

// leave makes it final that the program has been given up. It returns why.
//
// Preconditions: p.Mu is held.
func (p *Process) leave() error {
	p.final, p.left = true, true
	p.givenUp.Store(false) // what waits from now on has the time
	p.Outcome.Status = Unknown
	return fmt.Errorf("%w; it runs on: %w", p.Ending, p.survival())
}

// RunsOn returns why a program that was to end runs on; nil if it had ended
// when its outcome was final.
func (p *Process) RunsOn() error {
	p.Mu.Lock()
	defer p.Mu.Unlock()
	if !p.left {
		return nil
	}
	return p.survival()
}

// survival is why a program has not ended.
//
// Preconditions: p.Mu is held.
func (p *Process) survival() error {
	if p.refusal != nil {
		return p.refusal
	}
	return errSurvives
}

// errSurvives is why a program runs on that was sent SIGKILL.
var errSurvives = errors.New("SIGKILL has not ended it")

// Buried says that the program has been waited for, and how it has ended:
// nobody may signal it any more.
//
// Preconditions: p.Mu is held.
func (p *Process) Buried(s Status) {
	p.Dead = true
	if p.timer != nil {
		p.timer.Stop()
	}
	if !p.final {
		p.Outcome.Status = s
	}
}

// Conclude says how it all ended, once the program was waited for or has been
// given up. The error err is what went wrong with a transfer. If cut is set,
// an output was given up on because the context had ended. It reports whether
// the program has ended.
func (p *Process) Conclude(tail []byte, err error, cut bool) (ended bool) {
	p.Mu.Lock()
	defer p.Mu.Unlock()
	o := &p.Outcome
	switch {
	case !p.Dead:
		err = p.leave()
	case p.Ending != nil && !errors.Is(p.Ending, errAborted):
		err = p.Ending
		if p.refusal != nil { // it has ended by itself
			err = fmt.Errorf("%w; %w", err, p.refusal)
		}
	case cut && !errors.Is(p.reason, errAborted):
		err = p.reason
	}
	o.Tail, o.Err = tail, err
	p.final = true
	return p.Dead
}

// NeverRan says why the program never runs.
func (p *Process) NeverRan(err error) {
	p.Outcome = Outcome{Status: Unknown, Never: err}
}

// IsClosed reports whether c is closed; nil is not.
func IsClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
