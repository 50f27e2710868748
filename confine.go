package spawn

import "slices"

// confinement is what the program is not to do, whatever its credentials are.
type confinement struct {
	noNewPrivs bool
	filter     []bpfInstruction
	landlock   *Landlock // not changed once set
}

// bpfInstruction is a unix.SockFilter, which other systems do not have.
type bpfInstruction struct {
	code   uint16
	jt, jf uint8
	k      uint32
}

func (c confinement) clone() confinement {
	c.filter = slices.Clone(c.filter)
	return c
}

// SetNoNewPrivs makes sure that nothing that the program executes gives it more privileges: setuid and setgid bits and file
// capabilities have no effect, for all its descendants. It needs no privilege. The default is as in this process.
// (PR_SET_NO_NEW_PRIVS in prctl(2), systemd's NoNewPrivileges=)
func (c *Command) SetNoNewPrivs() *Command {
	c.confinement.noNewPrivs = true
	return c
}
