package spawn

import "github.com/virspawn/spawn/internal/helper"

// Hook is a function that a child can run before its program: see [RegisterHook].
type Hook struct{ name string }

// RegisterHook names a function for [Command.SetPreExecHook]. It must be called while this program is initialised, by a package-level
// variable,
//
//	var markReady = spawn.RegisterHook("mark-ready", func(arg string) error { … })
//
// or by an init function, each time that the program starts: the child runs this program's executable anew, and as soon as
// its initialisation comes to this call, the function runs there, and then the child's program. The main function is
// never reached, and needs no call of this package. What comes later in the order of initialisation is not there for
// the function.
//
// The call must not depend on the arguments, which are others there, nor on the environment or a file, which may have changed. A child that
// does not come to it fails with a [*StartError] as soon as it is seen to be in the main function: that may have run for a millisecond, or for a tenth
// of the time that the initialisation took.
//
// RegisterHook panics when it is called later, for a name that is empty or was registered before, and for a nil function.
func RegisterHook(name string, f func(arg string) error) Hook {
	helper.Register(name, f)
	return Hook{name}
}

// SetPreExecHook has the child call a registered function with this argument, for what no other method can do. The function runs when the
// descriptors are those that the program will have and limits, scheduling and root directory are set, and before labels,
// credentials and all that follows: it still has this process's privileges. It is an ordinary Go function, in a process of its
// own with a Go runtime, and sees nothing of this process but its environment, the argument and the descriptors.
//
// An error, or the text of a panic, becomes the [*StartError], which also unwraps to an errno in it; so do the function's
// [os.Exit] and its closing of what it has not opened. It may take any time: when the context ends, it does too. SIGHUP,
// SIGINT, SIGQUIT, SIGABRT and SIGTERM end it, as they do any Go program, and the other signals wait until the program runs; a process that
// the function starts must not outlive it.
//
// The child starts this process's executable (/proc/self/exe) before it runs the program, which takes a millisecond and more. A process that
// runs setuid or with file capabilities cannot have one: the running call reports it, and so does [Command.Exec], before which the
// calling process can do the same by itself. (virCommandSetPreExecHook)
func (c *Command) SetPreExecHook(h Hook, arg string) *Command {
	if h.name == "" {
		c.fail("SetPreExecHook", "the hook is not registered")
	}
	c.checkText("SetPreExecHook", "argument", arg)
	c.hook, c.hookArg = h, arg
	return c
}
