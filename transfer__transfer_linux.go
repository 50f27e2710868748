package spawn

import (
	"io"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// transfer is a transfer through a pipe in a goroutine of its own.
type transfer struct {
	file pipeFile      // this process's end
	done chan struct{} // closed when the goroutine has ended
}

// join waits for the transfer, but once ended is closed only for pipeWait more, and reports whether it is done.
func (t *transfer) join(ended <-chan struct{}) bool {
	select {
	case <-t.done:
		return true
	case <-ended:
		return t.leave()
	}
}

// leave waits for the transfer for pipeWait at most, and reports whether it is done.
func (t *transfer) leave() bool {
	timer := time.NewTimer(pipeWait)
	defer timer.Stop()
	select {
	case <-t.done:
		return true
	case <-timer.C:
		return false
	}
}

// copier is a transfer between a reader or writer of the caller's, which may block for any time, and the child.
type copier struct {
	transfer
	stream int
	r      io.Reader // either r
	w      io.Writer // or w
	err    error     // set when done
}

// run copies until the end and closes the pipe. Only the caller's own reader or writer can fail: an error of the pipe means that the
// child does not want it all, or that the pipe was closed because the child has ended.
func (c *copier) run() {
	if c.r != nil {
		r := &callersReader{Reader: c.r}
		_, _ = io.Copy(onlyWriter{&c.file}, r)
		c.err = r.err
	} else {
		w := &callersWriter{Writer: c.w}
		_, _ = io.Copy(w, onlyReader{&c.file})
		c.err = w.err
	}
	c.file.Close()
	close(c.done)
}

// job is a transfer between memory and the child, made by whoever waits for the child or, once parked, by a goroutine.
type job struct {
	transfer        // once parked
	fd       int    // this process's end; -1 once closed, if not parked
	stream   int    // stdin, stdout, stderr, or -1 for a send buffer
	data     []byte // to write
	taken    int    // bytes read, in all
	out      capture
	stop     atomic.Bool // the goroutine is to end; a pipe that is always ready never asks Go's poller, which would tell it
	write    bool
	end      bool // finished by the goroutine
}

// progress is the outcome of a job's step.
type progress int

const (
	moved    progress = iota // more may be possible at once
	blocked                  // not now
	finished                 // nothing more will come or go
)

// bulkPipe is the size of the pipe for an output that turns out to be large, in bytes: the default limit for users.
const bulkPipe = 1 << 20

// step makes one transfer. The end of the file, a reader that has gone away, and any other error finish the job: what
// was transferred until then is all there will be.
func (j *job) step() progress {
	var n int
	var err error
	if j.write {
		n, err = unix.Write(j.fd, j.data)
	} else {
		n, err = unix.Read(j.fd, j.room())
	}
	switch {
	case err == unix.EINTR:
		return moved
	case err == unix.EAGAIN:
		return blocked
	case err != nil || n == 0:
		return finished
	case !j.write:
		j.out.add(n)
		j.taken += n
		return moved
	}
	j.data = j.data[n:]
	if len(j.data) == 0 {
		return finished
	}
	return moved
}

// room returns space to read into. The first time that this is more than the first buffer, the pipe is made larger.
func (j *job) room() []byte {
	small := !j.out.large()
	room := j.out.room()
	if small && j.out.large() {
		// Not granted to a user who has too many pipes; then it only takes longer.
		_, _ = unix.FcntlInt(uintptr(j.fd), unix.F_SETPIPE_SZ, bulkPipe)
	}
	return room
}

// events is what to poll for.
func (j *job) events() int16 {
	if j.write {
		return unix.POLLOUT
	}
	return unix.POLLIN
}

// drain takes what is there, without waiting, and at most little more: others may write without end. It reports whether
// that was all, and then closes the pipe. A job that was parked goes on no longer.
func (j *job) drain() bool {
	if j.parked() {
		j.stop.Store(true)
		j.file.SetReadDeadline(time.Unix(1, 0))
		<-j.done
		if j.end {
			return true
		}
	}
	for all := -1; all < 0 || j.taken <= all; {
		switch j.step() {
		case blocked:
			return false
		case finished:
			j.close()
			return true
		}
		if all < 0 { // mostly the end was there at once
			size, _ := unix.FcntlInt(uintptr(j.fd), unix.F_GETPIPE_SZ, 0)
			all = j.taken + max(size, 0)
		}
	}
	return false
}

// park hands the job to a goroutine.
func (j *job) park() {
	j.file = newPipeFile(j.fd, "pipe")
	j.done = make(chan struct{})
	go j.run()
}

func (j *job) parked() bool { return j.done != nil }

// run makes the transfer on Go's poller, until it is finished, or stop is set and then the file closed or its deadline set.
func (j *job) run() {
	defer close(j.done)
	conn, err := j.file.SyscallConn()
	if err != nil {
		return
	}
	ready := func(uintptr) bool {
		for !j.stop.Load() {
			switch j.step() {
			case blocked:
				return false
			case finished:
				j.end = true
				return true
			}
		}
		return true
	}
	await := conn.Read
	if j.write {
		await = conn.Write
	}
	for await(ready) != nil && j.file.await != nil && !j.stop.Load() {
		_ = j.file.await(j.file.File, j.write)
	}
	if j.end {
		j.file.Close()
	}
}

// detach gives the pipe away. A job that was parked must have been drained.
func (j *job) detach() pipeFile {
	if !j.parked() {
		f := newPipeFile(j.fd, "pipe")
		j.fd = -1
		return f
	}
	j.file.SetReadDeadline(time.Time{})
	return j.file
}

// close ends the job and closes the pipe.
func (j *job) close() {
	switch {
	case j.parked():
		j.stop.Store(true)
		j.file.Close()
		<-j.done
	case j.fd >= 0:
		closeFD(j.fd)
		j.fd = -1
	}
}

// discard reads a pipe to its end, for those who write to it.
func discard(f pipeFile) {
	_, _ = io.Copy(io.Discard, onlyReader{&f})
	f.Close()
}
