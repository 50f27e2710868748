package spawn

import (
	"github.com/virspawn/spawn/internal/command"
)

// LandlockRights are actions on files, with the kernel's numbers. (landlock(7))
type LandlockRights uint64

// Actions on files. Those on directories are about what stands in them.
const (
	LandlockExecute    LandlockRights = 1 << 0
	LandlockWriteFile  LandlockRights = 1 << 1
	LandlockReadFile   LandlockRights = 1 << 2
	LandlockReadDir    LandlockRights = 1 << 3
	LandlockRemoveDir  LandlockRights = 1 << 4
	LandlockRemoveFile LandlockRights = 1 << 5
	LandlockMakeChar   LandlockRights = 1 << 6
	LandlockMakeDir    LandlockRights = 1 << 7
	LandlockMakeReg    LandlockRights = 1 << 8
	LandlockMakeSock   LandlockRights = 1 << 9
	LandlockMakeFifo   LandlockRights = 1 << 10
	LandlockMakeBlock  LandlockRights = 1 << 11
	LandlockMakeSym    LandlockRights = 1 << 12
	LandlockRefer      LandlockRights = 1 << 13 // move and link between directories; version 2
	LandlockTruncate   LandlockRights = 1 << 14 // version 3
	LandlockIoctlDev   LandlockRights = 1 << 15 // ioctl(2) on devices; version 5

	// LandlockReadOnly is to read files and directories and to execute.
	LandlockReadOnly = LandlockExecute | LandlockReadFile | LandlockReadDir
	// LandlockReadWrite is everything that version 1 knows.
	LandlockReadWrite LandlockRights = 1<<13 - 1
)

// LandlockPortRights are actions on TCP ports, with the kernel's numbers; version 4. MPTCP, with which package net listens where the kernel has it, is a
// protocol of its own, which newer kernels do not restrict: a seccomp filter can refuse its sockets.
type LandlockPortRights uint64

// Actions on TCP ports.
const (
	LandlockBindTCP    LandlockPortRights = 1 << 0
	LandlockConnectTCP LandlockPortRights = 1 << 1
)

// LandlockPath allows actions on a file, or on a directory and all below it.
type LandlockPath struct {
	Path   string         // a relative one is taken from this process's working directory
	Rights LandlockRights // what is allowed there
}

// LandlockPort allows actions on a TCP port.
type LandlockPort struct {
	Port   uint16             // 0 is to bind to a port that the kernel chooses
	Rights LandlockPortRights // what is allowed there
}

// Landlock says what a program may do to files and TCP ports: see [Command.SetLandlock].
type Landlock struct {
	// Paths and Ports are what is allowed of all that Version can refuse. What the program may not do as its user stays
	// refused. Paths are looked up by this process, when the command runs; rights on a file that only directories can have
	// are left out.
	Paths []LandlockPath
	Ports []LandlockPort // see Paths
	// Version says what is refused unless allowed: with 1 (Linux 5.13) actions on files, with 2 (5.19) also to move and
	// link them between directories, with 3 (6.2) to truncate them, with 4 (6.7) to bind and connect TCP ports, with 5 (6.10) ioctl(2) on
	// devices, with 6 (6.12) to connect to abstract Unix sockets of other programs and to signal those. 0, the default, is
	// as much as the kernel can, up to 6, but no less than Paths and Ports need.
	Version int
	// BestEffort takes what the kernel has where that is less than Version, or than what Paths and Ports need, and
	// nothing where it has no Landlock.
	BestEffort bool
}

// SetLandlock confines the program, and all its descendants, to these files and ports, instead of those set before. It is done before
// the seccomp filter, so it binds execve itself: the program, its interpreter and its libraries must be allowed to be executed and read. It
// implies [Command.SetNoNewPrivs] and needs no privilege. The default is not to confine.
//
// A kernel that has less than asked for is an error, unless best effort is asked for. Neither are what was open already, or passed,
// nor other ways to talk to other programs subject to it. (landlock(7), Linux 5.13)
func (c *Command) SetLandlock(l Landlock) *Command {
	want := &command.Landlock{Version: l.Version, BestEffort: l.BestEffort}
	if l.Version < 0 || l.Version > command.MaxLandlock {
		c.fail("SetLandlock", "the version %d is not in 0 to %d", l.Version, command.MaxLandlock)
	}
	for _, p := range l.Paths {
		c.checkText("SetLandlock", "path", p.Path)
		switch {
		case p.Path == "":
			c.fail("SetLandlock", "a path is empty")
		case p.Rights == 0 || uint64(p.Rights)&^command.LandlockRights(command.MaxLandlock) != 0:
			c.fail("SetLandlock", "%#x are no rights for the path %s", uint64(p.Rights), p.Path)
		case l.Version != 0 && uint64(p.Rights)&^command.LandlockRights(l.Version) != 0:
			c.fail("SetLandlock", "version %d has no rights %#x for the path %s", l.Version, uint64(p.Rights), p.Path)
		}
		want.Paths = append(want.Paths, command.PathRule{Path: p.Path, Rights: uint64(p.Rights)})
	}
	for _, p := range l.Ports {
		switch {
		case p.Rights == 0 || uint64(p.Rights)&^command.LandlockPortRights(command.MaxLandlock) != 0:
			c.fail("SetLandlock", "%#x are no rights for the port %d", uint64(p.Rights), p.Port)
		case l.Version != 0 && uint64(p.Rights)&^command.LandlockPortRights(l.Version) != 0:
			c.fail("SetLandlock", "version %d has no rights for ports", l.Version)
		}
		want.Ports = append(want.Ports, command.PortRule{Port: p.Port, Rights: uint64(p.Rights)})
	}
	c.want.Confinement.Landlock = want
	return c
}
