package spawn

import (
	"io"
	"os"

	"github.com/virspawn/spawn/internal/command"
)

// SetInput makes the program read data, of any size, and then the end of the
// file, as its standard input.
//
// A program that does not read it all is not an error. The data must not change
// while the command runs. [Command.Exec] and [Command.Daemonize] take no more
// than a pipe holds (64 KiB).
//
// Like virCommandSetInputBuffer.
func (c *Command) SetInput(data []byte) *Command {
	c.want.Streams[command.Stdin] = command.Stream{Kind: command.StreamData, Value: data}
	return c
}

// SetStdin makes the program read from r as its standard input. The default,
// and nil, is /dev/null.
//
// An [*os.File] is handed over as it is, without a copy in between. It stays
// the caller's.
//
// Any other reader is copied through a pipe until its end or until the program
// has ended. If a Read still blocks then, it is awaited only for a moment, and
// left behind.
//
// Like virCommandSetInputFD.
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

// SetStdout makes the program write its standard output to w. The default, and
// nil, is /dev/null.
//
// An [*os.File] is handed over as it is. It stays the caller's.
//
// Any other writer gets a copy through a pipe, in a goroutine. If its Write
// fails, the pipe is closed, and the running call returns an [*ExitError] that
// wraps that error. If both outputs have the same writer, at most one goroutine
// at a time writes to it.
//
// Like virCommandSetOutputFD.
func (c *Command) SetStdout(w io.Writer) *Command { return c.setWriter(command.Stdout, "SetStdout", w) }

// SetStderr makes the program write its standard error to w. An [*os.File], any
// other writer, and nil are as for [Command.SetStdout].
//
// By default [Command.Run] and the calls like it keep the end for the error,
// and [Command.Start] directs it to /dev/null. With nil, not even Run keeps it,
// which makes it a little faster.
//
// Like virCommandSetErrorFD.
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

// SetOutputBuffer sets *s to all of the program's standard output. It empties
// *s now, and sets it when the running call, or [Process.Wait], returns. It
// does so also if there is no output, and also if the call fails.
//
// If [Command.SetErrorBuffer] has the same string, both outputs go to it in the
// order in which they were written.
//
// Like virCommandSetOutputBuffer.
func (c *Command) SetOutputBuffer(s *string) *Command {
	return c.setBuffer(command.Stdout, "SetOutputBuffer", s)
}

// SetErrorBuffer does for standard error what [Command.SetOutputBuffer] does
// for standard output.
//
// Like virCommandSetErrorBuffer.
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

// MergeStderr sends the program's standard error where its standard output
// goes, in the order in which they were written.
func (c *Command) MergeStderr() *Command {
	c.want.Streams[command.Stderr] = command.Stream{Kind: command.StreamMerge}
	return c
}

// InheritStdio gives the program the parent's standard input, output and error.
//
// If the parent has closed one of them, the program is not started.
//
// If they are the parent's terminal, the program shares it, also as another
// user ([Command.SetUID]). It can read what is typed there and, where the
// kernel allows TIOCSTI, type into it: a shell that waits there would run that
// as its own user. With [Command.SetSession] the terminal does not control the
// program, which then needs CAP_SYS_ADMIN for TIOCSTI. [Command.SetPTY] gives
// it a terminal of its own.
//
// See TIOCSTI in ioctl_tty(2).
func (c *Command) InheritStdio() *Command {
	for n := range c.want.Streams {
		c.want.Streams[n] = command.Stream{Kind: command.StreamInherit}
	}
	return c
}

// PipeStdin makes the program's standard input a pipe. Its other end is
// [Process.Stdin], which the caller closes.
//
// It is for [Command.Start]; all other running calls return an error.
//
// Like virCommandSetInputFD with a pipe.
func (c *Command) PipeStdin() *Command { return c.setPipe(command.Stdin) }

// PipeStdout makes the program's standard output a pipe. Its other end is
// [Process.Stdout], which the caller closes.
//
// It is for [Command.Start]; all other running calls return an error.
//
// Like virCommandSetOutputFD with -1.
func (c *Command) PipeStdout() *Command { return c.setPipe(command.Stdout) }

// PipeStderr makes the program's standard error a pipe. Its other end is
// [Process.Stderr], which the caller closes.
//
// It is for [Command.Start]; all other running calls return an error.
//
// Like virCommandSetErrorFD with -1.
func (c *Command) PipeStderr() *Command { return c.setPipe(command.Stderr) }

func (c *Command) setPipe(n int) *Command {
	c.want.Streams[n] = command.Stream{Kind: command.StreamPipe}
	return c
}

// SetPTY gives the program a new pseudo-terminal of this size, in characters,
// as if a user sat at it. With 0, 0 the size is unknown; most programs then
// take it for 24, 80.
//
// The child is the leader of a new session, as by [Command.SetSession], and the
// terminal is its controlling one. The terminal is also each standard stream
// about which nothing else is said.
//
// [Process.PTY] is the other end, and [Process.Resize] changes the size. The
// running call must be [Command.Start]. All others refuse it, [Command.Exec]
// too, and so do [Command.Daemonize] and [Command.SetControllingTTY].
//
// The terminal starts as every new one. It echoes, edits lines, turns ^C and ^\
// into signals, and turns each "\n" that the program writes into "\r\n". Jobs
// of a shell have process groups of their own: [KillTree] finds those too,
// [KillGroup] does not.
//
// With [Command.SetUID] or [Command.SetUser], the terminal's file in /dev/pts
// belongs to that user, as login(1) has it. So the program can open it by name.
// For that the parent needs CAP_CHOWN, or the start fails with EPERM. After
// [Command.JoinNamespace] of a user namespace the file still belongs to the
// parent's user. The program has the terminal without /dev/pts and /dev/tty as
// well, in another root for example.
//
// If there is no terminal to be had, the start fails. The error is ENOENT
// without /dev/ptmx, and ENOSPC when there are too many.
//
// Like forkpty(3) and systemd's TTYPath=, TTYRows= and TTYColumns=; see pty(7),
// and TIOCGPTPEER, Linux 4.13, and TIOCSCTTY in ioctl_tty(2).
func (c *Command) SetPTY(rows, cols uint16) *Command {
	c.want.Attributes.PTY, c.want.Session = &command.PTYSize{Rows: rows, Cols: cols}, true
	return c
}

// SetControllingTTY makes the child the leader of a new session, as
// [Command.SetSession], and tty its controlling terminal. For a new terminal
// there is [Command.SetPTY].
//
// The caller keeps tty open until the command has been started, and closes it.
// The program gets no descriptor of it by this call; see [Command.SetStdin],
// [Command.SetStdout] and [Command.SetStderr].
//
// If the terminal belongs to another session, the start fails with EPERM.
// A program file that is being written is not tried again (ETXTBSY), because
// the end of a session may hang up its terminal.
//
// Like [syscall.SysProcAttr].Setctty and systemd's TTYPath=; see TIOCSCTTY in
// ioctl_tty(2).
func (c *Command) SetControllingTTY(tty *os.File) *Command {
	if tty == nil {
		c.fail("SetControllingTTY", "the file is nil")
	}
	c.want.Attributes.TTY, c.want.Session = tty, true
	return c
}
