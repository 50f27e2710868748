package spawn

import (
	"context"
	"errors"
	"strings"

	"github.com/virspawn/spawn/internal/helper"
	"github.com/virspawn/spawn/internal/process"
)

// RequireHandshake makes the child stop when everything is applied and nothing is left but no_new_privs, Landlock, the seccomp filter
// and execve. [Command.Start] returns when there is a child; [Process.HandshakeWait] waits until it has stopped. The caller can then
// do what has to be done before the program runs: look at the child in /proc, tell others of its pid, write its limits elsewhere.
// [Process.HandshakeNotify] lets the program run.
//
// The child waits without a thread of this process. It ends without running the program when this process ends, when the context
// ends, and on [Process.Abort] or [Process.Wait] before the notification; the error is then a [*StartError]. A [Process] that
// is dropped before leaves its child waiting until the context or this process ends.
//
// All signals but SIGKILL and SIGSTOP are blocked in the child until the program runs, and then take effect. Where the child has a hook
// ([Command.SetPreExecHook]), or needs a helper for another reason, SIGHUP, SIGINT, SIGQUIT, SIGABRT and SIGTERM end it at once.
//
// A program that is being written when it is to run fails at once (ETXTBSY), where other commands try a few times: the child that was looked at is
// the only one.
//
// The running call must be [Command.Start]. A command that also changes credentials, loads a seccomp filter or sets the
// out-of-memory score, and any before Linux 5.16, gives its child a copy of this process's memory, which takes longer the larger it is.
// (virCommandRequireHandshake)
func (c *Command) RequireHandshake() *Command {
	c.want.Handshake = true
	return c
}

var errNoHandshake = errors.New("the command has no RequireHandshake")

// HandshakeWait waits until the child has stopped before its program, with everything applied. If it cannot get there, the
// error is the [*StartError] that says why, and there is no child left. When ctx ends, the wait does, with the error of ctx, and
// the child stays as it is: HandshakeWait can be called again, any number of times. It is an error for a command without
// [Command.RequireHandshake]. (virCommandHandshakeWait)
func (p *Process) HandshakeWait(ctx context.Context) error {
	needContext(ctx)
	g := p.run.Gate
	if g == nil {
		return &CallError{"HandshakeWait", errNoHandshake}
	}
	select {
	case <-g.Ready:
	default:
		select {
		case <-g.Ready:
		case <-ctx.Done():
			return process.ContextError(ctx)
		}
	}
	select {
	case <-g.Started:
		return public(g.Err)
	default:
		return nil
	}
}

// HandshakeNotify lets the child run its program, and returns when it does, that is, when execve can no longer fail, or the
// [*StartError] that says why it does not. It can be called before the child has stopped, which it then does not do. A second
// call, and one for a command without [Command.RequireHandshake], is an error. (virCommandHandshakeNotify)
func (p *Process) HandshakeNotify() error {
	g := p.run.Gate
	if g == nil {
		return &CallError{"HandshakeNotify", errNoHandshake}
	}
	if err := g.Notify(); err != nil {
		return &CallError{"HandshakeNotify", err}
	}
	<-g.Started
	return public(g.Err)
}

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
	c.want.Hook, c.want.HookArg = h.name, arg
	return c
}

// SetPidFile makes a file that holds the child's pid, as this process sees it, and a line feed, mode 0644, and is locked by the child
// (fcntl(2), F_SETLK) as long as it lives. It has its name before the program runs, and at the gate of [Command.RequireHandshake], and
// never without its whole content.
//
// The lock stays because a descriptor of the file, the lowest from 3 on that is not passed otherwise, stays open in the program. A program
// that closes all that it does not know, or that opens the file by its name and closes it again, gives up its lock; a process that it
// forks does not have it. Before Linux 5.11, where the change is not backported, execve in a process with threads gives up the
// lock: a child by way of a helper, such as one with [Command.SetPreExecHook], does not keep it there, and its file looks stale.
//
// A file that another process has locked is an error of the running call, which names that process and wraps EAGAIN; so is one that this
// process has locked. A file that nobody has locked is stale, and replaced, whatever pid it holds. One that exists already is an error also
// where this process may not write to it.
//
// A relative path is taken from this process's working directory. The file is made as this process's user, whatever credentials the
// child gets; a symbolic link is not followed. If the program cannot be started the file is removed; when the program ends it
// stays, stale. (virCommandSetPidFile, systemd's PIDFile=)
func (c *Command) SetPidFile(path string) *Command {
	if path == "" || strings.HasSuffix(path, "/") {
		c.fail("SetPidFile", "%q is not the path of a file", path)
	}
	c.checkText("SetPidFile", "path", path)
	c.want.PidFile = path
	return c
}

// Daemonize makes the program a daemon: [Command.Start] returns when it runs, or with the [*StartError] that says why it does not, and it
// outlives this process. Its parent is process 1, or the nearest ancestor of this process that is a subreaper (PR_SET_CHILD_SUBREAPER in
// prctl(2)). It has a session without a leader, so that no terminal that it opens becomes its controlling one; with [Command.SetSession] it
// leads a session of its own. It starts in / unless [Command.SetWorkingDirectory] says otherwise; a relative program is the one
// in this process's working directory all the same. As for every command the standard streams are /dev/null unless said otherwise and all other
// descriptors are closed; the umask is this process's unless [Command.SetUmask] is called.
//
// The [Process] has the daemon's pid, closes [Process.Done] when the daemon has ended, and signals it through a pidfd, as long as this process
// lives. How the daemon ends only its parent is told: [Process.Wait] returns nil, also after [Process.Abort], and [Process.Status] has exit code -1,
// not known. Where this process is the parent, as process 1 or a subreaper, both tell as for any command, and the library waits for the daemon.
//
// The context counts until the program runs, with [Command.RequireHandshake] until the notification has been followed; its end then ends the
// start. Later it does nothing: [Process.Abort] ends a daemon. With [KillGroup] what the daemon leaves of its group gets SIGKILL where this
// process is the parent, or on Linux 6.9 and later.
//
// What needs this process for as long as the daemon lives is an error of the running call: a reader or writer, a buffer for
// output, a pipe with its end on the Process, and more data to read than a pipe holds (64 KiB). An [*os.File], be it the end of a pipe, is
// fine. So are errors [Command.SetParentDeathSignal], [Command.SetControllingTTY], [Command.SetPTY], and all running calls but Start: nobody
// waits for a daemon, and Exec has no child.
//
// Where only a helper can be started, see [Command.SetPreExecHook], that one starts a second helper, which becomes the daemon. A new user namespace for it is an
// error there that wraps [errors.ErrUnsupported].
//
// New namespaces and a pid namespace that is joined are the daemon's and not those of the child that forks it. (virCommandDaemonize, daemon(7))
func (c *Command) Daemonize() *Command {
	c.want.Daemon = true
	return c
}
