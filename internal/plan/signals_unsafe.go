//go:build linux

package plan

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Dispositions of a signal other than a handler's address.
const (
	sigDfl uintptr = 0
	SigIgn uintptr = 1 // the signal is ignored
)

// Action is what a process does on a signal: the kernel's struct, not the C
// library's. (rt_sigaction(2))
type Action struct {
	Handler, flags, restorer uintptr
	mask                     uint64
}

// disposition returns what the process does on a signal: sigDfl, SigIgn or
// a handler's address. os/signal does not know of what C code has set.
func disposition(sig syscall.Signal) uintptr { return GetAction(sig).Handler }

// GetAction returns what the process does on a signal.
func GetAction(sig syscall.Signal) (action Action) {
	// It fails only for a number that is no signal.
	_, _, _ = unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(sig), 0, uintptr(unsafe.Pointer(&action)), sigsetSize, 0, 0)
	return action
}

// SetAction sets what the process does on a signal.
//
// Preconditions: action is from GetAction, or its handler is sigDfl or SigIgn.
func SetAction(sig syscall.Signal, action Action) {
	// It fails for SIGKILL and SIGSTOP only, which nobody asks for.
	_, _, _ = unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(sig), uintptr(unsafe.Pointer(&action)), 0, sigsetSize, 0, 0)
}
