//go:build linux

package run

import (
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// waitResult is what waitid(2) fills in.
type waitResult struct {
	info  unix.Siginfo
	usage unix.Rusage
}

var waitResults = sync.Pool{New: func() any { return new(waitResult) }}

// sigchld is the part of a siginfo_t that SIGCHLD fills in.
type sigchld struct {
	pid    int32
	uid    uint32
	status int32
}

// child returns the part of the result about the child.
//
// Preconditions: a siginfo_t starts with three ints and then, at the next
// multiple of a pointer's size, a union of which sigchld is a member.
func (r *waitResult) child() sigchld {
	const start = (3*4 + unsafe.Sizeof(uintptr(0)) - 1) &^ (unsafe.Sizeof(uintptr(0)) - 1)
	return *(*sigchld)(unsafe.Add(unsafe.Pointer(&r.info), start))
}
