//go:build linux

package plan

import (
	"encoding/binary"
	"fmt"
	"os"
	"strconv"

	"github.com/virspawn/spawn/internal/command"
	"github.com/virspawn/spawn/internal/descriptor"
	"github.com/virspawn/spawn/internal/program"
	"golang.org/x/sys/unix"
)

// ProcFile is a file of the child's own directory of /proc, which the child
// opens early, while its place is still there, and writes later.
type ProcFile struct {
	Path string // below /proc
	text string
	// Base stands before the number that the file shows, to write that back.
	Base string
	open int // the op
}

// Paths below /proc that mean the calling process, or, for a command that
// replaces this process, the calling thread.
const (
	oomScoreAdjFile = "thread-self/oom_score_adj"
	// This one is the memory's, and not among a thread's files.
	coredumpFilterFile = "self/coredump_filter"
)

// checkAttributes opens what the child needs of files, and looks at what can be
// wrong with the rest.
func (pl *Plan) checkAttributes() error {
	a := &pl.Command.Attributes
	if a.SetOOMScoreAdj {
		pl.ProcFiles = append(pl.ProcFiles, ProcFile{Path: oomScoreAdjFile, text: strconv.Itoa(a.OOMScoreAdj)})
	}
	if a.SetCoredumpFilter {
		pl.ProcFiles = append(pl.ProcFiles, ProcFile{Path: coredumpFilterFile, text: fmt.Sprintf("%#x", a.CoredumpFilter), Base: "0x"})
	}
	if err := pl.openCgroup(); err != nil {
		return err
	}
	if err := pl.openTTY(); err != nil {
		return err
	}
	return pl.openSelf()
}

func (pl *Plan) openCgroup() error {
	dir := pl.Command.Attributes.Cgroup
	if dir == "" {
		return nil
	}
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err == nil {
		fd, err = descriptor.AboveStreams(fd)
	}
	if err != nil {
		return &command.CallError{Method: "SetCgroup", Err: &os.PathError{Op: "open", Path: dir, Err: err}}
	}
	pl.childEnds = append(pl.childEnds, fd)
	var fs unix.Statfs_t
	if err := unix.Fstatfs(fd, &fs); err != nil || fs.Type != unix.CGROUP2_SUPER_MAGIC {
		return &command.CallError{Method: "SetCgroup", Err: fmt.Errorf("%s is not in a cgroup v2 file system", dir)}
	}
	pl.cgroup = fd
	return nil
}

func (pl *Plan) openTTY() error {
	f := pl.Command.Attributes.TTY
	if f == nil {
		return nil
	}
	fd, err := descriptor.Dup(f)
	if err != nil {
		return &command.StartError{Op: "SetControllingTTY", Path: pl.Path, Err: err}
	}
	pl.childEnds = append(pl.childEnds, fd)
	if _, err := unix.IoctlGetTermios(fd, unix.TCGETS); err != nil {
		return &command.CallError{Method: "SetControllingTTY", Err: fmt.Errorf("%s is not a terminal: %w", f.Name(), err)}
	}
	pl.fds.tty = pl.fds.keep(fd)
	return nil
}

// openSelf opens a descriptor by which the child sees whether the parent still
// lives, where it cannot tell by getppid.
func (pl *Plan) openSelf() error {
	n := &pl.Command.Namespaces
	if pl.Command.Attributes.DeathSignal == 0 || n.Fresh&unix.CLONE_NEWPID == 0 && !n.Joins(unix.CLONE_NEWPID) {
		return nil
	}
	fd, err := unix.PidfdOpen(os.Getpid(), 0)
	if _, pl.fds.self, err = pl.keepNew(fd, os.NewSyscallError("pidfd_open("+strconv.Itoa(os.Getpid())+", 0)", err)); err != nil {
		return pl.Failed(err)
	}
	return nil
}

func (pl *Plan) openProcDirect() {
	if pl.Helper == nil {
		pl.openProc()
	}
}

// openProc comes while /proc is there, and before limits.
func (pl *Plan) openProc() {
	for i := range pl.ProcFiles {
		f := &pl.ProcFiles[i]
		f.open = pl.Program.Add(unix.SYS_OPENAT, pl.fds.keptFD(pl.fds.proc), pl.Program.CString(f.Path), unix.O_WRONLY|unix.O_CLOEXEC)
		pl.Program.Below(f.open, procRoot+"/")
	}
}

// writeProc writes the file with this path, if it is to be written.
func (pl *Plan) writeProc(path string) {
	for i := range pl.ProcFiles {
		f := &pl.ProcFiles[i]
		if f.Path == path {
			write := pl.Program.Add(unix.SYS_WRITE, 0, pl.Program.CString(f.text), uintptr(len(f.text)))
			pl.Program.Link(f.open, write, 0)
			pl.Program.Expect(write, uintptr(len(f.text)))
		}
	}
}

func (pl *Plan) memoryPressure() {
	pl.writeProc(oomScoreAdjFile)
	pl.writeProc(coredumpFilterFile)
	if a := &pl.Command.Attributes; a.SetHugepages {
		var disable uintptr
		if !a.Hugepages {
			disable = 1
		}
		pl.Program.Add(unix.SYS_PRCTL, unix.PR_SET_THP_DISABLE, disable)
	}
}

func (pl *Plan) setPersonality() {
	if a := &pl.Command.Attributes; a.SetPersonality {
		pl.Program.Add(unix.SYS_PERSONALITY, uintptr(a.Personality))
	}
}

// changeRoot leaves the child in the new root, not where it was.
func (pl *Plan) changeRoot() {
	if dir := pl.Command.Attributes.Chroot; dir != "" {
		pl.Program.Add(unix.SYS_CHROOT, pl.Program.CString(dir))
		pl.Program.Add(unix.SYS_CHDIR, pl.Program.CString("/"))
	}
}

// joinKeyring comes after the credentials have changed: the keyring is the
// new user's.
func (pl *Plan) joinKeyring() {
	if pl.Command.Attributes.OwnKeyring {
		pl.Program.Add(unix.SYS_KEYCTL, unix.KEYCTL_JOIN_SESSION_KEYRING, 0)
	}
}

// parentDeathSignal comes after the credentials have changed, which clears
// it. If the parent has ended before, no signal comes, and the child sees that
// by itself.
func (pl *Plan) parentDeathSignal() {
	p, sig := pl.Program, pl.Command.Attributes.DeathSignal
	if sig == 0 {
		return
	}
	p.Add(unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, uintptr(sig))
	switch {
	case pl.Mode == InPlace: // the parent is another process than this one
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
