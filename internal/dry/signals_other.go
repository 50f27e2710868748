//go:build !unix

package dry

import "syscall"

// endsProgram reports whether a signal ends a program that has done nothing
// about it. Those that package syscall knows here all do.
func endsProgram(sig syscall.Signal) bool { return sig != 0 }

// canHandle reports whether a program can do something about a signal.
func canHandle(sig syscall.Signal) bool { return sig != 0 && sig != syscall.SIGKILL }

// sigContinue is no signal here.
const sigContinue = syscall.Signal(0)
