package spawn

import (
	"math"
	"os"
)

// PassFDFlag changes how a descriptor is passed.
type PassFDFlag int

// CloseParent gives the file to the library: the running call closes it in this process when it returns, whether
// the program could be started or not. The command can then run only once. (VIR_COMMAND_PASS_FD_CLOSE_PARENT)
const CloseParent PassFDFlag = 1

// passedFD is a descriptor beyond the standard streams.
type passedFD struct {
	fd    int // in the child
	file  *os.File
	data  []byte // instead of a file: what the child reads from a pipe
	close bool
}

// PassFD passes f to the program under the number that it has in this process, and returns that number; -1 when f
// is not open. The file stays the caller's, who must keep it open until the running call has returned or
// [Command.Start] has, unless flags hold [CloseParent]. Passing a file twice is the same as passing it once.
//
// Everything else is closed in the child but the three standard streams, whatever its close-on-exec flag says.
// (virCommandPassFD)
func (c *Command) PassFD(f *os.File, flags ...PassFDFlag) int {
	fd := fileNumber(f)
	if fd < 0 {
		c.fail("PassFD", "the file %s", notOpen(f))
		return -1
	}
	c.pass("PassFD", f, fd, flags)
	return fd
}

// PassFDAs passes f to the program under the number fd, 3 or more; 0, 1 and 2 are the standard streams. All else is
// as for [Command.PassFD]. Files can be passed under each other's numbers.
func (c *Command) PassFDAs(f *os.File, fd int, flags ...PassFDFlag) *Command {
	if fileNumber(f) < 0 {
		c.fail("PassFDAs", "the file %s", notOpen(f))
		return c
	}
	c.pass("PassFDAs", f, fd, flags)
	return c
}

func (c *Command) pass(method string, f *os.File, fd int, flags []PassFDFlag) {
	p := passedFD{fd: fd, file: f}
	for _, flag := range flags {
		if flag != CloseParent {
			c.fail(method, "%#x is not a flag", int(flag))
		}
		p.close = true
	}
	if fd <= stderr || fd > math.MaxInt32 {
		c.fail(method, "the number %d is not one to pass %s as; 0 to 2 are the standard streams", fd, f.Name())
		return
	}
	for i := range c.passed {
		q := &c.passed[i]
		if q.fd != fd {
			continue
		}
		if q.file == f {
			q.close = q.close || p.close
			return
		}
		c.fail(method, "two descriptors for the number %d: %s and %s", fd, q.name(), f.Name())
	}
	c.passed = append(c.passed, p)
}

func (p *passedFD) name() string {
	if p.file == nil {
		return "that of SetSendBuffer"
	}
	return p.file.Name()
}

// SetSendBuffer passes the program a further descriptor, from which it reads data and then the end of the file, and
// returns its number, to be named in an argument. It suits secrets, which then appear neither among the
// arguments nor in the environment. The number is below 1024, and free in this process now. A program that does not
// read it all is no error. The data must not change while the command runs. (virCommandSetSendBuffer)
func (c *Command) SetSendBuffer(data []byte) int {
	// From the top of the smallest usual limit downwards: files that are opened later, and then passed, take low numbers.
	limit := min(1024, openLimit())
	for fd := limit - 1; fd > stderr; fd-- {
		if !c.passes(fd) && !isOpen(fd) {
			c.passed = append(c.passed, passedFD{fd: fd, data: data})
			return fd
		}
	}
	c.fail("SetSendBuffer", "no number below %d is free", limit)
	return -1
}

// passes reports whether something is passed under the number fd.
func (c *Command) passes(fd int) bool {
	for i := range c.passed {
		if c.passed[i].fd == fd {
			return true
		}
	}
	return false
}

// fileNumber returns f's descriptor, without the change to blocking mode that f.Fd makes; -1 when f is not open.
func fileNumber(f *os.File) int {
	if f == nil {
		return -1
	}
	conn, err := f.SyscallConn()
	if err != nil {
		return -1
	}
	n := -1
	if conn.Control(func(fd uintptr) { n = int(fd) }) != nil {
		return -1
	}
	return n
}

func notOpen(f *os.File) string {
	if f == nil {
		return "is nil"
	}
	return f.Name() + " is closed"
}

// closeParents closes the files that were given with CloseParent.
func (c *Command) closeParents() {
	for i := range c.passed {
		if c.passed[i].close {
			// A file that is closed already is what was asked for.
			_ = c.passed[i].file.Close()
		}
	}
}

// keepFiles makes CloseParent nothing.
func (c *Command) keepFiles() *Command {
	for i := range c.passed {
		c.passed[i].close = false
	}
	return c
}
