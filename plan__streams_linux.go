package spawn

import (
	"io"
	"os"
)

// openStreams connects the standard streams and the passed descriptors.
func (pl *plan) openStreams() error {
	c := pl.cmd
	if err := pl.openPTY(); err != nil {
		return err
	}
	for n := range pl.streams {
		if err := pl.openStream(n); err != nil {
			return err
		}
	}
	for i := range c.passed {
		p := &c.passed[i]
		if p.file == nil {
			if err := pl.openData(-1, p.fd, p.data); err != nil {
				return err
			}
			continue
		}
		if err := pl.connectFile(p.file, p.fd); err != nil {
			return err
		}
	}
	return nil
}

func (pl *plan) openStream(n int) error {
	s := pl.streams[n]
	if n == stderr && sameTarget(s, pl.streams[stdout]) {
		s = stream{kind: streamMerge}
	}
	switch s.kind {
	case streamDefault, streamNull:
		pl.fds.null[n] = true
	case streamInherit:
		pl.connect(n, n)
	case streamFile:
		return pl.connectFile(s.v.(*os.File), n)
	case streamData:
		return pl.openData(n, n, s.v.([]byte))
	case streamString, streamBytes, streamTail:
		fd, err := pl.openPipe(n, false)
		if err != nil {
			return err
		}
		pl.jobs = append(pl.jobs, job{fd: fd, stream: n, out: capture{tail: s.kind == streamTail}})
	case streamReader, streamWriter:
		f, err := pl.openFile(n)
		if err != nil {
			return err
		}
		cp := &copier{transfer: transfer{file: f, done: make(chan struct{})}, stream: n}
		cp.r, _ = s.v.(io.Reader)
		if n != stdin {
			cp.r, cp.w = nil, s.v.(io.Writer)
		}
		pl.copiers = append(pl.copiers, cp)
	case streamPipe:
		f, err := pl.openFile(n)
		if err != nil {
			return err
		}
		pl.pipes[n] = f
	case streamTTY:
		pl.connect(pl.ptyEnd, n)
	case streamMerge:
		pl.mergeStderr()
	}
	return nil
}

// connect puts the descriptor fd of this process under the number to of the child.
func (pl *plan) connect(fd, to int) { pl.fds.moves = append(pl.fds.moves, move{fd, to}) }

// connectFile puts a file of the caller's under the number to of the child. Like os/exec, it makes the file blocking where package os
// has made it non-blocking: that is a property of the file and not of the descriptor, and programs do not expect it. Not so a socket to
// listen on, which this process may use at the same time: to close a blocking one waits until an Accept of it has returned.
func (pl *plan) connectFile(f *os.File, to int) error {
	fd := fileNumber(f)
	if !pl.cmd.listensOn(to) {
		fd = int(f.Fd())
	}
	if fd < 0 {
		return errClosedFile(pl.path, f, to)
	}
	pl.connect(fd, to)
	return nil
}

// openPipe connects number to of the child with a pipe and returns this process's end, which does not block.
func (pl *plan) openPipe(to int, childReads bool) (int, error) {
	parent, child, err := low.pipe(childReads)
	if err != nil {
		return -1, pl.failed(err)
	}
	setNonblock(parent)
	pl.childEnds = append(pl.childEnds, child)
	pl.connect(child, to)
	return parent, nil
}

// openFile is openPipe with an end for Go's poller.
func (pl *plan) openFile(n int) (pipeFile, error) {
	fd, err := pl.openPipe(n, n == stdin)
	if err != nil {
		return pipeFile{}, err
	}
	return newPipeFile(fd, streamNames[n]), nil
}

// openData connects number to of the child with a pipe from which it reads data.
func (pl *plan) openData(n, to int, data []byte) error {
	fd, err := pl.openPipe(to, true)
	if err != nil {
		return err
	}
	last := len(pl.jobs)
	pl.jobs = append(pl.jobs, job{fd: fd, stream: n, write: true, data: data})
	// What fits into the pipe needs no one to wait with it.
	if j := &pl.jobs[last]; len(data) == 0 || j.step() == finished {
		j.close()
		pl.jobs = pl.jobs[:last]
	}
	return nil
}

// mergeStderr sends standard error where standard output goes.
func (pl *plan) mergeStderr() {
	if pl.fds.null[stdout] {
		pl.fds.null[stderr] = true
		return
	}
	for _, m := range pl.fds.moves {
		if m.to == stdout {
			pl.connect(m.from, stderr)
			return
		}
	}
}
