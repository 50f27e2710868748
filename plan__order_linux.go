package spawn

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
	{"this process's part", (*plan).awaitParent},
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

// write writes the program.
func (pl *plan) write() {
	for _, s := range &order {
		s.add(pl)
	}
}

// steps returns the names of what a child does, in their order.
func steps() (names []string) {
	for _, s := range &order {
		names = append(names, s.name)
	}
	return names
}
