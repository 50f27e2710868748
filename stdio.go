package spawn

import (
	"io"
	"os"
	"strconv"
	"syscall"
)

// The standard streams, by descriptor.
const (
	stdin = iota
	stdout
	stderr
)

var streamNames = [...]string{"stdin", "stdout", "stderr"}

// stream says what a standard stream of the child is connected to.
type stream struct {
	kind streamKind
	v    any // *os.File, []byte, *string, io.Reader or io.Writer, by kind
}

type streamKind uint8

const (
	streamDefault streamKind = iota // /dev/null, but see keepTail
	streamNull                      // /dev/null, as asked for
	streamInherit                   // this process's own
	streamFile                      // *os.File, handed over as it is
	streamData                      // []byte to be read by the child
	streamReader                    // io.Reader, copied to the child
	streamWriter                    // io.Writer, copied from the child
	streamString                    // *string, set at the end
	streamBytes                     // *[]byte, set at the end; for Output
	streamPipe                      // an end on the Process
	streamMerge                     // stderr only: the same as stdout
	streamTail                      // stderr only: the end is kept for the error
	streamTTY                       // the terminal of SetPTY
)

// SetInput makes the program read data, of any size, and then the end of the file, as its standard input. A program that
// does not read it all is no error. The data must not change while the command runs.
// (virCommandSetInputBuffer)
func (c *Command) SetInput(data []byte) *Command {
	c.streams[stdin] = stream{streamData, data}
	return c
}

// SetStdin makes the program read from r as its standard input. An [*os.File] is handed over as it is, without a copy
// in between, and stays the caller's. Any other reader is copied through a pipe until its end or until the
// program has ended. A Read that still blocks then is waited for only shortly, and left behind. Nil, like the
// default, is /dev/null. (virCommandSetInputFD)
func (c *Command) SetStdin(r io.Reader) *Command {
	switch r := r.(type) {
	case nil:
		c.streams[stdin] = stream{kind: streamNull}
	case *os.File:
		c.setFile(stdin, "SetStdin", r)
	default:
		c.streams[stdin] = stream{streamReader, r}
	}
	return c
}

// SetStdout makes the program write its standard output to w. An [*os.File] is handed over as it is and stays the
// caller's. Any other writer gets a copy through a pipe, in a goroutine; when its Write fails, the pipe is closed
// and the running call returns an [*ExitError] that wraps that error. If the same writer is given for both outputs, at most one goroutine at
// a time writes to it. Nil, like the default, is /dev/null. (virCommandSetOutputFD)
func (c *Command) SetStdout(w io.Writer) *Command { return c.setWriter(stdout, "SetStdout", w) }

// SetStderr makes the program write its standard error to w; all else is as for [Command.SetStdout]. With nil not even
// [Command.Run] keeps the end for the error, which makes it a little faster.
// (virCommandSetErrorFD)
func (c *Command) SetStderr(w io.Writer) *Command { return c.setWriter(stderr, "SetStderr", w) }

func (c *Command) setWriter(n int, method string, w io.Writer) *Command {
	switch w := w.(type) {
	case nil:
		c.streams[n] = stream{kind: streamNull}
	case *os.File:
		c.setFile(n, method, w)
	default:
		c.streams[n] = stream{streamWriter, w}
	}
	return c
}

func (c *Command) setFile(n int, method string, f *os.File) {
	if f == nil {
		c.fail(method, "the file is nil")
	}
	c.streams[n] = stream{streamFile, f}
}

// SetOutputBuffer empties *s now, and sets it to all of the program's standard output when the running call returns
// or [Process.Wait] does, also when that is nothing and also when the call fails. Given the same string as
// [Command.SetErrorBuffer], both outputs go to it in the order of their writing. (virCommandSetOutputBuffer)
func (c *Command) SetOutputBuffer(s *string) *Command {
	return c.setBuffer(stdout, "SetOutputBuffer", s)
}

// SetErrorBuffer does for standard error what [Command.SetOutputBuffer] does for standard output.
// (virCommandSetErrorBuffer)
func (c *Command) SetErrorBuffer(s *string) *Command {
	return c.setBuffer(stderr, "SetErrorBuffer", s)
}

func (c *Command) setBuffer(n int, method string, s *string) *Command {
	if s == nil {
		c.fail(method, "the string pointer is nil")
		return c
	}
	*s = ""
	c.streams[n] = stream{streamString, s}
	return c
}

// MergeStderr sends the program's standard error where its standard output goes, in the order of the writing.
func (c *Command) MergeStderr() *Command {
	c.streams[stderr] = stream{kind: streamMerge}
	return c
}

// InheritStdio gives the program this process's standard input, output and error. If one of them is closed here, the program is
// not started.
func (c *Command) InheritStdio() *Command {
	for n := range c.streams {
		c.streams[n] = stream{kind: streamInherit}
	}
	return c
}

// PipeStdin makes the program's standard input a pipe, whose other end is [Process.Stdin], which the caller closes. It is for [Command.Start]; for
// all other running calls it is an error. (virCommandSetInputFD with a pipe)
func (c *Command) PipeStdin() *Command { return c.setPipe(stdin) }

// PipeStdout makes the program's standard output a pipe, whose other end is [Process.Stdout], which the caller closes. It is for [Command.Start];
// for all other running calls it is an error. (virCommandSetOutputFD with -1)
func (c *Command) PipeStdout() *Command { return c.setPipe(stdout) }

// PipeStderr makes the program's standard error a pipe, whose other end is [Process.Stderr], which the caller closes. It is for [Command.Start];
// for all other running calls it is an error. (virCommandSetErrorFD with -1)
func (c *Command) PipeStderr() *Command { return c.setPipe(stderr) }

func (c *Command) setPipe(n int) *Command {
	c.streams[n] = stream{kind: streamPipe}
	return c
}

// errClosedFile is the error for a file that is closed when its command is to run.
func errClosedFile(path string, f *os.File, to int) error {
	return &StartError{
		Op:   "descriptor " + strconv.Itoa(to),
		Path: path,
		Err:  &os.PathError{Op: "pass", Path: f.Name(), Err: os.ErrClosed},
	}
}

// errClosedStream is the error for a standard stream of this process's that it has closed.
func errClosedStream(path string, n int) error {
	return &StartError{Op: "inherit " + streamNames[n], Path: path, Err: syscall.EBADF}
}

// empty empties the strings that the streams are captured in.
func empty(streams [3]stream) {
	for _, s := range streams {
		if v, ok := s.v.(*string); ok {
			*v = ""
		}
	}
}

// setCaptured sets the variable of a captured stream.
func (s stream) setCaptured(out *capture) {
	switch v := s.v.(type) {
	case *string:
		*v = out.string()
	case *[]byte:
		*v = out.bytes()
	}
}

// sameTarget reports whether both outputs go to the same writer or variable.
func sameTarget(a, b stream) (same bool) {
	if a.kind != b.kind || (a.kind != streamWriter && a.kind != streamString && a.kind != streamBytes) {
		return false
	}
	// Writers of a type that cannot be compared are different ones.
	defer func() { _ = recover() }()
	return a.v == b.v
}
