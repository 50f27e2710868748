//go:build linux

package plan

// step is a row of the order table.
type step struct {
	name string
	add  func(*Plan)
}

// order is the order of what the child does, the same for every command.
var order = [...]step{
	// First of all: until it has been done the child shares the parent's table
	// and must not change it.
	{"own descriptor table", (*Plan).leaveTable},
	// While /dev/null can still be opened, as the parent's user and under
	// its limits.
	{"descriptors", (*Plan).place},
	// Before anything that makes the child another one than the parent, or
	// lets it wait: from here on its memory is its own.
	{"stub", (*Plan).leaveMemory},
	// With all descriptors, and before anything that is for one process only:
	// what is born in a cgroup or a namespace has nothing of the parent's.
	{"fork", (*Plan).fork},
	// Before anything can become a controlling terminal but the one asked for.
	{"session, process group, controlling terminal", (*Plan).leadSessionOrGroup},
	// Before anything can fail for a limit; the parent of all that the program
	// will start is the child from its first moment.
	{"subreaper", (*Plan).adoptOrphans},
	// After the closing, but while the parent's /proc is there, and under its
	// limits. A helper opens them itself.
	{"files of /proc", (*Plan).openProcDirect},
	// After the closing, so that the child waits for the parent without
	// anybody else's descriptors.
	{"the parent's work", (*Plan).awaitParent},
	// When no file of its own in /proc is left to be opened, and before
	// anything makes the child somebody else. For root at the stub already.
	{"not dumpable", (*Plan).leaveDumpableLate},
	// When it is written, and while the parent's user, root and mounts
	// are there.
	{"pid file", (*Plan).takePidFile},
	{"namespaces", (*Plan).joinNamespaces},
	// When what needs a process with a single thread is done. What follows
	// takes effect on one process or thread and stays for the next execve, but
	// for limits, under which a Go runtime might not start.
	{"helper", (*Plan).enterHelper},
	// Not before: a helper is executed in the parent's mounts, whose loader
	// and libraries are the parent's.
	{"joined mounts of a helper", (*Plan).joinMountsOfHelper},
	// While the privileges to raise limits, to be scheduled first and to change
	// the root are still there.
	{"umask", (*Plan).umask},
	{"limits", (*Plan).limits},
	{"scheduling", (*Plan).scheduling},
	{"out-of-memory score, core dump filter, huge pages", (*Plan).memoryPressure},
	{"personality", (*Plan).setPersonality},
	{"root directory", (*Plan).changeRoot},
	// While the privileges of the parent are there, and the descriptors and
	// limits are the program's.
	{"hook", (*Plan).callHook},
	// Before credentials change: the security modules may ask for privileges.
	{"labels", (*Plan).labels},
	// While there is the privilege to drop them, and so that the others survive
	// the change of uid.
	{"bounding set", (*Plan).boundingSet},
	// Groups, gid, uid: each needs a privilege that the next one may give up.
	{"credentials", (*Plan).credentials},
	{"capabilities", (*Plan).capabilities},
	// As the new user, whose it is then.
	{"keyring", (*Plan).joinKeyring},
	// As the new user, who may be refused what the parent's user may enter,
	// and the reverse (NFS).
	{"working directory", (*Plan).workingDirectory},
	// After credentials have changed, which clears it.
	{"parent-death signal", (*Plan).parentDeathSignal},
	// Before signals are unblocked: no handler of the parent's may ever run
	// in the child.
	{"signal dispositions", (*Plan).signals},
	// When all is applied but what would confine the waiting.
	{"gate", (*Plan).stopAtGate},
	// Last but for what an ordinary program may always do, so that they confine
	// the program and not its preparation.
	{"memory protection", (*Plan).denyWriteExecute},
	{"no_new_privs", (*Plan).noNewPrivs},
	{"Landlock", (*Plan).restrictSelf},
	{"seccomp", (*Plan).seccomp},
	// Last, so that a signal that is pending does not strike before all
	// is done.
	{"signal mask", (*Plan).signalMask},
	{"execve", (*Plan).execve},
}

// checks look at the command before anything is started, choose the options of
// the clone, and open in the parent what the child needs. A check that opens
// a descriptor adds it to childEnds.
var checks = [...]func(*Plan) error{
	(*Plan).checkDaemon,
	(*Plan).checkStub,
	(*Plan).checkNamespaces,
	(*Plan).checkHelper,
	(*Plan).checkAttributes,
	(*Plan).checkTree,  // after it, which opens the cgroup to start from
	(*Plan).keepCgroup, // of either
	(*Plan).checkMemory,
	(*Plan).checkReport,
	(*Plan).checkGate,
	(*Plan).checkScheduling,
	(*Plan).checkLabels,
	(*Plan).openProcRoot, // when all files are known
	(*Plan).checkExecutable,
	(*Plan).checkCapabilities,
	(*Plan).checkLandlock,
	(*Plan).checkPidFile, // last: it makes a file
}

// write writes the program.
func (pl *Plan) write() {
	for _, s := range &order {
		s.add(pl)
	}
}

// Steps returns the names of what a child does, in their order.
func Steps() (names []string) {
	for _, s := range &order {
		names = append(names, s.name)
	}
	return names
}
