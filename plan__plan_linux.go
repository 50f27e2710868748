package spawn

import (
	"errors"
	"os"

	"github.com/virspawn/spawn/internal/child"
	"github.com/virspawn/spawn/internal/program"
	"golang.org/x/sys/unix"
)

// plan is a command that was checked, with what one run of it needs: the program,
// and the open ends of pipes.
type plan struct {
	cmd     *wanted
	streams streams
	opts    options
	mode    mode
	prog    *program.Program
	fds     placement // what the child keeps of this process's descriptors
	opened            // what is open here until the child has it, or the run is over
	finding           // what the checks have found out
}

// opened is what a plan holds open in this process.
type opened struct {
	gateW     int      // lets the child go on; -1 without a gate
	statusR   int      // tells of the child; -1 without, and once statusF has it
	statusF   pipeFile // the same, for Go's poller
	joinedPID int      // a pid namespace to clone into; -1 without
	childEnds []int    // closed in this process once the child has a table of its own
	jobs      []job
	copiers   []*copier
	pipes     [3]pipeFile
	pty       pipeFile   // without a file where there is none
	ptyEnd    int        // the program's end of it, in childEnds
	tree      *tree      // until the child has it; nil unless KillTree
	pidFile   *pidFile   // nil without
	helper    *helperRun // nil without

	// Room for the slices above, so that an ordinary run needs no more allocations.
	room struct {
		moves [6]move
		kept  [2]kept
		ends  [4]int
		jobs  [2]job
	}
}

// finding is what the checks of a plan have found out.
type finding struct {
	path      string        // of the program
	options   child.Options // of the clone
	procFiles []procFile
	environ   []string // this process's environment, where the child inherits it
	daemonPID uintptr  // where the kernel writes the daemon's pid; 0 without a daemon
}

// mode says how a program is run and watched.
type mode int

const (
	// watched: in a child, which is waited for until it has exec'ed or could not.
	watched mode = iota
	// piped: the same, by way of a pipe. The child has then left this process's memory for good, where watched
	// says that it is about to.
	piped
	// unwatched: in a child of which only the end is waited for. That saves a wake-up.
	unwatched
	// inPlace: on a thread of this process, which it replaces.
	inPlace
)

// make checks the command for everything that can be known before a child
// exists, opens what the child needs, and writes its program. The caller ends it
// with release. After an error there is nothing to release.
func (pl *plan) make(c *wanted, s streams, m mode, o options) error {
	*pl = plan{cmd: c, streams: s, mode: m, opts: o}
	pl.gateW, pl.statusR, pl.joinedPID = -1, -1, -1
	f := &pl.fds
	f.tty, f.self, f.daemonPIDNS, f.landlock, f.procs = -1, -1, -1, -1, -1
	err := pl.prepare()
	if err != nil {
		pl.release()
	}
	return err
}

func (pl *plan) prepare() error {
	if err := pl.cmd.checkWhole(pl.mode == inPlace); err != nil {
		return err
	}
	if err := pl.findProgram(); err != nil {
		return err
	}
	pl.fds.moves = pl.room.moves[:0]
	pl.fds.kept = pl.room.kept[:0]
	pl.childEnds = pl.room.ends[:0]
	pl.jobs = pl.room.jobs[:0]
	for _, check := range &checks {
		if err := check(pl); err != nil {
			return err
		}
	}
	newProgram := program.New
	if pl.options.OwnMemory {
		newProgram = program.NewShared
	}
	var err error
	pl.prog, err = newProgram(pl.size())
	if err != nil {
		return pl.failed(os.NewSyscallError("mmap", err))
	}
	if pl.helper != nil {
		pl.prog.Track()
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
func (pl *plan) findProgram() (err error) {
	switch {
	case pl.opts.path != "":
		pl.path = pl.opts.path
	case pl.opts.look:
		pl.path = pl.cmd.name
	default:
		pl.path, err = pl.cmd.resolve()
	}
	return err
}

// open opens the pipes.
func (pl *plan) open() (err error) {
	for n, s := range pl.streams {
		// Before anything else takes the number of a stream that this process has closed.
		if s.kind == streamInherit && !isOpen(n) {
			return errClosedStream(pl.path, n)
		}
	}
	if pl.mode != inPlace {
		if err := initPoller(); err != nil {
			return pl.failed(err)
		}
		low.reserve()
	}
	if pl.mode != piped {
		return pl.openStreams()
	}
	var status int
	pl.statusR, status, err = low.pipe(false)
	if err != nil {
		return pl.failed(err)
	}
	if pl.helper == nil {
		pl.childEnds = append(pl.childEnds, status)
	} else if err := pl.helper.watchStatus(pl.statusR, status); err != nil {
		return pl.failed(err)
	}
	pl.fds.status = pl.fds.keep(status)
	pl.fds.kept[pl.fds.status].status = true
	pl.prog.SetStatus(status)
	return pl.openStreams()
}

// size estimates the memory for the program, in bytes, from above.
func (pl *plan) size() int {
	const fixed = 16 << 10 // ops that every program has, and what they point to
	const perText = 8 + 8  // pointer, and padding with NUL
	const perFD = 3 * program.OpSize
	c := pl.cmd
	n := fixed + len(pl.path) + len(c.name) + len(c.argv0.s) + len(c.dir) + len(c.pidFile) + len(c.passed)*perFD + len(c.ids.groups)*4 + len(c.confinement.filter)*8
	for _, a := range c.args {
		n += len(a.s) + perText
	}
	for _, name := range c.listen {
		n += len(name) + perFD
	}
	for _, v := range c.env.vars {
		n += len(v.name) + len(v.value.s) + perText
	}
	if !c.env.set {
		pl.environ = os.Environ()
	}
	for _, s := range pl.environ {
		n += len(s) + perText
	}
	return n
}

// failed makes an error of this process's, such as an *os.SyscallError, a StartError.
func (pl *plan) failed(err error) error {
	op := "start"
	var call *os.SyscallError
	if errors.As(err, &call) {
		op, err = call.Syscall, call.Err
	}
	return &startFailure{Op: op, Path: pl.path, Err: err}
}

func (pl *plan) sessionAndGroup() {
	if pl.cmd.daemon { // of the first parent, which ends: the session then has no leader
		pl.prog.Add(unix.SYS_SETSID)
		return
	}
	pl.leadSessionOrGroup()
}

func (pl *plan) leadSessionOrGroup() {
	c := pl.cmd
	switch {
	case c.session: // makes a group too
		pl.prog.Add(unix.SYS_SETSID)
		if pl.fds.tty >= 0 {
			pl.prog.Add(unix.SYS_IOCTL, pl.fds.keptFD(pl.fds.tty), unix.TIOCSCTTY, 0)
		}
	case c.ownGroup || c.killMode == killGroup:
		pl.prog.Add(unix.SYS_SETPGID, 0, 0)
	}
}

func (pl *plan) workingDirectory() {
	if dir := pl.cmd.directory(); dir != "" {
		pl.prog.Add(unix.SYS_CHDIR, pl.prog.CString(dir))
	}
}

func (pl *plan) execve() {
	p := pl.prog
	pl.prog.Add(unix.SYS_EXECVE, p.CString(pl.path), pl.argv(), pl.envp())
}

func (pl *plan) argv() uintptr {
	p, c := pl.prog, pl.cmd
	argv := p.Pointers(1 + len(c.args))
	name := c.name
	if c.argv0.s != "" {
		name = c.argv0.s
	}
	p.SetPointer(argv, 0, p.CString(name))
	for i, a := range c.args {
		addr := p.CString(a.s)
		p.SetPointer(argv, 1+i, addr)
		if a.secret {
			p.Hide(addr, 0)
		}
	}
	return argv
}

func (pl *plan) envp() uintptr {
	p, c := pl.prog, pl.cmd
	vars := c.variables()
	envp := p.Pointers(len(pl.environ) + len(vars) + 1) // LISTEN_PID
	i := 0
	add := func(addr uintptr) {
		p.SetPointer(envp, i, addr)
		i++
	}
	for _, s := range pl.environ {
		if !c.replaces(s) {
			add(p.CString(s))
		}
	}
	for _, v := range vars {
		addr := p.CString(v.name, "=", v.value.s)
		if v.value.secret {
			p.Hide(addr, len(v.name)+1)
		}
		add(addr)
	}
	if c.listen != nil {
		add(pl.addListenPID())
	}
	return envp
}

// closeChildEnds closes what the child has now, or will never have.
func (pl *plan) closeChildEnds() {
	for _, fd := range pl.childEnds {
		low.release(fd)
	}
	if pl.helper != nil {
		pl.helper.closeStatus()
	}
	pl.childEnds = pl.childEnds[:0]
}

// release gives back everything that the plan still holds.
//
// Preconditions: no child shares this process's memory, or none was made.
func (pl *plan) release() {
	pl.closeChildEnds()
	pl.closeReport()
	if pl.tree != nil {
		pl.tree.end(false)
		pl.tree = nil
	}
	pl.endPidFile(false)
	for _, fd := range []*int{&pl.statusR, &pl.gateW} {
		if *fd >= 0 {
			closeFD(*fd)
			*fd = -1
		}
	}
	for i := range pl.jobs {
		pl.jobs[i].close()
		pl.jobs[i].out.free()
	}
	for _, c := range pl.copiers {
		c.file.Close()
	}
	for _, f := range pl.pipes {
		if f.File != nil {
			f.Close()
		}
	}
	if pl.pty.File != nil {
		pl.pty.Close()
	}
	pl.freeProgram()
}

// freeProgram gives the program back.
//
// Preconditions: as for release.
func (pl *plan) freeProgram() {
	if pl.prog != nil {
		pl.prog.Free()
		pl.prog = nil
	}
}
