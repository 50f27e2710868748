package spawn

import (
	"math"
	"slices"
)

// credentials are the user and the groups that the child changes to.
type credentials struct {
	uid, gid                  int
	groups                    []uint32
	setUID, setGID, setGroups bool
}

// rlimit is a resource limit of the child.
type rlimit struct {
	resource   int
	soft, hard uint64
}

// The numbers of the resources, in Linux on amd64 and arm64. (getrlimit(2))
const (
	rlimitCore    = 4
	rlimitNproc   = 6
	rlimitNofile  = 7
	rlimitMemlock = 8
	rlimitCount   = 16
)

// capabilities are what SetBoundingCaps and its like have asked for, a bit for each capability.
type capabilities struct {
	limited                                bool // by ClearCaps or AllowCap
	allowed                                uint64
	bounding, ambient                      uint64
	securebits                             int
	setBounding, setAmbient, setSecurebits bool
}

// changesSets reports whether more than the bounding set and the securebits changes.
func (s *capabilities) changesSets() bool { return s.limited || s.setAmbient }

// confinement is what the program is not to do, whatever its credentials are.
type confinement struct {
	noNewPrivs bool
	filter     []bpfInstruction
	landlock   *landlock // not changed once set
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

// labels are what the security modules of the kernel are to make of the program. Empty ones leave it to them.
type labels struct {
	selinux, apparmor, smack string
	optional                 bool
}

var _ = math.MaxInt
