//go:build linux

package plan

import (
	"math"
	"slices"

	"github.com/virspawn/spawn/internal/command"
	"github.com/virspawn/spawn/internal/descriptor"
	"github.com/virspawn/spawn/internal/program"
	"golang.org/x/sys/unix"
)

// move puts the descriptor from of the parent under the number to of
// the child.
type move struct{ from, to int }

// placement is the part of a plan that says what the child's table of
// descriptors becomes.
type placement struct {
	moves []move
	null  [3]bool // standard streams that are /dev/null
	kept  []kept
	top   int // the highest number that the child's table may hold

	// Places in kept; -1 without.
	status   int // the status pipe's end, with a status pipe
	gateR    int // with a gate
	tty      int // the controlling terminal
	self     int // a pidfd of the parent
	landlock int // the rules
	procs    int // the cgroup's list of processes, for a forked helper
	cgroup   int // where the child is born
	pidNS    int // a pid namespace to be born in
	exe      int // of this process, where it is the program
	proc     int // of /proc, with ProcFiles
	joined   []keptNamespace

	nextScratch int
}

// kept is a descriptor that the child needs until exec, which closes it.
type kept struct {
	n      int
	status bool // the end of the status pipe
}

// keep makes a descriptor of the parent survive the closing in the child. It
// must stay open until the child has left the memory. Its number may change:
// keptFD tells it to the steps that follow.
func (f *placement) keep(fd int) (i int) {
	f.kept = append(f.kept, kept{n: fd})
	return len(f.kept) - 1
}

// keepNew makes a new descriptor one that the child has until its program runs.
func (pl *Plan) keepNew(fd int, err error) (n, kept int, _ error) {
	if err == nil {
		fd, err = descriptor.AboveStreams(fd)
	}
	if err != nil {
		return -1, -1, err
	}
	fd = descriptor.Low.Move(fd)
	pl.childEnds = append(pl.childEnds, fd)
	return fd, pl.fds.keep(fd), nil
}

func (f *placement) keptFD(i int) uintptr { return uintptr(f.kept[i].n) }

// leaveTable gives the child a table of its own, with only what lies at or
// below the highest number needed. This process must keep the child's ends of
// pipes open until then, and does so until the child has exec'ed or ended.
func (pl *Plan) leaveTable() {
	f := &pl.fds
	f.top = -1
	for _, k := range f.kept {
		f.top = max(f.top, k.n)
	}
	for _, m := range f.moves {
		f.top = max(f.top, m.from)
	}
	if pl.Mode == InPlace { // a thread shares the directory and the umask too
		pl.Program.Add(unix.SYS_UNSHARE, unix.CLONE_FS)
	}
	if pl.isCopied() && !isDumpableLong() {
		pl.leaveDumpable()
	}
	if pl.Options.Executor == ForkedHelper {
		pl.placeForked()
		pl.enterCgroup()
		return
	}
	pl.Program.Add(unix.SYS_CLOSE_RANGE, uintptr(f.top+1), math.MaxUint32, unix.CLOSE_RANGE_UNSHARE)
}

// place puts every descriptor to its number and closes everything else.
func (pl *Plan) place() {
	f := &pl.fds
	if pl.Options.Executor == ForkedHelper { // born with them
		return
	}
	f.protectKept(pl.Program)
	f.moveAll(pl.Program)
	f.closeGaps(pl.Program)
	f.openNull(pl.Program)
}

// protectKept moves what is kept away when its number is wanted for something
// else. It keeps close-on-exec.
func (f *placement) protectKept(p *program.Program) {
	for i := range f.kept {
		k := &f.kept[i]
		if k.n > command.Stderr && !f.isTarget(k.n) {
			continue
		}
		n := f.scratch()
		dup := p.Add(unix.SYS_DUP3, uintptr(k.n), uintptr(n), unix.O_CLOEXEC)
		if k.status {
			p.StoreStatus(dup)
		}
		k.n = n
	}
}

// moveAll orders the moves so that none overwrites what a later one needs;
// where they form a cycle, one source is first put to a number that is
// otherwise unused.
func (f *placement) moveAll(p *program.Program) {
	pending := f.moves
	for len(pending) > 0 {
		waiting := pending[:0:0]
		for i, m := range pending {
			switch {
			case m.from == m.to:
				p.Add(program.SysFcntl, uintptr(m.to), unix.F_SETFD, 0)
			case isSource(pending[i+1:], m.to) || isSource(waiting, m.to):
				waiting = append(waiting, m)
			default:
				p.Add(unix.SYS_DUP3, uintptr(m.from), uintptr(m.to), 0)
			}
		}
		if len(waiting) == len(pending) {
			from, n := waiting[0].to, f.scratch()
			p.Add(unix.SYS_DUP3, uintptr(from), uintptr(n), unix.O_CLOEXEC)
			for i := range waiting {
				if waiting[i].from == from {
					waiting[i].from = n
				}
			}
		}
		pending = waiting
	}
}

// closeGaps closes what stands between the numbers that are kept.
func (f *placement) closeGaps(p *program.Program) {
	keep := make([]int, 0, 8)
	for _, k := range f.kept {
		keep = append(keep, k.n)
	}
	for _, m := range f.moves {
		keep = append(keep, m.to)
	}
	slices.Sort(keep)
	next := 0
	for _, n := range keep {
		if n > next {
			p.Add(unix.SYS_CLOSE_RANGE, uintptr(next), uintptr(n-1), 0)
		}
		next = n + 1
	}
	if next <= f.top {
		p.Add(unix.SYS_CLOSE_RANGE, uintptr(next), math.MaxUint32, 0)
	}
}

// openNull opens /dev/null for the streams that want it. It comes after the
// closing, so that the number is the lowest free one, and known.
func (f *placement) openNull(p *program.Program) {
	first := -1
	for n, null := range f.null {
		switch {
		case !null:
		case first < 0:
			first = n
			p.Expect(p.Add(unix.SYS_OPENAT, atFDCWD, p.CString("/dev/null"), unix.O_RDWR), uintptr(n))
		default:
			p.Add(unix.SYS_DUP3, uintptr(first), uintptr(n), 0)
		}
	}
}

// atFDCWD is unix.AT_FDCWD as an argument of a system call.
const atFDCWD = ^uintptr(-unix.AT_FDCWD - 1)

// scratch returns the lowest number from 3 on that is neither a source nor
// a target. The child's table is its own, so what may stand there is lost
// to nobody.
func (f *placement) scratch() int {
	n := command.Stderr + 1
	n = max(n, f.nextScratch)
	for f.isKept(n) || f.isTarget(n) || isSource(f.moves, n) {
		n++
	}
	f.top = max(f.top, n)
	f.nextScratch = n + 1
	return n
}

func (f *placement) isKept(n int) bool {
	return slices.ContainsFunc(f.kept, func(k kept) bool { return k.n == n })
}

func (f *placement) isTarget(n int) bool {
	return slices.ContainsFunc(f.moves, func(m move) bool { return m.to == n })
}

func isSource(moves []move, n int) bool {
	return slices.ContainsFunc(moves, func(m move) bool { return m.from == n })
}
