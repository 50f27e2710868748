// Package transfer moves bytes between the parent and a program: pipe ends,
// captures and copiers. It knows nothing of commands.
// Only plan, run, dry, process and the tests import it.
package transfer

import (
	"errors"
	"io"
	"os"
	"syscall"
	"time"
)

// PipeWait is how long a pipe is waited for once both the child and its context
// have ended, and a reader of the caller's once the child has ended.
const PipeWait = 250 * time.Millisecond

// Pipe is the parent's end of a pipe. Go's poller waits for it; where that
// has taken no more files (epoll_ctl(2)) reads and writes of the file itself
// fail with EAGAIN, and wait by Await.
type Pipe struct {
	*os.File
	// Await waits a moment, or says why there is no more to wait for; nil on
	// the poller.
	Await func(f *os.File, write bool) error
}

// Read is File.Read.
func (f *Pipe) Read(b []byte) (int, error) {
	for {
		n, err := f.File.Read(b)
		if f.Await == nil || !errors.Is(err, syscall.EAGAIN) {
			return n, err
		}
		if err := f.Await(f.File, false); err != nil {
			return n, err
		}
	}
}

// Write is File.Write.
func (f *Pipe) Write(b []byte) (written int, err error) {
	for {
		n, err := f.File.Write(b[written:])
		written += n
		if f.Await == nil || !errors.Is(err, syscall.EAGAIN) {
			return written, err
		}
		if err := f.Await(f.File, true); err != nil {
			return written, err
		}
	}
}

// OnlyReader and OnlyWriter have no methods but these. A file has more, by
// which io.Copy and others read and write, and those do not wait.
type (
	OnlyReader struct{ io.ReadCloser }
	OnlyWriter struct{ io.WriteCloser }
)

// Reader keeps the error of a reader.
type Reader struct {
	io.Reader
	Err error
}

// Read reads, and keeps the error unless it is the end of the file.
func (r *Reader) Read(b []byte) (int, error) {
	n, err := r.Reader.Read(b)
	if err != io.EOF {
		r.Err = err
	}
	return n, err
}

// Writer keeps the error of a writer.
type Writer struct {
	io.Writer
	err error
}

// Write writes, and keeps the error.
func (w *Writer) Write(b []byte) (int, error) {
	n, err := w.Writer.Write(b)
	if err == nil && n < len(b) {
		err = io.ErrShortWrite
	}
	w.err = err
	return n, err
}
