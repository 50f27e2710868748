package command

import (
	"os"
	"os/exec"
	"strconv"
	"syscall"
)

// StartError says why a program could not be started. The face shows it as a
// type of its own with the same fields.
type StartError struct {
	Op   string
	Path string
	Err  error
}

// Error shows the program, the step, and its error, on one line.
func (e *StartError) Error() string {
	return "spawn: cannot start " + quotePath(e.Path) + ": " + OneLine(e.Op, MaxShown) + ": " + OneLine(e.Err.Error(), MaxShown)
}

// Unwrap returns Err.
func (e *StartError) Unwrap() error { return e.Err }

// CallError is a call of a method with which the command is unusable. The face
// shows it as a type of its own with the same fields.
type CallError struct {
	Method string
	Err    error
}

// Error shows the method and what is wrong, on one line.
func (e *CallError) Error() string {
	return "spawn: " + OneLine(e.Method, MaxShown) + ": " + OneLine(e.Err.Error(), MaxShown)
}

// Unwrap returns Err.
func (e *CallError) Unwrap() error { return e.Err }

// Causes is an error with a text of its own that is several others to
// errors.Is. It stands only in StartError.Err, and the face shows it as a type
// of its own.
type Causes struct {
	Text string
	Errs []error
}

// Error returns the text.
func (e *Causes) Error() string { return e.Text }

// Unwrap returns the causes.
func (e *Causes) Unwrap() []error { return e.Errs }

// errNotFound is a program that is in no directory of PATH. It is both of the
// errors that callers ask for.
var errNotFound = &Causes{"executable file not found in $PATH", []error{exec.ErrNotFound, syscall.ENOENT}}

// errNotInSecurePath is the same where PATH does not count.
var errNotInSecurePath = &Causes{"executable file not found; in a setuid program $PATH does not count", errNotFound.Errs}

// ErrClosedFile is the error for a file that is closed when its command is
// to run.
func ErrClosedFile(path string, f *os.File, to int) error {
	return &StartError{
		Op:   "descriptor " + strconv.Itoa(to),
		Path: path,
		Err:  &os.PathError{Op: "pass", Path: f.Name(), Err: os.ErrClosed},
	}
}

// ErrClosedStream is the error for a standard stream of the parent that it
// has closed.
func ErrClosedStream(path string, n int) error {
	return &StartError{Op: "inherit " + StreamNames[n], Path: path, Err: syscall.EBADF}
}
