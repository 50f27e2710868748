// Package nofile knows the limit of open descriptors as this process got it.
//
// When package os is initialised, it raises the soft limit to the hard one, for this process only: os/exec gives the
// original back to its children. The original is private to package syscall, so this package reads it first. It
// imports nothing that imports os, and its path sorts before os, which the language specification and the linker
// turn into an earlier initialisation; a test in package spawn sees to it.
package nofile

import "syscall"

const resource = 7 // RLIMIT_NOFILE

var original = current()

func current() (l syscall.Rlimit) {
	// Getrlimit of a known resource into a good address does not fail.
	_ = syscall.Getrlimit(resource, &l)
	return l
}

// Original returns the limit as this process got it, and whether it differs from the current one because the Go runtime
// raised it. A limit that the program itself has set is not told from one that the runtime has raised only
// where both are the hard limit.
func Original() (soft, hard uint64, raised bool) {
	now := current()
	raised = now.Cur == now.Max && original.Cur < now.Max && original.Max == now.Max
	return original.Cur, now.Max, raised
}
