package spawn

import (
	"math"
	"os"
	"strings"

	"github.com/virspawn/spawn/internal/command"
	"github.com/virspawn/spawn/internal/descriptor"
)

// PassFDFlag changes how a descriptor is passed.
type PassFDFlag int

// CloseParent gives the file to the library. The running call closes it in the
// parent when it returns, whether the program was started or not. The command
// can then run only once.
//
// Like VIR_COMMAND_PASS_FD_CLOSE_PARENT.
const CloseParent PassFDFlag = 1

// PassFD passes f to the program under the number that it has in the parent,
// and returns that number. It returns -1 if f is not open.
//
// The file stays the caller's. Keep it open until the running call, or
// [Command.Start], has returned. With [CloseParent] among the flags, that call
// closes it. Passing a file twice is the same as passing it once.
//
// In the child everything else is closed but the three standard streams,
// whatever its close-on-exec flag says.
//
// Like virCommandPassFD.
func (c *Command) PassFD(f *os.File, flags ...PassFDFlag) int {
	fd := descriptor.Of(f)
	if fd < 0 {
		c.fail("PassFD", "the file %s", notOpen(f))
		return -1
	}
	c.pass("PassFD", f, fd, flags)
	return fd
}

// PassFDAs passes f to the program under the number fd, 3 or more. The numbers
// 0, 1 and 2 are the standard streams.
//
// All else is as for [Command.PassFD]. Files can be passed under each
// other's numbers.
func (c *Command) PassFDAs(f *os.File, fd int, flags ...PassFDFlag) *Command {
	if descriptor.Of(f) < 0 {
		c.fail("PassFDAs", "the file %s", notOpen(f))
		return c
	}
	c.pass("PassFDAs", f, fd, flags)
	return c
}

func (c *Command) pass(method string, f *os.File, fd int, flags []PassFDFlag) {
	p := command.PassedFD{FD: fd, File: f}
	for _, flag := range flags {
		if flag != CloseParent {
			c.fail(method, "%#x is not a flag", int(flag))
		}
		p.Close = true
	}
	if fd <= command.Stderr || fd > math.MaxInt32 {
		c.fail(method, "the number %d is not one to pass %s as; 0 to 2 are the standard streams", fd, f.Name())
		return
	}
	for i := range c.want.Passed {
		q := &c.want.Passed[i]
		if q.FD != fd {
			continue
		}
		if q.File == f {
			q.Close = q.Close || p.Close
			return
		}
		c.fail(method, "two descriptors for the number %d: %s and %s", fd, q.Name(), f.Name())
	}
	c.want.Passed = append(c.want.Passed, p)
}

// SetSendBuffer passes the program a further descriptor, from which it reads
// data and then the end of the file. It returns the descriptor's number, to be
// named in an argument. The number is below 1024, and free in the parent now.
// If none is free, it returns -1.
//
// It suits secrets, which then appear neither among the arguments nor in the
// environment.
//
// A program that does not read it all is not an error. The data must not change
// while the command runs. [Command.Exec] and [Command.Daemonize] take no more
// than a pipe holds (64 KiB).
//
// Like virCommandSetSendBuffer.
func (c *Command) SetSendBuffer(data []byte) int {
	// From the top of the smallest usual limit downwards: files that are opened
	// later, and then passed, take low numbers.
	limit := min(1024, descriptor.Limit())
	for fd := limit - 1; fd > command.Stderr; fd-- {
		if !c.want.Passes(fd) && !descriptor.IsOpen(fd) {
			c.want.Passed = append(c.want.Passed, command.PassedFD{FD: fd, Data: data})
			return fd
		}
	}
	c.fail("SetSendBuffer", "no number below %d is free", limit)
	return -1
}

func notOpen(f *os.File) string {
	if f == nil {
		return "is nil"
	}
	return f.Name() + " is closed"
}

// maxListenName is the longest name that sd_listen_fds_with_names(3) knows,
// in bytes.
const maxListenName = 255

// AddListenFD passes a socket as systemd does to a service that it activates:
// as the next descriptor from 3 on.
//
// The program's environment gets LISTEN_FDS, the number of sockets,
// LISTEN_FDNAMES, their names, and LISTEN_PID, the program's own pid. They
// replace variables of these names that the parent has or that were added,
// and LISTEN_PIDFDID is left out. Otherwise the environment is as without
// this call.
//
// A name is up to 255 printable ASCII characters without a colon. An empty one
// is "unknown". A socket can be added twice, under two names. It is an error
// if [Command.PassFD] or [Command.PassFDAs] passes another file under the
// same number.
//
// [net.TCPListener.File] and [net.UnixListener.File] give a file of a
// listener's socket. The file stays the caller's. Keep it open until the
// running call, or [Command.Start], has returned.
//
// The listener is another descriptor of the same socket. The socket is
// non-blocking and stays so for both processes, so that the parent can go on to
// use it. For a program that wants a blocking socket, call [os.File.Fd] before;
// closing the listener then waits for an Accept.
//
// Like systemd's Sockets=, FileDescriptorName= and NonBlocking=; see
// sd_listen_fds(3).
func (c *Command) AddListenFD(f *os.File, name string) *Command {
	const method = "AddListenFD"
	if descriptor.Of(f) < 0 {
		c.fail(method, "the file %s", notOpen(f))
		return c
	}
	if name == "" {
		name = "unknown"
	}
	bad := func(r rune) bool { return r < ' ' || r > '~' || r == ':' }
	if len(name) > maxListenName || strings.ContainsFunc(name, bad) {
		c.fail(method, "the name %q is not up to %d printable ASCII characters without a colon", name, maxListenName)
	}
	c.pass(method, f, command.Stderr+1+len(c.want.Listen), nil)
	c.want.Listen = append(c.want.Listen, name)
	return c
}
