//go:build linux

package plan

import (
	"math"
	"os"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/virspawn/spawn/internal/command"
	"github.com/virspawn/spawn/internal/descriptor"
	"github.com/virspawn/spawn/internal/helper"
	"golang.org/x/sys/unix"
)

// Helper is what one run through a helper needs.
type Helper struct {
	Report *helper.Report
	image  int // its descriptor, empty until the program is written

	// In placement.kept.
	exe, imageKept, reportKept int

	closeStatus func() // CloseStatusEnd
	watch       int    // a further descriptor of the status pipe

	// For a forked helper.
	Files []uintptr // its descriptors
	null  int       // /dev/null
}

// checkHelper opens what a helper needs.
func (pl *Plan) checkHelper() error {
	if by := pl.Options.Executor; by != ChildAndHelper && by != ForkedHelper {
		return nil
	}
	h := &Helper{watch: -1, closeStatus: pl.CloseStatusEnd}
	report, reportFD, err := helper.NewReport()
	if err != nil {
		return pl.Failed(err)
	}
	h.Report = report
	pl.Helper = h // for Release
	if _, h.reportKept, err = pl.keepNew(reportFD, nil); err != nil {
		return pl.Failed(err)
	}
	if h.image, h.imageKept, err = pl.keepNew(helper.NewImage()); err != nil {
		return pl.Failed(err)
	}
	if pl.Options.Executor == ForkedHelper {
		null, err := unix.Open(os.DevNull, unix.O_RDWR|unix.O_CLOEXEC, 0)
		if err == nil {
			null, err = descriptor.AboveStreams(null)
		}
		if err != nil {
			return pl.Failed(os.NewSyscallError("open("+os.DevNull+")", err))
		}
		pl.childEnds = append(pl.childEnds, null)
		h.null = null
		return nil
	}
	open := openSelf
	if pl.Command.Namespaces.Joins(unix.CLONE_NEWUSER | unix.CLONE_NEWPID) {
		open = copySelf
	}
	if _, h.exe, err = pl.keepNew(open()); err != nil {
		return pl.Failed(err)
	}
	return nil
}

// openSelf opens the program of this process to be executed.
func openSelf() (int, error) {
	fd, err := unix.Open(SelfExe, unix.O_PATH|unix.O_CLOEXEC, 0)
	return fd, os.NewSyscallError("open("+SelfExe+")", err)
}

// copySelf makes a copy of the program of this process that nobody may read,
// for namespaces of somebody else.
//
// Who finds a helper in /proc there may find its executable too, and write to
// it when it has ended.
//
// The memory of what execve starts in a user namespace is that namespace's, and
// its root may trace the process, dumpable or not: a helper that still is this
// process's user outside. But where the executable may not be read, the memory
// is that of the namespace which the file's owner is in. (would_dump in the
// kernel's fs/exec.c)
func copySelf() (int, error) {
	from, err := os.Open(SelfExe)
	if err != nil {
		return -1, err
	}
	defer from.Close()
	fd, err := descriptor.Memfd(helper.Name, true)
	if err != nil {
		return -1, err
	}
	for n := 1; n > 0 && err == nil; {
		if n, err = unix.Sendfile(fd, int(from.Fd()), nil, math.MaxInt32); err == unix.EINTR {
			n, err = 1, nil
		}
	}
	if err = os.NewSyscallError("sendfile", err); err == nil {
		err = os.NewSyscallError("fchmod", unix.Fchmod(fd, 0o111))
	}
	if err == nil {
		_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_SEAL|unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_WRITE)
		err = os.NewSyscallError("fcntl(F_ADD_SEALS)", err)
	}
	if err != nil {
		descriptor.Close(fd)
		return -1, err
	}
	return fd, nil
}

// SelfExe is the program of this process, which a helper executes.
const SelfExe = helper.Executable

// enterHelper makes the child a helper, which runs what follows.
func (pl *Plan) enterHelper() {
	h := pl.Helper
	if h == nil {
		return
	}
	p := pl.Program
	caps := pl.helperCaps()
	if pl.Options.Executor == ChildAndHelper {
		pl.keepAcrossExec(true)
		// Or the Go runtime could not make panics of faults.
		p.Add(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, p.Words(^uint64(helper.Faults)), 0, sigsetSize)
		pl.keepCaps(caps)
		args := pl.HelperArgs()
		argv := p.Pointers(len(args))
		for i, a := range args {
			p.SetPointer(argv, i, p.CString(a))
		}
		environ := helper.Environ()
		envp := p.Pointers(len(environ))
		for i, s := range environ {
			addr := p.CString(s)
			p.SetPointer(envp, i, addr)
			// The value is not the program's, and may hold what nobody
			// should see.
			p.Hide(addr, strings.IndexByte(s, '=')+1)
		}
		p.Add(unix.SYS_EXECVEAT, pl.fds.keptFD(h.exe), p.CString(""), argv, envp, unix.AT_EMPTY_PATH)
		p.Split()
	}
	pl.restoreCaps(caps)
	pl.openProc() // what was opened before execve would be refused
	if !pl.isMappedAtGate() {
		pl.leaveDumpable()
	}
}

// HelperArgs returns the arguments of a helper.
func (pl *Plan) HelperArgs() []string {
	return helper.Args(int(pl.fds.keptFD(pl.Helper.imageKept)))
}

// callHook calls the hook, if there is one.
func (pl *Plan) callHook() {
	if c := pl.Command; c.Hook != "" {
		pl.Program.AddHook(c.Hook, c.HookArg)
	}
}

// LeftMemory reports whether the helper has become the program, or has ended:
// then nobody has the status pipe's other end.
func (h *Helper) LeftMemory() bool {
	if !h.Report.Execs() {
		return false
	}
	h.closeStatus() // the helper has a table of its own
	fds := []unix.PollFd{{Fd: int32(h.watch)}}
	_, err := unix.Poll(fds, 0)
	return err == nil && fds[0].Revents&unix.POLLHUP != 0
}

// WriteImage hands the stub and the helper what they are to run of the program.
func (pl *Plan) WriteImage() error {
	if pl.usesStub() {
		if err := pl.writeStub(); err != nil {
			return err
		}
	}
	h := pl.Helper
	if h == nil {
		return nil
	}
	m := helper.Image{Program: pl.Program, Report: int(pl.fds.keptFD(h.reportKept))}
	for i := range pl.fds.kept {
		if pl.isOpen(i) {
			m.Kept = append(m.Kept, int(pl.fds.keptFD(i)))
		}
	}
	if pl.Options.Executor == ForkedHelper {
		m.Only = []int{}
		for n, fd := range h.Files {
			if fd != noFile {
				m.Only = append(m.Only, n)
			}
		}
	}
	if err := m.Write(h.image); err != nil {
		return pl.Failed(err)
	}
	return nil
}

// sets are capabilities that execve of a helper must not change.
type sets struct {
	inUserNamespace                            bool // then all there are
	stay                                       bool // by themselves
	byRoot                                     bool // execve gives root more
	effective, permitted, inheritable, ambient uint64
}

// helperCaps returns the capabilities that the child has when it becomes
// a helper.
func (pl *Plan) helperCaps() (s sets) {
	if pl.inOtherUserNamespace() {
		return sets{inUserNamespace: true, effective: 1<<(LastCap()+1) - 1, permitted: 1<<(LastCap()+1) - 1}
	}
	return ownSets()
}

// ownSets returns the capabilities of this thread.
func ownSets() (s sets) {
	s.permitted, s.inheritable = ownCaps()
	before, bounding := s.permitted, boundingOf(s.permitted)
	s.permitted &= bounding | s.inheritable // no execve keeps more
	for c := range LastCap() + 1 {
		if s.inheritable&(1<<c) == 0 {
			continue // nor is it in the ambient set
		}
		if set, err := unix.PrctlRetInt(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_IS_SET, uintptr(c), 0, 0); err == nil && set == 1 {
			s.ambient |= 1 << c
		}
	}
	s.effective = ownEffective() & s.permitted
	securebits, err := unix.PrctlRetInt(unix.PR_GET_SECUREBITS, 0, 0, 0, 0)
	const noRoot = 1 << 0 // SECBIT_NOROOT
	s.byRoot = os.Geteuid() == 0 && err == nil && securebits&noRoot == 0
	s.stay = os.Geteuid() == 0 && os.Getuid() == 0 && err == nil && securebits == 0 && s.ambient == 0 && before == bounding|s.inheritable && s.effective == before
	return s
}

// lastBounding is what boundingOf has found last.
var lastBounding atomic.Pointer[[2]uint64]

// boundingOf returns the bounding set of a thread with these permitted
// capabilities, which takes one call for each and is remembered. Another thread
// may have the same ones, and less in that set: then what execve of a stub or a
// helper takes from it is found by the first step that needs it.
func boundingOf(permitted uint64) (bounding uint64) {
	if last := lastBounding.Load(); last != nil && last[0] == permitted {
		return last[1]
	}
	for c := range LastCap() + 1 {
		if in, known := inBounding(uintptr(c)); in || !known {
			bounding |= 1 << c
		}
	}
	lastBounding.Store(&[2]uint64{permitted, bounding})
	return bounding
}

// keepCaps has the capabilities survive the execve of the helper, where its
// user is not root.
func (pl *Plan) keepCaps(s sets) {
	if s.permitted == 0 || s.byRoot {
		return
	}
	pl.capset(s.permitted, s.permitted)
	pl.raiseAmbient(s.permitted)
}

// restoreCaps makes them what they were: as root, execve gives more, and all of
// it is effective.
func (pl *Plan) restoreCaps(s sets) {
	if s.stay || s.permitted == 0 && !s.inUserNamespace && os.Geteuid() != 0 {
		return
	}
	pl.capsetAll(s.effective, s.permitted, s.inheritable)
	pl.Program.Add(unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL)
	pl.raiseAmbient(s.ambient)
}

// raiseAmbient raises these capabilities in the ambient set.
func (pl *Plan) raiseAmbient(caps uint64) {
	for n := range 64 {
		if caps&(1<<n) != 0 {
			pl.Program.Add(unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, uintptr(n))
		}
	}
}

// noFile stands in a list of descriptors for one that is closed.
const noFile = ^uintptr(0)

// placeForked lists the descriptors for a forked helper, which is born
// with them.
func (pl *Plan) placeForked() {
	f := &pl.fds
	set := func(n int, fd int) {
		for len(pl.Helper.Files) <= n {
			pl.Helper.Files = append(pl.Helper.Files, noFile)
		}
		pl.Helper.Files[n] = uintptr(fd)
	}
	for _, m := range f.moves {
		set(m.to, m.from)
	}
	for n, null := range f.null {
		if null {
			set(n, pl.Helper.null)
		}
	}
	for i := range f.kept {
		k := &f.kept[i]
		fd := k.n
		if fd <= command.Stderr || f.isTarget(fd) {
			k.n = f.scratch()
		}
		set(k.n, fd)
	}
}

// keepCgroup keeps what the child needs to be born in its cgroup. A forked
// helper gets the list of its processes: with the parent's privileges, by which
// the kernel goes. It is not born there, because package syscall waits for
// execve, and that wait would have no end in a frozen cgroup.
func (pl *Plan) keepCgroup() error {
	switch {
	case pl.cgroup == 0:
		return nil
	case pl.Options.Executor != ForkedHelper:
		pl.fds.cgroup = pl.fds.keep(pl.cgroup)
		return nil
	}
	fd, err := unix.Openat(pl.cgroup, "cgroup.procs", unix.O_WRONLY|unix.O_CLOEXEC, 0)
	err = os.NewSyscallError("openat("+strconv.Itoa(pl.cgroup)+`, "cgroup.procs", O_WRONLY|O_CLOEXEC)`, err)
	if _, pl.fds.procs, err = pl.keepNew(fd, err); err != nil {
		return pl.Failed(err)
	}
	return nil
}

// enterCgroup makes a forked helper do first of all what a child is born with.
func (pl *Plan) enterCgroup() {
	if pl.fds.procs < 0 {
		return
	}
	// 0 is the writer itself.
	pl.Program.Add(unix.SYS_WRITE, pl.fds.keptFD(pl.fds.procs), pl.Program.CString("0"), 1)
	if own := pl.Command.Namespaces.Fresh & unix.CLONE_NEWCGROUP; own != 0 && !pl.Forks() {
		pl.Program.Add(unix.SYS_UNSHARE, uintptr(own))
	}
}

// closeReport gives the memory of the helper's report back. A nil Helper
// has none.
func (h *Helper) closeReport() {
	if h != nil && h.Report != nil {
		h.Report.Close()
		h.Report = nil
		if h.watch >= 0 {
			descriptor.Close(h.watch)
		}
	}
}

// watchStatus keeps the parent's end of the status pipe, which tells when the
// helper has become the program.
func (h *Helper) watchStatus(statusR int) (err error) {
	h.watch, err = unix.FcntlInt(uintptr(statusR), unix.F_DUPFD_CLOEXEC, command.Stderr+1)
	return os.NewSyscallError("fcntl(F_DUPFD_CLOEXEC)", err)
}

// ForkedNamespaces are those that a forked helper is born in: that of cgroups,
// which shows them from its own one on, waits until it is in that.
func (pl *Plan) ForkedNamespaces() uint64 {
	if pl.fds.procs < 0 {
		return pl.CloneOptions.Namespaces
	}
	return pl.CloneOptions.Namespaces &^ unix.CLONE_NEWCGROUP
}

// HookStep names the hook for an error, or the helper.
func (pl *Plan) HookStep() string {
	for i := range pl.Program.Len() {
		if _, _, ok := pl.Program.Hook(i); ok {
			return pl.Program.Step(i)
		}
	}
	return "helper"
}
