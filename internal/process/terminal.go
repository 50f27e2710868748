package process

import (
	"bytes"
	"errors"
	"io"
	"os"
	"syscall"
	"time"

	"github.com/virspawn/spawn/internal/descriptor"
	"github.com/virspawn/spawn/internal/transfer"
)

// Terminal is the parent's end of a pseudo-terminal in the caller's hands.
type Terminal struct {
	// In and Out are one file; in a dry run they are ends of two pipes, and In
	// may have none.
	In, Out transfer.Pipe
	Stop    func() bool     // ends the watch of the context; nil without
	Done    <-chan struct{} // closed when the program has ended
	Dry     *Process        // nil for a child
}

// Read reads what was written to the terminal. When nobody has it open any
// more, the kernel says EIO. It may say so a moment before it has moved what
// was written last to where it is read. A second try then finds that, and
// nothing is written any more.
func (t *Terminal) Read(b []byte) (int, error) {
	n, err := t.Out.Read(b)
	if errors.Is(err, syscall.EIO) {
		n, err = t.Out.Read(b)
	}
	if errors.Is(err, syscall.EIO) {
		err = io.EOF
	}
	if err != nil {
		t.unwatch()
	}
	return n, err
}

// endOfFile is what a user types for it: ^D.
const endOfFile = 4

// Write types b.
func (t *Terminal) Write(b []byte) (int, error) {
	switch {
	case descriptor.Of(t.Out.File) < 0:
		return 0, t.failed("write", os.ErrClosed)
	case IsClosed(t.Done):
		return 0, t.failed("write", syscall.EIO)
	case t.Dry == nil:
		n, err := t.In.Write(b)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			err = t.failed("write", syscall.EIO)
		}
		return n, err
	}
	typed, _, ended := bytes.Cut(b, []byte{endOfFile})
	if t.In.File != nil {
		_, _ = t.In.Write(typed) // nobody may read it, any more or at all
		if ended {
			t.In.Close()
		}
	}
	return len(b), nil
}

// Close hangs up.
func (t *Terminal) Close() error {
	t.unwatch()
	if t.Dry != nil && descriptor.Of(t.Out.File) >= 0 {
		_ = t.Dry.Signal(syscall.SIGHUP) // it may have ended
		if t.In.File != nil {
			t.In.Close()
		}
	}
	return t.Out.Close()
}

// SyscallConn is for ioctls.
func (t *Terminal) SyscallConn() (syscall.RawConn, error) { return t.Out.SyscallConn() }

// failed makes an error that names the terminal.
func (t *Terminal) failed(op string, err error) error {
	return &os.PathError{Op: op, Path: t.Out.Name(), Err: err}
}

// ProgramEnded makes every Write fail, also one that waits: nobody may be left
// to read what is typed, and the kernel does not tell.
func (t *Terminal) ProgramEnded() {
	if t != nil {
		_ = t.In.SetWriteDeadline(time.Unix(1, 0)) // it may be closed
	}
}

// unwatch ends the watch of the context.
func (t *Terminal) unwatch() {
	if t.Stop != nil {
		t.Stop()
	}
}

// Resize sets the size of the terminal, in characters. A dry run's has none.
func (t *Terminal) Resize(rows, cols uint16) error {
	conn, err := t.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = conn.Control(func(fd uintptr) {
		if t.Dry == nil {
			failed = descriptor.SetWindowSize(int(fd), rows, cols)
		}
	})
	if err != nil {
		failed = os.ErrClosed
	}
	if failed != nil {
		return t.failed("resize", failed)
	}
	return nil
}
