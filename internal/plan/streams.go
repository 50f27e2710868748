//go:build linux

package plan

import (
	"io"
	"os"

	"github.com/virspawn/spawn/internal/command"
	"github.com/virspawn/spawn/internal/descriptor"
	"github.com/virspawn/spawn/internal/transfer"
)

// openStreams connects the standard streams and the passed descriptors.
func (pl *Plan) openStreams() error {
	c := pl.Command
	if err := pl.openPTY(); err != nil {
		return err
	}
	for n := range pl.Streams {
		if err := pl.openStream(n); err != nil {
			return err
		}
	}
	for i := range c.Passed {
		p := &c.Passed[i]
		if p.File == nil {
			if err := pl.openData(-1, p.FD, p.Data); err != nil {
				return err
			}
			continue
		}
		if err := pl.connectFile(p.File, p.FD); err != nil {
			return err
		}
	}
	return nil
}

func (pl *Plan) openStream(n int) error {
	s := pl.Streams[n]
	if n == command.Stderr && command.SameTarget(s, pl.Streams[command.Stdout]) {
		s = command.Stream{Kind: command.StreamMerge}
	}
	switch s.Kind {
	case command.StreamDefault, command.StreamNull:
		pl.fds.null[n] = true
	case command.StreamInherit:
		pl.connect(n, n)
	case command.StreamFile:
		return pl.connectFile(s.Value.(*os.File), n)
	case command.StreamData:
		return pl.openData(n, n, s.Value.([]byte))
	case command.StreamString, command.StreamBytes, command.StreamTail:
		fd, err := pl.openPipe(n, false)
		if err != nil {
			return err
		}
		pl.Jobs = append(pl.Jobs, transfer.Job{FD: fd, Stream: n, Out: transfer.Capture{Tail: s.Kind == command.StreamTail}})
	case command.StreamReader, command.StreamWriter:
		f, err := pl.openFile(n)
		if err != nil {
			return err
		}
		cp := &transfer.Copier{Transfer: transfer.Transfer{File: f, Done: make(chan struct{})}, Stream: n}
		cp.Reader, _ = s.Value.(io.Reader)
		if n != command.Stdin {
			cp.Reader, cp.Writer = nil, s.Value.(io.Writer)
		}
		pl.Copiers = append(pl.Copiers, cp)
	case command.StreamPipe:
		f, err := pl.openFile(n)
		if err != nil {
			return err
		}
		pl.Pipes[n] = f
	case command.StreamTTY:
		pl.connect(pl.PTYEnd, n)
	case command.StreamMerge:
		pl.mergeStderr()
	}
	return nil
}

// connect puts the descriptor fd of the parent under the number to of
// the child.
func (pl *Plan) connect(fd, to int) { pl.fds.moves = append(pl.fds.moves, move{fd, to}) }

// connectFile puts a file of the caller's under the number to of the child.
// Like os/exec, it makes the file blocking where package os has made it
// non-blocking. That is a property of the file and not of the descriptor, and
// programs do not expect it. Not so a socket to listen on, which the parent
// may use at the same time: to close a blocking one waits until an Accept of it
// has returned.
func (pl *Plan) connectFile(f *os.File, to int) error {
	fd := descriptor.Of(f)
	if !pl.Command.ListensOn(to) {
		fd = int(f.Fd())
	}
	if fd < 0 {
		return command.ErrClosedFile(pl.Path, f, to)
	}
	pl.connect(fd, to)
	return nil
}

// openPipe connects number to of the child with a pipe and returns the parent's
// end, which does not block.
func (pl *Plan) openPipe(to int, childReads bool) (int, error) {
	parent, child, err := descriptor.Low.Pipe(childReads)
	if err != nil {
		return -1, pl.Failed(err)
	}
	descriptor.SetNonblock(parent)
	pl.childEnds = append(pl.childEnds, child)
	pl.connect(child, to)
	return parent, nil
}

// openFile is openPipe with an end for Go's poller.
func (pl *Plan) openFile(n int) (transfer.Pipe, error) {
	fd, err := pl.openPipe(n, n == command.Stdin)
	if err != nil {
		return transfer.Pipe{}, err
	}
	return transfer.NewPipe(fd, command.StreamNames[n]), nil
}

// openData connects number to of the child with a pipe from which it
// reads data.
func (pl *Plan) openData(n, to int, data []byte) error {
	fd, err := pl.openPipe(to, true)
	if err != nil {
		return err
	}
	last := len(pl.Jobs)
	pl.Jobs = append(pl.Jobs, transfer.Job{FD: fd, Stream: n, Write: true, Data: data})
	// What fits into the pipe needs no one to wait with it.
	if j := &pl.Jobs[last]; len(data) == 0 || j.Step() == transfer.Finished {
		j.Close()
		pl.Jobs = pl.Jobs[:last]
	}
	return nil
}

// mergeStderr sends standard error where standard output goes.
func (pl *Plan) mergeStderr() {
	if pl.fds.null[command.Stdout] {
		pl.fds.null[command.Stderr] = true
		return
	}
	for _, m := range pl.fds.moves {
		if m.to == command.Stdout {
			pl.connect(m.from, command.Stderr)
			return
		}
	}
}
