//go:build linux

package plan

import (
	"os"
	"slices"
	"syscall"

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
	switch {
	case ids.SetGroups && os.Geteuid() != 0 && hasGroups(ids):
		// An ordinary user can keep its groups, but not set them.
	case ids.SetGroups:
		pl.setgroups(ids.Groups)
	case DeniesSetgroups(&pl.Command.Namespaces):
	case leave(ids), pl.Command.Namespaces.Fresh&unix.CLONE_NEWUSER != 0 && (ids.SetUID || ids.SetGID):
		pl.setgroups(nil)
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

// hasGroups reports whether the parent has these supplementary groups, in any
// order. Its gid counts for nothing: it is in that group anyway.
func hasGroups(ids *command.Credentials) bool {
	own, err := os.Getgroups()
	if err != nil {
		return false
	}
	gid := os.Getegid()
	wanted := make([]int, len(ids.Groups))
	for i, g := range ids.Groups {
		wanted[i] = int(g)
	}
	for _, groups := range []*[]int{&own, &wanted} {
		slices.Sort(*groups)
		*groups = slices.DeleteFunc(slices.Compact(*groups), func(g int) bool { return g == gid })
	}
	return slices.Equal(own, wanted)
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

// signals sets every disposition to its default, those that are ignored too:
// exec resets only handlers. Those that the program is to ignore are ignored.
func (pl *Plan) signals() {
	// No flags, no restorer, and an empty mask.
	toDefault := pl.Program.Words(uint64(sigDfl), 0, 0, 0)
	var ignore uintptr
	if pl.Command.Attributes.Ignored != nil {
		ignore = pl.Program.Words(uint64(SigIgn), 0, 0, 0)
	}
	for n := 1; n <= command.MaxSignal; n++ {
		action := toDefault
		switch {
		case n == command.SigKill || n == command.SigStop:
			continue
		case slices.Contains(pl.Command.Attributes.Ignored, n):
			action = ignore
		case pl.Mode == InPlace && disposition(syscall.Signal(n)) != SigIgn:
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
