package spawn

import (
	"strings"
	"syscall"
	"time"

	"github.com/virspawn/spawn/internal/command"
	"github.com/virspawn/spawn/internal/process"
)

// StartError says why a program could not be started: which step failed, and
// how. When it is returned, there is no child left. The exception is a child
// that could not be ended when the context ended, because it is frozen or in
// a system call that no signal interrupts. The error then says that it runs on;
// it ends before its program as soon as it can, and the library waits for it.
//
// It unwraps to the step's error, so that [errors.Is] works with
// [io/fs.ErrNotExist], [os/exec.ErrDot], [context.Canceled] or an errno.
type StartError struct {
	// Op is the step that failed. Most are a system call of the child as
	// strace(1) would print it, such as execve("/usr/bin/frobnicate"), or a
	// call of the parent, such as pipe2(O_CLOEXEC). Some are not a call, such
	// as "search in PATH", "start" or "SetPolicy".
	Op string
	// Path is the program as it was found, or as it was named if it was
	// not found.
	Path string
	// Err is the error of the step.
	Err error
}

// Error shows the program, the step, and its error, on one line. What a
// terminal would not print, or would obey, is escaped as in Go. Of what is
// longer than 4096 bytes, it shows the beginning.
func (e *StartError) Error() string { return (*command.StartError)(e).Error() }

// Unwrap returns Err.
func (e *StartError) Unwrap() error { return e.Err }

// CallError is a bad call of a method: an argument that cannot be used, or
// calls that do not go together.
//
// It is also a CallError if a method asks for what this kernel or machine does
// not have, such as Landlock or a processor. Err may then wrap
// [errors.ErrUnsupported].
//
// A command keeps its first bad call, and the running call returns it before
// anything is started. The methods of [Process] return their own.
type CallError struct {
	// Method is the name of the method, such as SetUmask.
	Method string
	// Err says what is wrong, with the value.
	Err error
}

// Error shows the method and what is wrong, on one line, as that of
// [StartError] does.
func (e *CallError) Error() string { return (*command.CallError)(e).Error() }

// Unwrap returns Err.
func (e *CallError) Unwrap() error { return e.Err }

// ExitError says how a program that was started ended. It is returned if the
// exit code was not 0, if a signal ended the program, or if something outside
// it went wrong.
type ExitError struct {
	// Command is the program and its arguments as by [Command.String], without
	// the environment.
	Command string
	// Status is how the program ended.
	Status Status
	// Stderr is the end of what the program wrote to its standard error, at
	// most 32 KiB. It is nil if standard error goes elsewhere than to the error
	// or to SetErrorBuffer.
	Stderr []byte
	// Err says what else happened; it is nil if the status says it all. It
	// wraps the error of a context that ended, of a reader or writer that
	// failed, or of the function of RunRegex. It wraps EPERM too if a program
	// that was to end could not be signalled. It wraps ECHILD if other code of
	// the parent has waited for the child, so that its status is lost.
	Err error
}

// Error shows the command, what happened, and the last line of Stderr. It is
// one line: what a terminal would not print, or would obey, is escaped as in
// Go. Of the last line of Stderr it shows at most the first 512 bytes, and of
// the command and of Err 4096.
func (e *ExitError) Error() string {
	s := "spawn: " + command.OneLine(e.Command, command.MaxShown) + ": "
	if e.Err != nil {
		s += command.OneLine(e.Err.Error(), command.MaxShown) + " ("
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

// Status says how a process ended and what it used.
//
// See waitid(2) and getrusage(2).
type Status struct {
	// ExitCode is the exit code, 0 to 255. It is -1 if a signal ended the
	// process or its end is not known.
	ExitCode int
	// Signal is the signal that ended the process, or 0.
	Signal syscall.Signal
	// CoreDumped says that the process dumped core.
	CoreDumped bool
	// UserTime and SystemTime are the processor time used by the process and by
	// those of its children that it has waited for.
	UserTime, SystemTime time.Duration
	// MaxRSS is the peak memory (resident set size), in bytes, of the largest
	// of these processes.
	MaxRSS int64
}

// Success reports whether the process exited with code 0.
func (s Status) Success() bool { return process.Status(s).Success() }

// String returns "exit status 1" or "signal: killed (core dumped)", as
// os.ProcessState does.
func (s Status) String() string { return process.Status(s).String() }

// maxLine is how much of a line Error shows, in bytes.
const maxLine = 512

// lastLine returns the last line of text that is not empty, without the space
// around it, fit to be shown.
func lastLine(text []byte) string {
	s := strings.TrimSpace(string(text))
	return command.OneLine(strings.TrimSpace(s[strings.LastIndexByte(s, '\n')+1:]), maxLine)
}

// severalCauses is an error that is several others to errors.Is.
type severalCauses struct {
	Text string
	Errs []error
}

func (e *severalCauses) Error() string   { return e.Text }
func (e *severalCauses) Unwrap() []error { return e.Errs }

// public gives an error of the rooms below the type that users know. It does
// not copy: the fields are the same.
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

// failure returns the error of a command that has ended, nil when all
// went well.
func failure(line command.Line, o *process.Outcome) error {
	switch {
	case o.Never != nil:
		return public(o.Never)
	case o.Err != nil || o.Status.IsKnown() && !o.Status.Success():
		return &ExitError{Command: line.String(), Status: Status(o.Status), Stderr: o.Tail, Err: o.Err}
	}
	return nil
}
