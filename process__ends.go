package spawn

import "io"

// pipeEnd is a pipe's end in the caller's hands.
type pipeEnd struct {
	pipeFile
	stop func() bool // ends the watch of the context for this pipe; nil without
}

// Read reads, and ends the watch at the end of the file.
func (e *pipeEnd) Read(b []byte) (int, error) {
	n, err := e.pipeFile.Read(b)
	if err != nil {
		e.unwatch()
	}
	return n, err
}

// Close closes the end.
func (e *pipeEnd) Close() error {
	e.unwatch()
	return e.File.Close()
}

func (e *pipeEnd) unwatch() {
	if e.stop != nil {
		e.stop()
	}
}

// writer returns the end for the caller to write to.
func (e *pipeEnd) writer() io.WriteCloser {
	if e.await != nil {
		return onlyWriter{e}
	}
	return e
}

// reader returns the end for the caller to read from.
func (e *pipeEnd) reader() io.ReadCloser {
	if e.await != nil {
		return onlyReader{e}
	}
	return e
}
