package spawn

import (
	"encoding/binary"
	"fmt"
	"os"
	"strconv"

	"github.com/virspawn/spawn/internal/program"
	"golang.org/x/sys/unix"
)

// procFile is a file of the child's own directory of /proc, which the child opens early, while its place is still there, and
// writes later.
type procFile struct {
	path string
	text string
	base string // stands before the number that the file shows, to write that back
	open int    // the op
}

// Paths that mean the calling process, or, for a command that replaces this process, the calling thread.
const (
	oomScoreAdjFile    = "/proc/thread-self/oom_score_adj"
	coredumpFilterFile = "/proc/self/coredump_filter" // of the memory, and not among a thread's files
)

// checkAttributes opens what the child needs of files, and looks at what can be wrong with the rest.
func (pl *plan) checkAttributes() error {
	a := &pl.cmd.attrs
	if a.setOOMScoreAdj {
		pl.procFiles = append(pl.procFiles, procFile{path: oomScoreAdjFile, text: strconv.Itoa(a.oomScoreAdj)})
		// Or the kernel would give this process, which shares the memory, the same value.
		pl.options.VFork = !pl.options.OwnMemory && pl.opts.executor == direct
	}
	if a.setCoredumpFilter {
		pl.procFiles = append(pl.procFiles, procFile{path: coredumpFilterFile, text: fmt.Sprintf("%#x", a.coredumpFilter), base: "0x"})
	}
	if err := pl.openCgroup(); err != nil {
		return err
	}
	if err := pl.openTTY(); err != nil {
		return err
	}
	return pl.openSelf()
}

func (pl *plan) openCgroup() error {
	dir := pl.cmd.attrs.cgroup
	if dir == "" {
		return nil
	}
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err == nil {
		fd, err = aboveStreams(fd)
	}
	if err != nil {
		return &badCall{"SetCgroup", &os.PathError{Op: "open", Path: dir, Err: err}}
	}
	pl.childEnds = append(pl.childEnds, fd)
	var fs unix.Statfs_t
	if err := unix.Fstatfs(fd, &fs); err != nil || fs.Type != unix.CGROUP2_SUPER_MAGIC {
		return &badCall{"SetCgroup", fmt.Errorf("%s is not in a cgroup v2 file system", dir)}
	}
	pl.options.Cgroup = fd
	return nil
}

func (pl *plan) openTTY() error {
	f := pl.cmd.attrs.tty
	if f == nil {
		return nil
	}
	fd, err := dupFile(f)
	if err != nil {
		return &startFailure{Op: "SetControllingTTY", Path: pl.path, Err: err}
	}
	pl.childEnds = append(pl.childEnds, fd)
	if _, err := unix.IoctlGetTermios(fd, unix.TCGETS); err != nil {
		return &badCall{"SetControllingTTY", fmt.Errorf("%s is not a terminal: %w", f.Name(), err)}
	}
	pl.fds.tty = pl.fds.keep(fd)
	return nil
}

// openSelf opens a descriptor by which the child sees whether this process still lives, where it cannot tell by getppid.
func (pl *plan) openSelf() error {
	n := &pl.cmd.namespaces
	if pl.cmd.attrs.deathSignal == 0 || n.fresh&unix.CLONE_NEWPID == 0 && !n.joins(unix.CLONE_NEWPID) {
		return nil
	}
	fd, err := unix.PidfdOpen(os.Getpid(), 0)
	if err == nil {
		fd, err = aboveStreams(fd)
	}
	if err != nil {
		return pl.failed(os.NewSyscallError("pidfd_open("+strconv.Itoa(os.Getpid())+", 0)", err))
	}
	fd = low.move(fd)
	pl.childEnds = append(pl.childEnds, fd)
	pl.fds.self = pl.fds.keep(fd)
	return nil
}

func (pl *plan) openProcDirect() {
	if pl.helper == nil {
		pl.openProc()
	}
}

// openProc comes while /proc is there, and before limits.
func (pl *plan) openProc() {
	for i := range pl.procFiles {
		f := &pl.procFiles[i]
		f.open = pl.prog.Add(unix.SYS_OPENAT, atFDCWD, pl.prog.CString(f.path), unix.O_WRONLY|unix.O_CLOEXEC)
	}
}

// writeProc writes the file with this path, if it is to be written.
func (pl *plan) writeProc(path string) {
	for i := range pl.procFiles {
		f := &pl.procFiles[i]
		if f.path == path {
			write := pl.prog.Add(unix.SYS_WRITE, 0, pl.prog.CString(f.text), uintptr(len(f.text)))
			pl.prog.Link(f.open, write, 0)
			pl.prog.Expect(write, uintptr(len(f.text)))
		}
	}
}

func (pl *plan) memoryPressure() {
	pl.writeProc(oomScoreAdjFile)
	pl.writeProc(coredumpFilterFile)
}

func (pl *plan) setPersonality() {
	if a := &pl.cmd.attrs; a.setPersonality {
		pl.prog.Add(unix.SYS_PERSONALITY, uintptr(a.personality))
	}
}

// changeRoot leaves the child in the new root, not where it was.
func (pl *plan) changeRoot() {
	if dir := pl.cmd.attrs.chroot; dir != "" {
		pl.prog.Add(unix.SYS_CHROOT, pl.prog.CString(dir))
		pl.prog.Add(unix.SYS_CHDIR, pl.prog.CString("/"))
	}
}

// joinKeyring comes after the credentials have changed: the keyring is the new user's.
func (pl *plan) joinKeyring() {
	if pl.cmd.attrs.ownKeyring {
		pl.prog.Add(unix.SYS_KEYCTL, unix.KEYCTL_JOIN_SESSION_KEYRING, 0)
	}
}

// parentDeathSignal comes after the credentials have changed, which clears it. If this process has ended before, no signal comes, and the
// child sees it by itself.
func (pl *plan) parentDeathSignal() {
	p, sig := pl.prog, pl.cmd.attrs.deathSignal
	if sig == 0 {
		return
	}
	p.Add(unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, uintptr(sig))
	switch {
	case pl.mode == inPlace: // the parent is not this process
	case pl.fds.self >= 0:
		fds := p.Alloc(8) // struct pollfd
		b := p.Bytes(fds, 8)
		binary.NativeEndian.PutUint32(b, uint32(pl.fds.keptFD(pl.fds.self)))
		binary.NativeEndian.PutUint16(b[4:], unix.POLLIN)
		p.Expect(p.AddOp(unix.SYS_PPOLL, program.Retry, fds, 1, p.Words(0, 0), 0, sigsetSize), 0)
	default:
		p.Expect(p.Add(unix.SYS_GETPPID), uintptr(os.Getpid()))
	}
}
