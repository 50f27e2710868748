package dry

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/virspawn/spawn/internal/command"
	"github.com/virspawn/spawn/internal/process"
	"github.com/virspawn/spawn/internal/transfer"
)

// dryInput is the standard input of a dry run.
type dryInput struct {
	d      *Program
	data   bytes.Reader // where there is no source
	source io.Reader
	pipe   *os.File // the source, where that is ours
	// The source, where that is a reader of the caller's.
	callers transfer.Reader
	chunks  chan []byte // from the source
	rest    []byte
	// Closed when nothing is read from the source any more.
	done chan struct{}

	mu      sync.Mutex
	pumping bool
}

// Read reads from the source by way of a goroutine, which may be left behind in
// a Read of the caller's when the program is ended.
func (in *dryInput) Read(b []byte) (int, error) {
	if in.source == nil {
		return in.data.Read(b)
	}
	in.d.start()
	in.startPump(false)
	if len(in.rest) == 0 {
		select {
		case <-in.d.killed:
			return 0, io.EOF
		case <-in.d.over:
			return 0, io.EOF
		case chunk, ok := <-in.chunks:
			if !ok {
				return 0, io.EOF
			}
			in.rest = chunk
		}
	}
	n := copy(b, in.rest)
	in.rest = in.rest[n:]
	return n, nil
}

// startPump starts to read from the source, if nothing does. When the program
// has ended, it is only to be emptied.
func (in *dryInput) startPump(empty bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if !in.pumping && process.IsClosed(in.d.over) == empty {
		in.pumping = true
		go in.pump()
	}
}

// pump reads from the source.
func (in *dryInput) pump() {
	defer close(in.done)
	defer close(in.chunks)
	if in.pipe != nil {
		defer in.pipe.Close()
	}
	for in.pipe != nil || !process.IsClosed(in.d.over) {
		b := make([]byte, transfer.TailSize)
		n, err := in.source.Read(b)
		if n > 0 {
			select {
			case in.chunks <- b[:n]:
			case <-in.d.over:
			}
		}
		if err != nil {
			return
		}
	}
}

// end is called when the program has ended. It returns the error of the
// caller's reader.
func (in *dryInput) end() error {
	if in.pipe != nil {
		in.startPump(true) // or who writes to it finds that nobody reads
		return nil
	}
	in.mu.Lock()
	pumping := in.pumping
	in.mu.Unlock()
	if !pumping {
		return nil
	}
	timer := time.NewTimer(transfer.PipeWait)
	defer timer.Stop()
	select {
	case <-in.done:
		return in.callers.Err
	case <-timer.C:
		return nil
	}
}

// dryOutput is an output of a dry run.
type dryOutput struct {
	d        *Program
	w        io.Writer       // nil where it is captured or goes nowhere
	pipe     *os.File        // the writer, where that is ours
	callers  transfer.Writer // the writer, where that is one of the caller's
	captured bool
	out      transfer.Capture

	lock   chan struct{} // holds a value while somebody writes
	failed bool
	err    error // to be reported
}

// write writes s as far as that goes until the program has ended.
func (o *dryOutput) write(s string) {
	for s != "" {
		o.lock <- struct{}{}
		n := 0
		if !o.failed && !process.IsClosed(o.d.killed) && !process.IsClosed(o.d.over) {
			n = o.writeSome(s)
		}
		<-o.lock
		if n == 0 {
			return
		}
		s = s[n:]
	}
}

// writeSome writes the beginning of s, and returns how much of it.
func (o *dryOutput) writeSome(s string) int {
	switch {
	case o.captured:
		n := copy(o.out.Room(), s)
		o.out.Add(n)
		return n
	case o.w == nil:
		return len(s)
	}
	b := []byte(s[:min(len(s), transfer.TailSize)])
	if _, err := o.w.Write(b); err != nil {
		o.fail(err)
	}
	return len(b)
}

// fail takes the error of a writer. A pipe that nobody reads gives the program
// a signal.
func (o *dryOutput) fail(err error) {
	o.failed = true
	ours := o.w != io.Writer(&o.callers)
	switch {
	case o.pipe != nil && errors.Is(err, os.ErrClosed):
		// This is because the program has ended.
	case o.pipe != nil || ours && errors.Is(err, syscall.EPIPE):
		_ = o.d.p.Signal(syscall.SIGPIPE) // it may have ended
	default:
		o.err = err
	}
}

// join waits for who writes, but once ended is closed only for
// transfer.PipeWait more. It reports whether there is nobody any more.
func (o *dryOutput) join(ended <-chan struct{}) bool {
	var timeout <-chan time.Time
	for {
		select {
		case o.lock <- struct{}{}:
			<-o.lock // whoever comes now finds that the program has ended
			return true
		case <-ended:
			timer := time.NewTimer(transfer.PipeWait)
			defer timer.Stop()
			ended, timeout = nil, timer.C
		case <-timeout:
			return false
		}
	}
}

// write writes to both outputs: one after the other, but at the same time where
// somebody may read them in the other order. What is written last ends the
// outputs, as far as they are pipes.
func (d *Program) write(out, errs string, last bool) {
	write := func(o *dryOutput, s string) {
		o.write(s)
		if last && o.pipe != nil {
			o.pipe.Close()
		}
	}
	o, e := d.outputs[command.Stdout], d.outputs[command.Stderr]
	switch k := d.Streams[command.Stderr].Kind; {
	case o == e:
		write(o, out+errs)
	case k == command.StreamPipe || k == command.StreamWriter:
		var other sync.WaitGroup
		other.Add(1)
		go func() {
			defer other.Done()
			write(e, errs)
		}()
		write(o, out)
		other.Wait()
	default:
		write(o, out)
		write(e, errs)
	}
}

// endTransfers ends all transfers of a program that has ended. It reports
// whether an output was given up on, because the context had ended, and returns
// the first error of a reader or writer.
func (d *Program) endTransfers() (cut bool, err error) {
	err = d.wrap(command.Stdin, d.Input.end())
	if d.screen != nil { // to which no stream may go
		d.screen.pipe.Close()
	}
	for n := command.Stdout; n <= command.Stderr; n++ {
		o := d.outputs[n]
		if n == command.Stderr && o == d.outputs[command.Stdout] {
			break
		}
		if o.pipe != nil {
			o.pipe.Close()
		}
		switch {
		case !o.join(d.p.Ended):
			cut = true
		case err == nil:
			err = d.wrap(n, o.err)
		}
	}
	return cut, err
}

// wrap says to which stream an error belongs.
func (d *Program) wrap(n int, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", command.StreamNames[n], err)
}

// takeOutput sets what was captured and returns the end of standard error,
// where that is kept.
func (d *Program) takeOutput() (tail []byte) {
	for n := command.Stdout; n <= command.Stderr; n++ {
		o := d.outputs[n]
		if !o.captured || n == command.Stderr && o == d.outputs[command.Stdout] {
			continue
		}
		o.out.Assign(d.Streams[n].Value)
		if n == command.Stderr {
			tail = o.out.Last()
		}
		o.out.Free()
	}
	return tail
}
