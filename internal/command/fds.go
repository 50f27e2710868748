package command

import "os"

// PassedFD is a descriptor beyond the standard streams.
type PassedFD struct {
	FD    int // in the child
	File  *os.File
	Data  []byte // instead of a file: what the child reads from a pipe
	Close bool
}

// Name returns what to call it in an error.
func (p *PassedFD) Name() string {
	if p.File == nil {
		return "that of SetSendBuffer"
	}
	return p.File.Name()
}

// Passes reports whether something is passed under the number fd.
func (c *Command) Passes(fd int) bool {
	for i := range c.Passed {
		if c.Passed[i].FD == fd {
			return true
		}
	}
	return false
}

// ListensOn reports whether the number fd is that of a socket to listen on.
func (c *Command) ListensOn(fd int) bool { return fd > Stderr && fd <= Stderr+len(c.Listen) }

// CloseParents closes the files that were given with CloseParent.
func (c *Command) CloseParents() {
	for i := range c.Passed {
		if c.Passed[i].Close {
			// A file that is closed already is what was asked for.
			_ = c.Passed[i].File.Close()
		}
	}
}

// KeepFiles makes CloseParent nothing.
func (c *Command) KeepFiles() {
	for i := range c.Passed {
		c.Passed[i].Close = false
	}
}
