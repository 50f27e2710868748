package spawn

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// childPID returns the pid of the child, or of the daemon.
func (r *run) childPID() int { return r.p.pid }

// signal signals the child, and nobody who may have its pid by now.
func (r *run) signal(sig syscall.Signal) error { return r.handle.signal(sig) }

// goOn lets what the kill mode says go on, if it is stopped.
func (r *run) goOn() { _ = r.signalAll(unix.SIGCONT) }

// killLeftBehind kills what a child that has ended has left in its cgroup, and reports whether there was anything.
//
// Preconditions: r.r.p.mu is held.
func (r *run) killLeftBehind() (killed bool) {
	if !r.descendants.usesCgroup() || !isPopulated(r.descendants.cgroup) {
		return false
	}
	r.descendants.killCgroup()
	return true
}

// endTree gives the tree back when the child and what is waited for have ended.
func (r *run) endTree() {
	r.p.mu.Lock()
	t, killed := r.descendants, r.p.ending != nil
	r.descendants = nil
	r.p.mu.Unlock()
	if t != nil {
		t.end(killed)
	}
}
