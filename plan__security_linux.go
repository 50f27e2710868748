package spawn

import (
	"os"
	"slices"
	"syscall"

	"github.com/virspawn/spawn/internal/nofile"
	"github.com/virspawn/spawn/internal/program"
	"golang.org/x/sys/unix"
)

func (pl *plan) umask() {
	if pl.cmd.umask >= 0 {
		pl.prog.Add(unix.SYS_UMASK, uintptr(pl.cmd.umask))
	}
}

func (pl *plan) limits() {
	files := false
	for _, l := range pl.cmd.rlimits {
		pl.prlimit(l)
		files = files || l.resource == rlimitNofile
	}
	if files {
		return
	}
	// The Go runtime raises the soft limit to the hard one; a program that uses select(2) would break.
	if soft, hard, raised := nofile.Original(); raised {
		pl.prlimit(rlimit{rlimitNofile, soft, hard})
	} else if pl.helper != nil { // whose runtime has done the same
		var l unix.Rlimit
		if unix.Prlimit(0, rlimitNofile, nil, &l) == nil {
			pl.prlimit(rlimit{rlimitNofile, l.Cur, l.Max})
		}
	}
}

func (pl *plan) prlimit(l rlimit) {
	pl.prog.Add(unix.SYS_PRLIMIT64, 0, uintptr(l.resource), pl.prog.Words(l.soft, l.hard), 0)
}

// credentials changes groups, then gid, then uid: each needs the privilege that the next one gives up.
func (pl *plan) credentials() {
	ids := &pl.cmd.ids
	switch {
	case ids.setGroups && os.Geteuid() != 0 && hasGroups(ids): // which an ordinary user can keep, and not set
	case ids.setGroups:
		pl.setgroups(ids.groups)
	case deniesSetgroups(&pl.cmd.namespaces):
	case leave(ids), pl.cmd.namespaces.fresh&unix.CLONE_NEWUSER != 0 && (ids.setUID || ids.setGID):
		pl.setgroups(nil)
	}
	if ids.setGID {
		gid := uintptr(ids.gid)
		pl.prog.Add(program.SysSetresgid, gid, gid, gid)
	}
	if ids.setUID {
		uid := uintptr(ids.uid)
		pl.prog.Add(program.SysSetresuid, uid, uid, uid)
	}
}

// hasGroups reports whether this process has these supplementary groups, in any order. Its gid counts for nothing: it is in that group
// anyway.
func hasGroups(ids *credentials) bool {
	own, err := os.Getgroups()
	if err != nil {
		return false
	}
	gid := os.Getegid()
	wanted := make([]int, len(ids.groups))
	for i, g := range ids.groups {
		wanted[i] = int(g)
	}
	for _, groups := range []*[]int{&own, &wanted} {
		slices.Sort(*groups)
		*groups = slices.DeleteFunc(slices.Compact(*groups), func(g int) bool { return g == gid })
	}
	return slices.Equal(own, wanted)
}

func (pl *plan) setgroups(groups []uint32) {
	addr := uintptr(0)
	if len(groups) > 0 {
		addr = pl.prog.Uint32s(groups)
	}
	pl.prog.Add(program.SysSetgroups, uintptr(len(groups)), addr)
}

// leave reports whether the child leaves this process's user or group.
func leave(ids *credentials) bool {
	return ids.setUID && (ids.uid != os.Geteuid() || ids.uid != os.Getuid()) ||
		ids.setGID && (ids.gid != os.Getegid() || ids.gid != os.Getgid())
}

// signals sets every disposition to its default, those that are ignored too: exec resets only handlers. Those that the program is to
// ignore are ignored.
func (pl *plan) signals() {
	toDefault := pl.prog.Words(uint64(sigDfl), 0, 0, 0) // no flags, no restorer, empty mask
	var ignore uintptr
	if pl.cmd.attrs.ignored != nil {
		ignore = pl.prog.Words(uint64(sigIgn), 0, 0, 0)
	}
	for n := 1; n <= maxSignal; n++ {
		action := toDefault
		switch {
		case n == sigKill || n == sigStop:
			continue
		case slices.Contains(pl.cmd.attrs.ignored, n):
			action = ignore
		case pl.mode == inPlace && disposition(syscall.Signal(n)) != sigIgn: // exec does it, and until then this process keeps its handlers
			continue
		}
		pl.prog.Add(unix.SYS_RT_SIGACTION, uintptr(n), action, 0, sigsetSize)
	}
}

const sigsetSize = 8 // bytes

func (pl *plan) signalMask() {
	pl.prog.Add(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, pl.prog.Words(0), 0, sigsetSize)
}
