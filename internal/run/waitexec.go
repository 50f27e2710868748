//go:build linux

package run

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/virspawn/spawn/internal/command"
	"github.com/virspawn/spawn/internal/plan"
	"github.com/virspawn/spawn/internal/process"
	"github.com/virspawn/spawn/internal/transfer"
	"golang.org/x/sys/unix"
)

// startWaits bounds the threads that wait for children to exec, which takes
// a moment.
var startWaits = make(chan struct{}, maxStarting)

// waitExec waits until the child has exec'ed. If it could not, it waits for its
// end and returns the reason.
func (r *run) waitExec() error {
	if !r.waitLeft() {
		return r.leave()
	}
	switch {
	case r.Helper != nil: // it may take its time
		r.parkStatus(nothing)
	case r.Mode == plan.Piped:
		r.waitForStart(func(timeout time.Duration) bool { return r.listenFor(timeout, r.handle.fd, nothing) })
	}
	if err := r.execed(); err != nil {
		return err
	}
	r.Command.CloseParents()
	return nil
}

// leave leaves a child that has been given up before it could exec to
// a goroutine, and returns the error of the start.
func (r *run) leave() error {
	err := &command.StartError{Op: "start", Path: r.Path, Err: r.p.Leave()}
	r.bury(false)
	return err
}

// execed is called when the child has exec'ed or could not, or was given up. If
// it could not, execed waits for its end and returns the reason.
func (r *run) execed() error {
	r.closeStatus()
	if r.StatusF.File != nil {
		r.StatusF.Close()
	}
	r.p.Mu.Lock()
	r.stopSign()
	killed, ending, mute := r.p.Killed, r.p.Ending, r.mute
	r.p.Mu.Unlock()
	var silent *silence
	if r.Helper != nil && !killed && !mute {
		silent = r.listen()
	}
	err := r.takeReport()
	switch { // whatever it did until then
	case killed:
		err = &command.StartError{Op: "start", Path: r.Path, Err: ending}
	case mute:
		err = &command.StartError{Op: "helper", Path: r.Path, Err: fmt.Errorf("it has given no sign of life within %v", maxMute)}
	}
	atGate := err == nil && r.p.Gate != nil && !r.p.Gate.Open()
	if err != nil || atGate || silent != nil {
		if silent != nil {
			// A hook may have closed the pipe and still run.
			_ = r.handle.signal(unix.SIGKILL)
		}
		left := r.giveUp()
		switch {
		case left != nil:
			return r.alsoLeft(err, killed, left)
		case err != nil:
		case atGate && process.IsClosed(r.p.Gate.Ready) || silent == nil:
			err = process.EndedAtGate(r.Path, r.p.Outcome.Status)
		default:
			err = &command.StartError{Op: silent.step, Path: r.Path, Err: fmt.Errorf("%s: %s", silent.text, r.p.Outcome.Status)}
		}
		return err
	}
	r.EndPidFile(true)
	for _, c := range r.Copiers {
		go c.Run()
	}
	return nil
}

// alsoLeft is the error of a start that has failed with err, and whose child
// was given up too.
func (r *run) alsoLeft(err error, killed bool, left error) error {
	e := &command.StartError{Op: "start", Path: r.Path, Err: left}
	if failed := (*command.StartError)(nil); !killed && errors.As(err, &failed) {
		e.Op, e.Err = failed.Op, fmt.Errorf("%w; %w", failed.Err, left)
	}
	return e
}

// waitLeft waits until the child has left the parent's memory, if it was ever
// there, and then reports true, or has been given up. It has descriptors of its
// own then.
func (r *run) waitLeft() bool {
	if !r.CloneOptions.OwnMemory && !r.waitForStart(r.child.Wait) {
		return false
	}
	r.CloseChildEnds()
	return true
}

// waitForStart calls wait, which blocks the thread for no longer than its
// argument, until it returns true or the child has been given up. It returns
// what wait has returned last.
func (r *run) waitForStart(wait func(timeout time.Duration) bool) (done bool) {
	for done = briefly(wait); !done && !r.p.GivenUp(); done = wait(0) {
		// This may be a file system that does not answer, for example.
		time.Sleep(maxBlockedTime / 10)
	}
	return done
}

// briefly calls wait with the time for which it may block a thread, when there
// are few others that do.
func briefly(wait func(timeout time.Duration) bool) bool {
	startWaits <- struct{}{}
	defer func() { <-startWaits }()
	return wait(maxBlockedTime)
}

// giveUp waits for a child that did not exec, and gives everything back. If
// that child has been given up, it returns why.
func (r *run) giveUp() (left error) {
	// It is ending.
	ended := r.p.Dead || r.waitForStart(func(timeout time.Duration) bool { return waitReadable(r.handle.fd, timeout) && r.reap() })
	if !ended {
		left = r.p.Leave()
		r.bury(false)
		return left
	}
	r.giveBack(true)
	return nil
}

// handOver gives the process what its user sees of it.
func (r *run) handOver() {
	r.p.Done = make(chan struct{})
	if r.p.Ended == nil {
		r.p.Ended = make(chan struct{})
	}
	for n, f := range r.Pipes {
		if f.File != nil {
			r.p.Pipes[n] = &process.End{Pipe: f}
		}
	}
	if r.PTY.File != nil {
		r.p.PTY = process.NewTerminal(r.PTY, r.p.Done)
	}
}

// startWaiting returns when the child has exec'ed, and leaves the rest to
// a goroutine, or when it could not.
func (r *run) startWaiting(ctx context.Context) error {
	r.handOver()
	if err := r.waitExec(); err != nil {
		return err
	}
	r.watchPipes(ctx)
	r.tellStarted()
	go func() {
		// The child has exec'ed, so there is no reason to be had.
		_ = r.waitExit()
		r.tellOver()
		r.p.PTY.ProgramEnded()
		close(r.p.Done)
	}()
	return nil
}

// watchPipes closes the pipes in the caller's hands a while after both the
// child and the context have ended. A grandchild that keeps the other end open
// must not block a Read forever.
func (r *run) watchPipes(ctx context.Context) {
	if ctx.Done() == nil {
		return
	}
	watch := func(f *os.File) (stop func() bool) {
		return context.AfterFunc(ctx, func() {
			<-r.p.Done
			time.AfterFunc(transfer.PipeWait, func() { f.Close() })
		})
	}
	for n := command.Stdout; n <= command.Stderr; n++ {
		if e := r.p.Pipes[n]; e != nil {
			e.Stop = watch(e.File)
		}
	}
	if r.p.PTY != nil {
		r.p.PTY.Stop = watch(r.p.PTY.Out.File)
	}
}
