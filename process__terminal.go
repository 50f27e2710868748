package spawn

import (
	"bytes"
	"errors"
	"io"
	"os"
	"syscall"
	"time"
)

// terminal is this process's end of a pseudo-terminal in the caller's hands.
type terminal struct {
	in, out pipeFile        // one file; in a dry run ends of two pipes, and in may have none
	stop    func() bool     // ends the watch of the context; nil without
	done    <-chan struct{} // closed when the program has ended
	dry     *running        // nil for a child
}

// Read reads what was written to the terminal. That nobody has it open any more is EIO for the kernel, which may say so when it has just not
// yet moved what was written last to where it is read: then a second try finds that, and nothing is written any more.
func (t *terminal) Read(b []byte) (int, error) {
	n, err := t.out.Read(b)
	if errors.Is(err, syscall.EIO) {
		n, err = t.out.Read(b)
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
func (t *terminal) Write(b []byte) (int, error) {
	switch {
	case fileNumber(t.out.File) < 0:
		return 0, t.failed("write", os.ErrClosed)
	case isClosed(t.done):
		return 0, t.failed("write", syscall.EIO)
	case t.dry == nil:
		n, err := t.in.Write(b)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			err = t.failed("write", syscall.EIO)
		}
		return n, err
	}
	typed, _, ended := bytes.Cut(b, []byte{endOfFile})
	if t.in.File != nil {
		_, _ = t.in.Write(typed) // nobody may read it, any more or at all
		if ended {
			t.in.Close()
		}
	}
	return len(b), nil
}

// Close hangs up.
func (t *terminal) Close() error {
	t.unwatch()
	if t.dry != nil && fileNumber(t.out.File) >= 0 {
		_ = t.dry.signal(syscall.SIGHUP) // it may have ended
		if t.in.File != nil {
			t.in.Close()
		}
	}
	return t.out.Close()
}

// SyscallConn is for ioctls.
func (t *terminal) SyscallConn() (syscall.RawConn, error) { return t.out.SyscallConn() }

func (t *terminal) failed(op string, err error) error {
	return &os.PathError{Op: op, Path: t.out.Name(), Err: err}
}

// programEnded makes every Write fail, also one that waits: nobody may be left to read what is typed, and the kernel does not tell.
func (t *terminal) programEnded() {
	if t != nil {
		_ = t.in.SetWriteDeadline(time.Unix(1, 0)) // it may be closed
	}
}

func (t *terminal) unwatch() {
	if t.stop != nil {
		t.stop()
	}
}

// resize sets the size of the terminal, in characters. A dry run's has none.
func (t *terminal) resize(rows, cols uint16) error {
	conn, err := t.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = conn.Control(func(fd uintptr) {
		if t.dry == nil {
			failed = setWindowSize(int(fd), rows, cols)
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
