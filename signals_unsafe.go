//go:build linux

package spawn

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Dispositions of a signal other than a handler's address.
const (
	sigDfl uintptr = 0
	sigIgn uintptr = 1
)

// sigaction is the kernel's, not the C library's. (rt_sigaction(2))
type sigaction struct {
	handler, flags, restorer uintptr
	mask                     uint64
}

// disposition returns what the process does on a signal: sigDfl, sigIgn or a handler's address. os/signal does not know
// of what C code has set.
func disposition(sig syscall.Signal) uintptr {
	var old sigaction
	_, _, errno := unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(sig), 0, uintptr(unsafe.Pointer(&old)), sigsetSize, 0, 0)
	if errno != 0 {
		return sigDfl
	}
	return old.handler
}

// setDisposition sets what the process does on a signal.
//
// Preconditions: handler is sigDfl or sigIgn.
func setDisposition(sig syscall.Signal, handler uintptr) {
	action := sigaction{handler: handler}
	// It fails for SIGKILL and SIGSTOP only, which nobody asks for.
	_, _, _ = unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(sig), uintptr(unsafe.Pointer(&action)), 0, sigsetSize, 0, 0)
}
