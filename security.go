package spawn

import (
	"math"
	"os/user"
	"slices"
	"strconv"
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

// Unlimited is a limit that does not limit. (RLIM_INFINITY)
const Unlimited = math.MaxUint64

// SetUID makes the program run as this user: real, effective and saved uid, and the file system uid with them. The
// default is as in this process.
//
// If the uid or the gid is set and the supplementary groups are not, by [Command.SetGroups] or
// [Command.SetUser], the program gets no supplementary groups, unless uid and gid are what this process has
// already. To set a uid needs CAP_SETUID, except to one's own. On a 32-bit processor no id above 2147483647 can be given. (virCommandSetUID, setresuid(2))
func (c *Command) SetUID(uid int) *Command {
	c.checkID("SetUID", "uid", uid)
	c.ids.uid, c.ids.setUID = uid, true
	return c
}

// SetGID makes the program run with this group: real, effective and saved gid. The default is as in this process.
// See [Command.SetUID] for the supplementary groups. (virCommandSetGID, setresgid(2))
func (c *Command) SetGID(gid int) *Command {
	c.checkID("SetGID", "gid", gid)
	c.ids.gid, c.ids.setGID = gid, true
	return c
}

// SetGroups makes gids the program's supplementary groups; without arguments it has none. The default is as
// in this process, but see [Command.SetUID]. It needs CAP_SETGID, but a process that is not root
// may name the groups that it has: they stay. (setgroups(2))
func (c *Command) SetGroups(gids ...int) *Command {
	groups := make([]uint32, len(gids))
	for i, gid := range gids {
		c.checkID("SetGroups", "gid", gid)
		groups[i] = uint32(gid)
	}
	c.ids.groups, c.ids.setGroups = groups, true
	return c
}

// SetUser makes the program run as the named user: with the uid, the primary gid and the supplementary groups that the
// system's user database gives now. A number that is not a name is taken as a uid. The environment, HOME and USER
// for example, stays as it is. See [Command.SetUID] for the privileges needed. (systemd's User=, initgroups(3))
func (c *Command) SetUser(name string) *Command {
	u, err := user.Lookup(name)
	if err != nil {
		if byID, idErr := user.LookupId(name); idErr == nil {
			u, err = byID, nil
		}
	}
	if err != nil {
		c.failErr("SetUser", err)
		return c
	}
	names, err := u.GroupIds()
	if err != nil {
		c.failErr("SetUser", err)
		return c
	}
	gids := make([]int, 0, len(names))
	for _, s := range append(names, u.Gid) {
		gid, err := strconv.Atoi(s)
		if err != nil {
			c.failErr("SetUser", err)
			return c
		}
		if !slices.Contains(gids, gid) {
			gids = append(gids, gid)
		}
	}
	slices.Sort(gids)
	uid, err := strconv.Atoi(u.Uid)
	if err != nil {
		c.failErr("SetUser", err)
		return c
	}
	gid, _ := strconv.Atoi(u.Gid) // parsed above
	return c.SetUID(uid).SetGID(gid).SetGroups(gids...)
}

// checkID refuses what is no uid or gid. The highest number means "no change" to the kernel.
func (c *Command) checkID(method, what string, id int) {
	if id < 0 || uint64(id) >= math.MaxUint32 {
		c.fail(method, "the %s %d is not in 0 to 4294967294", what, id)
	}
}

// SetRlimit sets a resource limit, RLIMIT_CPU for example, of the program. The unit is the resource's own: bytes,
// seconds or a count; [Unlimited] is no limit. To raise the hard limit above this process's needs
// CAP_SYS_RESOURCE; without it the start fails with EPERM. The limits default to this process's, but
// RLIMIT_NOFILE to what it was before the Go runtime raised the soft limit. (prlimit(2))
func (c *Command) SetRlimit(resource int, soft, hard uint64) *Command {
	return c.setRlimit("SetRlimit", resource, soft, hard)
}

// The numbers of the resources, in Linux on amd64 and arm64. (getrlimit(2))
const (
	rlimitCore    = 4
	rlimitNproc   = 6
	rlimitNofile  = 7
	rlimitMemlock = 8
	rlimitCount   = 16
)

// SetMaxFiles limits the descriptors that the program may have open to those below n. What is passed to it may
// have higher numbers. (virCommandSetMaxFiles, RLIMIT_NOFILE soft and hard)
func (c *Command) SetMaxFiles(n uint64) *Command {
	return c.setRlimit("SetMaxFiles", rlimitNofile, n, n)
}

// SetMaxProcesses limits the processes and threads that the program's real user may have, this one included, to n. It
// does not bind a program with CAP_SYS_RESOURCE or CAP_SYS_ADMIN. (virCommandSetMaxProcesses, RLIMIT_NPROC soft
// and hard)
func (c *Command) SetMaxProcesses(n uint64) *Command {
	return c.setRlimit("SetMaxProcesses", rlimitNproc, n, n)
}

// SetMaxMemLock limits the memory that the program may lock, in bytes. (virCommandSetMaxMemLock, RLIMIT_MEMLOCK soft and
// hard)
func (c *Command) SetMaxMemLock(bytes uint64) *Command {
	return c.setRlimit("SetMaxMemLock", rlimitMemlock, bytes, bytes)
}

// SetMaxCoreSize limits the size of the program's core dump, in bytes; 0 is no core dump.
// (virCommandSetMaxCoreSize, RLIMIT_CORE soft and hard)
func (c *Command) SetMaxCoreSize(bytes uint64) *Command {
	return c.setRlimit("SetMaxCoreSize", rlimitCore, bytes, bytes)
}

func (c *Command) setRlimit(method string, resource int, soft, hard uint64) *Command {
	switch {
	case resource < 0 || resource >= rlimitCount:
		c.fail(method, "%d is not a resource", resource)
	case soft > hard:
		c.fail(method, "the soft limit %d is above the hard limit %d", soft, hard)
	}
	for i := range c.rlimits {
		if c.rlimits[i].resource == resource {
			c.rlimits[i] = rlimit{resource, soft, hard}
			return c
		}
	}
	c.rlimits = append(c.rlimits, rlimit{resource, soft, hard})
	return c
}
