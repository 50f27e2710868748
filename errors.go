package spawn

import (
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"

	"github.com/virspawn/spawn/internal/command"
	"github.com/virspawn/spawn/internal/process"
)

// StartError says why a program could not be started: which step failed, and how.
//
// It unwraps to the step's error, so that [errors.Is] with [io/fs.ErrNotExist], [os/exec.ErrDot], [context.Canceled] or an
// errno works. When it is returned there is no child left.
type StartError struct {
	// Op is the step that failed: a system call of the child as strace(1) would print it, such as
	// execve("/usr/bin/frobnicate"), or a call of this process, such as pipe2(O_CLOEXEC).
	Op string
	// Path is the program, as found, or as named when it was not found.
	Path string
	// Err is the error of the step.
	Err error
}

// Error shows the program, the step, and its error.
func (e *StartError) Error() string {
	return "spawn: cannot start " + strconv.Quote(e.Path) + ": " + e.Op + ": " + e.Err.Error()
}

// Unwrap returns Err.
func (e *StartError) Unwrap() error { return e.Err }

// CallError is a bad call of a method: an argument that cannot be used, or calls
// that do not go together. It is the first one of the command, and the running
// call returns it before anything is started.
type CallError struct {
	// Method is the name of the method, such as SetUmask.
	Method string
	// Err says what is wrong, with the value.
	Err error
}

// Error shows the method and what is wrong.
func (e *CallError) Error() string { return "spawn: " + e.Method + ": " + e.Err.Error() }

// Unwrap returns Err.
func (e *CallError) Unwrap() error { return e.Err }

// ExitError says how a program that was started ended, when that was not with exit code 0 or when something
// outside it went wrong.
type ExitError struct {
	// Command is the program and its arguments as by [Command.String], without the environment.
	Command string
	// Status is how the program ended.
	Status Status
	// Stderr is the end of what the program wrote to its standard error, at most 32 KiB; nil where it goes to neither the
	// error nor SetErrorBuffer.
	Stderr []byte
	// Err is nil when the status says it all. Otherwise it says what else happened: it wraps the error of a context
	// that ended, of a reader or writer that failed, of the function of RunRegex, or ECHILD when other code of this process has waited for
	// the child, so that its status is lost.
	Err error
}

// Error shows the command, what happened, and the last line of Stderr: at most its first 512 bytes, and what a terminal would not print escaped as in Go.
func (e *ExitError) Error() string {
	s := "spawn: " + e.Command + ": "
	if e.Err != nil {
		s += e.Err.Error() + " ("
	}
	s += e.Status.String()
	if e.Err != nil {
		s += ")"
	}
	if line := lastLine(e.Stderr); line != "" {
		s += ": " + line
	}
	return s
}

// Unwrap returns Err.
func (e *ExitError) Unwrap() error { return e.Err }

// Status says how a process ended and what it used. (waitid(2), getrusage(2))
type Status struct {
	// ExitCode is the exit code, 0 to 255, or -1 when the process was ended by a signal or its end is not known.
	ExitCode int
	// Signal is the signal that ended the process, or 0.
	Signal syscall.Signal
	// CoreDumped says that the signal made the process dump core.
	CoreDumped bool
	// UserTime and SystemTime are the processor time used by the process and by those of its children that it
	// has waited for.
	UserTime, SystemTime time.Duration
	// MaxRSS is the peak memory, in bytes, of the largest of these processes (resident set size).
	MaxRSS int64
}

// Success reports whether the process exited with code 0.
func (s Status) Success() bool { return process.Status(s).Success() }

// String returns "exit status 1" or "signal: killed (core dumped)", as os.ProcessState does.
func (s Status) String() string { return process.Status(s).String() }

// maxLine is how much of a line Error shows, in bytes.
const maxLine = 512

// lastLine returns the last line of text that is not empty, without the space around it, fit to be shown.
func lastLine(text []byte) string {
	s := strings.TrimSpace(string(text))
	s = strings.TrimSpace(s[strings.LastIndexByte(s, '\n')+1:])
	var b strings.Builder
	for len(s) > 0 && b.Len() < maxLine {
		r, n := utf8.DecodeRuneInString(s)
		if strconv.IsPrint(r) && (r != utf8.RuneError || n > 1) {
			b.WriteString(s[:n])
		} else {
			quoted := strconv.Quote(s[:n])
			b.WriteString(quoted[1 : len(quoted)-1])
		}
		s = s[n:]
	}
	if len(s) > 0 {
		b.WriteString("...")
	}
	return b.String()
}

// severalCauses is an error that is several others to errors.Is.
type severalCauses struct {
	Text string
	Errs []error
}

func (e *severalCauses) Error() string   { return e.Text }
func (e *severalCauses) Unwrap() []error { return e.Errs }

// public gives an error of the rooms below the type that users know. That is no
// copy: the fields are the same.
func public(err error) error {
	switch e := err.(type) {
	case *command.StartError:
		if c, ok := e.Err.(*command.Causes); ok {
			e.Err = (*severalCauses)(c)
		}
		return (*StartError)(e)
	case *command.CallError:
		return (*CallError)(e)
	}
	return err
}

// failure returns the error of a command that has ended, nil when all went well.
func failure(line command.Line, o *process.Outcome) error {
	switch {
	case o.Never != nil:
		return public(o.Never)
	case o.Err != nil || o.Status.IsKnown() && !o.Status.Success():
		return &ExitError{Command: line.String(), Status: Status(o.Status), Stderr: o.Tail, Err: o.Err}
	}
	return nil
}
