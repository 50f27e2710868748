//go:build linux

package plan

import (
	"errors"
	"os"

	"github.com/virspawn/spawn/internal/child"
	"github.com/virspawn/spawn/internal/command"
	"github.com/virspawn/spawn/internal/program"
	"github.com/virspawn/spawn/internal/stub"
	"golang.org/x/sys/unix"
)

// stubImage is what one run through a stub needs.
type stubImage struct {
	fd, kept int // its executable
	enter    int // the call that executes it

	// A report that needs no system call, which a seccomp filter of the
	// program may refuse, and that has the pid of what the stub forks; nil
	// without either.
	report       *stub.Report
	reportKept   int
	reportClosed bool // in the part of the program that is written by now
}

// refusesStub reports whether the kernel or a policy says by this error that
// there is to be no stub, and not that something has run out.
func refusesStub(err error) bool {
	for _, errno := range []unix.Errno{unix.EACCES, unix.EPERM, unix.ENOSYS, unix.EINVAL} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}

// RefusesStub reports whether a failure means that a stub cannot be executed.
func (pl *Plan) RefusesStub(f program.Failure) bool {
	return pl.stub != nil && f.Op == pl.stub.enter && refusesStub(f.Errno)
}

// checkStub opens what the stub needs.
func (pl *Plan) checkStub() error {
	if !pl.usesStub() {
		return nil
	}
	var err error
	pl.stub = new(stubImage)
	pl.stub.fd, pl.stub.kept, err = pl.keepNew(stub.New())
	switch {
	case err == nil:
	case refusesStub(err):
		return &NoStubError{pl.Failed(err)}
	default:
		return pl.Failed(err)
	}
	return nil
}

// checkReport makes the stub's report, where one is needed.
func (pl *Plan) checkReport() error {
	if pl.stub == nil || pl.Command.Confinement.Filter == nil && !pl.Forks() {
		return nil
	}
	report, fd, err := stub.NewReport()
	pl.stub.report = report // for Release
	if _, pl.stub.reportKept, err = pl.keepNew(fd, err); err != nil {
		return pl.Failed(err)
	}
	return nil
}

// leaveMemory makes the child execute the stub, which goes on with what
// follows. A copy of the memory stays, and has been hidden before.
func (pl *Plan) leaveMemory() {
	if !pl.usesStub() {
		return
	}
	p := pl.Program
	caps := ownSets()
	pl.keepAcrossExec(true)
	pl.keepCaps(caps)
	argv := p.Pointers(1)
	p.SetPointer(argv, 0, p.CString(stub.Name))
	pl.stub.enter = p.Add(unix.SYS_EXECVEAT, pl.fds.keptFD(pl.stub.kept), p.CString(""), argv, p.Pointers(0), unix.AT_EMPTY_PATH)
	p.Split()
	if pl.stub.report != nil {
		// What the kernel writes there must find the page.
		const flags = unix.MAP_SHARED | unix.MAP_FIXED | unix.MAP_POPULATE
		fd := pl.fds.keptFD(pl.stub.reportKept)
		at := p.Add(program.SysMmap, stub.ReportAt, uintptr(stub.ReportSize()), unix.PROT_READ|unix.PROT_WRITE, flags, fd, 0)
		p.StoreAt(at, stub.Data+child.FrameReport)
		p.Add(unix.SYS_CLOSE, fd)
		pl.stub.reportClosed = true
	}
	if !isDumpableLong() {
		pl.leaveDumpable()
	}
	pl.restoreCaps(caps)
	pl.keepAcrossExec(false)
}

// keepAcrossExec lets what is kept survive an execve, or no longer.
func (pl *Plan) keepAcrossExec(keep bool) {
	var flag uintptr = unix.FD_CLOEXEC
	if keep {
		flag = 0
	}
	for i := range pl.fds.kept {
		if pl.isOpen(i) {
			pl.Program.Add(program.SysFcntl, pl.fds.keptFD(i), unix.F_SETFD, flag)
		}
	}
}

// isOpen reports whether what is kept at i is open beyond the stub's execve: it
// is not the stub, which is closed then, nor the report that this has closed.
func (pl *Plan) isOpen(i int) bool {
	s := pl.stub
	return s == nil || i != s.kept && !(s.reportClosed && i == s.reportKept)
}

// writeStub writes the executable: the code of a child, and what it is to run
// of the program.
func (pl *Plan) writeStub() error {
	status := int(pl.fds.keptFD(pl.fds.status))
	if pl.stub.report != nil {
		pl.stub.report.SetStatus(status)
	}
	err := stub.Write(pl.stub.fd, child.Code(stub.Data), func(b []byte) []byte {
		at := len(b)
		b = append(b, child.Frame(0, 0, 0)...)
		b, m := pl.Program.AppendImage(b, 1, stub.Data+uintptr(len(b)-at), status)
		copy(b[at:], child.Frame(m.First, m.End, m.Report))
		return b
	})
	if err != nil {
		return pl.Failed(err)
	}
	return nil
}

// StubFailure returns the failure that a stub has reported without a system
// call, if any.
func (pl *Plan) StubFailure() (f program.Failure, failed bool) {
	if pl.stub == nil || pl.stub.report == nil {
		return f, false
	}
	if f, failed = pl.stub.report.Failure(); failed {
		f.Op += pl.stub.enter + 1
	}
	return f, failed
}

// StubStart returns the place of the stub's first call in the whole list, from
// which its reports count.
func (pl *Plan) StubStart() int {
	if pl.stub == nil {
		return 0
	}
	return pl.stub.enter + 1
}

// closeReports gives the memory of the reports back.
func (pl *Plan) closeReports() {
	pl.Helper.closeReport()
	if pl.stub != nil && pl.stub.report != nil {
		pl.stub.report.Close()
		pl.stub.report = nil
	}
}

// The file system whose files tell of processes, and take attributes for them.
const procRoot = "/proc"

// openProcRoot opens the directory below which the child finds its files of
// /proc: this process's own, whatever is mounted where the child will be.
func (pl *Plan) openProcRoot() error {
	if len(pl.ProcFiles) == 0 {
		return nil
	}
	fd, err := unix.Open(procRoot, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	fd, pl.fds.proc, err = pl.keepNew(fd, os.NewSyscallError("open("+procRoot+")", err))
	if err != nil {
		return pl.Failed(err)
	}
	var fs unix.Statfs_t
	if err := unix.Fstatfs(fd, &fs); err != nil {
		return pl.Failed(os.NewSyscallError("fstatfs("+procRoot+")", err))
	}
	if fs.Type != unix.PROC_SUPER_MAGIC {
		return &command.StartError{Op: "fstatfs(" + procRoot + ")", Path: pl.Path, Err: errForgedProc}
	}
	return nil
}

var errForgedProc = errors.New("it is not the kernel's procfs")
