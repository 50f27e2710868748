package transfer

import (
	"io"
	"sync/atomic"
	"time"

	"github.com/virspawn/spawn/internal/descriptor"
	"golang.org/x/sys/unix"
)

// Transfer is a transfer through a pipe in a goroutine of its own.
type Transfer struct {
	File Pipe          // the parent's end
	Done chan struct{} // closed when the goroutine has ended
}

// Join waits for the transfer, but once ended is closed only for PipeWait more,
// and reports whether it is done.
func (t *Transfer) Join(ended <-chan struct{}) bool {
	select {
	case <-t.Done:
		return true
	case <-ended:
		return t.Leave()
	}
}

// Leave waits for the transfer for PipeWait at most, and reports whether it
// is done.
func (t *Transfer) Leave() bool {
	timer := time.NewTimer(PipeWait)
	defer timer.Stop()
	select {
	case <-t.Done:
		return true
	case <-timer.C:
		return false
	}
}

// Copier is a transfer between a reader or writer of the caller's, which may
// block for any time, and the child.
type Copier struct {
	Transfer
	Stream int
	Reader io.Reader // to be copied to the child; nil with a Writer
	Writer io.Writer // to be copied to from the child; nil with a Reader
	Err    error     // set once Done is closed
}

// Run copies until the end and closes the pipe. Only the caller's own reader or
// writer can fail. An error of the pipe means that the child does not want it
// all, or that the pipe was closed because the child has ended.
func (c *Copier) Run() {
	if c.Reader != nil {
		r := &Reader{Reader: c.Reader}
		_, _ = io.Copy(OnlyWriter{&c.File}, r)
		c.Err = r.Err
	} else {
		w := &Writer{Writer: c.Writer}
		_, _ = io.Copy(w, OnlyReader{&c.File})
		c.Err = w.err
	}
	c.File.Close()
	close(c.Done)
}

// Job is a transfer between memory and the child, made by whoever waits for the
// child or, once parked, by a goroutine.
type Job struct {
	Transfer        // once parked
	FD       int    // the parent's end; -1 once closed, if not parked
	Stream   int    // stdin, stdout, stderr, or -1 for a send buffer
	Data     []byte // to write
	taken    int    // bytes read, in all
	Out      Capture
	// Set when the goroutine is to end: a pipe that is always ready never asks
	// Go's poller, which would tell it.
	stop  atomic.Bool
	Write bool
	end   bool // finished by the goroutine
}

// Progress is the outcome of a job's step.
type Progress int

const (
	moved    Progress = iota // more may be possible at once
	blocked                  // not now
	Finished                 // nothing more will come or go
)

// bulkPipe is the size of the pipe for an output that turns out to be large, in
// bytes: the default limit for users.
const bulkPipe = 1 << 20

// Step makes one transfer. The end of the file, a reader that has gone away,
// and any other error finish the job: what was transferred until then is all
// there will be.
func (j *Job) Step() Progress {
	var n int
	var err error
	if j.Write {
		n, err = unix.Write(j.FD, j.Data)
	} else {
		n, err = unix.Read(j.FD, j.room())
	}
	switch {
	case err == unix.EINTR:
		return moved
	case err == unix.EAGAIN:
		return blocked
	case err != nil || n == 0:
		return Finished
	case !j.Write:
		j.Out.Add(n)
		j.taken += n
		return moved
	}
	j.Data = j.Data[n:]
	if len(j.Data) == 0 {
		return Finished
	}
	return moved
}

// room returns space to read into. The first time that this is more than the
// first buffer, the pipe is made larger.
func (j *Job) room() []byte {
	small := !j.Out.large()
	room := j.Out.Room()
	if small && j.Out.large() {
		// Not granted to a user who has too many pipes; then it only
		// takes longer.
		_, _ = unix.FcntlInt(uintptr(j.FD), unix.F_SETPIPE_SZ, bulkPipe)
	}
	return room
}

// Events is what to poll for.
func (j *Job) Events() int16 {
	if j.Write {
		return unix.POLLOUT
	}
	return unix.POLLIN
}

// Drain takes what is there, without waiting, and at most little more: others
// may write without end. It reports whether that was all, and then closes the
// pipe. A job that was parked goes on no longer.
func (j *Job) Drain() bool {
	if j.Parked() {
		j.stop.Store(true)
		j.File.SetReadDeadline(time.Unix(1, 0))
		<-j.Done
		if j.end {
			return true
		}
	}
	for all := -1; all < 0 || j.taken <= all; {
		switch j.Step() {
		case blocked:
			return false
		case Finished:
			j.Close()
			return true
		}
		if all < 0 { // mostly the end was there at once
			size, _ := unix.FcntlInt(uintptr(j.FD), unix.F_GETPIPE_SZ, 0)
			all = j.taken + max(size, 0)
		}
	}
	return false
}

// Park hands the job to a goroutine.
func (j *Job) Park() {
	j.File = NewPipe(j.FD, "pipe")
	j.Done = make(chan struct{})
	go j.run()
}

// Parked reports whether a goroutine has the job.
func (j *Job) Parked() bool { return j.Done != nil }

// run makes the transfer on Go's poller, until it is finished, or stop is set
// and then the file closed or its deadline set.
func (j *Job) run() {
	defer close(j.Done)
	conn, err := j.File.SyscallConn()
	if err != nil {
		return
	}
	ready := func(uintptr) bool {
		for !j.stop.Load() {
			switch j.Step() {
			case blocked:
				return false
			case Finished:
				j.end = true
				return true
			}
		}
		return true
	}
	await := conn.Read
	if j.Write {
		await = conn.Write
	}
	for await(ready) != nil && j.File.Await != nil && !j.stop.Load() {
		_ = j.File.Await(j.File.File, j.Write)
	}
	if j.end {
		j.File.Close()
	}
}

// Detach gives the pipe away. A job that was parked must have been drained.
func (j *Job) Detach() Pipe {
	if !j.Parked() {
		f := NewPipe(j.FD, "pipe")
		j.FD = -1
		return f
	}
	j.File.SetReadDeadline(time.Time{})
	return j.File
}

// Close ends the job and closes the pipe.
func (j *Job) Close() {
	switch {
	case j.Parked():
		j.stop.Store(true)
		j.File.Close()
		<-j.Done
	case j.FD >= 0:
		descriptor.Close(j.FD)
		j.FD = -1
	}
}

// Discard reads a pipe to its end, for those who write to it.
func Discard(f Pipe) {
	_, _ = io.Copy(io.Discard, OnlyReader{&f})
	f.Close()
}
