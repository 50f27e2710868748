package spawn

import (
	"math"
	"os"
	"slices"
	"strings"

	"github.com/virspawn/spawn/internal/command"
)

// Namespace is a kind of namespace, or several. (namespaces(7))
type Namespace uint32

// The kinds of namespaces. Their values are those of clone(2).
const (
	TimeNamespace    Namespace = 0x80       // clocks; Linux 5.6
	MountNamespace   Namespace = 0x20000    // mounts
	CgroupNamespace  Namespace = 0x2000000  // the root of /proc/PID/cgroup
	UTSNamespace     Namespace = 0x4000000  // host name
	IPCNamespace     Namespace = 0x8000000  // System V IPC and POSIX message queues
	UserNamespace    Namespace = 0x10000000 // user and group ids, capabilities
	PIDNamespace     Namespace = 0x20000000 // process ids
	NetworkNamespace Namespace = 0x40000000 // network devices, addresses, ports
)

// allNamespaces is every kind.
const allNamespaces = TimeNamespace | MountNamespace | CgroupNamespace | UTSNamespace | IPCNamespace | UserNamespace |
	PIDNamespace | NetworkNamespace

// namespaceNames names the kinds for an error, as "network" or "user|pid".
func namespaceNames(kinds Namespace) string {
	var names []string
	for _, n := range [...]struct {
		kind Namespace
		name string
	}{
		{TimeNamespace, "time"},
		{MountNamespace, "mount"},
		{CgroupNamespace, "cgroup"},
		{UTSNamespace, "UTS"},
		{IPCNamespace, "IPC"},
		{UserNamespace, "user"},
		{PIDNamespace, "pid"},
		{NetworkNamespace, "network"},
	} {
		if kinds&n.kind != 0 {
			names = append(names, n.name)
		}
	}
	return strings.Join(names, "|")
}

// IDMap maps ids of a user namespace to ids outside it. The fields have the names of [syscall.SysProcIDMap]. (user_namespaces(7))
type IDMap struct {
	ContainerID int // the first id inside
	HostID      int // the one outside that it is
	Size        int // how many ids follow each other, 1 or more
}

// SetNamespaces starts the program in new namespaces of these kinds, instead of those set before. The default is to share this
// process's.
//
// The child is born in them, so everything else that was asked for is done inside. All but a user namespace need
// CAP_SYS_ADMIN, unless a user namespace is among them: then the others belong to it, and an ordinary user may make them
// where the system allows user namespaces. In a new user namespace the program has no ids but those that
// [Command.SetUIDMap] and [Command.SetGIDMap] give it, and the child, until it executes the program, all capabilities there but none
// outside: a limit cannot be raised above the hard limit then.
//
// In a new mount namespace, mounts of this process's namespace still appear, and none go back (MS_SLAVE). In a new pid namespace
// the program is process 1, which gets no signal that it does not handle but SIGKILL and SIGSTOP from outside. A new time namespace has
// the clocks of this process.
//
// A user or a time namespace gives the child a copy of this process's memory instead of sharing it until exec; the start then takes
// longer the more memory this process uses. (clone(2), systemd's PrivateUsers=, PrivateMounts=, PrivateNetwork=…)
func (c *Command) SetNamespaces(kinds ...Namespace) *Command {
	c.want.Namespaces.Fresh = 0
	for _, k := range kinds {
		if k&^allNamespaces != 0 || k == 0 {
			c.fail("SetNamespaces", "%#x is not a kind of namespace", uint32(k))
		}
		if c.want.Namespaces.Joins(uint32(k)) {
			c.fail("SetNamespaces", "the %s namespace is joined already", namespaceNames(k))
		}
		c.want.Namespaces.Fresh |= uint32(k)
	}
	return c
}

// JoinNamespace starts the program in an existing namespace of this kind: f is open on /proc/PID/ns/net for example. The caller keeps
// f open until the command has been started, and closes it. A user namespace is joined first. To join needs CAP_SYS_ADMIN in
// the namespace and in this process's own. A mount namespace comes with its root directory: a program named with a
// slash is the one there; for one without, this process still searches its own PATH. (setns(2), systemd's NetworkNamespacePath=…)
func (c *Command) JoinNamespace(kind Namespace, f *os.File) *Command {
	switch {
	case kind&^allNamespaces != 0 || kind == 0 || kind&(kind-1) != 0:
		c.fail("JoinNamespace", "%#x is not one kind of namespace", uint32(kind))
	case f == nil:
		c.fail("JoinNamespace", "the file is nil")
	case c.want.Namespaces.Joins(uint32(kind)) || c.want.Namespaces.Fresh&uint32(kind) != 0:
		c.fail("JoinNamespace", "there is a %s namespace already", namespaceNames(kind))
	}
	joined := command.JoinedNamespace{Kind: uint32(kind), File: f}
	if kind == UserNamespace {
		c.want.Namespaces.Joined = slices.Insert(c.want.Namespaces.Joined, 0, joined)
	} else {
		c.want.Namespaces.Joined = append(c.want.Namespaces.Joined, joined)
	}
	return c
}

// SetUIDMap maps the uids of the child's new user namespace, instead of the maps set before. Together with [Command.SetGIDMap] it
// needs [Command.SetNamespaces] with [UserNamespace]. Without CAP_SETUID a single map of one's own uid is allowed, to any uid
// inside: {ContainerID: 0, HostID: os.Getuid(), Size: 1} makes the program root there. Ids that are not mapped show as 65534.
// This process writes the maps while the child waits. (user_namespaces(7), [syscall.SysProcAttr].UidMappings)
func (c *Command) SetUIDMap(maps ...IDMap) *Command {
	c.checkMaps("SetUIDMap", maps)
	c.want.Namespaces.UIDMaps = wantedMaps(maps)
	return c
}

// SetGIDMap is for gids what [Command.SetUIDMap] is for uids. Unless this process runs as root, supplementary groups can then no longer be
// set, as the kernel demands: the program keeps those of this process, which show as 65534. (user_namespaces(7),
// [syscall.SysProcAttr].GidMappings)
func (c *Command) SetGIDMap(maps ...IDMap) *Command {
	c.checkMaps("SetGIDMap", maps)
	c.want.Namespaces.GIDMaps = wantedMaps(maps)
	return c
}

func wantedMaps(maps []IDMap) []command.IDMap {
	wanted := make([]command.IDMap, len(maps))
	for i, m := range maps {
		wanted[i] = command.IDMap(m)
	}
	return wanted
}

// maxMaps is the kernel's limit. (user_namespaces(7), Linux 4.15)
const maxMaps = 340

func (c *Command) checkMaps(method string, maps []IDMap) {
	if len(maps) > maxMaps {
		c.fail(method, "%d maps are more than %d", len(maps), maxMaps)
	}
	for i, m := range maps {
		if m.Size < 1 || !isIDRange(m.ContainerID, m.Size) || !isIDRange(m.HostID, m.Size) {
			c.fail(method, "the map %v is not of ids from 0 to 4294967294", m)
			continue
		}
		for _, other := range maps[:i] {
			if overlap(m.ContainerID, m.Size, other.ContainerID, other.Size) || overlap(m.HostID, m.Size, other.HostID, other.Size) {
				c.fail(method, "the maps %v and %v overlap", other, m)
			}
		}
	}
}

func isIDRange(first, size int) bool {
	return first >= 0 && uint64(first)+uint64(size) <= math.MaxUint32
}

func overlap(a, aSize, b, bSize int) bool {
	return uint64(a) < uint64(b)+uint64(bSize) && uint64(b) < uint64(a)+uint64(aSize)
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
	c.want.Attributes.Chroot = dir
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
	c.want.Attributes.Cgroup = dir
	return c
}
