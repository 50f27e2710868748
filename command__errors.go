package spawn

import (
	"os"
	"os/exec"
	"strconv"
	"syscall"
)

// startFailure says why a program could not be started. The face shows it as a
// type of its own with the same fields.
type startFailure struct {
	Op   string
	Path string
	Err  error
}

// Error shows the program, the step, and its error.
func (e *startFailure) Error() string {
	return "spawn: cannot start " + strconv.Quote(e.Path) + ": " + e.Op + ": " + e.Err.Error()
}

// Unwrap returns Err.
func (e *startFailure) Unwrap() error { return e.Err }

// badCall is a call of a method with which the command is unusable. The face
// shows it as a type of its own with the same fields.
type badCall struct {
	Method string
	Err    error
}

// Error shows the method and what is wrong.
func (e *badCall) Error() string { return "spawn: " + e.Method + ": " + e.Err.Error() }

// Unwrap returns Err.
func (e *badCall) Unwrap() error { return e.Err }

// causes is an error with a text of its own that is several others to
// errors.Is. It stands only in startFailure.Err, and the face shows it as a type
// of its own.
type causes struct {
	Text string
	Errs []error
}

// Error returns the text.
func (e *causes) Error() string { return e.Text }

// Unwrap returns the causes.
func (e *causes) Unwrap() []error { return e.Errs }

// errNotFound is a program that is in no directory of PATH. It is both of the
// errors that callers ask for.
var errNotFound = &causes{"executable file not found in $PATH", []error{exec.ErrNotFound, syscall.ENOENT}}

// errClosedFile is the error for a file that is closed when its command is to
// run.
func errClosedFile(path string, f *os.File, to int) error {
	return &startFailure{
		Op:   "descriptor " + strconv.Itoa(to),
		Path: path,
		Err:  &os.PathError{Op: "pass", Path: f.Name(), Err: os.ErrClosed},
	}
}

// errClosedStream is the error for a standard stream of the parent that it has
// closed.
func errClosedStream(path string, n int) error {
	return &startFailure{Op: "inherit " + streamNames[n], Path: path, Err: syscall.EBADF}
}
