package spawn

import (
	"math"
	"os"
	"slices"
	"strings"

	"github.com/virspawn/spawn/internal/command"
)

// Namespace is a kind of namespace, or several.
//
// See namespaces(7).
type Namespace uint32

// The kinds of namespaces. Their values are those of clone(2).
const (
	TimeNamespace    Namespace = 0x80       // clocks; Linux 5.6
	MountNamespace   Namespace = 0x20000    // mounts
	CgroupNamespace  Namespace = 0x2000000  // the root of /proc/PID/cgroup
	UTSNamespace     Namespace = 0x4000000  // host name
	IPCNamespace     Namespace = 0x8000000  // System V IPC and POSIX queues
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

// IDMap maps ids of a user namespace to ids outside it.
//
// The fields have the names of [syscall.SysProcIDMap]; see user_namespaces(7).
type IDMap struct {
	ContainerID int // the first id inside
	HostID      int // the one outside that it is
	Size        int // how many ids follow each other, 1 or more
}

// SetNamespaces starts the program in new namespaces of these kinds.
//
// They replace those set before. The default is to share the parent's. The
// child is born in them, so everything else that was asked for is done inside.
//
// All but a user namespace need CAP_SYS_ADMIN. If a user namespace is among
// them, the others belong to it, and an ordinary user may make them if the
// system allows user namespaces.
//
// A new user namespace needs [Command.SetUIDMap] and [Command.SetGIDMap]. If
// they do not map the parent's own ids, [Command.SetUID] and [Command.SetGID]
// are needed too: the program would have no number inside, and outside still be
// the parent's user. With [Command.RequireHandshake] and without maps, they can
// be written at the gate, by newuidmap(1) for example; until then the program
// is that user. See SetUID for supplementary groups.
//
// Until it executes the program, the child has all capabilities in a new user
// namespace but none outside: it cannot raise a limit above the hard limit.
//
// In a new mount namespace, mounts of the parent's namespace still appear, and
// none go back (MS_SLAVE). In a new pid namespace the program is process 1:
// from outside it gets SIGKILL and SIGSTOP, and of the other signals only those
// that it handles. A new time namespace has the clocks of the parent.
//
// The child does not share the parent's memory in them. Where a policy refuses
// the stub that the child goes by (see docs/kernels.md), a user namespace is an
// error for a parent that has capabilities and is not root.
//
// Like systemd's PrivateUsers=, PrivateMounts=, PrivateNetwork= and so on;
// see clone(2).
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

// JoinNamespace starts the program in an existing namespace of this kind: f is
// open on /proc/PID/ns/net for example.
//
// The caller keeps f open until the command has been started, and closes it. A
// user namespace is joined first. A mount namespace comes with its root
// directory: a program named with a slash is the one there. For a name without
// a slash, the parent still searches its own PATH.
//
// In a user namespace that is joined no id is one that the parent has. So
// the program needs [Command.SetUID] and [Command.SetGID], without which it
// would be nobody inside and still the parent's user outside. Its root, which
// nsenter(1) becomes, is SetUID(0).SetGID(0). The supplementary groups go;
// where they cannot be set, as in a namespace of an ordinary user, setgroups(2)
// fails with EPERM without [Command.KeepGroups].
//
// The child does not share the parent's memory when it joins. The root
// of a user namespace may not trace it until the program runs; a hook
// ([Command.SetPreExecHook]) is refused there, because its root could look at
// the helper that runs it. A process of a pid namespace that has CAP_SYS_PTRACE
// in the parent's user namespace may take over the child that joins it, until
// the child has dropped its capabilities.
//
// Joining needs CAP_SYS_ADMIN in the namespace and in the parent's own.
//
// Like systemd's NetworkNamespacePath= and so on; see setns(2).
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

// SetUIDMap maps the uids of the child's new user namespace.
//
// The maps replace those set before. Ids that are not mapped show as 65534. The
// parent writes the maps while the child waits.
//
// It needs [Command.SetNamespaces] with [UserNamespace], as [Command.SetGIDMap]
// does. Without CAP_SETUID a single map of one's own uid is allowed, to any
// uid inside: {ContainerID: 0, HostID: os.Getuid(), Size: 1} makes the program
// root there.
//
// Like [syscall.SysProcAttr].UidMappings; see user_namespaces(7).
func (c *Command) SetUIDMap(maps ...IDMap) *Command {
	c.checkMaps("SetUIDMap", maps)
	c.want.Namespaces.UIDMaps = wantedMaps(maps)
	return c
}

// SetGIDMap maps the gids of the child's new user namespace, as
// [Command.SetUIDMap] does the uids.
//
// Unless the parent runs as root, supplementary groups can then no longer be
// set, as the kernel demands. The program keeps those of the parent, which show
// as 65534, and [Command.SetGroups] is an error.
//
// Like [syscall.SysProcAttr].GidMappings; see user_namespaces(7).
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

// SetChroot makes dir the root directory of the program.
//
// A relative dir is taken from the parent's working directory. The program's
// name must be an absolute path: it is the one in the new root. The working
// directory is there too: the new root, unless [Command.SetWorkingDirectory]
// says otherwise. A relative one starts from the new root.
//
// It needs CAP_SYS_CHROOT. A root directory alone does not confine a program
// that runs as root.
//
// Like [syscall.SysProcAttr].Chroot and systemd's RootDirectory=;
// see chroot(2).
func (c *Command) SetChroot(dir string) *Command {
	if dir == "" {
		c.fail("SetChroot", "the directory is empty")
	}
	c.checkText("SetChroot", "directory", dir)
	c.want.Attributes.Chroot = dir
	return c
}

// SetCgroup starts the program in this directory of a cgroup v2 file system.
//
// The default is the parent's cgroup. The child is born in the new one: at no
// time does it count in the parent's. It has nothing of the parent's memory, so
// a memory limit there can end the child and never the parent.
//
// The parent must be allowed to write the cgroup.procs of the directory and of
// the common ancestor. It needs Linux 5.7.
//
// Like [syscall.SysProcAttr].CgroupFD; see CLONE_INTO_CGROUP in clone(2).
func (c *Command) SetCgroup(dir string) *Command {
	if dir == "" {
		c.fail("SetCgroup", "the directory is empty")
	}
	c.checkText("SetCgroup", "directory", dir)
	c.want.Attributes.Cgroup = dir
	return c
}
