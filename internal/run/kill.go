//go:build linux

package run

import (
	"syscall"

	"github.com/virspawn/spawn/internal/tree"
	"golang.org/x/sys/unix"
)

// ChildPID returns the pid of the child, or of the daemon.
func (r *run) ChildPID() int { return r.p.PID }

// Signal signals the child, and nobody who may have its pid by now.
func (r *run) Signal(sig syscall.Signal) error { return r.handle.signal(sig) }

// GoOn lets what the kill mode says go on, if it is stopped.
func (r *run) GoOn() { _ = r.SignalAll(unix.SIGCONT) }

// KillLeftBehind kills what a child that has ended has left in its cgroup, and
// reports whether there was anything.
// Preconditions: r.p.Mu is held.
func (r *run) KillLeftBehind() (killed bool) {
	if !r.descendants.UsesCgroup() || !tree.IsPopulated(r.descendants.Cgroup) {
		return false
	}
	r.descendants.KillCgroup()
	return true
}

// endTree gives the tree back when the child and what is waited for have ended.
func (r *run) endTree() {
	r.p.Mu.Lock()
	t, killed := r.descendants, r.p.Ending != nil
	r.descendants = nil
	r.p.Mu.Unlock()
	if t != nil {
		t.End(killed)
	}
}
