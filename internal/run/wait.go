//go:build linux

package run

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/virspawn/spawn/internal/command"
	"github.com/virspawn/spawn/internal/plan"
	"github.com/virspawn/spawn/internal/process"
	"github.com/virspawn/spawn/internal/transfer"
	"golang.org/x/sys/unix"
)

// There are two ways to wait. While few wait, each blocks its thread in one
// ppoll for the child and all its pipes, which costs the fewest wake-ups.
// A wait that lasts, and any beyond a few, is parked: it goes to Go's poller
// and costs no thread.

const (
	// maxBlocked is how many waits may block a thread at a time.
	maxBlocked = 16
	// maxStarting is the same for waits for children on their way to exec, or
	// to their gates.
	maxStarting = 8
	// maxBlockedTime is how long a wait may block a thread.
	maxBlockedTime = 100 * time.Millisecond
)

// blockedWaits counts the waits that block a thread.
var blockedWaits atomic.Int32

// tryBlock reports whether one more wait may block a thread. The caller ends it
// with unblock.
func tryBlock() bool {
	if blockedWaits.Add(1) <= maxBlocked {
		return true
	}
	blockedWaits.Add(-1)
	return false
}

// unblock says that a wait blocks no thread any more.
func unblock() { blockedWaits.Add(-1) }

// wait waits for everything. If the child could not exec it returns the reason.
func (r *run) wait() error {
	if r.Mode != plan.Unwatched {
		if err := r.waitExec(); err != nil {
			return err
		}
		r.tellStarted()
	}
	err := r.waitExit()
	if err == nil {
		r.tellOver()
	}
	return err
}

// waitExit waits for the end of the child and of all transfers. If the child
// could not exec it returns the reason.
func (r *run) waitExit() error {
	exited := false
	switch {
	case r.Mode == plan.Unwatched, tryBlock():
		exited = r.blockUntilExit()
		unblock()
	}
	if !exited && r.Program != nil { // given up before it could exec
		return r.leave()
	}
	r.CloseChildEnds()
	if !exited {
		exited = r.parkUntilExit()
	}
	if r.Mode == plan.Unwatched {
		r.drainStatus()
		if err := r.execed(); err != nil {
			return err
		}
	}
	cut := r.settle(exited)
	if exited {
		r.endTree()
		r.unwatchContext()
	}
	if r.finish(cut) {
		r.giveBack(false)
	} else {
		r.bury(true)
	}
	return nil
}

// maxPolled is the number of descriptors in one ppoll: the child's and those of
// its pipes.
const maxPolled = 8

// poll is room for blockUntilExit.
type poll struct {
	fds  [maxPolled]unix.PollFd
	jobs [maxPolled]*transfer.Job
}

var polls = sync.Pool{New: func() any { return new(poll) }}

// blockUntilExit serves the transfers until the child has ended, and then
// reports true, or for maxBlockedTime and until the child has exec'ed or has
// been given up. The child's ends of the pipes stay open here, where they still
// are. So the child's closing of its streams, which comes just before its end,
// does not wake this thread once more.
func (r *run) blockUntilExit() bool {
	if len(r.Jobs) >= maxPolled { // then the child has exec'ed: see needsExec
		return false
	}
	room := polls.Get().(*poll)
	defer polls.Put(room)
	deadline := time.Now().Add(maxBlockedTime)
	for {
		room.fds[0] = unix.PollFd{Fd: int32(r.handle.fd), Events: unix.POLLIN}
		n := 1
		for i := range r.Jobs {
			if j := &r.Jobs[i]; j.FD >= 0 {
				room.fds[n] = unix.PollFd{Fd: int32(j.FD), Events: j.Events()}
				room.jobs[n] = j
				n++
			}
		}
		left := time.Until(deadline)
		if left <= 0 {
			if r.hasExeced() || r.p.GivenUp() {
				return false
			}
			deadline = deadline.Add(maxBlockedTime)
			continue
		}
		timeout := unix.NsecToTimespec(int64(left))
		ready, err := unix.Ppoll(room.fds[:n], &timeout, nil)
		if err != nil || ready == 0 { // EINTR at worst
			continue
		}
		for i := 1; i < n; i++ {
			if room.fds[i].Revents != 0 && room.jobs[i].Step() == transfer.Finished {
				room.jobs[i].Close()
			}
		}
		if room.fds[0].Revents != 0 && r.reap() {
			return true
		}
	}
}

// hasExeced reports whether the child has exec'ed, or ended, and gives back
// what it needed until then.
func (r *run) hasExeced() bool {
	if r.Program == nil {
		return true
	}
	if !r.child.LeftMemory() {
		return false
	}
	r.CloseChildEnds()
	r.drainStatus()
	if _, failed := r.failure(); failed || r.StatusR >= 0 && !r.heard.silent {
		return false // it is ending, or not there yet
	}
	r.closeStatus()
	r.FreeProgram()
	return true
}

// parkUntilExit serves the transfers, without a thread, until the child has
// ended, and then reports true, or has been given up.
func (r *run) parkUntilExit() bool {
	for i := range r.Jobs {
		if j := &r.Jobs[i]; j.FD >= 0 {
			j.Park()
		}
	}
	return r.parkUntilEnd()
}

// parkUntilEnd waits, without a thread, until the child has ended, and then
// reports true, or has been given up.
func (r *run) parkUntilEnd() (ended bool) {
	r.p.Mu.Lock()
	f := r.handle.pollable()
	r.p.Mu.Unlock()
	for !ended && !r.p.GivenUp() {
		ended = r.parkOnce(f)
	}
	return ended
}

// parkOnce waits until the child has ended, and then reports true, or until
// the handle's deadline, or a moment.
func (r *run) parkOnce(f *os.File) (ended bool) {
	conn, err := f.SyscallConn()
	if err == nil {
		err = conn.Read(func(uintptr) bool {
			ended = r.reap()
			return ended
		})
	}
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		// no room in the poller
		ended = r.reap()
		if !ended {
			time.Sleep(maxBlockedTime / 10)
		}
	}
	return ended
}

// GiveUp wakes those who wait for the child.
//
// Preconditions: r.p.Mu is held.
func (r *run) GiveUp() {
	if r.handle.file != nil {
		_ = r.handle.file.SetReadDeadline(past)
	}
	if r.StatusF.File != nil {
		_ = r.StatusF.SetReadDeadline(past)
	}
}

// bury waits, in a goroutine and without a thread, for a child that has been
// given up and that nobody else waits for, and gives back what it has until
// then. If it has not exec'ed, that is everything.
func (r *run) bury(execed bool) {
	r.p.Mu.Lock()
	r.Command = r.Command.Clone() // its caller may change it
	r.p.Mu.Unlock()
	go func() {
		if !r.hasMet() {
			_, _ = r.meetForked()
		}
		r.CloseGate()
		r.p.Mu.Lock()
		f := r.handle.pollable()
		_ = f.SetReadDeadline(time.Time{})
		r.p.Mu.Unlock()
		for !r.p.Dead && !r.parkOnce(f) {
		}
		r.giveBack(!execed)
	}()
}

// giveBack gives back what the run has until its child has ended: everything,
// if it is to release the plan.
func (r *run) giveBack(release bool) {
	r.p.Mu.Lock()
	r.stopSign() // it looks at the report
	r.p.Mu.Unlock()
	r.endTree()
	if release {
		r.Release()
	}
	r.unwatchContext()
	r.handle.close()
}

// settle ends the transfers of a child that has exited, or has been given up.
// It reports whether an output was given up on, because something kept its pipe
// open when the context had ended.
func (r *run) settle(exited bool) (cut bool) {
	for i := range r.Jobs {
		j := &r.Jobs[i]
		switch {
		case !j.Parked() && j.FD < 0: // done
		case j.Write:
			j.Close()
		case j.Out.Tail:
			// A grandchild may have inherited standard error without anybody's
			// wish. It does not hold up the call, and must not die of SIGPIPE
			// because the call has returned, unless it was to end.
			switch {
			case j.Drain():
			case process.IsClosed(r.p.Ended):
				j.Close()
			default:
				go transfer.Discard(j.Detach())
			}
		case (!j.Parked() || !exited) && j.Drain():
		case !exited:
			cut = true
			j.Close()
		default:
			if !j.Parked() {
				j.Park()
			}
			if !j.Join(r.p.Ended) {
				cut = true
				j.Close()
			}
		}
	}
	for _, c := range r.Copiers {
		if c.Reader != nil {
			c.File.Close()
			c.Leave()
		} else if !c.Join(r.p.Ended) {
			cut = true
			c.File.Close()
			c.Leave()
		}
	}
	return cut
}

// finish says how it all ended. It reports whether the child has.
func (r *run) finish(cut bool) (ended bool) {
	var tail []byte
	for i := range r.Jobs {
		j := &r.Jobs[i]
		if j.Write {
			continue
		}
		j.Out.Assign(r.Streams[j.Stream].Value)
		if j.Stream == command.Stderr {
			tail = j.Out.Last()
		}
		j.Out.Free()
	}
	err := r.lost
	for _, c := range r.Copiers {
		if err == nil && process.IsClosed(c.Done) && c.Err != nil {
			err = fmt.Errorf("%s: %w", command.StreamNames[c.Stream], c.Err)
		}
	}
	return r.p.Conclude(tail, err, cut)
}

// unwatchContext stops to watch the context.
func (r *run) unwatchContext() {
	if r.unwatch != nil {
		r.unwatch()
	}
}
