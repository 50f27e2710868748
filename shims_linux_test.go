package spawn

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// callOf returns a running call of the command, by the direct executor unless it
// has another.
func callOf(c *Command) runCall {
	call := runCall{command: wantedOf(c), streams: wantedOf(c).streams, options: c.options, method: "Run"}
	if call.options.executor == automatic {
		call.options.executor = direct
	}
	return call
}

// planned plans a run of the command, by the direct executor unless it has
// another. The caller ends it with release.
func planned(c *Command, m mode) (*plan, error) {
	call := callOf(c)
	if m == watched && needsPipe(call.command, call.options.executor) {
		m = piped
	}
	pl := new(plan)
	return pl, pl.make(call.command, call.streams, m, call.options)
}

// childOf returns what the library knows of a process that is a child.
func childOf(p *Process) *run { return p.run.target.(*run) }

// ignoreSignal makes this process ignore a signal. The Go runtime does not know.
func ignoreSignal(sig syscall.Signal) { setAction(sig, sigaction{handler: sigIgn}) }

// resetSignal gives a signal its default action.
func resetSignal(sig syscall.Signal) { setAction(sig, sigaction{}) }

// isIgnored reports whether this process ignores a signal.
func isIgnored(sig syscall.Signal) bool { return getAction(sig).handler == sigIgn }

// dumpableFlag returns this process's flag, which a test may set by
// setDumpableFlag. (PR_SET_DUMPABLE in prctl(2))
func dumpableFlag() int {
	flag, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	if err != nil {
		return -1
	}
	return flag
}

func setDumpableFlag(flag uintptr) { _ = unix.Prctl(unix.PR_SET_DUMPABLE, flag, 0, 0, 0) }

// takeAllWaits makes all waits for children parked ones, until release is called.
func takeAllWaits() (release func()) {
	const many = 1 << 20
	blockedWaits.Add(many)
	return func() { blockedWaits.Add(-many) }
}

// waitsThatBlock returns how many waits for children block a thread.
func waitsThatBlock() int { return int(blockedWaits.Load()) }

func treeOf(p *Process) *tree { return childOf(p).descendants }
