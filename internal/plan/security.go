//go:build linux

package plan

import (
	"math"
	"os"
	"slices"
	"syscall"

	"github.com/virspawn/spawn/internal/child"
	"github.com/virspawn/spawn/internal/command"
	"github.com/virspawn/spawn/internal/nofile"
	"github.com/virspawn/spawn/internal/program"
	"golang.org/x/sys/unix"
)

func (pl *Plan) umask() {
	if pl.Command.Umask >= 0 {
		pl.Program.Add(unix.SYS_UMASK, uintptr(pl.Command.Umask))
	}
}

func (pl *Plan) limits() {
	files := false
	for _, l := range pl.Command.Rlimits {
		pl.prlimit(l)
		files = files || l.Resource == command.RlimitNofile
	}
	if files {
		return
	}
	// The Go runtime raises the soft limit to the hard one; a program that uses
	// select(2) would break.
	if soft, hard, raised := nofile.Original(); raised {
		pl.prlimit(command.Rlimit{Resource: command.RlimitNofile, Soft: soft, Hard: hard})
	} else if pl.Helper != nil { // whose runtime has done the same
		var l unix.Rlimit
		if unix.Prlimit(0, command.RlimitNofile, nil, &l) == nil {
			pl.prlimit(command.Rlimit{Resource: command.RlimitNofile, Soft: l.Cur, Hard: l.Max})
		}
	}
}

func (pl *Plan) prlimit(l command.Rlimit) {
	pl.Program.Add(unix.SYS_PRLIMIT64, 0, uintptr(l.Resource), pl.Program.Words(l.Soft, l.Hard), 0)
}

// credentials changes groups, then gid, then uid: each needs the privilege that
// the next one gives up.
func (pl *Plan) credentials() {
	ids := &pl.Command.IDs
	if groups, set := wantedGroups(ids, &pl.Command.Namespaces); set {
		pl.setgroups(groups)
	}
	if ids.SetGID {
		gid := uintptr(ids.GID)
		pl.Program.Add(program.SysSetresgid, gid, gid, gid)
	}
	if ids.SetUID {
		uid := uintptr(ids.UID)
		pl.Program.Add(program.SysSetresuid, uid, uid, uid)
	}
}

// wantedGroups returns the supplementary groups to set, if any are to be set.
//
// In a user namespace no id is one that this process has, whatever its number.
func wantedGroups(ids *command.Credentials, n *command.Namespaces) (groups []uint32, set bool) {
	inside := n.InUser()
	switch {
	case ids.KeepGroups:
		return nil, false
	case ids.SetGroups:
		// An ordinary user cannot set groups, and need not where it has
		// just these.
		return ids.Groups, os.Geteuid() == 0 || !hasGroups(ids, inside)
	case DeniesSetgroups(n):
		return nil, false
	}
	return nil, inside || leave(ids)
}

// hasGroups reports whether the program has exactly these supplementary groups
// if none are set. In a user namespace it can only have none.
//
// The own gid counts as the others do. It may be among the groups or not, and
// only there it stays when the gid changes. A user's groups by the database
// name the primary one again. Where that is the gid already, a process without
// it among its others is in the same groups.
func hasGroups(ids *command.Credentials, inside bool) bool {
	own, err := os.Getgroups()
	if err != nil || inside && len(own) > 0 || ids.SetGID && ids.GID != os.Getegid() {
		return false
	}
	wanted := make([]int, len(ids.Groups))
	for i, g := range ids.Groups {
		wanted[i] = int(g)
	}
	if ids.UsersGroups && ids.GID == os.Getegid() && !inside {
		own, wanted = append(own, ids.GID), append(wanted, ids.GID)
	}
	slices.Sort(own)
	slices.Sort(wanted)
	return slices.Equal(slices.Compact(own), slices.Compact(wanted))
}

func (pl *Plan) setgroups(groups []uint32) {
	addr := uintptr(0)
	if len(groups) > 0 {
		addr = pl.Program.Uint32s(groups)
	}
	pl.Program.Add(program.SysSetgroups, uintptr(len(groups)), addr)
}

// leave reports whether the child leaves the parent's user or group.
func leave(ids *command.Credentials) bool {
	return ids.SetUID && (ids.UID != os.Geteuid() || ids.UID != os.Getuid()) ||
		ids.SetGID && (ids.GID != os.Getegid() || ids.GID != os.Getgid())
}

// dumpCore has a bit for each signal whose default is a core dump. (signal(7))
const dumpCore uint64 = 1<<unix.SIGQUIT | 1<<unix.SIGILL | 1<<unix.SIGTRAP | 1<<unix.SIGABRT | 1<<unix.SIGBUS |
	1<<unix.SIGFPE | 1<<unix.SIGSEGV | 1<<unix.SIGXCPU | 1<<unix.SIGXFSZ | 1<<unix.SIGSYS

// signals sets every disposition to its default, those that are ignored too:
// exec resets only handlers. Those that the program is to ignore are ignored.
//
// A child that shares the parent's memory has a handler for those that dump
// core, until exec: the core would be the parent's.
func (pl *Plan) signals() {
	// No flags, no restorer, and an empty mask.
	toDefault := pl.Program.Words(uint64(sigDfl), 0, 0, 0)
	var ignore uintptr
	if pl.Command.Attributes.Ignored != nil {
		ignore = pl.Program.Words(uint64(SigIgn), 0, 0, 0)
	}
	toDie := toDefault
	if pl.Options.Executor == Direct && pl.Mode != InPlace {
		// SA_RESTORER, without which amd64 has no handlers
		const restorer = 0x04000000
		die := uint64(child.Die())
		toDie = pl.Program.Words(die, restorer, die, math.MaxUint64)
	}
	for n := 1; n <= command.MaxSignal; n++ {
		action := toDefault
		switch {
		case n == command.SigKill || n == command.SigStop:
			continue
		case slices.Contains(pl.Command.Attributes.Ignored, n):
			action = ignore
		case dumpCore>>n&1 != 0:
			action = toDie
		}
		if pl.Mode == InPlace && action != ignore && disposition(syscall.Signal(n)) != SigIgn {
			// exec resets handlers, and until then this process keeps them.
			continue
		}
		pl.Program.Add(unix.SYS_RT_SIGACTION, uintptr(n), action, 0, sigsetSize)
	}
}

const sigsetSize = 8 // bytes

func (pl *Plan) signalMask() {
	pl.Program.Add(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, pl.Program.Words(0), 0, sigsetSize)
}
