package spawn

import (
	"github.com/virspawn/spawn/internal/command"
)

// LandlockRights are actions on files, with the kernel's numbers.
//
// See landlock(7).
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
	// LandlockRefer is to move and link between directories; version 2.
	LandlockRefer LandlockRights = 1 << 13
	// LandlockTruncate is to truncate files; version 3.
	LandlockTruncate LandlockRights = 1 << 14
	// LandlockIoctlDev is ioctl(2) on devices; version 5.
	LandlockIoctlDev LandlockRights = 1 << 15

	// LandlockReadOnly is to read files and directories and to execute files.
	LandlockReadOnly = LandlockExecute | LandlockReadFile | LandlockReadDir
	// LandlockReadWrite is everything that version 1 knows.
	LandlockReadWrite LandlockRights = 1<<13 - 1
)

// LandlockPortRights are actions on TCP ports, with the kernel's numbers;
// version 4.
//
// MPTCP is a protocol of its own, which newer kernels do not restrict. Package
// net listens with it where the kernel has it. A seccomp filter can refuse
// its sockets.
//
// See landlock(7).
type LandlockPortRights uint64

// Actions on TCP ports.
const (
	LandlockBindTCP    LandlockPortRights = 1 << 0
	LandlockConnectTCP LandlockPortRights = 1 << 1
)

// LandlockPath allows actions on a file, or on a directory and everything
// below it.
type LandlockPath struct {
	// Path is the file or directory. A relative one is taken from the parent's
	// working directory.
	Path string
	// Rights are what is allowed there.
	Rights LandlockRights
}

// LandlockPort allows actions on a TCP port.
type LandlockPort struct {
	Port   uint16             // 0 is to bind to a port that the kernel chooses
	Rights LandlockPortRights // what is allowed there
}

// Landlock says what a program may do to files and TCP ports: see
// [Command.SetLandlock].
type Landlock struct {
	// Paths and Ports are what is allowed of all that Version can refuse. What
	// the program may not do as its user stays refused.
	//
	// The parent looks up the paths when the command runs. If a path is a file,
	// rights that only directories can have are left out; it is an error if no
	// right is left.
	Paths []LandlockPath
	Ports []LandlockPort // see Paths
	// Version says what is refused unless allowed. Each version adds to the
	// one before:
	//   - 1 (Linux 5.13): actions on files
	//   - 2 (Linux 5.19): to move and link files between directories
	//   - 3 (Linux 6.2): to truncate files
	//   - 4 (Linux 6.7): to bind and connect TCP ports
	//   - 5 (Linux 6.10): ioctl(2) on devices
	//   - 6 (Linux 6.12): to connect to abstract Unix sockets of other
	//     programs, and to signal those programs
	//
	// 0, the default, is as much as the kernel can, up to 6, but no less than
	// Paths and Ports need.
	Version int
	// BestEffort takes what the kernel has if that is less than Version, or
	// than what Paths and Ports need. If the kernel has no Landlock, nothing
	// is confined but by no_new_privs.
	BestEffort bool
}

// SetLandlock confines the program, and all its descendants, to these files
// and ports.
//
// It replaces what was set before. The default is not to confine. The child is
// confined before the seccomp filter is loaded, so Landlock binds execve
// itself. The program, its interpreter and its libraries must be allowed to be
// executed and read.
//
// Landlock does not affect files that are already open or passed, nor other
// ways to reach other programs.
//
// It implies [Command.SetNoNewPrivs] and needs no privilege. A kernel that has
// less than asked for is an error, unless best effort is asked for. Landlock
// needs Linux 5.13.
//
// See landlock(7).
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
