package spawn

import (
	"os"
	"strconv"
	"strings"
	"sync"

	"github.com/virspawn/spawn/internal/helper"
	"github.com/virspawn/spawn/internal/program"
	"golang.org/x/sys/unix"
)

// helperRun is what one run through a helper needs.
type helperRun struct {
	report *helper.Report
	image  int // its descriptor, empty until the program is written

	// In placement.kept.
	exe, imageKept, reportKept int

	// The child's end of the status pipe, closed once, and a further descriptor of the other one.
	closeStatus func()
	watch       int

	// For a forked helper.
	files []uintptr // its descriptors
	null  int       // /dev/null
}

// checkHelper opens what a helper needs.
func (pl *plan) checkHelper() error {
	if pl.opts.executor == direct {
		return nil
	}
	h := &helperRun{watch: -1, closeStatus: func() {}}
	report, reportFD, err := helper.NewReport()
	if err != nil {
		return pl.failed(err)
	}
	h.report = report
	pl.helper = h // for release
	keep := func(fd int, err error) (int, int, error) {
		if err == nil {
			fd, err = aboveStreams(fd)
		}
		if err != nil {
			return -1, -1, err
		}
		fd = low.move(fd)
		pl.childEnds = append(pl.childEnds, fd)
		return fd, pl.fds.keep(fd), nil
	}
	if _, h.reportKept, err = keep(reportFD, nil); err != nil {
		return pl.failed(err)
	}
	if h.image, h.imageKept, err = keep(helper.NewImage()); err != nil {
		return pl.failed(err)
	}
	if pl.opts.executor == forkedHelper {
		null, err := unix.Open(os.DevNull, unix.O_RDWR|unix.O_CLOEXEC, 0)
		if err == nil {
			null, err = aboveStreams(null)
		}
		if err != nil {
			return pl.failed(os.NewSyscallError("open("+os.DevNull+")", err))
		}
		pl.childEnds = append(pl.childEnds, null)
		h.null = null
		return nil
	}
	exe, err := unix.Open(selfExe, unix.O_PATH|unix.O_CLOEXEC, 0)
	if _, h.exe, err = keep(exe, os.NewSyscallError("open("+selfExe+")", err)); err != nil {
		return pl.failed(err)
	}
	return nil
}

const selfExe = helper.Executable

// enterHelper makes the child a helper, which runs what follows.
func (pl *plan) enterHelper() {
	h := pl.helper
	if h == nil {
		return
	}
	p := pl.prog
	caps := pl.helperCaps()
	if pl.opts.executor == childAndHelper {
		for i := range pl.fds.kept {
			p.Add(program.SysFcntl, pl.fds.keptFD(i), unix.F_SETFD, 0)
		}
		// Or the Go runtime could not make panics of faults.
		p.Add(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, p.Words(^uint64(helper.Faults)), 0, sigsetSize)
		pl.keepCaps(caps)
		args := pl.helperArgs()
		argv := p.Pointers(len(args))
		for i, a := range args {
			p.SetPointer(argv, i, p.CString(a))
		}
		environ := os.Environ()
		envp := p.Pointers(len(environ))
		for i, s := range environ {
			addr := p.CString(s)
			p.SetPointer(envp, i, addr)
			p.Hide(addr, strings.IndexByte(s, '=')+1) // it is not the program's, and may hold what nobody should see
		}
		p.Add(unix.SYS_EXECVEAT, pl.fds.keptFD(h.exe), p.CString(""), argv, envp, unix.AT_EMPTY_PATH)
		p.Split()
	}
	pl.restoreCaps(caps)
	pl.openProc() // what was opened before execve would be refused
}

func (pl *plan) helperArgs() []string {
	return []string{helper.Name, strconv.Itoa(int(pl.fds.keptFD(pl.helper.imageKept)))}
}

// callHook calls the hook, if there is one.
func (pl *plan) callHook() {
	if c := pl.cmd; c.hook != "" {
		pl.prog.AddHook(c.hook, c.hookArg)
	}
}

// LeftMemory reports whether the helper has become the program, or has ended: then nobody has the status pipe's other end.
func (h *helperRun) LeftMemory() bool {
	if !h.report.Execs() {
		return false
	}
	h.closeStatus() // the helper has a table of its own
	fds := []unix.PollFd{{Fd: int32(h.watch)}}
	_, err := unix.Poll(fds, 0)
	return err == nil && fds[0].Revents&unix.POLLHUP != 0
}

// writeImage hands the helper its part of the program.
func (pl *plan) writeImage() error {
	h := pl.helper
	if h == nil {
		return nil
	}
	m := helper.Image{Program: pl.prog, Report: int(pl.fds.keptFD(h.reportKept))}
	for i := range pl.fds.kept {
		m.Kept = append(m.Kept, int(pl.fds.keptFD(i)))
	}
	if pl.opts.executor == forkedHelper {
		m.Only = []int{}
		for n, fd := range h.files {
			if fd != noFile {
				m.Only = append(m.Only, n)
			}
		}
	}
	if err := m.Write(h.image); err != nil {
		return pl.failed(err)
	}
	return nil
}

// sets are capabilities that execve of a helper must not change.
type sets struct {
	inUserNamespace                 bool // then all there are
	stay                            bool // by themselves
	permitted, inheritable, ambient uint64
}

func (pl *plan) helperCaps() (s sets) {
	n := &pl.cmd.namespaces
	if n.fresh&unix.CLONE_NEWUSER != 0 || n.joins(unix.CLONE_NEWUSER) {
		return sets{inUserNamespace: true, permitted: 1<<(lastCap()+1) - 1}
	}
	s.permitted, s.inheritable = ownCaps()
	before, bounding := s.permitted, uint64(0)
	for c := range lastCap() + 1 {
		switch in, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, uintptr(c), 0, 0, 0); {
		case err == nil && in != 0:
			bounding |= 1 << c
		case err == nil && s.inheritable&(1<<c) == 0:
			s.permitted &^= 1 << c // no execve keeps that one
		}
		if set, err := unix.PrctlRetInt(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_IS_SET, uintptr(c), 0, 0); err == nil && set == 1 {
			s.ambient |= 1 << c
		}
	}
	securebits, err := unix.PrctlRetInt(unix.PR_GET_SECUREBITS, 0, 0, 0, 0)
	s.stay = os.Geteuid() == 0 && os.Getuid() == 0 && err == nil && securebits == 0 && s.ambient == 0 && before == bounding|s.inheritable
	return s
}

// keepCaps has the capabilities survive the execve of the helper, where its user is not root.
func (pl *plan) keepCaps(s sets) {
	if s.permitted == 0 || !s.inUserNamespace && os.Geteuid() == 0 {
		return
	}
	pl.capset(s.permitted, s.permitted)
	pl.raiseAmbient(s.permitted)
}

// restoreCaps makes them what they were: as root, execve gives more.
func (pl *plan) restoreCaps(s sets) {
	if s.stay || s.permitted == 0 && !s.inUserNamespace && os.Geteuid() != 0 {
		return
	}
	pl.capset(s.permitted, s.inheritable)
	pl.prog.Add(unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL)
	pl.raiseAmbient(s.ambient)
}

func (pl *plan) raiseAmbient(caps uint64) {
	for n := range 64 {
		if caps&(1<<n) != 0 {
			pl.prog.Add(unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, uintptr(n))
		}
	}
}

// noFile stands in a list of descriptors for one that is closed.
const noFile = ^uintptr(0)

// placeForked lists the descriptors for a forked helper, which is born with them.
func (pl *plan) placeForked() {
	f := &pl.fds
	set := func(n int, fd int) {
		for len(pl.helper.files) <= n {
			pl.helper.files = append(pl.helper.files, noFile)
		}
		pl.helper.files[n] = uintptr(fd)
	}
	for _, m := range f.moves {
		set(m.to, m.from)
	}
	for n, null := range f.null {
		if null {
			set(n, pl.helper.null)
		}
	}
	for i := range f.kept {
		k := &f.kept[i]
		fd := k.n
		if fd <= stderr || f.isTarget(fd) {
			k.n = f.scratch()
		}
		set(k.n, fd)
	}
}

// openProcs opens the list of processes of the cgroup, for a forked helper: with this process's privileges, by which the kernel goes. It is not
// born there, because package syscall waits for execve, and that wait would have no end in a frozen cgroup.
func (pl *plan) openProcs() error {
	if pl.opts.executor != forkedHelper || pl.options.Cgroup == 0 {
		return nil
	}
	fd, err := unix.Openat(pl.options.Cgroup, "cgroup.procs", unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err == nil {
		fd, err = aboveStreams(fd)
	}
	if err != nil {
		return pl.failed(os.NewSyscallError("openat("+strconv.Itoa(pl.options.Cgroup)+`, "cgroup.procs", O_WRONLY|O_CLOEXEC)`, err))
	}
	fd = low.move(fd)
	pl.childEnds = append(pl.childEnds, fd)
	pl.fds.procs = pl.fds.keep(fd)
	return nil
}

// enterCgroup makes a forked helper do first of all what a child is born with.
func (pl *plan) enterCgroup() {
	if pl.fds.procs < 0 {
		return
	}
	pl.prog.Add(unix.SYS_WRITE, pl.fds.keptFD(pl.fds.procs), pl.prog.CString("0"), 1) // itself
	if own := pl.options.Namespaces & unix.CLONE_NEWCGROUP; own != 0 {
		pl.prog.Add(unix.SYS_UNSHARE, uintptr(own))
	}
}

// closeReport gives the memory of the helper's report back.
func (pl *plan) closeReport() {
	h := pl.helper
	if h != nil && h.report != nil {
		h.report.Close()
		h.report = nil
		if h.watch >= 0 {
			closeFD(h.watch)
		}
	}
}

// watchStatus takes over this process's ends of the status pipe that tell when the helper has become the program.
func (h *helperRun) watchStatus(statusR, status int) (err error) {
	h.closeStatus = sync.OnceFunc(func() { low.release(status) })
	h.watch, err = unix.FcntlInt(uintptr(statusR), unix.F_DUPFD_CLOEXEC, stderr+1)
	return os.NewSyscallError("fcntl(F_DUPFD_CLOEXEC)", err)
}

// forkedNamespaces are those that a forked helper is born in: that of cgroups, which shows them from its own one on, waits until it is in that.
func (pl *plan) forkedNamespaces() uint64 {
	if pl.fds.procs < 0 {
		return pl.options.Namespaces
	}
	return pl.options.Namespaces &^ unix.CLONE_NEWCGROUP
}

// hookStep names the hook for an error, or the helper.
func (pl *plan) hookStep() string {
	for i := range pl.prog.Len() {
		if _, _, ok := pl.prog.Hook(i); ok {
			return pl.prog.Step(i)
		}
	}
	return "helper"
}
