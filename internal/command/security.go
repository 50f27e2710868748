package command

import (
	"slices"
)

// Credentials are the user and the groups that the child changes to.
type Credentials struct {
	UID, GID                  int
	Groups                    []uint32
	SetUID, SetGID, SetGroups bool
	KeepGroups                bool // as they are, with SetGroups false
	UsersGID, UsersGroups     bool // are those of a user that was looked up
}

// ForgetUser forgets the gid and the groups of a user that was looked up.
func (c *Credentials) ForgetUser() {
	if c.UsersGID {
		c.GID, c.SetGID, c.UsersGID = 0, false, false
	}
	if c.UsersGroups {
		c.Groups, c.SetGroups, c.UsersGroups = nil, false, false
	}
}

// Rlimit is a resource limit of the child.
type Rlimit struct {
	Resource   int
	Soft, Hard uint64
}

// The numbers of the resources, in Linux on amd64 and arm64. (getrlimit(2))
const (
	RlimitCore    = 4
	RlimitNproc   = 6
	RlimitNofile  = 7
	RlimitMemlock = 8
	RlimitCount   = 16
)

// Capabilities are what SetBoundingCaps and its like have asked for, a bit for
// each capability.
type Capabilities struct {
	Limited                                bool // by ClearCaps or AllowCap
	Allowed                                uint64
	Bounding, Ambient                      uint64
	Securebits                             int
	SetBounding, SetAmbient, SetSecurebits bool
}

// ChangesSets reports whether more than the bounding set and the
// securebits changes.
func (s *Capabilities) ChangesSets() bool { return s.Limited || s.SetAmbient }

// Confinement is what the program is not to do, whatever its credentials are.
type Confinement struct {
	NoNewPrivs       bool
	DenyWriteExecute bool
	Filter           []Instruction
	Landlock         *Landlock // not changed once set
}

// Instruction is a unix.SockFilter, which other systems do not have.
type Instruction struct {
	Code   uint16
	Jt, Jf uint8
	K      uint32
}

func (c Confinement) clone() Confinement {
	c.Filter = slices.Clone(c.Filter)
	return c
}

// Labels are what the security modules of the kernel are to make of the
// program. Empty ones leave it to them.
type Labels struct {
	SELinux, AppArmor, Smack string
	Optional                 bool
}
