// Package helper runs a program by an ordinary Go loop: on a thread of this
// process, which it replaces, or in a helper.
//
// A helper is this process's own executable, started once more with a program
// to run in place of its main function. That costs a start of the Go runtime,
// and gives what a child that was only cloned cannot have: Go code, and
// no assembly.
package helper

import (
	"runtime"
	"strconv"
	"strings"
	"sync"
)

// Name is the argument 0 of a helper, and begins its other argument, which has
// the number of the descriptor with its [Image].
const Name = "spawn-helper"

// Executable is this process's, and the helper's.
const Executable = "/proc/self/exe"

// hooks are the functions that a program can call.
var hooks struct {
	mu     sync.Mutex
	byName map[string]bool
}

// Register names a function that a helper may have to call. Where this process
// is a helper with a program that calls it, the program runs now, and Register
// does not return. It panics for an empty or known name, a nil function, and
// after the initialisation of the program.
func Register(name string, f func(arg string) error) {
	quoted := "spawn: RegisterHook(" + strconv.Quote(name) + "): "
	switch {
	case name == "" || strings.IndexByte(name, 0) >= 0:
		panic(quoted + "not a name")
	case f == nil:
		panic(quoted + "the function is nil")
	case !initialising():
		panic(quoted + "the program is initialised already, and a helper never gets so far; use a package-level variable or an init function")
	}
	hooks.mu.Lock()
	known := hooks.byName[name]
	if hooks.byName == nil {
		hooks.byName = map[string]bool{}
	}
	hooks.byName[name] = true
	hooks.mu.Unlock()
	if known {
		panic(quoted + "the name is registered already")
	}
	resume(name, f)
}

// initialising reports whether the caller was called, directly or not, by the
// initialisation of a package: by then the main function does not run yet.
func initialising() bool {
	var pcs [64]uintptr
	for skip := 1; ; skip += len(pcs) {
		n := runtime.Callers(skip, pcs[:])
		frames := runtime.CallersFrames(pcs[:n])
		for more := n > 0; more; {
			var f runtime.Frame
			f, more = frames.Next()
			if strings.HasPrefix(f.Function, "runtime.doInit") {
				return true
			}
		}
		if n < len(pcs) {
			return false
		}
	}
}
