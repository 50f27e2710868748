package child

import "syscall"

// Error is a failed clone.
type Error struct {
	Call  string // as strace would print it
	Errno syscall.Errno
}

func (e *Error) Error() string { return e.Call + ": " + e.Errno.Error() }
