package spawn

import (
	"fmt"
	"os"
	"slices"
	"syscall"
)

// attributes are properties of the child's process. The zero value leaves them as in this process.
type attributes struct {
	oomScoreAdj    int
	setOOMScoreAdj bool

	coredumpFilter    uint32
	setCoredumpFilter bool

	personality    Personality
	setPersonality bool

	keyring     KeyringMode
	chroot      string
	cgroup      string
	tty         *os.File
	pty         *ptySize // nil without
	ignored     []int    // numbers of signals
	deathSignal int      // 0 is none
}

func (a attributes) clone() attributes {
	a.ignored = slices.Clone(a.ignored)
	return a
}

// SetOOMScoreAdj sets how likely the kernel is to end the program when memory runs out, from -1000, never, to 1000. The default is this
// process's value. To go below that value, or what it was once lowered to, needs CAP_SYS_RESOURCE; without, the start fails
// with EACCES. While the child of such a command starts, the thread that starts it is blocked. It needs /proc.
// (/proc/PID/oom_score_adj in proc(5), systemd's OOMScoreAdjust=)
func (c *Command) SetOOMScoreAdj(adj int) *Command {
	if adj < -1000 || adj > 1000 {
		c.fail("SetOOMScoreAdj", "%d is not in -1000 to 1000", adj)
	}
	c.attrs.oomScoreAdj, c.attrs.setOOMScoreAdj = adj, true
	return c
}

// SetCoredumpFilter says which parts of the memory go into a core dump of the program: a bit for each kind, of those in core(5), 0x33 for
// what is usual. The default is this process's filter. The child gets a copy of this process's memory for that, instead of
// sharing it until exec; the start then takes longer the more memory this process uses. It needs /proc.
// (/proc/PID/coredump_filter in core(5), systemd's CoredumpFilter=)
func (c *Command) SetCoredumpFilter(kinds uint32) *Command {
	const all = 0x1ff
	if kinds > all {
		c.fail("SetCoredumpFilter", "%#x are not kinds of memory, which are %#x", kinds, all)
	}
	c.attrs.coredumpFilter, c.attrs.setCoredumpFilter = kinds, true
	return c
}

// Personality is how the kernel treats a program, with the numbers of personality(2).
type Personality uint32

// Some personalities.
const (
	PersonalityLinux           Personality = 0        // none of the others
	PersonalityLinux32         Personality = 0x8      // uname(2) tells a 32-bit machine
	PersonalityAddrNoRandomize Personality = 0x40000  // addresses are not random; a flag, as those that follow
	PersonalityReadImpliesExec Personality = 0x400000 // what can be read can be executed
)

// SetPersonality sets the program's personality, flags included. The default is this process's. A program that gains privileges, setuid
// for example, loses the dangerous flags. (personality(2), systemd's Personality=)
func (c *Command) SetPersonality(p Personality) *Command {
	if p == 0xffffffff { // which only asks
		c.fail("SetPersonality", "%#x is not a personality", uint32(p))
	}
	c.attrs.personality, c.attrs.setPersonality = p, true
	return c
}

// KeyringMode says which session keyring a program has.
type KeyringMode int

const (
	// KeyringInherit, the default, is this process's session keyring.
	KeyringInherit KeyringMode = iota
	// KeyringPrivate is a new, empty one, owned by the program's user.
	KeyringPrivate
)

// SetKeyring says which session keyring the program has: with [KeyringPrivate] it cannot see the keys of this process's. The default is
// [KeyringInherit].
// (KEYCTL_JOIN_SESSION_KEYRING in keyctl(2), systemd's KeyringMode=)
func (c *Command) SetKeyring(mode KeyringMode) *Command {
	if mode != KeyringInherit && mode != KeyringPrivate {
		c.fail("SetKeyring", "%d is not a mode", int(mode))
	}
	c.attrs.keyring = mode
	return c
}

// SetChroot makes dir the root directory of the program. The program's name must then be an absolute path: it is the one in the new root.
// There too is the working directory, the new root unless [Command.SetWorkingDirectory] says otherwise; a relative one starts from
// the new root. A relative dir is taken from this process's working directory. It needs CAP_SYS_CHROOT. Alone it confines nobody
// who is root. (chroot(2), [syscall.SysProcAttr].Chroot, systemd's RootDirectory=)
func (c *Command) SetChroot(dir string) *Command {
	if dir == "" {
		c.fail("SetChroot", "the directory is empty")
	}
	c.checkText("SetChroot", "directory", dir)
	c.attrs.chroot = dir
	return c
}

// SetCgroup starts the program in this directory of a cgroup v2 file system: the child is born there, and no moment of it counts in this
// process's group. This process must be allowed to write the cgroup.procs of the directory and of the common ancestor. The default is
// this process's cgroup. (CLONE_INTO_CGROUP in clone(2), Linux 5.7; [syscall.SysProcAttr].CgroupFD)
func (c *Command) SetCgroup(dir string) *Command {
	if dir == "" {
		c.fail("SetCgroup", "the directory is empty")
	}
	c.checkText("SetCgroup", "directory", dir)
	c.attrs.cgroup = dir
	return c
}

// SetControllingTTY makes the child the leader of a new session, as [Command.SetSession], whose controlling terminal is tty. The caller
// keeps tty open until the command has been started, and closes it. The program gets no descriptor of it by that; see
// [Command.SetStdin] and its like. A terminal that is another session's is an EPERM of the start. For a new one there is [Command.SetPTY].
// (TIOCSCTTY in ioctl_tty(2), [syscall.SysProcAttr].Setctty, systemd's TTYPath=)
func (c *Command) SetControllingTTY(tty *os.File) *Command {
	if tty == nil {
		c.fail("SetControllingTTY", "the file is nil")
	}
	c.attrs.tty, c.session = tty, true
	return c
}

// SetIgnoredSignals has the program start with these signals ignored, instead of those set before; all others have their default action.
// That is the default for all, whatever this process ignores. SIGKILL and SIGSTOP cannot be ignored.
// (signal(7), systemd's IgnoreSIGPIPE=)
func (c *Command) SetIgnoredSignals(sigs ...os.Signal) *Command {
	c.attrs.ignored = nil
	for _, sig := range sigs {
		n, err := signalNumber(sig)
		switch {
		case err != nil:
			c.failErr("SetIgnoredSignals", err)
		case n == 0 || n == sigKill || n == sigStop:
			c.fail("SetIgnoredSignals", "the signal %d cannot be ignored", n)
		}
		c.attrs.ignored = append(c.attrs.ignored, n)
	}
	return c
}

// SetParentDeathSignal sends the program this signal when this process ends, however it ends. It does not matter which thread of this
// process started it and whether that thread still lives: such children are started by a thread that never ends. If this process
// ends before the program runs, the program never does. The default is none.
//
// The kernel forgets the signal when the program executes a setuid or setgid file, or one with capabilities.
// (PR_SET_PDEATHSIG in prctl(2), [syscall.SysProcAttr].Pdeathsig)
func (c *Command) SetParentDeathSignal(sig os.Signal) *Command {
	n, err := signalNumber(sig)
	switch {
	case err != nil:
		c.failErr("SetParentDeathSignal", err)
	case n == 0:
		c.fail("SetParentDeathSignal", "0 is not a signal")
	}
	c.attrs.deathSignal = n
	return c
}

// signalNumber returns the number of a signal; 0 is none, but a way to ask whether a process is there.
func signalNumber(sig os.Signal) (int, error) {
	n, ok := sig.(syscall.Signal)
	if !ok || n < 0 || n > maxSignal {
		return 0, fmt.Errorf("%v is not a signal", sig)
	}
	return int(n), nil
}

// Numbers that Linux has on all architectures of this package.
const (
	maxSignal = 64
	sigKill   = 9
	sigStop   = 19
)
