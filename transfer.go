package spawn

import (
	"io"
	"time"
)

// pipeWait is how long a pipe is waited for once both the child and its context have ended, and a reader of the caller's once the child has
// ended.
const pipeWait = 250 * time.Millisecond

// callersReader keeps the error of a reader.
type callersReader struct {
	io.Reader
	err error
}

func (r *callersReader) Read(b []byte) (int, error) {
	n, err := r.Reader.Read(b)
	if err != io.EOF {
		r.err = err
	}
	return n, err
}

// callersWriter keeps the error of a writer.
type callersWriter struct {
	io.Writer
	err error
}

func (w *callersWriter) Write(b []byte) (int, error) {
	n, err := w.Writer.Write(b)
	if err == nil && n < len(b) {
		err = io.ErrShortWrite
	}
	w.err = err
	return n, err
}
