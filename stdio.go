package spawn

import (
	"io"
	"os"

	"github.com/virspawn/spawn/internal/command"
)

// SetInput makes the program read data, of any size, and then the end of the file, as its standard input. A program that
// does not read it all is no error. The data must not change while the command runs.
// (virCommandSetInputBuffer)
func (c *Command) SetInput(data []byte) *Command {
	c.want.Streams[command.Stdin] = command.Stream{Kind: command.StreamData, Value: data}
	return c
}

// SetStdin makes the program read from r as its standard input. An [*os.File] is handed over as it is, without a copy
// in between, and stays the caller's. Any other reader is copied through a pipe until its end or until the
// program has ended. A Read that still blocks then is waited for only shortly, and left behind. Nil, like the
// default, is /dev/null. (virCommandSetInputFD)
func (c *Command) SetStdin(r io.Reader) *Command {
	switch r := r.(type) {
	case nil:
		c.want.Streams[command.Stdin] = command.Stream{Kind: command.StreamNull}
	case *os.File:
		c.setFile(command.Stdin, "SetStdin", r)
	default:
		c.want.Streams[command.Stdin] = command.Stream{Kind: command.StreamReader, Value: r}
	}
	return c
}

// SetStdout makes the program write its standard output to w. An [*os.File] is handed over as it is and stays the
// caller's. Any other writer gets a copy through a pipe, in a goroutine; when its Write fails, the pipe is closed
// and the running call returns an [*ExitError] that wraps that error. If the same writer is given for both outputs, at most one goroutine at
// a time writes to it. Nil, like the default, is /dev/null. (virCommandSetOutputFD)
func (c *Command) SetStdout(w io.Writer) *Command { return c.setWriter(command.Stdout, "SetStdout", w) }

// SetStderr makes the program write its standard error to w; all else is as for [Command.SetStdout]. With nil not even
// [Command.Run] keeps the end for the error, which makes it a little faster.
// (virCommandSetErrorFD)
func (c *Command) SetStderr(w io.Writer) *Command { return c.setWriter(command.Stderr, "SetStderr", w) }

func (c *Command) setWriter(n int, method string, w io.Writer) *Command {
	switch w := w.(type) {
	case nil:
		c.want.Streams[n] = command.Stream{Kind: command.StreamNull}
	case *os.File:
		c.setFile(n, method, w)
	default:
		c.want.Streams[n] = command.Stream{Kind: command.StreamWriter, Value: w}
	}
	return c
}

func (c *Command) setFile(n int, method string, f *os.File) {
	if f == nil {
		c.fail(method, "the file is nil")
	}
	c.want.Streams[n] = command.Stream{Kind: command.StreamFile, Value: f}
}

// SetOutputBuffer empties *s now, and sets it to all of the program's standard output when the running call returns
// or [Process.Wait] does, also when that is nothing and also when the call fails. Given the same string as
// [Command.SetErrorBuffer], both outputs go to it in the order of their writing. (virCommandSetOutputBuffer)
func (c *Command) SetOutputBuffer(s *string) *Command {
	return c.setBuffer(command.Stdout, "SetOutputBuffer", s)
}

// SetErrorBuffer does for standard error what [Command.SetOutputBuffer] does for standard output.
// (virCommandSetErrorBuffer)
func (c *Command) SetErrorBuffer(s *string) *Command {
	return c.setBuffer(command.Stderr, "SetErrorBuffer", s)
}

func (c *Command) setBuffer(n int, method string, s *string) *Command {
	if s == nil {
		c.fail(method, "the string pointer is nil")
		return c
	}
	*s = ""
	c.want.Streams[n] = command.Stream{Kind: command.StreamString, Value: s}
	return c
}

// MergeStderr sends the program's standard error where its standard output goes, in the order of the writing.
func (c *Command) MergeStderr() *Command {
	c.want.Streams[command.Stderr] = command.Stream{Kind: command.StreamMerge}
	return c
}

// InheritStdio gives the program this process's standard input, output and error. If one of them is closed here, the program is
// not started.
func (c *Command) InheritStdio() *Command {
	for n := range c.want.Streams {
		c.want.Streams[n] = command.Stream{Kind: command.StreamInherit}
	}
	return c
}

// PipeStdin makes the program's standard input a pipe, whose other end is [Process.Stdin], which the caller closes. It is for [Command.Start]; for
// all other running calls it is an error. (virCommandSetInputFD with a pipe)
func (c *Command) PipeStdin() *Command { return c.setPipe(command.Stdin) }

// PipeStdout makes the program's standard output a pipe, whose other end is [Process.Stdout], which the caller closes. It is for [Command.Start];
// for all other running calls it is an error. (virCommandSetOutputFD with -1)
func (c *Command) PipeStdout() *Command { return c.setPipe(command.Stdout) }

// PipeStderr makes the program's standard error a pipe, whose other end is [Process.Stderr], which the caller closes. It is for [Command.Start];
// for all other running calls it is an error. (virCommandSetErrorFD with -1)
func (c *Command) PipeStderr() *Command { return c.setPipe(command.Stderr) }

func (c *Command) setPipe(n int) *Command {
	c.want.Streams[n] = command.Stream{Kind: command.StreamPipe}
	return c
}

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
	c.want.Attributes.PTY, c.want.Session = &command.PTYSize{Rows: rows, Cols: cols}, true
	return c
}

// SetControllingTTY makes the child the leader of a new session, as [Command.SetSession], whose controlling terminal is tty. The caller
// keeps tty open until the command has been started, and closes it. The program gets no descriptor of it by that; see
// [Command.SetStdin] and its like. A terminal that is another session's is an EPERM of the start. For a new one there is [Command.SetPTY].
// (TIOCSCTTY in ioctl_tty(2), [syscall.SysProcAttr].Setctty, systemd's TTYPath=)
func (c *Command) SetControllingTTY(tty *os.File) *Command {
	if tty == nil {
		c.fail("SetControllingTTY", "the file is nil")
	}
	c.want.Attributes.TTY, c.want.Session = tty, true
	return c
}
