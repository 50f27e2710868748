//go:build 386 || amd64 || arm || arm64 || loong64 || ppc64 || ppc64le || riscv64 || s390x

// Package nofile knows the limit of open descriptors as this process got it.
//
// When package syscall is initialised, it raises the soft limit to one
// below the hard one, for this process only: os/exec gives the original
// back to its children. The original is private to package syscall, so
// this package reads it first. It imports nothing, and its path sorts
// before that of syscall, so it is initialised earlier: packages are
// initialised in the order of their paths once all that they import is
// (https://go.dev/ref/spec#Program_initialization).
package nofile

// limit is a struct rlimit.
type limit struct{ soft, hard uint64 }

var original = current()

func current() (l limit) {
	getrlimit(&l)
	return l
}

// getrlimit reads RLIMIT_NOFILE, which does not fail.
//
//go:noescape
func getrlimit(l *limit)

// Original returns the limit as this process got it, and whether it differs
// from the current one because the Go runtime raised it. A limit that the
// program itself has set is taken for the runtime's only where it is the same.
func Original() (soft, hard uint64, raised bool) {
	now := current()
	raised = now.soft == now.hard-1 && original.soft < now.soft && original.hard == now.hard
	return original.soft, now.hard, raised
}
