package process

import (
	"io"

	"github.com/virspawn/spawn/internal/transfer"
)

// End is a pipe's end in the caller's hands.
type End struct {
	transfer.Pipe
	Stop func() bool // ends the watch of the context for this pipe; nil without
}

// Read reads, and ends the watch at the end of the file.
func (e *End) Read(b []byte) (int, error) {
	n, err := e.Pipe.Read(b)
	if err != nil {
		e.unwatch()
	}
	return n, err
}

// Close closes the end.
func (e *End) Close() error {
	e.unwatch()
	return e.File.Close()
}

// unwatch ends the watch of the context.
func (e *End) unwatch() {
	if e.Stop != nil {
		e.Stop()
	}
}

// Writer returns the end for the caller to write to.
func (e *End) Writer() io.WriteCloser {
	if e.Await != nil {
		return transfer.OnlyWriter{WriteCloser: e}
	}
	return e
}

// Reader returns the end for the caller to read from.
func (e *End) Reader() io.ReadCloser {
	if e.Await != nil {
		return transfer.OnlyReader{ReadCloser: e}
	}
	return e
}
