package spawn

import (
	"github.com/syndtr/gocapability/capability"
)

// capabilities are what SetBoundingCaps and its like have asked for, a bit for each capability.
type capabilities struct {
	limited                                bool // by ClearCaps or AllowCap
	allowed                                uint64
	bounding, ambient                      uint64
	securebits                             int
	setBounding, setAmbient, setSecurebits bool
}

// ClearCaps takes all capabilities from the program: its effective, permitted, inheritable, bounding and ambient sets are empty, so
// that it gets none back either, by a setuid file for example. What [Command.AllowCap] allowed before is forgotten.
// The default is what the kernel makes of this process's sets, and of the change of user.
//
// To empty the bounding set needs CAP_SETPCAP, unless it is empty already: without, the start fails with EPERM. An ordinary
// user has [Command.SetNoNewPrivs] instead. (virCommandClearCaps, capabilities(7), systemd's CapabilityBoundingSet=)
func (c *Command) ClearCaps() *Command {
	c.caps.limited, c.caps.allowed = true, 0
	return c
}

// AllowCap is [Command.ClearCaps] with exceptions: the program has exactly the capabilities allowed, in all five sets, whoever its
// user is. It can be called several times. They must be among the permitted ones of this process. A capability that
// package capability has no name for is given by its number, and one that the kernel does not know is an error.
// (virCommandAllowCap)
func (c *Command) AllowCap(caps ...capability.Cap) *Command {
	c.caps.limited = true
	c.caps.allowed |= c.capBits("AllowCap", caps)
	return c
}

// SetBoundingCaps limits the bounding set to these capabilities: those that the program, and what it executes, can ever get. It
// needs CAP_SETPCAP. The default is this process's. The other sets stay as they are; it wins over the bounding set of [Command.AllowCap].
// (PR_CAPBSET_DROP in prctl(2), systemd's CapabilityBoundingSet=)
func (c *Command) SetBoundingCaps(caps ...capability.Cap) *Command {
	c.caps.bounding, c.caps.setBounding = c.capBits("SetBoundingCaps", caps), true
	return c
}

// SetAmbientCaps makes these capabilities, which this process must have, the ambient ones: a program that runs as an ordinary user
// has them. Together with [Command.AllowCap] they must be allowed. The default is this process's, which a change of user empties. (PR_CAP_AMBIENT in prctl(2), systemd's AmbientCapabilities=)
func (c *Command) SetAmbientCaps(caps ...capability.Cap) *Command {
	c.caps.ambient, c.caps.setAmbient = c.capBits("SetAmbientCaps", caps), true
	return c
}

// SetSecurebits sets the securebits flags, unix.SECBIT_NOROOT for example. The default is this process's. It needs CAP_SETPCAP.
// (PR_SET_SECUREBITS in prctl(2), systemd's SecureBits=)
func (c *Command) SetSecurebits(bits int) *Command {
	if bits < 0 || bits > 0xff {
		c.fail("SetSecurebits", "%#x are no securebits", bits)
	}
	c.caps.securebits, c.caps.setSecurebits = bits, true
	return c
}

// capBits returns the capabilities as a set.
func (c *Command) capBits(method string, caps []capability.Cap) (set uint64) {
	for _, n := range caps {
		if n < 0 || n > 63 {
			c.fail(method, "%d is not a capability", int(n))
			continue
		}
		set |= 1 << n
	}
	return set
}
