//go:build linux

package run

import (
	"sync"

	"golang.org/x/sys/unix"
)

// dumpable keeps the parent's dumpable flag as it was.
//
// The flag belongs to the memory, which a child shares until it execs. When
// the child changes its uid or gid, the kernel clears the flag, for the parent
// too and for good. So while such a child shares the memory, the parent is not
// dumpable. That also keeps the child's new user from tracing the child and
// reading the parent's memory. When the last such child has left, the flag is
// set again. (PR_SET_DUMPABLE in prctl(2))
var dumpable = newDumpableWindow()

func newDumpableWindow() *dumpableWindow {
	w := new(dumpableWindow)
	w.none = sync.NewCond(&w.mu)
	return w
}

// dumpableWindow counts the children for which the flag is cleared.
type dumpableWindow struct {
	mu    sync.Mutex // guards what follows
	none  *sync.Cond // open has become 0
	open  int        // children that share the memory
	saved bool       // the flag was set when the first one came
}

// enter is called before such a child is cloned.
func (w *dumpableWindow) enter() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.open == 0 {
		w.saved = getDumpable() == 1
		if w.saved {
			setDumpable(0)
		}
	}
	w.open++
}

// leave is called when such a child has left the memory, or was not cloned.
func (w *dumpableWindow) leave() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.open--
	if w.open > 0 {
		return
	}
	w.none.Broadcast()
	if w.saved {
		setDumpable(1)
	} else if getDumpable() == 1 {
		// With fs.suid_dumpable=1 the kernel sets it where it was not.
		setDumpable(0)
	}
}

// outside calls f while no such child shares the memory, so that a child with
// a copy of it gets the flag as it was.
func (w *dumpableWindow) outside(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.open > 0 {
		w.none.Wait()
	}
	f()
}

// getDumpable returns the flag; 0 where it cannot be read.
func getDumpable() int {
	flag, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	if err != nil {
		return 0
	}
	return flag
}

// setDumpable sets the flag; 0 and 1 are always accepted.
func setDumpable(flag uintptr) { _ = unix.Prctl(unix.PR_SET_DUMPABLE, flag, 0, 0, 0) }
