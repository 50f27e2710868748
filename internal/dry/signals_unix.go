//go:build unix

package dry

import "syscall"

// endsProgram reports whether a signal ends a program that has done nothing
// about it. (signal(7); stopping is not ending)
func endsProgram(sig syscall.Signal) bool {
	switch sig {
	case 0, syscall.SIGCHLD, syscall.SIGCONT, syscall.SIGSTOP, syscall.SIGTSTP, syscall.SIGTTIN, syscall.SIGTTOU, syscall.SIGURG, syscall.SIGWINCH:
		return false
	}
	return true
}

// canHandle reports whether a program can do something about a signal.
func canHandle(sig syscall.Signal) bool {
	return sig != 0 && sig != syscall.SIGKILL && sig != syscall.SIGSTOP
}

// sigContinue lets a stopped program go on.
const sigContinue = syscall.SIGCONT
