//go:build linux

package plan

import (
	"errors"
	"os"
	"sync/atomic"

	"github.com/virspawn/spawn/internal/child"
	"github.com/virspawn/spawn/internal/command"
	"github.com/virspawn/spawn/internal/descriptor"
	"github.com/virspawn/spawn/internal/program"
	"github.com/virspawn/spawn/internal/secure"
	"github.com/virspawn/spawn/internal/transfer"
	"github.com/virspawn/spawn/internal/tree"
	"golang.org/x/sys/unix"
)

// Plan is a command that was checked, with what one run of it needs: the
// program, and the open ends of pipes.
type Plan struct {
	Command *command.Command
	Streams command.Streams
	Options Options
	Mode    Mode
	Program *program.Program
	fds     placement // what the child keeps of the parent's descriptors
	// What is open in the parent until the child has it, or the run is over.
	opened
	finding            // what the checks have found out
	stub    *stubImage // nil without
}

// opened is what a plan holds open in the parent.
type opened struct {
	GateW int // lets the child go on; -1 without a gate
	// StatusR tells of the child; -1 without, and once StatusF has it.
	StatusR int
	StatusF transfer.Pipe // the same, for Go's poller
	// The child's ends, closed in the parent once the child has a table of
	// its own.
	childEnds []int
	// The child's end of the status pipe, the same, and -1 once it is closed.
	statusEnd atomic.Int64
	Jobs      []transfer.Job
	Copiers   []*transfer.Copier
	Pipes     [3]transfer.Pipe
	PTY       transfer.Pipe // without a file where there is none
	PTYEnd    int           // the program's end of it, in childEnds
	Tree      *tree.Tree    // until the child has it; nil unless KillTree
	PidFile   *PidFile      // nil without
	Helper    *Helper       // nil without

	// Room for the slices above, so that an ordinary run needs no more
	// allocations.
	room struct {
		moves [6]move
		kept  [2]kept
		ends  [4]int
		jobs  [2]transfer.Job
	}
}

// finding is what the checks of a plan have found out.
type finding struct {
	Path         string        // of the program
	CloneOptions child.Options // of the clone
	ProcFiles    []ProcFile
	// The parent's environment, where the child inherits it.
	environ []string
	cgroup  int     // a descriptor of the one to be born in; 0 without
	forkAt  int     // the call that forks; 0 without
	forked  uintptr // the address of the pid of what it forks; 0 with a stub
	pidText uintptr // LISTEN_PID; 0 without
}

// Mode says how a program is run and watched.
type Mode int

const (
	// Watched: in a child, which is waited for until it has exec'ed or
	// could not.
	Watched Mode = iota
	// Piped: the same, by way of a pipe: the child does not share the parent's
	// memory until then.
	Piped
	// Unwatched: in a child of which only the end is waited for. That saves
	// a wake-up.
	Unwatched
	// InPlace: on a thread of the calling process, which the program replaces.
	InPlace
)

// Make checks the command for everything that can be known before a child
// exists, opens what the child needs, and writes its program. The caller ends
// it with Release. After an error there is nothing to release.
func (pl *Plan) Make(c *command.Command, s command.Streams, m Mode, o Options) error {
	if m == InPlace { // there is no child
		o.Executor = Direct
	}
	*pl = Plan{Command: c, Streams: s, Mode: m, Options: o}
	pl.GateW, pl.StatusR = -1, -1
	pl.statusEnd.Store(-1)
	f := &pl.fds
	f.tty, f.self, f.pidNS, f.landlock, f.procs, f.cgroup, f.exe = -1, -1, -1, -1, -1, -1, -1
	err := pl.prepare()
	if err != nil {
		pl.Release()
	}
	return err
}

func (pl *Plan) prepare() error {
	if err := pl.Command.CheckWhole(pl.Mode == InPlace); err != nil {
		return err
	}
	if err := pl.findProgram(); err != nil {
		return err
	}
	pl.fds.moves = pl.room.moves[:0]
	pl.fds.kept = pl.room.kept[:0]
	pl.childEnds = pl.room.ends[:0]
	pl.Jobs = pl.room.jobs[:0]
	for _, check := range &checks {
		if err := check(pl); err != nil {
			return err
		}
	}
	newProgram := program.New
	if pl.CloneOptions.OwnMemory {
		newProgram = program.NewShared
	}
	var err error
	pl.Program, err = newProgram(pl.size())
	if err != nil {
		return pl.Failed(os.NewSyscallError("mmap", err))
	}
	if pl.Helper != nil || pl.usesStub() {
		pl.Program.Track()
	}
	if err := pl.open(); err != nil {
		return err
	}
	if err := pl.checkData(); err != nil {
		return err
	}
	pl.write()
	return nil
}

// findProgram settles the path of the program.
func (pl *Plan) findProgram() (err error) {
	switch {
	case pl.Options.Path != "":
		pl.Path = pl.Options.Path
	case pl.Options.Look:
		pl.Path = pl.Command.Name
	default:
		pl.Path, err = pl.Command.Resolve()
	}
	return err
}

// open opens the pipes.
func (pl *Plan) open() (err error) {
	for n, s := range pl.Streams {
		// Before anything else takes the number of a stream that the parent
		// has closed.
		if s.Kind == command.StreamInherit && !descriptor.IsOpen(n) {
			return command.ErrClosedStream(pl.Path, n)
		}
	}
	if pl.Mode != InPlace {
		if err := transfer.InitPoller(); err != nil {
			return pl.Failed(err)
		}
		descriptor.Low.Reserve()
	}
	if pl.Mode != Piped && !pl.usesStub() {
		return pl.openStreams()
	}
	var status int
	pl.StatusR, status, err = descriptor.Low.Pipe(false)
	if err != nil {
		return pl.Failed(err)
	}
	pl.statusEnd.Store(int64(status))
	if pl.Helper != nil {
		if err := pl.Helper.watchStatus(pl.StatusR); err != nil {
			return pl.Failed(err)
		}
	}
	pl.fds.status = pl.fds.keep(status)
	pl.fds.kept[pl.fds.status].status = true
	pl.Program.SetStatus(status)
	return pl.openStreams()
}

// size estimates the memory for the program, in bytes, from above.
func (pl *Plan) size() int {
	const fixed = 16 << 10 // ops that every program has, and what they point to
	const perText = 8 + 8  // pointer, and padding with NUL
	const perFD = 3 * program.OpSize
	c := pl.Command
	n := fixed + len(pl.Path) + len(c.Name) + len(c.Argv0.Str) + len(c.Dir) + len(c.PidFile) + len(c.Passed)*perFD + len(c.IDs.Groups)*4 + len(c.Confinement.Filter)*8
	for _, a := range c.Args {
		n += len(a.Str) + perText
	}
	for _, name := range c.Listen {
		n += len(name) + perFD
	}
	for _, v := range c.Env.Vars {
		n += len(v.Name) + len(v.Value.Str) + perText
	}
	if !c.Env.Set {
		pl.environ = secure.Environ()
	}
	for _, s := range pl.environ {
		n += len(s) + perText
	}
	return n
}

// Failed makes a StartError of an error of the parent's, such as an
// *os.SyscallError.
func (pl *Plan) Failed(err error) error {
	op := "start"
	var call *os.SyscallError
	if errors.As(err, &call) {
		op, err = call.Syscall, call.Err
	}
	return &command.StartError{Op: op, Path: pl.Path, Err: err}
}

// leadSessionOrGroup makes the program the leader of what is asked for.
func (pl *Plan) leadSessionOrGroup() {
	c := pl.Command
	switch {
	case c.Session: // makes a group too
		pl.Program.Add(unix.SYS_SETSID)
		if pl.fds.tty >= 0 {
			pl.Program.Add(unix.SYS_IOCTL, pl.fds.keptFD(pl.fds.tty), unix.TIOCSCTTY, 0)
		}
	case c.OwnGroup || c.KillMode == command.KillGroup:
		pl.Program.Add(unix.SYS_SETPGID, 0, 0)
	}
}

func (pl *Plan) workingDirectory() {
	if dir := pl.Command.Directory(); dir != "" {
		pl.Program.Add(unix.SYS_CHDIR, pl.Program.CString(dir))
	}
}

func (pl *Plan) execve() {
	p := pl.Program
	if pl.fds.exe >= 0 {
		p.Add(unix.SYS_EXECVEAT, pl.fds.keptFD(pl.fds.exe), p.CString(""), pl.argv(), pl.envp(), unix.AT_EMPTY_PATH)
		return
	}
	p.Add(unix.SYS_EXECVE, p.CString(pl.Path), pl.argv(), pl.envp())
}

// checkExecutable opens this process's executable for a stub that is to execute
// it: its own is another one.
func (pl *Plan) checkExecutable() (err error) {
	if pl.stub == nil || pl.Helper != nil || pl.Path != SelfExe && pl.Path != "/proc/thread-self/exe" {
		return nil
	}
	if pl.Command.Attributes.Chroot != "" || pl.Command.Namespaces.Joins(unix.CLONE_NEWNS) {
		return nil // the path is one there
	}
	fd, err := unix.Open(pl.Path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if _, pl.fds.exe, err = pl.keepNew(fd, os.NewSyscallError("open("+pl.Path+")", err)); err != nil {
		return pl.Failed(err)
	}
	return nil
}

func (pl *Plan) argv() uintptr {
	p, c := pl.Program, pl.Command
	argv := p.Pointers(1 + len(c.Args))
	name := c.Name
	if c.Argv0.Str != "" {
		name = c.Argv0.Str
	}
	p.SetPointer(argv, 0, p.CString(name))
	for i, a := range c.Args {
		addr := p.CString(a.Str)
		p.SetPointer(argv, 1+i, addr)
		if a.Secret {
			p.Hide(addr, 0)
		}
	}
	return argv
}

func (pl *Plan) envp() uintptr {
	p, c := pl.Program, pl.Command
	vars := c.Variables()
	envp := p.Pointers(len(pl.environ) + len(vars) + 1) // LISTEN_PID
	i := 0
	add := func(addr uintptr) {
		p.SetPointer(envp, i, addr)
		i++
	}
	for _, s := range pl.environ {
		if !c.Replaces(s) {
			add(p.CString(s))
		}
	}
	for _, v := range vars {
		addr := p.CString(v.Name, "=", v.Value.Str)
		if v.Value.Secret {
			p.Hide(addr, len(v.Name)+1)
		}
		add(addr)
	}
	if c.Listen != nil {
		add(pl.addListenPID())
	}
	return envp
}

// CloseChildEnds closes what the child has now, or will never have.
func (pl *Plan) CloseChildEnds() {
	for _, fd := range pl.childEnds {
		descriptor.Low.Release(fd)
	}
	pl.CloseStatusEnd()
	pl.childEnds = pl.childEnds[:0]
}

// CloseStatusEnd closes the child's end of the status pipe, which the child has
// in a table of its own by now.
func (pl *Plan) CloseStatusEnd() {
	if fd := pl.statusEnd.Swap(-1); fd >= 0 {
		descriptor.Low.Release(int(fd))
	}
}

// Release gives back everything that the plan still holds.
//
// Preconditions: no child shares the parent's memory, or none was made.
func (pl *Plan) Release() {
	pl.CloseChildEnds()
	if pl.Tree != nil {
		pl.Tree.End(false)
		pl.Tree = nil
	}
	pl.EndPidFile(false)
	for _, fd := range []*int{&pl.StatusR, &pl.GateW} {
		if *fd >= 0 {
			descriptor.Close(*fd)
			*fd = -1
		}
	}
	for i := range pl.Jobs {
		pl.Jobs[i].Close()
		pl.Jobs[i].Out.Free()
	}
	for _, c := range pl.Copiers {
		c.File.Close()
	}
	for _, f := range pl.Pipes {
		if f.File != nil {
			f.Close()
		}
	}
	if pl.PTY.File != nil {
		pl.PTY.Close()
	}
	pl.FreeProgram()
}

// FreeProgram gives the program back, and the memory of what is reported of it.
//
// Preconditions: as for Release.
func (pl *Plan) FreeProgram() {
	pl.closeReports()
	if pl.Program != nil {
		pl.Program.Free()
		pl.Program = nil
	}
}
