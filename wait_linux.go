package spawn

import (
	"context"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/virspawn/spawn/internal/program"
	"golang.org/x/sys/unix"
)

// There are two ways to wait. While few wait, each blocks its thread in one ppoll for the child and all its pipes, which
// costs the fewest wake-ups. A wait that lasts, and any beyond a few, is parked: it goes to Go's poller and costs
// no thread.

const (
	// maxBlocked is how many waits may block a thread at a time.
	maxBlocked = 16
	// maxStarting is the same for waits for children on their way to exec, or to their gates.
	maxStarting = 8
	// maxBlockedTime is how long a wait may block a thread.
	maxBlockedTime = 100 * time.Millisecond
)

// blockedWaits counts the waits that block a thread.
var blockedWaits atomic.Int32

func tryBlock() bool {
	if blockedWaits.Add(1) <= maxBlocked {
		return true
	}
	blockedWaits.Add(-1)
	return false
}

func unblock() { blockedWaits.Add(-1) }

// wait waits for everything. If the child could not exec it returns the reason.
func (pl *plan) wait(p *Process) error {
	if pl.mode != unwatched {
		if err := pl.waitExec(p); err != nil {
			return err
		}
		p.observed.start(pl.path, p.pid)
	}
	err := pl.waitExit(p)
	if err == nil {
		p.observed.exit(p.status, p.err)
	}
	return err
}

// startWaits bounds the threads that wait for children to exec, which takes a moment.
var startWaits = make(chan struct{}, maxStarting)

// waitExec waits until the child has exec'ed. If it could not, it waits for its end and returns the reason.
func (pl *plan) waitExec(p *Process) error {
	pl.waitLeft()
	pl.closeChildEnds()
	switch {
	case pl.helper != nil: // it may take its time
		pl.parkStatus()
	case pl.mode == piped:
		pl.waitStatus()
	}
	if err := pl.execed(p); err != nil {
		return err
	}
	pl.cmd.closeParents()
	return nil
}

// execed is called when the child has exec'ed or could not. If it could not, execed waits for its end and returns the reason.
func (pl *plan) execed(p *Process) error {
	p.mu.Lock()
	p.starting = nil
	killed, ending := p.killed, p.ending
	p.mu.Unlock()
	var silent *silence
	if pl.helper != nil && !killed {
		silent = pl.listen(p)
	}
	err := pl.takeReport()
	if killed { // whatever it did until then
		err = &StartError{Op: "start", Path: pl.path, Err: ending}
	}
	atGate := err == nil && p.gate != nil && !p.gate.open()
	if err != nil || atGate || silent != nil {
		if silent != nil {
			_ = p.handle.signal(unix.SIGKILL) // a hook may have closed the pipe, and go on
		}
		pl.giveUp(p)
		switch {
		case err != nil:
		case atGate && isClosed(p.gate.ready) || silent == nil:
			err = endedAtGate(pl.path, p.status)
		default:
			err = &StartError{Op: silent.step, Path: pl.path, Err: fmt.Errorf("%s: %s", silent.text, p.status)}
		}
		return err
	}
	pl.endPidFile(true)
	for _, c := range pl.copiers {
		go c.run()
	}
	return nil
}

// waitLeft waits until the child has left this process's memory, if it was ever there.
func (pl *plan) waitLeft() {
	wait := pl.child.Wait
	if pl.options.OwnMemory || pl.cmd.daemon { // has a table of its own, and nothing but the pipe tells of it
		pl.closeChildEnds()
		wait = func(timeout time.Duration) bool { return waitReadable(pl.statusR, timeout) }
	}
	waitForStart(wait)
}

// waitForStart calls wait, which blocks the thread for no longer than its argument, until it returns true.
func waitForStart(wait func(timeout time.Duration) bool) {
	for done := briefly(wait); !done; done = wait(0) { // a file system that does not answer, for example
		time.Sleep(maxBlockedTime / 10)
	}
}

// briefly calls wait with the time for which it may block a thread, when there are few others that do.
func briefly(wait func(timeout time.Duration) bool) bool {
	startWaits <- struct{}{}
	defer func() { <-startWaits }()
	return wait(maxBlockedTime)
}

// waitStatus waits for the end of the status pipe, which the child has closed or is about to.
func (pl *plan) waitStatus() {
	var report program.Report // which is in the shared memory too
	for {
		n, err := unix.Read(pl.statusR, report[:])
		if n == 0 || err != nil && err != unix.EINTR {
			break
		}
	}
	closeFD(pl.statusR)
	pl.statusR = -1
}

// parkStatus is waitStatus without a thread.
func (pl *plan) parkStatus() {
	pl.openStatus()
	var report program.Report
	for {
		if _, err := pl.statusF.Read(report[:]); err != nil {
			break
		}
	}
	pl.statusF.Close()
}

// openStatus gives the status pipe to Go's poller.
func (pl *plan) openStatus() {
	if pl.statusF.File == nil {
		setNonblock(pl.statusR)
		pl.statusF = newPipeFile(pl.statusR, "pipe")
		pl.statusR = -1
	}
}

// giveUp waits for a child that did not exec, and gives everything back.
func (pl *plan) giveUp(p *Process) {
	if !p.dead {
		p.waitBlocked() // it is ending
	}
	p.endTree()
	pl.release()
	pl.unwatchContext()
	p.handle.close()
}

// waitExit waits for the end of the child and of all transfers. If the child could not exec it returns the reason.
func (pl *plan) waitExit(p *Process) error {
	exited := false
	switch {
	case pl.mode == unwatched, tryBlock():
		exited = pl.blockUntilExit(p)
		unblock()
	}
	pl.closeChildEnds()
	if !exited {
		pl.parkUntilExit(p)
	}
	if pl.mode == unwatched {
		if err := pl.takeReport(); err != nil {
			pl.giveUp(p)
			return err
		}
	}
	cut := pl.settle(p)
	p.endTree()
	pl.unwatchContext()
	pl.finish(p, cut)
	p.handle.close()
	return nil
}

// maxPolled is the number of descriptors in one ppoll: the child's and those of its pipes.
const maxPolled = 8

// poll is room for blockUntilExit.
type poll struct {
	fds  [maxPolled]unix.PollFd
	jobs [maxPolled]*job
}

var polls = sync.Pool{New: func() any { return new(poll) }}

// blockUntilExit serves the transfers until the child has ended, and then reports true, or for maxBlockedTime and until the child
// has exec'ed. The child's ends of the pipes stay open, where they still are: so the closing of each of its streams, which comes
// just before its end, does not wake this thread once more.
func (pl *plan) blockUntilExit(p *Process) bool {
	if len(pl.jobs) >= maxPolled { // then the child has exec'ed: see needsExec
		return false
	}
	room := polls.Get().(*poll)
	defer polls.Put(room)
	deadline := time.Now().Add(maxBlockedTime)
	for {
		room.fds[0] = unix.PollFd{Fd: int32(p.handle.fd), Events: unix.POLLIN}
		n := 1
		for i := range pl.jobs {
			if j := &pl.jobs[i]; j.fd >= 0 {
				room.fds[n] = unix.PollFd{Fd: int32(j.fd), Events: j.events()}
				room.jobs[n] = j
				n++
			}
		}
		left := time.Until(deadline)
		if left <= 0 {
			if pl.hasExeced() {
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
			if room.fds[i].Revents != 0 && room.jobs[i].step() == finished {
				room.jobs[i].close()
			}
		}
		if room.fds[0].Revents != 0 && p.reap() {
			return true
		}
	}
}

// hasExeced reports whether the child has exec'ed, or ended, and gives back what it needed until then.
func (pl *plan) hasExeced() bool {
	if pl.prog == nil {
		return true
	}
	if !pl.child.LeftMemory() {
		return false
	}
	if _, failed := pl.prog.Failed(); failed {
		return false // it is ending
	}
	pl.closeChildEnds()
	pl.freeProgram()
	return true
}

// parkUntilExit serves the transfers until the child has ended, without a thread.
func (pl *plan) parkUntilExit(p *Process) {
	for i := range pl.jobs {
		if j := &pl.jobs[i]; j.fd >= 0 {
			j.park()
		}
	}
	p.mu.Lock()
	f := p.handle.pollable()
	p.mu.Unlock()
	conn, err := f.SyscallConn()
	if err == nil {
		err = conn.Read(func(uintptr) bool { return p.reap() })
	}
	if err != nil { // no room in the poller
		p.waitBlocked()
	}
}

// settle ends the transfers of a child that has ended. It reports whether an output was given up on, because something
// kept its pipe open when the context had ended.
func (pl *plan) settle(p *Process) (cut bool) {
	for i := range pl.jobs {
		j := &pl.jobs[i]
		switch {
		case !j.parked() && j.fd < 0: // done
		case j.write:
			j.close()
		case j.out.tail:
			// A grandchild may have inherited standard error without anybody's wish. It does not hold up the
			// call, and must not die of SIGPIPE because the call has returned, unless it was to end.
			switch {
			case j.drain():
			case isClosed(p.ended):
				j.close()
			default:
				go discard(j.detach())
			}
		case !j.parked() && j.drain():
		default:
			if !j.parked() {
				j.park()
			}
			if !j.join(p.ended) {
				cut = true
				j.close()
			}
		}
	}
	for _, c := range pl.copiers {
		if c.r != nil {
			c.file.Close()
			c.leave()
		} else if !c.join(p.ended) {
			cut = true
			c.file.Close()
			c.leave()
		}
	}
	return cut
}

// finish says how it all ended.
func (pl *plan) finish(p *Process, cut bool) {
	var tail []byte
	for i := range pl.jobs {
		j := &pl.jobs[i]
		if j.write {
			continue
		}
		pl.streams[j.stream].setCaptured(&j.out)
		if j.stream == stderr {
			tail = j.out.last()
		}
		j.out.free()
	}
	err := p.lost
	for _, c := range pl.copiers {
		if err == nil && isClosed(c.done) && c.err != nil {
			err = fmt.Errorf("%s: %w", streamNames[c.stream], c.err)
		}
	}
	p.conclude(tail, err, cut)
}

// unwatchContext stops to watch the context.
func (pl *plan) unwatchContext() {
	if pl.unwatch != nil {
		pl.unwatch()
	}
}

// handOver gives the process what its user sees of it.
func (pl *plan) handOver(p *Process) {
	p.done = make(chan struct{})
	if p.ended == nil {
		p.ended = make(chan struct{})
	}
	for n, f := range pl.pipes {
		if f.File != nil {
			p.pipes[n] = &pipeEnd{pipeFile: f}
		}
	}
	if pl.pty.File != nil {
		p.pty = newTerminal(pl.pty, p.done)
	}
}

// startWaiting returns when the child has exec'ed, and leaves the rest to a goroutine, or when it could not.
func (pl *plan) startWaiting(ctx context.Context, p *Process) error {
	pl.handOver(p)
	if err := pl.waitExec(p); err != nil {
		return err
	}
	pl.watchPipes(ctx, p)
	p.observed.start(pl.path, p.pid)
	go func() {
		// The child has exec'ed, so there is no reason to be had.
		_ = pl.waitExit(p)
		p.observed.exit(p.status, p.err)
		p.pty.programEnded()
		close(p.done)
	}()
	return nil
}

// watchPipes closes the pipes in the caller's hands a while after both the child and the context have ended: a grandchild that
// keeps the other end open must not block a Read forever.
func (pl *plan) watchPipes(ctx context.Context, p *Process) {
	if ctx.Done() == nil {
		return
	}
	watch := func(f *os.File) (stop func() bool) {
		return context.AfterFunc(ctx, func() {
			<-p.done
			time.AfterFunc(pipeWait, func() { f.Close() })
		})
	}
	for n := stdout; n <= stderr; n++ {
		if e := p.pipes[n]; e != nil {
			e.stop = watch(e.File)
		}
	}
	if p.pty != nil {
		p.pty.stop = watch(p.pty.out.File)
	}
}
