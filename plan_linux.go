package spawn

import (
	"errors"
	"os"

	"github.com/virspawn/spawn/internal/child"
	"github.com/virspawn/spawn/internal/program"
	"golang.org/x/sys/unix"
)

// plan is a command that was checked, with what one run of it needs: the program, and the open ends of pipes.
type plan struct {
	cmd     *Command
	streams [3]stream
	path    string
	prog    *program.Program
	fds     placement
	mode    mode
	options child.Options
	child   child.Child

	tree       *tree       // until it is the process's; nil unless KillTree
	undumpable bool        // the child is counted in dumpable
	unwatch    func() bool // ends the watch of the context; nil without

	joined    []keptNamespace
	joinedPID int // a pid namespace to clone into; -1 without
	gateR     int // in placement.kept
	gateW     int // -1 without a gate
	gateErr   error
	procFiles []procFile
	helper    *helperRun // nil without
	pidFile   *pidFile
	tty       int // in placement.kept; -1 without
	self      int // in placement.kept, a pidfd of this process; -1 without
	landlock  int // in placement.kept, the rules; -1 without
	procs     int // in placement.kept, the cgroup's list of processes; -1 without, and unless the helper is forked

	daemonPIDNS int     // in placement.kept, a pid namespace for the daemon; -1 without
	daemonPID   uintptr // where the kernel writes the daemon's pid; 0 without a daemon

	status    int // in placement.kept, with a status pipe
	statusR   int
	statusF   pipeFile // the same, for Go's poller
	childEnds []int    // closed in this process once the child has a table of its own
	jobs      []job
	copiers   []*copier
	pipes     [3]pipeFile
	pty       pipeFile // without a file where there is none
	ptyEnd    int      // the program's end of it, in childEnds
	environ   []string // this process's environment, where the child inherits it

	// Room for the slices above, so that an ordinary run needs no more allocations.
	room struct {
		moves [6]move
		kept  [2]kept
		ends  [4]int
		jobs  [2]job
	}
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

// step is a row of the order table.
type step struct {
	name string
	add  func(*plan)
}

// order is the order of what the child does, the same for every command.
var order = [...]step{
	// First of all: until it has been done the child shares this process's table and must not change it.
	{"own descriptor table", (*plan).leaveTable},
	// Before anything is opened, so that nothing opened can become a controlling terminal but the one asked for.
	{"session, process group, controlling terminal", (*plan).sessionAndGroup},
	// Before anything can fail for a limit; the parent of all that the program will start is the child from its first moment.
	{"subreaper", (*plan).adoptOrphans},
	// While /dev/null can still be opened, as this process's user and under its limits.
	{"descriptors", (*plan).place},
	// With the daemon's descriptors, and before anything that is for one process only.
	{"double fork", (*plan).doubleFork},
	// After the closing, but while this process's /proc is there, and under its limits. A helper opens them itself.
	{"files of /proc", (*plan).openProcDirect},
	// After the closing, so that the child waits for this process without anybody else's descriptors.
	{"this process's part", (*plan).awaitPart},
	// When it is written, and while this process's user, root and mounts are there.
	{"pid file", (*plan).takePidFile},
	{"namespaces", (*plan).joinNamespaces},
	// When what needs a process with a single thread is done. What follows takes effect on one process or thread and stays for
	// the next execve, but for limits, under which a Go runtime might not start.
	{"helper", (*plan).enterHelper},
	// While the privileges to raise limits, to be scheduled first and to change the root are still there.
	{"umask", (*plan).umask},
	{"limits", (*plan).limits},
	{"scheduling", (*plan).scheduling},
	{"out-of-memory score, core dump filter", (*plan).memoryPressure},
	{"personality", (*plan).setPersonality},
	{"root directory", (*plan).changeRoot},
	// While the privileges of this process are there, and the descriptors and limits are the program's.
	{"hook", (*plan).callHook},
	// Before credentials change: the security modules may ask for privileges.
	{"labels", (*plan).labels},
	// While there is the privilege to drop them, and so that the others survive the change of uid.
	{"bounding set", (*plan).boundingSet},
	// Groups, gid, uid: each needs a privilege that the next one may give up.
	{"credentials", (*plan).credentials},
	{"capabilities", (*plan).capabilities},
	// As the new user, whose it is then.
	{"keyring", (*plan).joinKeyring},
	// As the new user, who may be refused what this process's user may enter, and the reverse (NFS).
	{"working directory", (*plan).workingDirectory},
	// After credentials have changed, which clears it.
	{"parent-death signal", (*plan).parentDeathSignal},
	// Before signals are unblocked: no handler of this process's may ever run in the child.
	{"signal dispositions", (*plan).signals},
	// When all is applied but what would confine the waiting.
	{"gate", (*plan).stopAtGate},
	// Last but for what an ordinary program may always do, so that they confine the program and not its preparation.
	{"no_new_privs", (*plan).noNewPrivs},
	{"Landlock", (*plan).restrictSelf},
	{"seccomp", (*plan).seccomp},
	// Last, so that a signal that is pending does not strike before all is done.
	{"signal mask", (*plan).signalMask},
	{"execve", (*plan).execve},
}

// checks look at the command before anything is started, choose the options of the clone, and open in this process what the
// child needs. A check that opens a descriptor adds it to childEnds.
var checks = [...]func(*plan) error{
	(*plan).checkDaemon,
	(*plan).checkNamespaces, // before others: it decides about the child's memory
	(*plan).checkHelper,
	(*plan).checkGate,
	(*plan).checkAttributes,
	(*plan).checkTree, // after it, which opens the cgroup to start from
	(*plan).openProcs, // of either
	(*plan).checkScheduling,
	(*plan).checkLabels,
	(*plan).checkCapabilities,
	(*plan).checkLandlock,
	(*plan).checkPidFile, // last: it makes a file
}

// newPlan checks the command for everything that can be known before a child exists, and opens its pipes. The caller
// ends it with release.
func newPlan(c *Command, streams [3]stream, m mode) (_ *plan, err error) {
	pl := &plan{cmd: c, streams: streams, mode: m, statusR: -1, joinedPID: -1, gateW: -1, tty: -1, self: -1, daemonPIDNS: -1, landlock: -1, procs: -1}
	if err := c.checkWhole(m == inPlace); err != nil {
		return nil, err
	}
	pl.path, err = c.resolve()
	if err != nil {
		return nil, err
	}
	pl.fds.moves = pl.room.moves[:0]
	pl.fds.kept = pl.room.kept[:0]
	pl.childEnds = pl.room.ends[:0]
	pl.jobs = pl.room.jobs[:0]
	for _, check := range &checks {
		if err := check(pl); err != nil {
			pl.release()
			return nil, err
		}
	}
	newProgram := program.New
	if pl.options.OwnMemory {
		newProgram = program.NewShared
	}
	pl.prog, err = newProgram(pl.size())
	if err != nil {
		pl.release()
		return nil, pl.failed(os.NewSyscallError("mmap", err))
	}
	if pl.helper != nil {
		pl.prog.Track()
	}
	return pl, nil
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
	pl.status = pl.fds.keep(status)
	pl.fds.kept[pl.status].status = true
	pl.prog.SetStatus(status)
	return pl.openStreams()
}

// write writes the program.
func (pl *plan) write() {
	for _, s := range &order {
		s.add(pl)
	}
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
	return &StartError{Op: op, Path: pl.path, Err: err}
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
		if pl.tty >= 0 {
			pl.prog.Add(unix.SYS_IOCTL, pl.fds.keptFD(pl.tty), unix.TIOCSCTTY, 0)
		}
	case c.ownGroup || c.killMode == KillGroup:
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
		pl.child = child.Child{} // which points into the program
	}
}
