package spawn

import (
	"errors"
	"math"
	"os/user"
	"strings"

	"github.com/syndtr/gocapability/capability"
	"github.com/virspawn/spawn/internal/command"
	"github.com/virspawn/spawn/internal/userdb"
)

// SetUID makes the program run as this user: real, effective and saved uid, and
// the file system uid with them.
//
// The default is the parent's. Without [Command.SetGID] or [Command.SetUser],
// another user than the parent's, real or effective, is an error: a child of
// root would keep group 0. SetGID(os.Getgid()) says that it is meant.
//
// If the uid or the gid is set and the supplementary groups are not,
// the program gets no supplementary groups. [Command.SetGroups],
// [Command.SetUser] and [Command.KeepGroups] say otherwise. The parent's stay
// if uid and gid are what the parent has already.
//
// In a user namespace, new or joined, no id is one that the parent has, and the
// program gets no supplementary groups. The exception is a new one of a parent
// that is not root, or may not set groups itself: the kernel lets nobody set
// them there, and they stay.
//
// What the program inherits stays: a descriptor that is passed, and with
// [Command.InheritStdio] the parent's terminal, unless there is
// [Command.SetSession].
//
// The child does not share the parent's memory when its ids change. Until the
// program runs, the new user can stop the child but not trace it.
//
// Setting a uid needs CAP_SETUID, except for one's own, and dropping the groups
// needs CAP_SETGID. On a 32-bit processor no id above 2147483647 can be given.
//
// Like virCommandSetUID; see setresuid(2).
func (c *Command) SetUID(uid int) *Command {
	c.checkID("SetUID", "uid", uid)
	c.want.IDs.UID, c.want.IDs.SetUID = uid, true
	return c
}

// SetGID makes the program run with this group: real, effective and saved gid.
//
// The default is the parent's. See [Command.SetUID] for the supplementary
// groups.
//
// Setting a gid needs CAP_SETGID, except for one's own.
//
// Like virCommandSetGID; see setresgid(2).
func (c *Command) SetGID(gid int) *Command {
	c.checkID("SetGID", "gid", gid)
	c.want.IDs.GID, c.want.IDs.SetGID, c.want.IDs.UsersGID = gid, true, false
	return c
}

// SetGroups makes gids the program's supplementary groups.
//
// Without arguments the program has none. The default is the parent's groups,
// but see [Command.SetUID].
//
// It needs CAP_SETGID. A parent that is not root may name exactly the groups
// that it has, if SetGID does not change its gid and the program is in no
// other user namespace. Otherwise, and without the privilege, starting fails
// with EPERM.
//
// See setgroups(2).
func (c *Command) SetGroups(gids ...int) *Command {
	groups := make([]uint32, len(gids))
	for i, gid := range gids {
		c.checkID("SetGroups", "gid", gid)
		groups[i] = uint32(gid)
	}
	c.setGroups(groups, true)
	return c
}

// KeepGroups leaves the program the parent's supplementary groups, whatever
// else of its ids changes.
//
// The last call of [Command.SetGroups], KeepGroups and [Command.SetUser] counts
// for the groups. The default is said at [Command.SetUID].
//
// It needs no privilege. So it is for where groups cannot be set, and it is
// meant that they stay: an ordinary user who joins a user namespace of his own
// as its root. Everywhere else the program gets groups of the parent's that its
// new user is not in.
//
// Like [syscall.Credential].NoSetGroups, and the options --keep-groups of
// setpriv(1) and --preserve-credentials of nsenter(1).
func (c *Command) KeepGroups() *Command {
	c.setGroups(nil, false)
	return c
}

func (c *Command) setGroups(groups []uint32, set bool) {
	ids := &c.want.IDs
	ids.Groups, ids.SetGroups, ids.KeepGroups, ids.UsersGroups = groups, set, !set, false
}

// SetUser makes the program run as the named user: with the uid, the primary
// gid and the supplementary groups that the system's user database gives now.
//
// The database is that of the C library, or /etc/passwd and /etc/group in
// a parent built without cgo. No variable stands in for it. The environment
// stays as it is, HOME and USER for example.
//
// A number that is not a name is taken as a uid. If the database has no entry
// for it either, SetUser is [Command.SetUID], and needs [Command.SetGID].
//
// See [Command.SetUID] for the privileges needed. The parent's own user needs
// none if the parent is in just these groups.
//
// Like systemd's User=; see initgroups(3).
func (c *Command) SetUser(name string) *Command {
	ids := &c.want.IDs
	u, err := userdb.Lookup(name)
	if errors.As(err, new(user.UnknownUserError)) {
		if uid, ok := userdb.ParseUID(name); ok {
			ids.ForgetUser()
			c.checkID("SetUser", "uid", uid)
			ids.UID, ids.SetUID = uid, true
			return c
		}
	}
	if err != nil {
		c.failErr("SetUser", err)
		return c
	}
	c.checkID("SetUser", "uid", u.UID)
	*ids = command.Credentials{UID: u.UID, GID: u.GID, SetUID: true, SetGID: true, SetGroups: true, UsersGID: true, UsersGroups: true}
	for _, gid := range u.Groups {
		c.checkID("SetUser", "gid", gid)
		ids.Groups = append(ids.Groups, uint32(gid))
	}
	return c
}

// checkID refuses what is not a uid or gid. The highest number means "no
// change" to the kernel.
func (c *Command) checkID(method, what string, id int) {
	if id < 0 || uint64(id) >= math.MaxUint32 {
		c.fail(method, "the %s %d is not in 0 to 4294967294", what, id)
	}
}

// ClearCaps takes all capabilities from the program: its effective, permitted,
// inheritable, bounding and ambient sets are empty.
//
// So the program cannot get any back, by a setuid file for example. What
// [Command.AllowCap] allowed before is forgotten. The default is what the
// kernel makes of the parent's sets, and of the change of user.
//
// The child does not share the parent's memory when it gives them up. So other
// processes of its user, with no more capabilities than are left, cannot trace
// it until the program runs.
//
// Emptying the bounding set needs CAP_SETPCAP, unless it is empty already.
// Without it, starting fails with EPERM. An ordinary user has
// [Command.SetNoNewPrivs] instead. In a user namespace, new or joined, the
// child begins with the full set and has the privilege.
//
// Like virCommandClearCaps and systemd's CapabilityBoundingSet=; see
// capabilities(7).
func (c *Command) ClearCaps() *Command {
	c.want.Caps.Limited, c.want.Caps.Allowed = true, 0
	return c
}

// AllowCap is [Command.ClearCaps] with exceptions: the program has exactly the
// capabilities allowed, in all five sets, whoever its user is.
//
// It can be called several times, and adds to what was allowed before. A
// capability that package capability has no name for is given by its number.
//
// The parent must have each capability in its own permitted set. A capability
// that the kernel does not know is an error.
//
// Like virCommandAllowCap; see capabilities(7).
func (c *Command) AllowCap(caps ...capability.Cap) *Command {
	c.want.Caps.Limited = true
	c.want.Caps.Allowed |= c.capBits("AllowCap", caps)
	return c
}

// SetBoundingCaps limits the bounding set to these capabilities: those that the
// program, and what it executes, can ever get.
//
// The default is the parent's set. The other sets stay as they are.
// SetBoundingCaps wins over the bounding set of [Command.AllowCap].
//
// It needs CAP_SETPCAP.
//
// Like systemd's CapabilityBoundingSet=; see PR_CAPBSET_DROP in prctl(2).
func (c *Command) SetBoundingCaps(caps ...capability.Cap) *Command {
	c.want.Caps.Bounding, c.want.Caps.SetBounding = c.capBits("SetBoundingCaps", caps), true
	return c
}

// SetAmbientCaps makes these capabilities the ambient ones: a program that runs
// as an ordinary user has them.
//
// The default is the parent's set, which a change of user empties.
//
// The parent must have these capabilities. Together with [Command.AllowCap]
// they must be allowed.
//
// Like systemd's AmbientCapabilities=; see PR_CAP_AMBIENT in prctl(2).
func (c *Command) SetAmbientCaps(caps ...capability.Cap) *Command {
	c.want.Caps.Ambient, c.want.Caps.SetAmbient = c.capBits("SetAmbientCaps", caps), true
	return c
}

// SetSecurebits sets the securebits flags, unix.SECBIT_NOROOT for example.
//
// The default is the parent's flags. It needs CAP_SETPCAP.
//
// Like systemd's SecureBits=; see PR_SET_SECUREBITS in prctl(2).
func (c *Command) SetSecurebits(bits int) *Command {
	if bits < 0 || bits > 0xff {
		c.fail("SetSecurebits", "%#x are no securebits", bits)
	}
	c.want.Caps.Securebits, c.want.Caps.SetSecurebits = bits, true
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

// SetNoNewPrivs makes sure that nothing the program executes gives it
// more privileges.
//
// Setuid and setgid bits and file capabilities have no effect, for the program
// and for all its descendants. The default is as in the parent.
//
// It needs no privilege.
//
// Like systemd's NoNewPrivileges=; see PR_SET_NO_NEW_PRIVS in prctl(2).
func (c *Command) SetNoNewPrivs() *Command {
	c.want.Confinement.NoNewPrivs = true
	return c
}

// SetSELinuxLabel makes the program run in this SELinux context,
// system_u:system_r:svirt_t:s0:c1,c2 for example.
//
// The default is what the policy says.
//
// A context that the policy does not know is an error before anything starts
// (EINVAL). If the context may not be entered, or not by this program, execve
// fails with EACCES. If the kernel does not run SELinux, that is an error too,
// but see [Command.SetMACOptional].
//
// Like virCommandSetSELinuxLabel and systemd's SELinuxContext=; see
// setexeccon(3).
func (c *Command) SetSELinuxLabel(label string) *Command {
	c.checkLabel("SetSELinuxLabel", label)
	c.want.Labels.SELinux = label
	return c
}

// SetAppArmorProfile makes the program run under this AppArmor profile, which
// must have been loaded.
//
// The default is what the profiles say.
//
// A profile that is not loaded is an error. It is reported before anything
// starts if the parent may read the list of profiles. If the parent may not
// change to the profile, starting fails with EACCES. If the kernel does not run
// AppArmor, that is an error too, but see [Command.SetMACOptional].
//
// Like virCommandSetAppArmorProfile and systemd's AppArmorProfile=; see
// aa_change_onexec(2).
func (c *Command) SetAppArmorProfile(profile string) *Command {
	c.checkLabel("SetAppArmorProfile", profile)
	c.want.Labels.AppArmor = profile
	return c
}

// maxSmackLabel is the longest label, in bytes.
const maxSmackLabel = 255

// SetSmackLabel makes the program run with this Smack label.
//
// The default is the parent's. The child has the label from the time it is set,
// so it executes the program with it.
//
// Changing the label needs CAP_MAC_ADMIN. If the kernel does not run Smack,
// that is an error, but see [Command.SetMACOptional].
//
// Like systemd's SmackProcessLabel=; see smack_set_label_for_self(3).
func (c *Command) SetSmackLabel(label string) *Command {
	c.checkLabel("SetSmackLabel", label)
	if len(label) > maxSmackLabel || strings.ContainsAny(label, "/\"'\\ ") || strings.HasPrefix(label, "-") {
		c.fail("SetSmackLabel", "%q is not a label", label)
	}
	c.want.Labels.Smack = label
	return c
}

// SetMACOptional skips a label whose security module the kernel does not run.
//
// It is about [Command.SetSELinuxLabel], [Command.SetAppArmorProfile] and
// [Command.SetSmackLabel], and for daemons that come with a label for each.
// Without the module, the method in question counts as not called. The default
// is to fail. Every other failure stays one.
func (c *Command) SetMACOptional() *Command {
	c.want.Labels.Optional = true
	return c
}

// maxLabel is what fits into one write: the kernel takes no more than a page.
const maxLabel = 4000

func (c *Command) checkLabel(method, label string) {
	switch {
	case label == "":
		c.fail(method, "the label is empty")
	case strings.ContainsAny(label, "\x00\n"):
		c.fail(method, "the label %q has a NUL byte or a line feed", label)
	case len(label) > maxLabel:
		c.fail(method, "a label of %d bytes is longer than %d", len(label), maxLabel)
	}
}

// Personality is how the kernel treats a program, with the numbers of
// personality(2).
type Personality uint32

// Some personalities.
const (
	// PersonalityLinux is none of the others.
	PersonalityLinux Personality = 0
	// PersonalityLinux32 makes uname(2) tell of a 32-bit machine.
	PersonalityLinux32 Personality = 0x8
	// PersonalityAddrNoRandomize makes addresses predictable. It is a flag, as
	// are those that follow.
	PersonalityAddrNoRandomize Personality = 0x40000
	// PersonalityReadImpliesExec makes everything that can be read executable.
	PersonalityReadImpliesExec Personality = 0x400000
)

// SetPersonality sets the program's personality, flags included.
//
// The default is the parent's. A program that gains privileges, setuid for
// example, loses the dangerous flags.
//
// Like systemd's Personality=; see personality(2).
func (c *Command) SetPersonality(p Personality) *Command {
	if p == 0xffffffff { // which only asks
		c.fail("SetPersonality", "%#x is not a personality", uint32(p))
	}
	c.want.Attributes.Personality, c.want.Attributes.SetPersonality = uint32(p), true
	return c
}

// KeyringMode says which session keyring a program has.
type KeyringMode int

const (
	// KeyringInherit, the default, is the parent's session keyring.
	KeyringInherit KeyringMode = iota
	// KeyringPrivate is a new, empty session keyring, owned by the
	// program's user.
	KeyringPrivate
)

// SetKeyring says which session keyring the program has.
//
// The default is [KeyringInherit]. With [KeyringPrivate] the program cannot see
// the keys in the parent's session keyring.
//
// Like systemd's KeyringMode=; see KEYCTL_JOIN_SESSION_KEYRING in keyctl(2).
func (c *Command) SetKeyring(mode KeyringMode) *Command {
	if mode != KeyringInherit && mode != KeyringPrivate {
		c.fail("SetKeyring", "%d is not a mode", int(mode))
	}
	c.want.Attributes.OwnKeyring = mode == KeyringPrivate
	return c
}

// SetMemoryDenyWriteExecute refuses the program memory that it can write and
// execute, and to make executable what was not: mmap(2) and mprotect(2) fail
// with EACCES. Its descendants are refused the same.
//
// The default is as in the parent. A just-in-time compiler cannot run so.
//
// It needs no privilege, and Linux 6.3: an older kernel fails the start with
// EINVAL. The flag belongs to the memory, which the child no longer shares with
// the parent when it sets it. When [Command.Exec] fails after that step, the
// parent keeps the flag.
//
// Like systemd's MemoryDenyWriteExecute=; see PR_SET_MDWE in prctl(2).
func (c *Command) SetMemoryDenyWriteExecute() *Command {
	c.want.Confinement.DenyWriteExecute = true
	return c
}
