package spawn

import "os"

// passedFD is a descriptor beyond the standard streams.
type passedFD struct {
	fd    int // in the child
	file  *os.File
	data  []byte // instead of a file: what the child reads from a pipe
	close bool
}

func (p *passedFD) name() string {
	if p.file == nil {
		return "that of SetSendBuffer"
	}
	return p.file.Name()
}

// passes reports whether something is passed under the number fd.
func (c *wanted) passes(fd int) bool {
	for i := range c.passed {
		if c.passed[i].fd == fd {
			return true
		}
	}
	return false
}

// listensOn reports whether the number fd is that of a socket to listen on.
func (c *wanted) listensOn(fd int) bool { return fd > stderr && fd <= stderr+len(c.listen) }

// closeParents closes the files that were given with CloseParent.
func (c *wanted) closeParents() {
	for i := range c.passed {
		if c.passed[i].close {
			// A file that is closed already is what was asked for.
			_ = c.passed[i].file.Close()
		}
	}
}

// keepFiles makes CloseParent nothing.
func (c *wanted) keepFiles() {
	for i := range c.passed {
		c.passed[i].close = false
	}
}
