package spawn

import (
	"bytes"
	"errors"
	"io"
	"os"
	"syscall"
	"time"
)

// ptySize is the size of a terminal in characters.
type ptySize struct{ rows, cols uint16 }

// SetPTY gives the program a new pseudo-terminal of this size, in characters, as if a user sat at it: the child is the leader of a new session, as
// by [Command.SetSession], whose controlling terminal it is, and those of its standard streams about which nothing else is said are the
// terminal. 0, 0 is a size that nobody knows; most programs then take it for 24, 80. [Process.PTY] is the other end, and
// [Process.Resize] changes the size. The running call must be [Command.Start]; the others refuse it, [Command.Exec] too, and so do
// [Command.Daemonize] and [Command.SetControllingTTY].
//
// The terminal starts as every new one: it echoes, edits lines, makes signals of ^C and ^\, and "\r\n" of each "\n" that the program
// writes. Jobs of a shell have process groups of their own: [KillTree] finds those too, [KillGroup] does not.
//
// With [Command.SetUID] or [Command.SetUser], the terminal's file in /dev/pts is that user's, as login(1) has it, so that the program can
// open it by name; for that, this process needs CAP_CHOWN, or the start fails with EPERM. After [Command.JoinNamespace] of a user namespace it
// stays this process's user's. The program has the terminal without /dev/pts and /dev/tty as well, in another root for example.
//
// If there is no terminal to be had, the start fails: with ENOENT without /dev/ptmx, with ENOSPC when there are too many.
// (pty(7), TIOCGPTPEER, of Linux 4.13, and TIOCSCTTY in ioctl_tty(2), forkpty(3), systemd's TTYPath=, TTYRows=, TTYColumns=)
func (c *Command) SetPTY(rows, cols uint16) *Command {
	c.attrs.pty, c.session = &ptySize{rows, cols}, true
	return c
}

// onTerminal directs the streams about which nothing is said to the terminal, if there is one.
func (c *Command) onTerminal(streams [3]stream) [3]stream {
	if c.attrs.pty != nil {
		for n := range streams {
			if streams[n].kind == streamDefault {
				streams[n].kind = streamTTY
			}
		}
	}
	return streams
}

// terminal is this process's end of a pseudo-terminal in the caller's hands.
type terminal struct {
	in, out pipeFile        // one file; in a dry run ends of two pipes, and in may have none
	stop    func() bool     // ends the watch of the context; nil without
	done    <-chan struct{} // closed when the program has ended
	dry     *Process        // nil for a child
}

// PTY returns this process's end of the terminal that [Command.SetPTY] asked for, nil without. What is written to it is what the program's
// user types; what the program writes, and the echo, is read from it. A program whose output nobody reads stops after some 10 KB, and a
// Write blocks when the program has left as much unread.
//
// A Read returns [io.EOF] when nobody has the terminal open any more, which is EIO for the kernel, and not before all has been read. Usually
// that is when the program has ended; its foreground process group gets SIGHUP then. What stays in the background keeps the terminal open:
// [Process.Done] tells of the program's end whatever that does. Once the program has ended a Write fails with EIO.
//
// The caller closes it, which hangs up: the program, if it still runs, gets SIGHUP and SIGCONT, and others lose the terminal. So it is when
// this process ends. Once the program has ended and its context too, it is closed after a moment, as [Process.Stdout] is. It can be read,
// written and closed from several goroutines at once. It is a [syscall.Conn], for ioctls that turn off the echo for example.
func (p *Process) PTY() io.ReadWriteCloser {
	if p.pty == nil {
		return nil
	}
	return p.pty
}

// Resize sets the size of the terminal that [Command.SetPTY] asked for, in characters. If that changes it, the terminal's foreground process
// group gets SIGWINCH. After [Process.PTY] was closed, the error is [os.ErrClosed]; for a command without SetPTY there is one too; the end of the
// program is none. (TIOCSWINSZ in ioctl_tty(2))
func (p *Process) Resize(rows, cols uint16) error {
	t := p.pty
	if t == nil {
		return &badCall{"Resize", errors.New("the command has no SetPTY")}
	}
	conn, err := t.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = conn.Control(func(fd uintptr) {
		if t.dry == nil {
			failed = setWindowSize(int(fd), ptySize{rows, cols})
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
		_ = t.dry.Signal(syscall.SIGHUP) // it may have ended
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
